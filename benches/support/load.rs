//! How fast do records come back, and when? One client that publishes to `in/<id>` and times what arrives on `out/<id>`.
//!
//! A payload is the instant of its sending in nanoseconds; a relay may put something and a blank in front of it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::rig::connection::Connection;
use crate::rig::wire::{self, Acknowledge, Publish, Qos, Received, Version};

/// Ids over which the records go round.
const IDS: u64 = 1_000;
/// Without an answer for so long, records are lost, and the figures worthless.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub struct Load {
    connection: Connection,
    qos: Qos,
    begin: Instant,
    sent: u64,
    received: u64,
    in_flight: u16,
    window: u16,
    /// From sending to arrival, of all that arrived since they were last taken.
    latencies: Vec<Duration>,
}

impl Load {
    pub fn connect(port: u16, qos: Qos) -> Self {
        let (mut connection, _, window) =
            Connection::session(port, Version::Mqtt5, "load", true, u16::MAX).expect("the broker is there");
        wire::subscribe(Version::Mqtt5, "out/#", qos, &mut connection.out);
        let acknowledged = connection.wait_packet().expect("the broker is there");
        assert_eq!(acknowledged, Received::SubAck { failed: None });
        let begin = Instant::now();
        Self { connection, qos, begin, sent: 0, received: 0, in_flight: 0, window, latencies: Vec::new() }
    }

    /// Keeps `under_way` records between us and us until `count` have come back; says how long that took.
    pub fn closed_loop(&mut self, count: u64, under_way: u64) -> Duration {
        let start = Instant::now();
        let goal = self.received + count;
        let sent_goal = self.sent + count;
        while self.received < goal {
            while self.sent < sent_goal && self.sent - self.received < under_way && self.has_room() {
                self.send();
            }
            self.turn(SILENCE_MAX);
        }
        start.elapsed()
    }

    /// Sends at a steady pace, whatever comes back; gives every record's latency, sorted.
    pub fn open_loop(&mut self, per_second: u32, count: u32) -> Vec<Duration> {
        self.latencies.clear();
        let start = Instant::now();
        for index in 0..count {
            let due = start + Duration::from_secs(1) * index / per_second;
            loop {
                let wait = due.saturating_duration_since(Instant::now());
                if wait.is_zero() && self.has_room() {
                    break;
                }
                self.turn(wait.min(SILENCE_MAX));
            }
            self.send();
        }
        while self.received < self.sent {
            self.turn(SILENCE_MAX);
        }
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        latencies
    }

    fn has_room(&self) -> bool {
        self.qos == Qos::AtMostOnce || self.in_flight < self.window
    }

    fn send(&mut self) {
        let elapsed = self.begin.elapsed().as_nanos();
        let publish = Publish {
            dup: false,
            qos: self.qos,
            retain: false,
            topic: Bytes::from(format!("in/{}", self.sent % IDS)),
            pkid: u16::try_from(1 + self.sent % 60_000).expect("at most 60,000"),
            payload: Bytes::from(elapsed.to_string()),
            properties: None,
        };
        wire::publish(Version::Mqtt5, &publish, &mut self.connection.out);
        self.sent += 1;
        if self.qos != Qos::AtMostOnce {
            self.in_flight += 1;
        }
    }

    fn turn(&mut self, wait: Duration) {
        let before = Instant::now();
        self.connection.pump(wait).expect("the broker is there");
        let silent = wait == SILENCE_MAX && wait <= before.elapsed();
        assert!(!silent, "{} of {} records did not come back", self.sent - self.received, self.sent);
        while let Some(packet) = self.connection.packet() {
            self.handle(packet);
        }
    }

    fn handle(&mut self, packet: Received) {
        let out = &mut self.connection.out;
        match packet {
            Received::Publish(publish) => {
                match publish.qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => wire::acknowledge(Acknowledge::Ack, publish.pkid, out),
                    Qos::ExactlyOnce => wire::acknowledge(Acknowledge::Rec, publish.pkid, out),
                }
                let text = std::str::from_utf8(&publish.payload).expect("we sent text");
                let sent =
                    text.rsplit(' ').next().and_then(|digits| digits.parse().ok()).expect("an instant");
                self.latencies.push(self.begin.elapsed().saturating_sub(Duration::from_nanos(sent)));
                self.received += 1;
            }
            Received::PubRel { id } => wire::acknowledge(Acknowledge::Comp, id, out),
            Received::PubRec { id, failed: None } => wire::acknowledge(Acknowledge::Rel, id, out),
            Received::PubAck { failed: None, .. } | Received::PubComp { .. } => self.in_flight -= 1,
            other => panic!("the load got {other:?}"),
        }
    }
}
