//! How does LMDB hold the base? One environment, two databases, a checksum in each value.
//!
//! - `values`: a key's bytes → the value, then the CRC32C of key and value (u32 LE). LMDB itself has no checksum, and a bit
//!   that a card flips would otherwise come back as state.
//! - `meta`: `mark` → CBOR map (0 entry, 1 epoch, 2 view, 3 runtime ms, 4 proven pair), then the same checksum.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, RwTxn, WithoutTls};

use super::files::{create_directory, sync_directory};
use crate::epoch::{Epoch, TimeStamp};
use crate::store::{Base, BaseError, BaseRead, Mark};

/// Map sizes are multiples of this many bytes: a page of any board.
pub const MAP_ALIGNMENT: usize = 64 * 1024;

/// The writer. There is one, on the store's thread.
#[derive(Debug)]
pub struct LmdbBase {
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

/// A reader; each worker has a clone. Each call is a short transaction of its own.
#[derive(Clone, Debug)]
pub struct LmdbReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env<WithoutTls>,
    values: Values,
    meta: Values,
}

/// Keys and values as bytes.
type Values = Database<'static, Bytes, Bytes>;

impl LmdbBase {
    /// Opens the environment in `directory`, made if there is none, with a map of `map_bytes`, rounded up to 64 KiB: the base
    /// is never larger, and on a 32-bit board that much address space is taken.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn open(directory: &Path, map_bytes: usize) -> Result<(Self, LmdbReader), BaseError> {
        let failed = |error: io::Error| BaseError::Failed(error.to_string());
        create_directory(directory).map_err(failed)?;
        if !directory.join(DATA).try_exists().map_err(failed)? {
            create(directory)?;
        }
        // What a start that was cut short named may not be durable yet; the log is freed in the belief that it is.
        sync_directory(directory).map_err(failed)?;
        let env = environment(directory, map_bytes, EnvFlags::NO_READ_AHEAD).map_err(base_error)?;
        let (values, meta) = open_databases(&env).map_err(base_error)?;
        let shared = Arc::new(Shared { env, values, meta });
        let reader = LmdbReader { shared: Arc::clone(&shared) };
        let buffer = Vec::new();
        Ok((Self { shared, buffer }, reader))
    }

    /// Bytes of the file that are in use, and the map's size.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn bytes(&self) -> Result<(u64, u64), BaseError> {
        let info = self.shared.env.info();
        let used = self.shared.env.real_disk_size().map_err(base_error)?;
        Ok((used, info.map_size as u64))
    }

    fn write(
        &mut self,
        transaction: &mut RwTxn<'_>,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: Option<&Mark>,
    ) -> heed::Result<()> {
        for (key, value) in changes {
            match value {
                Some(value) => {
                    self.seal(key, |buffer| buffer.extend_from_slice(value));
                    self.shared.values.put(transaction, key, &self.buffer)?;
                }
                None => {
                    self.shared.values.delete(transaction, key)?;
                }
            }
        }
        if let Some(mark) = mark {
            let mark = MarkOnDisk::from(*mark);
            self.seal(MARK, |buffer| match minicbor::encode(&mark, &mut *buffer) {
                Ok(()) => {}
                Err(error) => unreachable!("memory takes every byte: {error}"),
            });
            self.shared.meta.put(transaction, MARK, &self.buffer)?;
        }
        Ok(())
    }

    fn seal(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.clear();
        value(&mut self.buffer);
        let checksum = checksum(key, &self.buffer);
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
    }
}

/// Makes an empty base under another name, which it gets when it is whole and durable: LMDB writes a new file's first pages one by
/// one, and takes a file of which only some came to the card for no base.
fn create(directory: &Path) -> Result<(), BaseError> {
    let failed = |error: io::Error| BaseError::Failed(error.to_string());
    let remove = |name: &str| match std::fs::remove_file(directory.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    remove(NEW)?;
    remove(NEW_LOCK)?;
    let env = environment(&directory.join(NEW), MAP_ALIGNMENT, EnvFlags::NO_SUB_DIR).map_err(base_error)?;
    open_databases(&env).map_err(base_error)?;
    env.prepare_for_closing().wait();
    std::fs::rename(directory.join(NEW), directory.join(DATA)).map_err(failed)?;
    remove(NEW_LOCK)
}

fn environment(path: &Path, map_bytes: usize, flags: EnvFlags) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .map_size(map_bytes.max(MAP_ALIGNMENT).next_multiple_of(MAP_ALIGNMENT))
        .max_readers(READERS_MAX)
        .max_dbs(2);
    #[expect(
        unsafe_code,
        reason = "memory is mapped: the directory's lock keeps other writers out, and no flag trades safety for speed"
    )]
    // SAFETY: nobody else changes the file while it is mapped, the data directory is locked by this process. Reading ahead
    // would only evict what a small board needs.
    unsafe {
        options.flags(flags);
        options.open(path)
    }
}

