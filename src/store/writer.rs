//! Who writes? One store per data directory: it recovers, appends, writes again after a failure, and folds.
//!
//! - An epoch is committed when [`handle`](Store::handle) has answered `Appended`, and only then.
//! - What could not be written is kept and written again, to a new segment, when told to. Nothing is read back to find out.
//! - A store that is asked nothing writes nothing.

use std::io;

use super::{StoreCommand, StoreEvent, StoreFailure};
use crate::epoch::{Epoch, TimeStamp};

use super::entry::Source;
use super::fold::Fold;
use super::log::{Log, SplitMix};
use super::manifest::{Degraded, Manifest, manifest_name};
use super::recovery::{Replay, Scan, scan};
use super::segment::{MANIFEST_NEW, Name};
use super::{Base, BaseError, Disk, LogEntry, Mark};

/// How much a store may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreLimits {
    /// Bytes of a segment. Smaller: more files and directory syncs; larger: more memory at a start, which reads one whole.
    /// One append that is larger gets a segment of its own.
    pub segment_bytes: u32,
    /// Bytes of entries that the base does not hold, from which on a fold is due. Smaller: more folds, which write more per
    /// event; larger: a longer start.
    pub log_bytes_max: u64,
    /// Keys of one transaction of a fold. LMDB keeps every page that it touches on the heap.
    pub fold_keys: usize,
}

/// The log, the base, and what is under way between them.
pub struct Store<D: Disk, B: Base> {
    log: Log<D>,
    base: B,
    limits: StoreLimits,
    manifest: Manifest,
    manifest_number: u64,
    /// The last entry that is durable, and the last frame.
    committed: Mark,
    /// What the base holds.
    mark: Mark,
    /// Bytes of entries between the two.
    unfolded_bytes: u64,
    fold: Option<Fold>,
    /// What could not be written.
    kept: Vec<LogEntry>,
    latched: Option<(StoreFailure, String)>,
}

/// What a start found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The last committed epoch.
    pub epoch: Epoch,
    /// Its view.
    pub view: u64,
    /// The latest time that a frame stamped.
    pub time: TimeStamp,
    /// The data directory's random number.
    pub identity: u64,
    /// The data directory is new.
    pub created: bool,
    /// Epochs were lost and nobody has accepted that yet.
    pub degraded: Option<Degraded>,
    /// The broker may know more than this store: egress sessions begin clean. So at every start until the loss is accepted.
    pub not_successor: bool,
    /// Damaged entries of the log that cost nothing: the base holds them.
    pub damaged_entries: u64,
}

/// What a store says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreStatus {
    /// Bytes written to the log since the start, zeros ahead and headers included; the base's are not.
    pub bytes_written: u64,
    /// Syncs of the log and of its directory since the start; the base's are not.
    pub syncs: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Files that wait to become segments.
    pub spares: usize,
    /// Bytes of entries that the base does not hold.
    pub log_bytes: u64,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// The last epoch that is wholly in the base.
    pub folded: Epoch,
    /// Why the store cannot write, since it cannot.
    pub latched: Option<(StoreFailure, String)>,
    /// Epochs were lost and nobody has accepted that yet.
    pub degraded: Option<Degraded>,
}

/// Why a data directory cannot be opened. It is as it was, or as a start that was cut short leaves it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk's fault; trying again may help.
    #[error("the log cannot be read or written: {0}")]
    Disk(#[from] io::Error),
    /// The base's fault.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// There is a log or a base and no manifest.
    #[error("the data directory has lost its manifest: restore it, or start in an empty directory")]
    ManifestLost,
    /// The manifest fails its checksum.
    #[error("the data directory's manifest is damaged: restore it, or start in an empty directory")]
    ManifestDamaged,
    /// There is a manifest and no log.
    #[error("the data directory has lost its log: restore it, or start in an empty directory")]
    LogLost,
    /// The log goes on from entries that the base does not hold.
    #[error(
        "the data directory has lost its base: the log begins behind entry {log_follows}, the base ends at \
         {base_entry}; restore it, or start in an empty directory"
    )]
    BaseLost {
        /// The last entry in the base.
        base_entry: u64,
        /// What the log's first segment follows.
        log_follows: u64,
    },
    /// Another program's, or another version's.
    #[error(
        "the data directory has format {format} with {key_groups} key groups by {hash}, which this version cannot read"
    )]
    Incompatible {
        /// The format's number.
        format: u32,
        /// Its key groups.
        key_groups: u16,
        /// Its hash.
        hash: String,
    },
    /// Right by its checksum, and yet no entry: a newer version's, or our mistake.
    #[error("entry {entry} of the log is whole, but cannot be understood: a newer version wrote it?")]
    Malformed {
        /// Its number.
        entry: u64,
    },
}

impl OpenError {
    /// What kind of failure, if it is one that a store in use would wait out.
    #[must_use]
    pub fn failure(&self) -> Option<StoreFailure> {
        match self {
            Self::Disk(error) => Some(failure_of(error)),
            Self::Base(BaseError::Full(_)) => Some(StoreFailure::DiskFull),
            Self::Base(_) => Some(StoreFailure::Other),
            _ => None,
        }
    }
}

