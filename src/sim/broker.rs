//! What does an MQTT broker do? A small pure one, MQTT 5 and 3.1.1: for the simulator, and behind a loopback socket for the demo.
//!
//! Sessions outlive connections; QoS 0, 1 and 2 both ways; retained records; `+`, `#` and `$share`. Like Mosquitto it queues so
//! much for a session and drops the rest, having acknowledged the publisher: [`dropped`](Broker::dropped) counts them. A QoS 2
//! record is passed on when PUBREL comes.
//!
//! What it does not do: wills, authorisation, subscription identifiers, aliases towards clients.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use embassy_time::{Duration, Instant};

use crate::mqtt::codec::{self, ConnAck, Connect, Filter, Packet, Publish, RetainHandling};
use crate::mqtt::config::{Protocol, Qos};

mod io;

pub use io::{BrokerInput, BrokerOutput, BrokerSettings};

/// A broker. After each input, drain [`poll_output`](Self::poll_output) until `None`.
#[derive(Debug, Default)]
pub struct Broker {
    settings: BrokerSettings,
    connections: BTreeMap<u64, Connection>,
    sessions: BTreeMap<String, Stored>,
    retained: BTreeMap<String, Publish>,
    /// Whose turn it is, by shared filter.
    turns: BTreeMap<String, usize>,
    outputs: VecDeque<BrokerOutput>,
    dropped: u64,
}

#[derive(Debug)]
struct Connection {
    input: BytesMut,
    output: BytesMut,
    protocol: Protocol,
    /// After CONNECT.
    client_id: Option<String>,
    receive_maximum: usize,
    packet_bytes_max: Option<u32>,
}

/// A client's session.
#[derive(Debug)]
struct Stored {
    connection: Option<u64>,
    filters: Vec<Filter>,
    /// QoS 2 PUBLISHes that wait for PUBREL.
    received: BTreeMap<u16, Publish>,
    flights: VecDeque<Flight>,
    queue: VecDeque<Publish>,
    next_id: u16,
    expiry: Duration,
    expires_at: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    publish: Publish,
    /// PUBREC has come, PUBREL was sent.
    is_released: bool,
}

impl Broker {
    /// A broker without sessions.
    #[must_use]
    pub fn new(settings: BrokerSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes one input; `now` never goes back.
    pub fn handle_input(&mut self, now: Instant, input: BrokerInput) {
        self.sessions.retain(|_, session| session.expires_at.is_none_or(|at| now < at));
        match input {
            BrokerInput::Accepted { connection } => {
                self.connections.insert(connection, Connection::new());
            }
            BrokerInput::Received { connection, bytes } => {
                if let Some(found) = self.connections.get_mut(&connection) {
                    found.input.extend_from_slice(&bytes);
                    self.read_packets(now, connection);
                }
            }
            BrokerInput::Closed { connection } => self.forget(now, connection),
            BrokerInput::Restart { persistent } => {
                let open: Vec<u64> = self.connections.keys().copied().collect();
                for connection in open {
                    self.close(now, connection);
                }
                if !persistent {
                    self.sessions.clear();
                    self.retained.clear();
                }
            }
        }
        self.flush();
    }

    /// What is to be done next; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<BrokerOutput> {
        self.outputs.pop_front()
    }

    /// Records dropped because a session's queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Has this client a session with a subscription?
    #[must_use]
    pub fn is_subscribed(&self, client_id: &str) -> bool {
        (self.sessions.get(client_id)).is_some_and(|session| !session.filters.is_empty())
    }

    /// Forgets a session, as a broker does that loses its memory.
    pub fn lose_session(&mut self, now: Instant, client_id: &str) {
        if let Some(connection) = self.sessions.get(client_id).and_then(|session| session.connection) {
            self.close(now, connection);
        }
        self.sessions.remove(client_id);
    }

    /// Sends DISCONNECT (MQTT 5) to a client and closes.
    pub fn disconnect(&mut self, now: Instant, client_id: &str, reason: u8) {
        if let Some(connection) = self.sessions.get(client_id).and_then(|session| session.connection) {
            self.send(connection, &Packet::Disconnect { reason });
            self.close(now, connection);
        }
    }

