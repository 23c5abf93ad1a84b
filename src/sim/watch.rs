//! Does anything leave too early? A checker that reads the bytes on the wire and what the log holds, and nothing else.
//!
//! - PUBREC(p): an accepted entry with packet id p is durable.
//! - PUBACK(p): the epoch in which its PUBLISH came, or a later one, is durable or left nothing behind.
//! - PUBLISH with QoS 1 or 2: the outbox entry with its packet id is durable.
//! - *Appended*: the last write and the name of the last segment are durable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::epoch::Epoch;
use crate::epoch::frame::read_sections;
use crate::mqtt::codec::{Packet, read};
use crate::mqtt::config::{Protocol, Qos};
use crate::state::key::Key;
use crate::store::LogEntry;
use crate::worker::io::SessionIndex;

/// What is durable, as far as acknowledgements and records need it, and what was wrong.
#[derive(Debug, Default)]
pub struct Watch {
    /// Durable accepted (`true`) and outbox entries by key: session and packet id.
    packets: BTreeMap<Vec<u8>, (String, u16, bool)>,
    /// Handed to the store and not yet said to be durable.
    handed: Vec<LogEntry>,
    covered: Epoch,
    /// Sections told of an epoch: how many, and whether one holds something.
    sections: BTreeMap<Epoch, (usize, bool)>,
    /// The epoch in which a PUBLISH with QoS 1 came, by packet id; one sent again counts from its first time.
    received: BTreeMap<(SessionIndex, u16), Epoch>,
    violations: BTreeSet<String>,
}

impl Watch {
    /// What was wrong so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.violations.iter().cloned().collect()
    }

    /// The board starts again: this is what it recovered.
    pub(super) fn started(&mut self, epoch: Epoch, recovered: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        let violations = std::mem::take(&mut self.violations);
        *self = Self { covered: epoch, violations, ..Self::default() };
        for (key, value) in recovered {
            self.apply(&key, value.as_deref());
        }
    }

    /// Entries are handed to the store.
    pub(super) fn handed(&mut self, entries: Vec<LogEntry>) {
        self.handed.extend(entries);
    }

    /// The store says that all it was handed is durable.
    pub(super) fn appended(&mut self, is_durable: bool) {
        if !is_durable {
            self.violations.insert("the store says `appended` before it has synced".to_owned());
        }
        for entry in std::mem::take(&mut self.handed) {
            let LogEntry::Frame { epoch, sections, .. } = entry else {
                continue;
            };
            for section in &sections {
                let applied = read_sections(section, |key, value| self.apply(key, value));
                assert!(applied.is_ok(), "a frame is none");
            }
            self.covered = epoch;
        }
    }

    /// A worker's part of an epoch is complete.
    pub(super) fn section(&mut self, epoch: Epoch, workers: usize, is_empty: bool) {
        let told = self.sections.entry(epoch).or_default();
        *told = (told.0 + 1, told.1 || !is_empty);
        if *told == (workers, false) {
            self.covered = self.covered.max(epoch);
        }
    }

    /// The board reads bytes of the broker while it works in an epoch.
    pub(super) fn received(&mut self, of: SessionIndex, working: Epoch, protocol: Protocol, bytes: &Bytes) {
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(packet)) = read(&mut stream, protocol, u32::MAX) {
            match packet {
                Packet::Publish(publish) if publish.qos == Qos::AtLeastOnce => {
                    let first = self.received.entry((of, publish.id)).or_insert(working);
                    if !publish.dup {
                        *first = working;
                    }
                }
                _ => {}
            }
        }
    }

    /// The board writes bytes for the broker.
    pub(super) fn transmitted(&mut self, of: SessionIndex, session: &str, protocol: Protocol, bytes: &Bytes) {
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(packet)) = read(&mut stream, protocol, u32::MAX) {
            let early = match packet {
                Packet::PubRec { id, reason } if reason < 0x80 && !self.holds(session, id, true) => "PUBREC",
                Packet::Publish(publish)
                    if publish.qos != Qos::AtMostOnce && !self.holds(session, publish.id, false) =>
                {
                    "PUBLISH"
                }
                Packet::PubAck { id, .. }
                    if self.received.remove(&(of, id)).is_some_and(|came| self.covered < came) =>
                {
                    "PUBACK"
                }
                _ => continue,
            };
            self.violations.insert(format!("{session}: a {early} leaves before the sync that covers it"));
        }
    }

    fn holds(&self, session: &str, id: u16, is_accepted: bool) -> bool {
        self.packets
            .values()
            .any(|(of, packet_id, accepted)| of == session && *packet_id == id && *accepted == is_accepted)
    }

    fn apply(&mut self, bytes: &[u8], value: Option<&[u8]>) {
        let entry = match (Key::decode(bytes), value) {
            (Some(Key::Accepted { id, .. }), Some(value)) => {
                packet_id_of(value).map(|packet_id| (id.to_owned(), packet_id, true))
            }
            (Some(Key::Outbox { id, number, .. }), Some(_)) => {
                let packet_id = u16::try_from(1 + number % PACKET_IDS).unwrap_or_default();
                Some((id.to_owned(), packet_id, false))
            }
            _ => None,
        };
        match entry {
            Some(entry) => self.packets.insert(bytes.to_vec(), entry),
            None => self.packets.remove(bytes),
        };
    }
}

/// An accepted entry is a CBOR map whose field 0 is the packet id.
fn packet_id_of(value: &[u8]) -> Option<u16> {
    let mut decoder = minicbor::Decoder::new(value);
    decoder.map().ok()?;
    (decoder.u8().ok()? == 0).then_some(())?;
    decoder.u16().ok()
}

/// Packet ids that records use (docs/protocols/mqtt-session.md).
const PACKET_IDS: u64 = 65_534;
