//! What runs beside thread 0? A thread for every further worker, and one for the store.
//!
//! A worker's thread has no reactor: it sleeps on its inbox until a batch or its own timeout comes. A panic outside user code
//! ends the process, whatever the thread: half a node would promise what it cannot keep.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use embassy_time::Instant;

use super::admin;
use super::clock::Clock;
use super::inbox::Inbox;
use super::machine::{StoreMachine, WorkerMachine};
use super::shell::Event;
use crate::admin::AdminReply;
use crate::mqtt::session::{ConnectionNumber, SessionInput};
use crate::store::{StoreCommand, StoreStatus};
use crate::worker::io::{ChannelItem, SessionIndex, WorkerIndex, WorkerInput, WorkerOutput};

/// Invocations between two looks at the inbox. More starves the sockets, fewer asks in vain.
pub const INVOCATIONS_PER_TURN: usize = 256;

/// How the threads of a node reach each other.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Thread 0.
    pub main: Arc<Inbox<Event>>,
    /// The workers' inboxes from worker 1 on.
    pub workers: Vec<Arc<Inbox<WorkerInput>>>,
}

impl Paths {
    /// Inboxes for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { main: Arc::default(), workers: (1..workers).map(|_| Arc::default()).collect() }
    }

    /// Has every worker turn once, though nothing came.
    pub(super) fn rouse(&self) {
        self.main.rouse();
        self.workers.iter().for_each(|inbox| inbox.rouse());
    }
}

/// Starts a worker's thread, which builds the worker itself: functions never change threads.
///
/// # Errors
/// If the operating system gives no thread.
pub fn spawn_worker<W: WorkerMachine>(
    index: WorkerIndex,
    paths: Paths,
    clock: Arc<Clock>,
    build: impl FnOnce(Instant) -> Result<W, String> + Send + 'static,
) -> std::io::Result<()> {
    let body = move || {
        let _guard = AbortOnPanic;
        pin(index.0);
        match build(clock.now()) {
            Ok(worker) => WorkerThread { index, worker, paths, clock, outgoing: Outgoing::default() }.run(),
            Err(text) => paths.main.push(Event::WorkerFailed { worker: index, text }),
        }
    };
    std::thread::Builder::new().name(format!("worker-{}", index.0)).spawn(body).map(drop)
}

struct WorkerThread<W> {
    index: WorkerIndex,
    worker: W,
    paths: Paths,
    clock: Arc<Clock>,
    outgoing: Outgoing,
}

/// What a turn of a worker gave, before it is passed on.
#[derive(Default)]
struct Outgoing {
    outputs: Vec<WorkerOutput>,
    taken: Vec<(SessionIndex, ConnectionNumber, usize)>,
}

impl<W: WorkerMachine> WorkerThread<W> {
    fn run(mut self) {
        let Some(inbox) =
            self.index.0.checked_sub(1).and_then(|place| self.paths.workers.get(place)).cloned()
        else {
            unreachable!("only workers from 1 on have threads of their own")
        };
        let mut inputs = VecDeque::new();
        let mut more = true;
        self.drain();
        // Also one that has stopped takes part in the others' last epochs.
        while !inbox.is_closed() {
            if more {
                inbox.take(&mut inputs);
            } else {
                inbox.take_waiting(&mut inputs, self.wait_max());
            }
            let now = self.clock.now();
            for input in inputs.drain(..) {
                if let WorkerInput::Session { session, input: SessionInput::Received { connection, bytes } } =
                    &input
                {
                    self.outgoing.taken.push((*session, *connection, bytes.len()));
                }
                self.worker.handle_input(now, input);
                self.drain();
            }
            if self.worker.poll_timeout().is_some_and(|at| at <= now) {
                self.worker.handle_timeout(now);
                self.drain();
            }
            more = self.worker.run(now, INVOCATIONS_PER_TURN);
            self.drain();
            self.pass_on();
        }
    }

    fn wait_max(&self) -> Option<Duration> {
        let now = self.clock.now();
        let micros = self.worker.poll_timeout()?.as_micros().saturating_sub(now.as_micros());
        Some(Duration::from_micros(micros))
    }