    fn read_packets(&mut self, now: Instant, connection: u64) {
        loop {
            let Some(found) = self.connections.get_mut(&connection) else {
                return;
            };
            if found.client_id.is_none() {
                match codec::protocol_of_connect(&found.input) {
                    Some(protocol) => found.protocol = protocol,
                    None => return,
                }
            }
            match codec::read(&mut found.input, found.protocol, self.settings.packet_bytes_max) {
                Ok(None) => return,
                Ok(Some(packet)) => self.on_packet(now, connection, packet),
                Err(_) => self.close(now, connection),
            }
        }
    }

    fn on_packet(&mut self, now: Instant, connection: u64, packet: Packet) {
        if let Packet::Connect(connect) = packet {
            self.on_connect(now, connection, connect);
            return;
        }
        let client_id = self.connections.get(&connection).and_then(|found| found.client_id.clone());
        let Some(client_id) = client_id else {
            self.close(now, connection);
            return;
        };
        let Some(session) = self.sessions.get_mut(&client_id) else {
            return;
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(connection, &client_id, publish),
            Packet::PubRel { id, .. } => {
                let publish = session.received.remove(&id);
                let reason = if publish.is_some() { 0 } else { 0x92 };
                if let Some(publish) = publish {
                    self.route(publish);
                }
                self.send(connection, &Packet::PubComp { id, reason });
            }
            Packet::PubRec { id, reason } if reason < 0x80 => {
                let flight = session.flights.iter_mut().find(|flight| flight.publish.id == id);
                let reason = match flight {
                    Some(flight) => {
                        flight.is_released = true;
                        0
                    }
                    None => 0x92,
                };
                self.send(connection, &Packet::PubRel { id, reason });
            }
            Packet::PubAck { id, .. } | Packet::PubRec { id, .. } | Packet::PubComp { id, .. } => {
                session.flights.retain(|flight| flight.publish.id != id);
                self.pump(&client_id);
            }
            Packet::Subscribe { id, filters } => self.on_subscribe(connection, &client_id, id, filters),
            Packet::Unsubscribe { id, filters } => {
                session.filters.retain(|held| !filters.contains(&held.filter));
                let reasons = vec![0; filters.len()];
                self.send(connection, &Packet::UnsubAck { id, reasons });
            }
            Packet::PingReq => self.send(connection, &Packet::PingResp),
            Packet::Disconnect { .. } => self.close(now, connection),
            _ => self.close(now, connection),
        }
    }

    fn on_connect(&mut self, now: Instant, connection: u64, connect: Connect) {
        if let Some(old) = self.sessions.get(&connect.client_id).and_then(|session| session.connection) {
            self.send(old, &Packet::Disconnect { reason: 0x8E });
            self.close(now, old);
        }
        if connect.clean_start {
            self.sessions.remove(&connect.client_id);
        }
        let session_present = self.sessions.contains_key(&connect.client_id);
        let session = self.sessions.entry(connect.client_id.clone()).or_insert_with(Stored::new);
        session.connection = Some(connection);
        session.expires_at = None;
        session.expiry = Duration::from_secs(u64::from(connect.session_expiry_seconds));
        if let Some(found) = self.connections.get_mut(&connection) {
            found.client_id = Some(connect.client_id.clone());
            found.receive_maximum = usize::from(connect.receive_maximum);
            found.packet_bytes_max = connect.packet_bytes_max;
        }
        let settings = &self.settings;
        let ack = ConnAck {
            session_present,
            reason: 0,
            receive_maximum: Some(settings.receive_maximum),
            qos_max: settings.qos_max,
            retain_available: settings.retain_available,
            packet_bytes_max: Some(settings.packet_bytes_max),
            session_expiry_seconds: None,
            keep_alive_seconds: None,
        };
        self.send(connection, &Packet::ConnAck(ack));
        self.resume(connection, &connect.client_id);
        self.pump(&connect.client_id);
    }

