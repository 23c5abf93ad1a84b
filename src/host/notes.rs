//! What was being invoked when the process died? A small mapped file says so, and after three unclean ends on one message that
//! message is known as poison.
//!
//! The file is never synced: it is to outlive the process, not the power. It lies in `$RUNTIME_DIRECTORY` if that is set
//! (with `RuntimeDirectoryPreserve=yes`, else it does not outlive the process either), else in the data directory.
//!
//! | offset | what |
//! |---|---|
//! | 0 | magic and version, u64 |
//! | 64 + 64 × w | worker w: sequence (odd while something is invoked), address hash, message hash; u64 each |
//! | 64 + 64 × 64 + 24 × n | suspect n: unclean ends (0: free), address hash, message hash; u64 each |
//!
//! All in the order of the host's bytes: the file never leaves the board. A message's count is cleared when the epoch that consumes it,
//! in life or as a dead letter, is durable; before, a restart would try it again with a clean record.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::WORKERS_MAX;
use crate::worker::io::WorkerIndex;
use crate::worker::{Notes, Suspect};

/// Unclean ends on one message, after which it is poison. Fewer blames the innocent after power cuts, more restarts longer.
pub const UNCLEAN_ENDS_MAX: u64 = 3;
/// Messages under suspicion; the one with the fewest ends makes room for a new one.
pub const SUSPECTS_MAX: usize = 64;

const MAGIC: u64 = u64::from_be_bytes(*b"fognote1");
const SLOT_WORDS: usize = 8;
const SUSPECT_WORDS: usize = 3;
const SUSPECTS_AT: usize = SLOT_WORDS * (1 + WORKERS_MAX);
const WORDS: usize = SUSPECTS_AT + SUSPECT_WORDS * SUSPECTS_MAX;

/// The mapped file, shared by the workers and the watchdog.
#[derive(Debug)]
pub struct NotesFile {
    words: &'static [AtomicU64; WORDS],
}

