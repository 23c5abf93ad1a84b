//! What if it fails *now*? A whole board with its broker, disk, clock and clients in one thread, from one seed.
//!
//! A second shell round the very machines that run in production: `Worker`, `Node`, `Session`, `Store` with its recovery. Every
//! output travels through a queue of virtual time with a delay of its own; the board may die at every one of them, and in the
//! middle of every write. What a seed does is drawn from the seed: the same seed, the same trace.
//!
//! Two phases, as in TigerBeetle's VOPR: faults while records come in, then healing. After it the books must balance:
//!
//! - every sequence that an independent subscriber received is 1, 2, 3 … with none missing, repeated or out of order;
//! - every state equals the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use embassy_time::{Duration, Instant};

use crate::admin::{AdminReply, AdminRequest};
use crate::module::Application;
use crate::mqtt::session::{ConnectionNumber, SessionInput, SessionStart};
use crate::node::{Node, NodeConfig, NodeInput, NodeOutput, StoreCommand};
use crate::sim::base::SimBase;
use crate::sim::broker::{Broker, BrokerInput, BrokerOutput, BrokerSettings};
use crate::sim::client::Client;
use crate::sim::disk::{Crash, Fault, SimDisk};
use crate::store::{Store, StoreLimits};
use crate::worker::io::{SessionIndex, WorkerIndex, WorkerInput, WorkerOutput};
use crate::worker::{Notes, Worker, WorkerConfig, WorkerLimits, WorkerStart, session_owner};

/// What a simulation is to do; usually drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// Workers of the board, drawn again at every start between these bounds: a directory opens with any number.
    pub workers: std::ops::RangeInclusive<usize>,
    /// Bounds of each worker.
    pub limits: WorkerLimits,
    /// Bounds of the store.
    pub store: StoreLimits,
    /// The least time between cuts.
    pub pause: Duration,
    /// One in so many outputs kills the board; 0 is never.
    pub crash_one_in: u32,
    /// One in so many commands to the store kills the board in the middle of it; 0 is never.
    pub store_crash_one_in: u32,
    /// One in so many packets of a session breaks its connection; 0 is never.
    pub disconnect_one_in: u32,
    /// The longest time that something travels.
    pub delay_max: Duration,
}

/// A board, its broker, two clients and everything between.
pub struct Simulation {
    plan: Plan,
    application: Arc<Application>,
    random: fastrand::Rng,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    /// When the last thing of each pipe arrives: pipes are FIFO.
    pipes: BTreeMap<Pipe, Instant>,
    disk: SimDisk,
    base: SimBase,
    board: Option<Board>,
    /// Counts starts: what was under way at a crash is gone.
    start: u64,
    broker: Broker,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    clients: Vec<(u64, Client)>,
    is_healing: bool,
    answers: Vec<AdminReply>,
    next_request: u64,
    trace: u64,
    /// What happened, for the report.
    pub counts: Counts,
}

/// What happened in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that the board died.
    pub crashes: u64,
    /// Of these, in the middle of a write.
    pub crashes_in_store: u64,
    /// Connections broken.
    pub disconnects: u64,
    /// Things that travelled.
    pub events: u64,
}

struct Board {
    node: Node,
    workers: Vec<Worker<SimBase, NoNotes>>,
    store: Store<SimDisk, SimBase>,
}

/// A connection between a session and the broker.
struct Link {
    session: SessionIndex,
    connection: ConnectionNumber,
    start: u64,
}

/// What a queue of things under way leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Pipe {
    Worker(WorkerIndex, WorkerIndex),
    Node(WorkerIndex),
    FromNode(WorkerIndex),
    Store,
    FromStore,
    ToBroker(u64),
    FromBroker(u64),
}

#[derive(Debug)]
enum Event {
    Start,
    Worker {
        start: u64,
        worker: WorkerIndex,
        input: WorkerInput,
    },
    Run {
        start: u64,
        worker: WorkerIndex,
    },
    Node {
        start: u64,
        input: NodeInput,
    },
    Store {
        start: u64,
        command: StoreCommand,
    },
    Broker(BrokerInput),
    FromBroker {
        link: u64,
        bytes: Bytes,
    },
    BrokerClosed {
        link: u64,
    },
}

/// Notes nothing: in a simulation no invocation kills the process.
pub struct NoNotes;

