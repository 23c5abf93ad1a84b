//! How does a worker speak to another? Over one FIFO channel per ordered pair, with credit, never blocking.
//!
//! A message that finds no credit waits with its sender (*unsent*). At the cut the sender's section puts what waits, so barriers,
//! which need no credit, overtake it; it is deleted in the epoch in which it is handed to the channel. Credit is counted in bytes and
//! given by the receiver where it has room, at a start too; between its own cut and the channel's barrier not at all.

use std::collections::VecDeque;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::key_group::KeyGroup;
use crate::message::Message;
use crate::state::key::Key;
use crate::state::value::{Letter, encode_unsent};

use super::io::{ChannelItem, WorkerIndex};
use super::mailbox::heap_bytes;

/// Both directions between this worker and one other.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) peer: WorkerIndex,
    /// What goes out at the next drain, in order.
    outgoing: Vec<ChannelItem>,
    /// What waits for credit, in order.
    unsent: VecDeque<Unsent>,
    /// Bytes that may still be sent; below zero by at most one message.
    credit: i64,
    /// Bytes of the channel that are not given as credit: at a start all, then those of what was taken.
    owed: u32,
    /// Between our cut and this channel's barrier: what comes belongs to the epoch that was cut.
    awaits_barrier: bool,
}

/// A message that waits for credit.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// Its identity: the sender's group and a number of that group.
    pub(crate) group: KeyGroup,
    pub(crate) number: u64,
    /// The epoch whose frame holds it; 0 if none does yet.
    pub(crate) persisted: Epoch,
    pub(crate) message: Message,
}

impl Channel {
    pub(crate) fn new(peer: WorkerIndex, capacity_bytes: u32) -> Self {
        Self {
            peer,
            outgoing: Vec::new(),
            unsent: VecDeque::new(),
            credit: 0,
            owed: capacity_bytes,
            awaits_barrier: false,
        }
    }

    /// Sends a message if there is credit and nothing waits before it.
    ///
    /// # Errors
    /// Gives the message back; it must wait ([`wait`](Self::wait)).
    #[expect(clippy::result_large_err, reason = "the message moves on to the queue of those that wait")]
    pub(crate) fn try_send(&mut self, message: Message) -> Result<(), Message> {
        if !self.unsent.is_empty() || self.credit <= 0 {
            return Err(message);
        }
        self.hand_over(message);
        Ok(())
    }

    /// Lets a message wait behind those that wait.
    pub(crate) fn wait(&mut self, unsent: Unsent) {
        self.unsent.push_back(unsent);
    }

    /// Hands over what credit allows of what waits; `handed` hears of each.
    pub(crate) fn hand_over_waiting(&mut self, mut handed: impl FnMut(&Unsent)) {
        while 0 < self.credit {
            let Some(unsent) = self.unsent.pop_front() else {
                return;
            };
            handed(&unsent);
            self.hand_over(unsent.message);
        }
    }

    /// Puts what waits and is in no frame yet; `put` hears the group of each.
    pub(crate) fn cut(&mut self, epoch: Epoch, frame: &mut FrameBuilder, mut put: impl FnMut(KeyGroup)) {
        for unsent in self.unsent.iter_mut().filter(|unsent| unsent.persisted == Epoch(0)) {
            let key = Key::Unsent { group: unsent.group, number: unsent.number };
            let (target, letter) = split(unsent.message.clone());
            frame.put(&key, |out| encode_unsent(&target, &letter, out));
            unsent.persisted = epoch;
            put(unsent.group);
        }
    }

    /// Sends the barrier, before everything that waits.
    pub(crate) fn send_barrier(&mut self, epoch: Epoch) {
        self.outgoing.push(ChannelItem::Barrier(epoch));
        self.awaits_barrier = true;
    }

    /// The peer's barrier has come.
    pub(crate) fn end_barrier(&mut self) {
        self.awaits_barrier = false;
    }

    pub(crate) fn awaits_barrier(&self) -> bool {
        self.awaits_barrier
    }

    /// Notes a message taken; it is owed back as credit.
    pub(crate) fn take(&mut self, message: &Message) {
        self.owed = self.owed.saturating_add(credit_of(message));
    }

    /// Gives what is owed if there is room and it is worth an item.
    pub(crate) fn give(&mut self, capacity_bytes: u32) {
        if !self.awaits_barrier && capacity_bytes / 4 < self.owed {
            self.outgoing.push(ChannelItem::Credit(std::mem::take(&mut self.owed)));
        }
    }

    /// The peer gives credit.
    pub(crate) fn add_credit(&mut self, bytes: u32) {
        self.credit += i64::from(bytes);
    }

    pub(crate) fn unsent_count(&self) -> usize {
        self.unsent.len()
    }

    /// What goes out now.
    pub(crate) fn take_outgoing(&mut self) -> Option<Vec<ChannelItem>> {
        (!self.outgoing.is_empty()).then(|| std::mem::take(&mut self.outgoing))
    }

    fn hand_over(&mut self, message: Message) {
        self.credit -= i64::from(credit_of(&message));
        self.outgoing.push(ChannelItem::Message(message));
    }
}

/// What a message costs in credit: about its bytes of memory.
pub(crate) fn credit_of(message: &Message) -> u32 {
    let heap = heap_bytes(&message.argument, message.headers.as_deref());
    u32::try_from(size_of::<Message>() + heap).unwrap_or(u32::MAX)
}

/// Takes a message apart into where and what.
pub(crate) fn split(message: Message) -> (Address, Letter) {
    let Message { target, caller, argument, headers } = message;
    (target, Letter { caller, argument, headers })
}

/// Puts a message together.
pub(crate) fn join(target: Address, letter: Letter) -> Message {
    let Letter { caller, argument, headers } = letter;
    Message { target, caller, argument, headers }
}
