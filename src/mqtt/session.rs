//! Who owes whom what? The MQTT session machine.
//!
//! ```text
//!            Connect              Connected            CONNACK             record synced
//!  Waiting ──────────▶ Opening ──────────────▶ Greeting ──────▶ Preparing ─────────────▶ Ready
//!     ▲                   │                       │                 │                      │
//!     └───────────────────┴───── Disconnected ────┴─────────────────┴──────────────────────┘
//! ```
//! The state of the handshakes is ours (`inbound`, `outbound`) and outlives connections;
//! what belongs to a connection is here. The protocol is on one page in docs/protocols/mqtt-session.md.
//!
//! Invariants:
//! - Session-present 0 starts a new incarnation, whose record is durable before SUBSCRIBE or PUBLISH is sent.
//! - A closed intake holds PUBLISHes only; every other packet is handled.
//! - At most one record a direction is handed out for one input.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use embassy_time::{Duration, Instant};

use super::codec::{self, ConnAck, Connect, Packet, Publish, RECEIVE_MAXIMUM_V311};
use super::config::{Protocol, Qos, Role, SessionConfig, ticks};
use super::inbound::{Inbound, Verdict};
pub use super::io::{
    ConnectionNumber, Intake, MessageId, OutboxRecord, ReceivedPublish, SessionEvent, SessionInput,
    SessionOutput,
};
use super::outbound::{Outbound, Peer};
use super::queue::shrink;
use super::reconnect::Backoff;
use super::subscriptions::Subscriptions;
pub use super::values::RecoveredSession;
use super::values::{SessionValue, encode};
use super::wire::Wire;
use crate::admin::SessionStatus;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::state::key::{Direction, Key};

mod intake;
mod link;

use link::peer_of;

/// How a session starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionStart {
    /// The store is the direct successor of what the broker has last heard.
    Resume,
    /// The store was restored, copied or degraded: an egress starts clean, accepted ids are forgotten; repeats are possible.
    Clean,
}

/// One MQTT session. After each input, drain [`poll_output`](Self::poll_output) until `None`.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    link: Link,
    last_connection: ConnectionNumber,
    wire: Wire,
    input: BytesMut,
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: Subscriptions,
    incarnation: u64,
    /// The record that tells of the incarnation; 0 if the store knew it.
    incarnation_record: u64,
    /// The session record is to be handed out with the next one.
    identity_due: Option<Instant>,
    /// Progress keys of older incarnations, deleted when the epoch that deletes their entries is committed.
    stale: Vec<(u64, Option<Epoch>)>,
    peer: Peer,
    backoff: Backoff,
    clean_start: bool,
    intake: Intake,
    /// PUBLISHes that wait for the intake.
    held: VecDeque<Publish>,
    /// Of their topics and payloads.
    held_bytes: usize,
    /// How many of them are of QoS 0, which no Receive Maximum counts and nobody sends again.
    held_uncounted: usize,
    aliases: Vec<Option<Arc<str>>>,
    last_topic: Option<Arc<str>>,
    keep_alive: Duration,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    stopping: Option<Instant>,
    received_by_qos: [u64; 3],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Idle,
    Waiting {
        until: Instant,
    },
    Opening {
        connection: ConnectionNumber,
        since: Instant,
    },
    Greeting {
        connection: ConnectionNumber,
        since: Instant,
    },
    /// The new incarnation's record is being synced.
    Preparing {
        connection: ConnectionNumber,
        record: u64,
    },
    Ready {
        connection: ConnectionNumber,
        since: Instant,
    },
    /// Another client has our id: no reconnect war.
    TakenOver,
    Stopped,
}

impl Session {
    /// A session as the store knows it; nothing happens before [`start`](Self::start).
    #[must_use]
    pub fn new(
        config: Arc<SessionConfig>,
        mut recovered: RecoveredSession,
        start: SessionStart,
        seed: u64,
    ) -> Self {
        let is_egress = matches!(config.role, Role::Egress(_));
        let SessionValue { incarnation, held } = std::mem::take(&mut recovered.session);
        let unreadable = recovered.unreadable;
        let forget = start == SessionStart::Clean;
        let inbound = Inbound::new(&mut recovered, incarnation, forget, config.receive_maximum);
        let outbound = Outbound::new(&mut recovered, incarnation);
        let mut stale: Vec<(u64, Option<Epoch>)> =
            recovered.progress.keys().map(|(old, _)| (*old, None)).collect();
        stale.dedup();
        stale.retain(|(old, _)| *old != incarnation);
        let mut wire = Wire::new(config.broker.protocol);
        if 0 < unreadable {
            wire.error("session-value-unreadable", format!("{unreadable} values of the session"));
        }
        Self {
            subscriptions: Subscriptions::new(&config, held),
            link: Link::Idle,
            last_connection: ConnectionNumber(0),
            wire,
            input: BytesMut::new(),
            inbound,
            outbound,
            incarnation,
            incarnation_record: 0,
            identity_due: None,
            stale,
            peer: peer_of(&config, None),
            backoff: Backoff::new(seed),
            // A broker that remembers packet ids of a store that does not exist any more would swallow ours.
            clean_start: is_egress && (forget || incarnation == 0),
            intake: Intake::Open,
            held: VecDeque::new(),
            held_bytes: 0,
            held_uncounted: 0,
            aliases: Vec::new(),
            last_topic: None,
            keep_alive: ticks(config.keep_alive),
            last_sent: Instant::MIN,
            ping_sent: None,
            stopping: None,
            received_by_qos: [0; 3],
            config,
        }
    }

