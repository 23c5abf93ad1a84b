//! How does a node come to life on a data directory? Store, base, workers and node are put together here, and nowhere else.
//!
//! ```text
//! DIR/log/   the epoch log's segments, the manifest and the lock
//! DIR/base/  the base (LMDB)
//! DIR/notes  what is being invoked; DIR/admin.sock  where a person asks
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use embassy_time::Instant;

use super::base::{LmdbBase, LmdbReader};
use super::clock::Clock;
use super::failpoint::Watched;
use super::files::{FileDisk, LOCK_WAIT_MAX, create_directory};
use super::machine::{NodeMachine, StoreMachine, WorkerMachine};
use super::notes::{NotesFile, WorkerNotes};
use super::notify::{StartProgress, Supervisor};
use super::operations::Operations;
use super::shell::{Event, Shell, ShellConfig};
use super::threads::{self, Paths, StorePath};
use super::watchdog::Watchdog;
use crate::admin::{AdminRequest, NodeStatus};
use crate::epoch::frame;
use crate::module::{Application, Board};
use crate::mqtt::session::SessionStart;
use crate::node::{Node, NodeConfig, NodeInput, NodeOutput};
use crate::state::key::group_of;
use crate::store::{Degraded, Recovered, Store, StoreLimits, StoreStatus};
use crate::store::{StoreCommand, StoreEvent};
use crate::worker::io::{WorkerIndex, WorkerInput, WorkerOutput};
use crate::worker::{Worker, WorkerConfig, WorkerLimits, WorkerStart, session_owner};

/// What is to run.
pub struct Start {
    /// The functions and sessions.
    pub application: Arc<Application>,
    /// The bounds.
    pub board: Board,
    /// The data directory.
    pub data: PathBuf,
    /// What SIGHUP asks for.
    pub reload: Option<Reload>,
    /// Where Prometheus may ask.
    pub metrics: Option<std::net::SocketAddr>,
}

/// Looks at the files that a node was started from, and says what a person should know of them; empty if they are as they were.
pub type Reload = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

type NodeStore = Store<Watched<FileDisk>, Watched<LmdbBase>>;

/// Runs a node until it is told to stop.
///
/// # Errors
/// Why it cannot start, for a person.
pub fn serve(start: Start) -> Result<(), String> {
    let data = start.data.clone();
    assemble(start, Some(data))?.run()
}

/// Asks a data directory on which no node runs: the machines are started without sockets, asked, and dropped.
///
/// # Errors
/// Why the directory cannot be opened.
pub fn ask_at_rest(board: Board, data: &Path, question: AdminRequest) -> Result<String, String> {
    if !data.join("log").is_dir() {
        return Err(format!("{}: no data directory", data.display()));
    }
    let start = Start {
        application: Arc::new(Application::at_rest()),
        board,
        data: data.to_owned(),
        reload: None,
        metrics: None,
    };
    let shell = assemble(start, None)?;
    let (answer, answered) = smol::channel::bounded(1);
    let main = shell.inbox();
    main.push(Event::Admin { question, answer });
    let teller = std::thread::spawn(move || {
        let line = smol::block_on(answered.recv());
        main.push(Event::Stop);
        line
    });
    shell.run()?;
    teller.join().ok().and_then(Result::ok).ok_or_else(|| "no answer".to_owned())
}

