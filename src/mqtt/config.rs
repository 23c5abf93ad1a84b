//! What does a session need to know? Its broker and what it subscribes to or publishes; made from `module.yaml`.

use std::time::Duration;

use smol_str::SmolStr;

use crate::address::TypeName;
use crate::credentials::{Secret, TlsFiles};

/// One MQTT session: of one ingress or one egress.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// The ingress's or egress's id, `namespace/name`. The session's address is `fogfun/session` with this as its id.
    pub name: TypeName,
    /// Where the broker is.
    pub broker: Broker,
    /// The client id under which the broker keeps the session.
    pub client_id: String,
    /// How long the broker keeps the session while we are away (MQTT 5; 3.1.1 keeps it for ever).
    pub session_expiry: Duration,
    /// User name.
    pub user: Option<String>,
    /// Password; never printed.
    pub password: Option<Secret>,
    /// PINGREQ when idle this long; at least twice `invocation_max`.
    pub keep_alive: Duration,
    /// PUBLISHes with QoS above 0 that the broker may have outstanding towards us (MQTT 5 Receive Maximum).
    pub receive_maximum: u16,
    /// The largest packet that we take, in bytes (MQTT 5 Maximum Packet Size).
    pub packet_bytes_max: u32,
    /// What the session is for.
    pub role: Role,
}

/// What is measured, told to a broker: a connection of its own, besides all sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Where the broker is.
    pub broker: Broker,
    /// The node's name, one level of a topic; `None`: the host's.
    pub node: Option<String>,
    /// The client id; `None`: `fogfun-metrics-` and the node's name.
    pub client_id: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Password; never printed.
    pub password: Option<Secret>,
    /// PINGREQ when nothing was heard for half of this.
    pub keep_alive: Duration,
    /// Values are told once in this time at most.
    pub interval: Duration,
}

/// Where a broker is and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port; 1883 for `mqtt://`, 8883 for `mqtts://` unless the URL says otherwise.
    pub port: u16,
    /// The version of the protocol.
    pub protocol: Protocol,
    /// TLS; `None` for `mqtt://`.
    pub tls: Option<TlsFiles>,
}

/// The version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// It subscribes.
    Ingress {
        /// To these; no two filters overlap (but for shared ones).
        subscriptions: Vec<Subscription>,
    },
    /// It publishes.
    Egress(EgressConfig),
}

/// Quality of service, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// One topic of an ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// The topic as written, with captures: `fridge/{id}/temperature`. The filter sent to the broker has `+` in their place.
    pub pattern: TopicPattern,
    /// The highest QoS asked for.
    pub qos: Qos,
    /// Are retained records taken when the subscription is made?
    pub retained: Retained,
    /// What a payload is.
    pub format: Format,
    /// The type name given to the value; `None` takes the format's own.
    pub value_type: Option<SmolStr>,
    /// Function types to which every record goes, in order (StateFun's auto-routing); may be empty where routers are bound.
    pub targets: Vec<TypeName>,
    /// Where the target's id comes from.
    pub id: IdSource,
    /// Where a message id for deduplication comes from.
    pub message_id: Option<MessageIdSource>,
}

/// A topic with captures, taken apart at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    /// As written.
    pub text: String,
    /// The filter sent to the broker, with `$share/group/` in front if the pattern has it.
    pub filter: String,
    /// The levels of the topic, without `$share/group/`.
    pub levels: Vec<Level>,
}

/// One level of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// This text.
    Literal(String),
    /// `{name}`: any one level, remembered.
    Capture(String),
    /// `+`: any one level.
    Any,
    /// `#`: all the rest.
    Rest,
}

/// Retained records: taken or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Taken when a new subscription is made (retain handling 1).
    Taken,
    /// Acknowledged and counted, not routed.
    Ignored,
}

/// What a payload is, in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bytes as they are; a value type must be named.
    Raw,
    /// UTF-8 text; a value of `io.statefun.types/string`.
    Text,
    /// UTF-8 JSON, checked; a value type must be named.
    Json,
    /// A decimal number as text; a value of `io.statefun.types/double`, or what `valueType` says among the numeric built-ins.
    Number,
}

/// Where the id of the target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// A capture of the topic.
    Capture(String),
    /// A JSON pointer (RFC 6901) into the payload; a string, number or bool there is the id.
    JsonPointer(String),
    /// An MQTT 5 user property.
    Property(String),
    /// None: only routers decide. Legal where `targets` is empty.
    None,
}

/// Where a message id comes from and how it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageIdSource {
    /// Where it is: a property or a JSON pointer.
    pub source: IdSource,
    /// Within what it is unique.
    pub scope: Scope,
    /// How many are remembered per scope.
    pub remembered: u16,
}

/// Within what a message id is unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole topic name.
    Topic,
    /// A capture.
    Capture(String),
    /// The ingress.
    Ingress,
}

/// How an egress publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct EgressConfig {
    /// The topic for a value that does not name its own: literal text with `{caller.id}` and `{caller.type}` filled in.
    /// `None` takes only records that name a topic.
    pub topic: Option<String>,
    /// With which QoS.
    pub qos: Qos,
    /// With the retain flag?
    pub retain: bool,
    /// How a typed value becomes a payload.
    pub format: Format,
}

/// A setting as the machines count time.
pub(super) fn ticks(duration: Duration) -> embassy_time::Duration {
    embassy_time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4))
}
