//! What is to be said later? Delayed messages, under their sender, in order of time and then of asking.
//!
//! A token names one of them among those of the sender's *id* (StateFun's scope: two types with one id share it). All that wait
//! are in memory and on its account; what does not fit makes the sender's invocation wait.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use smol_str::SmolStr;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::key_group::KeyGroup;
use crate::state::key::Key;
use crate::state::value::{Letter, encode_delayed};

/// The delayed messages of one worker.
#[derive(Default, Debug)]
pub(crate) struct DelayedMessages {
    waiting: BTreeMap<Place, Delayed>,
    tokens: HashMap<(SmolStr, SmolStr), Place, FixedState>,
    /// Those that no frame holds yet.
    fresh: Vec<Place>,
}

/// Order of firing: time, then order of asking within the sender's group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) due_ms: u64,
    pub(crate) number: u64,
    pub(crate) group: KeyGroup,
}

/// One delayed message.
#[derive(Debug)]
pub(crate) struct Delayed {
    pub(crate) sender: Address,
    pub(crate) target: Address,
    pub(crate) letter: Letter,
    pub(crate) token: Option<SmolStr>,
    /// The epoch whose frame holds it; 0 if none does yet.
    pub(crate) persisted: Epoch,
}

impl DelayedMessages {
    /// Adds one.
    pub(crate) fn insert(&mut self, place: Place, delayed: Delayed) {
        if let Some(token) = &delayed.token {
            self.tokens.insert((delayed.sender.id().into(), token.clone()), place);
        }
        if delayed.persisted == Epoch(0) {
            self.fresh.push(place);
        }
        self.waiting.insert(place, delayed);
    }

    /// Does a message with this token of this id wait?
    pub(crate) fn holds_token(&self, id: &str, token: &str) -> bool {
        self.tokens.contains_key(&(id.into(), token.into()))
    }

    /// Cancels what waits under a token.
    pub(crate) fn cancel(&mut self, id: &str, token: &str) -> Option<(Place, Delayed)> {
        let place = *self.tokens.get(&(id.into(), token.into()))?;
        Some((place, self.remove(place)?))
    }

    /// Takes the first that is due.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<(Place, Delayed)> {
        let (&place, _) = self.waiting.first_key_value()?;
        if now_ms < place.due_ms {
            return None;
        }
        Some((place, self.remove(place)?))
    }

    /// Removes one that the log says is gone.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Delayed> {
        let delayed = self.waiting.remove(&place)?;
        if let Some(token) = &delayed.token {
            self.tokens.remove(&(delayed.sender.id().into(), token.clone()));
        }
        Some(delayed)
    }

    /// When the first is due.
    pub(crate) fn first_due_ms(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(place, _)| place.due_ms)
    }

    /// Puts those that no frame holds yet; `put` hears the group of each.
    pub(crate) fn cut(&mut self, epoch: Epoch, frame: &mut FrameBuilder, mut put: impl FnMut(KeyGroup)) {
        for place in self.fresh.drain(..) {
            // One that fired or was cancelled in the epoch in which it was asked for leaves nothing behind.
            let Some(delayed) = self.waiting.get_mut(&place) else {
                continue;
            };
            let Delayed { sender, target, letter, token, persisted } = delayed;
            frame.put(&place.key(sender), |out| encode_delayed(target, letter, token.as_deref(), out));
            *persisted = epoch;
            put(place.group);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }
}

impl Place {
    pub(crate) fn key<'a>(&self, sender: &'a Address) -> Key<'a> {
        Key::Delayed {
            due_ms: self.due_ms,
            id: sender.id(),
            function_type: sender.function_type().as_str(),
            number: self.number,
        }
    }
}

impl Delayed {
    /// Bytes of memory that it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        2 * size_of::<Self>() + self.letter.heap_bytes()
    }
}
