//! A relay (ingress, one function, egress), its store and a broker, in one thread from one seed.

use std::collections::{BTreeMap, VecDeque};

use super::super::*;
use super::{egress, ingress};
use crate::epoch::frame;
use crate::sim::broker::{Broker, BrokerInput, BrokerOutput, BrokerSettings};

/// How often, in a thousand steps.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub(super) breaks: u64,
    pub(super) crashes: u64,
    pub(super) restarts: u64,
}

enum Logged {
    Frame(Vec<u8>),
    Record { session: usize, number: u64, key: Vec<u8>, value: Vec<u8> },
}

#[derive(Default)]
struct Pipe {
    session: usize,
    connection: ConnectionNumber,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    closing: bool,
}

pub(super) struct World {
    random: u64,
    now: Instant,
    faults: Faults,
    pub(super) broker: Broker,
    configs: [Arc<SessionConfig>; 2],
    sessions: Vec<Session>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    log: Vec<Logged>,
    durable: usize,
    epoch: u64,
    in_flight: Option<Epoch>,
    publisher: BytesMut,
    subscriber: BytesMut,
    seen: Vec<String>,
    next_message: u64,
    qos: Qos,
    pub(super) events: BTreeMap<&'static str, u64>,
}

const PUBLISHER: u64 = 1;
const SUBSCRIBER: u64 = 2;

impl World {
    pub(super) fn new(seed: u64, protocol: Protocol, qos: Qos, faults: Faults, mistake: bool) -> Self {
        let settings = BrokerSettings { publishes_after_pubrel: mistake, ..BrokerSettings::default() };
        let configs = [Arc::new(ingress(protocol, qos, &["in/+"])), Arc::new(egress(protocol, qos))];
        let mut world = Self {
            random: seed,
            now: Instant::from_secs(1000),
            faults,
            broker: Broker::new(settings),
            configs,
            sessions: Vec::new(),
            pipes: BTreeMap::new(),
            next_pipe: 10,
            log: Vec::new(),
            durable: 0,
            epoch: 0,
            in_flight: None,
            publisher: BytesMut::new(),
            subscriber: BytesMut::new(),
            seen: Vec::new(),
            next_message: 0,
            qos,
            events: BTreeMap::new(),
        };
        world.build();
        world
    }

    fn chance(&mut self, below: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % below.max(1)
    }

    /// Sessions as the log has them.
    fn build(&mut self) {
        let mut recovered = [RecoveredSession::default(), RecoveredSession::default()];
        let names = [self.configs[0].name.as_str(), self.configs[1].name.as_str()];
        let mut take = |key: &[u8], value: Option<&[u8]>| {
            let key = Key::decode(key).unwrap();
            let id = match key {
                Key::Session { id }
                | Key::Progress { id, .. }
                | Key::Accepted { id, .. }
                | Key::Outbox { id, .. } => id,
                other => panic!("{other:?}"),
            };
            let place = names.iter().position(|name| *name == id).unwrap();
            recovered[place].take(&key, value);
        };
        for logged in &self.log {
            match logged {
                Logged::Frame(sections) => frame::read_sections(sections, &mut take).unwrap(),
                Logged::Record { key, value, .. } => take(key, Some(value)),
            }
        }
        self.sessions.clear();
        for (place, recovered) in recovered.into_iter().enumerate() {
            let config = Arc::clone(&self.configs[place]);
            let seed = self.random ^ place as u64;
            let mut session = Session::new(config, recovered, SessionStart::Resume, seed);
            session.start(self.now);
            self.sessions.push(session);
        }
        self.drain();
    }

    fn input(&mut self, place: usize, input: SessionInput) {
        self.sessions[place].handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for place in 0..self.sessions.len() {
            while let Some(output) = self.sessions[place].poll_output() {
                self.on_output(place, output);
            }
        }
    }

    fn on_output(&mut self, session: usize, output: SessionOutput) {
        match output {
            SessionOutput::Connect { connection } => {
                self.next_pipe += 1;
                let pipe = Pipe { session, connection, ..Pipe::default() };
                let number = self.next_pipe;
                self.pipes.insert(number, pipe);
                self.broker_input(BrokerInput::Accepted { connection: number });
                self.input(session, SessionInput::Connected { connection });
            }
            SessionOutput::Transmit { connection, bytes } => {
                if let Some(pipe) = self.pipe_of(session, connection) {
                    pipe.up.extend(bytes);
                }
            }
            SessionOutput::Close { connection } => {
                if let Some(pipe) = self.pipe_of(session, connection) {
                    pipe.closing = true;
                }
            }
            SessionOutput::Publish(received) => {
                self.next_message += 1;
                let record = OutboxRecord {
                    topic: "out/x".into(),
                    payload: received.payload.into(),
                    qos: self.qos,
                    retain: false,
                    message_id: MessageId::from_text(&format!("m{}", self.next_message)).unwrap(),
                    properties: vec![],
                };
                self.input(1, SessionInput::Send(record));
            }
            SessionOutput::Record { number, key, value, .. } => {
                self.log.push(Logged::Record { session, number, key, value })
            }
            SessionOutput::Refused { .. } => panic!("nothing is refused here"),
            SessionOutput::Event(event) => {
                *self.events.entry(event.kind).or_default() += 1;
                assert!(
                    ![
                        "broker-broke-protocol",
                        "packet-id-reused",
                        "receive-maximum-exceeded",
                        "session-lost"
                    ]
                    .contains(&event.kind),
                    "{event:?}"
                );
            }
            SessionOutput::Stopped => {}
        }
    }

