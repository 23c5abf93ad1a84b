//! A board without sockets: the real workers, node and store round a broker that only answers.
//!
//! The store has its thread, as in the node; all workers take turns on the caller's. Bytes from and to the broker are real packets.

#![allow(dead_code, unreachable_pub, reason = "each bench and test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::{Bytes, BytesMut};
use embassy_time::{Duration, Instant};

use fogfun::Module;
use fogfun::host::base::{LmdbBase, LmdbReader};
use fogfun::host::files::FileDisk;
use fogfun::module::{Application, Board, Specification};
use fogfun::mqtt::codec::{ConnAck, Packet, PublishRef, write, write_publish};
use fogfun::mqtt::config::{Protocol, Qos};
use fogfun::mqtt::session::{ConnectionNumber, SessionInput, SessionStart};
use fogfun::node::{Node, NodeConfig, NodeInput, NodeOutput};
use fogfun::remote::call::{Call, CallNumber, CallOutcome};
use fogfun::store::{Store, StoreCommand, StoreEvent, StoreLimits};
use fogfun::worker::io::{SessionIndex, WorkerIndex, WorkerInput, WorkerOutput};
use fogfun::worker::{Notes, Worker, WorkerConfig, WorkerLimits, WorkerStart, session_owner};

/// Notes nothing.
pub struct Silent;

impl Notes for Silent {
    fn begin(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn end(&mut self) {}
    fn consumed(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn cut(&mut self) {}
    fn committed(&mut self) {}
}

/// How a bed is made.
pub struct Plan {
    pub workers: usize,
    pub pause: Duration,
    /// `None`: time is told with [`Bed::set_now`], and the store works on the caller's thread.
    pub is_real_time: bool,
}

/// What came of it.
#[derive(Default, Clone, Copy, Debug)]
pub struct Counts {
    pub committed: u64,
    pub folds: u64,
    pub section_bytes: u64,
    pub published: u64,
    pub acknowledged: u64,
    pub events: u64,
}

enum StoreSide {
    Thread(Sender<StoreCommand>, Receiver<StoreEvent>),
    Here(Box<Store<FileDisk, LmdbBase>>),
}

/// The board.
pub struct Bed {
    pub workers: Vec<Worker<LmdbReader, Silent>>,
    node: Node,
    store: StoreSide,
    application: Arc<Application>,
    connections: Vec<Option<ConnectionNumber>>,
    /// What the broker has answered, by session.
    answers: Vec<BytesMut>,
    clock: std::time::Instant,
    now: Instant,
    is_real_time: bool,
    pub counts: Counts,
    /// What workers want called, to be taken by whoever has a client.
    pub calls: Vec<(WorkerIndex, Call)>,
}

/// Links functions to a `module.yaml`.
pub fn application(module: Module, yaml: &str) -> Arc<Application> {
    let specification = Specification::parse("module.yaml", yaml, &|_| None).unwrap();
    Arc::new(Application::link(module, specification).unwrap())
}

/// What the `generic` board gives a store.
pub fn store_limits(board: &Board) -> StoreLimits {
    StoreLimits {
        segment_bytes: u32::try_from(board.segment_bytes).unwrap(),
        log_bytes_max: board.log_bytes_max,
        fold_keys: usize::try_from(board.fold_keys).unwrap(),
    }
}

impl Bed {
    /// Opens a directory and starts.
    pub fn start(directory: &Path, application: Arc<Application>, plan: &Plan) -> Self {
        Self::start_with(directory, application, plan, || {})
    }

    /// The same; the store's thread says with `rouse` that it has something to tell.
    pub fn start_with(
        directory: &Path,
        application: Arc<Application>,
        plan: &Plan,
        rouse: impl Fn() + Send + 'static,
    ) -> Self {
        let board = Board::default();
        let (base, reader) = LmdbBase::open(&directory.join("base"), 17_179_869_184).unwrap();
        let disk = FileDisk::open(&directory.join("log")).unwrap();
        let mut limits = WorkerLimits::of(&board);
        limits.memory_bytes /= plan.workers;
        let mut workers: Vec<_> = (0..plan.workers)
            .map(|index| {
                let config = WorkerConfig {
                    index: WorkerIndex(index),
                    workers: plan.workers,
                    application: Arc::clone(&application),
                    limits: limits.clone(),
                    seed: 1,
                    suspects: Vec::new(),
                };
                Worker::new(config, reader.clone(), Silent)
            })
            .collect();
        let mut replay = |key: &[u8], value: Option<&[u8]>| {
            for worker in &mut workers {
                worker.replay(key, value).unwrap();
            }
        };
        let (store, recovered) = Store::open(disk, base, store_limits(&board), 7, &mut replay).unwrap();
        let now = Instant::from_millis(recovered.time.runtime_ms + 1_000);
        let start = WorkerStart {
            epoch: recovered.epoch,
            identity: recovered.identity,
            sessions: Some(SessionStart::Resume),
        };
        for worker in &mut workers {
            worker.start(now, start).unwrap();
        }
        let config = NodeConfig {
            workers: plan.workers,
            pause: plan.pause,
            epoch_age: Duration::from_micros(board.epoch_age_us),
            epoch: recovered.epoch,
            view: recovered.view.max(1),
            time: recovered.time,
        };
        let sessions = application.sessions.len();
        Self {
            workers,
            node: Node::new(config, now),
            store: if plan.is_real_time { on_thread(store, rouse) } else { StoreSide::Here(Box::new(store)) },
            application,
            connections: vec![None; sessions],
            answers: vec![BytesMut::new(); sessions],
            clock: std::time::Instant::now() - std::time::Duration::from_micros(now.as_micros()),
            now,
            is_real_time: plan.is_real_time,
            counts: Counts::default(),
            calls: Vec::new(),
        }
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// What [`now`](Self::now) will be at the next turn, in real time.
    pub fn wall_now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.clock.elapsed().as_micros()).unwrap())
    }

