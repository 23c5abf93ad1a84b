//! What is this data directory? A small file that is written before the first segment and seldom again.
//!
//! ```text
//! sealed ("FOGFUNMF"), CBOR map
//!   0 format (1) │ 1 identity │ 2 key groups │ 3 hash name │ 4 ready │ 5 degraded { 0 first epoch │ 1 last epoch │ 2 text }
//! ```
//! Written as `manifest.new`, synced, renamed to `manifest-` and a number one higher than the last, synced; then the one before
//! is removed. The highest number counts. `ready` comes with the second manifest, when the first segment is durable: a
//! directory that is ready and has no log has lost it.

use std::io;

use crate::epoch::Epoch;
use crate::limits::KEY_GROUPS;

use super::sealed::{seal, unseal};
use super::segment::{MANIFEST_NEW, Name};
use super::{Disk, OpenError};

/// Epochs that were committed and that the storage lost.
#[derive(minicbor::Encode, minicbor::Decode, Clone, PartialEq, Eq, Debug)]
#[cbor(map)]
pub struct Degraded {
    #[n(0)]
    first: u64,
    #[n(1)]
    last: u64,
    /// What was found where, for a person.
    #[n(2)]
    pub text: String,
}

impl Degraded {
    /// These epochs are lost; `last` is the highest that left a trace.
    #[must_use]
    pub fn new(first: Epoch, last: Epoch, text: String) -> Self {
        Self { first: first.0, last: last.0.max(first.0), text }
    }

    /// The first lost epoch.
    #[must_use]
    pub fn first(&self) -> Epoch {
        Epoch(self.first)
    }

    /// The last epoch that is known to be lost; those behind it left no trace.
    #[must_use]
    pub fn last(&self) -> Epoch {
        Epoch(self.last)
    }

    /// Both losses in one.
    pub(super) fn merged(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        Self { first: self.first.min(earlier.first), last: self.last.max(earlier.last), text: self.text }
    }
}

/// What the file says.
#[derive(minicbor::Encode, minicbor::Decode, Clone, PartialEq, Eq, Debug)]
#[cbor(map)]
pub(super) struct Manifest {
    #[n(0)]
    format: u32,
    #[n(1)]
    pub(super) identity: u64,
    #[n(2)]
    key_groups: u16,
    #[n(3)]
    hash: String,
    #[n(4)]
    pub(super) ready: bool,
    #[n(5)]
    pub(super) degraded: Option<Degraded>,
}

impl Manifest {
    /// A new directory's.
    pub(super) fn new(identity: u64) -> Self {
        Self {
            format: FORMAT,
            identity,
            key_groups: KEY_GROUPS,
            hash: HASH.to_owned(),
            ready: false,
            degraded: None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        seal(&mut out, MAGIC, self);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        unseal(bytes, MAGIC)
    }

    /// Reads the manifest with this number.
    pub(super) fn load<D: Disk>(disk: &mut D, number: u64) -> Result<Self, OpenError> {
        let mut file = disk.open(&manifest_name(number))?;
        let length = disk.length(&mut file)?.min(MANIFEST_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        disk.read(&mut file, 0, &mut bytes)?;
        let manifest = Self::decode(&bytes).ok_or(OpenError::ManifestDamaged)?;
        if manifest.format != FORMAT || manifest.key_groups != KEY_GROUPS || manifest.hash != HASH {
            return Err(OpenError::Incompatible {
                format: manifest.format,
                key_groups: manifest.key_groups,
                hash: manifest.hash,
            });
        }
        Ok(manifest)
    }

    /// Makes this the directory's manifest, durably, as the one with `number`.
    pub(super) fn save<D: Disk>(&self, disk: &mut D, number: u64) -> io::Result<()> {
        match disk.remove(MANIFEST_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = disk.create(MANIFEST_NEW)?;
        disk.write(&mut file, 0, &self.encode())?;
        disk.sync(&mut file)?;
        disk.rename(MANIFEST_NEW, &manifest_name(number))?;
        disk.sync_directory()
    }
}

/// The name of a manifest.
pub(super) fn manifest_name(number: u64) -> String {
    debug_assert_eq!(Name::parse(&format!("manifest-{number:016x}")), Name::Manifest(number));
    format!("manifest-{number:016x}")
}

const MAGIC: [u8; 8] = *b"FOGFUNMF";
/// The format of manifest, segments and entries, together.
pub(super) const FORMAT: u32 = 1;
/// How an id becomes a key group.
const HASH: &str = "xxh3-64";
/// More than a manifest ever takes: a file that claims more is read no further.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
