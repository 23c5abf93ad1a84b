//! How does a broker hear what is measured? One retained value a topic, `$fogfun/<node>/<metric>`, over a connection of its own.
//!
//! ```text
//! waiting ─ pause over ─→ opening ─ socket ─→ greeting ─ CONNACK ─→ connected ─ every interval: read values, publish the changed ones
//!    ↑                       │                   │                      │
//!    └───────────────────────┴──── away, refused, silent: counted ──────┘
//! ```
//! `$fogfun/<node>/status` is `online` from CONNACK on; `offline` is the will, so it also follows a clean stop, which closes the socket.
//!
//! Invariants:
//! - It shares nothing with a session: its own client id, clean start, QoS 0 but for `online`, whose PUBACK says whether we may publish.
//! - Values are read once an interval at most, whatever the connection does, and not while the last ones are unwritten: what waits for a
//!   broker is bounded by one reading.
//! - After a connection every value is published once; later only what has changed. One that is no longer measured is cleared.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use embassy_time::{Duration, Instant};

use super::codec::{self, Connect, Packet, PublishRef, Will};
use super::config::{MetricsConfig, Qos, ticks};
use super::reconnect::Backoff;

/// Values of one node at most, the first by topic; further ones are left out and counted. Some 150 KiB of memory here, and as many
/// retained messages at the broker.
pub const VALUES_MAX: usize = if cfg!(test) { 3 } else { 1_000 };
/// Longest name of a node, in bytes.
pub const NODE_BYTES_MAX: usize = 64;
/// From the open socket to CONNACK. Longer waits for a broker that is overloaded, shorter tries it again sooner.
pub const GREETING_TIME_MAX: Duration = Duration::from_secs(10);
/// Nothing that a broker sends us is longer: we subscribe to nothing.
const PACKET_BYTES_MAX: u32 = 4 * 1024;
/// Of the PUBLISH that says `online`.
const STATUS_PACKET_ID: u16 = 1;

/// May a node be called so? One level of a topic: not empty, at most [`NODE_BYTES_MAX`] bytes, no `/`, `+`, `#` or control character.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let is_bad = |letter: char| matches!(letter, '/' | '+' | '#') || letter.is_control();
    !name.is_empty() && name.len() <= NODE_BYTES_MAX && !name.contains(is_bad)
}

/// What a publisher is told.
#[derive(Debug)]
pub enum MetricsInput {
    /// The socket is open.
    Connected,
    /// The socket could not be opened or is closed.
    Disconnected {
        /// Why, for a person.
        cause: String,
    },
    /// Bytes came.
    Received(Bytes),
    /// All that was to be transmitted is written.
    Written,
    /// What [`MetricsOutput::Read`] asked for: by topic behind the node's name.
    Values(BTreeMap<String, f64>),
}

/// What a publisher wants done.
#[derive(Debug, PartialEq)]
pub enum MetricsOutput {
    /// Open a socket: answered by `Connected` or `Disconnected`.
    Connect,
    /// Write these bytes; `Written` answers when all are.
    Transmit(Bytes),
    /// Close the socket now; nothing answers.
    Close,
    /// Read the values: answered by `Values`.
    Read,
    /// Something to count, and perhaps to tell a person.
    Event {
        /// The counter's name.
        kind: &'static str,
        /// What to tell.
        text: String,
    },
}

/// The machine.
#[derive(Debug)]
pub struct MetricsPublisher {
    config: Arc<MetricsConfig>,
    client_id: String,
    /// `$fogfun/<node>/`.
    prefix: String,
    link: Link,
    backoff: Backoff,
    /// What the broker was told on this connection.
    published: BTreeMap<String, String>,
    /// Values are read again at this time at the earliest.
    read_due: Instant,
    received: BytesMut,
    outputs: VecDeque<MetricsOutput>,
}

#[derive(Debug)]
enum Link {
    Waiting { until: Instant },
    Opening,
    Greeting { deadline: Instant },
    Connected(Connected),
}

#[derive(Debug)]
struct Connected {
    keep_alive: Duration,
    heard: Instant,
    pinged: Option<Instant>,
    is_reading: bool,
    is_unwritten: bool,
}