    /// Connects for the first time.
    pub fn start(&mut self, now: Instant) {
        self.connect(now);
    }

    /// Takes one input; `now` never goes back.
    pub fn handle_input(&mut self, now: Instant, input: SessionInput) {
        match input {
            SessionInput::Connected { connection } => self.on_connected(now, connection),
            SessionInput::Received { connection, bytes } => {
                if self.connection() == Some(connection) {
                    self.on_bytes(now, &bytes);
                }
            }
            SessionInput::Disconnected { connection, cause } => {
                if self.connection() == Some(connection) {
                    self.wire.error("disconnected", cause);
                    self.lose_connection(now);
                }
            }
            SessionInput::Committed { epoch } => self.on_committed(now, epoch),
            SessionInput::Synced { record } => self.on_synced(now, record),
            SessionInput::Send(record) => {
                // Nothing leaves before the commit, so there is nothing to settle.
                self.outbound.push(record);
                return;
            }
            SessionInput::Intake(intake) => self.on_intake(now, intake),
            SessionInput::Stop { deadline } => {
                self.stopping = Some(deadline);
                self.drop_held();
                self.inbound.journal.hurry(now);
                self.outbound.journal.hurry(now);
                self.identity_due = self.identity_due.map(|_| now);
            }
        }
        self.settle(now);
    }