/// What the directory holds, by kind, ascending.
#[derive(Default)]
struct Listing {
    logs: Vec<u64>,
    spares: Vec<u64>,
    manifests: Vec<u64>,
}

impl Listing {
    fn read<D: Disk>(disk: &mut D) -> io::Result<Self> {
        let mut listing = Self::default();
        for name in disk.list()? {
            match Name::parse(&name) {
                Name::Log(number) => listing.logs.push(number),
                Name::Spare(number) => listing.spares.push(number),
                Name::Manifest(number) => listing.manifests.push(number),
                Name::ManifestNew | Name::Other => {}
            }
        }
        listing.logs.sort_unstable();
        listing.spares.sort_unstable();
        listing.manifests.sort_unstable();
        Ok(listing)
    }

    fn number_next(&self) -> u64 {
        let last = |numbers: &[u64]| numbers.last().copied().unwrap_or(0);
        last(&self.logs).max(last(&self.spares)) + 1
    }
}

impl<D: Disk, B: Base> Store<D, B> {
    /// Opens the directory, or begins one where nothing is.
    ///
    /// Hands every record of the log behind the base's mark to `replay`, in order; no value is a delete. What nothing proves
    /// to have been synced is written again and synced before this returns, and entries go on in a new segment. `entropy` is
    /// a random number, another at every start.
    ///
    /// # Errors
    /// [`OpenError`]; then what was replayed means nothing.
    pub fn open(
        mut disk: D,
        base: B,
        limits: StoreLimits,
        entropy: u64,
        replay: &mut Replay<'_>,
    ) -> Result<(Self, Recovered), OpenError> {
        let listing = Listing::read(&mut disk)?;
        let mark = base.mark()?;
        let mut randoms = SplitMix(entropy);
        let mut manifest = match listing.manifests.last() {
            Some(&number) => Manifest::load(&mut disk, number)?,
            None if listing.logs.is_empty() && mark.is_none() => Manifest::new(randoms.next()),
            None => return Err(OpenError::ManifestLost),
        };
        let mut manifest_number = listing.manifests.last().copied().unwrap_or(0);
        let created = !manifest.ready;
        if listing.logs.is_empty() && (manifest.ready || mark.is_some()) {
            return Err(OpenError::LogLost);
        }
        let scan = scan(&mut disk, &listing.logs, mark, replay)?;
        if let Some(lost) = scan.lost.clone() {
            manifest.degraded = Some(lost.merged(manifest.degraded));
        }
        // The loss must be on record before the new segment supersedes its traces.
        if manifest_number == 0 || scan.lost.is_some() {
            manifest_number += 1;
            manifest.save(&mut disk, manifest_number)?;
        }
        let mut log = Log::new(disk, limits, randoms.next());
        let number_next = listing.number_next();
        log.adopt(manifest.identity, scan.segments.clone(), listing.spares, number_next);
        let (committed, unfolded_bytes) = begin_log(&mut log, &scan)?;
        if !manifest.ready {
            manifest.ready = true;
            manifest_number += 1;
            manifest.save(&mut log.disk, manifest_number)?;
        }
        let recovered = Recovered {
            epoch: committed.epoch,
            view: committed.view,
            time: committed.time,
            identity: manifest.identity,
            created,
            degraded: manifest.degraded.clone(),
            not_successor: manifest.degraded.is_some(),
            damaged_entries: scan.damaged,
        };
        let mut store = Self {
            log,
            base,
            limits,
            manifest,
            manifest_number,
            committed,
            mark: mark.unwrap_or_default(),
            unfolded_bytes,
            fold: None,
            kept: Vec::new(),
            latched: None,
        };
        store.log.release(store.mark.entry);
        let first = listing.manifests.first().copied().unwrap_or(1);
        store.remove_old_manifests(first);
        Ok((store, recovered))
    }

    /// Does what the node asks and says how it went.
    ///
    /// # Panics
    /// If a frame's view and epoch are not greater than the frame's before: the node's mistake.
    pub fn handle(&mut self, command: StoreCommand) -> StoreEvent {
        match command {
            StoreCommand::Append(entries) => self.append(entries),
            StoreCommand::Rewrite => self.rewrite(),
            StoreCommand::Fold => self.fold(),
        }
    }

