//! Does the session machine hold against a real Mosquitto? A relay over sockets, rebuilt from its log again and again.
//!
//! Skipped, loudly, where no `mosquitto` is installed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::{Bytes, BytesMut};
use embassy_time::Instant;
use fogfun::address::TypeName;
use fogfun::epoch::Epoch;
use fogfun::epoch::frame::{FrameBuilder, read_sections};
use fogfun::mqtt::codec::{self, Connect, Filter, Packet, Publish, RetainHandling};
use fogfun::mqtt::config::{
    Broker, EgressConfig, Format, IdSource, Protocol, Qos, Retained, Role, SessionConfig, Subscription,
    TopicPattern,
};
use fogfun::mqtt::session::{
    ConnectionNumber, MessageId, OutboxRecord, RecoveredSession, Session, SessionInput, SessionOutput,
    SessionStart,
};
use fogfun::state::key::Key;

const RECORDS: usize = 2000;

struct Mosquitto {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mosquitto() -> Option<Mosquitto> {
    let binary = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())?;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mosquitto.conf");
    std::fs::write(
        &path,
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n"),
    )
    .unwrap();
    let child = Command::new(binary)
        .arg("-c")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mosquitto = Mosquitto { child, port, _directory: directory };
    let deadline = Clock::now() + Duration::from_secs(5);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Clock::now() < deadline, "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(mosquitto)
}

fn config(name: &'static str, protocol: Protocol, role: Role) -> Arc<SessionConfig> {
    Arc::new(SessionConfig {
        name: TypeName::from_static(name),
        broker: Broker { host: "127.0.0.1".into(), port: 0, protocol, tls: None },
        client_id: name.replace('/', "-"),
        session_expiry: Duration::from_secs(3600),
        user: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        receive_maximum: 20,
        packet_bytes_max: 100_000,
        role,
    })
}

/// A plain client: blocking writes, reads without waiting.
struct Client {
    stream: TcpStream,
    input: BytesMut,
}

impl Client {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        Self { stream, input: BytesMut::new() }
    }

    /// What has come; `None` at the end.
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => Some(buffer[..count].to_vec()),
            Err(error)
                if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()) =>
            {
                Some(vec![])
            }
            Err(_) => None,
        }
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        codec::write(packet, Protocol::V5, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn packets(&mut self) -> Vec<Packet> {
        let bytes = self.read().unwrap();
        self.input.extend_from_slice(&bytes);
        std::iter::from_fn(|| codec::read(&mut self.input, Protocol::V5, u32::MAX).unwrap()).collect()
    }

    fn connect(port: u16, name: &str) -> Self {
        let mut client = Self::open(port);
        client.send(&Packet::Connect(Connect {
            protocol: Protocol::V5,
            client_id: name.into(),
            clean_start: true,
            keep_alive_seconds: 0,
            session_expiry_seconds: 100,
            receive_maximum: 1000,
            packet_bytes_max: None,
            topic_alias_maximum: 0,
            login: None,
        }));
        client
    }
}

struct Relay {
    started: Clock,
    port: u16,
    configs: [Arc<SessionConfig>; 2],
    sessions: Vec<Session>,
    sockets: [Option<(ConnectionNumber, Client)>; 2],
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What is appended and not synced.
    tail: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    records: [u64; 2],
    epoch: u64,
    message: u64,
    guard_hits: u64,
}

impl Relay {
    fn now(&self) -> Instant {
        Instant::from_micros(1_000_000 + self.started.elapsed().as_micros() as u64)
    }

