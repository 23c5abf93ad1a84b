//! What does a value look like as a PUBLISH? Its topic, payload, QoS, retain flag and properties.

use std::fmt::Write as _;

use bytes::Bytes;
use prost::Message as _;
use serde::de::IgnoredAny;
use smol_str::{SmolStr, SmolStrBuilder};

use crate::address::Address;
use crate::egress::{MqttRecord, MqttRecordError};
use crate::limits::VALUE_BYTES_MAX;
use crate::mqtt::builtin::Builtin;
use crate::mqtt::config::{EgressConfig, Format};
use crate::mqtt::session::{MessageId, OutboxRecord};
use crate::mqtt::topic::{TopicError, check_topic_name, fill_template};
use crate::payload::Payload;
use crate::typed_value::TypedValue;

/// Makes a PUBLISH of what a function sent to an egress.
///
/// A `KafkaProducerRecord` gives topic and payload (its key, which chooses a partition in Kafka, means nothing to MQTT); an
/// [`MqttRecord`] whatever it says; any other value takes the topic of the template and the payload of the format.
///
/// # Errors
/// If no PUBLISH can be made of it; the record is then a dead letter.
pub fn outbox_of(
    config: &EgressConfig,
    caller: Option<&Address>,
    value: &TypedValue,
    message_id: MessageId,
) -> Result<OutboxRecord, EncodeError> {
    let mut record = match value.typename.as_str() {
        KAFKA_PRODUCER_RECORD => {
            let record = KafkaProducerRecord::decode(value.bytes())
                .map_err(|error| EncodeError::KafkaProducerRecord { cause: error.to_string() })?;
            let topic = match record.topic.as_str() {
                "" => templated(config, caller)?,
                topic => topic.into(),
            };
            outbox(config, topic, record.value_bytes.into())
        }
        MqttRecord::TYPENAME => {
            let record = MqttRecord::decode(value.bytes())?;
            OutboxRecord {
                qos: record.qos.unwrap_or(config.qos),
                retain: record.retain.unwrap_or(config.retain),
                properties: record.properties,
                ..outbox(config, record.topic.into(), record.payload.into())
            }
        }
        _ => outbox(config, templated(config, caller)?, payload_of(config.format, value)?),
    };
    check_topic_name(&record.topic)?;
    if VALUE_BYTES_MAX < record.payload.len() {
        return Err(EncodeError::TooLong { bytes: record.payload.len() });
    }
    record.message_id = message_id;
    Ok(record)
}

/// A value that is no PUBLISH of this egress. The sending function's fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The topic that came out is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The egress has no topic template and the record no topic.
    #[error("neither the egress nor the record names a topic")]
    NoTopic,
    /// Not the protobuf message.
    #[error("not a KafkaProducerRecord: {cause}")]
    KafkaProducerRecord {
        /// What the decoder says.
        cause: String,
    },
    /// Not the CBOR map.
    #[error("not an MQTT record: {0}")]
    MqttRecord(#[from] MqttRecordError),
    /// The bytes are not what their type name says.
    #[error("the bytes are not of their type {typename}")]
    NotOfItsType {
        /// The type name.
        typename: String,
    },
    /// `text`, and the bytes are not UTF-8.
    #[error("the value of type {typename} is not UTF-8 text")]
    NotUtf8 {
        /// The type name.
        typename: String,
    },
    /// `json`, and the bytes are not JSON.
    #[error("the value of type {typename} is not JSON: {cause}")]
    NotJson {
        /// The type name.
        typename: String,
        /// What the parser says.
        cause: String,
    },
    /// `number`, and the value is none, or not finite.
    #[error("a value of type {typename} is not a finite number")]
    NotNumber {
        /// The type name.
        typename: String,
    },
    /// Longer than the store takes.
    #[error("the payload has {bytes} bytes, at most {VALUE_BYTES_MAX} are taken")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

/// StateFun's record for Kafka egresses, field for field; the key is read as bytes, since the Java SDK writes any.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KafkaProducerRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value_bytes: Bytes,
    #[prost(string, tag = "3")]
    pub(super) topic: String,
}

fn outbox(config: &EgressConfig, topic: SmolStr, payload: Payload) -> OutboxRecord {
    OutboxRecord {
        topic,
        payload,
        qos: config.qos,
        retain: config.retain,
        message_id: MessageId::NONE,
        properties: Vec::new(),
    }
}

fn templated(config: &EgressConfig, caller: Option<&Address>) -> Result<SmolStr, EncodeError> {
    let template = config.topic.as_deref().ok_or(EncodeError::NoTopic)?;
    Ok(fill_template(template, caller)?)
}

fn payload_of(format: Format, value: &TypedValue) -> Result<Payload, EncodeError> {
    let Some(payload) = &value.value else {
        return Ok(Payload::EMPTY);
    };
    if format == Format::Raw {
        return Ok(payload.clone());
    }
    let typename = || value.typename.to_string();
    match Builtin::decode(&value.typename, payload) {
        Some(Err(_)) => Err(EncodeError::NotOfItsType { typename: typename() }),
        Some(Ok(builtin)) => {
            text_of(format, builtin).ok_or_else(|| EncodeError::NotNumber { typename: typename() })
        }
        None => {
            match format {
                Format::Text => {
                    std::str::from_utf8(payload)
                        .map_err(|_| EncodeError::NotUtf8 { typename: typename() })?;
                }
                Format::Json => {
                    let _: IgnoredAny = serde_json::from_slice(payload).map_err(|error| {
                        EncodeError::NotJson { typename: typename(), cause: error.to_string() }
                    })?;
                }
                Format::Number => return Err(EncodeError::NotNumber { typename: typename() }),
                Format::Raw => {}
            }
            Ok(payload.clone())
        }
    }
}

/// `None` if the format cannot carry the value: JSON has no infinity, a bool or a text is no number.
fn text_of(format: Format, value: Builtin<'_>) -> Option<Payload> {
    let finite = match value {
        Builtin::Float(value) => value.is_finite(),
        Builtin::Double(value) => value.is_finite(),
        _ => true,
    };
    let numeric = !matches!(value, Builtin::Bool(_) | Builtin::Text(_));
    match (format, value) {
        (Format::Number, _) if !numeric || !finite => None,
        (Format::Json, _) if !finite => None,
        (Format::Json, Builtin::Text(text)) => serde_json::to_vec(text).ok().map(Payload::from),
        (_, Builtin::Text(text)) => Some(Payload::copy_from(text.as_bytes())),
        _ => {
            let mut text = SmolStrBuilder::new();
            write!(text, "{value}").ok()?;
            Some(Payload::copy_from(text.as_str().as_bytes()))
        }
    }
}

/// The type name of StateFun's record for Kafka egresses.
pub const KAFKA_PRODUCER_RECORD: &str = "type.googleapis.com/io.statefun.sdk.egress.KafkaProducerRecord";
