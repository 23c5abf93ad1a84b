//! How does a session come by a connection, and what does it know of the broker then?

use super::*;

impl Session {
    pub(super) fn connection(&self) -> Option<ConnectionNumber> {
        match self.link {
            Link::Opening { connection, .. }
            | Link::Greeting { connection, .. }
            | Link::Preparing { connection, .. }
            | Link::Ready { connection, .. } => Some(connection),
            Link::Idle | Link::Waiting { .. } | Link::TakenOver | Link::Stopped => None,
        }
    }

    pub(super) fn connect(&mut self, now: Instant) {
        self.last_connection.0 += 1;
        let connection = self.last_connection;
        self.link = Link::Opening { connection, since: now };
        self.wire.outputs.push_back(SessionOutput::Connect { connection });
    }

    pub(super) fn on_connected(&mut self, now: Instant, connection: ConnectionNumber) {
        if !matches!(self.link, Link::Opening { connection: opening, .. } if opening == connection) {
            return;
        }
        self.link = Link::Greeting { connection, since: now };
        let config = &self.config;
        self.wire.send(&Packet::Connect(Connect {
            protocol: config.broker.protocol,
            client_id: config.client_id.clone(),
            clean_start: self.clean_start,
            keep_alive_seconds: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            session_expiry_seconds: u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX),
            receive_maximum: config.receive_maximum,
            packet_bytes_max: Some(config.packet_bytes_max),
            topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
            login: config.user.clone().map(|user| {
                let password = config.password.as_ref().map_or(String::new(), |secret| secret.0.clone());
                (user, password)
            }),
        }));
        self.keep_alive = ticks(config.keep_alive);
    }

    pub(super) fn on_connack(&mut self, now: Instant, connection: ConnectionNumber, ack: &ConnAck) {
        if ack.reason != 0 {
            self.wire.error("connect-refused", format!("the broker says 0x{:02X}", ack.reason));
            self.close(now);
            return;
        }
        if self.clean_start {
            self.clean_start = false;
            if self.config.broker.protocol == Protocol::V311 {
                // A clean session of 3.1.1 ends with its connection: it has done its work.
                self.wire.event("clean-start", "the broker's old session is discarded");
                self.disconnect(0);
                self.connect(now);
                return;
            }
        }
        self.peer = peer_of(&self.config, Some(ack));
        if let Some(seconds) = ack.keep_alive_seconds {
            self.keep_alive = Duration::from_secs(u64::from(seconds));
        }
        let expiry = self.config.session_expiry.as_secs();
        if ack.session_expiry_seconds.is_some_and(|granted| u64::from(granted) < expiry) {
            self.wire.error("session-expiry-lowered", "the broker forgets the session earlier than asked");
        }
        self.wire.connection = Some(connection);
        self.aliases = vec![None; usize::from(TOPIC_ALIAS_MAXIMUM)];
        self.ping_sent = None;
        self.last_sent = now;
        self.subscriptions.connected();
        if !ack.session_present || self.incarnation == 0 {
            self.incarnation_record = self.begin_incarnation(now, ack.session_present);
        }
        // The connection on which an incarnation began may be gone before its record was durable.
        let record = self.incarnation_record;
        self.link = if record <= self.wire.synced {
            Link::Ready { connection, since: now }
        } else {
            Link::Preparing { connection, record }
        };
        self.inbound.connected(now);
        self.outbound.connected();
    }

    /// The broker knows nothing of what we owe each other: all that is unfinished belongs to the past.
    pub(super) fn begin_incarnation(&mut self, now: Instant, session_present: bool) -> u64 {
        let old = self.incarnation;
        // What is known to be done must stay done until the frame that moves the rest is committed.
        let id = self.config.name.as_str();
        self.inbound.journal.hurry(now);
        self.inbound.emit(now, id, old, &mut self.wire);
        self.outbound.journal.hurry(now);
        self.outbound.emit(now, id, old, &mut self.wire);
        self.incarnation += 1;
        let forgotten = self.inbound.start_over(old);
        let again = self.outbound.start_over(old);
        if 0 < old {
            self.stale.push((old, None));
            self.wire.error(
                "session-lost",
                format!(
                    "incarnation {}: {forgotten} accepted forgotten, {again} put again",
                    self.incarnation
                ),
            );
        }
        if !session_present {
            self.subscriptions.held.clear();
        }
        self.identity_due = None;
        self.record_identity(now)
    }

    pub(super) fn on_disconnect(&mut self, now: Instant, reason: u8) {
        self.wire.error("broker-disconnects", format!("the broker says 0x{reason:02X}"));
        self.close(now);
        if reason == SESSION_TAKEN_OVER {
            self.wire.error("session-taken-over", format!("another client is {}", self.config.client_id));
            self.link = Link::TakenOver;
        }
    }

    /// The broker broke the protocol: says so (MQTT 5), and closes.
    pub(super) fn give_up(&mut self, now: Instant, reason: u8, kind: &'static str, text: String) {
        self.wire.error(kind, text);
        if self.config.broker.protocol == Protocol::V5 && self.wire.connection.is_some() {
            self.wire.send(&Packet::Disconnect { reason });
            self.flush(now);
        }
        self.close(now);
    }

    /// DISCONNECT and close, in this order.
    pub(super) fn disconnect(&mut self, reason: u8) {
        let Some(connection) = self.connection() else {
            return;
        };
        self.wire.send(&Packet::Disconnect { reason });
        let bytes = self.wire.bytes.split().freeze();
        self.wire.outputs.push_back(SessionOutput::Transmit { connection, bytes });
        self.wire.outputs.push_back(SessionOutput::Close { connection });
        self.forget_connection();
    }

    pub(super) fn close(&mut self, now: Instant) {
        if let Some(connection) = self.connection() {
            self.flush(now);
            self.wire.outputs.push_back(SessionOutput::Close { connection });
        }
        self.lose_connection(now);
    }

    /// Waits before the next attempt: longer and longer, unless the connection was of use.
    pub(super) fn lose_connection(&mut self, now: Instant) {
        if matches!(self.link, Link::Ready { since, .. } if since + USEFUL_AFTER <= now) {
            self.backoff.reset();
        }
        self.forget_connection();
        self.link = Link::Waiting { until: now + self.backoff.pause() };
    }

    pub(super) fn forget_connection(&mut self) {
        if matches!(self.link, Link::Greeting { .. }) {
            // An answer that was lost may have said that the session is a new one.
            self.subscriptions.doubt();
            self.outbound.doubt();
        }
        self.drop_held();
        self.input.clear();
        self.wire.bytes.clear();
        self.wire.connection = None;
        self.ping_sent = None;
        self.inbound.disconnected();
        self.outbound.connected();
    }
}

pub(super) fn peer_of(config: &SessionConfig, ack: Option<&ConnAck>) -> Peer {
    let announced = match config.broker.protocol {
        Protocol::V5 => ack.and_then(|ack| ack.receive_maximum).unwrap_or(u16::MAX),
        Protocol::V311 => RECEIVE_MAXIMUM_V311,
    };
    let packet_bytes_max = ack.and_then(|ack| ack.packet_bytes_max);
    Peer {
        window: u64::from(announced.max(1)).min(WINDOW_MAX),
        packet_bytes_max: packet_bytes_max
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(PACKET_BYTES_MAX),
        qos_max: ack.map_or(Qos::ExactlyOnce, |ack| ack.qos_max),
        retain_available: ack.is_none_or(|ack| ack.retain_available),
    }
}
