//! What do we owe the broker, and how far is its handshake?
//!
//! ```text
//! QoS 2   Send → put (s) → committed → PUBLISH … PUBREC → released → record synced → PUBREL … PUBCOMP → done
//! QoS 1   Send → put (s) → committed → PUBLISH … PUBACK → done
//! QoS 0   Send →           committed → PUBLISH                            refused: a dead letter, s deleted, then done
//! ```
//! Invariants:
//! - Entry s has packet id 1 + s mod 65,534, for ever.
//! - Nothing is published before the epoch that put it is committed.
//! - What is outstanding spans at most the window, counted from the first unfinished entry.
//! - PUBREL goes out after the record that says *released* is durable.

use std::collections::VecDeque;

use embassy_time::Instant;

use super::codec::{Packet, publish_bytes};
use super::config::Qos;
use super::inbound::PACKET_ID_NOT_FOUND;
use super::io::{ConnectionNumber, OutboxRecord, SessionOutput};
use super::progress::Mark;
use super::queue::shrink;
use super::values::{RecoveredSession, encode_outbox};
use super::wire::{Journal, Wire};
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::state::key::{Direction, Key};

mod record;

use record::{borrowed, publish, record_bytes, split};

/// Everything from us to the broker.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) journal: Journal,
    /// Entry `first + place` of this incarnation.
    entries: VecDeque<Entry>,
    first: u64,
    /// QoS 0, by numbers of their own: the last is the one before `instant_next`.
    instant: VecDeque<OutboxRecord>,
    instant_next: u64,
    cut: u64,
    instant_cut: u64,
    cuts: VecDeque<Cut>,
    committed: u64,
    instant_committed: u64,
    /// Entries below were published or continued on this connection, if the session is ready.
    cursor: u64,
    /// Released, perhaps under a session that the broker has lost since.
    doubted: Vec<u64>,
    /// Refused in the working epoch: its frame deletes them.
    refused: Vec<u64>,
    /// Entries of older incarnations that the next frame deletes.
    forgotten: Vec<(u64, u64)>,
    /// PUBRELs that wait for a record: its number (`u64::MAX` until it is handed out), connection, entry.
    owed: VecDeque<(u64, ConnectionNumber, u64)>,
    /// Released in this batch: the record is not handed out yet.
    releasing: Vec<u64>,
    bytes: usize,
    pub(super) published: u64,
}

#[derive(Debug)]
struct Entry {
    record: Option<OutboxRecord>,
    state: State,
    /// May the broker have it? Then it is published with DUP.
    was_sent: bool,
    /// The QoS it was published with on this connection.
    sent: Option<Qos>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Released { record: u64 },
    Refused,
    Done,
}

#[derive(Debug)]
struct Cut {
    epoch: Epoch,
    end: u64,
    instant: u64,
    refused: Vec<u64>,
}

/// What the broker can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) window: u64,
    pub(super) packet_bytes_max: usize,
    pub(super) qos_max: Qos,
    pub(super) retain_available: bool,
}

impl Outbound {
    pub(super) fn new(recovered: &mut RecoveredSession, incarnation: u64) -> Self {
        let progress = recovered.progress.remove(&(incarnation, Direction::Out)).unwrap_or_default();
        let mut outbound = Self {
            journal: Journal::new(Direction::Out, progress),
            entries: VecDeque::new(),
            first: 0,
            instant: VecDeque::new(),
            instant_next: 0,
            cut: 0,
            instant_cut: 0,
            cuts: VecDeque::new(),
            committed: 0,
            instant_committed: 0,
            cursor: 0,
            doubted: Vec::new(),
            refused: Vec::new(),
            forgotten: Vec::new(),
            owed: VecDeque::new(),
            releasing: Vec::new(),
            bytes: 0,
            published: 0,
        };
        outbound.recover(recovered, incarnation);
        outbound
    }

