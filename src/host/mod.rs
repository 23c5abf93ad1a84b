//! What does the operating system do for the machines? The shell: the only code that reads a clock, a socket, a file, a signal.
//!
//! ```text
//!   sockets ─┐                        ┌─ worker 0 ─┐
//!   signals ─┤   one closed `Event`   │            ├─ outputs ─ sockets, store thread, other workers
//!   admin  ──┼──── one inbox ─────────┤    node  ──┘
//!   store  ──┤                        └─ (thread 0, the only reactor)
//!   workers ─┘
//! ```
//! Threads: thread 0 (worker 0, node, all I/O), one for every further worker, one for the store, one watchdog.
//!
//! Invariants:
//! - The shell decides nothing about the protocol: it moves events in and outputs out.
//! - Thread 0 never waits for another thread; every other thread may wait for thread 0. So nothing deadlocks.
//! - Between threads there are inboxes of batches only, never a lock on the path of a message.

pub mod admin;
pub mod base;
mod clients;
pub mod clock;
pub mod examine;
pub mod failpoint;
pub mod files;
pub mod http;
pub mod inbox;
pub mod logger;
pub mod machine;
pub mod metrics;
pub mod network;
pub mod notes;
pub mod notify;
pub mod operations;
pub mod sensors;
pub mod serve;
pub mod shell;
mod signals;
pub mod start;
pub mod threads;
pub mod tls;
pub mod watchdog;

#[cfg(test)]
mod tests;
