//! What has the broker given us, and how far is its handshake?
//!
//! ```text
//! QoS 2   PUBLISH → accepted (a) → committed → PUBREC … PUBREL → released → record synced → PUBCOMP → guard ends → done
//! QoS 1   PUBLISH → accepted     → committed → PUBACK
//! ```
//! Invariants:
//! - PUBREC and PUBACK go out after the commit, and only on a connection on which that PUBLISH has come.
//! - A packet id in the accepted set is not processed again.
//! - PUBCOMP goes out after the record that says *released* is durable.
//! - The guard swallows only a DUP PUBLISH with the released hash, and only until the broker is seen to have our PUBCOMP.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use embassy_time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codec::{Packet, Publish};
use super::config::Qos;
use super::io::ConnectionNumber;
use super::progress::Mark;
use super::queue::shrink;
use super::values::{AcceptedValue, RecoveredSession, encode};
use super::wire::{Journal, Wire};
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::state::key::{Direction, Key};

/// Everything from the broker to us.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) journal: Journal,
    /// Entry `first + place` of this incarnation.
    entries: VecDeque<Entry>,
    first: u64,
    by_packet: BTreeMap<u16, u64>,
    /// QoS 1: accepted and not yet acknowledged.
    once: BTreeMap<u16, Once>,
    once_order: VecDeque<(u64, u16)>,
    once_next: u64,
    /// What the last cut took with it.
    entries_cut: u64,
    once_cut: u64,
    cuts: VecDeque<Cut>,
    entries_committed: u64,
    /// PUBCOMPs that wait for a record: its number (`u64::MAX` until it is handed out), connection, entry.
    owed: VecDeque<(u64, ConnectionNumber, u64)>,
    /// Released in this batch: the record is not handed out yet.
    releasing: Vec<u64>,
    /// PUBCOMPs sent on this connection that the broker is not yet seen to have.
    unproven: VecDeque<(u64, Instant)>,
    /// How many of those were sent before the PINGREQ that is under way.
    probed: Option<usize>,
    /// Packet ids that are outstanding on this connection: the broker may have `receive_maximum` of them.
    outstanding: BTreeSet<u16>,
    /// Entries of older incarnations that the next frame deletes.
    forgotten: Vec<(u64, u64)>,
    window: u16,
    pub(super) guard_hits: u64,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    hash: u64,
    state: State,
    /// On which connection its PUBLISH has last come.
    came_on: Option<ConnectionNumber>,
    /// PUBREL came before the commit: no sane broker does it.
    released_early: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Accepted,
    /// In this record; `u64::MAX` until it is handed out.
    Released {
        record: u64,
    },
    Done,
}

#[derive(Debug)]
struct Once {
    serial: u64,
    hash: u64,
    came_on: Option<ConnectionNumber>,
    committed: bool,
}

#[derive(Debug)]
struct Cut {
    epoch: Epoch,
    entries: u64,
    once: u64,
}

/// What is to be done with a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new: accept it with [`Inbound::accept`].
    New,
    /// It has been dealt with.
    Repeat,
}

impl Inbound {
    pub(super) fn new(recovered: &mut RecoveredSession, incarnation: u64, forget: bool, window: u16) -> Self {
        let progress = recovered.progress.remove(&(incarnation, Direction::In)).unwrap_or_default();
        let mut forgotten: Vec<(u64, u64)> = Vec::new();
        let mut journal = Journal::new(Direction::In, progress);
        let mut stored: BTreeMap<u64, AcceptedValue> = BTreeMap::new();
        for ((of, number), value) in std::mem::take(&mut recovered.accepted) {
            if of != incarnation || forget {
                forgotten.push((of, number));
            } else if journal.progress.mark(number) == Mark::Done {
                journal.deletable.push(number);
            } else {
                stored.insert(number, value);
            }
        }
        let end = stored.last_key_value().map_or(0, |(number, _)| number + 1);
        let next = end.max(journal.progress.end());
        let first = stored.first_key_value().map_or(next, |(number, _)| *number);
        let mut inbound = Self {
            entries: VecDeque::new(),
            first,
            by_packet: BTreeMap::new(),
            once: BTreeMap::new(),
            once_order: VecDeque::new(),
            once_next: 0,
            entries_cut: next,
            once_cut: 0,
            cuts: VecDeque::new(),
            entries_committed: next,
            owed: VecDeque::new(),
            releasing: Vec::new(),
            unproven: VecDeque::new(),
            probed: None,
            outstanding: BTreeSet::new(),
            forgotten,
            window,
            guard_hits: 0,
            journal,
        };
        for number in first..next {
            let entry = match stored.get(&number) {
                Some(value) => {
                    inbound.by_packet.insert(value.packet_id, number);
                    Entry {
                        packet_id: value.packet_id,
                        hash: value.hash,
                        state: match inbound.journal.progress.mark(number) {
                            Mark::Released => State::Released { record: 0 },
                            Mark::Open | Mark::Done => State::Accepted,
                        },
                        came_on: None,
                        released_early: false,
                    }
                }
                None => {
                    inbound.journal.progress.advance(number, Mark::Done);
                    Entry { packet_id: 0, hash: 0, state: State::Done, came_on: None, released_early: false }
                }
            };
            inbound.entries.push_back(entry);
        }
        for number in inbound.journal.progress.first()..first {
            inbound.journal.progress.advance(number, Mark::Done);
        }
        inbound
    }

