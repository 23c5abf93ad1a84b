//! Who may call one URL now? A window while it answers, and one probe at a time while it does not.
//!
//! ```text
//!           a call ends Down, nothing answered since it began
//!   Open ─────────────────────────────────────────────────────▶ Down ──┐ the probe ends Down: the wait doubles,
//!  (window) ◀──────────────────────────────────────────────── (1 probe)│ up to the maximum
//!                        any call ends Answered                  ▲─────┘
//! ```
//! - Never more than the window in flight, and while down never more than one that was begun while down.
//! - First come, first served; who waits is never overtaken and never lost.
//! - Calls that were in flight when the URL went down neither count again nor hold up the probe; an answer to one of them opens
//!   the gate.
//! - **Nothing waits unseen**: when someone waits, a call is in flight whose end lets him go, or [`poll_timeout`](Gate::poll_timeout)
//!   says when — as long as [`released`](Gate::released) is asked until `None` after each end and each timeout.
//!
//! A Down that the gate does not count — others were answered meanwhile — holds nobody back here: whoever made that call waits on
//! its own account before it asks again, or it would be asked without pause what fails without pause.
//!
//! It holds a place for each who waits, so at most one per address that has a message; it judges no outcome and makes no call.

use std::collections::VecDeque;

use embassy_time::{Duration, Instant};

/// The gate of one URL. `T` names who calls; nobody asks again before his call has ended or he was forgotten.
#[derive(Clone, Debug)]
pub struct Gate<T> {
    window: usize,
    backoff_first: Duration,
    backoff_max: Duration,
    mode: Mode,
    in_flight: usize,
    waiting: VecDeque<T>,
    answered: Option<Instant>,
}

/// How a call ended, as far as the URL is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Someone was there, whatever he said.
    Answered,
    /// Nobody was.
    Down,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Open,
    Down {
        failures: u32,
        until: Instant,
        /// When the probe in flight began. No other call in flight began then: the others began before the gate went down, and a
        /// probe begins later.
        probe: Option<Instant>,
    },
}

