//! What moves? Records outside ([`IngressRecord`], [`EgressRecord`]), messages inside ([`Message`]).

use std::sync::Arc;

use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::payload::Payload;
use crate::typed_value::TypedValue;

/// What one address tells another, or an ingress tells an address.
///
/// Inside a worker a message also has an identity, (target, arrival number), given once when it arrives and kept until it is
/// consumed; see [`worker`](crate::worker).
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// To whom.
    pub target: Address,
    /// From whom; `None` if it comes from an ingress. The caller of a delayed message is its sender.
    pub caller: Option<Address>,
    /// What.
    pub argument: TypedValue,
    /// What the record said beside its payload; only on messages that a router made from a record.
    pub headers: Option<Arc<Headers>>,
}

/// What an ingress record says beside its payload: captures, topic, retain flag, user properties and so on, by name.
///
/// Reserved names: `topic`, `retained` (`true` or `false`), `qos`, `response-topic`, `correlation-data`; a capture `{id}` is
/// `capture.id`, an MQTT 5 user property `p` is `property.p` (repeated properties repeat, in order). Over HTTP a header
/// `fogfun-property-p` is `property.p`, and of the others these few come through: `header.idempotency-key`, `header.traceparent`,
/// `header.tracestate`, `header.x-request-id`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Headers(Vec<(SmolStr, Payload)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one at the end; names may repeat.
    pub fn push(&mut self, name: &str, value: impl Into<Payload>) {
        self.0.push((name.into(), value.into()));
    }

    /// The first value of that name.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| &**value)
    }

    /// The first value of that name, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }
}

/// What an ingress took in, before a router turns it into messages.
#[derive(Clone, PartialEq, Debug)]
pub struct IngressRecord {
    /// The ingress, `namespace/name`.
    pub ingress: TypeName,
    /// The id that the ingress's configuration finds in the record (a capture, a JSON pointer, a property), if it names one.
    pub id: Option<SmolStr>,
    /// The payload as the ingress's format and value type make it.
    pub value: TypedValue,
    /// Everything else the record said.
    pub headers: Arc<Headers>,
}

/// What a function sends out.
#[derive(Clone, PartialEq, Debug)]
pub struct EgressRecord {
    /// The egress, `namespace/name`.
    pub egress: TypeName,
    /// What: for an MQTT egress a `KafkaProducerRecord` (its topic and value), an
    /// [`MqttRecord`](crate::MqttRecord), or any value that the egress's topic template and format can carry.
    pub value: TypedValue,
}
