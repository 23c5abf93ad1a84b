//! What should have come out, and what is wrong with what did?
//!
//! The n-th message to an id carries the number n, and the counting function answers `<its count> <the number>` on that id's topic. If every
//! message was counted once and in order, an id's answers read `1 1`, `2 2`, … up to the last, once each.

use std::collections::{BTreeMap, BTreeSet};

use super::subscriber::Record;

/// Compares what an id's topic got with `1 1` to `n n`. Lists what differs: at most a few lines per topic and in all.
pub fn check(records: &[Record], expected: &BTreeMap<String, u64>) -> Result<(), String> {
    const COMPLAINTS_MAX: usize = 20;
    let mut complaints = Vec::new();
    let mut by_topic: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_topic.entry(&record.topic).or_default().push(record);
    }
    for (topic, count) in expected {
        let got = by_topic.remove(topic.as_str()).unwrap_or_default();
        let mut wanted = 0;
        for record in &got {
            wanted += 1;
            if record.text().trim_end() != format!("{wanted} {wanted}") {
                complaints.push(format!(
                    "{topic}: {:?} (dup {}) instead of {wanted}",
                    record.text(),
                    record.dup
                ));
                break;
            }
        }
        if got.len() as u64 != *count {
            complaints.push(format!("{topic}: {} records instead of {count}", got.len()));
        }
    }
    complaints.extend(by_topic.keys().map(|topic| format!("{topic}: nobody should have written there")));
    if complaints.is_empty() {
        return Ok(());
    }
    let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
    complaints.truncate(COMPLAINTS_MAX);
    Err(format!("{}\nand {more} more", complaints.join("\n")))
}

/// What a consumer of QoS 1 does: of several records with one message id it keeps the first. Records without an id are all kept.
pub fn without_repeats(records: &[Record], property: &str) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    let is_first = |record: &&Record| record.property(property).is_none_or(|id| seen.insert(id.to_owned()));
    records.iter().filter(is_first).cloned().collect()
}
