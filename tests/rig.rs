//! Can the instruments be trusted? What the other tests measure with is measured here first, against a real broker alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::books;
use support::mosquitto::{Mosquitto, Tuning};
use support::node::{Failpoint, Node};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::{Record, Subscriber};
use support::wire::{Qos, Version};

/// The n-th message of each topic says `n n`, as the counting function would.
fn script(messages: u64, topics: u64) -> (Vec<ToPublish>, BTreeMap<String, u64>) {
    let mut counts = BTreeMap::new();
    let mut script = Vec::new();
    for index in 0..messages {
        let topic = format!("out/{}", index % topics);
        let count = counts.entry(topic.clone()).or_insert(0);
        *count += 1;
        script.push(ToPublish {
            topic,
            payload: format!("{count} {count}").into(),
            properties: vec![("number".to_owned(), index.to_string())],
        });
    }
    (script, counts)
}

fn pace(port: u16, version: Version, qos: Qos, per_second: u32) -> Pace {
    Pace { port, version, client_id: "publisher".to_owned(), qos, per_second, window: 100, allowance: None }
}

/// Publishes through a broker that stops and starts again `restarts` times meanwhile.
fn relay(
    version: Version,
    qos: Qos,
    tuning: Tuning,
    restarts: u32,
) -> Option<(Vec<Record>, BTreeMap<String, u64>)> {
    let mut broker = Mosquitto::start(tuning)?;
    let subscriber = Subscriber::start(broker.port, version, "subscriber", "out/#", qos);
    let (script, expected) = script(2_000, 10);
    let publisher = publish(pace(broker.port, version, qos, 1_000 * (1 + 2 / (1 + restarts))), script);
    for _ in 0..restarts {
        std::thread::sleep(Duration::from_millis(500));
        broker.stop();
        broker.start_again();
    }
    let published = publisher.join().unwrap();
    assert_eq!(published.reconnects > 0, restarts > 0);
    let records = subscriber.wait_for(2_000, Duration::from_secs(20), Duration::from_millis(300));
    Some((records, expected))
}

#[test]
fn every_quality_arrives_in_order_in_both_versions() {
    for version in [Version::Mqtt5, Version::Mqtt311] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let Some((records, expected)) = relay(version, qos, Tuning::Tuned, 0) else {
                return;
            };
            assert_eq!(books::check(&records, &expected), Ok(()), "{version:?} {qos:?}");
            assert!(records.iter().all(|record| record.qos == qos as u8));
            let numbered = records[7].property("number") == Some("7");
            assert_eq!(numbered, version == Version::Mqtt5, "user properties are MQTT 5's");
        }
    }
}

#[test]
fn quality_2_survives_clean_restarts_of_the_broker() {
    for version in [Version::Mqtt5, Version::Mqtt311] {
        let Some((records, expected)) = relay(version, Qos::ExactlyOnce, Tuning::Tuned, 2) else {
            return;
        };
        assert_eq!(books::check(&records, &expected), Ok(()), "{version:?}");
    }
}

#[test]
fn publishers_keep_to_their_pace() {
    let Some(broker) = Mosquitto::start(Tuning::Stock) else {
        return;
    };
    let (script, _) = script(500, 10);
    let published = publish(pace(broker.port, Version::Mqtt5, Qos::ExactlyOnce, 500), script).join().unwrap();
    assert!(Duration::from_millis(990) < published.took, "{:?}", published.took);
    assert!(published.took < Duration::from_millis(1_800), "{:?}", published.took);
}

fn record(topic: &str, text: &str, id: &str) -> Record {
    Record {
        topic: topic.to_owned(),
        payload: text.to_owned().into(),
        qos: 2,
        dup: false,
        retain: false,
        properties: vec![("id".to_owned(), id.to_owned())],
    }
}

#[test]
fn the_books_notice_loss_repeats_disorder_and_strangers() {
    let expected = BTreeMap::from([("out/a".to_owned(), 3)]);
    let judged = |texts: &[&str]| {
        let records: Vec<Record> = texts.iter().map(|text| record("out/a", text, text)).collect();
        books::check(&records, &expected).is_ok()
    };
    assert!(judged(&["1 1", "2 2", "3 3"]));
    assert!(!judged(&["1 1", "2 2"]), "the last was lost");
    assert!(!judged(&["1 2", "2 3", "3 4"]), "the first was lost before it was counted");
    assert!(!judged(&["1 1", "2 3", "3 2"]), "two were counted out of order");
    assert!(!judged(&["1 1", "3 3", "2 2"]), "two were published out of order");
    assert!(!judged(&["1 1", "2 2", "2 2", "3 3"]), "one was published twice");
    assert!(!judged(&["1 1", "2 2", "3 2", "4 3"]), "one was counted twice");
    assert!(books::check(&[record("out/b", "1 1", "")], &BTreeMap::new()).is_err(), "a stranger's topic");
}

#[test]
fn repeats_are_told_by_message_id_alone() {
    let records = [record("t", "1 1", "x"), record("t", "1 1", "y"), record("t", "1 1", "x")];
    assert_eq!(books::without_repeats(&records, "id").len(), 2);
    assert_eq!(books::without_repeats(&records, "other").len(), 3);
}

/// A node that is a shell script: it ends as it is told to.
fn pretender(script: &str) -> (tempfile::TempDir, Node) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = support::scratch("pretender");
    let binary = directory.path().join("pretender");
    std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = Node::new(&binary, "", &[]);
    (directory, node)
}

#[test]
fn a_death_at_a_named_point_is_told() {
    let (_directory, mut node) =
        pretender("echo ${FOGFUN_FAILPOINT%:*} >> $FOGFUN_FAILPOINT_LOG; kill -9 $$");
    for deaths in 1..3 {
        node.start_to_die(Failpoint::AfterSync, 7);
        assert!(node.wait_death(Failpoint::AfterSync, support::node::PATIENCE));
        assert_eq!(node.failpoints(), vec!["after-sync"; deaths]);
    }
}

#[test]
#[should_panic(expected = "a death was not signed by a named point")]
fn a_death_that_nothing_signed_is_not_taken_for_one() {
    let (_directory, mut node) = pretender("kill -9 $$");
    node.start_to_die(Failpoint::AfterSync, 7);
    node.wait_death(Failpoint::AfterSync, support::node::PATIENCE);
}

#[test]
#[should_panic(expected = "the node ended otherwise")]
fn a_crash_is_not_taken_for_a_death_at_a_named_point() {
    let (_directory, mut node) = pretender("exit 101");
    node.start_to_die(Failpoint::AfterSync, 7);
    node.wait_death(Failpoint::AfterSync, support::node::PATIENCE);
}

#[test]
#[should_panic(expected = "the node ended before it was ready")]
fn a_node_that_ends_at_once_is_not_ready() {
    let (_directory, mut node) = pretender("echo out of luck >&2; exit 1");
    node.start();
}
