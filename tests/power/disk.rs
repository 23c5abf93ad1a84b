//! What may lie on the card after the power went? Everything that was synced, and any part of what was not.
//!
//! - A write that was not synced may be lost, kept, or torn at any sector (512 bytes) or page (4 KiB), whatever was written before or behind
//!   it; a file's new length may be there without its bytes, which then are zeros.
//! - A name that was made, changed or removed may be lost until its *directory* was synced, whatever was synced of the file; names that have
//!   nothing to do with each other are kept or lost by themselves. A rename is there or not: one name is never on two files because of it.
//! - A sector is old or new, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::Seeded;
use crate::trace::Event;

/// Which part of what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Nothing, as when a process is killed.
    Nothing,
    /// Whole writes and names, any of them.
    Writes,
    /// Any sectors.
    Sectors,
    /// Any pages.
    Pages,
    /// All behind some write, which is torn.
    Rest,
}

impl Loss {
    pub const ALL: [Self; 6] =
        [Self::Everything, Self::Nothing, Self::Writes, Self::Sectors, Self::Pages, Self::Rest];
}

/// A planted mistake: syncs that return and do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    LogFiles,
    LogDirectory,
    Base,
    Directories,
}

impl Lie {
    fn is_about(self, path: &str) -> bool {
        match self {
            Self::LogFiles => path.starts_with("data/log/"),
            Self::LogDirectory => path == "data/log",
            Self::Base => path == "data/base/data.mdb",
            Self::Directories => matches!(path, "" | "data" | "data/base"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File(usize),
    Directory(usize),
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    live: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct Directory {
    durable: BTreeMap<String, Place>,
    live: BTreeMap<String, Place>,
    pending: Vec<Naming>,
}

struct Naming {
    place: Place,
    removed: Option<String>,
    added: Option<String>,
}

/// Files and names, as they are and as far as they are durable.
pub struct Disk {
    files: Vec<File>,
    /// The first one is the root.
    directories: Vec<Directory>,
    lie: Option<Lie>,
}

impl Disk {
    pub fn new(lie: Option<Lie>) -> Self {
        Self { files: Vec::new(), directories: vec![Directory::default()], lie }
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::MakeDirectory(path) => {
                self.directories.push(Directory::default());
                let place = Place::Directory(self.directories.len() - 1);
                self.name(path, place);
            }
            Event::Create(path) => {
                if self.find(path).is_none() {
                    self.files.push(File::default());
                    let place = Place::File(self.files.len() - 1);
                    self.name(path, place);
                }
            }
            Event::Write { path, offset, bytes } => {
                let change = Change::Bytes { offset: *offset, bytes: bytes.clone() };
                let file = self.file(path);
                change.apply(&mut file.live);
                file.pending.push(change);
            }
            Event::Truncate { path, length } => {
                let file = self.file(path);
                file.live.resize(*length, 0);
                file.pending.push(Change::Length(*length));
            }
            Event::Settle { path } => {
                if !self.is_lie(path) {
                    let file = self.file(path);
                    let change = file.pending.pop().expect("the write before");
                    change.apply(&mut file.durable);
                }
            }
            Event::Sync(path) => self.sync(path),
            Event::Rename { from, to } => self.rename(from, to),
            Event::Remove(path) => self.remove(path),
            Event::Sent { .. } => {}
        }
    }

    /// What a reader of the path sees now; `None` if there is no such file.
    pub fn live(&self, path: &str) -> Option<&[u8]> {
        match self.find(path)? {
            Place::File(index) => Some(&self.files[index].live),
            Place::Directory(_) => None,
        }
    }

    /// Is all of the file durable, its name apart?
    pub fn is_synced(&self, path: &str) -> bool {
        matches!(self.find(path), Some(Place::File(index)) if self.files[index].pending.is_empty())
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut to_do = vec![(String::new(), 0)];
        while let Some((path, directory)) = to_do.pop() {
            for (name, place) in &self.directories[directory].live {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match *place {
                    Place::File(_) => found.push(path),
                    Place::Directory(index) => to_do.push((path, index)),
                }
            }
        }
        found.sort();
        found
    }

    /// Writes what a cut at this instant may leave into an empty directory.
    pub fn leave(&self, target: &Path, loss: Loss, seeded: &mut Seeded) -> std::io::Result<()> {
        self.leave_directory(0, target, loss, seeded)
    }

    fn leave_directory(
        &self,
        index: usize,
        target: &Path,
        loss: Loss,
        seeded: &mut Seeded,
    ) -> std::io::Result<()> {
        for (name, place) in self.directories[index].left(loss, seeded) {
            let path = target.join(name);
            match place {
                Place::File(index) => std::fs::write(path, self.files[index].left(loss, seeded))?,
                Place::Directory(index) => {
                    std::fs::create_dir(&path)?;
                    self.leave_directory(index, &path, loss, seeded)?;
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self, path: &str) {
        if self.is_lie(path) {
            return;
        }
        match self.find(path).unwrap_or_else(|| panic!("{path} is synced and not there")) {
            Place::File(index) => {
                let file = &mut self.files[index];
                for change in std::mem::take(&mut file.pending) {
                    change.apply(&mut file.durable);
                }
            }
            Place::Directory(index) => {
                let directory = &mut self.directories[index];
                directory.pending.clear();
                directory.durable.clone_from(&directory.live);
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let place = self.find(from).unwrap_or_else(|| panic!("{from} is renamed and not there"));
        let ((old_parent, old), (parent, new)) = (self.parent(from), self.parent(to));
        assert_eq!(old_parent, parent, "within one directory");
        let directory = &mut self.directories[parent];
        directory.live.remove(&old);
        assert_eq!(directory.live.insert(new.clone(), place), None, "nothing is replaced");
        directory.pending.push(Naming { place, removed: Some(old), added: Some(new) });
    }

    fn remove(&mut self, path: &str) {
        let (parent, name) = self.parent(path);
        let directory = &mut self.directories[parent];
        let place = directory.live.remove(&name).unwrap_or_else(|| panic!("{path} is removed and not there"));
        directory.pending.push(Naming { place, removed: Some(name), added: None });
    }

    fn name(&mut self, path: &str, place: Place) {
        let (parent, name) = self.parent(path);
        let directory = &mut self.directories[parent];
        directory.live.insert(name.clone(), place);
        directory.pending.push(Naming { place, removed: None, added: Some(name) });
    }

    fn find(&self, path: &str) -> Option<Place> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(Place::Directory(0), |place, name| match place {
            Place::Directory(index) => self.directories[index].live.get(name).copied(),
            Place::File(_) => None,
        })
    }

    fn parent(&self, path: &str) -> (usize, String) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.find(parent) {
            Some(Place::Directory(index)) => (index, name.to_owned()),
            _ => panic!("{path} is in no directory"),
        }
    }

    fn file(&mut self, path: &str) -> &mut File {
        match self.find(path) {
            Some(Place::File(index)) => &mut self.files[index],
            _ => panic!("{path} is no file"),
        }
    }

    fn is_lie(&self, path: &str) -> bool {
        self.lie.is_some_and(|lie| lie.is_about(path))
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Bytes { offset, bytes } => put(to, *offset, bytes),
            Self::Length(length) => to.resize(*length, 0),
        }
    }

    /// Applies the parts of `unit` bytes of the file that `keeps` takes.
    fn apply_parts(&self, to: &mut Vec<u8>, unit: usize, mut keeps: impl FnMut() -> bool) {
        let Self::Bytes { offset, bytes } = self else { return self.apply(to) };
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at;
            let end = bytes.len().min(at + unit - place % unit);
            if keeps() {
                put(to, place, &bytes[at..end]);
            }
            at = end;
        }
    }
}

impl File {
    fn left(&self, loss: Loss, seeded: &mut Seeded) -> Vec<u8> {
        let mut left = match loss {
            Loss::Nothing => return self.live.clone(),
            _ => self.durable.clone(),
        };
        if loss == Loss::Everything || self.pending.is_empty() {
            return left;
        }
        let torn = usize::try_from(seeded.within(0, self.pending.len() as u64 + 1)).unwrap();
        for (index, change) in self.pending.iter().enumerate() {
            match loss {
                Loss::Writes if seeded.within(0, 2) == 0 => change.apply(&mut left),
                Loss::Sectors => change.apply_parts(&mut left, SECTOR_BYTES, || seeded.within(0, 2) == 0),
                Loss::Pages => change.apply_parts(&mut left, PAGE_BYTES, || seeded.within(0, 2) == 0),
                Loss::Rest if index < torn => change.apply(&mut left),
                Loss::Rest if index == torn => {
                    let mut is_whole = true;
                    change.apply_parts(&mut left, SECTOR_BYTES, || {
                        is_whole = is_whole && seeded.within(0, 8) != 0;
                        is_whole
                    });
                }
                _ => {}
            }
        }
        // The length is not the bytes': it may be there without them.
        if left.len() < self.live.len() && seeded.within(0, 2) == 0 {
            left.resize(self.live.len(), 0);
        }
        left
    }
}

impl Directory {
    fn left(&self, loss: Loss, seeded: &mut Seeded) -> BTreeMap<String, Place> {
        let mut left = match loss {
            Loss::Nothing => return self.live.clone(),
            _ => self.durable.clone(),
        };
        let kept = usize::try_from(seeded.within(0, self.pending.len() as u64 + 1)).unwrap();
        let (mut lost_names, mut lost_places) = (BTreeSet::new(), BTreeSet::new());
        for (index, naming) in self.pending.iter().enumerate() {
            let names = || naming.removed.iter().chain(&naming.added);
            let is_kept = match loss {
                Loss::Everything | Loss::Nothing => false,
                Loss::Rest => index < kept,
                // What builds on something lost is lost with it.
                Loss::Writes | Loss::Sectors | Loss::Pages => {
                    seeded.within(0, 2) == 0
                        && !lost_places.contains(&naming.place)
                        && !names().any(|name| lost_names.contains(name))
                }
            };
            if !is_kept {
                lost_places.insert(naming.place);
                lost_names.extend(names());
                continue;
            }
            if let Some(name) = &naming.removed {
                left.remove(name);
            }
            if let Some(name) = &naming.added {
                left.insert(name.clone(), naming.place);
            }
        }
        left
    }
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

#[test]
fn what_was_synced_is_there_and_what_was_not_may_not_be() {
    let path = || "data".to_owned();
    let events = [
        Event::Create(path()),
        Event::Write { path: path(), offset: 0, bytes: vec![1; 1024] },
        Event::Sync(path()),
        Event::Sync(String::new()),
        Event::Write { path: path(), offset: 100, bytes: vec![2; 1000] },
    ];
    let mut disk = Disk::new(None);
    events.iter().for_each(|event| disk.apply(event));
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        for loss in Loss::ALL {
            let directory = crate::support::scratch("disk");
            disk.leave(directory.path(), loss, &mut Seeded(seed)).unwrap();
            let left = std::fs::read(directory.path().join("data")).unwrap();
            assert_eq!(left[..100], [1; 100]);
            let sectors: Vec<bool> =
                [100..512, 512..1024].into_iter().map(|range| left[range].iter().all(|b| *b == 2)).collect();
            assert!(sectors[0] || left[100..512] == [1; 412], "a sector is old or new");
            match loss {
                Loss::Everything => assert_eq!(left.len(), 1024),
                Loss::Nothing => assert_eq!(left.len(), 1100),
                _ => drop(seen.insert((sectors, left.len(), left.get(1024) == Some(&2)))),
            }
        }
    }
    assert!(8 <= seen.len(), "every mixture is met: {seen:?}");
}
