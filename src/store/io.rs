//! What is a store asked, and what does it answer? One command at a time, one event each.

use super::LogEntry;
use crate::epoch::Epoch;

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
