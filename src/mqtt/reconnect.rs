//! When to try again? Decorrelated jitter: each pause is drawn between the base and three times the last one, up to a cap.

use embassy_time::Duration;

/// The pauses between attempts, from a seed.
#[derive(Debug)]
pub(super) struct Backoff {
    state: u64,
    last: Duration,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, last: PAUSE_MIN }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let low = PAUSE_MIN.as_micros();
        let high = (self.last.as_micros() * 3).max(low + 1);
        self.last = Duration::from_micros(low + self.random() % (high - low)).min(PAUSE_MAX);
        self.last
    }

    /// The connection was of use: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.last = PAUSE_MIN;
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Shortest pause (chosen: a broker's restart takes longer).
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause (chosen: what an operator waits without a thought).
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_repeat_from_a_seed() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..50).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
        assert!(pauses(1).iter().all(|pause| (PAUSE_MIN..=PAUSE_MAX).contains(pause)));
        assert!(pauses(1)[20..].iter().any(|pause| PAUSE_MAX / 4 < *pause));
    }
}
