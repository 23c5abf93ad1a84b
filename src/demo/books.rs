//! Was every event counted exactly once, in order? What was sent is held against what the functions published.
//!
//! A function publishes its statistics at every reading, with the number of readings it has counted. So the records of one fridge
//! must say 1, 2, 3 …, the n-th with the n-th temperature sent and the mean of the first n. Nothing is deduplicated here; only with
//! QoS 1, which allows a record to be delivered twice, repeats are told apart by their message id and counted by themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::fridge::Statistics;

/// How many message ids are remembered to recognise repeats under QoS 1; more than a broker has under way.
const MESSAGE_IDS_MAX: usize = 10_000;
/// Means are computed in another order of operations here.
const TOLERANCE: f64 = 1e-6;

/// The books of a run.
#[derive(Debug, Default)]
pub(super) struct Books {
    fridges: BTreeMap<String, Account>,
    repeats: Repeats,
    pub(super) totals: Totals,
}

/// What a run comes to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Totals {
    /// Events published by the fridges.
    pub(super) sent: u64,
    /// Events that the functions say they have counted.
    pub(super) counted: u64,
    /// Numbers that were skipped and have not come since.
    pub(super) lost: u64,
    /// Numbers that came twice.
    pub(super) doubled: u64,
    /// Numbers that came after a greater one.
    pub(super) out_of_order: u64,
    /// Records whose contents are not what was sent: temperature, mean, or an alarm out of turn.
    pub(super) wrong: u64,
    /// Repeats that QoS 1 allows, recognised by their message id.
    pub(super) repeated: u64,
    /// Alarms raised.
    pub(super) alarms: u64,
}

/// What is known of one fridge from its records.
#[derive(Debug, Default, Clone)]
pub(super) struct Account {
    /// Readings sent whose record has not come, oldest first.
    waiting: VecDeque<f64>,
    missing: BTreeSet<u64>,
    sum: f64,
    /// The newest statistics.
    pub(super) statistics: Statistics,
    /// The number of the last alarm.
    pub(super) alarms: u64,
    /// Has it no all-clear yet?
    pub(super) is_alarmed: bool,
}

#[derive(Debug, Default)]
struct Repeats {
    order: VecDeque<String>,
    known: BTreeSet<String>,
}

impl Books {
    /// A fridge has published a reading.
    pub(super) fn on_sent(&mut self, fridge: &str, celsius: f64) {
        self.totals.sent += 1;
        let account = self.fridges.entry(fridge.to_owned()).or_default();
        account.waiting.push_back(celsius);
    }

    /// A record has come from the node; `message_id` only where the QoS allows repeats.
    pub(super) fn on_record(&mut self, topic: &str, payload: &[u8], message_id: Option<&str>) {
        if message_id.is_some_and(|id| self.repeats.is_repeat(id)) {
            self.totals.repeated += 1;
            return;
        }
        let mut levels = topic.split('/').skip(1);
        let (Some(fridge), Some(kind)) = (levels.next(), levels.next()) else {
            self.totals.wrong += 1;
            return;
        };
        let account = self.fridges.entry(fridge.to_owned()).or_default();
        match kind {
            "statistics" => match serde_json::from_slice(payload) {
                Ok(statistics) => account.on_statistics(statistics, &mut self.totals),
                Err(_) => self.totals.wrong += 1,
            },
            _ => account.on_alarm(payload, &mut self.totals),
        }
    }

    /// What is known of one fridge.
    pub(super) fn account(&self, fridge: &str) -> Option<&Account> {
        self.fridges.get(fridge)
    }

    /// Has every event been counted?
    pub(super) fn is_complete(&self) -> bool {
        self.totals.sent <= self.totals.counted
    }
}

impl Totals {
    /// Exactly once and in order?
    pub(super) fn is_balanced(&self) -> bool {
        let faults = [self.lost, self.doubled, self.out_of_order, self.wrong];
        0 < self.sent && self.sent == self.counted && faults == [0; 4]
    }
}

