//! What stands in for the world? Parts of it that are pure machines, so that a run repeats from its seed.

pub mod broker;
