//! What does a function say about a record beyond its value? [`MqttRecord`]: topic, QoS, retain flag, properties.
//!
//! A function in any language sends one as a typed value `fogfun.types/mqtt-record`, whose bytes are a CBOR map:
//!
//! | key | field | type | absent means |
//! |---|---|---|---|
//! | 0 | topic | text | (required) |
//! | 1 | payload | bytes | (required) |
//! | 2 | QoS | 0, 1 or 2 | the egress's |
//! | 3 | retain | bool | the egress's |
//! | 4 | properties | array of arrays of two texts | none |
//!
//! Unknown keys are skipped, so that a later version may add some.

use minicbor::{Decode, Encode};

use crate::mqtt::config::Qos;
use crate::payload::Payload;
use crate::typed_value::TypedValue;

/// A record for an MQTT egress that chooses its own topic.
///
/// ```
/// use fogfun::MqttRecord;
/// use fogfun::mqtt::config::Qos;
/// use fogfun::typed_value::TypedValue;
///
/// let record = MqttRecord::new("fridge/7/alarm", "too warm").qos(Qos::ExactlyOnce).retain(true);
/// let value = TypedValue::from(record.clone());
/// assert_eq!(MqttRecord::decode(value.bytes()).unwrap(), record);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttRecord {
    /// The topic, without wildcards.
    pub topic: String,
    /// The payload as it goes out; the egress's format does not touch it.
    pub payload: Vec<u8>,
    /// With which QoS; `None` is the egress's.
    pub qos: Option<Qos>,
    /// With the retain flag? `None` is the egress's.
    pub retain: Option<bool>,
    /// MQTT 5 user properties in order; the names `response-topic` and `correlation-data` set those instead.
    pub properties: Vec<(String, String)>,
}

impl MqttRecord {
    /// The name of the type.
    pub const TYPENAME: &'static str = "fogfun.types/mqtt-record";

    /// A record with what the egress says besides.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos: None, retain: None, properties: Vec::new() }
    }

    /// With this QoS.
    #[must_use]
    pub fn qos(self, qos: Qos) -> Self {
        Self { qos: Some(qos), ..self }
    }

    /// With or without the retain flag.
    #[must_use]
    pub fn retain(self, retain: bool) -> Self {
        Self { retain: Some(retain), ..self }
    }

    /// With one more user property (lost under MQTT 3.1.1, which has none).
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// The bytes of its typed value.
    #[must_use]
    pub fn encode(&self) -> Payload {
        let wire = Wire {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos.map(|qos| qos as u8),
            retain: self.retain,
            properties: self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        };
        let mut bytes = Vec::with_capacity(self.topic.len() + self.payload.len() + 16);
        let written = minicbor::encode(&wire, &mut bytes);
        assert!(written.is_ok(), "writing to a vector does not fail");
        bytes.into()
    }

    /// Reads the bytes of a typed value.
    ///
    /// # Errors
    /// If they are not such a map.
    pub fn decode(bytes: &[u8]) -> Result<Self, MqttRecordError> {
        let wire: Wire<'_> = minicbor::decode(bytes)
            .map_err(|error| MqttRecordError::Malformed { cause: error.to_string() })?;
        Ok(Self {
            topic: wire.topic.to_owned(),
            payload: wire.payload.to_vec(),
            qos: match wire.qos {
                None => None,
                Some(0) => Some(Qos::AtMostOnce),
                Some(1) => Some(Qos::AtLeastOnce),
                Some(2) => Some(Qos::ExactlyOnce),
                Some(qos) => return Err(MqttRecordError::Qos { qos }),
            },
            retain: wire.retain,
            properties: wire
                .properties
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        })
    }
}

impl From<MqttRecord> for TypedValue {
    fn from(record: MqttRecord) -> Self {
        Self::new(MqttRecord::TYPENAME, record.encode())
    }
}

/// Bytes that are no [`MqttRecord`]. The fault of who sent them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MqttRecordError {
    /// Not the CBOR map.
    #[error("not a CBOR map of a record: {cause}")]
    Malformed {
        /// What the decoder says.
        cause: String,
    },
    /// A QoS that there is not.
    #[error("QoS {qos} is none of 0, 1, 2")]
    Qos {
        /// What was given.
        qos: u8,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[b(0)]
    topic: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    payload: &'a [u8],
    #[n(2)]
    qos: Option<u8>,
    #[n(3)]
    retain: Option<bool>,
    #[cbor(b(4), default)]
    properties: Vec<(&'a str, &'a str)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_has_these_bytes() {
        let plain = MqttRecord::new("a", "b");
        assert_eq!(&*plain.encode(), b"\xa3\x00\x61a\x01\x41b\x04\x80");
        let full = plain.qos(Qos::AtLeastOnce).retain(true).property("p", "q");
        assert_eq!(&*full.encode(), b"\xa5\x00\x61a\x01\x41b\x02\x01\x03\xf5\x04\x81\x82\x61p\x61q");
        assert_eq!(MqttRecord::decode(&full.encode()).unwrap(), full);
        assert_eq!(MqttRecord::decode(b"\xa2\x00\x61a\x01\x41b").unwrap(), MqttRecord::new("a", "b"));
        assert_eq!(
            MqttRecord::decode(b"\xa3\x00\x61a\x01\x41b\x18\x63\xf5").unwrap(),
            MqttRecord::new("a", "b")
        );
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(matches!(MqttRecord::decode(b""), Err(MqttRecordError::Malformed { .. })));
        assert!(matches!(MqttRecord::decode(b"\xa1\x00\x61a"), Err(MqttRecordError::Malformed { .. })));
        assert_eq!(
            MqttRecord::decode(b"\xa3\x00\x61a\x01\x41b\x02\x03"),
            Err(MqttRecordError::Qos { qos: 3 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = MqttRecord::decode(&bytes);
        }
    }
}