impl Account {
    fn on_statistics(&mut self, statistics: Statistics, totals: &mut Totals) {
        let number = statistics.count;
        let known = self.statistics.count;
        if number <= known {
            if self.missing.remove(&number) {
                totals.lost -= 1;
                totals.out_of_order += 1;
                totals.counted += 1;
            } else {
                totals.doubled += 1;
            }
            return;
        }
        for skipped in known + 1..number {
            self.missing.insert(skipped);
            totals.lost += 1;
            self.sum += self.waiting.pop_front().unwrap_or_default();
        }
        totals.counted += 1;
        let is_as_sent = match self.waiting.pop_front() {
            None => false,
            Some(sent) => {
                self.sum += sent;
                let mean = self.sum / number as f64;
                (statistics.last - sent).abs() < TOLERANCE && (statistics.mean - mean).abs() < TOLERANCE
            }
        };
        if !is_as_sent {
            totals.wrong += 1;
        }
        self.statistics = statistics;
    }

    /// Alarm 1, all clear 1, alarm 2, …
    fn on_alarm(&mut self, payload: &[u8], totals: &mut Totals) {
        let text = String::from_utf8_lossy(payload);
        let head = text.split(':').next().unwrap_or_default();
        let turn = if self.is_alarmed {
            format!("all clear {}", self.alarms)
        } else {
            format!("alarm {}", self.alarms + 1)
        };
        if head != turn {
            totals.wrong += 1;
            return;
        }
        if !self.is_alarmed {
            self.alarms += 1;
            totals.alarms += 1;
        }
        self.is_alarmed = !self.is_alarmed;
    }
}

impl Repeats {
    fn is_repeat(&mut self, message_id: &str) -> bool {
        if !self.known.insert(message_id.to_owned()) {
            return true;
        }
        self.order.push_back(message_id.to_owned());
        if MESSAGE_IDS_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings 1.0, 2.0, … are sent; records of these numbers come.
    fn totals_of(sent: u64, numbers: &[u64]) -> Totals {
        let mut books = Books::default();
        for number in 1..=sent {
            books.on_sent("a", number as f64);
        }
        for number in numbers {
            books.on_record("fridge/a/statistics", &record(*number, *number as f64), None);
        }
        books.totals
    }

    fn record(count: u64, last: f64) -> Vec<u8> {
        let mean = (count + 1) as f64 / 2.0;
        let statistics = Statistics { count, mean, last, ..Statistics::default() };
        serde_json::to_vec(&statistics).unwrap()
    }

    #[test]
    fn books_balance_if_all_came_once_in_order() {
        assert!(totals_of(3, &[1, 2, 3]).is_balanced());
    }

    #[test]
    fn books_tell_lost_doubled_and_out_of_order() {
        assert!(!totals_of(0, &[]).is_balanced());
        assert!(!totals_of(3, &[1, 2]).is_balanced());
        let lost = totals_of(3, &[1, 3]);
        assert_eq!((lost.lost, lost.is_balanced()), (1, false));
        let doubled = totals_of(3, &[1, 2, 2, 3]);
        assert_eq!((doubled.doubled, doubled.is_balanced()), (1, false));
        let swapped = totals_of(3, &[1, 3, 2]);
        assert_eq!((swapped.out_of_order, swapped.lost, swapped.is_balanced()), (1, 0, false));
        assert!(!totals_of(3, &[1, 2, 3, 4]).is_balanced());
    }

    #[test]
    fn books_tell_other_contents() {
        let mut books = Books::default();
        books.on_sent("a", 5.0);
        books.on_record("fridge/a/statistics", &record(1, 6.0), None);
        assert_eq!(books.totals.wrong, 1);
    }

    #[test]
    fn an_alarm_out_of_turn_is_wrong() {
        let mut books = Books::default();
        for text in ["alarm 1: 9 °C", "all clear 1: 5 °C", "alarm 2: 9 °C"] {
            books.on_record("fridge/a/alarm", text.as_bytes(), None);
        }
        assert_eq!((books.totals.wrong, books.totals.alarms), (0, 2));
        for text in ["alarm 2: 9 °C", "all clear 1: 5 °C"] {
            books.on_record("fridge/a/alarm", text.as_bytes(), None);
        }
        assert_eq!(books.totals.wrong, 2);
    }

    #[test]
    fn a_repeat_is_forgiven_only_by_its_message_id() {
        let mut books = Books::default();
        books.on_sent("a", 1.0);
        for _ in 0..2 {
            books.on_record("fridge/a/statistics", &record(1, 1.0), Some("1-1"));
        }
        assert_eq!((books.totals.repeated, books.totals.doubled), (1, 0));
        books.on_record("fridge/a/statistics", &record(1, 1.0), Some("1-2"));
        assert_eq!(books.totals.doubled, 1);
    }
}
