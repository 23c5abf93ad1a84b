//! What does the broker get of an outbox record?

use super::super::codec::PublishRef;
use super::super::config::Qos;
use super::super::io::{MessageId, OutboxRecord};
use super::super::wire::Wire;
use super::Peer;

/// Response topic, correlation data and user properties of a record.
pub(super) struct Split<'a> {
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    /// User properties begin here: the reserved ones come first.
    user: &'a [(String, String)],
}

pub(super) fn split(record: &OutboxRecord) -> Split<'_> {
    let reserved = record
        .properties
        .iter()
        .take_while(|(name, _)| name == RESPONSE_TOPIC || name == CORRELATION_DATA)
        .count();
    let (reserved, user) = record.properties.split_at(reserved);
    let find =
        |wanted: &str| reserved.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    Split {
        response_topic: find(RESPONSE_TOPIC),
        correlation_data: find(CORRELATION_DATA).map(str::as_bytes),
        user,
    }
}

pub(super) fn borrowed<'a>(
    record: &'a OutboxRecord,
    qos: Qos,
    dup: bool,
    id: u16,
    peer: &Peer,
    split: &Split<'a>,
) -> PublishRef<'a> {
    PublishRef {
        dup,
        qos,
        retain: record.retain && peer.retain_available,
        id,
        topic: record.topic.as_bytes(),
        payload: &record.payload,
        response_topic: split.response_topic,
        correlation_data: split.correlation_data,
        user_properties: split.user,
        message_id: (record.message_id != MessageId::NONE).then(|| record.message_id.as_str()),
    }
}

pub(super) fn publish(record: &OutboxRecord, qos: Qos, dup: bool, id: u16, peer: &Peer, wire: &mut Wire) {
    if record.retain && !peer.retain_available {
        wire.event("retain-unavailable", format!("{} is published without retain", record.topic));
    }
    wire.publish(&borrowed(record, qos, dup, id, peer, &split(record)));
}

/// Bytes beside the record itself, about.
pub(super) fn record_bytes(record: &OutboxRecord) -> usize {
    let properties = record.properties.iter();
    let topic = if record.topic.is_heap_allocated() { record.topic.len() } else { 0 };
    topic
        + record.payload.heap_bytes()
        + properties.map(|(name, value)| name.len() + value.len() + 2 * size_of::<String>()).sum::<usize>()
}

/// Reserved names among a record's properties; they come first.
const RESPONSE_TOPIC: &str = "response-topic";
const CORRELATION_DATA: &str = "correlation-data";
