//! What is one entry of the log? A checksummed header that says where it belongs, then a frame or session records.
//!
//! ```text
//!  0  length of the payload   u32 LE
//!  4  CRC32C                  u32 LE, over bytes 0..4, 8..40 and the payload
//!  8  segment's random number u64 LE     a recycled segment's old entries carry another
//! 16  entry number            u64 LE     one more than the entry's before
//! 24  synced up to            u64 LE     every entry up to this one had been synced when this one was written
//! 32  kind                    u8         1 frame, 2 session records
//! 33  zero                    7 bytes
//! 40  payload
//!     zeros up to the next multiple of 8
//! ```
//! A frame's payload is its head in postcard (view, epoch, runtime ms, proven pair) and then its sections
//! ([`frame`](crate::epoch::frame)); session records are records of a frame without sections.

use serde::{Deserialize, Serialize};

use crate::epoch::frame::{MalformedFrame, encode_record, read_records, read_sections};
use crate::epoch::{Epoch, TimeStamp};

use super::LogEntry;

/// Bytes before the payload.
pub(super) const ENTRY_HEADER_BYTES: usize = 40;
/// Entries begin at multiples of this many bytes of the file.
pub(super) const ENTRY_ALIGNMENT: usize = 8;

/// An entry whose checksum was right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) number: u64,
    pub(super) synced: u64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

/// What shall become an entry: something new, or the payload of an entry that is written again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    New(&'a LogEntry),
    Again { kind: u8, payload: &'a [u8] },
}

/// A payload taken apart.
pub(super) enum Content<'a> {
    Frame { head: FrameHead, sections: &'a [u8] },
    SessionRecords { records: &'a [u8] },
}

/// What a frame says of itself.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    pub(super) view: u64,
    epoch: u64,
    runtime_ms: u64,
    proven: Option<(u64, u64)>,
}

impl FrameHead {
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    pub(super) fn time(&self) -> TimeStamp {
        TimeStamp { runtime_ms: self.runtime_ms, proven: self.proven }
    }
}

impl<'a> Entry<'a> {
    /// The entry at the beginning of `bytes`; `None` if there is none of the segment with this random number.
    pub(super) fn decode(bytes: &'a [u8], random: u64) -> Option<Self> {
        let header = bytes.first_chunk::<ENTRY_HEADER_BYTES>()?;
        if number_at::<8>(header)? != random {
            return None;
        }
        let payload = bytes[ENTRY_HEADER_BYTES..].get(..payload_length(header)?)?;
        let stored = u32::from_le_bytes(*header[4..].first_chunk()?);
        if checksum(header, payload) != stored {
            return None;
        }
        Some(Self {
            number: number_at::<16>(header)?,
            synced: number_at::<24>(header)?,
            kind: header[32],
            payload,
        })
    }

    /// Bytes in the file, padding included.
    pub(super) fn size(&self) -> usize {
        size_of_payload(self.payload.len())
    }

    /// Takes the payload apart.
    pub(super) fn content(&self) -> Result<Content<'a>, MalformedFrame> {
        match self.kind {
            KIND_FRAME => {
                let (head, sections) = postcard::take_from_bytes(self.payload).map_err(|_| MalformedFrame)?;
                Ok(Content::Frame { head, sections })
            }
            KIND_SESSION_RECORDS => Ok(Content::SessionRecords { records: self.payload }),
            _ => Err(MalformedFrame),
        }
    }
}

impl<'a> Content<'a> {
    /// Calls `visit(key, value)` for every record; no value is a delete.
    pub(super) fn visit(
        &self,
        mut visit: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Result<(), MalformedFrame> {
        match self {
            Self::Frame { sections, .. } => read_sections(sections, visit),
            Self::SessionRecords { records } => read_records(records, |key, value| {
                visit(key, value);
                Ok(())
            }),
        }
    }
}

/// The payload's length that a header claims, checked by nothing.
pub(super) fn payload_length(header: &[u8; ENTRY_HEADER_BYTES]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*header.first_chunk()?)).ok()
}

/// Bytes in the file of an entry with a payload of this length.
pub(super) fn size_of_payload(length: usize) -> usize {
    (ENTRY_HEADER_BYTES + length).next_multiple_of(ENTRY_ALIGNMENT)
}

/// Appends entries numbered from `synced + 1`: they follow what had been synced. Returns the last one's number.
pub(super) fn encode_entries<'a>(
    out: &mut Vec<u8>,
    random: u64,
    synced: u64,
    sources: impl Iterator<Item = Source<'a>>,
) -> u64 {
    let mut number = synced;
    for source in sources {
        number += 1;
        let start = out.len();
        out.extend_from_slice(&[0; ENTRY_HEADER_BYTES]);
        let kind = encode_payload(out, source);
        finish_entry(&mut out[start..], kind, random, number, synced);
        let padded = start + (out.len() - start).next_multiple_of(ENTRY_ALIGNMENT);
        out.resize(padded, 0);
    }
    number
}

fn encode_payload(out: &mut Vec<u8>, source: Source<'_>) -> u8 {
    match source {
        Source::Again { kind, payload } => {
            out.extend_from_slice(payload);
            kind
        }
        Source::New(LogEntry::SessionRecords { records }) => {
            for (key, value) in records {
                encode_record(out, key, (!value.is_empty()).then_some(value));
            }
            KIND_SESSION_RECORDS
        }
        Source::New(LogEntry::Frame { view, epoch, time, sections }) => {
            let head =
                FrameHead { view: *view, epoch: epoch.0, runtime_ms: time.runtime_ms, proven: time.proven };
            match postcard::to_extend(&head, std::mem::take(out)) {
                Ok(extended) => *out = extended,
                Err(error) => unreachable!("numbers in memory always encode: {error}"),
            }
            for piece in sections {
                out.extend_from_slice(piece);
            }
            KIND_FRAME
        }
    }
}

fn finish_entry(entry: &mut [u8], kind: u8, random: u64, number: u64, synced: u64) {
    let Some((header, payload)) = entry.split_first_chunk_mut::<ENTRY_HEADER_BYTES>() else {
        unreachable!("the header was put in front")
    };
    let Ok(length) = u32::try_from(payload.len()) else {
        unreachable!("an epoch is bounded far below 4 GiB")
    };
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&random.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&synced.to_le_bytes());
    header[32] = kind;
    let checksum = checksum(header, payload);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(header: &[u8; ENTRY_HEADER_BYTES], payload: &[u8]) -> u32 {
    let length = crc32c::crc32c(&header[..4]);
    crc32c::crc32c_append(crc32c::crc32c_append(length, &header[8..]), payload)
}

fn number_at<const OFFSET: usize>(header: &[u8; ENTRY_HEADER_BYTES]) -> Option<u64> {
    Some(u64::from_le_bytes(*header.get(OFFSET..)?.first_chunk()?))
}

const KIND_FRAME: u8 = 1;
const KIND_SESSION_RECORDS: u8 = 2;
