//! What is a worker told, and what does it want done? Two enums are its whole interface.
//!
//! After each input the shell drains [`Worker::poll_output`](super::Worker::poll_output) until `None`.

use embassy_time::Instant;
use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::admin::{AdminReply, AdminRequest};
use crate::epoch::Epoch;
use crate::message::{Headers, Message};
use crate::mqtt::session::{ConnectionNumber, SessionInput};
use crate::remote::call::{Call, CallNumber, CallOutcome};
use crate::typed_value::TypedValue;

/// The place of a worker among its node's workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkerIndex(pub usize);

/// The place of a session among the module's sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionIndex(pub usize);

/// Names an operation among those that its worker began since the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationNumber(pub u64);

/// What a worker is told.
#[derive(Debug)]
pub enum WorkerInput {
    /// Items came on the channel from another worker; channels are FIFO.
    Channel {
        /// The sender.
        from: WorkerIndex,
        /// In the order sent.
        items: Vec<ChannelItem>,
    },
    /// End this epoch now (to worker 0 only; the others learn it from barriers).
    Cut {
        /// The working epoch.
        epoch: Epoch,
    },
    /// The epoch's frame is durable.
    Committed {
        /// That epoch.
        epoch: Epoch,
    },
    /// Session records up to this number are durable.
    Synced {
        /// Of this session, which this worker owns.
        session: SessionIndex,
        /// Up to and including this one.
        record: u64,
    },
    /// The base now holds every epoch up to this one: what it hides may be evicted.
    Folded {
        /// Up to and including this one.
        epoch: Epoch,
    },
    /// Something happened to a session's socket: `Connected`, `Received` or `Disconnected`.
    Session {
        /// The session, which this worker owns.
        session: SessionIndex,
        /// What.
        input: SessionInput,
    },
    /// A call of a remote function ended.
    Called {
        /// Which.
        call: CallNumber,
        /// How.
        outcome: CallOutcome,
    },
    /// A record came over HTTP for an address that this worker owns; answered once by [`WorkerOutput::Taken`].
    Take {
        /// Names the answer.
        request: u64,
        /// What came.
        record: TakenRecord,
    },
    /// An operation ended.
    Operated {
        /// Which.
        number: OperationNumber,
        /// What it returned, or why it failed.
        result: Result<TypedValue, String>,
    },
    /// A person or a program asks; answered once with the same number, when what the answer says is committed.
    Admin {
        /// Names the answer.
        request: u64,
        /// What is asked; addressed requests go to the owner of the address, others to every worker.
        question: AdminRequest,
    },
    /// Take in nothing more, finish what runs; answered with [`WorkerOutput::Stopped`] once the sessions are disconnected.
    Stop {
        /// When to give up waiting.
        deadline: Instant,
    },
}

/// What a worker wants done.
#[derive(Debug)]
pub enum WorkerOutput {
    /// Pass these to another worker, behind what was passed before.
    Channel {
        /// The receiver.
        to: WorkerIndex,
        /// In order.
        items: Vec<ChannelItem>,
    },
    /// How busy the worker is; told to the node when it changes.
    Activity(Activity),
    /// The worker's part of an epoch is complete.
    Section {
        /// The epoch that was cut.
        epoch: Epoch,
        /// Its sections ([`frame`](crate::epoch::frame)); empty if nothing outlives the epoch.
        sections: Vec<u8>,
    },
    /// A session record for the node to append and sync by `deadline`.
    Record {
        /// Whose.
        session: SessionIndex,
        /// Its number.
        number: u64,
        /// Sync it at this time at the latest.
        deadline: Instant,
        /// The key.
        key: Vec<u8>,
        /// The value; empty deletes.
        value: Vec<u8>,
    },
    /// Open a socket for a session.
    Connect {
        /// Whose.
        session: SessionIndex,
        /// The connection to be.
        connection: ConnectionNumber,
    },
    /// Write bytes to a session's socket.
    Transmit {
        /// Whose.
        session: SessionIndex,
        /// Which connection.
        connection: ConnectionNumber,
        /// What.
        bytes: bytes::Bytes,
    },
    /// Read a session's sockets from now on, or do not: a 3.1.1 broker sends more than a closed ingress holds.
    Read {
        /// Whose.
        session: SessionIndex,
        /// From now on?
        is_wanted: bool,
    },
    /// Close a session's socket once what was transmitted is written.
    Close {
        /// Whose.
        session: SessionIndex,
        /// Which connection.
        connection: ConnectionNumber,
    },
    /// Ask a remote function; answered once by [`WorkerInput::Called`].
    Call(Call),
    /// What became of a record, once that is committed.
    Taken {
        /// The record's number.
        request: u64,
        /// What became of it.
        taken: Taken,
    },
    /// A function has replied to somebody who waits over HTTP, and that is committed.
    Replied {
        /// The id of the address that it replied to.
        waiter: SmolStr,
        /// What it said.
        value: TypedValue,
    },
    /// A function has sent a record to the playground's egress, and that is committed.
    Fetchable {
        /// The record.
        value: TypedValue,
    },
    /// Begin an operation; answered once by [`WorkerInput::Operated`].
    Operate {
        /// Names the answer.
        number: OperationNumber,
        /// Which.
        operation: TypeName,
        /// With what.
        request: TypedValue,
    },
    /// The answer to a question.
    Admin {
        /// The question's number.
        request: u64,
        /// The answer.
        reply: AdminReply,
    },
    /// Memory is short: fold, so that I may evict.
    FoldWanted,
    /// Something to count and perhaps to tell a person.
    Event {
        /// A short kebab-case kind; the counter's name.
        kind: &'static str,
        /// What to tell a person.
        text: String,
    },
    /// After [`WorkerInput::Stop`]: nothing is left to do, unless another worker's last messages come.
    Stopped,
}

/// A record that came over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenRecord {
    /// For whom.
    pub target: Address,
    /// What.
    pub value: TypedValue,
    /// What else the request said.
    pub headers: Option<Headers>,
    /// The idempotency key, and how many of them the target remembers.
    pub idempotency: Option<(Vec<u8>, u16)>,
    /// Whom the function may reply to: an address of type [`HTTP_TYPE`](super::HTTP_TYPE).
    pub reply_to: Option<Address>,
}

/// What became of a record that came over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is its target's message.
    Accepted,
    /// Its idempotency key has come before.
    Repeated,
    /// Not taken in, and why; trying again may help.
    Refused(String),
}

/// What travels on a channel between two workers.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelItem {
    /// A message; takes as much credit as it has bytes, about.
    Message(Message),
    /// The sender has cut this epoch; needs no credit.
    Barrier(Epoch),
    /// The receiver of this may send so many more bytes of messages the other way; needs no credit.
    Credit(u32),
}

/// How busy a worker is: the node decides from it when to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// When the working epoch got its first effect; `None` if there is nothing to commit.
    pub first_effect: Option<Instant>,
    /// Is something runnable?
    pub runnable: bool,
    /// Does a bound ask for a cut now, whatever the pause?
    pub urgent: bool,
    /// Does a delayed message wait?
    pub delayed: bool,
    /// Messages passed to channels since the start.
    pub sent: u64,
    /// Messages taken from channels since the start.
    pub handled: u64,
    /// Which epoch is the working one.
    pub working: Epoch,
}
