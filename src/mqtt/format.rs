//! What does a PUBLISH mean, and what does a value look like as one? Pure conversions, both ways.
//!
//! In: [`record_of`] finds the id, the message id, the headers and the typed value. Out: [`outbox_of`] takes a
//! `KafkaProducerRecord`, an [`MqttRecord`] or any other value that the egress's topic template and format can carry.
//!
//! | format | payload in → value | value → payload out |
//! |---|---|---|
//! | `raw` | the bytes | the bytes |
//! | `text` | UTF-8 → `io.statefun.types/string`, or the same bytes under a type of one's own | a built-in as plain text; else the bytes, which are UTF-8 |
//! | `number` | a decimal number → `io.statefun.types/double`, or `int`, `long`, `float` | a numeric built-in as plain text |
//! | `json` | the bytes, which are JSON | a built-in as JSON; else the bytes, which are JSON |
//!
//! - An absent value goes out as an empty payload, in every format; with the retain flag it clears the topic, as MQTT has it.
//! - A JSON number that is no integer, or none of 64 bits, is no id: two of them could look the same.
//! - An error here is a dead letter of the ingress or egress; nothing is guessed.

mod inbound;
mod outbound;

pub use inbound::{DecodeError, Decoded, record_of};
pub use outbound::{EncodeError, KAFKA_PRODUCER_RECORD, outbox_of};

#[cfg(doc)]
use crate::egress::MqttRecord;

#[cfg(test)]
mod tests;
