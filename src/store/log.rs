//! How does an entry become durable? One write and one sync into the active segment, or a new segment as a whole.
//!
//! A segment is begun as a spare file: header, first entries and zeros in one write, sync, rename to its `log-` name, directory
//! sync. So what a new segment supersedes is superseded only once all that replaces it is durable.
//!
//! - After a failed write or sync a segment is never written again, and nothing of it that had not been synced before counts.
//! - A segment that the base covers becomes a spare; spares and log together stay within the log's bound and two segments.
//! - A spare's bytes change only after the directory knows that it is one.

use std::io;

use crate::limits::{APPEND_BUFFER_KEPT_BYTES, ZERO_AHEAD_BYTES};

use super::entry::{Source, encode_entries};
use super::manifest::FORMAT;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, log_name, spare_name};
use super::{Disk, StoreLimits};

/// The segments and the disk they are on.
pub(super) struct Log<D: Disk> {
    pub(super) disk: D,
    limits: StoreLimits,
    identity: u64,
    randoms: SplitMix,
    number_next: u64,
    /// In the order of their numbers.
    closed: Vec<Segment>,
    active: Option<Active<D::File>>,
    spares: Vec<u64>,
    is_directory_ahead: bool,
    buffer: Vec<u8>,
    pub(super) bytes_written: u64,
    pub(super) syncs: u64,
}

struct Active<F> {
    segment: Segment,
    file: F,
    /// Written up to here, with entries, zeros or what a recycled file held.
    length: u64,
}

/// A segment file that was written and synced and is not yet in the log.
struct Prepared<F> {
    segment: Segment,
    file: F,
    length: u64,
}

impl<D: Disk> Log<D> {
    pub(super) fn new(disk: D, limits: StoreLimits, entropy: u64) -> Self {
        Self {
            disk,
            limits,
            identity: 0,
            randoms: SplitMix(entropy),
            number_next: 1,
            closed: Vec::new(),
            active: None,
            spares: Vec::new(),
            is_directory_ahead: true,
            buffer: Vec::new(),
            bytes_written: 0,
            syncs: 0,
        }
    }

    /// Takes over what a start found. Entries go to a segment that is yet to be begun.
    pub(super) fn adopt(&mut self, identity: u64, closed: Vec<Segment>, spares: Vec<u64>, number_next: u64) {
        self.identity = identity;
        self.closed = closed;
        self.spares = spares;
        self.number_next = number_next;
    }

