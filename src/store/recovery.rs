//! What had been committed when the power went? Every entry of the chain, up to its torn end or the first corruption.
//!
//! Segments are read in the order of their numbers, each up to the entry that a later one follows. Entries that the base holds
//! are passed over. The rest is replayed while it is whole. A hole in the chain is the *torn end*, unless something behind it
//! proves that it had been synced — a later entry, a later segment's header, the base's mark, or a page that cannot be read
//! where the hole is — then it is *corruption*. Behind either, no frame counts. Behind a corruption session records still do:
//! they say what the broker knows.
//!
//! The *tail*, what nothing proves to have been synced, is handed back to be written again: after a kill the page cache shows
//! entries that the card does not have, and after a failed sync a second sync of them says nothing.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Content, ENTRY_ALIGNMENT, ENTRY_HEADER_BYTES, Entry, payload_length, size_of_payload};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentBytes, SegmentHeader, log_name};
use super::{Degraded, Disk, Mark, OpenError};
use crate::epoch::Epoch;

/// Takes a key and its value; `None` is a delete.
pub(super) type Replay<'r> = dyn FnMut(&[u8], Option<&[u8]>) + 'r;

/// What the log holds.
pub(super) struct Scan {
    /// The last good entry, and the last good frame.
    pub(super) last: Mark,
    /// The last good entry that is proven to have been synced.
    pub(super) proven: u64,
    /// Kinds and payloads of the good entries behind that one.
    pub(super) tail: VecDeque<(u64, u8, Vec<u8>)>,
    /// Session records from behind a corruption.
    pub(super) salvage: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What a corruption cost.
    pub(super) lost: Option<Degraded>,
    /// Every segment, in order.
    pub(super) segments: Vec<Segment>,
    /// Bytes of good entries that the base does not hold.
    pub(super) unfolded_bytes: u64,
    /// Bad entries that the base holds.
    pub(super) damaged: u64,
}

/// Reads the segments with these numbers (ascending) behind the base's mark.
pub(super) fn scan<D: Disk>(
    disk: &mut D,
    numbers: &[u64],
    mark: Option<Mark>,
    replay: &mut Replay<'_>,
) -> Result<Scan, OpenError> {
    let mut buffer = SegmentBytes::default();
    let mut headers = Vec::with_capacity(numbers.len());
    for &number in numbers {
        buffer.read_header(disk, &log_name(number))?;
        let header = SegmentHeader::decode(&buffer.bytes);
        headers.push((number, header.filter(|header| header.number == number)));
    }
    let mut walk = Walk::new(mark.unwrap_or_default());
    walk.begin(&headers, mark.is_some())?;
    for (index, &(number, header)) in headers.iter().enumerate() {
        let limit = limit_behind(&headers, index);
        match header {
            None => walk.unreadable_segment(number, limit),
            Some(header) if limit <= header.follows => walk.superseded(&header),
            Some(header) => {
                buffer.read(disk, &log_name(number))?;
                walk.segment(&header, limit, &buffer, replay)?;
            }
        }
    }
    Ok(walk.finish(replay))
}

/// The last entry that counts in the segment at `index`: what a later segment follows.
fn limit_behind(headers: &[(u64, Option<SegmentHeader>)], index: usize) -> u64 {
    let later = headers.iter().skip(index + 1);
    later.filter_map(|(_, header)| Some(header.as_ref()?.follows)).min().unwrap_or(u64::MAX)
}

struct Walk {
    mark: Mark,
    last: Mark,
    /// The entry that the chain wants next.
    next: u64,
    proven: u64,
    /// The first entry that is neither whole nor in the base, with the reason.
    hole: Option<(u64, String)>,
    /// The hole cannot be a torn end, whatever is behind it.
    is_hole_damage: bool,
    epoch_behind_hole: Option<Epoch>,
    tail: VecDeque<(u64, u8, Vec<u8>)>,
    salvage: BTreeMap<Vec<u8>, Vec<u8>>,
    segments: Vec<Segment>,
    unfolded_bytes: u64,
    damaged: u64,
}

impl Walk {
    fn new(mark: Mark) -> Self {
        Self {
            mark,
            last: mark,
            next: mark.entry + 1,
            proven: mark.entry,
            hole: None,
            is_hole_damage: false,
            epoch_behind_hole: None,
            tail: VecDeque::new(),
            salvage: BTreeMap::new(),
            segments: Vec::new(),
            unfolded_bytes: 0,
            damaged: 0,
        }
    }