    fn drain(&mut self) {
        while let Some(output) = self.worker.poll_output() {
            self.outgoing.outputs.push(output);
        }
    }

    /// Channels first and directly, so that what worker 0 hears of this worker's activity is never ahead of its messages.
    fn pass_on(&mut self) {
        let mut outputs = Vec::with_capacity(self.outgoing.outputs.len());
        for output in self.outgoing.outputs.drain(..) {
            match output {
                WorkerOutput::Channel { to, items } if to.0 != 0 => {
                    send(&self.paths, to, WorkerInput::Channel { from: self.index, items });
                }
                other => outputs.push(other),
            }
        }
        let taken = std::mem::take(&mut self.outgoing.taken);
        if !outputs.is_empty() || !taken.is_empty() {
            self.paths.main.push_waiting(Event::Worker { worker: self.index, outputs, taken });
        }
    }
}

/// Puts an input into the inbox of a worker from 1 on.
pub(super) fn send(paths: &Paths, to: WorkerIndex, input: WorkerInput) {
    match to.0.checked_sub(1).and_then(|place| paths.workers.get(place)) {
        Some(inbox) => inbox.push(input),
        None => unreachable!("worker {} is not one of this node's threads", to.0),
    }
}

/// Passes items on to another worker from thread 0.
pub(super) fn send_channel(paths: &Paths, to: WorkerIndex, items: Vec<ChannelItem>) {
    send(paths, to, WorkerInput::Channel { from: WorkerIndex(0), items });
}

/// The store's thread: takes commands, answers events, and leaves its summary where `status` finds it.
#[derive(Debug, Clone, Default)]
pub struct StorePath {
    /// What the thread is to do; of the node's commands one at a time.
    pub jobs: Arc<Inbox<StoreJob>>,
    /// How the store was after its last command.
    pub summary: Arc<Mutex<Option<StoreStatus>>>,
}

/// What the store's thread is to do.
#[derive(Debug)]
pub enum StoreJob {
    /// What the node wants; answered by [`Event::Store`].
    Command(StoreCommand),
    /// A person has seen what storage lost.
    AcceptDegraded {
        /// Where the answer goes, as a line of JSON.
        answer: smol::channel::Sender<String>,
    },
    /// Nothing more.
    End,
}

/// Starts the store's thread.
///
/// # Errors
/// If the operating system gives no thread.
pub fn spawn_store<S: StoreMachine + Send + 'static>(
    mut store: S,
    path: StorePath,
    main: Arc<Inbox<Event>>,
) -> std::io::Result<()> {
    let summary = Arc::clone(&path.summary);
    let publish = move |now| *summary.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    publish(store.summary());
    let body = move || {
        let _guard = AbortOnPanic;
        let mut jobs = VecDeque::new();
        loop {
            path.jobs.take_waiting(&mut jobs, None);
            for job in jobs.drain(..) {
                // Who hears that something is done sees it in the summary.
                match job {
                    StoreJob::Command(command) => {
                        let event = store.handle(command);
                        publish(store.summary());
                        main.push(Event::Store(event));
                    }
                    StoreJob::AcceptDegraded { answer } => {
                        let reply = match store.accept_degraded() {
                            Ok(count) => AdminReply::Done { count },
                            Err(error) => AdminReply::Error { text: error.to_string() },
                        };
                        publish(store.summary());
                        // A client that went away needs no answer.
                        let _gone = answer.try_send(admin::to_line(&reply));
                    }
                    StoreJob::End => return,
                }
            }
        }
    };
    std::thread::Builder::new().name("store".into()).spawn(body).map(drop)
}

/// Ends the process if its thread panics.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Keeps this thread on the `place`th of the processors that the process may use. Without permission it stays where it is put.
fn pin(place: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let processors: Vec<usize> =
        (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor)).collect();
    if let Some(&processor) = place.checked_rem(processors.len()).and_then(|place| processors.get(place)) {
        let mut only = CpuSet::new();
        only.set(processor);
        let _not_permitted = sched_setaffinity(None, &only);
    }
}
