//! How do we know that the promises hold? A node's disk and base in memory, with faults from a seed.

pub mod base;
pub mod disk;