    fn recover(&mut self, recovered: &mut RecoveredSession, incarnation: u64) {
        let mut again = Vec::new();
        let progress = &mut self.journal.progress;
        self.first = progress.first();
        let mut next = self.first;
        for ((of, number), record) in std::mem::take(&mut recovered.outbox) {
            if of != incarnation {
                let old = recovered.progress.get(&(of, Direction::Out));
                if old.map_or(Mark::Open, |old| old.mark(number)) != Mark::Done {
                    again.push(record);
                }
                self.forgotten.push((of, number));
                continue;
            }
            if progress.mark(number) == Mark::Done {
                self.journal.deletable.push(number);
                next = next.max(number + 1);
                continue;
            }
            while next < number {
                // Deleted by a frame: it was refused, and its dead letter is where the delete is.
                progress.advance(next, Mark::Done);
                self.entries.push_back(Entry::done());
                next += 1;
            }
            let state = match progress.mark(number) {
                Mark::Released => State::Released { record: RELEASED_BEFORE_START },
                Mark::Open | Mark::Done => State::Open,
            };
            self.bytes += record_bytes(&record);
            self.entries.push_back(Entry { record: Some(record), state, was_sent: true, sent: None });
            next = number + 1;
        }
        // `next` may have run ahead over finished numbers between unfinished ones.
        for number in self.next()..next.max(progress_end(&self.journal)) {
            self.journal.progress.advance(number, Mark::Done);
            self.entries.push_back(Entry::done());
        }
        self.drop_finished();
        (self.cut, self.committed) = (self.next(), self.next());
        for record in again {
            self.push(record);
        }
    }

    /// An egress record joins the working epoch.
    pub(super) fn push(&mut self, record: OutboxRecord) {
        self.bytes += record_bytes(&record);
        if record.qos == Qos::AtMostOnce {
            self.instant.push_back(record);
            self.instant_next += 1;
            return;
        }
        self.entries.push_back(Entry {
            record: Some(record),
            state: State::Open,
            was_sent: false,
            sent: None,
        });
    }

    /// The session is ready on a new connection: begin again at the first unfinished entry.
    pub(super) fn connected(&mut self) {
        self.cursor = self.first;
        self.owed.clear();
        for entry in &mut self.entries {
            entry.sent = None;
        }
    }

    /// Publishes and continues as far as window and commits allow.
    pub(super) fn pump(&mut self, now: Instant, peer: &Peer, wire: &mut Wire) {
        let end = self.committed.min(self.journal.progress.first().saturating_add(peer.window));
        while self.cursor < end {
            let number = self.cursor;
            self.cursor += 1;
            self.continue_entry(now, number, peer, wire);
        }
        let ready = self.instant_ready();
        for record in self.instant.drain(..ready) {
            self.bytes -= record_bytes(&record);
            self.published += 1;
            publish(&record, Qos::AtMostOnce, false, 0, peer, wire);
        }
        shrink(&mut self.instant);
    }

    /// How many of QoS 0 are committed.
    fn instant_ready(&self) -> usize {
        let uncommitted = usize::try_from(self.instant_next - self.instant_committed);
        self.instant.len().saturating_sub(uncommitted.unwrap_or(usize::MAX))
    }

