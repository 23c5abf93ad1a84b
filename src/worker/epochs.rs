//! How does a worker take part in an epoch? It cuts at the first sign, freezes what must outlive the epoch, and waits for nobody.
//!
//! ```text
//! working e ──cut──▶ working e+1
//!                    in flight e: gathering ──every channel's barrier──▶ complete ──frame durable──▶ committed
//! ```
//! - The first barrier of epoch e makes a worker cut e before it handles anything else of that channel; it also tells it that e−1 is
//!   committed, for at most one epoch is in flight.
//! - What comes on a channel after the cut and before the channel's barrier is processed now, in e+1, *and* put into e as waiting.
//! - An arrival counter is put with its value when the section is complete, for letters that are put late have numbers too.

use embassy_time::Instant;

use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::message::Message;
use crate::mqtt::session::SessionInput;
use crate::state::key::Key;
use crate::state::value::{encode_counter, encode_letter};
use crate::store::BaseRead;

use super::channel::{credit_of, split};
use super::io::WorkerOutput;
use super::mailbox::Waiting;
use super::{GroupSet, HTTP_TYPE, Notes, SESSION_TYPE, Worker};

/// Which epochs a worker is concerned with.
#[derive(Debug)]
pub(crate) struct Epochs {
    pub(crate) working: Epoch,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) committed: Epoch,
    /// The last epoch that the base holds, as far as we were told.
    pub(crate) folded: Epoch,
    /// A builder's memory, kept for the next cut.
    spare: FrameBuilder,
}

/// An epoch that was cut and is not yet committed.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) epoch: Epoch,
    /// What the worker's section will hold; late letters are added until every barrier has come.
    frame: FrameBuilder,
    /// Groups whose arrival number it must carry.
    arrivals_used: GroupSet,
    is_complete: bool,
}