impl<T: Copy + PartialEq> Gate<T> {
    /// Open. At most `window` calls at a time; after the first Down a wait of about `backoff_first`, doubling up to about
    /// `backoff_max`, of which jitter takes away up to half.
    ///
    /// # Panics
    /// If the window is zero.
    #[must_use]
    pub fn new(window: usize, backoff_first: std::time::Duration, backoff_max: std::time::Duration) -> Self {
        assert!(0 < window, "nobody could ever call");
        let ticks = |wait: std::time::Duration| {
            Duration::from_micros(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).min(WAIT_MICROS_MAX))
        };
        Self {
            window,
            backoff_first: ticks(backoff_first).max(BACKOFF_MIN),
            backoff_max: ticks(backoff_max).max(BACKOFF_MIN),
            mode: Mode::Open,
            in_flight: 0,
            waiting: VecDeque::new(),
            answered: None,
        }
    }

    /// May `who` call? `true`: now, and the call counts as in flight. `false`: it waits, behind those who do.
    #[must_use]
    pub fn ask(&mut self, now: Instant, who: T) -> bool {
        if self.waiting.is_empty() && self.admits(now) {
            self.begin(now);
            return true;
        }
        self.waiting.push_back(who);
        false
    }

    /// A call ended that began at `began`: the `now` of the [`ask`](Self::ask) or [`released`](Self::released) that let it go.
    /// `jitter` is random bits. Those who may go now are told by [`released`](Self::released).
    pub fn ended(&mut self, now: Instant, result: Ended, began: Instant, jitter: u64) {
        assert!(0 < self.in_flight, "a call ended that never began");
        self.in_flight -= 1;
        match result {
            Ended::Answered => {
                self.answered = Some(now);
                self.mode = Mode::Open;
            }
            Ended::Down => self.on_down(now, began, jitter),
        }
    }

    /// The next of those that wait who may go now; its call counts as in flight. To be asked until `None`.
    #[must_use]
    pub fn released(&mut self, now: Instant) -> Option<T> {
        if self.waiting.is_empty() || !self.admits(now) {
            return None;
        }
        self.begin(now);
        self.waiting.pop_front()
    }

    /// `who` waits no longer. Was it waiting? Looks through all who wait.
    pub fn forget(&mut self, who: T) -> bool {
        let at = self.waiting.iter().position(|waiting| *waiting == who);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// When to ask [`released`](Self::released) though no call has ended.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.mode {
            Mode::Down { until, probe: None, .. } if !self.waiting.is_empty() => Some(until),
            Mode::Down { .. } | Mode::Open => None,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// If the URL is down: how many calls in a row found it so, and from when on a probe may go.
    #[must_use]
    pub fn is_down(&self) -> Option<(u32, Instant)> {
        match self.mode {
            Mode::Down { failures, until, .. } => Some((failures, until)),
            Mode::Open => None,
        }
    }

    fn admits(&self, now: Instant) -> bool {
        let may_begin = match self.mode {
            Mode::Open => true,
            Mode::Down { until, probe, .. } => probe.is_none() && until <= now,
        };
        may_begin && self.in_flight < self.window
    }

    fn begin(&mut self, now: Instant) {
        if let Mode::Down { probe, .. } = &mut self.mode {
            *probe = Some(now);
        }
        self.in_flight += 1;
        assert!(self.in_flight <= self.window, "more calls than the window holds");
    }

    fn on_down(&mut self, now: Instant, began: Instant, jitter: u64) {
        let failures = match self.mode {
            Mode::Open if self.answered.is_some_and(|answered| began < answered) => return,
            Mode::Open => 1,
            Mode::Down { failures, probe, .. } if probe == Some(began) => failures.saturating_add(1),
            // It was in flight before, and is of the same failure.
            Mode::Down { .. } => return,
        };
        let until = now + self.wait(failures, jitter);
        self.mode = Mode::Down { failures, until, probe: None };
    }

    fn wait(&self, failures: u32, jitter: u64) -> Duration {
        let doubled = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
        let micros = self.backoff_first.as_micros().saturating_mul(doubled).min(self.backoff_max.as_micros());
        let sure = micros.div_ceil(2);
        Duration::from_micros(sure + jitter % (micros - sure + 1))
    }
}

