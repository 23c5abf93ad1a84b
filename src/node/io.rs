//! What is a node told, and what does it want done? Two enums are its whole interface.

use embassy_time::Instant;

use crate::epoch::Epoch;
use crate::store::{StoreCommand, StoreEvent};
use crate::worker::io::{Activity, SessionIndex, WorkerIndex};

/// What the node is told.
#[derive(Debug)]
pub enum NodeInput {
    /// How busy a worker is.
    Activity {
        /// Which.
        worker: WorkerIndex,
        /// How busy.
        activity: Activity,
    },
    /// A worker's part of the epoch that was cut.
    Section {
        /// Whose.
        worker: WorkerIndex,
        /// Which epoch.
        epoch: Epoch,
        /// Its sections; may be empty.
        sections: Vec<u8>,
    },
    /// A session record.
    Record {
        /// The session's worker.
        worker: WorkerIndex,
        /// The session.
        session: SessionIndex,
        /// The record's number.
        number: u64,
        /// Sync it at this time at the latest.
        deadline: Instant,
        /// The key.
        key: Vec<u8>,
        /// The value; empty deletes.
        value: Vec<u8>,
    },
    /// The store answers.
    Store(StoreEvent),
    /// The kernel says that its clock is synchronised, and this is the wall time (Unix, milliseconds) at `now`.
    ClockProven {
        /// The wall time.
        wall_ms: u64,
    },
    /// A worker is short of memory.
    FoldWanted,
    /// Commit what there is, whatever the pause, from now on.
    Stop,
}

/// What the node wants done.
#[derive(Debug)]
pub enum NodeOutput {
    /// Worker 0 shall cut this epoch.
    Cut {
        /// The working epoch.
        epoch: Epoch,
    },
    /// To every worker: this epoch is committed.
    Committed {
        /// That epoch.
        epoch: Epoch,
    },
    /// To one worker: session records up to this one are durable.
    Synced {
        /// The session's worker.
        worker: WorkerIndex,
        /// The session.
        session: SessionIndex,
        /// Up to and including this one.
        record: u64,
    },
    /// To every worker: the base holds every epoch up to this one.
    Folded {
        /// Up to and including this one.
        epoch: Epoch,
    },
    /// To the store's thread.
    Store(StoreCommand),
    /// Runtime time goes on from here: the downtime is proven.
    Advance {
        /// Not before now.
        runtime: Instant,
    },
}
