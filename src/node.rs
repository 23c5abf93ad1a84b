//! When is an epoch over, and when is it safe? The control plane of one board.
//!
//! A pure machine beside the workers: it hears how busy they are, says when to cut, gathers their sections into frames, hands
//! frames and session records to the store, and tells everyone what is durable.

use embassy_time::Instant;

use crate::epoch::Epoch;
use crate::store::LogEntry;
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
}

/// What the store's thread is asked; one command at a time, each answered by one event.
#[derive(Debug)]
pub enum StoreCommand {
    /// Append all of these with one write, then sync once.
    Append(Vec<LogEntry>),
    /// After [`StoreEvent::Failed`]: write what failed again, to a new segment.
    Rewrite,
    /// Do one step (one transaction) of a fold; begin one if none is under way.
    Fold,
}

/// What the store's thread answers.
#[derive(Debug)]
pub enum StoreEvent {
    /// What was to be appended is durable.
    Appended {
        /// Has the log reached the bound at which it wants to be folded?
        fold_due: bool,
    },
    /// A write, sync or fold failed; appended things are kept in memory and the store is latched until [`StoreCommand::Rewrite`].
    Failed {
        /// What kind of failure, for `status`.
        failure: StoreFailure,
        /// What the operating system said.
        text: String,
    },
    /// A step of a fold is done.
    Folded {
        /// The last epoch that is wholly in the base.
        epoch: Epoch,
        /// Is the whole fold done?
        complete: bool,
    },
}

/// Why the store cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFailure {
    /// ENOSPC or EDQUOT.
    DiskFull,
    /// EROFS.
    ReadOnly,
    /// Anything else, an input/output error for one.
    Other,
}
