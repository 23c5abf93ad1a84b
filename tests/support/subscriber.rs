//! What came out, in which order? A subscriber that keeps everything it is given.
//!
//! It does the QoS 2 handshake as the standard says: a PUBLISH under a packet id that it holds already is the same delivery. Nothing
//! else is compared, so a message that was sent twice is recorded twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Connection, Gone};
use super::wire::{self, Acknowledge, Publish, Qos, Received, Version};

/// One record as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
    pub properties: Vec<(String, String)>,
}

impl Record {
    /// The payload as text; panics if it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The first user property of this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A subscription that records on a thread of its own until dropped.
pub struct Subscriber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    records: Mutex<Vec<Record>>,
    stop: AtomicBool,
    subscribed: AtomicBool,
}

/// As many as a client may take unacknowledged without being a bottleneck.
const RECEIVE_MAXIMUM: u16 = 1_000;

impl Subscriber {
    /// Subscribes; returns when the broker has said so, so that nothing published from then on is missed.
    pub fn start(port: u16, version: Version, client_id: &str, filter: &str, qos: Qos) -> Self {
        let shared = Arc::new(Shared::default());
        let recording = Recording {
            shared: Arc::clone(&shared),
            port,
            version,
            client_id: client_id.to_owned(),
            filter: filter.to_owned(),
            qos,
            held: BTreeSet::new(),
        };
        let thread =
            std::thread::Builder::new().name("subscriber".to_owned()).spawn(move || recording.run()).unwrap();
        let subscriber = Self { shared, thread: Some(thread) };
        super::wait_until("the subscription is made", Duration::from_secs(20), || {
            subscriber.shared.subscribed.load(Ordering::Acquire)
        });
        subscriber
    }

    /// How many records have come.
    pub fn count(&self) -> usize {
        self.shared.records.lock().unwrap().len()
    }

    /// All that has come, in order.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap().clone()
    }

    /// Waits until `count` records have come, then until none has for `quiet`: a repeat may be on its way.
    pub fn wait_for(&self, count: usize, within: Duration, quiet: Duration) -> Vec<Record> {
        let start = std::time::Instant::now();
        while self.count() < count && start.elapsed() < within {
            std::thread::sleep(Duration::from_millis(10));
        }
        loop {
            let before = self.count();
            std::thread::sleep(quiet);
            if self.count() == before {
                return self.records();
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended
            && !std::thread::panicking()
        {
            panic!("the subscriber had panicked");
        }
    }
}

struct Recording {
    shared: Arc<Shared>,
    port: u16,
    version: Version,
    client_id: String,
    filter: String,
    qos: Qos,
    /// Packet ids of QoS 2 between PUBLISH and PUBREL; they outlive a connection, as the session does.
    held: BTreeSet<u16>,
}

impl Recording {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.connected().is_err() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn connected(&mut self) -> Result<(), Gone> {
        let (mut connection, session_present, _) =
            Connection::session(self.port, self.version, &self.client_id, false, RECEIVE_MAXIMUM)?;
        let subscribed_before = self.shared.subscribed.load(Ordering::Acquire);
        assert!(session_present || !subscribed_before, "the broker lost the subscriber's session");
        if !subscribed_before {
            wire::subscribe(self.version, &self.filter, self.qos, &mut connection.out);
        }
        while !self.shared.stop.load(Ordering::Acquire) {
            connection.pump(Duration::from_millis(50))?;
            while let Some(packet) = connection.packet() {
                self.handle(packet, &mut connection)?;
            }
        }
        wire::disconnect(&mut connection.out);
        connection.pump(Duration::ZERO)
    }

    fn handle(&mut self, packet: Received, connection: &mut Connection) -> Result<(), Gone> {
        match packet {
            Received::Publish(publish) => self.take(publish, connection),
            Received::PubRel { id } => {
                self.held.remove(&id);
                wire::acknowledge(Acknowledge::Comp, id, &mut connection.out);
            }
            Received::SubAck { failed: None } => self.shared.subscribed.store(true, Ordering::Release),
            Received::PingResp => {}
            Received::Disconnect(_) => return Err(Gone),
            other => panic!("a subscriber got {other:?}"),
        }
        Ok(())
    }

    fn take(&mut self, publish: Publish, connection: &mut Connection) {
        let is_new = match publish.qos {
            Qos::AtMostOnce => true,
            Qos::AtLeastOnce => {
                wire::acknowledge(Acknowledge::Ack, publish.pkid, &mut connection.out);
                true
            }
            Qos::ExactlyOnce => {
                wire::acknowledge(Acknowledge::Rec, publish.pkid, &mut connection.out);
                self.held.insert(publish.pkid)
            }
        };
        if is_new {
            self.shared.records.lock().unwrap().push(Record {
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                payload: publish.payload,
                qos: publish.qos as u8,
                dup: publish.dup,
                retain: publish.retain,
                properties: publish.properties.map(|all| all.user_properties).unwrap_or_default(),
            });
        }
    }
}
