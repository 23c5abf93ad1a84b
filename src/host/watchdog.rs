//! Who ends an endless loop? A thread that sees one invocation outlast its bound and ends the process.
//!
//! It looks four times per bound, on CLOCK_MONOTONIC, and sleeps while no worker runs anything: an idle board is not woken. Time in
//! which it could not look itself, because the process was stopped or the board was starved, is nobody's fault and not counted.
//!
//! A service manager that watches the process (`WATCHDOG_USEC`) hears from the same thread, three times per interval, and only if
//! every worker has turned since the last time: that is for what hangs outside an invocation. An idle worker is woken for it. One
//! that is in an invocation is busy, not stuck: the bound on invocations judges it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::clock::monotonic_micros;
use super::notes::NotesFile;
use super::notify::Supervisor;

/// How often per interval the service manager is told that all is well: it may miss one or two.
pub const FEEDS_PER_INTERVAL: u32 = 3;

/// Lets workers wake a sleeping watchdog.
///
/// Both sides first say what they are about to do and then look at the other, in one total order: so either the watchdog sees that
/// somebody is busy, or that worker sees that it sleeps.
#[derive(Debug)]
pub struct Watchdog {
    /// Workers that invoke.
    busy: AtomicUsize,
    /// Turns of each worker.
    turns: Vec<AtomicU64>,
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Watchdog {
    /// Starts the thread. `rouse` makes every worker turn once, even if there is nothing to do.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(
        notes: Arc<NotesFile>,
        workers: usize,
        invocation_max: Duration,
        supervisor: Supervisor,
        rouse: impl Fn() + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let watchdog = Arc::new(Self::of(workers));
        let own = Arc::clone(&watchdog);
        let feeder = Feeder::new(supervisor, workers);
        let body = move || own.watch(&notes, invocation_max, feeder, &rouse);
        std::thread::Builder::new().name("watchdog".into()).spawn(body)?;
        Ok(watchdog)
    }

    fn of(workers: usize) -> Self {
        Self {
            busy: AtomicUsize::new(0),
            turns: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            asleep: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// A worker turns, and is about to invoke, until the guard is dropped.
    pub fn busy(&self, worker: usize) -> Busy<'_> {
        if let Some(turns) = self.turns.get(worker) {
            turns.fetch_add(1, Ordering::Relaxed);
        }
        self.busy.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.asleep.store(false, Ordering::SeqCst);
            self.wake.notify_one();
        }
        Busy(self)
    }

    fn watch(
        &self,
        notes: &NotesFile,
        invocation_max: Duration,
        mut feeder: Option<Feeder>,
        rouse: &dyn Fn(),
    ) {
        let mut since: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let bound = u64::try_from(invocation_max.as_micros()).unwrap_or(u64::MAX);
        let mut watched = Watched { passed: 0, looked: monotonic_micros(), gap_max: bound / 2 };
        loop {
            let now = watched.look(monotonic_micros());
            for worker in 0..self.turns.len() {
                let Some((sequence, address)) = notes.running(worker) else {
                    since.remove(&worker);
                    continue;
                };
                let seen = since.entry(worker).or_insert((sequence, now));
                if seen.0 != sequence {
                    *seen = (sequence, now);
                }
                if bound <= now - seen.1 {
                    log::error!(
                        "worker {worker}: an invocation of the address with hash {address:016x} took longer than {invocation_max:?}: \
                         ending the process"
                    );
                    std::process::abort();
                }
            }
            let next = feeder.as_mut().map(|feeder| {
                let feed = |worker: usize| Mark {
                    turns: self.turns.get(worker).map_or(0, |turns| turns.load(Ordering::Relaxed)),
                    is_invoking: notes.running(worker).is_some(),
                };
                feeder.turn(monotonic_micros(), feed, rouse)
            });
            if since.is_empty() {
                self.sleep_while_idle(next);
            }
            let look = invocation_max / 4;
            std::thread::sleep(next.map_or(look, |next| look.min(next)));
        }
    }

    fn sleep_while_idle(&self, wait_max: Option<Duration>) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst) && self.busy.load(Ordering::SeqCst) == 0 {
            guard = match wait_max {
                None => self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(wait_max) => {
                    let waited = self.wake.wait_timeout(guard, wait_max);
                    let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() {
                        self.asleep.store(false, Ordering::SeqCst);
                    }
                    guard
                }
            };
        }
        self.asleep.store(false, Ordering::SeqCst);
        drop(guard);
    }
}

/// Time in which somebody watched, in microseconds.
struct Watched {
    passed: u64,
    looked: u64,
    /// What counts between two looks at most: twice what lies between them on a board that is at ease.
    gap_max: u64,
}

