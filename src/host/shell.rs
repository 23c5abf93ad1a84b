//! What does thread 0 do all day? It takes events, gives them to worker 0 and the node, and does what they want done.
//!
//! A turn: take the events that came → inputs, each followed by its outputs → timeouts → invoke → write to sockets → wait for the
//! next event or the earliest timeout. Nothing in here looks at what a message says.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use embassy_time::Instant;
use smol::LocalExecutor;

use super::clock::{self, Clock};
use super::http::HttpClient;
use super::machine::{NodeMachine, WorkerMachine};
use super::network::Network;
use super::notify::Supervisor;
use super::operations::Operations;
use super::serve::HttpServer;
use super::start::Reload;
use super::threads::{INVOCATIONS_PER_TURN, Paths, StoreJob, StorePath, send, send_channel};
use super::{admin, failpoint, metrics, signals};
use crate::admin::{AdminReply, AdminRequest};
use crate::module::Application;
use crate::mqtt::config::SessionConfig;
use crate::mqtt::session::{ConnectionNumber, SessionInput};
use crate::node::{NodeInput, NodeOutput};
use crate::remote::call::{CallNumber, CallOutcome};
use crate::remote::config::EndpointConfig;
use crate::store::StoreEvent;
use crate::typed_value::TypedValue;
use crate::worker::io::{
    OperationNumber, SessionIndex, Taken, TakenRecord, WorkerIndex, WorkerInput, WorkerOutput,
};

/// From SIGTERM to the clean end of all sessions. Longer lets more handshakes finish, shorter lets the board go down sooner.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Beyond it, for the workers to say that they have stopped; then the process ends without them.
pub const STOP_GRACE: Duration = Duration::from_secs(1);
/// The same kind of event is told to a person once in this time; all are counted.
pub const EVENT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// All that thread 0 is told.
#[derive(Debug)]
pub enum Event {
    /// A turn of another worker's thread.
    Worker {
        /// Which.
        worker: WorkerIndex,
        /// What it wants done, in order.
        outputs: Vec<WorkerOutput>,
        /// Bytes taken by its sessions.
        taken: Vec<(SessionIndex, ConnectionNumber, usize)>,
    },
    /// A worker could not start.
    WorkerFailed {
        /// Which.
        worker: WorkerIndex,
        /// Why.
        text: String,
    },
    /// The store's thread answers.
    Store(StoreEvent),
    /// An operation ended.
    Operated {
        /// Whose.
        worker: WorkerIndex,
        /// Which.
        number: OperationNumber,
        /// How.
        result: Result<TypedValue, String>,
    },
    /// Something happened to a socket.
    Network {
        /// Whose.
        session: SessionIndex,
        /// Which connection.
        connection: ConnectionNumber,
        /// What.
        input: SessionInput,
    },
    /// A call of a remote function ended.
    Called {
        /// Whose.
        worker: WorkerIndex,
        /// Which.
        call: CallNumber,
        /// How.
        outcome: CallOutcome,
    },
    /// A record came over HTTP.
    Take {
        /// Names the answer.
        request: u64,
        /// What.
        record: TakenRecord,
    },
    /// While the node stops: a client of an HTTP port has its answer.
    Served,
    /// Something outside the machines is to be counted, and told once in a while.
    Happened {
        /// The counter's name.
        kind: &'static str,
        /// What to tell.
        text: String,
    },
    /// A person or a program asks.
    Admin {
        /// What.
        question: AdminRequest,
        /// Where the answer goes.
        answer: smol::channel::Sender<String>,
    },
    /// SIGTERM or SIGINT, or the command at rest is done.
    Stop,
}