    /// Appends entries behind `committed`, durably. Returns their bytes.
    pub(super) fn append<'a>(
        &mut self,
        committed: u64,
        entries: impl Iterator<Item = Source<'a>> + Clone,
    ) -> io::Result<u64> {
        let Some(active) = &mut self.active else {
            return self.begin(committed, entries);
        };
        assert_eq!(active.segment.last, committed, "a log has no gap");
        self.buffer.clear();
        let last = encode_entries(&mut self.buffer, active.segment.random, committed, entries.clone());
        let bytes = self.buffer.len() as u64;
        let end = active.segment.end + bytes;
        let bound = u64::from(self.limits.segment_bytes);
        if bound < end {
            return self.begin(committed, entries);
        }
        extend_with_zeros(&mut self.buffer, end, active.length, bound);
        let written = self
            .disk
            .write(&mut active.file, active.segment.end, &self.buffer)
            .and_then(|()| self.disk.sync(&mut active.file));
        if let Err(error) = written {
            self.close_active();
            return Err(error);
        }
        self.bytes_written += self.buffer.len() as u64;
        self.syncs += 1;
        active.length = active.length.max(active.segment.end + self.buffer.len() as u64);
        active.segment.end = end;
        active.segment.last = last;
        self.shrink_buffer();
        Ok(bytes)
    }

    /// Begins a segment that follows `follows`, with these entries in it, durably. Returns the entries' bytes.
    pub(super) fn begin<'a>(
        &mut self,
        follows: u64,
        entries: impl Iterator<Item = Source<'a>>,
    ) -> io::Result<u64> {
        let (spare, file, length) = self.take_spare()?;
        let prepared = match self.prepare(file, length, follows, entries) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.discard(spare);
                return Err(error);
            }
        };
        let number = prepared.segment.number;
        if let Err(error) = self.disk.rename(&spare_name(spare), &log_name(number)) {
            self.discard(spare);
            return Err(error);
        }
        if let Err(error) = self.disk.sync_directory() {
            // Whether the name lasts is unknown. It does no harm: its entries are whole, and the next segment follows the same.
            let mut segment = prepared.segment;
            segment.last = follows;
            self.close_active();
            self.closed.push(segment);
            return Err(error);
        }
        self.syncs += 1;
        self.close_active();
        let bytes = prepared.segment.end - SEGMENT_HEADER_BYTES as u64;
        self.active =
            Some(Active { segment: prepared.segment, file: prepared.file, length: prepared.length });
        self.shrink_buffer();
        Ok(bytes)
    }

    fn prepare<'a>(
        &mut self,
        mut file: D::File,
        length: u64,
        follows: u64,
        entries: impl Iterator<Item = Source<'a>>,
    ) -> io::Result<Prepared<D::File>> {
        let number = self.number_next;
        self.number_next += 1;
        let random = self.randoms.next();
        self.buffer.clear();
        let header = SegmentHeader { format: FORMAT, number, random, follows, identity: self.identity };
        header.encode(&mut self.buffer);
        let last = encode_entries(&mut self.buffer, random, follows, entries);
        let end = self.buffer.len() as u64;
        extend_with_zeros(&mut self.buffer, end, length, u64::from(self.limits.segment_bytes));
        self.disk.write(&mut file, 0, &self.buffer)?;
        self.disk.sync(&mut file)?;
        self.bytes_written += self.buffer.len() as u64;
        self.syncs += 1;
        Ok(Prepared {
            segment: Segment {
                number,
                random,
                follows,
                last,
                end,
                unfolded: (follows + 1, SEGMENT_HEADER_BYTES as u64),
            },
            file,
            length: length.max(self.buffer.len() as u64),
        })
    }

    fn take_spare(&mut self) -> io::Result<(u64, D::File, u64)> {
        if self.is_directory_ahead && !self.spares.is_empty() {
            self.disk.sync_directory()?;
            self.syncs += 1;
            self.is_directory_ahead = false;
        }
        while let Some(spare) = self.spares.pop() {
            let opened = self.disk.open(&spare_name(spare)).and_then(|mut file| {
                let length = self.disk.length(&mut file)?;
                Ok((spare, file, length))
            });
            match opened {
                Ok(opened) => return Ok(opened),
                Err(_) => self.discard(spare),
            }
        }
        let spare = self.number_next;
        self.number_next += 1;
        let file = self.disk.create(&spare_name(spare))?;
        Ok((spare, file, 0))
    }

    /// A spare that failed is tried no more. If it cannot be removed either, its name still means nothing.
    fn discard(&mut self, spare: u64) {
        let _ = self.disk.remove(&spare_name(spare));
        self.is_directory_ahead = true;
    }

    fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.closed.push(active.segment);
        }
    }

    fn shrink_buffer(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(APPEND_BUFFER_KEPT_BYTES);
    }

    /// Makes spares of the segments that no recovery needs, the base holding every entry up to `mark`.
    pub(super) fn release(&mut self, mark: u64) {
        // Without an active segment the newest one must stay: a log without segments is a lost log.
        let Some(active) = &self.active else { return };
        let active_follows = active.segment.follows;
        let mut limit = active_follows;
        let mut kept = Vec::with_capacity(self.closed.len());
        for segment in std::mem::take(&mut self.closed).into_iter().rev() {
            let last = segment.last.min(limit);
            limit = limit.min(segment.follows);
            if mark.max(segment.follows) < last || !self.retire(segment.number) {
                kept.push(segment);
            }
        }
        kept.reverse();
        self.closed = kept;
        self.bound_spares();
    }

    /// Failure is no harm: the segment stays in the log, superseded, and is tried again at the next release.
    fn retire(&mut self, number: u64) -> bool {
        let is_retired = self.disk.rename(&log_name(number), &spare_name(number)).is_ok();
        if is_retired {
            self.spares.push(number);
            self.is_directory_ahead = true;
        }
        is_retired
    }

    fn bound_spares(&mut self) {
        let segments_max = self.limits.log_bytes_max / u64::from(self.limits.segment_bytes).max(1) + 2;
        let segments_max = usize::try_from(segments_max).unwrap_or(usize::MAX);
        let spares_max = segments_max.saturating_sub(self.segment_count()).max(1);
        while spares_max < self.spares.len() {
            let Some(spare) = self.spares.pop() else { break };
            self.discard(spare);
        }
    }

    /// Notes that every entry up to `entry` is in the base; it ends the given segment's part at `offset`.
    pub(super) fn note_folded(&mut self, entry: u64, ends: &[(u64, u64)]) {
        let active = self.active.as_mut().map(|active| &mut active.segment);
        for segment in self.closed.iter_mut().chain(active) {
            if let Some((_, end)) = ends.iter().find(|(number, _)| *number == segment.number) {
                segment.unfolded = (segment.last.min(entry).max(segment.follows) + 1, *end);
            }
        }
    }

    pub(super) fn segment_count(&self) -> usize {
        self.closed.len() + usize::from(self.active.is_some())
    }

    pub(super) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Every segment with entries that count, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.closed.iter().chain(self.active.iter().map(|active| &active.segment))
    }
}

/// Fills up behind `end` where the file has never been written, up to a step or the segment's bound.
fn extend_with_zeros(buffer: &mut Vec<u8>, end: u64, written: u64, bound: u64) {
    if end <= written {
        return;
    }
    let filled = end.next_multiple_of(ZERO_AHEAD_BYTES).min(bound).max(end);
    let zeros = usize::try_from(filled - end).unwrap_or(0);
    buffer.resize(buffer.len() + zeros, 0);
}

/// Random enough to tell the lives of a recycled file apart; seeded by the caller, so a simulation repeats.
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