    /// When a turn is due though nothing comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let workers = self.workers.iter().filter_map(Worker::poll_timeout);
        workers.chain(self.node.poll_timeout()).min()
    }

    /// A call ended.
    pub fn called(&mut self, worker: WorkerIndex, call: CallNumber, outcome: CallOutcome) {
        self.workers[worker.0].handle_input(self.now, WorkerInput::Called { call, outcome });
        self.drain();
    }

    /// Gives every part a turn; `invocations_max` a worker. Is there more to do at once?
    pub fn turn(&mut self, invocations_max: usize) -> bool {
        if self.is_real_time {
            self.now = self.wall_now();
        }
        let now = self.now;
        if let StoreSide::Thread(_, events) = &self.store
            && let Ok(event) = events.try_recv()
        {
            self.hear_store(event);
        }
        for session in 0..self.answers.len() {
            if !self.answers[session].is_empty() {
                let bytes = self.answers[session].split().freeze();
                self.receive(session, bytes);
            }
        }
        let mut is_runnable = false;
        for worker in 0..self.workers.len() {
            if self.workers[worker].poll_timeout().is_some_and(|due| due <= now) {
                self.workers[worker].handle_timeout(now);
            }
            is_runnable |= self.workers[worker].run(now, invocations_max);
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_timeout(now);
        }
        self.drain();
        is_runnable || self.answers.iter().any(|bytes| !bytes.is_empty())
    }

    /// Hands bytes of the broker to a session.
    pub fn receive(&mut self, session: usize, bytes: Bytes) {
        let Some(connection) = self.connections[session] else {
            return;
        };
        let input = SessionInput::Received { connection, bytes };
        let input = WorkerInput::Session { session: SessionIndex(session), input };
        let owner = self.owner(session);
        self.workers[owner].handle_input(self.now, input);
    }

    /// Goes on until both directions are connected and nothing is left to commit.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            self.turn(1_000);
            if self.is_real_time {
                std::thread::sleep(std::time::Duration::from_millis(1));
            } else {
                self.now += Duration::from_millis(5);
            }
        }
    }

    fn owner(&self, session: usize) -> usize {
        session_owner(&self.application.sessions[session].name, self.workers.len()).0
    }

    fn hear_store(&mut self, event: StoreEvent) {
        self.node.handle_input(self.now, NodeInput::Store(event));
    }

    /// Routes every output.
    pub fn drain(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.node.poll_output() {
                is_quiet = false;
                self.route_node(output);
            }
            for worker in 0..self.workers.len() {
                while let Some(output) = self.workers[worker].poll_output() {
                    is_quiet = false;
                    self.route_worker(worker, output);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn route_node(&mut self, output: NodeOutput) {
        let now = self.now;
        match output {
            NodeOutput::Cut { epoch } => self.workers[0].handle_input(now, WorkerInput::Cut { epoch }),
            NodeOutput::Committed { epoch } => {
                self.counts.committed += 1;
                for worker in &mut self.workers {
                    worker.handle_input(now, WorkerInput::Committed { epoch });
                }
            }
            NodeOutput::Folded { epoch } => {
                self.counts.folds += 1;
                for worker in &mut self.workers {
                    worker.handle_input(now, WorkerInput::Folded { epoch });
                }
            }
            NodeOutput::Synced { worker, session, record } => {
                self.workers[worker.0].handle_input(now, WorkerInput::Synced { session, record });
            }
            NodeOutput::Store(command) => match &mut self.store {
                StoreSide::Thread(commands, _) => commands.send(command).unwrap(),
                StoreSide::Here(store) => {
                    let event = store.handle(command);
                    self.hear_store(event);
                }
            },
            NodeOutput::Advance { .. } => {}
        }
    }

    fn route_worker(&mut self, at: usize, output: WorkerOutput) {
        let now = self.now;
        let worker = WorkerIndex(at);
        match output {
            WorkerOutput::Channel { to, items } => {
                self.workers[to.0].handle_input(now, WorkerInput::Channel { from: worker, items });
            }
            WorkerOutput::Activity(activity) => {
                self.node.handle_input(now, NodeInput::Activity { worker, activity });
            }
            WorkerOutput::Section { epoch, sections } => {
                self.counts.section_bytes += sections.len() as u64;
                self.node.handle_input(now, NodeInput::Section { worker, epoch, sections });
            }
            WorkerOutput::Record { session, number, deadline, key, value } => {
                let record = NodeInput::Record { worker, session, number, deadline, key, value };
                self.node.handle_input(now, record);
            }
            WorkerOutput::FoldWanted => self.node.handle_input(now, NodeInput::FoldWanted),
            WorkerOutput::Connect { session, connection } => {
                self.connections[session.0] = Some(connection);
                let input = SessionInput::Connected { connection };
                self.workers[at].handle_input(now, WorkerInput::Session { session, input });
            }
            WorkerOutput::Transmit { session, bytes, .. } => {
                answer(&bytes, &mut self.answers[session.0], &mut self.counts);
            }
            WorkerOutput::Call(call) => self.calls.push((worker, call)),
            WorkerOutput::Event { kind, text } => {
                self.counts.events += 1;
                if self.counts.events < 10 {
                    eprintln!("event {kind}: {text}");
                }
            }
            WorkerOutput::Close { .. }
            | WorkerOutput::Read { .. }
            | WorkerOutput::Operate { .. }
            | WorkerOutput::Taken { .. }
            | WorkerOutput::Replied { .. }
            | WorkerOutput::Fetchable { .. }
            | WorkerOutput::Admin { .. }
            | WorkerOutput::Stopped => {}
        }
    }
}

fn on_thread(mut store: Store<FileDisk, LmdbBase>, rouse: impl Fn() + Send + 'static) -> StoreSide {
    let (commands, taken) = channel();
    let (told, events) = channel();
    std::thread::spawn(move || {
        while let Ok(command) = taken.recv() {
            if told.send(store.handle(command)).is_err() {
                return;
            }
            rouse();
        }
    });
    StoreSide::Thread(commands, events)
}

/// What a broker says to these packets. It takes everything and remembers nothing.
fn answer(mut packets: &[u8], out: &mut BytesMut, counts: &mut Counts) {
    while let Some((&first, rest)) = packets.split_first() {
        let (mut length, mut shift, mut at) = (0_usize, 0, 0);
        loop {
            let byte = rest[at];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        let body = &rest[at..at + length];
        packets = &rest[at + length..];
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let packet = match first >> 4 {
            1 => Packet::ConnAck(ConnAck {
                session_present: false,
                reason: 0,
                receive_maximum: None,
                qos_max: Qos::ExactlyOnce,
                retain_available: true,
                packet_bytes_max: None,
                session_expiry_seconds: None,
                keep_alive_seconds: None,
            }),
            3 => {
                counts.published += 1;
                if first & 0b110 == 0 {
                    continue;
                }
                // What the codec would write, without making a packet of it.
                let id = word(2 + usize::from(word(0))).to_be_bytes();
                out.extend_from_slice(&[0x40, 2, id[0], id[1]]);
                continue;
            }
            4 => {
                counts.acknowledged += 1;
                continue;
            }
            8 => Packet::SubAck { id: word(0), reasons: vec![1] },
            12 => Packet::PingResp,
            _ => continue,
        };
        write(&packet, Protocol::V5, out);
    }
}

/// Appends a PUBLISH.
pub fn publish(topic: &str, payload: &[u8], qos: Qos, id: u16, out: &mut BytesMut) {
    let packet = PublishRef {
        dup: false,
        qos,
        retain: false,
        id,
        topic: topic.as_bytes(),
        payload,
        response_topic: None,
        correlation_data: None,
        user_properties: &[],
        message_id: None,
    };
    write_publish(&packet, Protocol::V5, out);
}

/// A field of one of our files in `/proc/self`, in its unit.
pub fn of_process(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim_start_matches(':').split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
