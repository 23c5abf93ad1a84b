//! What does a disk keep when the power goes? Of what was not synced any part, sector by sector; of what was synced all.
//!
//! Every file has live bytes, which reads see, and durable ones. Writes wait until their file is synced; names created, renamed
//! and removed wait until the directory is. [`crash`](SimDisk::crash) decides for each of them what had got there:
//!
//! - a sector holds what was durable or what any one of the unsynced writes to it left, each sector for itself; in a
//!   [`Garbles`](Crash::Garbles) with a bit of that write flipped, never one of what had been synced;
//! - a waiting change of a name happened or not, each for itself (what it presupposes included);
//! - after a sync that failed, what it should have made durable stays visible and is lost at the crash, whatever a later sync
//!   says, as on Linux.
//!
//! Handles share one disk, so a test keeps one beside the store's. From a planned crash on every operation fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::store::Disk;

/// What is written at once or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<Inner>>);

/// An open file; not valid beyond a crash.
#[derive(Clone, Copy, Debug)]
pub struct SimFile {
    node: usize,
    boot: u32,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Everything: the process was killed, the machine runs on.
    KillsProcess,
    /// Nothing.
    LosesUnsynced,
    /// Any part, by this seed.
    Tears(u64),
    /// Any part, by this seed, with bits flipped in what had not been synced.
    Garbles(u64),
}

/// A failure to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Power goes in the middle of the operation; it and every later one fails.
    Crash,
    /// The operation fails; a write may have written a part.
    Fails(io::ErrorKind),
    /// If the operation is a sync, it says that it worked and does nothing.
    SkipsSync,
}

/// Which syncs say that they worked and do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lie {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Those of files whose name begins so.
    Of(&'static str),
    /// Those of the directory.
    OfDirectory,
}

#[derive(Debug)]
struct Inner {
    nodes: Vec<Node>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: Vec<Change>,
    boot: u32,
    operations: u64,
    syncs: Vec<u64>,
    faults: BTreeMap<u64, Fault>,
    unreadable: Vec<(usize, u64)>,
    is_crashed: bool,
    is_read_only: bool,
    space: Option<usize>,
    bytes_written: u64,
    lie: Lie,
    /// The file last written to.
    last_written: Option<usize>,
}

#[derive(Default, Debug)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Change {
    Adds { name: String, node: usize },
    Renames { from: String, to: String, node: usize },
    Removes { name: String, node: usize },
}

impl Default for SimDisk {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Inner {
            nodes: Vec::new(),
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            boot: 0,
            operations: 0,
            syncs: Vec::new(),
            faults: BTreeMap::new(),
            unreadable: Vec::new(),
            is_crashed: false,
            is_read_only: false,
            space: None,
            bytes_written: 0,
            lie: Lie::Never,
            last_written: None,
        })))
    }
}

impl SimDisk {
    /// Plans a fault at the operation with this number. Only what changes something is counted, from 0, over all crashes.
    pub fn plan(&self, operation: u64, fault: Fault) {
        self.0.borrow_mut().faults.insert(operation, fault);
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// The operations that were syncs of a file or the directory.
    #[must_use]
    pub fn syncs(&self) -> Vec<u64> {
        self.0.borrow().syncs.clone()
    }

    /// From now on these syncs do nothing.
    pub fn lie(&self, lie: Lie) {
        self.0.borrow_mut().lie = lie;
    }

    /// Are the last file written to and all names durable? Of its bytes, those written since it was last synced are not.
    #[must_use]
    pub fn is_last_write_durable(&self) -> bool {
        let inner = self.0.borrow();
        let is_file = inner.last_written.is_none_or(|node| inner.nodes[node].writes.is_empty());
        let is_renamed =
            |change: &Change| matches!(change, Change::Renames { to, .. } if to.starts_with("log-"));
        is_file && !inner.changes.iter().any(is_renamed)
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.0.borrow().bytes_written
    }

    /// Has a planned crash happened, and nobody has restarted yet?
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.0.borrow().is_crashed
    }

    /// All files together take at most this many bytes from now on.
    pub fn set_space(&self, bytes: Option<usize>) {
        self.0.borrow_mut().space = bytes;
    }