impl NotesFile {
    /// Maps the file, and counts what the last process was invoking when it ended. One a process: the mapping stays until its end.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(directory: &Path) -> io::Result<Arc<Self>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("notes"))?;
        file.set_len((WORDS * size_of::<u64>()) as u64)?;
        let notes = Self { words: map(&file)? };
        if notes.word(0).swap(MAGIC, Ordering::Relaxed) != MAGIC {
            notes.words.iter().skip(1).for_each(|word| word.store(0, Ordering::Relaxed));
        }
        for worker in 0..WORKERS_MAX {
            let [sequence, address, message] = notes.slot(worker);
            if sequence.swap(0, Ordering::Relaxed) % 2 == 1 {
                notes.suspect(address.load(Ordering::Relaxed), message.load(Ordering::Relaxed));
            }
        }
        Ok(Arc::new(notes))
    }

    /// What was being invoked at unclean ends and has not been consumed since.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        let places = self.places().filter(|(count, ..)| 0 < *count);
        let suspect = |(count, address_hash, message_hash)| Suspect {
            address_hash,
            message_hash,
            is_poison: UNCLEAN_ENDS_MAX <= count,
        };
        places.map(suspect).collect()
    }

    /// The notes of one worker.
    #[must_use]
    pub fn of(self: &Arc<Self>, worker: WorkerIndex) -> WorkerNotes {
        WorkerNotes { file: Arc::clone(self), worker: worker.0, consumed: Vec::new(), cut: Vec::new() }
    }

    /// What a worker is invoking: a number that changes with each invocation, and the address's hash.
    #[must_use]
    pub fn running(&self, worker: usize) -> Option<(u64, u64)> {
        let [sequence, address, _] = self.slot(worker);
        let sequence = sequence.load(Ordering::Acquire);
        (sequence % 2 == 1).then(|| (sequence, address.load(Ordering::Relaxed)))
    }

    fn suspect(&self, address: u64, message: u64) {
        let known = self.places().position(|(count, a, m)| 0 < count && (a, m) == (address, message));
        let weakest =
            || (0..SUSPECTS_MAX).min_by_key(|&place| self.suspect_words(place)[0].load(Ordering::Relaxed));
        if let Some(place) = known.or_else(weakest) {
            let words = self.suspect_words(place);
            let count = if known.is_some() { words[0].load(Ordering::Relaxed) } else { 0 };
            for (word, value) in words.into_iter().zip([count + 1, address, message]) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    fn clear(&self, address: u64, message: u64) {
        for (place, (_, a, m)) in self.places().enumerate() {
            if (a, m) == (address, message) {
                self.suspect_words(place)[0].store(0, Ordering::Relaxed);
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        (0..SUSPECTS_MAX).map(|place| {
            let [count, address, message] =
                self.suspect_words(place).map(|word| word.load(Ordering::Relaxed));
            (count, address, message)
        })
    }

    fn slot(&self, worker: usize) -> [&AtomicU64; 3] {
        assert!(worker < WORKERS_MAX);
        [0, 1, 2].map(|word| self.word(SLOT_WORDS * (1 + worker) + word))
    }

    fn suspect_words(&self, place: usize) -> [&AtomicU64; 3] {
        [0, 1, 2].map(|word| self.word(SUSPECTS_AT + SUSPECT_WORDS * place + word))
    }

    fn word(&self, place: usize) -> &AtomicU64 {
        &self.words[place]
    }
}

/// What one worker writes of its invocations: three stores into memory, no system call.
#[derive(Debug)]
pub struct WorkerNotes {
    file: Arc<NotesFile>,
    worker: usize,
    /// Suspects that the working epoch has consumed; nearly always none.
    consumed: Vec<(u64, u64)>,
    /// Those of the epoch in flight.
    cut: Vec<(u64, u64)>,
}

impl Notes for WorkerNotes {
    fn begin(&mut self, address_hash: u64, message_hash: u64) {
        let [sequence, address, message] = self.file.slot(self.worker);
        address.store(address_hash, Ordering::Relaxed);
        message.store(message_hash, Ordering::Relaxed);
        let number = sequence.load(Ordering::Relaxed);
        sequence.store(number | 1, Ordering::Release);
    }

    fn end(&mut self) {
        let [sequence, ..] = self.file.slot(self.worker);
        let number = sequence.load(Ordering::Relaxed);
        sequence.store((number | 1).wrapping_add(1), Ordering::Release);
    }

    fn consumed(&mut self, address_hash: u64, message_hash: u64) {
        self.consumed.push((address_hash, message_hash));
    }

    fn cut(&mut self) {
        self.cut.append(&mut self.consumed);
    }

    fn committed(&mut self) {
        for (address, message) in self.cut.drain(..) {
            self.file.clear(address, message);
        }
    }
}

#[expect(unsafe_code, reason = "a mapping outlives the process without a system call for each invocation")]
fn map(file: &File) -> io::Result<&'static [AtomicU64; WORDS]> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let bytes = WORDS * size_of::<u64>();
    // SAFETY: a fresh shared mapping of a file as long as the mapping, page-aligned, never unmapped; all access is atomic. Nobody
    // shortens the file: the data directory is locked.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let start = mmap(std::ptr::null_mut(), bytes, flags, MapFlags::SHARED, file, 0)?;
        Ok(&*start.cast::<[AtomicU64; WORDS]>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_unclean_ends_are_poison_until_a_commit_consumes_it() {
        let directory = tempfile::tempdir().unwrap();
        for ends in 0..3 {
            let file = NotesFile::open(directory.path()).unwrap();
            assert!(poison(&file).is_empty(), "after {ends}");
            let mut innocent = file.of(WorkerIndex(0));
            innocent.begin(1, 1);
            innocent.end();
            file.of(WorkerIndex(1)).begin(7, 9);
        }
        let file = NotesFile::open(directory.path()).unwrap();
        assert_eq!(poison(&file), [(7, 9)]);
        let mut notes = file.of(WorkerIndex(2));
        notes.begin(7, 9);
        assert_eq!(file.running(2).unwrap().1, 7);
        notes.end();
        notes.cut();
        notes.committed();
        assert!(file.running(2).is_none());
        assert_eq!(poison(&file), [(7, 9)], "an end is no proof: it may fail, be tried again and kill then");
        notes.consumed(7, 9);
        notes.committed();
        assert_eq!(poison(&file), [(7, 9)], "an epoch that is not durable may never have been");
        notes.cut();
        notes.committed();
        assert!(file.suspects().is_empty());
    }

    fn poison(file: &NotesFile) -> Vec<(u64, u64)> {
        let suspects = file.suspects().into_iter().filter(|suspect| suspect.is_poison);
        suspects.map(|suspect| (suspect.address_hash, suspect.message_hash)).collect()
    }

    #[test]
    fn room_for_a_suspect_is_made_by_the_least_suspicious() {
        let directory = tempfile::tempdir().unwrap();
        let file = NotesFile::open(directory.path()).unwrap();
        (0..3).for_each(|_| file.suspect(7, 9));
        (100..100 + 2 * SUSPECTS_MAX as u64).for_each(|address| file.suspect(address, 0));
        assert_eq!(poison(&file), [(7, 9)]);
    }
}