impl Watched {
    /// Looks at `now`; says how much time was watched so far.
    fn look(&mut self, now: u64) -> u64 {
        self.passed += now.saturating_sub(self.looked).min(self.gap_max);
        self.looked = now;
        self.passed
    }
}

/// A worker invokes.
#[derive(Debug)]
pub struct Busy<'a>(&'a Watchdog);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is seen of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    turns: u64,
    is_invoking: bool,
}

/// Tells the service manager that every worker turns.
#[derive(Debug)]
struct Feeder {
    supervisor: Supervisor,
    interval: Duration,
    due: u64,
    /// The turns that each worker had made when it was last looked at.
    seen: Vec<u64>,
}

impl Feeder {
    fn new(supervisor: Supervisor, workers: usize) -> Option<Self> {
        let interval = supervisor.watchdog()? / FEEDS_PER_INTERVAL;
        Some(Self { supervisor, interval, due: 0, seen: vec![0; workers] })
    }

    /// Feeds if it is time and all is well; how long until it is time again.
    fn turn(&mut self, now: u64, mark: impl Fn(usize) -> Mark, rouse: &dyn Fn()) -> Duration {
        if now < self.due {
            return Duration::from_micros(self.due - now);
        }
        self.due = now.saturating_add(u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX));
        if self.is_every_worker_alive(mark) {
            self.supervisor.alive();
        }
        rouse();
        self.interval
    }

    fn is_every_worker_alive(&mut self, mark: impl Fn(usize) -> Mark) -> bool {
        let mut all = true;
        for (worker, seen) in self.seen.iter_mut().enumerate() {
            let Mark { turns, is_invoking } = mark(worker);
            // Before its first turn a worker is still starting: the service manager's bound on starts judges that.
            let is_alive = turns == 0 || is_invoking || turns != *seen;
            if !is_alive {
                log::error!(
                    "worker {worker} stands still: the service manager is not told that the node lives"
                );
            }
            all &= is_alive;
            *seen = turns;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::notify::{heard, listen_in};
    use super::*;

    fn mark(turns: u64) -> Mark {
        Mark { turns, is_invoking: false }
    }

    #[test]
    fn a_worker_that_does_not_turn_starves_the_service_manager() {
        let supervisor = Supervisor::default().with_watchdog(Duration::from_secs(30));
        let mut feeder = Feeder::new(supervisor, 2).unwrap();
        assert!(feeder.is_every_worker_alive(|_| mark(0)), "both start");
        assert!(feeder.is_every_worker_alive(|worker| mark(7 + worker as u64)));
        assert!(!feeder.is_every_worker_alive(|_| mark(8)), "worker 1 stands still");
        assert!(feeder.is_every_worker_alive(|_| mark(9)));
        let invoking = |worker| Mark { turns: 9, is_invoking: worker == 1 };
        assert!(!feeder.is_every_worker_alive(invoking), "worker 0 is in no invocation");
        let both = |_| Mark { turns: 9, is_invoking: true };
        assert!(feeder.is_every_worker_alive(both), "a long invocation is for another to judge");
        assert!(!feeder.is_every_worker_alive(|_| mark(9)));
    }

    #[test]
    fn it_is_fed_three_times_an_interval_and_idle_workers_are_roused() {
        let directory = tempfile::tempdir().unwrap();
        let notes = NotesFile::open(directory.path()).unwrap();
        let (socket, supervisor) = listen_in(directory.path());
        let supervisor = supervisor.with_watchdog(Duration::from_millis(60));
        let roused = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&roused);
        let rouse = move || {
            own.fetch_add(1, Ordering::Relaxed);
        };
        let bound = Duration::from_secs(600);
        let watchdog = Watchdog::start(notes, 1, bound, supervisor, rouse).unwrap();
        drop(watchdog.busy(0));
        for _ in 0..3 {
            assert_eq!(heard(&socket), "WATCHDOG=1");
            drop(watchdog.busy(0));
        }
        assert!(2 <= roused.load(Ordering::Relaxed));
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 64]).is_ok() {}
        std::thread::sleep(Duration::from_millis(100));
        while socket.recv(&mut [0; 64]).is_ok() {}
        std::thread::sleep(Duration::from_millis(200));
        assert!(socket.recv(&mut [0; 64]).is_err(), "it stands still: nobody says that it lives");
    }

    #[test]
    fn a_process_that_was_stopped_has_not_worked_meanwhile() {
        let mut watched = Watched { passed: 0, looked: 1_000_000, gap_max: 500 };
        assert_eq!(watched.look(1_000_250), 250);
        assert_eq!(watched.look(9_000_000), 750, "stopped");
        assert_eq!(watched.look(9_000_250), 1_000, "an endless loop is found all the same");
    }
}