    /// Checks that the log begins where the base ends, or before.
    fn begin(&mut self, headers: &[(u64, Option<SegmentHeader>)], has_mark: bool) -> Result<(), OpenError> {
        let first = headers.iter().enumerate().find_map(|(index, (_, header))| {
            let header = header.as_ref()?;
            (header.follows < limit_behind(headers, index)).then_some(header.follows)
        });
        let is_whole = headers.iter().all(|(_, header)| header.is_some());
        match first {
            Some(follows) if self.mark.entry < follows && (is_whole || !has_mark) => {
                Err(OpenError::BaseLost { base_entry: self.mark.entry, log_follows: follows })
            }
            first => {
                self.next = first.unwrap_or(self.mark.entry).min(self.mark.entry) + 1;
                Ok(())
            }
        }
    }

    fn superseded(&mut self, header: &SegmentHeader) {
        self.segments.push(Segment {
            number: header.number,
            random: header.random,
            follows: header.follows,
            last: header.follows,
            end: SEGMENT_HEADER_BYTES as u64,
            unfolded: (header.follows + 1, SEGMENT_HEADER_BYTES as u64),
        });
    }

    /// Neither copy of the header can be read. The header was synced before the file was a segment: damage, never a torn end.
    fn unreadable_segment(&mut self, number: u64, limit: u64) {
        // Nothing of it counts; as an empty segment it is released with the first fold, or at once.
        let follows = self.next - 1;
        self.segments.push(Segment {
            number,
            random: 0,
            follows,
            last: follows,
            end: SEGMENT_HEADER_BYTES as u64,
            unfolded: (follows + 1, SEGMENT_HEADER_BYTES as u64),
        });
        if limit <= self.mark.entry {
            self.damaged += 1;
        } else if self.hole.is_none() {
            self.hole = Some((
                self.next.max(self.mark.entry + 1),
                format!("the header of {} is damaged", log_name(number)),
            ));
            self.is_hole_damage = true;
        }
    }

    fn segment(
        &mut self,
        header: &SegmentHeader,
        limit: u64,
        buffer: &SegmentBytes,
        replay: &mut Replay<'_>,
    ) -> Result<(), OpenError> {
        let name = log_name(header.number);
        self.superseded(header);
        self.prove(header.follows);
        self.go_on_with(header.follows + 1, || format!("entries before {name} are missing"));
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut expected = header.follows + 1;
        while expected <= limit {
            let bytes = buffer.bytes.get(offset..).unwrap_or_default();
            let entry = Entry::decode(bytes, header.random).filter(|entry| entry.number == expected);
            let Some(entry) = entry else {
                self.note_unreadable(buffer, header.random, offset, expected);
                let Some((found, number)) = find_entry(&buffer.bytes, header.random, offset, expected, limit)
                else {
                    break;
                };
                self.pass_to(number, || format!("entry {expected} in {name} at byte {offset} is damaged"));
                offset = found;
                expected = number;
                continue;
            };
            self.entry(&entry, offset, replay)?;
            offset += entry.size();
            expected += 1;
        }
        Ok(())
    }

    /// A bad entry on a page that cannot be read might have been anything: that is no torn end.
    fn note_unreadable(&mut self, buffer: &SegmentBytes, random: u64, offset: usize, expected: u64) {
        let mut range = offset..offset + ENTRY_HEADER_BYTES;
        let header = buffer.bytes.get(range.clone());
        if let Some(header) = header.and_then(|bytes| bytes.first_chunk::<ENTRY_HEADER_BYTES>())
            && header[8..16] == random.to_le_bytes()
        {
            range.end = offset + size_of_payload(payload_length(header).unwrap_or(0));
        }
        if buffer.is_unreadable(&range) && self.mark.entry < expected && self.hole.is_none() {
            self.hole = Some((expected, format!("entry {expected} cannot be read")));
            self.is_hole_damage = true;
        }
    }

    /// The chain goes on with `number`; what it should have had before is damaged.
    fn pass_to(&mut self, number: u64, reason: impl FnOnce() -> String) {
        let first_not_in_base = self.next.max(self.mark.entry + 1);
        self.damaged += number.min(first_not_in_base).saturating_sub(self.next);
        self.go_on_with(number, reason);
    }