    /// Sends again what was under way when the connection was lost.
    fn resume(&mut self, connection: u64, client_id: &str) {
        let Some(session) = self.sessions.get_mut(client_id) else {
            return;
        };
        let mut packets = Vec::new();
        for flight in &mut session.flights {
            if flight.is_released && !self.settings.publishes_after_pubrel {
                packets.push(Packet::PubRel { id: flight.publish.id, reason: 0 });
            } else {
                flight.is_released = false;
                packets.push(Packet::Publish(Publish { dup: true, ..flight.publish.clone() }));
            }
        }
        for packet in packets {
            self.send(connection, &packet);
        }
    }

    fn on_publish(&mut self, connection: u64, client_id: &str, publish: Publish) {
        let id = publish.id;
        let is_refused = publish.topic.starts_with(b"refused/");
        let reason = if is_refused { self.settings.refusal } else { 0 };
        match publish.qos {
            Qos::AtMostOnce if is_refused => {}
            Qos::AtMostOnce => self.route(publish),
            Qos::AtLeastOnce => {
                if !is_refused {
                    self.route(publish);
                }
                self.send(connection, &Packet::PubAck { id, reason });
            }
            Qos::ExactlyOnce => {
                if let (false, Some(session)) = (is_refused, self.sessions.get_mut(client_id)) {
                    session.received.entry(id).or_insert(publish);
                }
                self.send(connection, &Packet::PubRec { id, reason });
            }
        }
    }

    /// Passes a record on to every subscriber, and keeps it if it is to be retained.
    fn route(&mut self, publish: Publish) {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        if publish.retain && self.settings.retain_available {
            if publish.payload.is_empty() {
                self.retained.remove(&topic);
            } else {
                self.retained.insert(topic.clone(), publish.clone());
            }
        }
        let mut targets: Vec<(String, Qos)> = Vec::new();
        let mut shared: BTreeMap<String, Vec<(String, Qos)>> = BTreeMap::new();
        for (client_id, session) in &self.sessions {
            for held in &session.filters {
                match held.filter.strip_prefix("$share/") {
                    None if matches(&topic, &held.filter) => targets.push((client_id.clone(), held.qos)),
                    Some(rest) if rest.split_once('/').is_some_and(|(_, filter)| matches(&topic, filter)) => {
                        let members = shared.entry(held.filter.clone()).or_default();
                        members.push((client_id.clone(), held.qos));
                    }
                    _ => {}
                }
            }
        }
        for (filter, members) in shared {
            let turn = self.turns.entry(filter).or_default();
            *turn += 1;
            targets.extend(members.get(*turn % members.len()).cloned());
        }
        for (client_id, qos) in targets {
            let copy = Publish { qos: publish.qos.min(qos), retain: false, dup: false, ..publish.clone() };
            self.enqueue(&client_id, copy);
            self.pump(&client_id);
        }
    }

    fn enqueue(&mut self, client_id: &str, publish: Publish) {
        let Some(session) = self.sessions.get_mut(client_id) else {
            return;
        };
        match (publish.qos, session.connection) {
            (Qos::AtMostOnce, Some(connection)) => {
                self.send(connection, &Packet::Publish(Publish { id: 0, ..publish }));
            }
            (Qos::AtMostOnce, None) => {}
            _ if self.settings.queue_max <= session.queue.len() => self.dropped += 1,
            _ => session.queue.push_back(publish),
        }
    }

    /// Sends queued records as far as the client's window allows.
    fn pump(&mut self, client_id: &str) {
        loop {
            let Some(session) = self.sessions.get_mut(client_id) else {
                return;
            };
            let Some(connection) = session.connection else {
                return;
            };
            let allowed = self.connections.get(&connection).map_or(0, |found| found.receive_maximum);
            if allowed.min(self.settings.in_flight_max) <= session.flights.len() {
                return;
            }
            let Some(mut publish) = session.queue.pop_front() else {
                return;
            };
            publish.id = session.take_id(self.settings.packet_ids_max);
            let packet = Packet::Publish(publish.clone());
            session.flights.push_back(Flight { publish, is_released: false });
            self.send(connection, &packet);
        }
    }