    /// What is to be done next; `None` until the next input or timeout.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.wire.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_link = match self.link {
            Link::Waiting { until } => self.stopping.is_none().then_some(until),
            Link::Opening { since, .. } | Link::Greeting { since, .. } => Some(since + CONNECT_MAX),
            Link::Ready { .. } => self.subscriptions.poll_timeout(),
            Link::Idle | Link::Preparing { .. } | Link::TakenOver | Link::Stopped => None,
        };
        let is_stopped = matches!(self.link, Link::Stopped);
        [
            of_link,
            self.ping_at(),
            self.ping_lost_at(),
            self.inbound.journal.poll_timeout(),
            self.outbound.journal.poll_timeout(),
            self.identity_due,
            self.stopping,
        ]
        .into_iter()
        .flatten()
        .min()
        .filter(|_| !is_stopped)
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.link {
            Link::Waiting { until } if until <= now && self.stopping.is_none() => self.connect(now),
            Link::Opening { since, .. } | Link::Greeting { since, .. } if since + CONNECT_MAX <= now => {
                self.wire.error("connect-timeout", "no CONNACK");
                self.close(now);
            }
            _ => {}
        }
        if self.ping_lost_at().is_some_and(|at| at <= now) {
            self.wire.error("ping-lost", "the broker does not answer PINGREQ");
            self.close(now);
        }
        self.settle(now);
    }

    /// The worker cuts `epoch`: puts and deletes everything of this session that changed since the last cut.
    pub fn cut(&mut self, epoch: Epoch, frame: &mut FrameBuilder) {
        let id = self.config.name.as_str();
        self.inbound.cut(epoch, id, self.incarnation, frame);
        self.outbound.cut(epoch, id, self.incarnation, frame);
        for (_, cut) in self.stale.iter_mut().filter(|(_, cut)| cut.is_none()) {
            *cut = Some(epoch);
        }
    }

    /// Has the working epoch something of this session worth committing?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.inbound.is_dirty() || self.outbound.is_dirty()
    }

    /// The base holds every epoch up to this one. Unfinished entries stay in memory all the same: they are bounded by the
    /// worker's account, to which [`memory_bytes`](Self::memory_bytes) is charged.
    pub fn folded(&mut self, _epoch: Epoch) {}

    /// What the session holds in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.inbound.memory_bytes() + self.outbox_bytes() + self.input.len() + self.held_bytes()
    }

    /// Of that, PUBLISHes that wait for the intake.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.held.len() * size_of::<Publish>()
    }

    /// Of that, what waits for the broker.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbound.memory_bytes()
    }

    /// Is the socket to be read? Not while a broker sends more than a closed intake can hold.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.held.len() < self.unread_beyond()
    }

    /// How the session is.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        let connection = match self.link {
            Link::Ready { .. } => "connected",
            Link::Opening { .. } | Link::Greeting { .. } | Link::Preparing { .. } => "connecting",
            Link::Idle | Link::Waiting { .. } => "waiting",
            Link::TakenOver => "taken-over",
            Link::Stopped => "stopped",
        };
        SessionStatus {
            name: self.config.name.as_str().to_owned(),
            connection: connection.to_owned(),
            incarnation: self.incarnation,
            intake_open: self.intake != Intake::Closed,
            accepted_unfinished: self.inbound.unfinished() as u64,
            outbox_entries: self.outbound.entries() as u64,
            outbox_in_flight: self.outbound.in_flight(),
            received: self.received_by_qos.iter().sum(),
            published: self.outbound.published,
            received_by_qos: self.received_by_qos,
            last_error: self.wire.last_error.clone(),
        }
    }

    fn on_bytes(&mut self, now: Instant, bytes: &Bytes) {
        self.input.extend_from_slice(bytes);
        self.read_packets(now);
    }

    fn read_packets(&mut self, now: Instant) {
        while self.connection().is_some() && self.wants_bytes() {
            let protocol = self.config.broker.protocol;
            match codec::read(&mut self.input, protocol, self.config.packet_bytes_max) {
                Ok(None) => return,
                Ok(Some(packet)) => self.on_packet(now, packet),
                Err(error) => {
                    let reason =
                        if matches!(error, codec::CodecError::TooLarge { .. }) { 0x95 } else { 0x81 };
                    self.give_up(now, reason, "broker-broke-protocol", error.to_string());
                }
            }
        }
    }

    fn on_packet(&mut self, now: Instant, packet: Packet) {
        if let Link::Greeting { connection, .. } = self.link {
            match packet {
                Packet::ConnAck(ack) => self.on_connack(now, connection, &ack),
                other => self.give_up(
                    now,
                    PROTOCOL_ERROR,
                    "broker-broke-protocol",
                    format!("{} before CONNACK", other.name()),
                ),
            }
            return;
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(now, publish),
            Packet::PubAck { id, reason } => self.outbound.on_puback(now, id, reason, &mut self.wire),
            Packet::PubRec { id, reason } => self.outbound.on_pubrec(now, id, reason, &mut self.wire),
            Packet::PubRel { id, .. } => self.inbound.on_pubrel(now, id, &mut self.wire),
            Packet::PubComp { id, reason } => self.outbound.on_pubcomp(now, id, reason, &mut self.wire),
            Packet::SubAck { reasons, .. } => {
                if self.subscriptions.on_suback(now, &reasons, &mut self.wire) {
                    self.identity_due = Some(now);
                }
            }
            Packet::UnsubAck { .. } => {
                if self.subscriptions.on_unsuback(&mut self.wire) {
                    self.identity_due = Some(now);
                }
            }
            Packet::PingResp => {
                self.ping_sent = None;
                self.inbound.on_pong(now);
            }
            Packet::Disconnect { reason } => self.on_disconnect(now, reason),
            other => {
                self.give_up(
                    now,
                    PROTOCOL_ERROR,
                    "broker-broke-protocol",
                    format!("{} from a broker", other.name()),
                );
            }
        }
    }

    fn record_identity(&mut self, now: Instant) -> u64 {
        let value = SessionValue { incarnation: self.incarnation, held: self.subscriptions.held.clone() };
        let mut bytes = Vec::new();
        encode(&value, &mut bytes);
        let key = Key::Session { id: self.config.name.as_str() };
        self.wire.record(now, &key, bytes)
    }

    fn on_committed(&mut self, now: Instant, epoch: Epoch) {
        self.inbound.on_committed(now, epoch, &mut self.wire);
        self.outbound.on_committed(now, epoch, &mut self.wire);
        self.inbound.journal.ride(now);
        self.outbound.journal.ride(now);
        let id = self.config.name.as_str();
        let wire = &mut self.wire;
        self.stale.retain(|(incarnation, cut)| {
            let is_gone = cut.is_some_and(|cut| cut <= epoch);
            if is_gone {
                for direction in [Direction::In, Direction::Out] {
                    let key = Key::Progress { id, incarnation: *incarnation, direction };
                    wire.record(now + STALE_SYNC, &key, Vec::new());
                }
            }
            !is_gone
        });
    }

    fn on_synced(&mut self, now: Instant, record: u64) {
        self.wire.synced = self.wire.synced.max(record);
        self.inbound.on_synced(now, &mut self.wire);
        self.outbound.on_synced(&mut self.wire);
        if let Link::Preparing { connection, record } = self.link
            && record <= self.wire.synced
        {
            self.link = Link::Ready { connection, since: now };
        }
    }

    /// After every input: timers, what may be sent, records, one write.
    fn settle(&mut self, now: Instant) {
        if matches!(self.link, Link::Stopped) {
            return;
        }
        if matches!(self.link, Link::Ready { .. }) {
            if self.stopping.is_none() {
                self.subscriptions.pump(now, &mut self.wire);
            }
            self.outbound.pump(now, &self.peer, &mut self.wire);
        }
        let id = self.config.name.as_str();
        self.inbound.emit(now, id, self.incarnation, &mut self.wire);
        self.outbound.emit(now, id, self.incarnation, &mut self.wire);
        if self.identity_due.is_some_and(|due| due <= now) {
            self.identity_due = None;
            self.record_identity(now);
        }
        if self.ping_at().is_some_and(|at| at <= now) {
            self.wire.send(&Packet::PingReq);
            self.ping_sent = Some(now);
            self.inbound.on_ping_sent();
        }
        self.flush(now);
        self.stop_if_done(now);
    }

    fn ping_at(&self) -> Option<Instant> {
        if self.wire.connection.is_none() || self.ping_sent.is_some() {
            return None;
        }
        let keep_alive = (0 < self.keep_alive.as_ticks()).then(|| self.last_sent + self.keep_alive);
        [keep_alive, self.inbound.probe_at()].into_iter().flatten().min()
    }

    /// When an unanswered PINGREQ ends the connection; not while we do not read.
    fn ping_lost_at(&self) -> Option<Instant> {
        if !self.wants_bytes() {
            return None;
        }
        self.ping_sent.map(|sent| sent + self.keep_alive.max(PING_ANSWER_MIN))
    }

    fn flush(&mut self, now: Instant) {
        if self.wire.bytes.is_empty() {
            return;
        }
        let bytes = self.wire.bytes.split().freeze();
        if let Some(connection) = self.connection() {
            self.last_sent = now;
            self.wire.outputs.push_back(SessionOutput::Transmit { connection, bytes });
        }
    }

    fn stop_if_done(&mut self, now: Instant) {
        let Some(deadline) = self.stopping else { return };
        let is_ready = matches!(self.link, Link::Ready { .. });
        let is_done = if is_ready {
            self.inbound.is_settled() && self.outbound.is_settled()
        } else {
            !self.inbound.is_dirty() && !self.outbound.is_committing()
        };
        if !is_done && now < deadline {
            return;
        }
        if self.wire.connection.is_some() {
            self.disconnect(0);
        } else if let Some(connection) = self.connection() {
            self.wire.outputs.push_back(SessionOutput::Close { connection });
        }
        self.link = Link::Stopped;
        self.wire.connection = None;
        self.wire.outputs.push_back(SessionOutput::Stopped);
    }
}

