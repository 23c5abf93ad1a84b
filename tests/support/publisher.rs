//! How does a well-behaved device publish? At a pace, with a window of its own, again with DUP after a broken connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use super::connection::{Connection, Gone};
use super::wire::{self, Acknowledge, Publish, Qos, Received, Version};

/// One message of a script.
#[derive(Clone, Debug)]
pub struct ToPublish {
    pub topic: String,
    pub payload: Bytes,
    /// MQTT 5 user properties; not sent under 3.1.1.
    pub properties: Vec<(String, String)>,
}

/// How to publish a script.
#[derive(Clone, Debug)]
pub struct Pace {
    pub port: u16,
    pub version: Version,
    pub client_id: String,
    pub qos: Qos,
    /// Messages a second at most.
    pub per_second: u32,
    /// Messages unacknowledged at most; the broker's own bound counts if it is lower.
    pub window: u16,
    /// How many of the script's messages may be sent so far; `None`: all.
    pub allowance: Option<Arc<AtomicUsize>>,
}

impl Pace {
    /// As `publisher`, MQTT 5 and QoS 2.
    pub fn new(port: u16, per_second: u32) -> Self {
        Self {
            port,
            version: Version::Mqtt5,
            client_id: "publisher".to_owned(),
            qos: Qos::ExactlyOnce,
            per_second,
            window: 500,
            allowance: None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Published {
    pub took: Duration,
    pub reconnects: u32,
}

/// Publishes all of it on a thread of its own, in order; ends when the broker has acknowledged the last.
pub fn publish(pace: Pace, script: Vec<ToPublish>) -> JoinHandle<Published> {
    std::thread::Builder::new()
        .name("publisher".to_owned())
        .spawn(move || Publisher { pace, script, next: 0, in_flight: VecDeque::new() }.run())
        .unwrap()
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// PUBLISH was sent.
    Sent,
    /// PUBREC came and PUBREL was sent.
    Released,
    /// Acknowledged, but an earlier one is not.
    Done,
}

struct Publisher {
    pace: Pace,
    script: Vec<ToPublish>,
    /// The first message of the script not sent yet.
    next: usize,
    /// What is under way, in the order of the script, up to `next`.
    in_flight: VecDeque<Phase>,
}

impl Publisher {
    fn run(mut self) -> Published {
        let start = Instant::now();
        let mut reconnects = 0;
        let mut first = true;
        while !self.is_finished() {
            if self.connected(start, first).is_err() {
                reconnects += 1;
                std::thread::sleep(Duration::from_millis(50));
            } else {
                break;
            }
            first = first && self.next == 0;
        }
        Published { took: start.elapsed(), reconnects }
    }

    fn is_finished(&self) -> bool {
        self.next == self.script.len() && self.in_flight.is_empty()
    }

    /// One connection, until all is published or it breaks.
    fn connected(&mut self, start: Instant, first: bool) -> Result<(), Gone> {
        let (mut connection, session_present, receive_maximum) =
            Connection::session(self.pace.port, self.pace.version, &self.pace.client_id, false, u16::MAX)?;
        assert!(first || session_present, "the broker lost the publisher's session");
        let window = usize::from(self.pace.window.min(receive_maximum));
        self.send_again(&mut connection);
        while !self.is_finished() {
            let wait = self.send_due(&mut connection, start, window);
            connection.pump(wait)?;
            while let Some(packet) = connection.packet() {
                self.handle(packet, &mut connection)?;
            }
        }
        wire::disconnect(&mut connection.out);
        // All is acknowledged; the broker may close first.
        while !connection.out.is_empty() && connection.pump(Duration::from_millis(10)).is_ok() {}
        Ok(())
    }

    /// What was under way when the last connection broke.
    fn send_again(&mut self, connection: &mut Connection) {
        let first = self.next - self.in_flight.len();
        for (offset, phase) in self.in_flight.iter().enumerate() {
            match phase {
                Phase::Sent => {
                    let publish = self.packet(first + offset, true);
                    wire::publish(connection.version, &publish, &mut connection.out);
                }
                Phase::Released => {
                    let id = packet_id(first + offset);
                    wire::acknowledge(Acknowledge::Rel, id, &mut connection.out);
                }
                Phase::Done => {}
            }
        }
    }

    /// Sends what is due; says how long until the next is.
    fn send_due(&mut self, connection: &mut Connection, start: Instant, window: usize) -> Duration {
        let per_second = f64::from(self.pace.per_second);
        loop {
            if self.next == self.script.len() || window <= self.in_flight.len() {
                return Duration::from_millis(100);
            }
            let is_allowed = |allowance: &Arc<AtomicUsize>| self.next < allowance.load(Ordering::Relaxed);
            if !self.pace.allowance.as_ref().is_none_or(is_allowed) {
                return Duration::from_millis(5);
            }
            let due = start + Duration::from_secs_f64(self.next as f64 / per_second);
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return wait;
            }
            let publish = self.packet(self.next, false);
            wire::publish(connection.version, &publish, &mut connection.out);
            self.next += 1;
            if self.pace.qos != Qos::AtMostOnce {
                self.in_flight.push_back(Phase::Sent);
            }
        }
    }

    fn packet(&self, index: usize, dup: bool) -> Publish {
        let message = &self.script[index];
        Publish {
            dup,
            qos: self.pace.qos,
            retain: false,
            topic: Bytes::copy_from_slice(message.topic.as_bytes()),
            pkid: if self.pace.qos == Qos::AtMostOnce { 0 } else { packet_id(index) },
            payload: message.payload.clone(),
            properties: (!message.properties.is_empty()).then(|| PublishProperties {
                user_properties: message.properties.clone(),
                ..PublishProperties::default()
            }),
        }
    }

    fn handle(&mut self, packet: Received, connection: &mut Connection) -> Result<(), Gone> {
        match packet {
            Received::PubAck { id, failed: None } | Received::PubComp { id } => self.advance(id, Phase::Done),
            Received::PubRec { id, failed: None } => {
                self.advance(id, Phase::Released);
                wire::acknowledge(Acknowledge::Rel, id, &mut connection.out);
            }
            Received::Disconnect(_) => return Err(Gone),
            other => panic!("a publisher got {other:?}"),
        }
        Ok(())
    }

    fn advance(&mut self, id: u16, phase: Phase) {
        let first = self.next - self.in_flight.len();
        let offset = (0..self.in_flight.len()).find(|offset| packet_id(first + offset) == id);
        let offset = offset.unwrap_or_else(|| panic!("{phase:?} for packet {id}, which is not under way"));
        self.in_flight[offset] = phase;
        while self.in_flight.front() == Some(&Phase::Done) {
            self.in_flight.pop_front();
        }
    }
}

fn packet_id(index: usize) -> u16 {
    u16::try_from(1 + index % 60_000).unwrap()
}
