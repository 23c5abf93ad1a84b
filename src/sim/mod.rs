//! How do we know that the promises hold? The world as pure machines, so that a run repeats from its seed.

pub mod base;
pub mod broker;
pub mod client;
#[cfg(test)]
mod commands;
pub mod counting;
pub mod disk;
pub mod endpoint;
pub mod simulation;
pub mod watch;

#[cfg(test)]
mod tests;
