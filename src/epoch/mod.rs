//! How does work become durable? In epochs: what happened between two cuts, frozen as one frame.

pub mod frame;

use std::fmt;

/// The number of an epoch: 1, 2, 3 …; 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time that a frame stamps: a start continues from the latest one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeStamp {
    /// Runtime time in milliseconds: never goes back, from one start to the next either.
    pub runtime_ms: u64,
    /// The last pair of runtime time and wall clock (Unix, both in milliseconds) read while the kernel said that its clock was
    /// synchronised.
    pub proven: Option<(u64, u64)>,
}
