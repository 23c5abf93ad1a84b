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
    /// Acknowledgements of the session that the broker has now.
    acknowledged: BTreeMap<SessionIndex, Vec<u16>>,
    /// Those of the session that it has lost, to be heard with every acknowledgement.
    old: BTreeMap<SessionIndex, Vec<u16>>,
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
        let is_of_wire = matches!(
            sabotage,
            Sabotage::FreesPacketId | Sabotage::GuardOutlives | Sabotage::OldAcknowledgement
        );
        if !is_of_wire {
            return (bytes, Bytes::new());
        }
        let (mut stream, mut heard, mut answer) =
            (BytesMut::from(&bytes[..]), BytesMut::new(), BytesMut::new());
        while let Ok(Some(packet)) = read(&mut stream, Protocol::V5, u32::MAX) {
            match sabotage {
                Sabotage::GuardOutlives if self.swallows(session, &packet, &mut answer) => continue,
                Sabotage::OldAcknowledgement => self.repeat_old(session, &packet, &mut heard),
                _ => {}
            }
            write(&packet, Protocol::V5, &mut heard);
            if let (Sabotage::FreesPacketId, Packet::PubRec { id, reason: 0 }) = (sabotage, &packet) {
                write(&Packet::PubComp { id: *id, reason: 0 }, Protocol::V5, &mut heard);
            }
        }
        (heard.freeze(), answer.freeze())
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

    fn repeat_old(&mut self, session: SessionIndex, packet: &Packet, heard: &mut BytesMut) {
        match packet {
            Packet::ConnAck(ack) if !ack.session_present => {
                let lost = self.acknowledged.remove(&session).unwrap_or_default();
                self.old.insert(session, lost);
            }
            Packet::PubAck { id, .. } => {
                for &id in self.old.get(&session).map(Vec::as_slice).unwrap_or_default() {
                    write(&Packet::PubAck { id, reason: 0 }, Protocol::V5, heard);
                }
                self.acknowledged.entry(session).or_default().push(*id);
            }
            _ => {}
        }
    }
}