    fn on_subscribe(&mut self, connection: u64, client_id: &str, id: u16, filters: Vec<Filter>) {
        let mut reasons = Vec::new();
        let mut retained = Vec::new();
        for filter in filters {
            if filter.filter.starts_with("refused/") {
                reasons.push(if self.protocol(connection) == Protocol::V5 { 0x87 } else { 0x80 });
                continue;
            }
            reasons.push(filter.qos as u8);
            let Some(session) = self.sessions.get_mut(client_id) else {
                return;
            };
            let is_new = !session.filters.iter().any(|held| held.filter == filter.filter);
            let wants_retained = match filter.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::WhenNew => is_new,
                RetainHandling::Never => false,
            };
            if wants_retained && !filter.filter.starts_with("$share/") {
                let found = self.retained.iter().filter(|(topic, _)| matches(topic, &filter.filter));
                retained.extend(found.map(|(_, publish)| Publish {
                    qos: publish.qos.min(filter.qos),
                    dup: false,
                    ..publish.clone()
                }));
            }
            session.filters.retain(|held| held.filter != filter.filter);
            session.filters.push(filter);
        }
        self.send(connection, &Packet::SubAck { id, reasons });
        for publish in retained {
            self.enqueue(client_id, publish);
        }
        self.pump(client_id);
    }

    fn protocol(&self, connection: u64) -> Protocol {
        self.connections.get(&connection).map_or(Protocol::V5, |found| found.protocol)
    }

    fn send(&mut self, connection: u64, packet: &Packet) {
        let Some(found) = self.connections.get_mut(&connection) else {
            return;
        };
        let is_disconnect = matches!(packet, Packet::Disconnect { .. });
        if !is_disconnect || found.protocol == Protocol::V5 {
            codec::write(packet, found.protocol, &mut found.output);
        }
    }

    fn close(&mut self, now: Instant, connection: u64) {
        self.flush();
        if self.connections.contains_key(&connection) {
            self.outputs.push_back(BrokerOutput::Close { connection });
        }
        self.forget(now, connection);
    }

    fn forget(&mut self, now: Instant, connection: u64) {
        let client_id = self.connections.remove(&connection).and_then(|found| found.client_id);
        let Some(session) = client_id.and_then(|client_id| self.sessions.get_mut(&client_id)) else {
            return;
        };
        if session.connection == Some(connection) {
            session.connection = None;
            session.expires_at = Some(now + session.expiry);
        }
    }

    fn flush(&mut self) {
        for (connection, found) in &mut self.connections {
            if !found.output.is_empty() {
                let bytes = found.output.split().freeze();
                let connection = *connection;
                self.outputs.push_back(BrokerOutput::Transmit { connection, bytes });
            }
        }
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            protocol: Protocol::V5,
            client_id: None,
            receive_maximum: 0,
            packet_bytes_max: None,
        }
    }
}

impl Stored {
    fn new() -> Self {
        Self {
            connection: None,
            filters: Vec::new(),
            received: BTreeMap::new(),
            flights: VecDeque::new(),
            queue: VecDeque::new(),
            next_id: 0,
            expiry: Duration::from_ticks(0),
            expires_at: None,
        }
    }

    /// The next packet id that is not under way.
    fn take_id(&mut self, ids_max: u16) -> u16 {
        loop {
            self.next_id = if self.next_id < ids_max { self.next_id + 1 } else { 1 };
            if !self.flights.iter().any(|flight| flight.publish.id == self.next_id) {
                return self.next_id;
            }
        }
    }
}

/// Does the topic match the filter? Wildcards at the start do not match topics that begin with `$`.
fn matches(topic: &str, filter: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (topic, filter, is_match) in [
            ("a/b", "a/+", true),
            ("a", "a/#", true),
            ("a/b/c", "a/#", true),
            ("a/b", "a", false),
            ("a", "+/b", false),
            ("$SYS/x", "#", false),
            ("$SYS/x", "$SYS/#", true),
            ("/a", "+/a", true),
        ] {
            assert_eq!(matches(topic, filter), is_match, "{topic} {filter}");
        }
    }
}