fn assemble(start: Start, serving: Option<PathBuf>) -> Result<Shell<WatchedWorker, Node>, String> {
    let Start { application, board, data, reload, metrics } = start;
    let workers = usize::from(board.workers);
    let is_served = serving.is_some();
    let mut replays = vec![Vec::new(); workers];
    let supervisor = if is_served { Supervisor::from_environment() } else { Supervisor::default() };
    let mut progress = StartProgress::new(&supervisor);
    let mut replay = |key: &[u8], value: Option<&[u8]>| {
        progress.step();
        if let Some(replay) = group_of(key).and_then(|group| replays.get_mut(group.worker(workers))) {
            frame::encode_record(replay, key, value);
        }
    };
    // Who asks at rest says at once that he cannot; the node that is there answers soon.
    let lock_wait_max = if is_served { LOCK_WAIT_MAX } else { std::time::Duration::ZERO };
    let (store, recovered, reader) = open_store(&board, &data, lock_wait_max, &mut replay)?;
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| data.clone(), PathBuf::from);
    let notes = NotesFile::open(&runtime).map_err(|error| format!("{}/notes: {error}", runtime.display()))?;
    let paths = Paths::new(workers);
    let (own, watched, roused) = (Arc::clone(&notes), supervisor.clone(), paths.clone());
    let watchdog = Watchdog::start(own, workers, board.invocation_max(), watched, move || roused.rouse())
        .map_err(no_thread)?;
    let clock = Arc::new(Clock::start(recovered.time));
    Clock::install(Arc::clone(&clock));
    let store_path = StorePath::default();
    let session_workers =
        application.sessions.iter().map(|session| session_owner(&session.name, workers)).collect();
    let config = ShellConfig {
        sessions: application.sessions.clone(),
        operations: Operations::new(application.operations.clone()),
        session_workers,
        endpoints: application.endpoints.clone(),
        application: Arc::clone(&application),
        boot: entropy()?,
        data: serving,
        about: about(&recovered, &board),
        supervisor,
        reload,
        metrics,
    };
    let node = Node::new(node_config(&board, &recovered), clock.now());
    let seed = entropy()?;
    let begin = worker_start(&recovered, is_served);
    let mut plans = replays.into_iter().enumerate().map(|(index, replay)| WorkerPlan {
        config: WorkerConfig {
            index: WorkerIndex(index),
            workers,
            application: Arc::clone(&application),
            limits: WorkerLimits::of(&board),
            seed: seed.wrapping_add(index as u64),
            suspects: notes.suspects(),
        },
        begin,
        base: reader.clone(),
        notes: notes.of(WorkerIndex(index)),
        replay,
        watchdog: Arc::clone(&watchdog),
    });
    let Some(first) = plans.next() else { unreachable!("a board has a worker at least") };
    for plan in plans {
        let index = plan.config.index;
        let build = move |now| plan.build(now);
        threads::spawn_worker(index, paths.clone(), Arc::clone(&clock), build).map_err(no_thread)?;
    }
    let worker = first.build(clock.now())?;
    threads::spawn_store(StoreOfNode(store), store_path.clone(), Arc::clone(&paths.main))
        .map_err(no_thread)?;
    Ok(Shell::new(config, clock, worker, node, paths, store_path))
}

fn open_store(
    board: &Board,
    data: &Path,
    lock_wait_max: std::time::Duration,
    replay: &mut dyn FnMut(&[u8], Option<&[u8]>),
) -> Result<(NodeStore, Recovered, LmdbReader), String> {
    create_directory(data).map_err(|error| format!("{}: {error}", data.display()))?;
    // The lock of the log guards the base too: it is taken first.
    let disk = FileDisk::open_waiting(&data.join("log"), lock_wait_max).map_err(|error| error.to_string())?;
    let map_bytes = usize::try_from(board.base_bytes).unwrap_or(usize::MAX);
    let (base, reader) = LmdbBase::open(&data.join("base"), map_bytes).map_err(|error| error.to_string())?;
    let limits = StoreLimits {
        segment_bytes: u32::try_from(board.segment_bytes).unwrap_or(u32::MAX),
        log_bytes_max: board.log_bytes_max,
        fold_keys: usize::try_from(board.fold_keys).unwrap_or(usize::MAX),
    };
    let opened = Store::open(Watched(disk), Watched(base), limits, entropy()?, replay);
    let (store, recovered) = opened.map_err(|error| format!("{}: {error}", data.display()))?;
    Ok((store, recovered, reader))
}

/// What a worker is built from, on its own thread.
struct WorkerPlan {
    config: WorkerConfig,
    begin: WorkerStart,
    base: LmdbReader,
    notes: WorkerNotes,
    /// Its part of the log ([`frame::encode_record`]).
    replay: Vec<u8>,
    watchdog: Arc<Watchdog>,
}

