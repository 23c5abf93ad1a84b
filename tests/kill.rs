//! Promise: exactly once, MQTT to MQTT, whatever kills the node.
//!
//! A counting application runs as a child process between a real Mosquitto, a publisher at a steady pace and a subscriber that keeps
//! repeats. It is killed at named points of the commit, each of which has an epoch in flight, and at random instants, and is started again
//! on the same data directory. Afterwards every id's count and every record received, in order, must be right. The nightly form
//! (`FOGFUN_NIGHTLY=1`) takes six times as long and dies twenty times; `SEED` repeats a run's choice of kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::books;
use support::module_yaml::{MESSAGE_ID_PROPERTY, ModuleYaml, NODE_MESSAGE_ID_PROPERTY};
use support::mosquitto::{Mosquitto, Tuning};
use support::node::{self, Failpoint, Node};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::Subscriber;
use support::wire::{Qos, Version};
use support::{Seeded, nightly, wait_until};

/// Messages published in all and the ids over which they go round.
const MESSAGES: u64 = 20_000;
const IDS: u64 = 100;

/// What varies between the tests.
#[derive(Clone, Copy)]
struct Case {
    version: Version,
    qos: Qos,
    workers: u8,
    /// `counting/count`, or `counting/relay`, which makes two records out of one across workers.
    target: &'static str,
    /// Clean restarts of the broker, spread over the run.
    broker_restarts: u32,
    /// The named points to die at, in turn; a random instant follows each third of them.
    points: &'static [Failpoint],
    /// So small a log that it is folded all the time?
    log: Log,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    OfTheBoard,
    Tiny,
}

const COMMIT: &[Failpoint] =
    &[Failpoint::AfterWrite, Failpoint::AfterSync, Failpoint::BeforePubrec, Failpoint::AfterPubrec];

const QOS_2: Case = Case {
    version: Version::Mqtt5,
    qos: Qos::ExactlyOnce,
    workers: 1,
    target: "counting/count",
    broker_restarts: 0,
    points: COMMIT,
    log: Log::OfTheBoard,
};

#[test]
fn one_worker_loses_and_doubles_nothing() {
    run(QOS_2);
}

#[test]
fn three_workers_lose_and_double_nothing() {
    run(Case { workers: 3, ..QOS_2 });
}

#[test]
fn messages_between_workers_are_neither_lost_nor_doubled() {
    run(Case { workers: 3, target: "counting/relay", ..QOS_2 });
}

#[test]
fn a_clean_restart_of_the_broker_under_way_changes_nothing() {
    run(Case { workers: 3, broker_restarts: 2, ..QOS_2 });
}

#[test]
fn a_death_during_a_fold_or_at_a_segments_release_changes_nothing() {
    run(Case { points: &[Failpoint::DuringFold, Failpoint::AtSegmentRelease], log: Log::Tiny, ..QOS_2 });
}

#[test]
fn mqtt_3_1_1_is_exactly_once_too() {
    run(Case { version: Version::Mqtt311, ..QOS_2 });
}

#[test]
fn message_ids_make_quality_1_count_once() {
    run(Case {
        qos: Qos::AtLeastOnce,
        points: &[Failpoint::AfterWrite, Failpoint::AfterSync],
        workers: 3,
        ..QOS_2
    });
}

/// One at a time: two cores are shared by the broker, the clients and the node.
static ALONE: Mutex<()> = Mutex::new(());