    fn build(&mut self) {
        self.sockets = [None, None];
        self.tail.clear();
        let mut recovered = [RecoveredSession::default(), RecoveredSession::default()];
        for (key, value) in &self.log {
            let key = Key::decode(key).unwrap();
            for (config, recovered) in self.configs.iter().zip(&mut recovered) {
                if let Key::Session { id }
                | Key::Progress { id, .. }
                | Key::Accepted { id, .. }
                | Key::Outbox { id, .. } = key
                    && id == config.name.as_str()
                {
                    recovered.take(&key, value.as_deref());
                }
            }
        }
        self.sessions = recovered
            .into_iter()
            .zip(&self.configs)
            .map(|(recovered, config)| Session::new(Arc::clone(config), recovered, SessionStart::Resume, 7))
            .collect();
        let now = self.now();
        for session in &mut self.sessions {
            session.start(now);
        }
        self.drain();
    }

    fn input(&mut self, place: usize, input: SessionInput) {
        let now = self.now();
        self.sessions[place].handle_input(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for place in 0..2 {
            while let Some(output) = self.sessions[place].poll_output() {
                match output {
                    SessionOutput::Connect { connection } => {
                        self.sockets[place] = Some((connection, Client::open(self.port)));
                        self.input(place, SessionInput::Connected { connection });
                    }
                    SessionOutput::Transmit { connection, bytes } => {
                        if let Some((current, client)) = &mut self.sockets[place]
                            && *current == connection
                        {
                            let _ = client.stream.write_all(&bytes);
                        }
                    }
                    SessionOutput::Close { .. } => self.sockets[place] = None,
                    SessionOutput::Publish(publish) => {
                        self.message += 1;
                        let record = OutboxRecord {
                            topic: "out/x".into(),
                            payload: publish.payload.into(),
                            qos: Qos::ExactlyOnce,
                            retain: false,
                            message_id: MessageId::from_text(&self.message.to_string()).unwrap(),
                            properties: vec![("response-topic".into(), "answers".into())],
                        };
                        self.input(1, SessionInput::Send(record));
                    }
                    SessionOutput::Record { number, key, value, .. } => {
                        self.records[place] = number;
                        self.tail.push((key, Some(value)));
                    }
                    SessionOutput::Event(event) => {
                        self.guard_hits += u64::from(event.kind == "guard-hit");
                        assert!(
                            !["broker-broke-protocol", "session-lost", "publish-refused"]
                                .contains(&event.kind),
                            "{event:?}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn read_sockets(&mut self) {
        for place in 0..2 {
            let Some((connection, client)) = &mut self.sockets[place] else {
                continue;
            };
            let connection = *connection;
            match client.read() {
                None => {
                    self.sockets[place] = None;
                    let cause = "closed".to_owned();
                    self.input(place, SessionInput::Disconnected { connection, cause });
                }
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => self.input(place, SessionInput::Received { connection, bytes: bytes.into() }),
            }
        }
        let now = self.now();
        for place in 0..2 {
            if self.sessions[place].poll_timeout().is_some_and(|at| at <= now) {
                self.sessions[place].handle_timeout(now);
            }
        }
        self.drain();
    }

    fn cut(&mut self) -> Option<Epoch> {
        if !self.sessions.iter().any(Session::is_dirty) {
            return None;
        }
        self.epoch += 1;
        let mut frame = FrameBuilder::default();
        for session in &mut self.sessions {
            session.cut(Epoch(self.epoch), &mut frame);
        }
        let mut sections = Vec::new();
        frame.finish(&mut sections);
        read_sections(&sections, |key, value| {
            self.tail.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        })
        .unwrap();
        Some(Epoch(self.epoch))
    }

    fn sync(&mut self, epoch: Option<Epoch>) {
        let records = self.records;
        self.log.append(&mut self.tail);
        for (place, record) in records.into_iter().enumerate() {
            self.input(place, SessionInput::Synced { record });
        }
        if let Some(epoch) = epoch {
            for place in 0..2 {
                self.input(place, SessionInput::Committed { epoch });
            }
        }
    }
}

fn relay(protocol: Protocol) {
    let Some(mosquitto) = mosquitto() else {
        eprintln!("SKIPPED: no mosquitto installed");
        return;
    };
    let pattern = TopicPattern { text: "in/+".into(), filter: "in/+".into(), levels: vec![] };
    let subscription = Subscription {
        pattern,
        qos: Qos::ExactlyOnce,
        retained: Retained::Taken,
        format: Format::Raw,
        value_type: None,
        targets: vec![],
        id: IdSource::None,
        message_id: None,
    };
    let ingress = Role::Ingress { subscriptions: vec![subscription] };
    let egress =
        Role::Egress(EgressConfig { topic: None, qos: Qos::ExactlyOnce, retain: false, format: Format::Raw });
    let mut relay = Relay {
        started: Clock::now(),
        port: mosquitto.port,
        configs: [config("test/in", protocol, ingress), config("test/out", protocol, egress)],
        sessions: vec![],
        sockets: [None, None],
        log: vec![],
        tail: vec![],
        records: [0, 0],
        epoch: 0,
        message: 0,
        guard_hits: 0,
    };
    relay.build();
    let mut subscriber = Client::connect(mosquitto.port, "subscriber");
    let filter =
        Filter { filter: "out/#".into(), qos: Qos::ExactlyOnce, retain_handling: RetainHandling::Always };
    subscriber.send(&Packet::Subscribe { id: 1, filters: vec![filter] });
    let mut publisher = Client::connect(mosquitto.port, "publisher");
    for _ in 0..100 {
        relay.read_sockets();
        let epoch = relay.cut();
        relay.sync(epoch);
    }
    let mut seen: Vec<usize> = Vec::new();
    let (mut published, mut outstanding, mut turn, mut crashes) = (0, 0, 0_u64, 0);
    let deadline = Clock::now() + Duration::from_secs(60);
    while seen.len() < RECORDS && Clock::now() < deadline {
        while published < RECORDS && outstanding < 20 {
            published += 1;
            outstanding += 1;
            publisher.send(&Packet::Publish(Publish {
                dup: false,
                qos: Qos::ExactlyOnce,
                retain: false,
                id: published as u16,
                topic: Bytes::from_static(b"in/x"),
                alias: None,
                payload: published.to_string().into(),
                response_topic: None,
                correlation_data: None,
                user_properties: vec![],
            }));
        }
        for packet in publisher.packets() {
            match packet {
                Packet::PubRec { id, .. } => publisher.send(&Packet::PubRel { id, reason: 0 }),
                Packet::PubComp { .. } => outstanding -= 1,
                _ => {}
            }
        }
        for packet in subscriber.packets() {
            match packet {
                Packet::Publish(publish) => {
                    seen.push(std::str::from_utf8(&publish.payload).unwrap().parse().unwrap());
                    subscriber.send(&Packet::PubRec { id: publish.id, reason: 0 });
                }
                Packet::PubRel { id, .. } => subscriber.send(&Packet::PubComp { id, reason: 0 }),
                _ => {}
            }
        }
        relay.read_sockets();
        turn += 1;
        let epoch = relay.cut();
        match turn % 23 {
            // Power goes with a frame in flight: before its sync, or after it and before anyone is told.
            11 => {
                relay.build();
                crashes += 1;
            }
            22 => {
                let mut tail = std::mem::take(&mut relay.tail);
                relay.log.append(&mut tail);
                relay.build();
                crashes += 1;
            }
            _ => relay.sync(epoch),
        }
    }
    let distinct: BTreeSet<usize> = seen.iter().copied().collect();
    eprintln!("{protocol:?}: {} seen, {crashes} crashes, {} guard hits", seen.len(), relay.guard_hits);
    assert_eq!(distinct.len(), RECORDS, "lost");
    assert!(seen.is_sorted() && seen.len() == RECORDS, "doubled or out of order");
    assert!(5 < crashes);
}

#[test]
fn a_relay_over_mosquitto_is_exactly_once_mqtt_5() {
    relay(Protocol::V5);
}

#[test]
fn a_relay_over_mosquitto_is_exactly_once_mqtt_3_1_1() {
    relay(Protocol::V311);
}