    fn pipe_of(&mut self, session: usize, connection: ConnectionNumber) -> Option<&mut Pipe> {
        self.pipes
            .values_mut()
            .find(|pipe| pipe.session == session && pipe.connection == connection && !pipe.closing)
    }

    fn broker_input(&mut self, input: BrokerInput) {
        self.broker.handle_input(self.now, input);
        while let Some(output) = self.broker.poll_output() {
            match output {
                BrokerOutput::Transmit { connection: PUBLISHER, bytes } => {
                    self.publisher.extend_from_slice(&bytes)
                }
                BrokerOutput::Transmit { connection: SUBSCRIBER, bytes } => {
                    self.subscriber.extend_from_slice(&bytes)
                }
                BrokerOutput::Transmit { connection, bytes } => {
                    if let Some(pipe) = self.pipes.get_mut(&connection) {
                        pipe.down.extend(bytes);
                    }
                }
                BrokerOutput::Close { connection } => self.break_pipe(connection),
            }
        }
    }

    fn break_pipe(&mut self, pipe: u64) {
        if let Some(pipe) = self.pipes.remove(&pipe) {
            let input = SessionInput::Disconnected { connection: pipe.connection, cause: "broken".into() };
            self.input(pipe.session, input);
        }
    }

    fn break_both(&mut self, pipe: u64) {
        self.broker_input(BrokerInput::Closed { connection: pipe });
        self.break_pipe(pipe);
    }

    fn client(&mut self, connection: u64, packet: &Packet) {
        let mut bytes = BytesMut::new();
        codec::write(packet, Protocol::V5, &mut bytes);
        self.broker_input(BrokerInput::Received { connection, bytes: bytes.freeze() });
    }

    fn connect_clients(&mut self) {
        for (connection, name) in [(PUBLISHER, "publisher"), (SUBSCRIBER, "subscriber")] {
            self.broker_input(BrokerInput::Accepted { connection });
            let connect = Connect {
                protocol: Protocol::V5,
                client_id: name.into(),
                clean_start: false,
                keep_alive_seconds: 0,
                session_expiry_seconds: 100_000,
                receive_maximum: 1000,
                packet_bytes_max: None,
                topic_alias_maximum: 0,
                login: None,
            };
            self.client(connection, &Packet::Connect(connect));
        }
        let filter = codec::Filter {
            filter: "out/#".into(),
            qos: Qos::ExactlyOnce,
            retain_handling: codec::RetainHandling::Always,
        };
        let filters = vec![filter];
        self.client(SUBSCRIBER, &Packet::Subscribe { id: 1, filters });
    }

    /// What publisher and subscriber do, without faults.
    fn serve_clients(&mut self) {
        while let Ok(Some(packet)) = codec::read(&mut self.publisher, Protocol::V5, u32::MAX) {
            if let Packet::PubRec { id, .. } = packet {
                self.client(PUBLISHER, &Packet::PubRel { id, reason: 0 });
            }
        }
        while let Ok(Some(packet)) = codec::read(&mut self.subscriber, Protocol::V5, u32::MAX) {
            match packet {
                Packet::Publish(publish) => {
                    self.seen.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                    let (id, reason) = (publish.id, 0);
                    match publish.qos {
                        Qos::ExactlyOnce => self.client(SUBSCRIBER, &Packet::PubRec { id, reason }),
                        Qos::AtLeastOnce => self.client(SUBSCRIBER, &Packet::PubAck { id, reason }),
                        Qos::AtMostOnce => {}
                    }
                }
                Packet::PubRel { id, .. } => self.client(SUBSCRIBER, &Packet::PubComp { id, reason: 0 }),
                _ => {}
            }
        }
    }

    /// Publishes so many records and relays them under faults; then lets everything settle. What the subscriber saw.
    pub(super) fn run(&mut self, records: usize) -> Vec<String> {
        self.connect_clients();
        for _ in 0..600 {
            self.step(false);
        }
        let mut published = 0;
        for step in 0..100_000 {
            if published < records && step % 12 == 0 {
                let publish = Publish {
                    dup: false,
                    qos: Qos::ExactlyOnce,
                    retain: false,
                    id: u16::try_from(published + 1).unwrap(),
                    topic: Bytes::from_static(b"in/x"),
                    alias: None,
                    payload: format!("{published:03}").into(),
                    response_topic: None,
                    correlation_data: None,
                    user_properties: vec![],
                };
                self.client(PUBLISHER, &Packet::Publish(publish));
                published += 1;
            }
            let is_faulty = step < records * 30;
            self.step(is_faulty);
            if !is_faulty && step % 500 == 0 && records <= self.distinct() && self.is_at_rest() {
                break;
            }
        }
        assert!(
            self.is_at_rest(),
            "it does not come to rest: {:?} {:?} {:?}",
            self.sessions[0].status(),
            self.sessions[1].status(),
            self.seen
        );
        self.seen.clone()
    }