/// Shortest wait (chosen: a probe is later than what went down before it).
const BACKOFF_MIN: Duration = Duration::from_millis(1);
/// Longest wait in microseconds (a year), so that no instant overflows.
const WAIT_MICROS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn gate(window: usize) -> Gate<u32> {
        Gate::new(window, std::time::Duration::from_millis(100), std::time::Duration::from_millis(1_000))
    }

    #[test]
    fn the_window_is_kept_and_the_first_come_goes_first() {
        let mut gate = gate(2);
        assert!(gate.ask(at(0), 1) && gate.ask(at(0), 2));
        assert!(!gate.ask(at(0), 3) && !gate.ask(at(0), 4) && !gate.ask(at(0), 5));
        assert!(gate.forget(4) && !gate.forget(4));
        assert_eq!((gate.in_flight(), gate.waiting(), gate.poll_timeout()), (2, 2, None));
        gate.ended(at(1), Ended::Answered, at(0), 0);
        assert_eq!((gate.released(at(1)), gate.released(at(1))), (Some(3), None));
        gate.ended(at(2), Ended::Answered, at(0), 0);
        assert!(!gate.ask(at(2), 6), "5 has waited longer");
        assert_eq!((gate.released(at(2)), gate.released(at(2))), (Some(5), None));
    }

    #[test]
    fn while_down_one_probe_at_a_time_goes_later_and_later() {
        let mut gate = gate(4);
        assert!(gate.ask(at(0), 0));
        gate.ended(at(10), Ended::Down, at(0), 0);
        for who in 1..=3 {
            assert!(!gate.ask(at(10), who));
        }
        let mut now = at(10);
        for (failures, wait) in [(1, 50), (2, 100), (3, 200), (4, 400), (5, 500), (6, 500)] {
            let until = now + Duration::from_millis(wait);
            assert_eq!(gate.is_down(), Some((failures, until)));
            assert_eq!(gate.poll_timeout(), Some(until));
            assert_eq!(gate.released(until - Duration::from_micros(1)), None);
            let who = gate.released(until).unwrap();
            assert_eq!((gate.released(until), gate.poll_timeout()), (None, None), "one probe");
            now = until;
            gate.ended(now, Ended::Down, until, 0);
            assert!(!gate.ask(now, who));
        }
        let (_, until) = gate.is_down().unwrap();
        assert_eq!(gate.released(until), Some(1));
        gate.ended(until, Ended::Answered, until, 0);
        assert_eq!(gate.is_down(), None);
        assert_eq!(
            (gate.released(until), gate.released(until), gate.released(until)),
            (Some(2), Some(3), None)
        );
    }

    #[test]
    fn a_down_counts_only_if_nothing_answered_since_it_began() {
        let mut gate = gate(3);
        assert!(gate.ask(at(0), 1) && gate.ask(at(5), 2) && gate.ask(at(20), 3));
        gate.ended(at(10), Ended::Answered, at(5), 0);
        gate.ended(at(30), Ended::Down, at(0), 0);
        assert_eq!(gate.is_down(), None, "at 10 it lived");
        gate.ended(at(31), Ended::Down, at(20), 0);
        assert_eq!(gate.is_down(), Some((1, at(81))));
    }

    #[test]
    fn a_call_that_begins_as_another_is_answered_counts() {
        let mut gate = gate(1);
        assert!(gate.ask(at(0), 1) && !gate.ask(at(0), 2));
        gate.ended(at(10), Ended::Answered, at(0), 0);
        assert_eq!(gate.released(at(10)), Some(2));
        gate.ended(at(20), Ended::Down, at(10), 0);
        assert!(gate.is_down().is_some());
    }

    #[test]
    fn calls_of_the_same_failure_count_once_and_hold_up_no_probe() {
        let mut gate = gate(3);
        assert!(gate.ask(at(0), 1) && gate.ask(at(0), 2) && gate.ask(at(0), 3) && !gate.ask(at(0), 4));
        gate.ended(at(1), Ended::Down, at(0), 0);
        gate.ended(at(2), Ended::Down, at(0), 0);
        assert_eq!(gate.is_down(), Some((1, at(51))));
        assert_eq!(gate.released(at(51)), Some(4), "though 3 is still in flight");
        gate.ended(at(60), Ended::Down, at(0), 0);
        assert_eq!(gate.is_down(), Some((1, at(51))));
        gate.ended(at(61), Ended::Down, at(51), 0);
        assert_eq!(gate.is_down(), Some((2, at(161))));
    }

    #[test]
    fn a_late_answer_opens() {
        let mut gate = gate(2);
        assert!(gate.ask(at(0), 1) && gate.ask(at(0), 2) && !gate.ask(at(0), 3));
        gate.ended(at(1), Ended::Down, at(0), 0);
        gate.ended(at(2), Ended::Answered, at(0), 0);
        assert_eq!((gate.is_down(), gate.released(at(2))), (None, Some(3)));
    }

    #[test]
    fn jitter_takes_half_at_most_and_no_wait_overflows() {
        let gate: Gate<u32> = Gate::new(1, std::time::Duration::MAX, std::time::Duration::MAX);
        for failures in [1, 2, 64, 65, u32::MAX] {
            for jitter in [0, 1, u64::MAX] {
                let wait = gate.wait(failures, jitter).as_micros();
                assert!((WAIT_MICROS_MAX / 2..=WAIT_MICROS_MAX).contains(&wait));
            }
        }
        let gate: Gate<u32> = Gate::new(1, std::time::Duration::ZERO, std::time::Duration::ZERO);
        assert!(Duration::from_micros(500) <= gate.wait(1, 0));
    }

    /// The gate beside a plain account of who is where.
    struct Model {
        gate: Gate<u32>,
        window: usize,
        now: u64,
        asked: u32,
        /// Who is in flight, since when, begun while down?
        in_flight: Vec<(u32, Instant, bool)>,
        waiting: VecDeque<u32>,
    }

    impl Model {
        fn new(window: usize) -> Self {
            Self {
                gate: gate(window),
                window,
                now: 0,
                asked: 0,
                in_flight: Vec::new(),
                waiting: VecDeque::new(),
            }
        }

        fn begin(&mut self, who: u32, was_down: bool) {
            self.in_flight.push((who, at(self.now), was_down));
        }

        fn step(&mut self, action: u8, pick: usize, jitter: u64) {
            let now = at(self.now);
            let was_down = self.gate.is_down().is_some();
            match action {
                0 => {
                    self.asked += 1;
                    let who = self.asked;
                    if self.gate.ask(now, who) {
                        assert!(self.waiting.is_empty(), "{who} overtook {:?}", self.waiting);
                        self.begin(who, was_down);
                    } else {
                        self.waiting.push_back(who);
                    }
                }
                1 | 2 if !self.in_flight.is_empty() => {
                    let (_, began, _) = self.in_flight.remove(pick % self.in_flight.len());
                    let result = if action == 1 { Ended::Answered } else { Ended::Down };
                    self.gate.ended(now, result, began, jitter);
                    if action == 1 {
                        // Whatever is in flight is no probe any more.
                        self.in_flight.iter_mut().for_each(|(_, _, is_probe)| *is_probe = false);
                    }
                }
                3 if !self.waiting.is_empty() => {
                    let who = self.waiting.remove(pick % self.waiting.len()).unwrap();
                    assert!(self.gate.forget(who));
                }
                4 => self.now += 30,
                5 => {
                    if let Some(due) = self.gate.poll_timeout() {
                        self.now = self.now.max(due.as_millis() + 1);
                    }
                }
                _ => {}
            }
            self.drain();
            self.check();
        }

        fn drain(&mut self) {
            let was_down = self.gate.is_down().is_some();
            while let Some(who) = self.gate.released(at(self.now)) {
                assert_eq!(self.waiting.pop_front(), Some(who), "first come, first served");
                self.begin(who, was_down);
            }
        }

        fn check(&self) {
            assert_eq!(self.gate.in_flight(), self.in_flight.len());
            assert_eq!(self.gate.waiting(), self.waiting.len());
            assert!(self.in_flight.len() <= self.window, "the window");
            let probes = self.in_flight.iter().filter(|(_, _, is_probe)| *is_probe).count();
            assert!(probes <= 1, "one probe");
            if !self.waiting.is_empty() {
                let is_seen = !self.in_flight.is_empty() || self.gate.poll_timeout().is_some();
                assert!(is_seen, "someone waits unseen");
                if self.gate.is_down().is_none() {
                    assert_eq!(self.in_flight.len(), self.window, "someone waits for nothing");
                }
            }
        }

        /// All calls are answered from now on: everyone gets his turn.
        fn settle(&mut self) {
            for _ in 0..10 * (self.asked + 1) {
                self.step(5, 0, 0);
                self.step(1, 0, 0);
            }
            assert!(self.waiting.is_empty() && self.in_flight.is_empty(), "somebody never got his turn");
        }
    }

    #[test]
    fn all_short_histories_keep_the_promises() {
        const STEPS: u32 = 7;
        for window in 1..=2 {
            for code in 0..6_u32.pow(STEPS) {
                let mut model = Model::new(window);
                let mut rest = code;
                for _ in 0..STEPS {
                    model.step(u8::try_from(rest % 6).unwrap(), 0, 0);
                    rest /= 6;
                }
                model.settle();
            }
        }
    }

    proptest! {
        #[test]
        fn long_histories_keep_the_promises(
            window in 1_usize..5,
            steps in proptest::collection::vec((0_u8..6, any::<usize>(), any::<u64>()), 0..200),
        ) {
            let mut model = Model::new(window);
            for (action, pick, jitter) in steps {
                model.step(action, pick, jitter);
            }
            model.settle();
        }
    }
}
