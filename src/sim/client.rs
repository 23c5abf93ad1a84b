//! Who publishes and who listens? Plain MQTT 5 clients whose connection never breaks and who remember everything.
//!
//! They share no session logic with the machine under test: the publisher counts what it hands over, the subscriber records every
//! delivery in order **without** dropping repeats.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::mqtt::codec::{
    Connect, Filter, MESSAGE_ID_PROPERTY, Packet, Publish, RetainHandling, read, write,
};
use crate::mqtt::config::{Protocol, Qos};

/// A client of the simulated broker.
#[derive(Debug)]
pub struct Client {
    client_id: String,
    incoming: BytesMut,
    outgoing: BytesMut,
    next_id: u16,
    /// QoS 2 PUBLISHes taken whose PUBREL has not come.
    taken: BTreeSet<u16>,
    /// Publications that the broker has not finished, by packet id.
    unfinished: BTreeMap<u16, Qos>,
    received: Vec<Publish>,
    is_reading: bool,
}

impl Client {
    /// A client that is about to connect.
    #[must_use]
    pub fn connect(client_id: &str) -> Self {
        let mut client = Self {
            client_id: client_id.to_owned(),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            next_id: 1,
            taken: BTreeSet::new(),
            unfinished: BTreeMap::new(),
            received: Vec::new(),
            is_reading: true,
        };
        client.reconnect();
        client
    }

    /// Connects again, keeping the session; what the broker has not finished is sent again by nobody: the simulated broker never
    /// loses what a client's connection has carried.
    pub fn reconnect(&mut self) {
        self.incoming.clear();
        let packet = Packet::Connect(Connect {
            protocol: Protocol::V5,
            client_id: self.client_id.clone(),
            clean_start: false,
            keep_alive_seconds: 0,
            session_expiry_seconds: u32::MAX,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            topic_alias_maximum: 0,
            login: None,
        });
        self.send(&packet);
    }

    /// Subscribes with QoS 2.
    pub fn subscribe(&mut self, filter: &str) {
        let filters = vec![Filter {
            filter: filter.to_owned(),
            qos: Qos::ExactlyOnce,
            retain_handling: RetainHandling::WhenNew,
        }];
        self.send(&Packet::Subscribe { id: u16::MAX, filters });
    }

    /// Publishes a record.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos, user_properties: Vec<(String, String)>) {
        let id = if qos == Qos::AtMostOnce { 0 } else { self.free_id() };
        if qos != Qos::AtMostOnce {
            self.unfinished.insert(id, qos);
        }
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            id,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            alias: None,
            payload: Bytes::copy_from_slice(payload),
            response_topic: None,
            correlation_data: None,
            user_properties,
        }));
    }

    /// Takes bytes from the broker.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
        if self.is_reading {
            self.read();
        }
    }

    /// From now on it reads what comes, or lets it lie: then the broker holds back what its window does not allow.
    pub fn set_reading(&mut self, is_reading: bool) {
        self.is_reading = is_reading;
        if is_reading {
            self.read();
        }
    }

    fn read(&mut self) {
        while let Ok(Some(packet)) = read(&mut self.incoming, Protocol::V5, u32::MAX) {
            self.handle_packet(packet);
        }
    }

    /// Bytes for the broker.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.split().freeze())
    }

    /// Publications that the broker has not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Everything delivered, in order, repeats and all.
    #[must_use]
    pub fn received(&self) -> &[Publish] {
        &self.received
    }

    /// The same since the last call, which it forgets: for clients that run long.
    pub fn take_received(&mut self) -> Vec<Publish> {
        std::mem::take(&mut self.received)
    }

    fn handle_packet(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(publish) => {
                let (id, qos) = (publish.id, publish.qos);
                // The protocol's own rule of QoS 2, without which nobody could say "delivered".
                if qos != Qos::ExactlyOnce || self.taken.insert(id) {
                    self.received.push(publish);
                }
                match qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => self.send(&Packet::PubAck { id, reason: 0 }),
                    Qos::ExactlyOnce => self.send(&Packet::PubRec { id, reason: 0 }),
                }
            }
            Packet::PubRel { id, .. } => {
                self.taken.remove(&id);
                self.send(&Packet::PubComp { id, reason: 0 });
            }
            Packet::PubRec { id, .. } => self.send(&Packet::PubRel { id, reason: 0 }),
            Packet::PubAck { id, .. } | Packet::PubComp { id, .. } => {
                self.unfinished.remove(&id);
            }
            _ => {}
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = if id == u16::MAX - 1 { 1 } else { id + 1 };
            if !self.unfinished.contains_key(&id) {
                return id;
            }
        }
    }

    fn send(&mut self, packet: &Packet) {
        write(packet, Protocol::V5, &mut self.outgoing);
    }
}

/// The message id that a record came with.
pub fn message_id_of(publish: &Publish) -> Option<&str> {
    let id = publish.user_properties.iter().find(|(name, _)| name == MESSAGE_ID_PROPERTY);
    id.map(|(_, id)| id.as_str())
}
