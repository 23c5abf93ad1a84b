//! What may a person ask a running node, and what does it answer? The same words over the UNIX socket and at rest.
//!
//! One JSON object a line each way. Bytes are base64 (RFC 4648, padded) beside their type name.

use serde::Serialize;

use crate::metrics::Histogram;

mod read;

/// A question.
#[derive(Serialize, Debug, Clone, PartialEq)]
#[serde(tag = "ask", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the names say it; each field is spelt out in docs/operating/command-line.md"
)]
pub enum AdminRequest {
    /// The node's status. Answered by every worker with its [`WorkerStatus`].
    Status,
    /// State entries in key order, behind `after` if given.
    StateList { function_type: Option<String>, id: Option<String>, after: Option<String>, entries_max: u32 },
    /// All entries of one state.
    StateGet { function_type: String, id: String, name: String },
    /// Sets one persisted value; goes through an epoch like any other change.
    StateSet { function_type: String, id: String, name: String, value: AdminValue },
    /// Deletes all entries of one state.
    StateDelete { function_type: String, id: String, name: String },
    /// Dead letters in key order, behind `after` if given.
    DeadLetterList { after: Option<String>, entries_max: u32 },
    /// One dead letter with its payload.
    DeadLetterShow { key: String },
    /// Sends dead letters again, in order: one, or all of an address.
    DeadLetterRetry { key: String },
    /// Drops a dead letter for good.
    DeadLetterDrop { key: String },
    /// A person has seen what storage lost: the node is no longer degraded. Answered by the store.
    AcceptDegraded,
}

/// An answer of one worker.
#[derive(Serialize, Debug, Clone, PartialEq)]
#[serde(tag = "answer", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the names say it; each field is spelt out in docs/operating/command-line.md"
)]
pub enum AdminReply {
    Status(Box<WorkerStatus>),
    /// Entries in key order; `more` if the list was cut off.
    State {
        entries: Vec<StateEntry>,
        more: bool,
    },
    DeadLetters {
        letters: Vec<DeadLetterEntry>,
        more: bool,
    },
    /// Done and committed; how many things it concerned.
    Done {
        count: u64,
    },
    /// Not done: the caller's mistake or a failed read.
    Error {
        text: String,
    },
}

/// Bytes with their type.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
pub struct AdminValue {
    /// The type name.
    pub typename: String,
    /// Base64.
    pub bytes: String,
}

/// One state entry.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StateEntry {
    /// Its place in the list; pass it as `after`.
    pub key: String,
    pub function_type: String,
    pub id: String,
    pub name: String,
    /// Base64 of a table's encoded key or a buffer's element number; empty for a persisted value.
    pub subkey: String,
    pub value: AdminValue,
    /// Milliseconds of runtime time until it expires; absent if never.
    pub expires_in_ms: Option<u64>,
}

/// One dead letter.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct DeadLetterEntry {
    /// Its name; pass it to show, retry and drop.
    pub key: String,
    /// The function it was for, or `fogfun/session` for a record of an ingress or egress.
    pub function_type: String,
    pub id: String,
    pub caller: Option<String>,
    /// Why it is here.
    pub reason: String,
    pub attempts: u32,
    /// Runtime time in milliseconds when it failed for good.
    pub at_ms: u64,
    pub value: AdminValue,
}

/// How the node's control plane and store are.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// The epoch that is worked in.
    pub epoch_working: u64,
    /// The last committed one.
    pub epoch_committed: u64,
    /// Frames written since the start.
    pub frames: u64,
    /// Writes with a sync since the start.
    pub syncs: u64,
    /// Folds completed since the start.
    pub folds: u64,
    /// Failed writes, syncs and folds since the start.
    pub store_failures: u64,
    /// Why the store does not write, if it does not.
    pub latched: Option<String>,
    /// `proven` once the kernel's clock was synchronised, else `unproven`.
    pub clock: String,
    /// From the cut of an epoch that was written to its commit.
    pub commit_latency: Histogram,
}

/// How one worker is.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct WorkerStatus {
    pub worker: usize,
    pub working_epoch: u64,
    pub committed_epoch: u64,
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    pub instances: u64,
    pub messages_waiting: u64,
    pub messages_spilled: u64,
    pub messages_unsent: u64,
    pub messages_delayed: u64,
    /// Messages for function types that the module no longer binds, by type.
    pub messages_unbound: Vec<(String, u64)>,
    pub dead_letters: u64,
    /// Addresses that wait because an invocation of theirs failed and is tried again.
    pub addresses_retrying: u64,
    /// Requests to remote functions that are out.
    pub calls_out: u64,
    /// Addresses that are held until another has learnt which states their function declares.
    pub addresses_held: u64,
    pub endpoints: Vec<EndpointStatus>,
    /// Operations that run.
    pub operations_running: u64,
    /// Operations that were registered and have not begun.
    pub operations_waiting: u64,
    /// Every address waits for memory.
    pub saturated: bool,
    pub sessions: Vec<SessionStatus>,
    pub functions: Vec<FunctionStatus>,
    /// Counters by name: invocations, events, drops by reason.
    pub counters: Vec<(String, u64)>,
}

/// What one function type has done on one worker; words and meaning are StateFun's.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionStatus {
    /// The type.
    pub function_type: String,
    /// Messages consumed.
    pub r#in: u64,
    /// Messages sent to addresses of the same worker.
    pub out_local: u64,
    /// Messages sent to addresses of other workers.
    pub out_remote: u64,
    /// Records sent to egresses.
    pub out_egress: u64,
    /// Invocations that failed, embedded or remote.
    pub invocation_failures: u64,
    /// Attempts at remote invocations that failed.
    pub remote_invocation_failures: u64,
    /// Requests that are out.
    pub inflight_async_ops: u64,
    /// Addresses that wait for a reply or for their turn to ask.
    pub num_blocked_address: u64,
    /// Messages that wait.
    pub num_backlog: u64,
    /// How long each attempt at a remote invocation took.
    pub remote_invocation_latency: Histogram,
}

/// How the endpoint at one URL is.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointStatus {
    /// The URL.
    pub url: String,
    /// Requests that are out.
    pub in_flight: u64,
    /// Addresses that wait to ask.
    pub waiting: u64,
    /// Attempts in a row that found it down; 0 if it is up.
    pub failures: u64,
    /// What failed last there, whatever it was.
    pub last_error: Option<String>,
}

/// How one session is.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SessionStatus {
    pub name: String,
    /// `connected`, `connecting`, `waiting` (to reconnect), `stopped` or `taken-over`.
    pub connection: String,
    pub incarnation: u64,
    pub intake_open: bool,
    pub accepted_unfinished: u64,
    pub outbox_entries: u64,
    pub outbox_in_flight: u64,
    pub received: u64,
    pub published: u64,
    /// Records received with QoS 0, 1, 2.
    pub received_by_qos: [u64; 3],
    pub last_error: Option<String>,
}