fn open_databases(env: &Env<WithoutTls>) -> heed::Result<(Values, Values)> {
    // A base that exists is opened without a write: a start of an idle node changes nothing here.
    let transaction = env.clone().static_read_txn()?;
    let opened = env.open_databases_and_commit(transaction, |open, transaction| -> heed::Result<_> {
        let values = open.open_database(transaction, Some(VALUES))?;
        let meta = open.open_database(transaction, Some(META))?;
        Ok(match values.zip(meta) {
            Some(both) => CommitOrAbort::Commit(both),
            None => CommitOrAbort::Abort(()),
        })
    })?;
    if let Some(both) = opened.commit() {
        return Ok(both);
    }
    let transaction = env.write_txn()?;
    let created = env.create_databases_and_commit(transaction, |create, transaction| -> heed::Result<_> {
        let values = create.create_database(transaction, Some(VALUES))?;
        let meta = create.create_database(transaction, Some(META))?;
        Ok(CommitOrAbort::<_, ()>::Commit((values, meta)))
    })?;
    Ok(created.unwrap_commit())
}

impl Base for LmdbBase {
    fn apply(
        &mut self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: Option<&Mark>,
    ) -> Result<(), BaseError> {
        let shared = Arc::clone(&self.shared);
        let mut transaction = shared.env.write_txn().map_err(base_error)?;
        self.write(&mut transaction, changes, mark).map_err(base_error)?;
        transaction.commit().map_err(base_error)
    }

    fn mark(&self) -> Result<Option<Mark>, BaseError> {
        let transaction = self.shared.env.read_txn().map_err(base_error)?;
        let stored = self.shared.meta.get(&transaction, MARK).map_err(base_error)?;
        let Some(stored) = stored else { return Ok(None) };
        let bytes = unseal(MARK, stored)?;
        let mark: MarkOnDisk = minicbor::decode(bytes).map_err(|_| damaged(MARK))?;
        Ok(Some(mark.into()))
    }
}

impl BaseRead for LmdbReader {
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, BaseError> {
        value.clear();
        let transaction = self.shared.env.read_txn().map_err(base_error)?;
        let stored = self.shared.values.get(&transaction, key).map_err(base_error)?;
        let Some(stored) = stored else { return Ok(false) };
        value.extend_from_slice(unseal(key, stored)?);
        Ok(true)
    }

    fn seek(
        &self,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BaseError> {
        let transaction = self.shared.env.read_txn().map_err(base_error)?;
        // LMDB takes no empty key; every key is at least as great as one zero byte.
        let from = if from.is_empty() { &[0][..] } else { from };
        let range = (Bound::Included(from), Bound::Unbounded);
        let found = self.shared.values.range(&transaction, &range).map_err(base_error)?;
        for item in found {
            let (key, stored) = item.map_err(base_error)?;
            if visit(key, unseal(key, stored)?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn unseal<'v>(key: &[u8], stored: &'v [u8]) -> Result<&'v [u8], BaseError> {
    let (value, stored) = stored.split_last_chunk::<4>().ok_or_else(|| damaged(key))?;
    if checksum(key, value) == u32::from_le_bytes(*stored) { Ok(value) } else { Err(damaged(key)) }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn damaged(key: &[u8]) -> BaseError {
    BaseError::Damaged { key: key.escape_ascii().to_string() }
}

fn base_error(error: heed::Error) -> BaseError {
    let text = error.to_string();
    match error {
        heed::Error::Mdb(MdbError::MapFull) => BaseError::Full(text),
        heed::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            BaseError::Full(text)
        }
        _ => BaseError::Failed(text),
    }
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct MarkOnDisk {
    #[n(0)]
    entry: u64,
    #[n(1)]
    epoch: u64,
    #[n(2)]
    view: u64,
    #[n(3)]
    runtime_ms: u64,
    #[n(4)]
    proven: Option<(u64, u64)>,
}

impl From<Mark> for MarkOnDisk {
    fn from(mark: Mark) -> Self {
        Self {
            entry: mark.entry,
            epoch: mark.epoch.0,
            view: mark.view,
            runtime_ms: mark.time.runtime_ms,
            proven: mark.time.proven,
        }
    }
}

impl From<MarkOnDisk> for Mark {
    fn from(mark: MarkOnDisk) -> Self {
        Self {
            entry: mark.entry,
            epoch: Epoch(mark.epoch),
            view: mark.view,
            time: TimeStamp { runtime_ms: mark.runtime_ms, proven: mark.proven },
        }
    }
}

/// LMDB's own name for its file.
const DATA: &str = "data.mdb";
/// A base that is being made; means nothing.
const NEW: &str = "data.new";
/// LMDB's own name for the lock beside it.
const NEW_LOCK: &str = "data.new-lock";
const VALUES: &str = "values";
const META: &str = "meta";
const MARK: &[u8] = b"mark";
/// Transactions that read at one time, at most: one a worker and a few for the command line.
const READERS_MAX: u32 = 126;
