//! Which mistakes can be made on the wire? What the broker says is heard wrongly.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::Sabotage;
use crate::mqtt::codec::{Packet, read, write};
use crate::mqtt::config::{Protocol, Qos};
use crate::worker::io::SessionIndex;

/// What mistakes on the wire remember.
#[derive(Default)]
pub(in crate::sim) struct WireMistakes {
    /// Topic and payload of the last record under a packet id.
    last: BTreeMap<(SessionIndex, u16), (Bytes, Bytes)>,
    /// Packet ids of records that were not passed on.
    swallowed: BTreeSet<(SessionIndex, u16)>,
    /// Packet ids that the broker acknowledged in its present session.
    acknowledged: BTreeSet<(SessionIndex, u16)>,
    /// Those that it acknowledged in the one before, until they are heard once more.
    stale: BTreeSet<(SessionIndex, u16)>,
}

impl WireMistakes {
    pub(super) fn crash(&mut self) {
        self.swallowed.clear();
    }

    /// What a session reads of what the broker sent, and what is answered in its stead.
    pub(in crate::sim) fn hear(
        &mut self,
        sabotage: Sabotage,
        session: SessionIndex,
        bytes: Bytes,
    ) -> (Bytes, Bytes) {
        let is_heard_wrongly =
            matches!(sabotage, Sabotage::FreesPacketId | Sabotage::GuardOutlives | Sabotage::HearsOldSession);
        if !is_heard_wrongly {
            return (bytes, Bytes::new());
        }
        let (mut stream, mut heard, mut answer) =
            (BytesMut::from(&bytes[..]), BytesMut::new(), BytesMut::new());
        while let Ok(Some(packet)) = read(&mut stream, Protocol::V5, u32::MAX) {
            if sabotage == Sabotage::GuardOutlives && self.swallows(session, &packet, &mut answer) {
                continue;
            }
            if sabotage == Sabotage::HearsOldSession {
                self.note_session(session, &packet);
            }
            write(&packet, Protocol::V5, &mut heard);
            if let (Sabotage::FreesPacketId, Packet::PubRec { id, reason: 0 }) = (sabotage, &packet) {
                write(&Packet::PubComp { id: *id, reason: 0 }, Protocol::V5, &mut heard);
            }
        }
        (heard.freeze(), answer.freeze())
    }

    fn note_session(&mut self, session: SessionIndex, packet: &Packet) {
        match packet {
            Packet::ConnAck(ack) if !ack.session_present => {
                let all = std::mem::take(&mut self.acknowledged);
                (self.stale, self.acknowledged) = all.into_iter().partition(|(of, _)| *of == session);
            }
            Packet::PubRec { id, .. } => {
                self.acknowledged.insert((session, *id));
            }
            _ => {}
        }
    }

    /// What an older session's acknowledgements say of what a session sends.
    pub(in crate::sim) fn stale_answers(&mut self, session: SessionIndex, bytes: &[u8]) -> Bytes {
        let (mut stream, mut answers) = (BytesMut::from(bytes), BytesMut::new());
        while let Ok(Some(packet)) = read(&mut stream, Protocol::V5, u32::MAX) {
            if let Packet::Publish(publish) = packet
                && self.stale.remove(&(session, publish.id))
            {
                write(&Packet::PubRec { id: publish.id, reason: 0 }, Protocol::V5, &mut answers);
            }
        }
        answers.freeze()
    }

    fn swallows(&mut self, session: SessionIndex, packet: &Packet, answer: &mut BytesMut) -> bool {
        match packet {
            Packet::Publish(publish) if publish.qos == Qos::ExactlyOnce => {
                let at = (session, publish.id);
                let record = (publish.topic.clone(), publish.payload.clone());
                if !publish.dup && self.last.get(&at) == Some(&record) {
                    self.swallowed.insert(at);
                    write(&Packet::PubRec { id: publish.id, reason: 0 }, Protocol::V5, answer);
                    return true;
                }
                self.last.insert(at, record);
                false
            }
            Packet::PubRel { id, .. } if self.swallowed.remove(&(session, *id)) => {
                write(&Packet::PubComp { id: *id, reason: 0 }, Protocol::V5, answer);
                true
            }
            _ => false,
        }
    }
}