/// What thread 0 has to know.
pub struct ShellConfig {
    /// The module's sessions.
    pub sessions: Vec<Arc<SessionConfig>>,
    /// The module's operations.
    pub operations: Operations,
    /// The worker that owns each session.
    pub session_workers: Vec<WorkerIndex>,
    /// The module's endpoints.
    pub endpoints: Vec<Arc<EndpointConfig>>,
    /// What is bound, and what is served over HTTP.
    pub application: Arc<Application>,
    /// Differs from start to start.
    pub boot: u64,
    /// Where the admin socket is; `None`: at rest, no socket of any kind is opened and no signal taken.
    pub data: Option<PathBuf>,
    /// What `status` says of the node besides: versions, names, how the store was found.
    pub about: serde_json::Map<String, serde_json::Value>,
    /// Who watches the process.
    pub supervisor: Supervisor,
    /// What SIGHUP asks for.
    pub reload: Option<Reload>,
    /// Where Prometheus may ask.
    pub metrics: Option<std::net::SocketAddr>,
}

/// Thread 0.
pub struct Shell<W, N> {
    config: ShellConfig,
    clock: Arc<Clock>,
    worker: W,
    node: N,
    paths: Paths,
    store: StorePath,
    network: Network,
    http: HttpClient,
    server: HttpServer,
    executor: Rc<LocalExecutor<'static>>,
    for_node: VecDeque<NodeInput>,
    for_worker: VecDeque<WorkerInput>,
    questions: BTreeMap<u64, Question>,
    questions_asked: u64,
    counters: BTreeMap<&'static str, (u64, Option<Instant>)>,
    /// Sessions whose first connection attempt is over; `None` once `ready` was said.
    attempts: Option<Vec<bool>>,
    store_busy: bool,
    clock_proof_due: Option<Instant>,
    stopping: Option<Stopping>,
    failure: Option<String>,
}

/// A question that not every worker has answered.
struct Question {
    question: AdminRequest,
    answers: BTreeMap<usize, AdminReply>,
    answers_due: usize,
    answer: smol::channel::Sender<String>,
}

struct Stopping {
    deadline: Instant,
    workers_stopped: Vec<bool>,
}

impl<W: WorkerMachine, N: NodeMachine> Shell<W, N> {
    /// Thread 0, with its worker started and the other threads running.
    #[must_use]
    pub fn new(
        config: ShellConfig,
        clock: Arc<Clock>,
        worker: W,
        node: N,
        paths: Paths,
        store: StorePath,
    ) -> Self {
        let executor = Rc::new(LocalExecutor::new());
        let network = Network::new(config.sessions.clone(), Rc::clone(&executor), Arc::clone(&paths.main));
        let http = HttpClient::new(config.endpoints.clone(), &executor, Arc::clone(&paths.main));
        let (application, inbox) = (Arc::clone(&config.application), Arc::clone(&paths.main));
        let server = HttpServer::new(application, config.boot, &executor, inbox);
        let attempts = Some(vec![false; config.sessions.len()]);
        let clock_proof_due = Some(clock.now());
        Self {
            config,
            clock,
            worker,
            node,
            paths,
            store,
            network,
            http,
            server,
            executor,
            for_node: VecDeque::new(),
            for_worker: VecDeque::new(),
            questions: BTreeMap::new(),
            questions_asked: 0,
            counters: BTreeMap::new(),
            attempts,
            store_busy: false,
            clock_proof_due,
            stopping: None,
            failure: None,
        }
    }