    fn distinct(&self) -> usize {
        self.seen.iter().collect::<std::collections::BTreeSet<_>>().len()
    }

    fn is_at_rest(&self) -> bool {
        self.sessions.iter().all(|session| {
            let status = session.status();
            status.connection == "connected" && status.outbox_entries == 0 && status.accepted_unfinished == 0
        })
    }

    fn step(&mut self, is_faulty: bool) {
        self.now += Duration::from_micros((self.random >> 20) % 700);
        if is_faulty {
            let roll = self.chance(1000) as u64;
            let Faults { breaks, crashes, restarts } = self.faults;
            if roll < breaks {
                if let Some(pipe) = self.random_pipe() {
                    self.break_both(pipe);
                }
            } else if roll < breaks + crashes {
                self.crash();
            } else if roll < breaks + crashes + restarts {
                let open: Vec<u64> = self.pipes.keys().copied().collect();
                for pipe in open {
                    self.break_both(pipe);
                }
            }
        }
        match self.chance(6) {
            0 => self.move_up(),
            1 => self.move_down(),
            2 => self.cut(),
            3 => self.sync(),
            4 => self.serve_clients(),
            _ => self.timeouts(),
        }
    }

    fn random_pipe(&mut self) -> Option<u64> {
        let pipes: Vec<u64> = self.pipes.keys().copied().collect();
        let place = self.chance(pipes.len());
        pipes.get(place).copied()
    }

    fn move_up(&mut self) {
        let Some(connection) = self.random_pipe() else {
            return;
        };
        let most = self.chance(200);
        let pipe = self.pipes.get_mut(&connection).unwrap();
        let count = pipe.up.len().min(most);
        let bytes: Bytes = pipe.up.drain(..count).collect();
        let is_over = pipe.closing && pipe.up.is_empty();
        self.broker_input(BrokerInput::Received { connection, bytes });
        if is_over {
            self.pipes.remove(&connection);
            self.broker_input(BrokerInput::Closed { connection });
        }
    }

    fn move_down(&mut self) {
        let Some(number) = self.random_pipe() else { return };
        let most = self.chance(200);
        let pipe = self.pipes.get_mut(&number).unwrap();
        let count = pipe.down.len().min(most);
        let bytes: Bytes = pipe.down.drain(..count).collect();
        let (session, connection) = (pipe.session, pipe.connection);
        self.input(session, SessionInput::Received { connection, bytes });
    }

    fn cut(&mut self) {
        if self.in_flight.is_some() || !self.sessions.iter().any(Session::is_dirty) {
            return;
        }
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let mut builder = FrameBuilder::default();
        for session in &mut self.sessions {
            session.cut(epoch, &mut builder);
        }
        let mut sections = Vec::new();
        builder.finish(&mut sections);
        self.log.push(Logged::Frame(sections));
        self.in_flight = Some(epoch);
    }

    fn sync(&mut self) {
        let from = self.durable;
        self.durable = self.log.len();
        let mut synced = [0, 0];
        for logged in &self.log[from..] {
            if let Logged::Record { session, number, .. } = logged {
                synced[*session] = *number;
            }
        }
        for (session, record) in synced.into_iter().enumerate() {
            if 0 < record {
                self.input(session, SessionInput::Synced { record });
            }
        }
        if let Some(epoch) = self.in_flight.take() {
            for session in 0..2 {
                self.input(session, SessionInput::Committed { epoch });
            }
        }
    }

    /// Time flies when nothing else can happen.
    fn timeouts(&mut self) {
        let is_quiet = self.in_flight.is_none()
            && self.pipes.values().all(|pipe| pipe.up.is_empty() && pipe.down.is_empty());
        let wake = self.sessions.iter().filter_map(Session::poll_timeout).min();
        if let Some(wake) = wake.filter(|_| is_quiet) {
            self.now = self.now.max(wake);
        }
        for place in 0..2 {
            if self.sessions[place].poll_timeout().is_some_and(|at| at <= self.now) {
                self.sessions[place].handle_timeout(self.now);
            }
        }
        self.drain();
    }

    /// Power goes: what was not synced is lost from some point on.
    fn crash(&mut self) {
        let unsynced = self.log.len() - self.durable;
        let kept = self.chance(unsynced + 1);
        self.log.truncate(self.durable + kept);
        self.durable = self.log.len();
        let open: Vec<u64> = self.pipes.keys().copied().collect();
        self.pipes.clear();
        for connection in open {
            self.broker_input(BrokerInput::Closed { connection });
        }
        self.in_flight = None;
        self.build();
    }
}
