//! What does the shell need of a machine? The one contract that all of them have, as traits, so that the shell is tested round
//! small machines of its own.

use embassy_time::Instant;

use crate::admin::NodeStatus;
use crate::node::{NodeInput, NodeOutput};
use crate::store::{StoreCommand, StoreEvent, StoreStatus};
use crate::worker::io::{WorkerInput, WorkerOutput};

/// The data plane of one thread.
pub trait WorkerMachine {
    /// Takes an input; then outputs are drained.
    fn handle_input(&mut self, now: Instant, input: WorkerInput);
    /// The next output, until `None`.
    fn poll_output(&mut self) -> Option<WorkerOutput>;
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);
    /// Invokes what is runnable, up to so many; is more runnable?
    fn run(&mut self, now: Instant, invocations_max: usize) -> bool;
}

/// The control plane of a board.
pub trait NodeMachine {
    /// Takes an input; then outputs are drained.
    fn handle_input(&mut self, now: Instant, input: NodeInput);
    /// The next output, until `None`.
    fn poll_output(&mut self) -> Option<NodeOutput>;
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);
    /// How it is.
    fn status(&self) -> NodeStatus;
}

/// What the store's thread calls.
pub trait StoreMachine {
    /// Does a command and answers it.
    fn handle(&mut self, command: StoreCommand) -> StoreEvent;
    /// A person has seen what was lost: the store is no longer degraded. Says how many epochs were lost; 0 if it was not degraded.
    ///
    /// # Errors
    /// What the disk says; nothing was changed.
    fn accept_degraded(&mut self) -> std::io::Result<u64>;
    /// How the store is, for `status`.
    fn summary(&self) -> StoreStatus;
}