    /// Where its events go in.
    #[must_use]
    pub fn inbox(&self) -> Arc<super::inbox::Inbox<Event>> {
        Arc::clone(&self.paths.main)
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// If a port cannot be listened at, a socket or signal handler cannot be made, or a worker could not start.
    pub fn run(mut self) -> Result<(), String> {
        let executor = Rc::clone(&self.executor);
        if let Some(data) = &self.config.data {
            metrics::start(&self.config, &self.clock, &executor, &self.paths.main)?;
            self.server.listen()?;
            // Who reaches the admin socket may send a signal.
            let (supervisor, reload) = (&self.config.supervisor, self.config.reload.as_ref());
            signals::watch(&executor, &self.paths, supervisor, reload)
                .map_err(|error| format!("signals: {error}"))?;
            admin::listen(data, &executor, &self.paths.main)
                .map_err(|error| format!("admin socket: {error}"))?;
        }
        smol::block_on(executor.run(self.turn_until_stopped()));
        if let Some(data) = &self.config.data {
            // Nobody listens on it; a start replaces it anyway.
            let _left_behind = std::fs::remove_file(admin::socket_path(data));
        }
        self.paths.main.close();
        for worker in &self.paths.workers {
            worker.close();
        }
        self.store.jobs.push(StoreJob::End);
        self.failure.map_or(Ok(()), Err)
    }

    async fn turn_until_stopped(&mut self) {
        let mut events = VecDeque::new();
        let mut timer = None;
        self.drain(self.clock.now());
        loop {
            self.paths.main.take(&mut events);
            let now = self.clock.now();
            for event in events.drain(..) {
                self.on_event(now, event);
                self.drain(now);
            }
            self.on_timeouts(now);
            let more = self.worker.run(now, INVOCATIONS_PER_TURN);
            self.drain(now);
            self.network.flush();
            self.say_ready();
            if self.failure.is_some() || self.is_stopped() {
                return;
            }
            if more {
                smol::future::yield_now().await;
            } else {
                self.wait(&mut timer).await;
            }
        }
    }

    /// Until something comes or is due. A timer that is set too early stays: setting one costs more than waking in vain.
    async fn wait(&self, kept: &mut Option<(u64, smol::Timer)>) {
        let inbox = &self.paths.main;
        let (clock, own) = (&self.clock, self.next_timeout());
        poll_fn(|context| {
            let due = [own, clock::turn_timers(context.waker())].into_iter().flatten().min();
            if inbox.is_ready(context.waker()) {
                return Poll::Ready(());
            }
            let Some(due) = due else { return Poll::Pending };
            let micros = due.as_micros().saturating_sub(clock.now().as_micros());
            if micros == 0 {
                return Poll::Ready(());
            }
            let (due, now) = (due.as_micros(), clock.now().as_micros());
            if kept.as_ref().is_none_or(|(at, _)| *at <= now || due < *at) {
                *kept = Some((due, smol::Timer::after(Duration::from_micros(micros))));
            }
            let Some((_, timer)) = kept else { return Poll::Pending };
            let polled = std::future::Future::poll(std::pin::Pin::new(timer), context).map(drop);
            if polled.is_ready() {
                *kept = None;
            }
            polled
        })
        .await;
    }

    fn next_timeout(&self) -> Option<Instant> {
        let stop = self.stopping.as_ref().map(|stopping| stopping.deadline);
        [self.worker.poll_timeout(), self.node.poll_timeout(), self.clock_proof_due, stop]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_timeouts(&mut self, now: Instant) {
        if self.worker.poll_timeout().is_some_and(|at| at <= now) {
            self.worker.handle_timeout(now);
            self.drain(now);
        }
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
            self.drain(now);
        }
        if self.clock_proof_due.is_some_and(|at| at <= now) {
            self.clock_proof_due = match clock::proven_wall_ms() {
                Some(wall_ms) => {
                    self.node.handle_input(now, NodeInput::ClockProven { wall_ms });
                    self.drain(now);
                    None
                }
                None => Some(now + to_ticks(clock::CLOCK_PROOF_INTERVAL)),
            };
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Worker { worker, outputs, taken } => {
                for (session, connection, bytes) in taken {
                    self.network.taken(session, connection, bytes);
                }
                for output in outputs {
                    self.on_worker_output(now, worker, output);
                    self.drain(now);
                }
            }
            Event::WorkerFailed { worker, text } => {
                self.failure = Some(format!("worker {}: {text}", worker.0))
            }
            Event::Store(event) => {
                self.store_busy = false;
                self.node.handle_input(now, NodeInput::Store(event));
            }
            Event::Operated { worker, number, result } => {
                self.tell_worker(worker, WorkerInput::Operated { number, result });
            }
            Event::Network { session, connection, input } => self.on_network(now, session, connection, input),
            Event::Called { worker, call, outcome } => {
                self.tell_worker(worker, WorkerInput::Called { call, outcome });
            }
            // A worker that has stopped would not hear of it.
            Event::Take { request, .. } if self.stopping.is_some() => {
                self.server.taken(request, Taken::Refused("the node stops".to_owned()));
            }
            Event::Take { request, record } => {
                let owner = WorkerIndex(record.target.key_group().worker(self.worker_count()));
                self.tell_worker(owner, WorkerInput::Take { request, record });
            }
            // Whether the node may stop is looked at after every turn.
            Event::Served => {}
            Event::Happened { kind, text } => self.on_counted(now, kind, &text),
            Event::Admin { question, answer } => self.on_question(question, answer),
            Event::Stop => self.on_stop(now),
        }
    }

    fn on_network(
        &mut self,
        now: Instant,
        session: SessionIndex,
        connection: ConnectionNumber,
        input: SessionInput,
    ) {
        let received = match &input {
            SessionInput::Received { bytes, .. } => bytes.len(),
            _ => 0,
        };
        if let (Some(attempts), 0) = (&mut self.attempts, received)
            && let Some(attempt) = attempts.get_mut(session.0)
        {
            *attempt = true;
        }
        if matches!(input, SessionInput::Disconnected { .. }) {
            self.network.forget(session, connection);
        }
        let input = WorkerInput::Session { session, input };
        match self.config.session_workers.get(session.0) {
            Some(WorkerIndex(0)) => {
                self.worker.handle_input(now, input);
                self.network.taken(session, connection, received);
            }
            Some(&worker) => send(&self.paths, worker, input),
            None => unreachable!("every session has a worker"),
        }
    }

    /// Does what the machines of this thread want done, until they want nothing: each input is followed by its outputs.
    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.worker.poll_output() {
                self.on_worker_output(now, WorkerIndex(0), output);
            }
            while let Some(output) = self.node.poll_output() {
                self.on_node_output(output);
            }
            if let Some(input) = self.for_node.pop_front() {
                self.node.handle_input(now, input);
            } else if let Some(input) = self.for_worker.pop_front() {
                self.worker.handle_input(now, input);
            } else {
                return;
            }
        }
    }

    fn on_worker_output(&mut self, now: Instant, worker: WorkerIndex, output: WorkerOutput) {
        match output {
            WorkerOutput::Channel { to: WorkerIndex(0), items } => {
                self.for_worker.push_back(WorkerInput::Channel { from: worker, items });
            }
            WorkerOutput::Channel { to, items } => send_channel(&self.paths, to, items),
            WorkerOutput::Activity(activity) => {
                // Another's last messages may wake one that had stopped.
                if activity.first_effect.is_some() {
                    self.set_stopped(worker, false);
                }
                self.for_node.push_back(NodeInput::Activity { worker, activity })
            }
            WorkerOutput::Section { epoch, sections } => {
                self.for_node.push_back(NodeInput::Section { worker, epoch, sections });
            }
            WorkerOutput::Record { session, number, deadline, key, value } => {
                self.for_node.push_back(NodeInput::Record { worker, session, number, deadline, key, value });
            }
            WorkerOutput::FoldWanted => self.for_node.push_back(NodeInput::FoldWanted),
            WorkerOutput::Connect { session, connection } if self.config.data.is_some() => {
                self.network.connect(session, connection);
            }
            WorkerOutput::Transmit { session, connection, bytes } => {
                self.network.transmit(session, connection, bytes)
            }
            WorkerOutput::Read { session, is_wanted } => self.network.read(session, is_wanted),
            WorkerOutput::Close { session, connection } => self.network.close(session, connection),
            WorkerOutput::Operate { number, operation, request } => {
                let operations = &self.config.operations;
                operations.begin(&self.executor, &self.paths.main, worker, number, &operation, request);
            }
            WorkerOutput::Call(call) if self.config.data.is_some() => self.http.call(worker, call),
            // At rest there is no network: a session and a call wait for ever.
            WorkerOutput::Connect { .. } | WorkerOutput::Call(_) => {}
            WorkerOutput::Taken { request, taken } => self.server.taken(request, taken),
            WorkerOutput::Replied { waiter, value } => self.server.replied(&waiter, value),
            WorkerOutput::Fetchable { value } => {
                if let Err(text) = self.server.fetchable(&value) {
                    self.on_counted(now, "fetchable-dropped", &text);
                }
            }
            WorkerOutput::Admin { request, reply } => self.on_answer(worker, request, reply),
            WorkerOutput::Event { kind, text } => self.on_counted(now, kind, &text),
            WorkerOutput::Stopped => self.set_stopped(worker, true),
        }
    }

    fn on_node_output(&mut self, output: NodeOutput) {
        match output {
            NodeOutput::Cut { epoch } => self.for_worker.push_back(WorkerInput::Cut { epoch }),
            NodeOutput::Committed { epoch } => self.tell_every_worker(|| WorkerInput::Committed { epoch }),
            NodeOutput::Folded { epoch } => self.tell_every_worker(|| WorkerInput::Folded { epoch }),
            NodeOutput::Advance { runtime } => self.clock.advance_to(runtime),
            NodeOutput::Synced { worker, session, record } => {
                self.tell_worker(worker, WorkerInput::Synced { session, record });
            }
            NodeOutput::Store(command) => {
                assert!(!self.store_busy, "the store is given one command at a time");
                self.store_busy = true;
                self.store.jobs.push(StoreJob::Command(command));
            }
        }
    }

    fn tell_worker(&mut self, worker: WorkerIndex, input: WorkerInput) {
        if worker.0 == 0 { self.for_worker.push_back(input) } else { send(&self.paths, worker, input) }
    }

    fn tell_every_worker(&mut self, input: impl Fn() -> WorkerInput) {
        for worker in 0..self.worker_count() {
            self.tell_worker(WorkerIndex(worker), input());
        }
    }

    fn worker_count(&self) -> usize {
        self.paths.workers.len() + 1
    }

    fn on_counted(&mut self, now: Instant, kind: &'static str, text: &str) {
        let (count, logged) = self.counters.entry(kind).or_default();
        *count += 1;
        if logged.is_none_or(|at| at + to_ticks(EVENT_LOG_INTERVAL) <= now) {
            *logged = Some(now);
            log::warn!("{kind}: {text}");
            self.config.supervisor.status(&format!("serving; last alarm: {kind}: {text}"));
        }
    }

    fn on_stop(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        let deadline = now + to_ticks(STOP_TIME_MAX);
        let workers_stopped = vec![false; self.worker_count()];
        self.server.stop();
        self.stopping = Some(Stopping { deadline: deadline + to_ticks(STOP_GRACE), workers_stopped });
        self.tell_every_worker(|| WorkerInput::Stop { deadline });
        self.for_node.push_back(NodeInput::Stop);
    }

    fn set_stopped(&mut self, worker: WorkerIndex, is_stopped: bool) {
        let stopping = self.stopping.as_mut();
        if let Some(stopped) = stopping.and_then(|stopping| stopping.workers_stopped.get_mut(worker.0)) {
            *stopped = is_stopped;
        }
    }

    fn is_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else {
            return false;
        };
        if stopping.deadline <= self.clock.now() {
            let (stopped, http) = (&stopping.workers_stopped, self.server.is_busy());
            log::warn!("stopped without the workers: the bound was reached ({stopped:?}, HTTP busy: {http})");
            return true;
        }
        stopping.workers_stopped.iter().all(|stopped| *stopped)
            && !self.store_busy
            && self.network.outgoing_bytes() == 0
            && !self.server.is_busy()
    }

    fn say_ready(&mut self) {
        let all = |attempts: &Vec<bool>| attempts.iter().all(|attempt| *attempt);
        if self.config.data.is_some() && self.attempts.as_ref().is_some_and(all) {
            self.attempts = None;
            failpoint::arm();
            log::info!("ready");
            self.config.supervisor.status("serving");
            self.config.supervisor.ready();
        }
    }
}

impl<W, N> std::fmt::Debug for Shell<W, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("data", &self.config.data).finish_non_exhaustive()
    }
}

fn to_ticks(duration: Duration) -> embassy_time::Duration {
    embassy_time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::session as test_session;