    /// CONNACK has come with the session: what was released and is still guarded may be proven from here.
    pub(super) fn connected(&mut self, now: Instant) {
        self.disconnected();
        for (place, entry) in (0_u64..).zip(&self.entries) {
            if matches!(entry.state, State::Released { .. }) {
                self.unproven.push_back((self.first + place, now));
            }
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.unproven.clear();
        self.probed = None;
        self.outstanding.clear();
        self.owed.clear();
    }

    /// How many handshakes the broker has outstanding towards us on this connection.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Looks whether a PUBLISH with QoS 1 or 2 is a repeat, and answers it if so.
    pub(super) fn judge(&mut self, now: Instant, publish: &Publish, wire: &mut Wire) -> Verdict {
        let hash = hash_of(publish);
        self.outstanding.insert(publish.id);
        if publish.qos != Qos::ExactlyOnce {
            return self.judge_once(publish, hash, wire);
        }
        let Some(&number) = self.by_packet.get(&publish.id) else {
            return Verdict::New;
        };
        let committed = number < self.entries_committed;
        let Some(entry) = self.entry_mut(number) else {
            return Verdict::New;
        };
        let same = entry.hash == hash;
        match entry.state {
            State::Accepted if same || publish.dup => {
                entry.came_on = wire.connection;
                if committed {
                    wire.send(&Packet::PubRec { id: publish.id, reason: 0 });
                }
                Verdict::Repeat
            }
            State::Released { .. } if same && publish.dup => {
                entry.came_on = wire.connection;
                self.guard_hits += 1;
                self.unproven.retain(|(unproven, _)| *unproven != number);
                self.probed = None;
                wire.send(&Packet::PubRec { id: publish.id, reason: 0 });
                wire.event("guard-hit", format!("packet id {} sent again after PUBREL", publish.id));
                Verdict::Repeat
            }
            state => {
                if state == State::Accepted {
                    wire.event("packet-id-reused", format!("packet id {} before PUBREL", publish.id));
                }
                self.finish(now, number);
                Verdict::New
            }
        }
    }

    fn judge_once(&mut self, publish: &Publish, hash: u64, wire: &mut Wire) -> Verdict {
        let Some(once) = self.once.get_mut(&publish.id) else {
            return Verdict::New;
        };
        if !publish.dup && once.hash != hash {
            return Verdict::New;
        }
        once.came_on = wire.connection;
        if once.committed {
            self.once.remove(&publish.id);
            self.outstanding.remove(&publish.id);
            wire.send(&Packet::PubAck { id: publish.id, reason: 0 });
        }
        Verdict::Repeat
    }

    /// Is it certain that this PUBLISH will not be accepted anew? (Then it need not wait for the intake to open.)
    pub(super) fn is_repeat(&self, publish: &Publish) -> bool {
        let hash = hash_of(publish);
        match publish.qos {
            Qos::AtMostOnce => false,
            Qos::AtLeastOnce => {
                self.once.get(&publish.id).is_some_and(|once| publish.dup || once.hash == hash)
            }
            Qos::ExactlyOnce => {
                self.by_packet.get(&publish.id).and_then(|number| self.entry(*number)).is_some_and(|entry| {
                    match entry.state {
                        State::Accepted => publish.dup || entry.hash == hash,
                        State::Released { .. } => publish.dup && entry.hash == hash,
                        State::Done => false,
                    }
                })
            }
        }
    }

    /// A new PUBLISH joins the working epoch.
    pub(super) fn accept(&mut self, publish: &Publish, wire: &Wire) {
        let hash = hash_of(publish);
        match publish.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                let serial = self.once_next;
                self.once_next += 1;
                self.once_order.push_back((serial, publish.id));
                let once = Once { serial, hash, came_on: wire.connection, committed: false };
                self.once.insert(publish.id, once);
            }
            Qos::ExactlyOnce => {
                self.by_packet.insert(publish.id, self.next());
                self.entries.push_back(Entry {
                    packet_id: publish.id,
                    hash,
                    state: State::Accepted,
                    came_on: wire.connection,
                    released_early: false,
                });
            }
        }
    }

    pub(super) fn on_pubrel(&mut self, now: Instant, id: u16, wire: &mut Wire) {
        let Some(connection) = wire.connection else { return };
        let number = self.by_packet.get(&id).copied();
        let committed = number.is_some_and(|number| number < self.entries_committed);
        let synced = wire.synced;
        if let Some(number) = number {
            self.forget_proof(number);
        }
        let entry = number.and_then(|number| Some((number, self.entry_mut(number)?)));
        match entry {
            Some((number, entry)) => match entry.state {
                State::Accepted if committed => self.release(now, number, connection),
                State::Accepted => entry.released_early = true,
                State::Released { record } if record <= synced => self.complete(now, number, wire),
                State::Released { record } => self.owed.push_back((record, connection, number)),
                State::Done => self.complete_unknown(id, wire),
            },
            None => self.complete_unknown(id, wire),
        }
    }

    /// The broker asks for its PUBCOMP again: no answer to a PINGREQ before that one proves anything.
    fn forget_proof(&mut self, number: u64) {
        let Some(at) = self.unproven.iter().position(|(unproven, _)| *unproven == number) else { return };
        self.unproven.remove(at);
        if let Some(probed) = &mut self.probed
            && at < *probed
        {
            *probed -= 1;
        }
    }

    fn complete_unknown(&mut self, id: u16, wire: &mut Wire) {
        self.outstanding.remove(&id);
        wire.send(&Packet::PubComp { id, reason: PACKET_ID_NOT_FOUND });
    }

    fn release(&mut self, now: Instant, number: u64, connection: ConnectionNumber) {
        if let Some(entry) = self.entry_mut(number) {
            entry.state = State::Released { record: u64::MAX };
        }
        self.releasing.push(number);
        self.owed.push_back((u64::MAX, connection, number));
        let is_urgent = usize::from(self.window) <= self.owed.len() * 2;
        let sync_by = if is_urgent { now } else { now + PUBCOMP_WAIT };
        self.journal.release(now, number, sync_by);
    }

    fn complete(&mut self, now: Instant, number: u64, wire: &mut Wire) {
        let Some(entry) = self.entry(number) else { return };
        let id = entry.packet_id;
        self.outstanding.remove(&id);
        wire.send(&Packet::PubComp { id, reason: 0 });
        self.unproven.push_back((number, now));
    }

    /// Hands out the progress if it is due.
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

    pub(super) fn on_synced(&mut self, now: Instant, wire: &mut Wire) {
        while let Some((_, connection, number)) = self.owed.pop_front_if(|owed| owed.0 <= wire.synced) {
            if wire.connection == Some(connection) {
                self.complete(now, number, wire);
            }
        }
    }

    /// When a PINGREQ is due that proves PUBCOMPs.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        if self.probed.is_some() {
            return None;
        }
        self.unproven.front().map(|(_, at)| *at + GUARD_PROBE)
    }

    /// A PINGREQ goes out now.
    pub(super) fn on_ping_sent(&mut self) {
        self.probed = Some(self.unproven.len());
    }

    /// Its answer: the broker has read all that was sent before.
    pub(super) fn on_pong(&mut self, now: Instant) {
        for _ in 0..self.probed.take().unwrap_or(0) {
            if let Some((number, _)) = self.unproven.pop_front() {
                self.finish(now, number);
            }
        }
    }

    fn finish(&mut self, now: Instant, number: u64) {
        let stored = number < self.entries_cut;
        let Some(entry) = self.entry_mut(number).filter(|entry| entry.state != State::Done) else {
            return;
        };
        entry.state = State::Done;
        let id = entry.packet_id;
        if self.by_packet.get(&id) == Some(&number) {
            self.by_packet.remove(&id);
        }
        self.journal.finish(now, number, stored);
        while self.entries.pop_front_if(|entry| entry.state == State::Done).is_some() {
            self.first += 1;
        }
        shrink(&mut self.entries);
        self.entries_cut = self.entries_cut.max(self.first);
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.entries_cut < self.next() || self.once_cut < self.once_next
    }

    /// Has everything that was accepted been committed?
    pub(super) fn is_settled(&self) -> bool {
        !self.is_dirty() && self.cuts.is_empty() && self.owed.is_empty()
    }

    pub(super) fn cut(&mut self, epoch: Epoch, id: &str, incarnation: u64, frame: &mut FrameBuilder) {
        for number in self.journal.deletable.drain(..) {
            frame.delete(&Key::Accepted { id, incarnation, number });
        }
        for (incarnation, number) in self.forgotten.drain(..) {
            frame.delete(&Key::Accepted { id, incarnation, number });
        }
        for number in self.entries_cut..self.next() {
            let Some(entry) = self.entry(number).filter(|entry| entry.state != State::Done) else {
                continue;
            };
            let value = AcceptedValue { packet_id: entry.packet_id, hash: entry.hash };
            frame.put(&Key::Accepted { id, incarnation, number }, |out| encode(&value, out));
        }
        self.entries_cut = self.next();
        self.once_cut = self.once_next;
        self.cuts.push_back(Cut { epoch, entries: self.entries_cut, once: self.once_cut });
    }

    pub(super) fn on_committed(&mut self, now: Instant, epoch: Epoch, wire: &mut Wire) {
        while let Some(cut) = self.cuts.pop_front_if(|cut| cut.epoch <= epoch) {
            let from = self.entries_committed.max(self.first);
            self.entries_committed = self.entries_committed.max(cut.entries);
            for number in from..cut.entries {
                self.entry_committed(now, number, wire);
            }
            while let Some((serial, id)) = self.once_order.pop_front_if(|(serial, _)| *serial < cut.once) {
                self.once_committed(serial, id, wire);
            }
        }
    }

    fn entry_committed(&mut self, now: Instant, number: u64, wire: &mut Wire) {
        let Some(entry) = self.entry(number).filter(|entry| entry.state == State::Accepted) else {
            return;
        };
        if wire.connection.is_none() || entry.came_on != wire.connection {
            return;
        }
        wire.send(&Packet::PubRec { id: entry.packet_id, reason: 0 });
        if let (true, Some(connection)) = (entry.released_early, wire.connection) {
            self.release(now, number, connection);
        }
    }

    fn once_committed(&mut self, serial: u64, id: u16, wire: &mut Wire) {
        let Some(once) = self.once.get_mut(&id).filter(|once| once.serial == serial) else {
            return;
        };
        once.committed = true;
        if wire.connection.is_some() && once.came_on == wire.connection {
            self.once.remove(&id);
            self.outstanding.remove(&id);
            wire.send(&Packet::PubAck { id, reason: 0 });
        }
    }

    /// The broker has lost the session: what was owed to it is forgotten; the number forgotten.
    pub(super) fn start_over(&mut self, incarnation: u64) -> usize {
        let finished = self.journal.start_over();
        self.forgotten.extend(finished.into_iter().map(|number| (incarnation, number)));
        let open = (self.first..self.entries_cut.min(self.next()))
            .filter(|number| self.entry(*number).is_some_and(|entry| entry.state != State::Done));
        let open: Vec<u64> = open.collect();
        self.forgotten.extend(open.iter().map(|number| (incarnation, *number)));
        let count = self.by_packet.len() + self.once.len();
        self.entries.clear();
        self.by_packet.clear();
        self.once.clear();
        self.once_order.clear();
        self.releasing.clear();
        (self.first, self.entries_cut, self.entries_committed) = (0, 0, 0);
        for cut in &mut self.cuts {
            cut.entries = 0;
        }
        self.disconnected();
        count
    }

    pub(super) fn unfinished(&self) -> usize {
        self.by_packet.len() + self.once.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.len() * (size_of::<Entry>() + MAP_ENTRY_BYTES)
            + self.once.len() * (size_of::<Once>() + MAP_ENTRY_BYTES)
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

/// Of topic and payload: what the guard compares.
fn hash_of(publish: &Publish) -> u64 {
    xxh3_64_with_seed(&publish.payload, xxh3_64_with_seed(&publish.topic, 0))
}

/// PUBREL is answered at the latest after this, while less than half the window is owed.
const PUBCOMP_WAIT: Duration = Duration::from_millis(50);
/// So long after a PUBCOMP a PINGREQ finds out whether the broker has it.
const GUARD_PROBE: Duration = Duration::from_millis(500);
/// MQTT 5: packet identifier not found.
pub(super) const PACKET_ID_NOT_FOUND: u8 = 0x92;
/// What an entry of a small ordered map costs about, in bytes.
const MAP_ENTRY_BYTES: usize = 24;
