//! What does a PUBLISH mean? Its id, message id, headers and typed value.

use std::sync::Arc;

use serde::de::IgnoredAny;
use smol_str::{SmolStr, ToSmolStr};

use crate::address::TypeName;
use crate::limits::{ID_BYTES_MAX, MESSAGE_ID_BYTES_MAX, SCOPE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::message::{Headers, IngressRecord};
use crate::mqtt::builtin::{Builtin, DOUBLE, FLOAT, INT, LONG, STRING};
use crate::mqtt::config::{Format, IdSource, MessageIdSource, Scope, Subscription};
use crate::mqtt::session::ReceivedPublish;
use crate::payload::Payload;
use crate::typed_value::TypedValue;

/// A record, and what tells it from a repeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The record.
    pub record: IngressRecord,
    /// (scope, id) of the message if the subscription says where it is. A scope is unique within the ingress only.
    pub message_id: Option<(Vec<u8>, Vec<u8>)>,
}

/// Makes a record of a PUBLISH that came for `subscription`.
///
/// # Errors
/// If the PUBLISH is not what the subscription says; the record is then a dead letter.
pub fn record_of(
    subscription: &Subscription,
    ingress: &TypeName,
    publish: &ReceivedPublish,
) -> Result<Decoded, DecodeError> {
    if VALUE_BYTES_MAX < publish.payload.len() {
        return Err(DecodeError::TooLong {
            what: "the payload",
            bytes: publish.payload.len(),
            bytes_max: VALUE_BYTES_MAX,
        });
    }
    let source = Source::new(subscription, publish)?;
    let id = match &subscription.id {
        IdSource::None => None,
        wanted => Some(bounded("the id", source.find(wanted)?, ID_BYTES_MAX)?),
    };
    let message_id = match &subscription.message_id {
        None => None,
        Some(wanted) => Some(source.message_id(wanted)?),
    };
    Ok(Decoded {
        record: IngressRecord {
            ingress: ingress.clone(),
            id,
            value: value_of(subscription, publish)?,
            headers: Arc::new(headers_of(subscription, publish)?),
        },
        message_id,
    })
}

/// A PUBLISH that is not what its subscription says. The publisher's fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The broker sent a topic that the pattern does not take.
    #[error("the topic `{topic}` is none of `{pattern}`")]
    Topic {
        /// What came.
        topic: String,
        /// What was subscribed to.
        pattern: String,
    },
    /// Longer than the store takes.
    #[error("{what} has {bytes} bytes, at most {bytes_max} are taken")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// `text` or `number` that is not UTF-8.
    #[error("the payload is not UTF-8")]
    NotUtf8,
    /// `json` that is not JSON.
    #[error("the payload is not JSON: {cause}")]
    NotJson {
        /// What the parser says, with line and column.
        cause: String,
    },
    /// `number` that is none.
    #[error("`{text}` is not a decimal number")]
    NotNumber {
        /// The payload, or its beginning.
        text: String,
    },
    /// A number that the type cannot hold.
    #[error("`{text}` does not fit {typename}")]
    NumberRange {
        /// The payload, or its beginning.
        text: String,
        /// The type asked for.
        typename: &'static str,
    },
    /// The JSON pointer points nowhere.
    #[error("there is nothing at the JSON pointer `{pointer}`")]
    PointerMissing {
        /// The pointer.
        pointer: String,
    },
    /// What the JSON pointer points at cannot be an id.
    #[error("at the JSON pointer `{pointer}` is no string, bool or integer of 64 bits")]
    PointerNotId {
        /// The pointer.
        pointer: String,
    },
    /// The record lacks the user property.
    #[error("there is no user property `{name}`")]
    PropertyMissing {
        /// Its name.
        name: String,
    },
    /// The pattern lacks the capture; load refuses this, so it is seen only with a hand-made configuration.
    #[error("the topic has no capture `{name}`")]
    CaptureMissing {
        /// Its name.
        name: String,
    },
}

/// Where ids are looked for; the payload is parsed once, and only if a pointer asks for it.
struct Source<'a> {
    subscription: &'a Subscription,
    publish: &'a ReceivedPublish,
    json: Option<serde_json::Value>,
}

impl<'a> Source<'a> {
    fn new(subscription: &'a Subscription, publish: &'a ReceivedPublish) -> Result<Self, DecodeError> {
        let points = |source: &IdSource| matches!(source, IdSource::JsonPointer(_));
        let wanted = points(&subscription.id)
            || subscription.message_id.as_ref().is_some_and(|message_id| points(&message_id.source));
        let json =
            if wanted { Some(serde_json::from_slice(&publish.payload).map_err(not_json)?) } else { None };
        Ok(Self { subscription, publish, json })
    }

