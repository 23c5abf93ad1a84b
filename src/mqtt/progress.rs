//! How far are the handshakes? The first unfinished number and, for each later one, open, released or done.
//!
//! Written by session records only, never by frames: it says what the broker knows, which no rollback changes. It only grows.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};

/// How far one handshake is. Ordered: it only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mark {
    /// Out: the broker may not have it. In: PUBREL has not come.
    Open = 0,
    /// Out: PUBREC has come. In: PUBREL has come, the guard lasts.
    Released = 1,
    /// Nothing is owed any more.
    Done = 2,
}

/// The progress of one session, incarnation and direction.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Progress {
    first: u64,
    marks: VecDeque<Mark>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ProgressStored {
    #[n(0)]
    first: u64,
    /// Runs of equal marks from `first` on, each `count * 4 + mark`.
    #[n(1)]
    runs: Vec<u64>,
}

impl Progress {
    /// The first number that is not done.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// One more than the last number that anything is known of.
    pub(super) fn end(&self) -> u64 {
        self.first + self.marks.len() as u64
    }

    /// How far `number` is.
    pub(super) fn mark(&self, number: u64) -> Mark {
        match number.checked_sub(self.first).map(usize::try_from) {
            None => Mark::Done,
            Some(Ok(place)) => self.marks.get(place).copied().unwrap_or(Mark::Open),
            Some(Err(_)) => Mark::Open,
        }
    }

    /// Moves `number` on to `mark`; going back is our mistake.
    pub(super) fn advance(&mut self, number: u64, mark: Mark) {
        assert!(self.mark(number) <= mark, "progress goes back at {number}");
        let Some(Ok(place)) = number.checked_sub(self.first).map(usize::try_from) else {
            return;
        };
        if self.marks.len() <= place {
            self.marks.resize(place + 1, Mark::Open);
        }
        self.marks[place] = mark;
        while self.marks.front() == Some(&Mark::Done) {
            self.marks.pop_front();
            self.first += 1;
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut runs: Vec<u64> = Vec::new();
        for mark in &self.marks {
            match runs.last_mut() {
                Some(run) if *run & 3 == *mark as u64 => *run += 4,
                _ => runs.push(4 + *mark as u64),
            }
        }
        let mut out = Vec::with_capacity(16);
        super::values::encode(&ProgressStored { first: self.first, runs }, &mut out);
        out
    }

    /// `None` if the bytes are no progress.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: ProgressStored = minicbor::decode(bytes).ok()?;
        let mut marks = VecDeque::new();
        for run in stored.runs {
            let mark = match run & 3 {
                0 => Mark::Open,
                1 => Mark::Released,
                2 => Mark::Done,
                _ => return None,
            };
            let count = usize::try_from(run >> 2).ok()?;
            if MARKS_MAX < marks.len() + count {
                return None;
            }
            marks.resize(marks.len() + count, mark);
        }
        Some(Self { first: stored.first, marks })
    }
}

/// Packet ids are 16 bits, so no more handshakes are under way; a longer list is damage.
const MARKS_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_closes_up_behind_the_first_unfinished() {
        let mut progress = Progress::default();
        progress.advance(1, Mark::Released);
        progress.advance(2, Mark::Done);
        assert_eq!((progress.first(), progress.end()), (0, 3));
        progress.advance(0, Mark::Done);
        assert_eq!((progress.first(), progress.mark(1)), (1, Mark::Released));
        progress.advance(1, Mark::Done);
        assert_eq!((progress.first(), progress.end()), (3, 3));
        assert_eq!((progress.mark(2), progress.mark(3)), (Mark::Done, Mark::Open));
    }

    #[test]
    fn progress_has_these_bytes() {
        let mut progress = Progress::default();
        for number in 0..300 {
            progress.advance(number, Mark::Done);
        }
        progress.advance(301, Mark::Released);
        progress.advance(302, Mark::Released);
        let bytes = progress.encode();
        assert_eq!(bytes, [0xA2, 0, 0x19, 1, 44, 1, 0x82, 4, 9]);
        assert_eq!(Progress::decode(&bytes), Some(progress));
        assert_eq!(Progress::decode(&[0xA2, 0]), None);
    }
}