    /// The chain goes on with `number`; what it should have had before is missing. What the base holds may be: its segment was
    /// released, and names go in any order when the power is cut.
    fn go_on_with(&mut self, number: u64, reason: impl FnOnce() -> String) {
        if number <= self.next {
            return;
        }
        let first_not_in_base = self.next.max(self.mark.entry + 1);
        if first_not_in_base < number && self.hole.is_none() {
            self.hole = Some((first_not_in_base, reason()));
        }
        self.next = number;
    }

    fn prove(&mut self, entry: u64) {
        self.proven = self.proven.max(entry);
        while self.tail.front().is_some_and(|(number, ..)| *number <= entry) {
            self.tail.pop_front();
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, offset: usize, replay: &mut Replay<'_>) -> Result<(), OpenError> {
        self.prove(entry.synced);
        self.next = entry.number + 1;
        let end = (offset + entry.size()) as u64;
        let is_in_base = entry.number <= self.mark.entry;
        if self.hole.is_none()
            && let Some(segment) = self.segments.last_mut()
        {
            segment.last = entry.number;
            segment.end = end;
            if is_in_base {
                segment.unfolded = (entry.number + 1, end);
            } else if segment.unfolded.0 < entry.number {
                // What the base lacks begins here: bad entries before this one are in the base.
                segment.unfolded = match segment.unfolded {
                    (first, _) if first <= self.mark.entry => (entry.number, offset as u64),
                    unfolded => unfolded,
                };
            }
        }
        if is_in_base {
            return Ok(());
        }
        let malformed = |_| OpenError::Malformed { entry: entry.number };
        let content = entry.content().map_err(malformed)?;
        if self.hole.is_some() {
            return self.behind_hole(&content).map_err(malformed);
        }
        content.visit(replay).map_err(malformed)?;
        self.last.entry = entry.number;
        if let Content::Frame { head, .. } = &content {
            self.last = Mark { entry: entry.number, epoch: head.epoch(), view: head.view, time: head.time() };
        }
        if self.proven < entry.number {
            self.tail.push_back((entry.number, entry.kind, entry.payload.to_vec()));
        }
        self.unfolded_bytes += entry.size() as u64;
        Ok(())
    }

    fn behind_hole(&mut self, content: &Content<'_>) -> Result<(), crate::epoch::frame::MalformedFrame> {
        match content {
            Content::Frame { head, .. } => {
                self.epoch_behind_hole = self.epoch_behind_hole.max(Some(head.epoch()));
                Ok(())
            }
            Content::SessionRecords { .. } => content.visit(|key, value| {
                let value = value.unwrap_or_default().to_vec();
                self.salvage.insert(key.to_vec(), value);
            }),
        }
    }

    fn finish(mut self, replay: &mut Replay<'_>) -> Scan {
        if self.next <= self.mark.entry && self.hole.is_none() {
            let found = self.next - 1;
            let mark = self.mark.entry;
            self.hole = Some((
                mark + 1,
                format!("the log ends at entry {found}, the base says that entry {mark} had been synced"),
            ));
            self.is_hole_damage = true;
        }
        let is_corrupt =
            self.hole.as_ref().is_some_and(|(entry, _)| self.is_hole_damage || *entry <= self.proven);
        let hole = self.hole.take().filter(|_| is_corrupt);
        let lost = hole.map(|(_, reason)| {
            let first = self.last.epoch.next();
            Degraded::new(first, self.epoch_behind_hole.unwrap_or(first), reason)
        });
        if lost.is_some() {
            for (key, value) in &self.salvage {
                replay(key, (!value.is_empty()).then_some(value));
            }
        } else {
            self.salvage.clear();
        }
        Scan {
            proven: self.proven.min(self.last.entry),
            last: self.last,
            tail: self.tail,
            salvage: self.salvage,
            lost,
            segments: self.segments,
            unfolded_bytes: self.unfolded_bytes,
            damaged: self.damaged,
        }
    }
}

/// The next whole entry behind a bad one at `offset`: its place and number.
fn find_entry(bytes: &[u8], random: u64, offset: usize, expected: u64, limit: u64) -> Option<(usize, u64)> {
    (offset..bytes.len()).step_by(ENTRY_ALIGNMENT).skip(1).find_map(|place| {
        let entry = Entry::decode(&bytes[place..], random)?;
        (expected < entry.number && entry.number <= limit).then_some((place, entry.number))
    })
}
