//! What do both directions of a session share? The bytes to send, the outputs, and the numbers of its records.

use std::collections::VecDeque;

use bytes::BytesMut;
use embassy_time::{Duration, Instant};

use super::codec::{self, Packet, PublishRef};
use super::config::Protocol;
use super::io::{ConnectionNumber, SessionEvent, SessionOutput};
use super::progress::{Mark, Progress};
use crate::state::key::{Direction, Key};

/// The way out of a session.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) protocol: Protocol,
    /// The connection on which CONNACK has come, if there is one.
    pub(super) connection: Option<ConnectionNumber>,
    pub(super) outputs: VecDeque<SessionOutput>,
    pub(super) bytes: BytesMut,
    /// The number of the last record that was handed out.
    pub(super) recorded: u64,
    /// Records up to this number are durable.
    pub(super) synced: u64,
    pub(super) last_error: Option<String>,
}

impl Wire {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            connection: None,
            outputs: VecDeque::new(),
            bytes: BytesMut::new(),
            recorded: 0,
            synced: 0,
            last_error: None,
        }
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        codec::write(packet, self.protocol, &mut self.bytes);
    }

    pub(super) fn publish(&mut self, publish: &PublishRef<'_>) {
        codec::write_publish(publish, self.protocol, &mut self.bytes);
    }

    pub(super) fn event(&mut self, kind: &'static str, text: impl Into<String>) {
        self.outputs.push_back(SessionOutput::Event(SessionEvent { kind, text: text.into() }));
    }

    /// An event that `status` shows as the last error, too.
    pub(super) fn error(&mut self, kind: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.last_error = Some(text.clone());
        self.event(kind, text);
    }

    pub(super) fn record(&mut self, deadline: Instant, key: &Key<'_>, value: Vec<u8>) -> u64 {
        self.recorded += 1;
        self.outputs.push_back(SessionOutput::Record {
            number: self.recorded,
            deadline,
            key: key.to_vec(),
            value,
        });
        self.recorded
    }
}

/// The progress of one direction, and when it is handed out as a record.
#[derive(Debug)]
pub(super) struct Journal {
    direction: Direction,
    pub(super) progress: Progress,
    due: Option<Due>,
    /// The last record that was handed out, and the earliest deadline among those not synced: one replaces another.
    last: Option<(u64, Instant)>,
    /// Finished numbers whose entries lie in the store, not yet hidden by a record that was handed out.
    finished: Vec<u64>,
    /// Those that are: the next frame deletes them.
    pub(super) deletable: Vec<u64>,
}

/// When a changed progress is handed out and when it is to be durable.
#[derive(Debug, Clone, Copy)]
struct Due {
    emit_at: Instant,
    sync_by: Instant,
}

impl Journal {
    pub(super) fn new(direction: Direction, progress: Progress) -> Self {
        Self { direction, progress, due: None, last: None, finished: Vec::new(), deletable: Vec::new() }
    }

    /// The broker waits for an answer: hand out with this batch, sync by `sync_by`.
    pub(super) fn release(&mut self, now: Instant, number: u64, sync_by: Instant) {
        self.progress.advance(number, Mark::Released);
        self.want(now, sync_by);
    }

    /// Nobody waits: hand out when it [rides](Self::ride) with a commit, at most in half a second; sync within one. `stored`: the entry lies in the store.
    pub(super) fn finish(&mut self, now: Instant, number: u64, stored: bool) {
        self.progress.advance(number, Mark::Done);
        if stored {
            self.finished.push(number);
        }
        self.want(now + LAZY_EMIT, now + LAZY_SYNC);
    }

    /// A frame is about to be synced next: what is due lazily rides with it, once it is worth a record.
    pub(super) fn ride(&mut self, now: Instant) {
        if let Some(due) = &mut self.due
            && RIDE_FINISHED_MIN <= self.finished.len()
        {
            due.emit_at = now;
        }
    }

    /// Stop: whatever has not been handed out is, now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.due.is_some() {
            self.want(now, now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.map(|due| due.emit_at)
    }

    /// Hands out a record if one is due; its number.
    pub(super) fn emit(&mut self, now: Instant, id: &str, incarnation: u64, wire: &mut Wire) -> Option<u64> {
        let due = self.due.filter(|due| due.emit_at <= now)?;
        self.due = None;
        let deadline = match self.last {
            Some((number, deadline)) if wire.synced < number => deadline.min(due.sync_by),
            _ => due.sync_by,
        };
        let key = Key::Progress { id, incarnation, direction: self.direction };
        let number = wire.record(deadline, &key, self.progress.encode());
        self.last = Some((number, deadline));
        self.deletable.append(&mut self.finished);
        Some(number)
    }

    /// A new incarnation: everything that lies in the store and was only waiting for its deletion.
    pub(super) fn start_over(&mut self) -> Vec<u64> {
        let mut stored = std::mem::take(&mut self.deletable);
        stored.append(&mut self.finished);
        self.progress = Progress::default();
        self.due = None;
        stored
    }

    fn want(&mut self, emit_at: Instant, sync_by: Instant) {
        let due = self.due.get_or_insert(Due { emit_at, sync_by });
        due.emit_at = due.emit_at.min(emit_at);
        due.sync_by = due.sync_by.min(sync_by);
    }
}

/// Finished handshakes that are worth a record before their time. One each would write 80 bytes per event where storage is fast; a
/// crash repeats so many QoS 1 records more.
const RIDE_FINISHED_MIN: usize = 16;
/// PUBACK and PUBCOMP received are handed out at the latest after this …
const LAZY_EMIT: Duration = Duration::from_millis(500);
/// … and durable after this: a crash before repeats a QoS 1 record that the broker had confirmed.
const LAZY_SYNC: Duration = Duration::from_secs(1);
