//! How does it survive? An append-only epoch log first, folded lazily into LMDB.
//!
//! The rules live here, over two traits: [`Disk`] (files with live and durable bytes) and [`Base`] (LMDB, or a map). The shell
//! implements them with the operating system, the simulator with memory and faults. Nothing here starts a thread: the shell
//! calls a store from one.

mod entry;
mod fold;
mod log;
mod manifest;
mod recovery;
mod sealed;
mod segment;
mod writer;

use std::io;
use std::ops::ControlFlow;

pub use manifest::Degraded;
pub use writer::{OpenError, Recovered, Store, StoreLimits, StoreStatus};

use crate::epoch::{Epoch, TimeStamp};

/// The directory that holds the log's segments, flat.
///
/// A name is at most 32 ASCII characters. What was written and not synced may be lost at a crash, or any part of it may stay;
/// names created, renamed or removed are durable after [`sync_directory`](Disk::sync_directory).
pub trait Disk {
    /// An open file.
    type File;

    /// The names in the directory, in any order.
    ///
    /// # Errors
    /// Whatever the operating system says; so for all of these.
    fn list(&mut self) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that must exist, to read and write.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;
    /// The file's length in bytes.
    fn length(&mut self, file: &mut Self::File) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; an end of file before it is full is an error.
    fn read(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file where needed.
    fn write(&mut self, file: &mut Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written to the file is durable (`fdatasync`).
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Renames, replacing nothing.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Returns when creations, renames and removals are durable.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// What a worker may read of the base: the committed past, without what is still in the log.
///
/// The answers change only when the worker is told of a fold.
pub trait BaseRead {
    /// Puts the value of `key` into `value` (cleared first) and says whether there is one.
    ///
    /// # Errors
    /// [`BaseError`], of which a damaged value is one.
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, BaseError>;

    /// Visits keys and values in order, from the first key not below `from`, until `visit` breaks or the base ends.
    ///
    /// # Errors
    /// [`BaseError`], of which a damaged value is one.
    fn seek(
        &self,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BaseError>;
}

/// The writer's side of the base. One transaction a call; durable when it returns.
pub trait Base {
    /// Applies sorted puts and deletes and, if given, sets the mark, all in one durable transaction.
    ///
    /// # Errors
    /// [`BaseError`]; then nothing was applied.
    fn apply(
        &mut self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: Option<&Mark>,
    ) -> Result<(), BaseError>;

    /// The mark of the last whole fold; `None` in a base that never had one.
    ///
    /// # Errors
    /// [`BaseError`].
    fn mark(&self) -> Result<Option<Mark>, BaseError>;
}

/// How far the base has come, and what it knows of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Every log entry up to this one is in the base, and had been synced.
    pub entry: u64,
    /// The last epoch in the base.
    pub epoch: Epoch,
    /// The view of that epoch.
    pub view: u64,
    /// The latest time stamped by the frames in the base.
    pub time: TimeStamp,
}

/// One thing to append to the log.
#[derive(Clone, Debug)]
pub enum LogEntry {
    /// All that a node's workers did in one epoch.
    Frame {
        /// The view it belongs to; 1 on a single node.
        view: u64,
        /// Greater than the frame's before.
        epoch: Epoch,
        /// The time at its cut.
        time: TimeStamp,
        /// The sections ([`frame`](crate::epoch::frame)), in ascending order of groups over all pieces.
        sections: Vec<Vec<u8>>,
    },
    /// Session records: what brokers told us about what is committed. Keys of kind `Session` and `Progress` only.
    SessionRecords {
        /// Keys and values ([`Key`](crate::state::key::Key)); an empty value deletes (an incarnation that is over).
        records: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

/// The base failed. The disk's fault; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// A value whose CRC does not fit: storage changed it.
    #[error("the base is damaged: the value of key {key} fails its checksum")]
    Damaged {
        /// The key, escaped.
        key: String,
    },
    /// The map is full (LMDB's `MDB_MAP_FULL`) or the disk is.
    #[error("the base is full: {0}")]
    Full(String),
    /// Anything else that LMDB or the operating system says.
    #[error("the base failed: {0}")]
    Failed(String),
}

#[cfg(test)]
mod tests;
