//! What is measured of a node? The status, told once more: as a page in Prometheus's text format (version 0.0.4), or as values by topic.
//!
//! Nothing is counted for it alone that costs anything: counters are plain numbers where the thing happens, and this page is made when
//! it is asked for. What StateFun measures has StateFun's words, as `functions_<word>` with the labels `namespace` and `name`:
//! `functions.shop.cart.outLocal` is `functions_out_local_total{namespace="shop",name="cart"}`. All else begins with `fogfun_`.
//!
//! Invariants:
//! - A family's samples stand together under its HELP and TYPE; a family without samples is left out.
//! - Counters begin at zero with the process. Times are in seconds, sizes in bytes.
//! - Both forms come from the same samples: what one has, the other has under the same name. Topics leave out buckets and add up workers.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// Upper bounds of a histogram's buckets, in microseconds; one bucket more is for all beyond. From an SSD's sync to a stalling card.
pub const BUCKET_BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// How long something took, by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// How many fell into each bucket, and beyond the last.
    counts: [u64; BUCKET_BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Histogram {
    /// One more, so long in microseconds.
    pub fn observe(&mut self, micros: u64) {
        let bucket = BUCKET_BOUNDS_US.partition_point(|&bound| bound < micros);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(micros);
    }
}

/// The page, from the answer to `status`; `board` is what the operating system says of the board.
#[must_use]
pub fn page(status: &Value, board: &Board) -> String {
    let mut page = Page(String::new());
    tell(status, board, &mut page);
    page.0
}

/// The same by topic, in order: a metric's name, then a level for each label but the worker, over which values are added up;
/// `functions_in_total/shop/cart`. What cannot stand in a level is percent-encoded. Of a histogram there are sum and count.
#[must_use]
pub fn values(status: &Value, board: &Board) -> BTreeMap<String, f64> {
    let mut topics = Topics(BTreeMap::new());
    tell(status, board, &mut topics);
    topics.0
}

/// Tells every sample to `sink`, family by family.
fn tell(status: &Value, board: &Board, sink: &mut dyn Sink) {
    let mut teller = Teller { sink };
    teller.node(&status["node"]);
    teller.board(board);
    let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for &(field, kind, name, help) in WORKER {
        let of = |worker: &Value| Some((vec![own(worker)], number(&worker[field])?));
        teller.family(name, kind, help, &mut workers.iter().filter_map(of));
    }
    let mut counted = workers.iter().flat_map(|worker| {
        pairs(&worker["counters"]).filter_map(move |(name, value)| {
            Some((vec![own(worker), ("counter", name.to_owned())], number(value)?))
        })
    });
    let help = "What a worker counts, by name: see docs/operating/alarms.md.";
    teller.family("fogfun_counted_total", "counter", help, &mut counted);
    teller.parts(workers, "sessions", SESSION, |_, session| vec![("session", text(&session["name"]))]);
    let mut connected = parts(workers, "sessions").map(|(_, session)| {
        let is_connected = session["connection"] == "connected";
        (vec![("session", text(&session["name"]))], f64::from(u8::from(is_connected)))
    });
    let help = "Is the session connected to its broker?";
    teller.family("fogfun_session_connected", "gauge", help, &mut connected);
    teller.parts(workers, "endpoints", ENDPOINT, |worker, endpoint| {
        vec![own(worker), ("url", text(&endpoint["url"]))]
    });
    teller.parts(workers, "functions", FUNCTION, of_function);
    let latencies = parts(workers, "functions")
        .filter(|(_, function)| function["remote_invocation_latency"]["sum_us"] != 0)
        .map(|(worker, function)| (of_function(worker, function), &function["remote_invocation_latency"]));
    let help = "How long calls of remote functions took, each attempt by itself.";
    teller.histogram("functions_remote_invocation_latency_seconds", help, latencies);
}

/// What the operating system says of the board; what it does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Board {
    /// The processor's temperature in thousandths of a degree Celsius.
    pub temperature_milli: Option<i64>,
    /// The Raspberry Pi's flags of under-voltage and throttling.
    pub throttled: Option<u32>,
}

/// The Raspberry Pi's flags: bit now, name. What was so at any time since power came on is 16 bits higher.
pub const THROTTLED_FLAGS: [(u32, &str); 4] =
    [(0, "under-voltage"), (1, "frequency-capped"), (2, "throttled"), (3, "soft-temperature-limit")];