impl Notes for NoNotes {
    fn begin(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn end(&mut self) {}
}

impl Simulation {
    /// A board that is about to start for the first time, a broker, and `clients` connected to it.
    #[must_use]
    pub fn new(plan: Plan, application: Arc<Application>, clients: Vec<Client>) -> Self {
        let disk = SimDisk::default();
        let mut simulation = Self {
            random: fastrand::Rng::with_seed(plan.seed),
            application,
            now: Instant::from_millis(1_000),
            events: BTreeMap::new(),
            sequence: 0,
            pipes: BTreeMap::new(),
            base: SimBase::new(&disk),
            disk,
            board: None,
            start: 0,
            broker: Broker::new(BrokerSettings::default()),
            links: BTreeMap::new(),
            next_link: 1,
            clients: Vec::new(),
            is_healing: false,
            answers: Vec::new(),
            next_request: 0,
            trace: 0,
            counts: Counts::default(),
            plan,
        };
        for client in clients {
            let link = simulation.new_link();
            simulation
                .broker
                .handle_input(simulation.now, BrokerInput::Accepted { connection: link });
            simulation.clients.push((link, client));
        }
        simulation.flush_clients();
        simulation.schedule(Duration::from_ticks(0), Event::Start);
        simulation
    }

    /// A client, by its place; afterwards call [`step`](Self::step).
    pub fn client(&mut self, at: usize) -> &mut Client {
        &mut self.clients[at].1
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A hash of everything that happened so far: equal seeds, equal hashes.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// From now on nothing fails.
    pub fn heal(&mut self) {
        self.is_healing = true;
    }

    /// Lets everything happen that happens before `until`.
    pub fn run_until(&mut self, until: Instant) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Asks the board and waits for as many answers as it has workers that answer; `None` if none came in a virtual minute.
    pub fn ask(&mut self, question: &AdminRequest, worker: WorkerIndex) -> Option<AdminReply> {
        self.answers.clear();
        let until = self.now + Duration::from_secs(60);
        while self.now < until && self.answers.is_empty() {
            if self.board.is_some() {
                self.next_request += 1;
                let request = self.next_request;
                let input = WorkerInput::Admin {
                    request,
                    question: question.clone(),
                };
                let start = self.start;
                self.schedule(Duration::from_ticks(0), Event::Worker { start, worker, input });
            }
            let next = self.now + Duration::from_secs(5);
            while self.answers.is_empty() && self.step(next) {}
            self.now = if self.answers.is_empty() {
                self.now.max(next)
            } else {
                self.now
            };
        }
        self.answers.pop()
    }

    /// How many workers the board has now; 0 while it is down.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.board.as_ref().map_or(0, |board| board.workers.len())
    }

    /// Kills the board now; it starts again after a while.
    pub fn crash(&mut self) {
        if self.board.take().is_none() {
            return;
        }
        self.counts.crashes += 1;
        let crash = match self.random.u8(0..4) {
            0 => Crash::KillsProcess,
            1 => Crash::LosesUnsynced,
            _ => Crash::Tears(self.random.u64(..)),
        };
        self.disk.crash(crash);
        self.start += 1;
        for (link, _) in std::mem::take(&mut self.links) {
            let at = self.arrival(Pipe::ToBroker(link));
            self.schedule_at(at, Event::Broker(BrokerInput::Closed { connection: link }));
        }
        let pause = Duration::from_millis(self.random.u64(1..500));
        self.schedule(pause, Event::Start);
    }

