//! How do committed epochs get from the log into the base? Newest value per key, in key order, a bounded part at a time.
//!
//! A pass over the log gathers the smallest keys that fit [`FOLD_RANGE_BYTES`]; a later pass goes on behind them. Each step
//! applies at most `fold_keys` of them in one transaction; the last transaction sets the base's mark. Until then the base's
//! mark stays, a start replays the log over what is there already, and the overlay hides it from readers.

use std::collections::BTreeMap;
use std::io;

use crate::limits::FOLD_RANGE_BYTES;

use super::entry::{Content, ENTRY_HEADER_BYTES, Entry, payload_length, size_of_payload};
use super::log::Log;
use super::segment::{Segment, log_name};
use super::{Disk, Mark};

/// Keys and their newest values; no value is a delete.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A fold under way.
pub(super) struct Fold {
    /// What the base will hold.
    pub(super) target: Mark,
    /// Bytes of the log that it will cover.
    pub(super) bytes: u64,
    /// Segments by number, and where their part of it ends.
    pub(super) ends: Vec<(u64, u64)>,
    gathered: Changes,
    /// The next pass gathers keys from here; `None` if the last pass has been.
    cursor: Option<Vec<u8>>,
    range_bytes: usize,
}

impl Fold {
    pub(super) fn new<D: Disk>(target: Mark, bytes: u64, log: &Log<D>) -> Self {
        Self {
            target,
            bytes,
            ends: log.segments().map(|segment| (segment.number, segment.end)).collect(),
            gathered: Changes::new(),
            cursor: Some(Vec::new()),
            range_bytes: FOLD_RANGE_BYTES,
        }
    }

    /// The next keys to apply, at most `keys_max`, and whether they are the last.
    pub(super) fn take<D: Disk>(&mut self, log: &mut Log<D>, keys_max: usize) -> io::Result<(Changes, bool)> {
        if self.gathered.is_empty()
            && let Some(from) = self.cursor.take()
        {
            let mut pass =
                Pass { from, below: None, bytes: 0, bytes_max: self.range_bytes, gathered: Changes::new() };
            match pass.run(log, self) {
                Ok(()) => {
                    self.cursor = pass.below;
                    self.gathered = pass.gathered;
                }
                Err(error) => {
                    self.cursor = Some(pass.from);
                    return Err(error);
                }
            }
        }
        let split = self.gathered.keys().nth(keys_max.max(1)).cloned();
        let rest = split.map_or_else(Changes::new, |key| self.gathered.split_off(&key));
        let batch = std::mem::replace(&mut self.gathered, rest);
        Ok((batch, self.gathered.is_empty() && self.cursor.is_none()))
    }

    /// Takes back what could not be applied.
    pub(super) fn put_back(&mut self, mut batch: Changes) {
        self.gathered.append(&mut batch);
    }
}

/// One reading of the log.
struct Pass {
    from: Vec<u8>,
    /// Keys from here on are a later pass's.
    below: Option<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    gathered: Changes,
}

impl Pass {
    fn run<D: Disk>(&mut self, log: &mut Log<D>, fold: &Fold) -> io::Result<()> {
        let segments: Vec<Segment> = log.segments().cloned().collect();
        let mut buffer = Vec::new();
        for segment in segments {
            let last = segment.last.min(fold.target.entry);
            let (mut number, mut offset) = segment.unfolded;
            if last < number {
                continue;
            }
            let mut file = log.disk.open(&log_name(segment.number))?;
            while number <= last {
                buffer.resize(ENTRY_HEADER_BYTES, 0);
                log.disk.read(&mut file, offset, &mut buffer)?;
                let length = buffer.first_chunk().and_then(payload_length).unwrap_or(0);
                let size = size_of_payload(length) as u64;
                if segment.end < offset + size {
                    return Err(damaged(&segment, number));
                }
                buffer.resize(ENTRY_HEADER_BYTES + length, 0);
                let payload = buffer.get_mut(ENTRY_HEADER_BYTES..).unwrap_or_default();
                log.disk.read(&mut file, offset + ENTRY_HEADER_BYTES as u64, payload)?;
                let entry = Entry::decode(&buffer, segment.random)
                    .filter(|entry| entry.number == number)
                    .ok_or_else(|| damaged(&segment, number))?;
                let content = entry.content().map_err(|_| damaged(&segment, number))?;
                self.gather(&content).map_err(|_| damaged(&segment, number))?;
                number += 1;
                offset += size;
            }
        }
        Ok(())
    }

    fn gather(&mut self, content: &Content<'_>) -> Result<(), crate::epoch::frame::MalformedFrame> {
        content.visit(|key, value| {
            let is_later = self.below.as_deref().is_some_and(|below| below <= key);
            if key < self.from.as_slice() || is_later {
                return;
            }
            let size = |value: Option<&[u8]>| RECORD_BYTES + value.map_or(0, <[u8]>::len);
            self.bytes += size(value);
            if let Some(older) = self.gathered.get_mut(key) {
                self.bytes -= size(older.as_deref());
                *older = value.map(<[u8]>::to_vec);
            } else {
                self.bytes += key.len();
                self.gathered.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            }
            while self.bytes_max < self.bytes && 1 < self.gathered.len() {
                let Some((key, value)) = self.gathered.pop_last() else {
                    break;
                };
                self.bytes -= key.len() + size(value.as_deref());
                self.below = Some(key);
            }
        })
    }
}

fn damaged(segment: &Segment, number: u64) -> io::Error {
    let name = log_name(segment.number);
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {number} in {name} cannot be read back"))
}

/// What a gathered record costs beside its bytes.
const RECORD_BYTES: usize = 64;
