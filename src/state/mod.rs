//! How does what outlives an epoch lie in the store? As keys and values, the same in frames, log, base and savepoints.

pub mod key;
pub mod value;