    fn find(&self, wanted: &IdSource) -> Result<SmolStr, DecodeError> {
        match wanted {
            IdSource::Capture(name) => self.capture(name).map(SmolStr::from),
            IdSource::JsonPointer(pointer) => self.pointed(pointer),
            IdSource::Property(wanted) => self
                .publish
                .user_properties
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into())
                .ok_or_else(|| DecodeError::PropertyMissing { name: wanted.clone() }),
            IdSource::None => Ok(SmolStr::default()),
        }
    }

    fn message_id(&self, wanted: &MessageIdSource) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
        let scope = match &wanted.scope {
            Scope::Ingress => "",
            Scope::Topic => &*self.publish.topic,
            Scope::Capture(name) => self.capture(name)?,
        };
        let scope = bounded("the scope of the message id", scope, SCOPE_BYTES_MAX)?;
        let id = bounded("the message id", self.find(&wanted.source)?, MESSAGE_ID_BYTES_MAX)?;
        Ok((scope.as_bytes().to_vec(), id.as_bytes().to_vec()))
    }

    fn capture(&self, wanted: &str) -> Result<&'a str, DecodeError> {
        let pattern = &self.subscription.pattern;
        let mut captures = pattern.captures(&self.publish.topic).ok_or_else(|| DecodeError::Topic {
            topic: self.publish.topic.to_string(),
            pattern: pattern.text.clone(),
        })?;
        captures
            .find(|(name, _)| *name == wanted)
            .map(|(_, part)| part)
            .ok_or_else(|| DecodeError::CaptureMissing { name: wanted.to_owned() })
    }

    fn pointed(&self, pointer: &str) -> Result<SmolStr, DecodeError> {
        let found = self.json.as_ref().and_then(|json| json.pointer(pointer));
        match found {
            None => Err(DecodeError::PointerMissing { pointer: pointer.to_owned() }),
            Some(serde_json::Value::String(text)) => Ok(text.into()),
            Some(serde_json::Value::Bool(truth)) => Ok(truth.to_smolstr()),
            Some(serde_json::Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Ok(number.to_smolstr())
            }
            Some(_) => Err(DecodeError::PointerNotId { pointer: pointer.to_owned() }),
        }
    }
}

fn headers_of(subscription: &Subscription, publish: &ReceivedPublish) -> Result<Headers, DecodeError> {
    let captures = subscription.pattern.captures(&publish.topic).ok_or_else(|| DecodeError::Topic {
        topic: publish.topic.to_string(),
        pattern: subscription.pattern.text.clone(),
    })?;
    let mut headers = Headers::new();
    headers.push("topic", publish.topic.as_bytes());
    headers.push("retained", if publish.retain { "true" } else { "false" }.as_bytes());
    headers.push("qos", [b'0' + publish.qos as u8].as_slice());
    if let Some(topic) = &publish.response_topic {
        headers.push("response-topic", topic.as_bytes());
    }
    if let Some(data) = &publish.correlation_data {
        headers.push("correlation-data", data.clone());
    }
    let mut name = String::new();
    for (capture, part) in captures {
        headers.push(prefixed(&mut name, "capture.", capture), part.as_bytes());
    }
    for (property, value) in &publish.user_properties {
        headers.push(prefixed(&mut name, "property.", property), value.as_bytes());
    }
    Ok(headers)
}

fn prefixed<'a>(name: &'a mut String, prefix: &str, rest: &str) -> &'a str {
    name.clear();
    name.push_str(prefix);
    name.push_str(rest);
    name
}

fn value_of(subscription: &Subscription, publish: &ReceivedPublish) -> Result<TypedValue, DecodeError> {
    let named = subscription.value_type.clone();
    let payload = &publish.payload;
    match subscription.format {
        Format::Raw => Ok(TypedValue::new(named.unwrap_or_default(), payload.clone())),
        Format::Json => {
            let _: IgnoredAny = serde_json::from_slice(payload).map_err(not_json)?;
            Ok(TypedValue::new(named.unwrap_or_default(), payload.clone()))
        }
        Format::Text => {
            let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?;
            match named {
                Some(typename) if typename != STRING => Ok(TypedValue::new(typename, payload.clone())),
                _ => Ok(builtin(Builtin::Text(text))),
            }
        }
        Format::Number => {
            let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?;
            number(text.trim_ascii(), named.as_deref().unwrap_or(DOUBLE)).map(builtin)
        }
    }
}

fn builtin(value: Builtin<'_>) -> TypedValue {
    TypedValue::new(SmolStr::new_static(value.typename()), Payload::from(value.encode()))
}

/// A decimal number: Rust would also take `inf`, `nan` and the like, which no sensor means.
fn number(text: &str, typename: &str) -> Result<Builtin<'static>, DecodeError> {
    let not_number = || DecodeError::NotNumber { text: beginning(text) };
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return Err(not_number());
    }
    let real: f64 = text.parse().map_err(|_| not_number())?;
    let out_of = |typename| DecodeError::NumberRange { text: beginning(text), typename };
    match typename {
        INT => text.parse().map(Builtin::Int).map_err(|_| out_of(INT)),
        LONG => text.parse().map(Builtin::Long).map_err(|_| out_of(LONG)),
        FLOAT => match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(Builtin::Float(value)),
            _ => Err(out_of(FLOAT)),
        },
        _ if real.is_finite() => Ok(Builtin::Double(real)),
        _ => Err(out_of(DOUBLE)),
    }
}

fn not_json(error: serde_json::Error) -> DecodeError {
    DecodeError::NotJson { cause: error.to_string() }
}

/// Enough of a text to recognise it.
fn beginning(text: &str) -> String {
    text.chars().take(BEGINNING_CHARACTERS).collect()
}

fn bounded<T: AsRef<str>>(what: &'static str, text: T, bytes_max: usize) -> Result<T, DecodeError> {
    let bytes = text.as_ref().len();
    if bytes_max < bytes {
        return Err(DecodeError::TooLong { what, bytes, bytes_max });
    }
    Ok(text)
}

const BEGINNING_CHARACTERS: usize = 40;