    /// Does the next thing if it is due before `until`.
    fn step(&mut self, until: Instant) -> bool {
        self.flush_clients();
        self.drain_broker();
        let timer = self.timer();
        let first = self.events.first_key_value().map(|(&(at, _), _)| at);
        let Some(next) = [timer, first]
            .into_iter()
            .flatten()
            .min()
            .filter(|&at| at < until)
        else {
            return false;
        };
        self.now = self.now.max(next);
        if timer.is_some_and(|timer| timer <= self.now) && first.is_none_or(|first| self.now < first) {
            self.fire_timers();
        } else if let Some((_, event)) = self.events.pop_first() {
            self.counts.events += 1;
            self.note(&event);
            self.handle(event);
        }
        self.drain_board();
        true
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Start => self.start_board(),
            Event::Worker { start, worker, input } if start == self.start => {
                if let Some(board) = &mut self.board {
                    board.workers[worker.0].handle_input(now, input);
                    self.schedule_run(worker);
                }
            }
            Event::Run { start, worker } if start == self.start => {
                let batch = self.random.usize(1..20);
                if let Some(board) = &mut self.board
                    && board.workers[worker.0].run(now, batch)
                {
                    self.schedule_run(worker);
                }
            }
            Event::Node { start, input } if start == self.start => {
                if let Some(board) = &mut self.board {
                    board.node.handle_input(now, input);
                }
            }
            Event::Store { start, command } if start == self.start => self.handle_store(command),
            Event::Worker { .. } | Event::Run { .. } | Event::Node { .. } | Event::Store { .. } => {}
            Event::Broker(input) => self.broker.handle_input(now, input),
            Event::FromBroker { link, bytes } => self.take_from_broker(link, bytes),
            Event::BrokerClosed { link } => self.close_link(link, "the broker closed the connection"),
        }
    }

    fn start_board(&mut self) {
        let workers = self.random.usize(self.plan.workers.clone());
        let base = self.base.clone();
        let mut board_workers: Vec<_> = (0..workers)
            .map(|index| {
                let config = WorkerConfig {
                    index: WorkerIndex(index),
                    workers,
                    application: Arc::clone(&self.application),
                    limits: self.plan.limits.clone(),
                    seed: self.random.u64(..),
                    poisoned: Vec::new(),
                };
                Worker::new(config, base.clone(), NoNotes)
            })
            .collect();
        let mut replay = |key: &[u8], value: Option<&[u8]>| {
            for worker in &mut board_workers {
                assert!(
                    worker.replay(key, value).is_ok(),
                    "the log holds what nobody wrote"
                );
            }
        };
        let opened = Store::open(
            self.disk.clone(),
            base,
            self.plan.store.clone(),
            self.random.u64(..),
            &mut replay,
        );
        let (store, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => unreachable!(
                "seed {}: a power cut is no reason not to start: {error}",
                self.plan.seed
            ),
        };
        assert!(
            recovered.degraded.is_none(),
            "seed {}: a power cut is no corruption",
            self.plan.seed
        );
        let start = WorkerStart {
            epoch: recovered.epoch,
            identity: recovered.identity,
            sessions: Some(SessionStart::Resume),
        };
        for worker in &mut board_workers {
            let started = worker.start(self.now, start);
            assert!(started.is_ok(), "the base holds what nobody wrote");
        }
        let config = NodeConfig {
            workers,
            pause: self.plan.pause,
            epoch_age: Duration::from_millis(1),
            epoch: recovered.epoch,
            view: recovered.view.max(1),
            time: recovered.time,
        };
        let node = Node::new(config, self.now);
        self.board = Some(Board {
            node,
            workers: board_workers,
            store,
        });
        for worker in 0..workers {
            self.schedule_run(WorkerIndex(worker));
        }
    }

    fn handle_store(&mut self, command: StoreCommand) {
        let dies = self.chance(self.plan.store_crash_one_in);
        if dies {
            let operation = self.disk.operations() + self.random.u64(0..6);
            self.disk.plan(operation, Fault::Crash);
        }
        let Some(board) = &mut self.board else { return };
        let event = board.store.handle(command);
        if dies {
            // Whatever it answered, nobody heard it.
            self.counts.crashes_in_store += 1;
            self.crash();
            return;
        }
        let at = self.arrival(Pipe::FromStore);
        let start = self.start;
        self.schedule_at(
            at,
            Event::Node {
                start,
                input: NodeInput::Store(event),
            },
        );
    }

    /// Takes every output of the board; at each it may die.
    fn drain_board(&mut self) {
        loop {
            let Some(board) = &mut self.board else { return };
            if let Some(output) = board.node.poll_output() {
                if self.chance(self.plan.crash_one_in) {
                    self.crash();
                    return;
                }
                self.route_node(output);
                continue;
            }
            let mut polled = None;
            for (index, worker) in board.workers.iter_mut().enumerate() {
                if let Some(output) = worker.poll_output() {
                    polled = Some((WorkerIndex(index), output));
                    break;
                }
            }
            let Some((worker, output)) = polled else { return };
            if self.chance(self.plan.crash_one_in) {
                self.crash();
                return;
            }
            self.route_worker(worker, output);
        }
    }