impl WorkerPlan {
    fn build(self, now: Instant) -> Result<WatchedWorker, String> {
        let index = self.config.index.0;
        let mut worker = Worker::new(self.config, self.base, self.notes);
        let mut failure = None;
        let read = frame::read_records(&self.replay, |key, value| {
            if let Err(error) = worker.replay(key, value) {
                failure.get_or_insert(error);
            }
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        let replayed = failure.map_or(Ok(()), Err);
        replayed.and_then(|()| worker.start(now, self.begin)).map_err(|error| error.to_string())?;
        Ok(WatchedWorker { worker, index, watchdog: self.watchdog })
    }
}

/// A worker whose invocations are watched.
struct WatchedWorker {
    worker: Worker<LmdbReader, WorkerNotes>,
    index: usize,
    watchdog: Arc<Watchdog>,
}

impl WorkerMachine for WatchedWorker {
    fn handle_input(&mut self, now: Instant, input: WorkerInput) {
        self.worker.handle_input(now, input);
    }
    fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.worker.poll_output()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.worker.poll_timeout()
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.worker.handle_timeout(now);
    }
    fn run(&mut self, now: Instant, invocations_max: usize) -> bool {
        let _busy = self.watchdog.busy(self.index);
        self.worker.run(now, invocations_max)
    }
}

impl NodeMachine for Node {
    fn handle_input(&mut self, now: Instant, input: NodeInput) {
        Self::handle_input(self, now, input);
    }
    fn poll_output(&mut self) -> Option<NodeOutput> {
        Self::poll_output(self)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }
    fn status(&self) -> NodeStatus {
        Self::status(self)
    }
}

struct StoreOfNode(NodeStore);

impl StoreMachine for StoreOfNode {
    fn handle(&mut self, command: StoreCommand) -> StoreEvent {
        self.0.handle(command)
    }
    fn accept_degraded(&mut self) -> std::io::Result<u64> {
        let lost = self.0.status().degraded.map_or(0, |lost| lost.last().0 - lost.first().0 + 1);
        self.0.accept_degraded().map(|()| lost)
    }
    fn summary(&self) -> StoreStatus {
        self.0.status()
    }
}

pub(super) fn lost(degraded: &Degraded) -> String {
    format!("lost epochs {} to {}", degraded.first(), degraded.last())
}

fn worker_start(recovered: &Recovered, is_served: bool) -> WorkerStart {
    let is_successor = !recovered.not_successor && recovered.degraded.is_none();
    WorkerStart {
        epoch: recovered.epoch,
        identity: recovered.identity,
        sessions: is_served.then_some(if is_successor { SessionStart::Resume } else { SessionStart::Clean }),
    }
}

fn node_config(board: &Board, recovered: &Recovered) -> NodeConfig {
    NodeConfig {
        workers: usize::from(board.workers),
        pause: embassy_time::Duration::from_millis(board.epoch_pause_ms),
        epoch_age: embassy_time::Duration::from_micros(board.epoch_age_us),
        epoch: recovered.epoch,
        view: recovered.view.max(1),
        time: recovered.time,
    }
}

fn about(recovered: &Recovered, board: &Board) -> serde_json::Map<String, serde_json::Value> {
    if let Some(degraded) = &recovered.degraded {
        log::error!("degraded: {}; repeats are possible; `fogfun doctor --accept` ends this", lost(degraded));
    }
    let value = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "board_workers": board.workers,
        "identity": format!("{:016x}", recovered.identity),
        "damaged_entries": recovered.damaged_entries,
        "failpoints": cfg!(any(debug_assertions, feature = "failpoints")),
    });
    value.as_object().cloned().unwrap_or_default()
}

fn entropy() -> Result<u64, String> {
    use std::io::Read;
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn no_thread(error: std::io::Error) -> String {
    format!("no thread: {error}")
}
