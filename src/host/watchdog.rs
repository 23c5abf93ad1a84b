//! Who ends an endless loop? A thread that sees one invocation outlast its bound and ends the process.
//!
//! It looks four times per bound, on CLOCK_MONOTONIC, and sleeps while no worker runs anything: an idle board is not woken. Time in
//! which it could not look itself, because the process was stopped or the board was starved, is nobody's fault and not counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::clock::monotonic_micros;
use super::notes::NotesFile;

/// Lets workers wake a sleeping watchdog.
///
/// Both sides first say what they are about to do and then look at the other, in one total order: so either the watchdog sees that
/// somebody is busy, or that worker sees that it sleeps.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// Workers that invoke.
    busy: AtomicUsize,
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(
        notes: Arc<NotesFile>,
        workers: usize,
        invocation_max: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let watchdog = Arc::new(Self::default());
        let own = Arc::clone(&watchdog);
        let body = move || own.watch(&notes, workers, invocation_max);
        std::thread::Builder::new().name("watchdog".into()).spawn(body)?;
        Ok(watchdog)
    }

    /// A worker is about to invoke, until the guard is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.asleep.store(false, Ordering::SeqCst);
            self.wake.notify_one();
        }
        Busy(self)
    }

    fn watch(&self, notes: &NotesFile, workers: usize, invocation_max: Duration) {
        let mut since: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let bound = u64::try_from(invocation_max.as_micros()).unwrap_or(u64::MAX);
        let mut watched = Watched { passed: 0, looked: monotonic_micros(), gap_max: bound / 2 };
        loop {
            let now = watched.look(monotonic_micros());
            for worker in 0..workers {
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
            if since.is_empty() {
                self.sleep_while_idle();
            }
            std::thread::sleep(invocation_max / 4);
        }
    }

    fn sleep_while_idle(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst) && self.busy.load(Ordering::SeqCst) == 0 {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_stopped_has_not_worked_meanwhile() {
        let mut watched = Watched { passed: 0, looked: 1_000_000, gap_max: 500 };
        assert_eq!(watched.look(1_000_250), 250);
        assert_eq!(watched.look(9_000_000), 750, "stopped");
        assert_eq!(watched.look(9_000_250), 1_000, "an endless loop is found all the same");
    }
}