impl Epochs {
    pub(crate) fn after(committed: Epoch) -> Self {
        Self {
            working: committed.next(),
            in_flight: None,
            committed,
            folded: Epoch(0),
            spare: FrameBuilder::default(),
        }
    }
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Ends the working epoch. `barrier_from` is the channel whose barrier asked for it; `None` if the node did.
    pub(crate) fn cut(&mut self, now: Instant, epoch: Epoch, barrier_from: Option<usize>) {
        assert_eq!(epoch, self.epochs.working, "a cut of an epoch that is not worked in");
        if let Some(in_flight) = &self.epochs.in_flight {
            assert!(in_flight.is_complete, "a cut while the epoch before still gathers");
            let before = in_flight.epoch;
            self.handle_committed(now, before);
        }
        // Whatever sessions still had to say belongs to this epoch.
        self.drain_sessions(now);
        self.freeze(epoch);
        self.notes.cut();
        self.epochs.working = epoch.next();
        self.activity.first_effect = None;
        self.account.begin_epoch();
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.send_barrier(epoch);
            if barrier_from == Some(at) {
                channel.end_barrier();
            }
        }
        // Progress that hides what the frame deletes goes into the log in front of it.
        self.drain_sessions(now);
        self.complete_if_gathered();
    }

    /// A channel's barrier has come.
    pub(crate) fn handle_barrier(&mut self, now: Instant, channel: usize, epoch: Epoch) {
        if epoch == self.epochs.working {
            self.cut(now, epoch, Some(channel));
            return;
        }
        let in_flight = self.epochs.in_flight.as_ref().map(|in_flight| in_flight.epoch);
        assert_eq!(in_flight, Some(epoch), "a barrier of an epoch that is neither worked in nor in flight");
        self.channels[channel].end_barrier();
        self.complete_if_gathered();
    }

    /// Takes a message from a channel: now, and into the epoch in flight if it was sent before the channel's barrier.
    pub(crate) fn take_from_channel(&mut self, now: Instant, channel: usize, message: Message) {
        self.mark_dirty(now);
        let late = self.channels[channel].awaits_barrier();
        if *message.target.function_type() == HTTP_TYPE {
            self.reply_over_http(&message.target, message.argument);
            return;
        }
        let group = message.target.key_group();
        let arrival = self.next_arrival(group);
        self.account.add_dirty(credit_of(&message) as usize);
        if *message.target.function_type() == SESSION_TYPE {
            if late {
                self.put_late(&message, arrival);
                self.delete_letter(&message, arrival);
            }
            self.deliver_to_session(now, message, Some(arrival));
            return;
        }
        let (target, letter) = split(message);
        let at = self.enqueue(&target, Waiting { arrival, persisted: Epoch(0), letter });
        if let (true, Some(in_flight)) = (late, &mut self.epochs.in_flight) {
            let instance = self.instances.at(at);
            instance.mailbox.put_newest(&instance.address, in_flight.epoch, &mut in_flight.frame);
            in_flight.arrivals_used.insert(group);
        }
    }

    /// The epoch is durable: sessions may publish and acknowledge, answers may go out.
    pub(crate) fn handle_committed(&mut self, now: Instant, epoch: Epoch) {
        if self.epochs.in_flight.as_ref().is_none_or(|in_flight| in_flight.epoch != epoch) {
            return; // A barrier of the next epoch told us before the node did.
        }
        if let Some(in_flight) = self.epochs.in_flight.take() {
            assert!(in_flight.is_complete, "committed without our section");
            self.epochs.spare = in_flight.frame;
        }
        self.epochs.committed = epoch;
        self.notes.committed();
        self.operations.committed(epoch);
        self.begin_operations();
        self.keep_promises(epoch);
        for at in 0..self.sessions.len() {
            self.sessions[at].session.handle_input(now, SessionInput::Committed { epoch });
            self.drain_session(now, at);
        }
        let outputs = &mut self.outputs;
        self.answers.retain(|(awaited, request, reply)| {
            if *awaited <= epoch {
                outputs.push_back(WorkerOutput::Admin { request: *request, reply: reply.clone() });
            }
            epoch < *awaited
        });
    }

    /// Gathers what must outlive the epoch.
    fn freeze(&mut self, epoch: Epoch) {
        let spare = std::mem::take(&mut self.epochs.spare);
        let mut frame = std::mem::replace(&mut self.frame, spare);
        let mut used = std::mem::take(&mut self.arrivals_used);
        for at in self.touched.drain(..) {
            let instance = self.instances.at(at);
            instance.states.cut(&instance.address, &mut frame);
            if instance.mailbox.cut(&instance.address, epoch, &mut frame) {
                used.insert(instance.group);
            }
        }
        for channel in &mut self.channels {
            channel.cut(epoch, &mut frame, |group| used.insert(group));
        }
        self.delayed.cut(epoch, &mut frame, |group| used.insert(group));
        self.operations.cut(epoch, &mut frame, |group| used.insert(group));
        self.overlay.cut(&mut frame);
        for owned in &mut self.sessions {
            owned.session.cut(epoch, &mut frame);
        }
        self.epochs.in_flight = Some(InFlight { epoch, frame, arrivals_used: used, is_complete: false });
    }

    fn complete_if_gathered(&mut self) {
        if self.channels.iter().any(super::channel::Channel::awaits_barrier) {
            return;
        }
        let Some(in_flight) = &mut self.epochs.in_flight else {
            return;
        };
        for group in in_flight.arrivals_used.iter() {
            let next = self.arrivals[group.index()];
            in_flight.frame.put(&Key::Counter { group }, |out| encode_counter(next, out));
        }
        in_flight.is_complete = true;
        let mut sections = Vec::with_capacity(in_flight.frame.byte_count() + SECTIONS_OVERHEAD_BYTES);
        in_flight.frame.finish(&mut sections);
        self.outputs.push_back(WorkerOutput::Section { epoch: in_flight.epoch, sections });
    }

    fn put_late(&mut self, message: &Message, arrival: u64) {
        let Some(in_flight) = &mut self.epochs.in_flight else {
            return;
        };
        let (target, letter) = split(message.clone());
        let (id, function_type) = (target.id(), target.function_type().as_str());
        let key = Key::Mailbox { id, function_type, arrival };
        in_flight.frame.put(&key, |out| encode_letter(&letter, out));
        in_flight.arrivals_used.insert(target.key_group());
    }

    /// Deletes a letter that a frame holds and that is consumed in the working epoch.
    pub(crate) fn delete_letter(&mut self, message: &Message, arrival: u64) {
        let (id, function_type) = (message.target.id(), message.target.function_type().as_str());
        self.frame.delete(&Key::Mailbox { id, function_type, arrival });
    }
}

/// Room for the heads of sections and records.
const SECTIONS_OVERHEAD_BYTES: usize = 1024;
