//! What is a segment of the log? A file with a header page that names the entry it follows, then entries.
//!
//! ```text
//!    0  header, sealed ("FOGFUNLG", CBOR below), zeros behind it
//! 2048  the same once more: one damaged sector does not cost a segment
//! 4096  entries
//!
//! CBOR map   0 format (1) │ 1 segment number │ 2 random number │ 3 the entry it follows │ 4 identity of the data directory
//! ```
//! Names: `log-` or `spare-` and the number in 16 hexadecimal digits. A segment is filled and synced as a spare and renamed
//! only then, so a `log-` file always has a whole header, and what it was begun with, or is damaged. A spare's bytes mean nothing.
//!
//! A segment supersedes everything behind the entry it follows in segments of lower numbers. All up to that entry had been
//! synced when the header was written.

use std::io;
use std::ops::Range;

use crate::limits::READ_ATTEMPTS_MAX;

use super::Disk;
use super::sealed::{seal, unseal};

/// Where entries begin: a page of its own, so that no append writes to the header's sectors.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;

/// A segment's header.
#[derive(minicbor::Encode, minicbor::Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cbor(map)]
pub(super) struct SegmentHeader {
    #[n(0)]
    pub(super) format: u32,
    #[n(1)]
    pub(super) number: u64,
    #[n(2)]
    pub(super) random: u64,
    #[n(3)]
    pub(super) follows: u64,
    #[n(4)]
    pub(super) identity: u64,
}

impl SegmentHeader {
    /// Appends the header page.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        seal(out, MAGIC, self);
        assert!(out.len() - start <= COPY_OFFSET, "a header fits its half of the page");
        out.resize(start + COPY_OFFSET, 0);
        out.extend_from_within(start..start + COPY_OFFSET);
    }

    /// The header of a file that begins with `bytes`; `None` if neither copy can be read.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        unseal(bytes, MAGIC).or_else(|| unseal(bytes.get(COPY_OFFSET..)?, MAGIC))
    }
}

/// What the store knows of a segment in the log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) random: u64,
    pub(super) follows: u64,
    /// The last entry of it that counts; `follows` if none does.
    pub(super) last: u64,
    /// Where that one ends.
    pub(super) end: u64,
    /// The first entry that is not in the base, and where it begins.
    pub(super) unfolded: (u64, u64),
}

/// What a name in the directory says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Log(u64),
    Spare(u64),
    Manifest(u64),
    ManifestNew,
    Other,
}

impl Name {
    pub(super) fn parse(name: &str) -> Self {
        let number = |prefix: &str| {
            let digits = name.strip_prefix(prefix)?;
            let number = u64::from_str_radix(digits, 16).ok()?;
            (format!("{number:016x}") == digits).then_some(number)
        };
        if name == MANIFEST_NEW {
            Self::ManifestNew
        } else if let Some(number) = number("log-") {
            Self::Log(number)
        } else if let Some(number) = number("spare-") {
            Self::Spare(number)
        } else if let Some(number) = number("manifest-") {
            Self::Manifest(number)
        } else {
            Self::Other
        }
    }
}

/// The name of a segment in the log.
pub(super) fn log_name(number: u64) -> String {
    format!("log-{number:016x}")
}

/// The name of a file that waits to become a segment.
pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}")
}

/// The name under which a manifest is written.
pub(super) const MANIFEST_NEW: &str = "manifest.new";

/// A segment's bytes as far as they can be read.
#[derive(Default, Debug)]
pub(super) struct SegmentBytes {
    pub(super) bytes: Vec<u8>,
    /// Pages that could not be read and are zero in `bytes`.
    pub(super) unreadable: Vec<Range<usize>>,
}

impl SegmentBytes {
    /// Reads the header page of a file, zeros where it cannot be read.
    pub(super) fn read_header<D: Disk>(&mut self, disk: &mut D, name: &str) -> io::Result<()> {
        let mut file = disk.open(name)?;
        let length = disk.length(&mut file)?.min(SEGMENT_HEADER_BYTES as u64);
        self.bytes.clear();
        self.bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        for half in self.bytes.chunks_mut(COPY_OFFSET).enumerate() {
            let (index, bytes) = half;
            let offset = (index * COPY_OFFSET) as u64;
            if !(0..READ_ATTEMPTS_MAX).any(|_| disk.read(&mut file, offset, bytes).is_ok()) {
                bytes.fill(0);
            }
        }
        Ok(())
    }

    /// Reads a whole file; a page that cannot be read after several attempts is noted, not an error.
    pub(super) fn read<D: Disk>(&mut self, disk: &mut D, name: &str) -> io::Result<()> {
        self.bytes.clear();
        self.unreadable.clear();
        let mut file = disk.open(name)?;
        let length = disk.length(&mut file)?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.bytes.resize(length, 0);
        for start in (0..length).step_by(READ_BYTES) {
            let end = length.min(start + READ_BYTES);
            let chunk = &mut self.bytes[start..end];
            if disk.read(&mut file, start as u64, chunk).is_ok() {
                continue;
            }
            for page in (start..end).step_by(PAGE_BYTES) {
                let page = page..end.min(page + PAGE_BYTES);
                let bytes = &mut self.bytes[page.clone()];
                let is_read =
                    (0..READ_ATTEMPTS_MAX).any(|_| disk.read(&mut file, page.start as u64, bytes).is_ok());
                if !is_read {
                    bytes.fill(0);
                    self.unreadable.push(page);
                }
            }
        }
        Ok(())
    }

    /// Is a part of this range unreadable?
    pub(super) fn is_unreadable(&self, range: &Range<usize>) -> bool {
        self.unreadable.iter().any(|page| page.start < range.end && range.start < page.end)
    }
}

const MAGIC: [u8; 8] = *b"FOGFUNLG";
const COPY_OFFSET: usize = SEGMENT_HEADER_BYTES / 2;
/// Read at once.
const READ_BYTES: usize = 256 * 1024;
/// What a card loses at once, at least.
const PAGE_BYTES: usize = 4096;