    fn continue_entry(&mut self, now: Instant, number: u64, peer: &Peer, wire: &mut Wire) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        match entry.state {
            State::Done | State::Refused => {}
            State::Released { record } => self.send_pubrel(number, record, wire),
            State::Open => {
                let Some(record) = &entry.record else { return };
                let qos = record.qos.min(peer.qos_max);
                let bytes =
                    publish_bytes(&borrowed(record, qos, false, 1, peer, &split(record)), wire.protocol);
                if peer.packet_bytes_max < bytes {
                    let reason = format!("{bytes} bytes, the broker takes {}", peer.packet_bytes_max);
                    self.refuse(number, reason, wire);
                    return;
                }
                if qos < record.qos {
                    wire.event("qos-lowered", format!("the broker takes QoS {} at most", qos as u8));
                }
                let is_repeat = entry.was_sent && qos != Qos::AtMostOnce;
                publish(record, qos, is_repeat, packet_id(number), peer, wire);
                let is_first = !entry.was_sent;
                entry.was_sent = true;
                entry.sent = Some(qos);
                self.published += u64::from(is_first);
                if qos == Qos::AtMostOnce {
                    self.finish(now, number);
                }
            }
        }
    }

    fn send_pubrel(&mut self, number: u64, record: u64, wire: &mut Wire) {
        let Some(connection) = wire.connection else { return };
        if record <= wire.synced {
            wire.send(&Packet::PubRel { id: packet_id(number), reason: 0 });
        } else {
            self.owed.push_back((record, connection, number));
        }
    }

    pub(super) fn on_puback(&mut self, now: Instant, id: u16, reason: u8, wire: &mut Wire) {
        match self.outstanding(id) {
            Some((number, State::Open, Some(Qos::AtLeastOnce))) if reason < 0x80 => self.finish(now, number),
            Some((number, State::Open, Some(Qos::AtLeastOnce))) => {
                self.refuse(number, broker_says(reason), wire)
            }
            _ => wire.event("unknown-puback", format!("packet id {id}")),
        }
    }

    pub(super) fn on_pubrec(&mut self, now: Instant, id: u16, reason: u8, wire: &mut Wire) {
        let Some(connection) = wire.connection else { return };
        match self.outstanding(id) {
            Some((number, State::Open, Some(Qos::ExactlyOnce))) if reason < 0x80 => {
                if let Some(entry) = self.entry_mut(number) {
                    entry.state = State::Released { record: u64::MAX };
                }
                self.releasing.push(number);
                self.owed.push_back((u64::MAX, connection, number));
                self.journal.release(now, number, now);
            }
            Some((number, State::Open, Some(Qos::ExactlyOnce))) => {
                self.refuse(number, broker_says(reason), wire)
            }
            Some((number, State::Released { record }, _)) => self.send_pubrel(number, record, wire),
            _ if reason < 0x80 => {
                wire.event("unknown-pubrec", format!("packet id {id}"));
                wire.send(&Packet::PubRel { id, reason: PACKET_ID_NOT_FOUND });
            }
            _ => wire.event("unknown-pubrec", format!("packet id {id}")),
        }
    }

    pub(super) fn on_pubcomp(&mut self, now: Instant, id: u16, reason: u8, wire: &mut Wire) {
        match self.outstanding(id) {
            Some((number, State::Released { record }, _)) => {
                let is_doubted = || record == RELEASED_BEFORE_START || self.doubted.contains(&number);
                if reason == PACKET_ID_NOT_FOUND && is_doubted() {
                    self.tell_unproven(number, wire);
                }
                self.finish(now, number);
            }
            _ => wire.event("unknown-pubcomp", format!("packet id {id}")),
        }
    }

    /// Its PUBCOMP was lost, or the broker has lost its session and nobody here has heard so
    /// (docs/decisions/0007-releases-after-a-lost-session.md): nothing on the wire tells the two apart.
    fn tell_unproven(&self, number: u64, wire: &mut Wire) {
        let record = self.entry(number).and_then(|entry| entry.record.as_ref());
        let (topic, id) = record.map_or(("", ""), |record| (&record.topic, record.message_id.as_str()));
        wire.event(
            "release-unproven",
            format!("{topic}: message {id} was released, perhaps under a session that the broker has lost"),
        );
    }

    /// Which entry has this packet id, among those of this connection.
    fn outstanding(&self, id: u16) -> Option<(u64, State, Option<Qos>)> {
        let offset = u64::from(id.checked_sub(1)?);
        let number = self.first + (offset + PACKET_IDS - self.first % PACKET_IDS) % PACKET_IDS;
        if self.cursor <= number || PACKET_IDS <= offset {
            return None;
        }
        self.entry(number).map(|entry| (number, entry.state, entry.sent))
    }

    fn refuse(&mut self, number: u64, reason: String, wire: &mut Wire) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        entry.state = State::Refused;
        let Some(record) = entry.record.take() else { return };
        self.bytes -= record_bytes(&record);
        self.refused.push(number);
        wire.error("publish-refused", format!("{}: {reason}", record.topic));
        wire.outputs.push_back(SessionOutput::Refused { record, reason });
    }

    pub(super) fn emit(&mut self, now: Instant, id: &str, incarnation: u64, wire: &mut Wire) {
        let Some(record) = self.journal.emit(now, id, incarnation, wire) else {
            return;
        };
        for owed in self.owed.iter_mut().rev().take_while(|owed| owed.0 == u64::MAX) {
            owed.0 = record;
        }
        for number in std::mem::take(&mut self.releasing) {
            if let Some(entry) = self.entry_mut(number)
                && entry.state == (State::Released { record: u64::MAX })
            {
                entry.state = State::Released { record };
            }
        }
    }

    pub(super) fn on_synced(&mut self, wire: &mut Wire) {
        while let Some((_, connection, number)) = self.owed.pop_front_if(|owed| owed.0 <= wire.synced) {
            if wire.connection == Some(connection) {
                wire.send(&Packet::PubRel { id: packet_id(number), reason: 0 });
            }
        }
    }

    fn finish(&mut self, now: Instant, number: u64) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        entry.state = State::Done;
        if let Some(record) = entry.record.take() {
            self.bytes -= record_bytes(&record);
        }
        self.journal.finish(now, number, true);
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        while self.entries.pop_front_if(|entry| entry.state == State::Done).is_some() {
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
        shrink(&mut self.entries);
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.cut < self.next() || self.instant_cut < self.instant_next || !self.refused.is_empty()
    }

    /// Has all that was sent here been committed, published and answered?
    pub(super) fn is_settled(&self) -> bool {
        !self.is_dirty() && self.cuts.is_empty() && self.entries.is_empty() && self.instant.is_empty()
    }

    /// Is something waiting for a cut or its commit?
    pub(super) fn is_committing(&self) -> bool {
        self.is_dirty() || !self.cuts.is_empty()
    }

    pub(super) fn cut(&mut self, epoch: Epoch, id: &str, incarnation: u64, frame: &mut FrameBuilder) {
        for number in self.journal.deletable.drain(..) {
            frame.delete(&Key::Outbox { id, incarnation, number });
        }
        for (incarnation, number) in self.forgotten.drain(..) {
            frame.delete(&Key::Outbox { id, incarnation, number });
        }
        for number in &self.refused {
            frame.delete(&Key::Outbox { id, incarnation, number: *number });
        }
        for number in self.cut..self.next() {
            if let Some(record) = self.entry(number).and_then(|entry| entry.record.as_ref()) {
                frame.put(&Key::Outbox { id, incarnation, number }, |out| encode_outbox(record, out));
            }
        }
        self.cut = self.next();
        self.instant_cut = self.instant_next;
        self.cuts.push_back(Cut {
            epoch,
            end: self.cut,
            instant: self.instant_cut,
            refused: std::mem::take(&mut self.refused),
        });
    }

    pub(super) fn on_committed(&mut self, now: Instant, epoch: Epoch, wire: &mut Wire) {
        while let Some(cut) = self.cuts.pop_front_if(|cut| cut.epoch <= epoch) {
            self.committed = self.committed.max(cut.end);
            self.instant_committed = cut.instant;
            for number in cut.refused {
                if let Some(entry) = self.entry_mut(number) {
                    entry.state = State::Done;
                    self.journal.finish(now, number, false);
                }
            }
            self.drop_finished();
        }
        if wire.connection.is_none() {
            let dropped = self.instant_ready();
            for record in self.instant.drain(..dropped) {
                self.bytes -= record_bytes(&record);
            }
            if 0 < dropped {
                wire.event("qos-0-dropped", format!("{dropped} records for a broker that is away"));
            }
        }
    }

    /// The broker may have lost the session, unheard: what is released was so under the old one.
    pub(super) fn doubt(&mut self) {
        let released = (self.first..).zip(&self.entries);
        let released = released.filter(|(_, entry)| matches!(entry.state, State::Released { .. }));
        self.doubted = released.map(|(number, _)| number).collect();
    }

    /// The broker has lost the session: unfinished output is put again, in order, under new numbers; how many.
    pub(super) fn start_over(&mut self, incarnation: u64) -> usize {
        let old = |number: u64| (incarnation, number);
        self.forgotten.extend(self.journal.start_over().into_iter().map(old));
        self.forgotten.extend(std::mem::take(&mut self.refused).into_iter().map(old));
        let mut again = Vec::new();
        for (number, entry) in (self.first..).zip(std::mem::take(&mut self.entries)) {
            let Some(record) = entry.record else { continue };
            if number < self.cut {
                self.forgotten.push((incarnation, number));
            }
            self.bytes -= record_bytes(&record);
            again.push(record);
        }
        (self.first, self.cut, self.committed, self.cursor) = (0, 0, 0, 0);
        self.doubted.clear();
        self.owed.clear();
        self.releasing.clear();
        for cut in &mut self.cuts {
            cut.end = 0;
            cut.refused.clear();
        }
        let count = again.len();
        for record in again {
            self.push(record);
        }
        count
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.len() + self.instant.len()
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.cursor.saturating_sub(self.first)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>() + self.instant.len() * size_of::<OutboxRecord>()
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

impl Entry {
    fn done() -> Self {
        Self { record: None, state: State::Done, was_sent: false, sent: None }
    }
}

fn progress_end(journal: &Journal) -> u64 {
    journal.progress.end()
}

/// The packet id of entry `number`.
pub(super) fn packet_id(number: u64) -> u16 {
    u16::try_from(1 + number % PACKET_IDS).unwrap_or(1)
}

fn broker_says(reason: u8) -> String {
    format!("the broker says 0x{reason:02X}")
}

/// The number of no record: what a start finds released is durable.
const RELEASED_BEFORE_START: u64 = 0;
/// Packet ids that records use; the one above them is for SUBSCRIBE and UNSUBSCRIBE.
const PACKET_IDS: u64 = 65_534;
