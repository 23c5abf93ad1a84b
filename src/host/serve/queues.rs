//! What waits to be fetched? A queue of texts for each topic of the playground's egress, bounded in records and bytes.

use std::collections::{BTreeMap, VecDeque};

use crate::typed_value::TypedValue;

/// Records that wait in all queues together; what comes then is dropped and counted. StateFun's playground holds 2^20 a topic.
pub(super) const FETCHABLE_RECORDS_MAX: usize = if cfg!(test) { 4 } else { 65_536 };
/// Bytes of the records that wait, together with [`RECORD_BYTES`] for each; the most that a forgotten playground costs.
pub(super) const FETCHABLE_BYTES_MAX: usize = if cfg!(test) { 400 } else { 4 * 1024 * 1024 };
/// What a record costs beside its text, in bytes, about.
const RECORD_BYTES: usize = 32;

/// The queues of one egress.
#[derive(Debug, Default)]
pub(super) struct Queues {
    topics: BTreeMap<String, VecDeque<String>>,
    records: usize,
    bytes: usize,
    dropped: u64,
}

impl Queues {
    pub(super) fn new(topics: &[String]) -> Self {
        let topics = topics.iter().map(|topic| (topic.clone(), VecDeque::new())).collect();
        Self { topics, ..Self::default() }
    }

    /// Lets a record wait; why not, for a person.
    pub(super) fn push(&mut self, value: &TypedValue) -> Result<(), String> {
        let pushed = self.try_push(value);
        self.dropped += u64::from(pushed.is_err());
        pushed
    }

    fn try_push(&mut self, value: &TypedValue) -> Result<(), String> {
        if value.typename != EGRESS_RECORD {
            return Err(format!("a value of type `{}`; `{EGRESS_RECORD}` is fetched", value.typename));
        }
        let record: EgressRecord = serde_json::from_slice(value.bytes())
            .map_err(|error| format!("an `{EGRESS_RECORD}` that is none: {error}"))?;
        let bytes = record.payload.len() + RECORD_BYTES;
        let Some(queue) = self.topics.get_mut(&record.topic) else {
            return Err(format!("the topic `{}`, which the egress does not name", record.topic));
        };
        if FETCHABLE_RECORDS_MAX <= self.records || FETCHABLE_BYTES_MAX - self.bytes < bytes {
            return Err(format!("nobody fetches: {} records wait", self.records));
        }
        queue.push_back(record.payload);
        self.records += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The oldest of a topic; `Err` if there is no such topic.
    pub(super) fn pop(&mut self, topic: &str) -> Result<Option<String>, Vec<&str>> {
        let Some(queue) = self.topics.get_mut(topic) else {
            return Err(self.topics.keys().map(String::as_str).collect());
        };
        let popped = queue.pop_front();
        if let Some(payload) = &popped {
            self.records -= 1;
            self.bytes -= payload.len() + RECORD_BYTES;
        }
        Ok(popped)
    }

    /// Waiting, their bytes, and dropped since the start.
    pub(super) fn status(&self) -> (usize, usize, u64) {
        (self.records, self.bytes, self.dropped)
    }
}

/// What functions send to the playground's egress.
const EGRESS_RECORD: &str = "io.statefun.playground/EgressRecord";

#[derive(serde::Deserialize)]
struct EgressRecord {
    topic: String,
    payload: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: &str, payload: &str) -> TypedValue {
        let json = serde_json::json!({ "topic": topic, "payload": payload }).to_string();
        TypedValue::new(EGRESS_RECORD, json.into_bytes())
    }

    fn queues() -> Queues {
        Queues::new(&["a".to_owned(), "b".to_owned()])
    }

    #[test]
    fn each_record_is_fetched_once_in_order_by_topic() {
        let mut queues = queues();
        for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3")] {
            queues.push(&record(topic, payload)).unwrap();
        }
        assert_eq!(queues.pop("a"), Ok(Some("1".to_owned())));
        assert_eq!(queues.pop("a"), Ok(Some("3".to_owned())));
        assert_eq!(queues.pop("a"), Ok(None));
        assert_eq!(queues.pop("c"), Err(vec!["a", "b"]));
        assert_eq!(queues.status(), (1, 33, 0));
    }

    #[test]
    fn what_nobody_fetches_is_bounded_and_counted() {
        let mut queues = queues();
        for _ in 0..FETCHABLE_RECORDS_MAX {
            queues.push(&record("a", "x")).unwrap();
        }
        assert!(queues.push(&record("b", "x")).unwrap_err().contains("nobody fetches"));
        queues.pop("a").unwrap();
        assert!(queues.push(&record("b", &"x".repeat(FETCHABLE_BYTES_MAX))).is_err());
        queues.push(&record("b", "y")).unwrap();
        assert_eq!(queues.status().2, 2);
        assert_eq!(queues.pop("b"), Ok(Some("y".to_owned())));
    }

    #[test]
    fn what_is_no_record_of_the_egress_is_counted() {
        let mut queues = queues();
        for wrong in ["hi".into(), record("c", "x"), TypedValue::new(EGRESS_RECORD, &b"{}"[..])] {
            assert!(queues.push(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(queues.status(), (0, 0, 3));
    }
}
