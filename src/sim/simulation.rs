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
//!
//! Meanwhile [`violations`](Simulation::violations) hears of what leaves before its time, of invocations and of memory.

mod faults;
mod invocations;
mod questions;
mod routes;
pub mod sabotage;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use embassy_time::{Duration, Instant};

use crate::admin::AdminReply;
use crate::module::Application;
use crate::mqtt::config::Role;
use crate::mqtt::session::{ConnectionNumber, SessionStart};
use crate::node::{Node, NodeConfig, NodeInput};
use crate::sim::base::SimBase;
use crate::sim::broker::{Broker, BrokerInput};
use crate::sim::client::Client;
use crate::sim::disk::{Crash, SimDisk};
use crate::sim::endpoint::Endpoint;
use crate::sim::swarm;
use crate::sim::watch::Watch;
use crate::store::{Store, StoreCommand, StoreLimits};
use crate::worker::io::{SessionIndex, WorkerIndex, WorkerInput};
use crate::worker::{Worker, WorkerConfig, WorkerLimits, WorkerStart, channel_bytes_max, session_owner};
use invocations::{Invocations, SimNotes};
use sabotage::{Sabotage, Sabotaged};
use trace::Trace;

pub use faults::Faults;
pub use invocations::NoNotes;
pub use trace::Recorder;

/// What a simulation is to do; usually drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// Workers of the board, drawn again at every start between these bounds: a directory opens with any number.
    pub workers: std::ops::RangeInclusive<usize>,
    /// Bounds of each worker where there are as many as there may be. Where there are fewer, each has more memory: the board's is divided.
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
    /// What else fails.
    pub faults: Faults,
    /// A planted mistake.
    pub sabotage: Sabotage,
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
    /// The wall clock at virtual time 0 (Unix, milliseconds), as the kernel has it.
    wall_ms: u64,
    broker: Broker,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    clients: Vec<(u64, Client)>,
    endpoint: Option<Endpoint>,
    is_healing: bool,
    answers: Vec<AdminReply>,
    next_request: u64,
    trace: Trace,
    invocations: Invocations,
    /// The worker whose account was fullest, in percent of its bound.
    memory_percent_max: usize,
    /// What happened, for the report.
    pub counts: Counts,
    /// What the board has told, by kind.
    pub told: BTreeMap<&'static str, Vec<String>>,
    /// The checker of what leaves.
    pub watch: Watch,
    sabotaged: Sabotaged,
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
    /// Times that the broker restarted.
    pub broker_restarts: u64,
    /// Operations of the store that failed.
    pub store_failures: u64,
    /// Things that travelled.
    pub events: u64,
}

