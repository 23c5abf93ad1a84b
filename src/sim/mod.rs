//! How do we know that the promises hold? The world as pure machines, so that a run repeats from its seed.

pub mod base;
pub mod broker;
pub mod disk;