/// Field of the status, kind, name, help.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const NODE: &[Row] = &[
    ("/serving", "gauge", "fogfun_serving", "Does the node serve? 0 while it starts and stops."),
    ("/control/epoch_working", "gauge", "fogfun_epoch_working", "The epoch that is worked in."),
    ("/control/epoch_committed", "gauge", "fogfun_epoch_committed", "The last committed epoch."),
    ("/control/frames", "counter", "fogfun_frames_total", "Epochs that were written."),
    ("/control/folds", "counter", "fogfun_folds_total", "Folds of the log into the base."),
    ("/control/store_failures", "counter", "fogfun_store_failures_total", "Failed writes, syncs and folds."),
    ("/store/syncs", "counter", "fogfun_syncs_total", "Syncs of the log."),
    ("/store/bytes_written", "counter", "fogfun_store_bytes_written_total", "Bytes handed to write(2) for log and base."),
    ("/store/log_bytes", "gauge", "fogfun_log_bytes", "Bytes of the log; a start reads them."),
    ("/store/segments", "gauge", "fogfun_log_segments", "Segments of the log."),
    ("/outgoing_bytes", "gauge", "fogfun_outgoing_bytes", "Bytes that wait for sockets to take them."),
    ("/connections_closed_for_not_reading", "counter", "fogfun_connections_closed_for_not_reading_total", "Connections of brokers that did not read."),
    ("/http/connections_open", "gauge", "fogfun_http_connections_open", "Open connections to endpoints."),
    ("/http/calls", "counter", "fogfun_http_calls_total", "Requests to endpoints."),
];

#[rustfmt::skip]
const WORKER: &[Row] = &[
    ("memory_bytes", "gauge", "fogfun_memory_bytes", "Bytes on the worker's memory account."),
    ("memory_bytes_max", "gauge", "fogfun_memory_bytes_max", "The account's bound."),
    ("saturated", "gauge", "fogfun_saturated", "Does every address wait for memory?"),
    ("instances", "gauge", "fogfun_instances", "Addresses in memory."),
    ("messages_waiting", "gauge", "fogfun_messages_waiting", "Messages in mailboxes."),
    ("messages_spilled", "gauge", "fogfun_messages_spilled", "Of those, how many lie on storage only."),
    ("messages_unsent", "gauge", "fogfun_messages_unsent", "Messages that wait for a channel to another worker."),
    ("messages_delayed", "gauge", "fogfun_messages_delayed", "Delayed messages."),
    ("dead_letters", "gauge", "fogfun_dead_letters", "Dead letters that nobody has retried or dropped."),
    ("addresses_retrying", "gauge", "fogfun_addresses_retrying", "Addresses whose invocation failed and is tried again."),
    ("addresses_held", "gauge", "fogfun_addresses_held", "Addresses held until the states of their function are known."),
    ("calls_out", "gauge", "fogfun_calls_out", "Requests to remote functions that are out."),
    ("operations_running", "gauge", "fogfun_operations_running", "Operations that run."),
    ("operations_waiting", "gauge", "fogfun_operations_waiting", "Operations that have not begun."),
];

#[rustfmt::skip]
const SESSION: &[Row] = &[
    ("received", "counter", "fogfun_session_received_total", "Records received."),
    ("published", "counter", "fogfun_session_published_total", "Records published."),
    ("incarnation", "gauge", "fogfun_session_incarnation", "How often the broker has begun the session anew."),
    ("intake_open", "gauge", "fogfun_session_intake_open", "Are records taken in?"),
    ("accepted_unfinished", "gauge", "fogfun_session_accepted_unfinished", "Records accepted whose handshake is not over."),
    ("outbox_entries", "gauge", "fogfun_session_outbox_entries", "Records to publish."),
    ("outbox_in_flight", "gauge", "fogfun_session_outbox_in_flight", "Records published whose handshake is not over."),
];

#[rustfmt::skip]
const ENDPOINT: &[Row] = &[
    ("in_flight", "gauge", "fogfun_endpoint_in_flight", "Requests that are out at a URL."),
    ("waiting", "gauge", "fogfun_endpoint_waiting", "Addresses that wait to ask a URL."),
    ("failures", "gauge", "fogfun_endpoint_failures", "Attempts in a row that found a URL down."),
];

#[rustfmt::skip]
const FUNCTION: &[Row] = &[
    ("in", "counter", "functions_in_total", "Messages that a function has consumed."),
    ("out_local", "counter", "functions_out_local_total", "Messages sent to addresses of the same worker."),
    ("out_remote", "counter", "functions_out_remote_total", "Messages sent to addresses of other workers."),
    ("out_egress", "counter", "functions_out_egress_total", "Records sent to egresses."),
    ("invocation_failures", "counter", "functions_invocation_failures_total", "Invocations that failed, embedded or remote."),
    ("remote_invocation_failures", "counter", "functions_remote_invocation_failures_total", "Attempts at remote invocations that failed."),
    ("inflight_async_ops", "gauge", "functions_inflight_async_ops", "Requests to the function that are out."),
    ("num_blocked_address", "gauge", "functions_num_blocked_address", "Addresses that wait for a reply or for their turn to ask."),
    ("num_backlog", "gauge", "functions_num_backlog", "Messages that wait for the function."),
];