fn run(case: Case) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut broker) = Mosquitto::start(Tuning::Tuned) else {
        return;
    };
    let (seconds, deaths) = length();
    let mut seeded = Seeded::from_environment(0x0F06_F00D);
    let mut node = node_of(case, broker.port);

    // The first start makes the broker keep the session from here on.
    node.start();
    wait_until("the ingress is subscribed", node::PATIENCE, || {
        broker.has_subscription("counting-in", "in/+")
    });
    let subscriber = Subscriber::start(broker.port, case.version, "subscriber", "out/#", case.qos);
    let (script, expected) = script(case);
    let allowance = Arc::new(AtomicUsize::new(0));
    let pace = Pace {
        port: broker.port,
        version: case.version,
        client_id: "publisher".to_owned(),
        qos: case.qos,
        per_second: u32::try_from(MESSAGES / seconds).unwrap(),
        window: 500,
        allowance: Some(Arc::clone(&allowance)),
    };
    let publishing = publish(pace, script);

    let begin = Instant::now();
    let random_deaths = die_under_way(case, &mut node, &mut broker, &mut seeded, &allowance);
    assert_eq!(node.failpoints().len(), deaths as usize);
    assert!(!publishing.is_finished(), "the deaths were to fall into the publishing, which is over");
    allowance.store(usize::MAX, Ordering::Relaxed);
    let published = publishing.join().unwrap();
    assert!(Duration::from_secs(seconds) <= published.took + Duration::from_millis(100));

    let total = usize::try_from(expected.values().sum::<u64>()).unwrap();
    let records = subscriber.wait_for(total, Duration::from_secs(60), Duration::from_secs(2));
    let judged = match case.qos {
        Qos::AtLeastOnce => books::without_repeats(&records, NODE_MESSAGE_ID_PROPERTY),
        _ => records,
    };
    let verdict = books::check(&judged, &expected);
    assert!(verdict.is_ok(), "{}\n{}", verdict.unwrap_err(), node.log_tail());
    counts_are_right(&node, &expected);
    node.stop();
    counts_are_right(
        &node,
        &BTreeMap::from_iter(expected.iter().take(3).map(|(topic, n)| (topic.clone(), *n))),
    );
    eprintln!(
        "{} deaths at named points ({:?}), {} at random instants; {} records out in {:?}",
        deaths,
        node.failpoints(),
        random_deaths,
        total,
        begin.elapsed()
    );
}