    fn route_node(&mut self, output: NodeOutput) {
        let start = self.start;
        let tell = |simulation: &mut Self, worker: WorkerIndex, input: WorkerInput| {
            let at = simulation.arrival(Pipe::FromNode(worker));
            simulation.schedule_at(at, Event::Worker { start, worker, input });
        };
        match output {
            NodeOutput::Cut { epoch } => tell(self, WorkerIndex(0), WorkerInput::Cut { epoch }),
            NodeOutput::Committed { epoch } => {
                for worker in 0..self.workers() {
                    tell(self, WorkerIndex(worker), WorkerInput::Committed { epoch });
                }
            }
            NodeOutput::Folded { epoch } => {
                for worker in 0..self.workers() {
                    tell(self, WorkerIndex(worker), WorkerInput::Folded { epoch });
                }
            }
            NodeOutput::Synced {
                worker,
                session,
                record,
            } => {
                tell(self, worker, WorkerInput::Synced { session, record });
            }
            NodeOutput::Store(command) => {
                let at = self.arrival(Pipe::Store);
                self.schedule_at(at, Event::Store { start, command });
            }
            NodeOutput::Advance { runtime } => self.now = self.now.max(runtime),
        }
    }

    fn route_worker(&mut self, worker: WorkerIndex, output: WorkerOutput) {
        let start = self.start;
        let to_node = |simulation: &mut Self, input: NodeInput| {
            let at = simulation.arrival(Pipe::Node(worker));
            simulation.schedule_at(at, Event::Node { start, input });
        };
        match output {
            WorkerOutput::Channel { to, items } => {
                let at = self.arrival(Pipe::Worker(worker, to));
                let input = WorkerInput::Channel { from: worker, items };
                self.schedule_at(
                    at,
                    Event::Worker {
                        start,
                        worker: to,
                        input,
                    },
                );
            }
            WorkerOutput::Activity(activity) => to_node(self, NodeInput::Activity { worker, activity }),
            WorkerOutput::Section { epoch, sections } => {
                to_node(
                    self,
                    NodeInput::Section {
                        worker,
                        epoch,
                        sections,
                    },
                );
            }
            WorkerOutput::Record {
                session,
                number,
                deadline,
                key,
                value,
            } => {
                to_node(
                    self,
                    NodeInput::Record {
                        worker,
                        session,
                        number,
                        deadline,
                        key,
                        value,
                    },
                );
            }
            WorkerOutput::FoldWanted => to_node(self, NodeInput::FoldWanted),
            WorkerOutput::Connect { session, connection } => self.open_link(session, connection),
            WorkerOutput::Transmit {
                session,
                connection,
                bytes,
            } => {
                if let Some(link) = self.link_of(session, connection) {
                    let at = self.arrival(Pipe::ToBroker(link));
                    let input = BrokerInput::Received {
                        connection: link,
                        bytes,
                    };
                    self.schedule_at(at, Event::Broker(input));
                    if self.chance(self.plan.disconnect_one_in) {
                        self.counts.disconnects += 1;
                        self.close_link(link, "the network failed");
                    }
                }
            }
            WorkerOutput::Close { session, connection } => {
                if let Some(link) = self.link_of(session, connection) {
                    self.close_link(link, "closed");
                }
            }
            WorkerOutput::Admin { reply, .. } => self.answers.push(reply),
            WorkerOutput::Event { .. } | WorkerOutput::Stopped => {}
        }
    }

    fn open_link(&mut self, session: SessionIndex, connection: ConnectionNumber) {
        let link = self.new_link();
        let start = self.start;
        self.links.insert(
            link,
            Link {
                session,
                connection,
                start,
            },
        );
        let at = self.arrival(Pipe::ToBroker(link));
        self.schedule_at(at, Event::Broker(BrokerInput::Accepted { connection: link }));
        let worker = self.owner(session);
        let input = WorkerInput::Session {
            session,
            input: SessionInput::Connected { connection },
        };
        self.schedule_at(at, Event::Worker { start, worker, input });
    }

