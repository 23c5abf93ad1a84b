//! Was it the same run? A hash over everything that happened and, if somebody wants to read it, the last of it in words.
//!
//! What is hashed is spelt out field by field: numbers as eight bytes in little-endian order, lengths before bytes. So the hash is
//! the same in every build and on every machine with words of 64 bits, and costs a copy of the bytes that travel, not their
//! formatting. Only what people ask (which travels seldom) is hashed as its text.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use embassy_time::Instant;

use super::Event;
use crate::message::Message;
use crate::mqtt::session::SessionInput;
use crate::node::NodeInput;
use crate::sim::broker::BrokerInput;
use crate::store::{StoreCommand, StoreEvent};
use crate::worker::io::{ChannelItem, WorkerInput};

/// Keeps the last events of a run in words; clones are the same recorder, so that it outlives a run that panics.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Rc<RefCell<VecDeque<String>>>);

impl Recorder {
    /// The last events, the oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().iter().cloned().collect()
    }

    fn add(&self, now: Instant, what: &dyn fmt::Debug) {
        let mut line = format!("{:>12} us  {what:?}", now.as_ticks());
        if let Some((end, _)) = line.char_indices().nth(LINE_CHARACTERS_MAX) {
            line.truncate(end);
            line.push('…');
        }
        let mut lines = self.0.borrow_mut();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// The hash, and the recorder if there is one.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    scratch: Scratch,
    pub(super) recorder: Option<Recorder>,
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn note(&mut self, now: Instant, event: &Event) {
        self.scratch.0.clear();
        self.scratch.number(now.as_ticks());
        self.scratch.event(event);
        self.hash = xxhash_rust::xxh3::xxh3_64_with_seed(&self.scratch.0, self.hash);
        if let Some(recorder) = self.recorder.as_ref().filter(|_| is_worth_reading(event)) {
            recorder.add(now, event);
        }
    }

    /// Something that is no event, for whoever reads.
    pub(super) fn remark(&self, now: Instant, what: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.add(now, &format_args!("--- {what}"));
        }
    }
}

/// Not that a worker goes on, that somebody asks how it is, or a ping.
fn is_worth_reading(event: &Event) -> bool {
    match event {
        Event::Run { .. } | Event::Worker { input: WorkerInput::Admin { .. }, .. } => false,
        Event::Broker(BrokerInput::Received { bytes, .. }) | Event::FromBroker { bytes, .. } => {
            PING_BYTES < bytes.len()
        }
        _ => true,
    }
}

/// What the next step of the hash is made of.
#[derive(Debug, Default)]
struct Scratch(Vec<u8>);

impl Scratch {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Start => self.number(0),
            Event::Worker { start, worker, input } => {
                self.numbers([1, *start, worker.0 as u64]);
                self.worker(input);
            }
            Event::Run { start, worker } => self.numbers([2, *start, worker.0 as u64]),
            Event::Node { start, input } => {
                self.numbers([3, *start]);
                self.node(input);
            }
            Event::Store { start, command } => {
                let command = match command {
                    StoreCommand::Append(entries) => 3 + entries.len() as u64,
                    StoreCommand::Rewrite => 1,
                    StoreCommand::Fold => 2,
                };
                self.numbers([4, *start, command]);
            }
            Event::Broker(BrokerInput::Received { connection, bytes }) => {
                self.numbers([5, *connection]);
                self.bytes(bytes);
            }
            Event::Broker(BrokerInput::Accepted { connection }) => self.numbers([6, *connection]),
            Event::Broker(BrokerInput::Closed { connection }) => self.numbers([7, *connection]),
            Event::Broker(BrokerInput::Restart { persistent }) => self.numbers([8, u64::from(*persistent)]),
            Event::FromBroker { link, bytes } => {
                self.numbers([9, *link]);
                self.bytes(bytes);
            }
            Event::BrokerClosed { link } => self.numbers([10, *link]),
        }
    }

    fn worker(&mut self, input: &WorkerInput) {
        match input {
            WorkerInput::Channel { from, items } => {
                self.numbers([0, from.0 as u64, items.len() as u64]);
                for item in items {
                    match item {
                        ChannelItem::Message(message) => self.message(message),
                        ChannelItem::Barrier(epoch) => self.numbers([1, epoch.0]),
                        ChannelItem::Credit(bytes) => self.numbers([2, u64::from(*bytes)]),
                    }
                }
            }
            WorkerInput::Cut { epoch } => self.numbers([1, epoch.0]),
            WorkerInput::Committed { epoch } => self.numbers([2, epoch.0]),
            WorkerInput::Folded { epoch } => self.numbers([3, epoch.0]),
            WorkerInput::Synced { session, record } => self.numbers([4, session.0 as u64, *record]),
            WorkerInput::Session { session, input: SessionInput::Received { connection, bytes } } => {
                self.numbers([5, session.0 as u64, connection.0]);
                self.bytes(bytes);
            }
            other => self.text(other),
        }
    }

    fn message(&mut self, message: &Message) {
        self.number(0);
        self.bytes(message.target.function_type().as_str().as_bytes());
        self.bytes(message.target.id().as_bytes());
        self.bytes(message.argument.typename.as_bytes());
        self.bytes(message.argument.bytes());
    }

    fn node(&mut self, input: &NodeInput) {
        match input {
            NodeInput::Activity { worker, activity } => {
                let first = activity.first_effect.map_or(u64::MAX, |at| at.as_ticks());
                let is = [activity.runnable, activity.urgent, activity.delayed];
                self.numbers([
                    0,
                    worker.0 as u64,
                    first,
                    activity.sent,
                    activity.handled,
                    activity.working.0,
                ]);
                self.numbers(is.map(u64::from));
            }
            NodeInput::Section { worker, epoch, sections } => {
                self.numbers([1, worker.0 as u64, epoch.0]);
                self.bytes(sections);
            }
            NodeInput::Record { worker, session, number, deadline, key, value } => {
                self.numbers([2, worker.0 as u64, session.0 as u64, *number, deadline.as_ticks()]);
                self.bytes(key);
                self.bytes(value);
            }
            NodeInput::Store(StoreEvent::Appended { fold_due }) => self.numbers([3, u64::from(*fold_due)]),
            other => self.text(other),
        }
    }

    fn numbers<const COUNT: usize>(&mut self, numbers: [u64; COUNT]) {
        for number in numbers {
            self.number(number);
        }
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, what: &dyn fmt::Debug) {
        self.bytes(format!("{what:?}").as_bytes());
    }
}

/// Bytes of a PINGREQ or PINGRESP.
const PING_BYTES: usize = 2;
/// Events that a recorder keeps.
const LINES_MAX: usize = 60;
/// Characters of one of them; the rest is left out.
const LINE_CHARACTERS_MAX: usize = 240;
