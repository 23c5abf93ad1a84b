//! What does a session leave behind? The values of its keys, and what a start makes of them.
//!
//! minicbor maps with numbered fields (docs/formats/session-values.md): they outlive an upgrade.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::config::Qos;
use super::io::{MessageId, OutboxRecord};
use super::progress::Progress;
use crate::state::key::{Direction, Key};

/// Kind `Session`: written by session records only.
#[derive(Encode, Decode, Clone, PartialEq, Debug, Default)]
#[cbor(map)]
pub(super) struct SessionValue {
    /// 0 before the first.
    #[n(0)]
    pub(super) incarnation: u64,
    /// The subscriptions that the broker holds, by filter.
    #[n(1)]
    pub(super) held: Vec<Held>,
}

/// A subscription that the broker has confirmed.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
#[cbor(map)]
pub(super) struct Held {
    #[n(0)]
    pub(super) filter: String,
    /// What was asked for.
    #[n(1)]
    pub(super) asked: u8,
    /// What was granted.
    #[n(2)]
    pub(super) granted: u8,
}

/// Kind `Accepted`.
#[derive(Encode, Decode, Clone, Copy, PartialEq, Debug)]
#[cbor(map)]
pub(super) struct AcceptedValue {
    #[n(0)]
    pub(super) packet_id: u16,
    /// Of topic and payload, for the guard.
    #[n(1)]
    pub(super) hash: u64,
}

/// Kind `Outbox`.
#[derive(Encode, Decode)]
#[cbor(map)]
struct OutboxValue<'a> {
    #[b(0)]
    topic: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    payload: &'a [u8],
    #[n(2)]
    qos: u8,
    #[n(3)]
    retain: bool,
    #[b(4)]
    message_id: &'a str,
    #[b(5)]
    properties: Vec<(&'a str, &'a str)>,
}

/// Appends `value`.
pub(super) fn encode(value: &impl Encode<()>, out: &mut Vec<u8>) {
    if minicbor::encode(value, out).is_err() {
        unreachable!("writing to memory does not fail")
    }
}

/// Appends the value of an outbox entry.
pub(super) fn encode_outbox(record: &OutboxRecord, out: &mut Vec<u8>) {
    let value = OutboxValue {
        topic: &record.topic,
        payload: &record.payload,
        qos: record.qos as u8,
        retain: record.retain,
        message_id: record.message_id.as_str(),
        properties: record.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    };
    encode(&value, out);
}

fn decode_outbox(bytes: &[u8]) -> Option<OutboxRecord> {
    let value: OutboxValue<'_> = minicbor::decode(bytes).ok()?;
    Some(OutboxRecord {
        topic: value.topic.into(),
        payload: value.payload.into(),
        qos: match value.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            _ => return None,
        },
        retain: value.retain,
        message_id: MessageId::from_text(value.message_id)?,
        properties: value
            .properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}

/// What the store knows of one session: its keys, taken one by one.
#[derive(Default, Debug)]
pub struct RecoveredSession {
    pub(super) session: SessionValue,
    pub(super) progress: BTreeMap<(u64, Direction), Progress>,
    pub(super) accepted: BTreeMap<(u64, u64), AcceptedValue>,
    pub(super) outbox: BTreeMap<(u64, u64), OutboxRecord>,
    /// Values that could not be read; the session tells of them.
    pub(super) unreadable: u64,
}

impl RecoveredSession {
    /// Takes one key of kind `Session`, `Progress`, `Accepted` or `Outbox`; other kinds are ignored. Base first, then the log
    /// in order: a later call replaces an earlier one, and `None` (or an empty value) deletes.
    pub fn take(&mut self, key: &Key<'_>, value: Option<&[u8]>) {
        let value = value.filter(|value| !value.is_empty());
        let unreadable = &mut self.unreadable;
        match *key {
            Key::Session { .. } => {
                self.session =
                    read(value, unreadable, |bytes| minicbor::decode(bytes).ok()).unwrap_or_default();
            }
            Key::Progress { incarnation, direction, .. } => replace(
                &mut self.progress,
                (incarnation, direction),
                read(value, unreadable, Progress::decode),
            ),
            Key::Accepted { incarnation, number, .. } => replace(
                &mut self.accepted,
                (incarnation, number),
                read(value, unreadable, |bytes| minicbor::decode(bytes).ok()),
            ),
            Key::Outbox { incarnation, number, .. } => {
                replace(&mut self.outbox, (incarnation, number), read(value, unreadable, decode_outbox))
            }
            _ => {}
        }
    }
}

fn read<T>(value: Option<&[u8]>, unreadable: &mut u64, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let bytes = value?;
    let decoded = decode(bytes);
    *unreadable += u64::from(decoded.is_none());
    decoded
}

fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_these_bytes() {
        let mut out = Vec::new();
        let session =
            SessionValue { incarnation: 3, held: vec![Held { filter: "a/+".into(), asked: 2, granted: 1 }] };
        encode(&session, &mut out);
        assert_eq!(out, b"\xA2\x00\x03\x01\x81\xA3\x00\x63a/+\x01\x02\x02\x01");
        assert_eq!(minicbor::decode::<SessionValue>(&out).unwrap(), session);
        out.clear();
        encode(&AcceptedValue { packet_id: 513, hash: 7 }, &mut out);
        assert_eq!(out, [0xA2, 0, 0x19, 2, 1, 1, 7]);
        out.clear();
        let record = OutboxRecord {
            topic: "t".into(),
            payload: b"xy"[..].into(),
            qos: Qos::ExactlyOnce,
            retain: true,
            message_id: MessageId::from_text("m").unwrap(),
            properties: vec![("a".into(), "b".into())],
        };
        encode_outbox(&record, &mut out);
        assert_eq!(out, b"\xA6\x00\x61t\x01\x42xy\x02\x02\x03\xF5\x04\x61m\x05\x81\x82\x61a\x61b");
        assert_eq!(decode_outbox(&out), Some(record));
    }

    #[test]
    fn later_calls_win_and_none_deletes() {
        let mut recovered = RecoveredSession::default();
        let key = Key::Accepted { id: "s", incarnation: 1, number: 4 };
        recovered.take(&key, Some(&[0xA2, 0, 1, 1, 7]));
        recovered.take(&key, Some(&[0xA2, 0, 2, 1, 7]));
        assert_eq!(recovered.accepted[&(1, 4)].packet_id, 2);
        recovered.take(&key, None);
        assert!(recovered.accepted.is_empty());
        recovered.take(&key, Some(&[0xFF]));
        assert_eq!(recovered.unreadable, 1);
    }
}