/// Names and values of a sample's labels.
type Labels = Vec<(&'static str, String)>;

/// Where samples go: a family's head, then its samples.
trait Sink {
    fn head(&mut self, name: &str, kind: &str, help: &str);
    fn sample(&mut self, name: &str, labels: &Labels, value: f64);
}

/// Prometheus's text.
struct Page(String);

impl Sink for Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _never = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &Labels, value: f64) {
        self.0.push_str(name);
        for (index, (label, of)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _never = write!(self.0, "{before}{label}=\"{}\"", escaped(of));
        }
        let _never = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Values by topic.
struct Topics(BTreeMap<String, f64>);

impl Sink for Topics {
    fn head(&mut self, _: &str, _: &str, _: &str) {}

    fn sample(&mut self, name: &str, labels: &Labels, value: f64) {
        if labels.iter().all(|(label, _)| *label != BUCKET_LABEL) {
            *self.0.entry(topic(name, labels)).or_default() += value;
        }
    }
}

fn topic(name: &str, labels: &Labels) -> String {
    let mut topic = name.to_owned();
    for (label, of) in labels.iter().filter(|(label, _)| *label != WORKER_LABEL) {
        topic.push('/');
        for letter in of.chars() {
            // A session's name is two levels, as a function's.
            let is_split = letter == '/' && *label != "session";
            if is_split || matches!(letter, '+' | '#' | '%') || letter.is_control() {
                let _never = write!(topic, "%{:02X}", u32::from(letter));
            } else {
                topic.push(letter);
            }
        }
    }
    topic
}

struct Teller<'a> {
    sink: &'a mut dyn Sink,
}

impl Teller<'_> {
    fn node(&mut self, node: &Value) {
        for &(path, kind, name, help) in NODE {
            self.single(name, kind, help, node.pointer(path).and_then(number));
        }
        let flags = [
            (
                "fogfun_degraded",
                "Were epochs lost, and has nobody accepted it?",
                node["degraded"].is_string(),
            ),
            ("fogfun_latched", "Has storage failed, so that nothing is written?", is_latched(node)),
            (
                "fogfun_clock_proven",
                "Was the kernel's clock synchronised?",
                node["control"]["clock"] == "proven",
            ),
        ];
        for (name, help, flag) in flags {
            self.single(name, "gauge", help, Some(f64::from(u8::from(flag))));
        }
        let events = node["events"].as_object().into_iter().flatten();
        let mut events =
            events.filter_map(|(kind, count)| Some((vec![("kind", kind.clone())], number(count)?)));
        let help = "What was worth a word, by kind: see docs/operating/alarms.md.";
        self.family("fogfun_events_total", "counter", help, &mut events);
        let commits = std::iter::once((Vec::new(), &node["control"]["commit_latency"]));
        self.histogram("fogfun_commit_seconds", "From the cut of an epoch to its commit.", commits);
    }

    fn board(&mut self, board: &Board) {
        #[expect(clippy::cast_precision_loss, reason = "a temperature is exact far below 2^53")]
        let celsius = board.temperature_milli.map(|milli| milli as f64 / 1000.0);
        self.single("fogfun_temperature_celsius", "gauge", "The processor's temperature.", celsius);
        let mut flags = board.throttled.into_iter().flat_map(|bits| {
            THROTTLED_FLAGS.into_iter().flat_map(move |(bit, flag)| {
                [(bit, "now"), (bit + 16, "since-power-on")].map(|(bit, when)| {
                    let labels = vec![("flag", flag.to_owned()), ("when", when.to_owned())];
                    (labels, f64::from(bits >> bit & 1))
                })
            })
        });
        let help = "The Raspberry Pi's flags of power and heat.";
        self.family("fogfun_throttled", "gauge", help, &mut flags);
    }

    fn parts(
        &mut self,
        workers: &[Value],
        list: &str,
        rows: &[Row],
        labels: impl Fn(&Value, &Value) -> Labels,
    ) {
        for &(field, kind, name, help) in rows {
            let mut samples = parts(workers, list)
                .filter_map(|(worker, part)| Some((labels(worker, part), number(&part[field])?)));
            self.family(name, kind, help, &mut samples);
        }
    }

    /// A family of one sample without labels, if there is a value.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        self.family(name, kind, help, &mut value.into_iter().map(|value| (Vec::new(), value)));
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: &mut dyn Iterator<Item = (Labels, f64)>,
    ) {
        let mut samples = samples.peekable();
        if samples.peek().is_some() {
            self.sink.head(name, kind, help);
        }
        for (labels, value) in samples {
            self.sink.sample(name, &labels, value);
        }
    }

    fn histogram<'a>(&mut self, name: &str, help: &str, samples: impl Iterator<Item = (Labels, &'a Value)>) {
        let mut samples = samples.filter(|(_, value)| value.is_object()).peekable();
        if samples.peek().is_some() {
            self.sink.head(name, "histogram", help);
        }
        for (labels, value) in samples {
            let mut below = 0.0;
            let bounds = BUCKET_BOUNDS_US.iter().map(|&bound| seconds(bound).to_string());
            let counts = value["counts"].as_array().into_iter().flatten().filter_map(number);
            for (bound, count) in bounds.chain(std::iter::once("+Inf".to_owned())).zip(counts) {
                below += count;
                let mut labels = labels.clone();
                labels.push((BUCKET_LABEL, bound));
                self.sink.sample(&format!("{name}_bucket"), &labels, below);
            }
            let sum = value["sum_us"].as_u64().map_or(0.0, seconds);
            self.sink.sample(&format!("{name}_sum"), &labels, sum);
            self.sink.sample(&format!("{name}_count"), &labels, below);
        }
    }
}