    /// Breaks a connection: the board hears of it at once, the broker when all that is under way to it has come or was lost.
    fn close_link(&mut self, link: u64, cause: &str) {
        let Some(Link {
            session,
            connection,
            start,
        }) = self.links.remove(&link)
        else {
            return;
        };
        let at = self.arrival(Pipe::ToBroker(link));
        self.schedule_at(at, Event::Broker(BrokerInput::Closed { connection: link }));
        let input = SessionInput::Disconnected {
            connection,
            cause: cause.to_owned(),
        };
        let worker = self.owner(session);
        let input = WorkerInput::Session { session, input };
        let at = self.arrival(Pipe::FromBroker(link));
        self.schedule_at(at, Event::Worker { start, worker, input });
    }

    fn take_from_broker(&mut self, link: u64, bytes: Bytes) {
        if let Some((_, client)) = self.clients.iter_mut().find(|(of_client, _)| *of_client == link) {
            client.handle_bytes(&bytes);
            return;
        }
        let Some(Link {
            session,
            connection,
            start,
        }) = self.links.get(&link)
        else {
            return;
        };
        let (session, connection, start) = (*session, *connection, *start);
        let worker = self.owner(session);
        let input = SessionInput::Received { connection, bytes };
        self.handle(Event::Worker {
            start,
            worker,
            input: WorkerInput::Session { session, input },
        });
        if self.chance(self.plan.disconnect_one_in) {
            self.counts.disconnects += 1;
            self.close_link(link, "the network failed");
        }
    }

    fn drain_broker(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                BrokerOutput::Transmit { connection, bytes } => {
                    let at = self.arrival(Pipe::FromBroker(connection));
                    self.schedule_at(
                        at,
                        Event::FromBroker {
                            link: connection,
                            bytes,
                        },
                    );
                }
                BrokerOutput::Close { connection } => {
                    let at = self.arrival(Pipe::FromBroker(connection));
                    self.schedule_at(at, Event::BrokerClosed { link: connection });
                }
            }
        }
    }

    fn flush_clients(&mut self) {
        for at in 0..self.clients.len() {
            while let Some(bytes) = self.clients[at].1.poll_output() {
                let connection = self.clients[at].0;
                let arrives = self.arrival(Pipe::ToBroker(connection));
                self.schedule_at(
                    arrives,
                    Event::Broker(BrokerInput::Received { connection, bytes }),
                );
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        let board = self.board.as_ref()?;
        let workers = board.workers.iter().filter_map(Worker::poll_timeout).min();
        [workers, board.node.poll_timeout()].into_iter().flatten().min()
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        let Some(board) = &mut self.board else { return };
        if board.node.poll_timeout().is_some_and(|due| due <= now) {
            board.node.handle_timeout(now);
        }
        for worker in &mut board.workers {
            if worker.poll_timeout().is_some_and(|due| due <= now) {
                worker.handle_timeout(now);
            }
        }
        for worker in 0..self.workers() {
            self.schedule_run(WorkerIndex(worker));
        }
    }

    fn schedule_run(&mut self, worker: WorkerIndex) {
        let start = self.start;
        let after = Duration::from_ticks(self.random.u64(0..50));
        self.schedule(after, Event::Run { start, worker });
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    fn schedule_at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// When something put into this pipe now comes out: after a delay, and after everything before it.
    fn arrival(&mut self, pipe: Pipe) -> Instant {
        let delay = Duration::from_ticks(self.random.u64(0..=self.plan.delay_max.as_ticks()));
        let last = self.pipes.get(&pipe).copied().unwrap_or(self.now);
        let at = last.max(self.now + delay);
        self.pipes.insert(pipe, at);
        at
    }

    fn new_link(&mut self) -> u64 {
        self.next_link += 1;
        self.next_link
    }

    fn link_of(&self, session: SessionIndex, connection: ConnectionNumber) -> Option<u64> {
        let mut links = self.links.iter();
        links
            .find(|(_, link)| link.session == session && link.connection == connection)
            .map(|(&at, _)| at)
    }

    fn owner(&self, session: SessionIndex) -> WorkerIndex {
        session_owner(&self.application.sessions[session.0].name, self.workers().max(1))
    }

    fn chance(&mut self, one_in: u32) -> bool {
        !self.is_healing && 0 < one_in && self.random.u32(0..one_in) == 0
    }

    fn note(&mut self, event: &Event) {
        let text = format!("{} {event:?}", self.now.as_ticks());
        self.trace = xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), self.trace);
    }
}
