//! What is a session told, and what does it want done? Two enums are its whole interface.

use std::sync::Arc;

use bytes::Bytes;
use embassy_time::Instant;
use smol_str::SmolStr;

use super::config::Qos;
pub use super::message_id::MessageId;
use crate::epoch::Epoch;
use crate::payload::Payload;

/// The number of a connection: each connect gets the next one, so a late event of an old one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnectionNumber(pub u64);

/// What a session is told.
#[derive(Debug)]
pub enum SessionInput {
    /// The shell opened a socket (and finished TLS) for the last [`SessionOutput::Connect`].
    Connected {
        /// That connection.
        connection: ConnectionNumber,
    },
    /// Bytes came.
    Received {
        /// On this connection.
        connection: ConnectionNumber,
        /// Any piece of the stream.
        bytes: Bytes,
    },
    /// The socket is closed, or could not be opened.
    Disconnected {
        /// That connection.
        connection: ConnectionNumber,
        /// Why, for a person.
        cause: String,
    },
    /// The epoch is committed: what it accepted may be acknowledged, what it put may be published.
    Committed {
        /// That epoch.
        epoch: Epoch,
    },
    /// Session records up to this number are durable.
    Synced {
        /// The number of [`SessionOutput::Record`].
        record: u64,
    },
    /// An egress record has reached the session; part of the working epoch.
    Send(OutboxRecord),
    /// The worker opens or closes the ingress.
    Intake(Intake),
    /// Accept nothing more; when all that is committed was sent and answered, or at `deadline`, disconnect cleanly.
    Stop {
        /// When to give up waiting.
        deadline: Instant,
    },
}

/// What a session wants done.
#[derive(Debug)]
pub enum SessionOutput {
    /// Open a socket to the broker; answer with `Connected` or `Disconnected` of this number.
    Connect {
        /// The number of the connection to be.
        connection: ConnectionNumber,
    },
    /// Write these bytes.
    Transmit {
        /// To this connection.
        connection: ConnectionNumber,
        /// Whole packets, one or more.
        bytes: Bytes,
    },
    /// Close the socket once what was transmitted is written.
    Close {
        /// This connection.
        connection: ConnectionNumber,
    },
    /// A PUBLISH accepted in the working epoch: route it now. Each is given once.
    Publish(ReceivedPublish),
    /// A session record to append to the log and sync by `deadline`; a later record with the same key replaces it.
    Record {
        /// Ascending; [`SessionInput::Synced`] names it.
        number: u64,
        /// Sync it at this time at the latest, with whatever is synced before.
        deadline: Instant,
        /// Of kind `Session` or `Progress`.
        key: Vec<u8>,
        /// Its value; empty deletes.
        value: Vec<u8>,
    },
    /// The broker refused an outbox entry for good: a dead letter of the working epoch.
    Refused {
        /// What was refused.
        record: OutboxRecord,
        /// The broker's reason.
        reason: String,
    },
    /// Something to count, and perhaps to tell a person.
    Event(SessionEvent),
    /// After [`SessionInput::Stop`]: disconnected, nothing more will come.
    Stopped,
}

/// A record on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRecord {
    /// The MQTT topic.
    pub topic: SmolStr,
    /// The payload.
    pub payload: Payload,
    /// With which QoS.
    pub qos: Qos,
    /// With the retain flag?
    pub retain: bool,
    /// Given once, kept for ever: the MQTT 5 user property `fogfun-message-id` by which a consumer drops repeats.
    pub message_id: MessageId,
    /// What the broker is to pass on besides: user properties in order, with the reserved names of
    /// [`Headers`](crate::message::Headers) for response topic and correlation data.
    pub properties: Vec<(String, String)>,
}

/// What happens to a PUBLISH that comes in? Everything else is handled in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intake {
    /// It is accepted.
    Open,
    /// It waits for the next commit.
    Paused,
    /// It waits until there is memory; with QoS 0 only so many do.
    Closed,
}

/// A record that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedPublish {
    /// The topic name, aliases resolved.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
    /// The QoS it came with.
    pub qos: Qos,
    /// The retain flag.
    pub retain: bool,
    /// MQTT 5 user properties in order.
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5 response topic.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<Bytes>,
}

/// Something that happened to a session, to be counted by kind and, once per kind and minute, logged.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionEvent {
    /// A short kebab-case kind; the counter's name.
    pub kind: &'static str,
    /// What to tell a person.
    pub text: String,
}