/// Topic aliases that the broker may use (each costs a pointer; names are shared).
const TOPIC_ALIAS_MAXIMUM: u16 = 16;
/// Mosquitto 2.0 exceeds our Receive Maximum when it resumes a backlog, by the whole backlog. What it sends is accepted; a closed
/// intake holds so many times our Receive Maximum, and the socket is not read beyond.
const RECEIVE_MAXIMUM_TOLERANCE: usize = 2;
/// Outstanding PUBLISHes at most, whatever the broker allows: what is under way lies in the socket's queue.
const WINDOW_MAX: u64 = 2048;
/// The longest packet that MQTT can carry.
const PACKET_BYTES_MAX: usize = 268_435_460;
/// From the opening of the socket to CONNACK.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A PINGREQ is answered within the keep-alive, but at least this is granted.
const PING_ANSWER_MIN: Duration = Duration::from_secs(5);
/// A connection that was ready for so long was of use: the next pause is short.
const USEFUL_AFTER: Duration = Duration::from_secs(10);
/// Progress of a lost session is deleted when it suits.
const STALE_SYNC: Duration = Duration::from_secs(60);
/// MQTT 5 reason codes.
const PROTOCOL_ERROR: u8 = 0x82;
const SESSION_TAKEN_OVER: u8 = 0x8E;

#[cfg(test)]
mod tests;