struct Board {
    node: Node,
    workers: Vec<Worker<SimBase, SimNotes>>,
    /// What each had to hold after its start and still holds, in bytes. Where there were fewer workers before, that may be more than its
    /// share now: no more may come to it than what waits for its channels.
    recovered_bytes: Vec<usize>,
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
    Worker { start: u64, worker: WorkerIndex, input: WorkerInput },
    Run { start: u64, worker: WorkerIndex },
    Node { start: u64, input: NodeInput },
    Store { start: u64, command: StoreCommand },
    Broker(BrokerInput),
    FromBroker { link: u64, bytes: Bytes },
    BrokerClosed { link: u64 },
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
            wall_ms: WALL_MS,
            broker: Broker::new(plan.faults.broker.clone()),
            links: BTreeMap::new(),
            next_link: 1,
            clients: Vec::new(),
            endpoint: None,
            is_healing: false,
            answers: Vec::new(),
            next_request: 0,
            trace: Trace::default(),
            invocations: Invocations::default(),
            memory_percent_max: 0,
            counts: Counts::default(),
            told: BTreeMap::new(),
            watch: Watch::default(),
            sabotaged: Sabotaged::default(),
            plan,
        };
        for client in clients {
            let link = simulation.new_link();
            simulation.broker.handle_input(simulation.now, BrokerInput::Accepted { connection: link });
            simulation.clients.push((link, client));
        }
        simulation.flush_clients();
        simulation.schedule(Duration::from_ticks(0), Event::Start);
        simulation
    }

    /// All remote functions are in this process.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// A client, by its place; afterwards let time pass: [`run_until`](Self::run_until).
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
        self.trace.hash()
    }

    /// Keeps the last events in words from now on.
    pub fn set_recorder(&mut self, recorder: Option<Recorder>) {
        self.trace.recorder = recorder;
    }

    /// What was wrong so far, whatever the books say: what left too early, invocations side by side, memory beyond its bound.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.watch.violations();
        violations.extend(self.invocations.violation());
        if 100 < self.memory_percent_max {
            violations.push(format!("a worker's memory: {} % of its bound", self.memory_percent_max));
        }
        violations
    }

    /// How full the fullest account was, in percent of its bound.
    #[must_use]
    pub fn memory_percent_max(&self) -> usize {
        self.memory_percent_max
    }

    /// Invocations so far, those that came to nothing included.
    #[must_use]
    pub fn invocations(&self) -> u64 {
        self.invocations.count()
    }

    /// Records that the broker dropped because a queue was full.
    #[must_use]
    pub fn dropped_by_broker(&self) -> u64 {
        self.broker.dropped()
    }

    /// From now on nothing fails.
    pub fn heal(&mut self) {
        self.trace.remark(self.now, "from here on nothing fails");
        self.is_healing = true;
    }

    /// Lets everything happen that happens before `until`.
    pub fn run_until(&mut self, until: Instant) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Lets the board come up. The broker keeps for a session only what came after its first subscription. Says whether it came
    /// to that.
    pub fn run_until_subscribed(&mut self) -> bool {
        self.run_until(self.now + Duration::from_secs(20));
        let end = self.now + SUBSCRIBED_MAX;
        let application = Arc::clone(&self.application);
        let ingresses =
            application.sessions.iter().filter(|session| matches!(session.role, Role::Ingress { .. }));
        for session in ingresses {
            while !self.broker.is_subscribed(&session.client_id) {
                if end < self.now {
                    return false;
                }
                self.run_until(self.now + Duration::from_secs(5));
            }
        }
        true
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
            2 if self.plan.faults.garbles_sectors => Crash::Garbles(self.random.u64(..)),
            _ => Crash::Tears(self.random.u64(..)),
        };
        self.trace.remark(self.now, &format!("the board dies: {crash:?}"));
        self.disk.crash(crash);
        self.start += 1;
        self.disk.set_space(None);
        self.disk.set_read_only(false);
        self.sabotaged.crash();
        for (link, _) in std::mem::take(&mut self.links) {
            self.lose_tail(link);
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
        let Some(next) = [timer, first].into_iter().flatten().min().filter(|&at| at < until) else {
            return false;
        };
        self.now = self.now.max(next);
        if timer.is_some_and(|timer| timer <= self.now) && first.is_none_or(|first| self.now < first) {
            self.fire_timers();
        } else if let Some((_, event)) = self.events.pop_first() {
            self.counts.events += 1;
            self.trace.note(self.now, &event);
            self.handle(event);
        }
        self.drain_board();
        self.watch_memory();
        true
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Start => self.start_board(),
            Event::Worker { start, worker, input } if start == self.start => {
                self.sabotage_delivery(worker, &input);
                if let Some(board) = &mut self.board {
                    board.workers[worker.0].handle_input(now, input);
                    self.schedule_run(worker);
                }
            }
            Event::Run { start, worker } if start == self.start => {
                let batch = 1 + swarm::below(&mut self.random, 19);
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
        let (least, most) = (*self.plan.workers.start(), *self.plan.workers.end());
        let workers = least + swarm::below(&mut self.random, (most - least) as u64 + 1);
        self.invocations.started();
        let mut limits = self.plan.limits.clone();
        limits.memory_bytes = match self.plan.sabotage {
            Sabotage::SharesNoMemory => limits.memory_bytes * most,
            _ => self.memory_share(workers),
        };
        let base = self.base.clone();
        let mut board_workers: Vec<_> = (0..workers)
            .map(|index| {
                let config = WorkerConfig {
                    index: WorkerIndex(index),
                    workers,
                    application: Arc::clone(&self.application),
                    limits: limits.clone(),
                    seed: self.random.u64(..),
                    suspects: Vec::new(),
                };
                Worker::new(config, base.clone(), self.invocations.notes(WorkerIndex(index)))
            })
            .collect();
        let held = base.values().into_iter().map(|(key, value)| (key, Some(value)));
        let mut recovered_values: BTreeMap<Vec<u8>, Option<Vec<u8>>> = held.collect();
        self.disk.lie(self.plan.sabotage.lie_at_start());
        let mut replay = |key: &[u8], value: Option<&[u8]>| {
            recovered_values.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            for worker in &mut board_workers {
                assert!(worker.replay(key, value).is_ok(), "the log holds what nobody wrote");
            }
        };
        let opened = Store::open(self.disk.clone(), base, self.plan.store, self.random.u64(..), &mut replay);
        let (store, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                unreachable!("seed {}: a power cut is no reason not to start: {error}", self.plan.seed)
            }
        };
        assert!(recovered.degraded.is_none(), "seed {}: a power cut is no corruption", self.plan.seed);
        self.watch.started(recovered.epoch, recovered_values);
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
        assert!(recovered.time.runtime_ms <= self.now.as_millis(), "a stamp of a time that never was");
        let node = Node::new(config, self.now);
        let recovered_bytes = board_workers.iter().map(Worker::memory_bytes).collect();
        self.board = Some(Board { node, workers: board_workers, recovered_bytes, store });
        for worker in 0..workers {
            self.schedule_run(WorkerIndex(worker));
        }
        self.prove_clock();
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
        let is_slow = self.chance(self.plan.faults.slow_one_in);
        let after = Duration::from_ticks(self.random.u64(0..if is_slow { SLOW_US_MAX } else { 50 }));
        self.schedule(after, Event::Run { start, worker });
    }

    /// What each of so many workers has of the board's memory, in bytes.
    fn memory_share(&self, workers: usize) -> usize {
        self.plan.limits.memory_bytes * self.plan.workers.end() / workers
    }

    fn watch_memory(&mut self) {
        let share = self.memory_share(self.workers().max(1));
        let Some(board) = &mut self.board else { return };
        for (worker, recovered) in board.workers.iter().zip(&mut board.recovered_bytes) {
            let used = worker.memory_bytes();
            *recovered = used.min(*recovered);
            let bound = share.max(*recovered + channel_bytes_max(share, 2) as usize);
            self.memory_percent_max = self.memory_percent_max.max(used * 100 / bound);
        }
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
        links.find(|(_, link)| link.session == session && link.connection == connection).map(|(&at, _)| at)
    }

    fn owner(&self, session: SessionIndex) -> WorkerIndex {
        session_owner(&self.application.sessions[session.0].name, self.workers().max(1))
    }

    fn chance(&mut self, one_in: u32) -> bool {
        !self.is_healing && 0 < one_in && self.random.u32(0..one_in) == 0
    }
}

/// When it begins: some day in 2026.
const WALL_MS: u64 = 1_790_000_000_000;
/// How long the board may take to come up and subscribe, whatever fails, in virtual time.
const SUBSCRIBED_MAX: Duration = Duration::from_secs(3_600);
/// How long a slow function takes at most, in microseconds.
const SLOW_US_MAX: u64 = 300_000;
