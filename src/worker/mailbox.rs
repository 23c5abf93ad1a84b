//! What waits for an address? Its letters in the order in which they arrived, the oldest in memory, a long tail in the base.
//!
//! ```text
//! front (memory) │ spilled (base only, arrival numbers from..=to) │ back (memory)
//! ```
//! Every arrival number in `front` is below those spilled, those below every one in `back`. A letter may be spilled when the base
//! holds the epoch that put it. Letters are consumed in order only, so what the base still holds of the consumed ones is a prefix.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::message::Headers;
use crate::state::key::{Key, Kind, address_prefix};
use crate::state::value::{Letter, decode_letter, encode_letter};
use crate::store::{BaseError, BaseRead};
use crate::typed_value::TypedValue;

use super::REPLAYED;

/// The letters of one address.
#[derive(Default, Debug)]
pub(crate) struct Mailbox {
    front: VecDeque<Waiting>,
    spilled: Option<Spilled>,
    back: VecDeque<Waiting>,
    memory_bytes: usize,
}

/// A letter that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Its number in its key group; the second half of its identity.
    pub(crate) arrival: u64,
    /// The epoch whose frame holds it; 0 if none does yet.
    pub(crate) persisted: Epoch,
    pub(crate) letter: Letter,
}

#[derive(Debug, Clone, Copy)]
struct Spilled {
    from: u64,
    to: u64,
    count: u64,
}