/// Which bucket of a histogram.
const BUCKET_LABEL: &str = "le";
/// Which worker.
const WORKER_LABEL: &str = "worker";

fn is_latched(node: &Value) -> bool {
    node["control"]["latched"].is_string() || node["store"]["latched"].is_string()
}

fn own(worker: &Value) -> (&'static str, String) {
    (WORKER_LABEL, worker["worker"].as_u64().unwrap_or(0).to_string())
}

fn of_function(worker: &Value, function: &Value) -> Labels {
    let function_type = function["function_type"].as_str().unwrap_or_default();
    let (namespace, name) = function_type.rsplit_once('/').unwrap_or(("", function_type));
    vec![("namespace", namespace.to_owned()), ("name", name.to_owned()), own(worker)]
}

/// The parts of every worker, each with its worker.
fn parts<'a>(workers: &'a [Value], list: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    workers
        .iter()
        .flat_map(move |worker| worker[list].as_array().into_iter().flatten().map(move |part| (worker, part)))
}

/// `[[name, value], …]`.
fn pairs(list: &Value) -> impl Iterator<Item = (&str, &Value)> {
    list.as_array().into_iter().flatten().filter_map(|pair| Some((pair[0].as_str()?, &pair[1])))
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|flag| f64::from(u8::from(flag))))
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::admin::{AdminReply, EndpointStatus, FunctionStatus, NodeStatus, SessionStatus, WorkerStatus};

    /// A status in which everything is there.
    fn status() -> Value {
        let mut commit_latency = Histogram::default();
        [100, 2_000, 2_500, 60_000_000].into_iter().for_each(|micros| commit_latency.observe(micros));
        let control = NodeStatus { epoch_committed: 7, commit_latency, ..NodeStatus::default() };
        let function = FunctionStatus {
            function_type: "shop/cart".to_owned(),
            r#in: 3,
            remote_invocation_latency: commit_latency,
            ..FunctionStatus::default()
        };
        let session = SessionStatus { name: "a\"b\\".to_owned(), ..SessionStatus::default() };
        let worker = WorkerStatus {
            worker: 1,
            sessions: vec![session],
            endpoints: vec![EndpointStatus::default()],
            functions: vec![function],
            counters: vec![("records-in".to_owned(), 5)],
            ..WorkerStatus::default()
        };
        let store =
            json!({"syncs": 1, "bytes_written": 2, "log_bytes": 3, "segments": 4, "latched": "no space"});
        json!({
            "node": {
                "control": control, "store": store, "serving": true, "events": {"guard-hit": 2},
                "outgoing_bytes": 0, "connections_closed_for_not_reading": 0,
                "http": {"connections_open": 1, "calls": 2},
            },
            "workers": [AdminReply::Status(Box::new(worker))],
        })
    }

    fn whole_page() -> String {
        page(&status(), &Board { temperature_milli: Some(48_312), throttled: Some(0x5_0005) })
    }

    #[test]
    fn a_page_says_what_the_status_says() {
        let page = whole_page();
        for line in [
            "fogfun_serving 1",
            "fogfun_latched 1",
            "fogfun_degraded 0",
            "fogfun_epoch_committed 7",
            "fogfun_events_total{kind=\"guard-hit\"} 2",
            "fogfun_counted_total{worker=\"1\",counter=\"records-in\"} 5",
            "functions_in_total{namespace=\"shop\",name=\"cart\",worker=\"1\"} 3",
            "fogfun_session_connected{session=\"a\\\"b\\\\\"} 0",
            "fogfun_temperature_celsius 48.312",
            "fogfun_throttled{flag=\"throttled\",when=\"now\"} 1",
            "fogfun_throttled{flag=\"throttled\",when=\"since-power-on\"} 1",
            "fogfun_throttled{flag=\"frequency-capped\",when=\"now\"} 0",
            "fogfun_commit_seconds_bucket{le=\"0.00025\"} 1",
            "fogfun_commit_seconds_bucket{le=\"0.0025\"} 3",
            "fogfun_commit_seconds_bucket{le=\"30\"} 3",
            "fogfun_commit_seconds_bucket{le=\"+Inf\"} 4",
            "fogfun_commit_seconds_count 4",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn every_row_finds_its_field() {
        let page = whole_page();
        for rows in [NODE, WORKER, SESSION, ENDPOINT, FUNCTION] {
            for (field, _, name, _) in rows {
                let has =
                    |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
                assert!(page.lines().any(has), "{name} of {field} has no sample");
            }
        }
    }

    #[test]
    fn samples_stand_together_under_their_type() {
        let (page, mut done, mut last) = (whole_page(), BTreeSet::new(), String::new());
        for line in page.lines() {
            if let Some(head) = line.strip_prefix("# HELP ") {
                last = head.split(' ').next().unwrap().to_owned();
                assert!(done.insert(last.clone()), "{last} comes twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(name == last || family == Some(&last), "{line} under {last}");
            }
        }
    }

    #[test]
    fn a_status_that_says_nothing_is_a_page_that_says_little() {
        let page = page(&Value::Null, &Board::default());
        assert!(page.contains("fogfun_degraded 0"));
        assert!(!page.contains("temperature"));
    }

    #[test]
    fn a_topic_has_what_the_page_has_and_adds_up_workers() {
        let mut status = status();
        let mut second = status["workers"][0].clone();
        second["worker"] = json!(2);
        second["functions"][0]["in"] = json!(4);
        status["workers"].as_array_mut().unwrap().push(second);
        let values = values(&status, &Board { temperature_milli: Some(48_312), throttled: None });
        for (topic, value) in [
            ("fogfun_serving", 1.0),
            ("functions_in_total/shop/cart", 7.0),
            ("fogfun_counted_total/records-in", 10.0),
            ("fogfun_commit_seconds_count", 4.0),
            ("fogfun_commit_seconds_sum", 60.0046),
            ("fogfun_temperature_celsius", 48.312),
        ] {
            assert_eq!(values.get(topic), Some(&value), "{topic} in {values:#?}");
        }
        assert!(values.keys().all(|topic| !topic.contains("_bucket")));
        let page = whole_page();
        for topic in values.keys() {
            let name = topic.split('/').next().unwrap();
            assert!(page.contains(&format!("\n{name}")), "the page lacks {name}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_level_is_encoded() {
        let of = |label, value: &str| topic("m", &vec![(label, value.to_owned()), own(&Value::Null)]);
        assert_eq!(of("session", "example/fridges"), "m/example/fridges");
        assert_eq!(of("url", "http://a:1/b"), "m/http:%2F%2Fa:1%2Fb");
        assert_eq!(of("name", "a+b#c%d\0"), "m/a%2Bb%23c%25d%00");
    }

    /// The dashboard asks for what there is.
    #[test]
    fn the_dashboard_names_metrics_of_the_page() {
        let dashboard: Value = serde_json::from_str(include_str!("../docs/operating/grafana.json")).unwrap();
        let page = whole_page();
        let mut names = BTreeSet::new();
        for target in
            dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array())
        {
            for target in target {
                let words =
                    target["expr"].as_str().unwrap().split(|c: char| !c.is_alphanumeric() && c != '_');
                let is_ours = |word: &&str| word.starts_with("fogfun_") || word.starts_with("functions_");
                names.extend(words.filter(is_ours).map(str::to_owned));
            }
        }
        assert!(10 < names.len());
        for name in names {
            let has = |line: &str| line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            assert!(page.lines().any(has), "the dashboard asks for {name}");
        }
    }
}
