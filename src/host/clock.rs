//! What time is it? Runtime time: microseconds that never go back, from one start to the next either.
//!
//! Runtime time is a persisted floor plus what CLOCK_BOOTTIME (which counts suspend) says since this start. The wall clock is
//! looked at once a start, when the kernel says that it is synchronised: a board without a clock battery starts in 1970.
//! [`embassy_time::Instant::now`] and its timers run on the same clock, through the driver at the end of this file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use embassy_time::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::epoch::TimeStamp;

/// How often the kernel is asked whether its clock is synchronised, until it once says yes. Longer delays the proof, shorter
/// wakes an idle board.
pub const CLOCK_PROOF_INTERVAL: Duration = Duration::from_secs(30);

/// Runtime time. Shared by all threads of a node.
#[derive(Debug)]
pub struct Clock {
    /// CLOCK_BOOTTIME at the start, in microseconds.
    boot_at_start: u64,
    /// Runtime time at the start, in microseconds; only grows.
    floor: AtomicU64,
}

impl Clock {
    /// A clock that continues from the latest stamp of the store.
    #[must_use]
    pub fn start(stamp: TimeStamp) -> Self {
        Self { boot_at_start: boot_micros(), floor: AtomicU64::new(stamp.runtime_ms.saturating_mul(1000)) }
    }

    /// Makes [`embassy_time::Instant::now`] answer with this clock; the first installed one stays.
    pub fn install(clock: std::sync::Arc<Self>) {
        let _already_installed = DRIVER.clock.set(clock);
    }

    /// Runtime time.
    #[must_use]
    pub fn now(&self) -> Instant {
        let since_start = boot_micros().saturating_sub(self.boot_at_start);
        Instant::from_micros(self.floor.load(Ordering::Relaxed).saturating_add(since_start))
    }

    /// Goes on from `runtime`, if that is ahead: never back.
    pub fn advance_to(&self, runtime: Instant) {
        let ahead = runtime.as_micros().saturating_sub(self.now().as_micros());
        self.floor.fetch_add(ahead, Ordering::Relaxed);
    }
}

/// The wall time (Unix, milliseconds), if the kernel says that its clock is synchronised.
#[must_use]
pub fn proven_wall_ms() -> Option<u64> {
    kernel_clock_is_synchronised().then(|| micros(clock_gettime(ClockId::Realtime)) / 1000)
}

/// CLOCK_MONOTONIC in microseconds: for the watchdog, who must not see a suspend as a long invocation.
#[must_use]
pub fn monotonic_micros() -> u64 {
    micros(clock_gettime(ClockId::Monotonic))
}

#[expect(unsafe_code, reason = "rustix has no adjtimex")]
fn kernel_clock_is_synchronised() -> bool {
    // SAFETY: `timex` is plain numbers, for which all zeros is a value; zero `modes` makes adjtimex only read.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    0 <= state && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

fn boot_micros() -> u64 {
    micros(clock_gettime(ClockId::Boottime))
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// The clock behind `embassy_time`: its timers are folded into the wait of thread 0, so they cost no thread.
#[derive(Debug)]
pub(crate) struct ClockDriver {
    clock: OnceLock<std::sync::Arc<Clock>>,
    timers: Mutex<Timers>,
}

/// Timers set through `embassy_time`, and whom to tell when an earlier one is set.
#[derive(Debug)]
struct Timers {
    /// When, in microseconds, and whom to wake; few, so unordered.
    wakers: Vec<(u64, Waker)>,
    /// Thread 0, waiting.
    waiting: Option<Waker>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: ClockDriver = ClockDriver {
    clock: OnceLock::new(),
    timers: Mutex::new(Timers { wakers: Vec::new(), waiting: None }),
});

impl embassy_time_driver::Driver for ClockDriver {
    fn now(&self) -> u64 {
        self.clock.get().map_or_else(boot_micros, |clock| clock.now().as_micros())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        match timers.wakers.iter_mut().find(|(_, known)| known.will_wake(waker)) {
            Some(timer) => timer.0 = timer.0.min(at),
            None => timers.wakers.push((at, waker.clone())),
        }
        if let Some(waiting) = timers.waiting.take() {
            waiting.wake();
        }
    }
}

/// Wakes the timers that are due, notes who wants to hear of new ones, and says when the next is due.
pub(crate) fn turn_timers(waiting: &Waker) -> Option<Instant> {
    let now = embassy_time_driver::Driver::now(&DRIVER);
    let mut timers = DRIVER.timers.lock().unwrap_or_else(PoisonError::into_inner);
    timers.waiting = Some(waiting.clone());
    timers.wakers.retain(|(at, waker)| {
        if *at <= now {
            waker.wake_by_ref();
        }
        now < *at
    });
    timers.wakers.iter().map(|(at, _)| Instant::from_micros(*at)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_continues_from_the_floor() {
        let clock = Clock::start(TimeStamp { runtime_ms: 5_000, proven: None });
        let (first, second) = (clock.now(), clock.now());
        assert!(Instant::from_millis(5_000) <= first && first <= second);
        assert!(second < Instant::from_millis(65_000), "only what went by since the start is added");
    }

    #[test]
    fn time_advances_and_never_goes_back() {
        let clock = Clock::start(TimeStamp { runtime_ms: 10_000, proven: None });
        clock.advance_to(Instant::from_millis(1_000));
        assert!(clock.now() < Instant::from_millis(70_000));
        clock.advance_to(Instant::from_millis(3_610_000));
        let after = clock.now();
        assert!(Instant::from_millis(3_610_000) <= after && after < Instant::from_millis(3_670_000));
        clock.advance_to(Instant::from_millis(10_000));
        assert!(after <= clock.now());
    }
}