impl Mailbox {
    /// Adds a letter at the end.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        let end = if self.spilled.is_none() { &mut self.front } else { &mut self.back };
        debug_assert!(end.back().is_none_or(|last| last.arrival < waiting.arrival));
        self.memory_bytes += waiting.memory_bytes();
        end.push_back(waiting);
    }

    /// The oldest letter, read from the base if need be.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub(crate) fn first<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
        page_bytes: usize,
    ) -> Result<Option<&Waiting>, BaseError> {
        if self.front.is_empty() && self.spilled.is_some() {
            self.read_page(address, base, page_bytes)?;
        }
        Ok(self.front.front())
    }

    /// The letters at the front that are in memory, the oldest first.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &Waiting> {
        self.front.iter()
    }

    /// Takes the letter that [`first`](Self::first) showed.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.front.pop_front()?;
        self.memory_bytes -= waiting.memory_bytes();
        Some(waiting)
    }

    /// Puts every letter that no frame holds yet; says whether there were any.
    pub(crate) fn cut(&mut self, address: &Address, epoch: Epoch, frame: &mut FrameBuilder) -> bool {
        let mut any = false;
        for waiting in self.front.iter_mut().chain(&mut self.back) {
            if waiting.persisted == Epoch(0) {
                put(address, waiting, epoch, frame);
                any = true;
            }
        }
        any
    }

    /// Puts the newest letter into the frame of an epoch that was cut before it came.
    pub(crate) fn put_newest(&mut self, address: &Address, epoch: Epoch, frame: &mut FrameBuilder) {
        let newest = if self.back.is_empty() { self.front.back_mut() } else { self.back.back_mut() };
        if let Some(waiting) = newest {
            put(address, waiting, epoch, frame);
        }
    }

    /// Drops from memory what the base holds, but for the first `keep` letters.
    pub(crate) fn spill(&mut self, folded: Epoch, keep: usize) {
        let (mut freed, mut from, mut to, mut count) = (0, u64::MAX, 0, 0);
        let mut evict = |waiting: &Waiting| {
            freed += waiting.memory_bytes();
            from = from.min(waiting.arrival);
            to = to.max(waiting.arrival);
            count += 1;
        };
        let is_held = |waiting: &Waiting| waiting.persisted != Epoch(0) && waiting.persisted <= folded;
        // From `front` only a tail may go: it stands before whatever is spilled already, and before `back`.
        while keep < self.front.len() && self.front.back().is_some_and(is_held) {
            if let Some(waiting) = self.front.pop_back() {
                evict(&waiting);
            }
        }
        while self.spilled.is_some() && self.back.front().is_some_and(is_held) {
            if let Some(waiting) = self.back.pop_front() {
                evict(&waiting);
            }
        }
        if 0 < count {
            let old = self.spilled.unwrap_or(Spilled { from, to, count: 0 });
            self.spilled =
                Some(Spilled { from: old.from.min(from), to: old.to.max(to), count: old.count + count });
        }
        self.memory_bytes -= freed;
    }

    /// At start: the base holds a letter with this number; those before it were told already. Says whether it is left there, and
    /// gives what the log repeats of it. It is not left there if the log holds an older one that the base lacks: a letter put late
    /// may be in the base before one that stands in front of it.
    pub(crate) fn leave_in_base(&mut self, arrival: u64) -> (bool, Option<Waiting>) {
        match self.front.front() {
            Some(first) if first.arrival < arrival => (false, None),
            Some(first) if first.arrival == arrival => (true, self.pop()),
            Some(_) | None => (true, None),
        }
    }

    /// At start: the base holds `count` letters with numbers `from..=to`, all older than what memory holds.
    pub(crate) fn adopt_spilled(&mut self, from: u64, to: u64, count: u64) {
        debug_assert!(self.spilled.is_none() && self.back.is_empty());
        debug_assert!(self.front.front().is_none_or(|first| to < first.arrival));
        self.back = std::mem::take(&mut self.front);
        self.spilled = Some(Spilled { from, to, count });
    }

    /// Adds a letter that the log put, in order of arrival; says whether it is new. Letters put late stand behind younger ones in
    /// the log.
    pub(crate) fn replay_put(&mut self, waiting: Waiting) -> bool {
        match self.front.binary_search_by_key(&waiting.arrival, |other| other.arrival) {
            Ok(_) => false,
            Err(at) => {
                self.memory_bytes += waiting.memory_bytes();
                self.front.insert(at, waiting);
                true
            }
        }
    }

    /// Removes a letter that the log says was consumed.
    pub(crate) fn replay_delete(&mut self, arrival: u64) -> Option<Waiting> {
        let at = self.front.binary_search_by_key(&arrival, |waiting| waiting.arrival).ok()?;
        let waiting = self.front.remove(at)?;
        self.memory_bytes -= waiting.memory_bytes();
        Some(waiting)
    }

    /// Bytes of memory that its letters take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Letters that wait, wherever they are.
    pub(crate) fn count(&self) -> u64 {
        (self.front.len() + self.back.len()) as u64 + self.spilled_count()
    }

    /// Letters that wait in the base only.
    pub(crate) fn spilled_count(&self) -> u64 {
        self.spilled.map_or(0, |spilled| spilled.count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.spilled.is_none() && self.back.is_empty()
    }

    fn read_page<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
        page_bytes: usize,
    ) -> Result<(), BaseError> {
        let Some(spilled) = self.spilled else {
            return Ok(());
        };
        let prefix = address_prefix(Kind::Mailbox, address, None);
        let mut from = prefix.clone();
        from.extend_from_slice(&spilled.from.to_be_bytes());
        let (mut damage, mut last) = (Ok(()), spilled.from);
        let Self { front, memory_bytes, .. } = self;
        let mut bytes = 0;
        let mut ended = true;
        base.seek(&from, &mut |key, value| {
            let arrival = match Key::decode(key) {
                Some(Key::Mailbox { arrival, .. }) if key.starts_with(&prefix) => arrival,
                _ => return ControlFlow::Break(()),
            };
            if spilled.to < arrival {
                return ControlFlow::Break(());
            }
            if PAGE_LETTERS <= front.len() || page_bytes <= bytes {
                ended = false;
                return ControlFlow::Break(());
            }
            let Some(letter) = decode_letter(value) else {
                damage = Err(BaseError::Damaged { key: key.escape_ascii().to_string() });
                return ControlFlow::Break(());
            };
            last = arrival;
            let waiting = Waiting { arrival, persisted: REPLAYED, letter };
            bytes += waiting.memory_bytes();
            *memory_bytes += waiting.memory_bytes();
            front.push_back(waiting);
            ControlFlow::Continue(())
        })?;
        damage?;
        if ended || spilled.count <= front.len() as u64 {
            self.spilled = None;
            self.front.append(&mut self.back);
        } else {
            let count = spilled.count - front.len() as u64;
            self.spilled = Some(Spilled { from: last + 1, to: spilled.to, count });
        }
        Ok(())
    }
}

impl Waiting {
    /// Bytes of memory that it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.letter.heap_bytes()
    }
}

impl Letter {
    /// Bytes beside the letter itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        heap_bytes(&self.argument, self.headers.as_deref())
    }
}

/// Bytes of a message or letter beside itself.
pub(crate) fn heap_bytes(argument: &TypedValue, headers: Option<&Headers>) -> usize {
    let of_headers = headers.map_or(0, |headers| {
        headers.iter().map(|(name, value)| HEADER_BYTES + name.len() + value.len()).sum()
    });
    of_headers + argument.heap_bytes()
}

fn put(address: &Address, waiting: &mut Waiting, epoch: Epoch, frame: &mut FrameBuilder) {
    let (id, function_type) = (address.id(), address.function_type().as_str());
    let key = Key::Mailbox { id, function_type, arrival: waiting.arrival };
    frame.put(&key, |out| encode_letter(&waiting.letter, out));
    waiting.persisted = epoch;
}

/// Letters read from the base at a time.
const PAGE_LETTERS: usize = 64;
/// What a header costs beside its name and value.
const HEADER_BYTES: usize = 64;