/// Kills and starts the node, and restarts the broker, spread over the time of publishing; says how many deaths were at random instants.
fn die_under_way(
    case: Case,
    node: &mut Node,
    broker: &mut Mosquitto,
    seeded: &mut Seeded,
    allowance: &AtomicUsize,
) -> u32 {
    let (seconds, deaths) = length();
    let begin = Instant::now();
    let mut random_deaths = 0;
    for death in 0..deaths {
        // However slow the machine is, every death has its share of the messages.
        let share = MESSAGES * u64::from(death + 1) / u64::from(deaths + 1);
        allowance.fetch_max(usize::try_from(share).unwrap(), Ordering::Relaxed);
        if case.broker_restarts != 0 && death % (deaths / case.broker_restarts).max(1) == 1 {
            broker.stop();
            broker.start_again();
        }
        if death % 3 == 2 {
            std::thread::sleep(Duration::from_millis(seeded.within(50, 400)));
            node.kill();
            random_deaths += 1;
            node.start();
        }
        // A node that runs well is replaced by one that is to die.
        node.kill();
        let point = case.points[death as usize % case.points.len()];
        die_once(node, point, seeded, case, allowance);
        node.start();
        // The deaths are spread over the time of publishing.
        let due = begin + Duration::from_secs(seconds) * (death + 1) / (deaths + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    random_deaths
}

/// Seconds of publishing, and deaths at named points in them.
fn length() -> (u64, u32) {
    if nightly() { (62, 20) } else { (10, 5) }
}

/// Starts the node so that it dies at `point`, which it must come to while messages flow.
fn die_once(node: &mut Node, point: Failpoint, seeded: &mut Seeded, case: Case, allowance: &AtomicUsize) {
    let passing = match (point, case.log) {
        (Failpoint::DuringFold | Failpoint::AtSegmentRelease, _) => seeded.within(1, 3),
        _ => seeded.within(1, 60),
    };
    node.start_to_die(point, passing);
    let begin = Instant::now();
    let mut died = false;
    while !died && begin.elapsed() < node::PATIENCE {
        died = node.wait_death(point, Duration::from_secs(1));
        // A share that a slow machine took in few commits was too small; the last messages stay for after the last death.
        let more = allowance.load(Ordering::Relaxed) + usize::try_from(MESSAGES / 100).unwrap();
        allowance.fetch_max(more.min(usize::try_from(MESSAGES - IDS).unwrap()), Ordering::Relaxed);
    }
    assert!(died, "the node never came to {point:?} for the {passing}th time\n{}", node.log_tail());
}

fn node_of(case: Case, port: u16) -> Node {
    let module = ModuleYaml {
        port,
        version: case.version,
        qos: case.qos,
        target: case.target,
        message_ids: case.qos == Qos::AtLeastOnce,
    };
    let workers = case.workers.to_string();
    let mut node = Node::new(&node::example("counting"), &module.text(), &["--workers", &workers]);
    if case.log == Log::Tiny {
        let board = node.write_file("board.toml", TINY_LOG);
        node.set_arguments(&["--workers", &workers, "--board", board.to_str().unwrap()]);
    }
    node
}

/// The smallest log that a board may have, folded in the smallest transactions.
const TINY_LOG: &str = "segment_bytes = 1_048_576\nlog_bytes_max = 4_194_304\nfold_keys = 100\n";
/// How long payloads are then, with blanks behind the number, so that it fills many times.
const PADDED_BYTES: usize = 4_000;

/// Messages in turn to every id, and how many records each topic out must get.
fn script(case: Case) -> (Vec<ToPublish>, BTreeMap<String, u64>) {
    let mut script = Vec::new();
    let mut expected = BTreeMap::new();
    for index in 0..MESSAGES {
        let id = index % IDS;
        let number = 1 + index / IDS;
        let properties = match (case.qos, case.version) {
            (Qos::AtLeastOnce, Version::Mqtt5) => vec![(MESSAGE_ID_PROPERTY.to_owned(), number.to_string())],
            _ => Vec::new(),
        };
        let width = if case.log == Log::Tiny { PADDED_BYTES } else { 0 };
        script.push(ToPublish {
            topic: format!("in/{id}"),
            payload: format!("{number:<width$}").into(),
            properties,
        });
        *expected.entry(format!("out/{id}")).or_insert(0) += 1;
        if case.target == "counting/relay" {
            *expected.entry(format!("out/{id}-passed-on")).or_insert(0) += 1;
        }
    }
    (script, expected)
}

/// Asks the node, or its data directory if it does not run, what every id has counted.
fn counts_are_right(node: &Node, expected: &BTreeMap<String, u64>) {
    for (topic, count) in expected {
        let id = topic.strip_prefix("out/").unwrap();
        let function = if topic.ends_with("-passed-on") || !has_relays(expected) {
            "counting/count"
        } else {
            "counting/relay"
        };
        let answer = node.ask(&["state", "get", function, id, "count"]);
        assert_eq!(long_in(&answer), Some(*count), "{function} {id}: {answer}");
    }
}

fn has_relays(expected: &BTreeMap<String, u64>) -> bool {
    expected.keys().any(|topic| topic.ends_with("-passed-on"))
}

/// The number in an answer of `state get --json`: the bytes of the only entry's value are a StateFun long, which is a tag and eight
/// bytes little-endian.
fn long_in(answer: &serde_json::Value) -> Option<u64> {
    let entries = answer.get("entries")?.as_array()?;
    let [entry] = entries.as_slice() else { return None };
    let bytes = base64(entry.get("value")?.get("bytes")?.as_str()?)?;
    match bytes.split_first() {
        None => Some(0),
        Some((0x09, rest)) => Some(u64::from_le_bytes(rest.try_into().ok()?)),
        Some(_) => None,
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if 8 <= count {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[test]
fn the_number_in_an_answer_is_found() {
    let answer = serde_json::json!({"entries": [{"value": {"typename": "io.statefun.types/long", "bytes": "CcgAAAAAAAAA"}}]});
    assert_eq!(long_in(&answer), Some(200));
}
