//! What is the least that a relay must do? The comparison partner of the end-to-end benchmark.
//!
//! It subscribes to `in/#` and publishes each record on `out/…` with the same QoS, on one thread and one connection. It reads 64 KiB at a
//! time, answers all of it in one write, and keeps nothing: no state, no disk, no session after it. So nothing that promises more can be
//! expected to be faster for long.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::rig::connection::{Connection, Gone};
use crate::rig::wire::{self, Acknowledge, Publish, Qos, Received, Version};

/// Its client id, and its filter.
pub const CLIENT_ID: &str = "echo";
pub const FILTER: &str = "in/#";

/// Echoes until the broker goes away or the process is ended.
pub fn run(port: u16, qos: Qos) {
    let Ok((mut connection, _, receive_maximum)) =
        Connection::session(port, Version::Mqtt5, CLIENT_ID, true, u16::MAX)
    else {
        return;
    };
    wire::subscribe(Version::Mqtt5, FILTER, qos, &mut connection.out);
    let mut echo = Echo { waiting: VecDeque::new(), in_flight: 0, window: receive_maximum, next_id: 1 };
    while echo.turn(&mut connection).is_ok() {}
}

struct Echo {
    /// Answers for which the broker's window has no room.
    waiting: VecDeque<Publish>,
    in_flight: u16,
    window: u16,
    next_id: u16,
}

impl Echo {
    fn turn(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        connection.pump(Duration::from_secs(1))?;
        while let Some(packet) = connection.packet() {
            self.handle(packet, connection);
        }
        while self.in_flight < self.window {
            let Some(publish) = self.waiting.pop_front() else {
                break;
            };
            self.send(publish, connection);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Received, connection: &mut Connection) {
        let out = &mut connection.out;
        match packet {
            Received::Publish(mut publish) => {
                match publish.qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => wire::acknowledge(Acknowledge::Ack, publish.pkid, out),
                    Qos::ExactlyOnce => wire::acknowledge(Acknowledge::Rec, publish.pkid, out),
                }
                let id = publish.topic.strip_prefix(b"in/").unwrap();
                publish.topic = Bytes::from([b"out/", id].concat());
                publish.dup = false;
                if self.in_flight < self.window && self.waiting.is_empty() {
                    self.send(publish, connection);
                } else {
                    self.waiting.push_back(publish);
                }
            }
            Received::PubRel { id } => wire::acknowledge(Acknowledge::Comp, id, out),
            Received::PubRec { id, .. } => wire::acknowledge(Acknowledge::Rel, id, out),
            Received::PubAck { .. } | Received::PubComp { .. } => self.in_flight -= 1,
            Received::SubAck { .. } | Received::PingResp => {}
            other => panic!("the echo got {other:?}"),
        }
    }

    fn send(&mut self, mut publish: Publish, connection: &mut Connection) {
        if publish.qos != Qos::AtMostOnce {
            publish.pkid = self.next_id;
            self.next_id = self.next_id % 60_000 + 1;
            self.in_flight += 1;
        }
        wire::publish(Version::Mqtt5, &publish, &mut connection.out);
    }
}