    /// What the store says of itself.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        StoreStatus {
            bytes_written: self.log.bytes_written,
            syncs: self.log.syncs,
            segments: self.log.segment_count(),
            spares: self.log.spare_count(),
            log_bytes: self.unfolded_bytes,
            epoch: self.committed.epoch,
            folded: self.mark.epoch,
            latched: self.latched.clone(),
            degraded: self.manifest.degraded.clone(),
        }
    }

    /// A person has seen what was lost: the status is no longer degraded.
    ///
    /// # Errors
    /// What the disk says; the status then stays degraded, and this may be tried again.
    pub fn accept_degraded(&mut self) -> io::Result<()> {
        if self.manifest.degraded.is_none() {
            return Ok(());
        }
        let mut accepted = self.manifest.clone();
        accepted.degraded = None;
        // A number is used once: a save that failed late may have left its name.
        let before = self.manifest_number;
        self.manifest_number += 1;
        accepted.save(&mut self.log.disk, self.manifest_number)?;
        self.manifest = accepted;
        self.remove_old_manifests(before);
        Ok(())
    }

    fn append(&mut self, mut entries: Vec<LogEntry>) -> StoreEvent {
        self.kept.append(&mut entries);
        match &self.latched {
            Some((failure, text)) => StoreEvent::Failed { failure: *failure, text: text.clone() },
            None => self.write_kept(false),
        }
    }

    fn rewrite(&mut self) -> StoreEvent {
        let was_latched = self.latched.take().is_some();
        self.write_kept(was_latched)
    }

    fn write_kept(&mut self, in_new_segment: bool) -> StoreEvent {
        if self.kept.is_empty() {
            return self.appended();
        }
        let last = self.last_of_kept();
        let sources = self.kept.iter().map(Source::New);
        let written = if in_new_segment {
            self.log.begin(self.committed.entry, sources)
        } else {
            self.log.append(self.committed.entry, sources)
        };
        match written {
            Ok(bytes) => {
                self.unfolded_bytes += bytes;
                self.committed = last;
                self.kept.clear();
                self.appended()
            }
            Err(error) => {
                let failure = failure_of(&error);
                let text = error.to_string();
                self.latched = Some((failure, text.clone()));
                StoreEvent::Failed { failure, text }
            }
        }
    }

    /// What will be committed when all that is kept is.
    fn last_of_kept(&self) -> Mark {
        let mut last = self.committed;
        for entry in &self.kept {
            last.entry += 1;
            if let LogEntry::Frame { view, epoch, time, .. } = entry {
                assert!(
                    (last.view, last.epoch) < (*view, *epoch),
                    "epochs ascend: {epoch} of view {view} after {} of {}",
                    last.epoch,
                    last.view
                );
                last = Mark { entry: last.entry, epoch: *epoch, view: *view, time: *time };
            }
        }
        last
    }

    fn appended(&self) -> StoreEvent {
        StoreEvent::Appended { fold_due: self.limits.log_bytes_max <= self.unfolded_bytes }
    }

    fn fold(&mut self) -> StoreEvent {
        if self.fold.is_none() {
            if self.committed.entry == self.mark.entry {
                return StoreEvent::Folded { epoch: self.mark.epoch, complete: true };
            }
            self.fold = Some(Fold::new(self.committed, self.unfolded_bytes, &self.log));
        }
        match self.fold_step() {
            Ok(complete) => StoreEvent::Folded { epoch: self.mark.epoch, complete },
            Err((failure, text)) => StoreEvent::Failed { failure, text },
        }
    }

    fn fold_step(&mut self) -> Result<bool, (StoreFailure, String)> {
        let Some(fold) = &mut self.fold else { unreachable!("begun by the caller") };
        let taken = fold.take(&mut self.log, self.limits.fold_keys);
        let (batch, is_last) = taken.map_err(|error| (failure_of(&error), error.to_string()))?;
        let mut changes = batch.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        let mark = is_last.then_some(&fold.target);
        if let Err(error) = self.base.apply(&mut changes, mark) {
            fold.put_back(batch);
            let failure = match error {
                BaseError::Full(_) => StoreFailure::DiskFull,
                _ => StoreFailure::Other,
            };
            return Err((failure, error.to_string()));
        }
        if is_last && let Some(fold) = self.fold.take() {
            self.mark = fold.target;
            self.unfolded_bytes -= fold.bytes;
            self.log.note_folded(fold.target.entry, &fold.ends);
            self.log.release(self.mark.entry);
        }
        Ok(is_last)
    }

    /// Failure is no harm: the highest number counts.
    fn remove_old_manifests(&mut self, first: u64) {
        for number in first..self.manifest_number {
            let _ = self.log.disk.remove(&manifest_name(number));
        }
        let _ = self.log.disk.remove(MANIFEST_NEW);
    }
}

/// Begins the segment of this start, with the tail and what was saved from behind a corruption.
fn begin_log<D: Disk>(log: &mut Log<D>, scan: &Scan) -> Result<(Mark, u64), OpenError> {
    let records = scan.salvage.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>();
    let salvage = (!records.is_empty()).then_some(LogEntry::SessionRecords { records });
    let tail = scan.tail.iter().map(|(_, kind, payload)| Source::Again { kind: *kind, payload });
    assert_eq!(scan.proven + tail.len() as u64, scan.last.entry, "the tail begins behind what is proven");
    let tail_bytes: u64 =
        scan.tail.iter().map(|(_, _, payload)| super::entry::size_of_payload(payload.len()) as u64).sum();
    let bytes = log.begin(scan.proven, tail.chain(salvage.iter().map(Source::New)))?;
    let mut committed = scan.last;
    committed.entry += u64::from(salvage.is_some());
    Ok((committed, scan.unfolded_bytes + bytes - tail_bytes))
}

fn failure_of(error: &io::Error) -> StoreFailure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreFailure::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem => StoreFailure::ReadOnly,
        _ => StoreFailure::Other,
    }
}