impl MetricsPublisher {
    /// Connects at once. `node` has been [checked](is_node_name).
    #[must_use]
    pub fn new(config: Arc<MetricsConfig>, node: &str, seed: u64, now: Instant) -> Self {
        assert!(is_node_name(node), "a node's name was checked where it came in");
        Self {
            client_id: client_id(&config, node),
            prefix: format!("$fogfun/{node}/"),
            config,
            link: Link::Waiting { until: now },
            backoff: Backoff::new(seed),
            published: BTreeMap::new(),
            read_due: now,
            received: BytesMut::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input; the outputs follow.
    pub fn handle_input(&mut self, now: Instant, input: MetricsInput) {
        match (input, &mut self.link) {
            (MetricsInput::Connected, Link::Opening) => {
                self.link = Link::Greeting { deadline: now + GREETING_TIME_MAX };
                self.greet();
            }
            (MetricsInput::Disconnected { cause }, _) => self.wait(now, "metrics-disconnected", cause),
            (MetricsInput::Received(bytes), Link::Greeting { .. } | Link::Connected(_)) => {
                self.received.extend_from_slice(&bytes);
                self.read_packets(now);
            }
            (MetricsInput::Written, Link::Connected(connected)) => connected.is_unwritten = false,
            (MetricsInput::Values(values), Link::Connected(connected)) if connected.is_reading => {
                connected.is_reading = false;
                self.publish(&values);
            }
            // Of a connection that is over.
            _ => {}
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<MetricsOutput> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting { until } => Some(*until),
            Link::Opening => None,
            Link::Greeting { deadline } => Some(*deadline),
            Link::Connected(connected) => {
                let may_read = !connected.is_reading && !connected.is_unwritten;
                let read = may_read.then_some(self.read_due);
                Some(read.map_or(connected.silent(), |read| read.min(connected.silent())))
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.link {
            Link::Waiting { until } if *until <= now => {
                self.link = Link::Opening;
                self.outputs.push_back(MetricsOutput::Connect);
            }
            Link::Greeting { deadline } if *deadline <= now => {
                self.close(now, "metrics-disconnected", "no CONNACK".to_owned());
            }
            Link::Connected(connected) => {
                if connected.silent() <= now {
                    if connected.pinged.is_some() {
                        self.close(now, "metrics-disconnected", "the broker no longer answers".to_owned());
                        return;
                    }
                    connected.pinged = Some(now);
                    self.send(&Packet::PingReq);
                } else if self.read_due <= now && !connected.is_reading && !connected.is_unwritten {
                    connected.is_reading = true;
                    self.read_due = now + ticks(self.config.interval);
                    self.outputs.push_back(MetricsOutput::Read);
                }
            }
            Link::Waiting { .. } | Link::Opening | Link::Greeting { .. } => {}
        }
    }

    fn greet(&mut self) {
        let user = self.config.user.clone();
        let login =
            user.map(|user| (user, self.config.password.clone().map_or_else(String::new, |secret| secret.0)));
        let connect = Connect {
            protocol: self.config.broker.protocol,
            client_id: self.client_id.clone(),
            clean_start: true,
            keep_alive_seconds: u16::try_from(self.config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            session_expiry_seconds: 0,
            receive_maximum: 1,
            packet_bytes_max: Some(PACKET_BYTES_MAX),
            topic_alias_maximum: 0,
            login,
        };
        let topic = self.status_topic();
        let mut bytes = BytesMut::new();
        codec::write_connect_with_will(&connect, Will { topic: &topic, payload: b"offline" }, &mut bytes);
        self.outputs.push_back(MetricsOutput::Transmit(bytes.freeze()));
    }

    fn read_packets(&mut self, now: Instant) {
        loop {
            match codec::read(&mut self.received, self.config.broker.protocol, PACKET_BYTES_MAX) {
                Ok(None) => return,
                Ok(Some(packet)) => self.on_packet(now, packet),
                Err(error) => self.close(now, "metrics-disconnected", error.to_string()),
            }
        }
    }

    fn on_packet(&mut self, now: Instant, packet: Packet) {
        match (packet, &mut self.link) {
            (Packet::ConnAck(ack), Link::Greeting { .. }) if ack.reason == 0 => {
                let keep_alive = ack
                    .keep_alive_seconds
                    .map_or(ticks(self.config.keep_alive), |seconds| Duration::from_secs(u64::from(seconds)));
                self.link = Link::Connected(Connected {
                    keep_alive,
                    heard: now,
                    pinged: None,
                    is_reading: false,
                    is_unwritten: false,
                });
                self.say_online(ack.qos_max.min(Qos::AtLeastOnce));
            }
            (Packet::ConnAck(ack), Link::Greeting { .. }) => {
                self.close(now, "metrics-refused", format!("the broker refuses with 0x{:02X}", ack.reason));
            }
            (Packet::Disconnect { reason }, Link::Greeting { .. } | Link::Connected(_)) => {
                self.close(now, "metrics-disconnected", format!("the broker says 0x{reason:02X}"));
            }
            (packet, Link::Connected(connected)) => {
                (connected.heard, connected.pinged) = (now, None);
                if let Packet::PubAck { reason: reason @ 0x80.., .. } = packet {
                    let text = format!("{} may not be published: 0x{reason:02X}", self.status_topic());
                    self.outputs.push_back(MetricsOutput::Event { kind: "metrics-refused", text });
                }
            }
            _ => {}
        }
    }

    fn say_online(&mut self, qos: Qos) {
        let topic = self.status_topic();
        let mut bytes = BytesMut::new();
        self.write(&topic, "online", qos, &mut bytes);
        self.transmit(bytes);
    }

    fn publish(&mut self, values: &BTreeMap<String, f64>) {
        if VALUES_MAX < values.len() {
            let text = format!("{} values, {VALUES_MAX} are told", values.len());
            self.outputs.push_back(MetricsOutput::Event { kind: "metrics-left-out", text });
        }
        let mut bytes = BytesMut::new();
        let mut published = BTreeMap::new();
        for (name, value) in values.iter().take(VALUES_MAX) {
            let text = value.to_string();
            if self.published.get(name) != Some(&text) {
                self.write(&format!("{}{name}", self.prefix), &text, Qos::AtMostOnce, &mut bytes);
            }
            published.insert(name.clone(), text);
        }
        for name in self.published.keys().filter(|name| !published.contains_key(*name)) {
            self.write(&format!("{}{name}", self.prefix), "", Qos::AtMostOnce, &mut bytes);
        }
        self.published = published;
        self.backoff.reset();
        if !bytes.is_empty() {
            self.transmit(bytes);
        }
    }

    fn write(&self, topic: &str, payload: &str, qos: Qos, out: &mut BytesMut) {
        let publish = PublishRef {
            dup: false,
            qos,
            retain: true,
            id: STATUS_PACKET_ID,
            topic: topic.as_bytes(),
            payload: payload.as_bytes(),
            response_topic: None,
            correlation_data: None,
            user_properties: &[],
            message_id: None,
        };
        codec::write_publish(&publish, self.config.broker.protocol, out);
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        codec::write(packet, self.config.broker.protocol, &mut bytes);
        self.transmit(bytes);
    }

    fn transmit(&mut self, bytes: BytesMut) {
        if let Link::Connected(connected) = &mut self.link {
            connected.is_unwritten = true;
        }
        self.outputs.push_back(MetricsOutput::Transmit(bytes.freeze()));
    }

    fn close(&mut self, now: Instant, kind: &'static str, text: String) {
        self.outputs.push_back(MetricsOutput::Close);
        self.wait(now, kind, text);
    }

    fn wait(&mut self, now: Instant, kind: &'static str, text: String) {
        self.outputs.push_back(MetricsOutput::Event { kind, text });
        self.link = Link::Waiting { until: now + self.backoff.pause() };
        self.published.clear();
        self.received.clear();
    }

    fn status_topic(&self) -> String {
        format!("{}status", self.prefix)
    }
}

impl Connected {
    /// When the silence is too long: a ping is due, or it was not answered.
    fn silent(&self) -> Instant {
        self.pinged.unwrap_or(self.heard) + self.keep_alive / 2
    }
}

/// The client id under which a node of this name connects.
#[must_use]
pub fn client_id(config: &MetricsConfig, node: &str) -> String {
    config.client_id.clone().unwrap_or_else(|| format!("fogfun-metrics-{node}"))
}

#[cfg(test)]
mod tests;