    /// Bytes that all files take.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.borrow().used()
    }

    /// Refuses every change from now on, or takes them again.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.0.borrow_mut().is_read_only = is_read_only;
    }

    /// Flips one bit of a file, live and durable. Says whether there is such a byte.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) -> bool {
        let mut inner = self.0.borrow_mut();
        let Some(&node) = inner.live.get(name) else {
            return false;
        };
        let Some(node) = inner.nodes.get_mut(node) else {
            return false;
        };
        let mask = 1 << (bit % 8);
        if let Some(byte) = node.durable.get_mut(offset) {
            *byte ^= mask;
        }
        node.live.get_mut(offset).map(|byte| *byte ^= mask).is_some()
    }

    /// Makes the sector at `offset` of a file unreadable, for good.
    pub fn damage_sector(&self, name: &str, offset: u64) {
        let mut inner = self.0.borrow_mut();
        if let Some(&node) = inner.live.get(name) {
            inner.unreadable.push((node, offset / SECTOR_BYTES as u64));
        }
    }

    /// A file's live bytes.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.0.borrow();
        let node = inner.live.get(name)?;
        Some(inner.nodes.get(*node)?.live.clone())
    }

    /// Makes a file of these bytes, or replaces it, live and durable.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut inner = self.0.borrow_mut();
        let node = inner.nodes.len();
        inner.nodes.push(Node { live: bytes.to_vec(), durable: bytes.to_vec(), writes: Vec::new() });
        inner.live.insert(name.to_owned(), node);
        inner.durable.insert(name.to_owned(), node);
    }

    /// Takes a file away, live and durable.
    pub fn take_away(&self, name: &str) {
        let mut inner = self.0.borrow_mut();
        inner.live.remove(name);
        inner.durable.remove(name);
    }

    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().live.keys().cloned().collect()
    }

    /// A disk of its own with the same content, live and durable.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::default();
        let inner = self.0.borrow();
        let mut other = copy.0.borrow_mut();
        other.nodes = inner
            .nodes
            .iter()
            .map(|node| Node {
                live: node.live.clone(),
                durable: node.durable.clone(),
                writes: node.writes.clone(),
            })
            .collect();
        other.live = inner.live.clone();
        other.durable = inner.durable.clone();
        other.changes = inner.changes.clone();
        drop(other);
        copy
    }

    /// Ends the machine or the process and starts it again: what is left is all there is. Planned faults are forgotten.
    pub fn crash(&self, crash: Crash) {
        let mut inner = self.0.borrow_mut();
        inner.boot += 1;
        inner.is_crashed = false;
        inner.faults.clear();
        match crash {
            Crash::KillsProcess => {}
            Crash::LosesUnsynced => inner.lose(&mut |_| 0, false),
            Crash::Tears(seed) => inner.lose(&mut choices(seed), false),
            Crash::Garbles(seed) => inner.lose(&mut choices(seed), true),
        }
    }

    /// Counts an operation of the base, which shares the disk's clock of faults.
    pub(super) fn begin_operation(&self) -> io::Result<Option<Fault>> {
        self.0.borrow_mut().begin()
    }

    /// A planned crash hit an operation of the base.
    pub(super) fn lose_power(&self) {
        self.0.borrow_mut().is_crashed = true;
    }

    fn change<R>(
        &self,
        file: Option<&SimFile>,
        change: impl FnOnce(&mut Inner, Option<Fault>) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        inner.check(file)?;
        let fault = inner.begin()?;
        if inner.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let is_crash = fault == Some(Fault::Crash);
        let result = change(inner, fault);
        if is_crash {
            inner.is_crashed = true;
            return Err(no_power());
        }
        result
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.0.borrow().check(None)?;
        Ok(self.names())
    }

    fn create(&mut self, name: &str) -> io::Result<SimFile> {
        self.change(None, |inner, fault| {
            fails(fault)?;
            if inner.live.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if inner.space.is_some_and(|space| space <= inner.used()) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let node = inner.nodes.len();
            inner.nodes.push(Node::default());
            inner.live.insert(name.to_owned(), node);
            let name = name.to_owned();
            inner.changes.push(Change::Adds { name, node });
            let boot = inner.boot;
            Ok(SimFile { node, boot })
        })
    }

    fn open(&mut self, name: &str) -> io::Result<SimFile> {
        let inner = self.0.borrow();
        inner.check(None)?;
        let node = *inner.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        let boot = inner.boot;
        Ok(SimFile { node, boot })
    }

    fn length(&mut self, file: &mut SimFile) -> io::Result<u64> {
        let inner = self.0.borrow();
        inner.check(Some(file))?;
        Ok(inner.nodes[file.node].live.len() as u64)
    }

    fn read(&mut self, file: &mut SimFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.0.borrow();
        inner.check(Some(file))?;
        let sector = SECTOR_BYTES as u64;
        let sectors = offset / sector..(offset + buffer.len() as u64).div_ceil(sector);
        if inner.unreadable.iter().any(|(node, bad)| *node == file.node && sectors.contains(bad)) {
            return Err(io::Error::other("simulated unreadable sector"));
        }
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = inner.nodes[file.node]
            .live
            .get(start..start + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, file: &mut SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Some(file), |inner, fault| {
            let mut error = fails(fault).err();
            let mut bytes = if error.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
            let length = inner.nodes[file.node].live.len();
            if let Some(space) = inner.space {
                let free = space.saturating_sub(inner.used());
                let end_max = length.max(length + free);
                if end_max < start + bytes.len() {
                    bytes = &bytes[..end_max.saturating_sub(start).min(bytes.len())];
                    error = Some(io::ErrorKind::StorageFull.into());
                }
            }
            inner.last_written = Some(file.node);
            let node = &mut inner.nodes[file.node];
            write_at(&mut node.live, start, bytes);
            node.writes.push((start, bytes.to_vec()));
            inner.bytes_written += bytes.len() as u64;
            error.map_or(Ok(()), Err)
        })
    }

    fn sync(&mut self, file: &mut SimFile) -> io::Result<()> {
        self.change(Some(file), |inner, fault| {
            inner.syncs.push(inner.operations - 1);
            let lies = inner.lies_of(file.node);
            let node = &mut inner.nodes[file.node];
            match fault {
                None if lies => {}
                None => {
                    for (start, bytes) in node.writes.drain(..) {
                        write_at(&mut node.durable, start, &bytes);
                    }
                }
                // The pages count as clean from now on, and are not on the disk.
                Some(Fault::Fails(_)) => node.writes.clear(),
                Some(Fault::Crash | Fault::SkipsSync) => {}
            }
            fails(fault)
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(None, |inner, fault| {
            fails(fault)?;
            if inner.live.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let node = inner.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.live.insert(to.to_owned(), node);
            let (from, to) = (from.to_owned(), to.to_owned());
            inner.changes.push(Change::Renames { from, to, node });
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(None, |inner, fault| {
            fails(fault)?;
            let node = inner.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
            let name = name.to_owned();
            inner.changes.push(Change::Removes { name, node });
            Ok(())
        })
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.change(None, |inner, fault| {
            inner.syncs.push(inner.operations - 1);
            if fault.is_none() && !matches!(inner.lie, Lie::Always | Lie::OfDirectory) {
                inner.durable = inner.live.clone();
                inner.changes.clear();
            }
            fails(fault)
        })
    }
}

impl Inner {
    fn check(&self, file: Option<&SimFile>) -> io::Result<()> {
        if self.is_crashed || file.is_some_and(|file| file.boot != self.boot) {
            return Err(no_power());
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Option<Fault>> {
        self.check(None)?;
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        Ok(fault)
    }

    fn lies_of(&self, node: usize) -> bool {
        match self.lie {
            Lie::Never | Lie::OfDirectory => false,
            Lie::Always => true,
            Lie::Of(start) => self.live.iter().any(|(name, other)| *other == node && name.starts_with(start)),
        }
    }

    fn used(&self) -> usize {
        self.live.values().map(|node| self.nodes[*node].live.len()).sum()
    }

    /// `choose(n)` is a number below n; 0 is what was durable.
    fn lose(&mut self, choose: &mut dyn FnMut(u64) -> u64, is_garbling: bool) {
        for node in &mut self.nodes {
            let writes = std::mem::take(&mut node.writes);
            let end = writes.iter().map(|(start, bytes)| start + bytes.len()).max();
            for sector in 0..end.unwrap_or(0).div_ceil(SECTOR_BYTES) {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                let touching: Vec<_> = writes
                    .iter()
                    .filter(|(start, bytes)| *start < range.end && range.start < start + bytes.len())
                    .collect();
                let applied = usize::try_from(choose(touching.len() as u64 + 1)).unwrap_or(0);
                for (start, bytes) in touching.into_iter().take(applied) {
                    let from = range.start.max(*start);
                    let to = range.end.min(start + bytes.len());
                    let mut written = bytes[from - start..to - start].to_vec();
                    if is_garbling && choose(GARBLED_ONE_IN) == 0 {
                        let at = usize::try_from(choose(written.len() as u64)).unwrap_or(0);
                        if let Some(byte) = written.get_mut(at) {
                            *byte ^= 1 << choose(8);
                        }
                    }
                    write_at(&mut node.durable, from, &written);
                }
            }
            node.live = node.durable.clone();
        }
        for change in std::mem::take(&mut self.changes) {
            if choose(2) == 1 {
                self.keep(change);
            }
        }
        self.live = self.durable.clone();
    }

    fn keep(&mut self, change: Change) {
        match change {
            Change::Adds { name, node } => {
                self.durable.insert(name, node);
            }
            Change::Renames { from, to, node } => {
                // A file of which not even the creation was durable appears under its last name, or under none.
                if self.durable.get(&from) == Some(&node) {
                    self.durable.remove(&from);
                }
                self.durable.retain(|_, other| *other != node);
                self.durable.insert(to, node);
            }
            Change::Removes { name, node } => {
                if self.durable.get(&name) == Some(&node) {
                    self.durable.remove(&name);
                }
            }
        }
    }
}

/// A source of choices: each is below the number it is asked for.
fn choices(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |count| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % count.max(1)
    }
}

/// One in so many writes to a sector is garbled where it is at all.
const GARBLED_ONE_IN: u64 = 4;

fn fails(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::Fails(kind)) => Err(io::Error::new(kind, "simulated")),
        _ => Ok(()),
    }
}

fn no_power() -> io::Error {
    io::Error::other("simulated power loss")
}

fn write_at(bytes: &mut Vec<u8>, start: usize, new: &[u8]) {
    let end = start + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(new);
}
