//! Promise: a broker hears what is measured, no more often than asked for, and that a node is gone.
//!
//! A real process, a real Mosquitto.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use support::module_yaml;
use support::mosquitto::{Mosquitto, Tuning};
use support::node::{Node, PATIENCE};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::{Record, Subscriber};
use support::wait_until;
use support::wire::{Qos, Version};

const PREFIX: &str = "$fogfun/kitchen/";
const RECEIVED: &str = "$fogfun/kitchen/fogfun_session_received_total/a/in";

fn module(port: u16, protocol: &str) -> String {
    let metrics = format!(
        "---\n\
         kind: fogfun.metrics.v1/mqtt\n\
         spec:\n  \
           address: mqtt://127.0.0.1:{port}\n  \
           protocol: {protocol}\n  \
           node: kitchen\n  \
           interval: 1 s\n"
    );
    module_yaml::quiet(port) + &metrics
}

fn node(module: &str) -> Node {
    Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), module, &[])
}

fn listen(broker: &Mosquitto, client_id: &str) -> Subscriber {
    Subscriber::start(broker.port, Version::Mqtt5, client_id, "$fogfun/#", Qos::AtMostOnce)
}

/// What the broker keeps: everything that came at once to who subscribes now.
fn retained(broker: &Mosquitto) -> BTreeMap<String, String> {
    let subscriber = listen(broker, "late");
    let records = subscriber.wait_for(1, PATIENCE, Duration::from_millis(300));
    let kept = records.iter().filter(|record| record.retain);
    kept.map(|record| (record.topic.clone(), record.text().to_owned())).collect()
}

fn of<'a>(records: &'a [Record], topic: &str) -> Vec<&'a str> {
    records.iter().filter(|record| record.topic == topic).map(Record::text).collect()
}

fn last(subscriber: &Subscriber, topic: &str) -> Option<String> {
    of(&subscriber.records(), topic).last().map(|text| (*text).to_owned())
}

fn told(protocol: &str) {
    let Some(mut broker) = Mosquitto::start(Tuning::Tuned) else { return };
    let status = format!("{PREFIX}status");
    let says = |subscriber: &Subscriber, word: &str| last(subscriber, &status).as_deref() == Some(word);
    let subscriber = listen(&broker, "live");
    let mut node = node(&module(broker.port, protocol));
    let begin = Instant::now();
    node.start();
    wait_until("it is online", PATIENCE, || says(&subscriber, "online"));

    wait_until("the ingress has subscribed", PATIENCE, || broker.has_subscription("fogfun-a-in", "in/+"));

    // Fifty records a second change a value fifty times a second.
    let of_script = |number: usize| ToPublish {
        topic: format!("in/{}", number % 3),
        payload: "x".into(),
        properties: Vec::new(),
    };
    let pace = Pace { client_id: "device".to_owned(), window: 100, ..Pace::new(broker.port, 50) };
    publish(pace, (0..200).map(of_script).collect()).join().unwrap();
    wait_until("the broker hears of all", PATIENCE, || last(&subscriber, RECEIVED).as_deref() == Some("200"));
    let (records, seconds) = (subscriber.records(), begin.elapsed().as_secs());
    let counts = of(&records, RECEIVED);
    assert!(3 <= counts.len(), "{counts:?}");
    assert!(counts.len() as u64 <= seconds + 2, "{} in {seconds} s", counts.len());
    let topics: BTreeSet<&str> = records.iter().map(|record| record.topic.as_str()).collect();
    for topic in topics {
        let told = of(&records, topic);
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{topic} was told again unchanged: {told:?}");
    }

    let kept = retained(&broker);
    for (topic, value) in [
        ("status", "online"),
        ("fogfun_serving", "1"),
        ("fogfun_session_connected/a/in", "1"),
        ("fogfun_session_incarnation/a/in", "1"),
    ] {
        assert_eq!(
            kept.get(&format!("{PREFIX}{topic}")).map(String::as_str),
            Some(value),
            "{topic}: {kept:#?}"
        );
    }
    let endpoint = format!("{PREFIX}fogfun_endpoint_failures/http:%2F%2F127.0.0.1:9%2Ff");
    assert!(kept.contains_key(&endpoint), "{kept:#?}");

    node.kill();
    wait_until("it is offline", PATIENCE, || says(&subscriber, "offline"));
    assert_eq!(retained(&broker).get(&status).map(String::as_str), Some("offline"));

    node.start();
    wait_until("it is online again", PATIENCE, || says(&subscriber, "online"));
    drop(subscriber);
    // Killed, the broker forgets what it had retained: all of it is told again.
    broker.kill();
    let (state, _) = node.status();
    assert!(state["node"]["serving"].as_bool().unwrap(), "{state}");
    broker.start_again();
    let subscriber = listen(&broker, "later");
    wait_until("the node is back at the broker", PATIENCE, || says(&subscriber, "online"));
    wait_until("and tells", PATIENCE, || {
        last(&subscriber, &format!("{PREFIX}fogfun_session_connected/a/in")).as_deref() == Some("1")
    });
    let (state, _) = node.status();
    assert!(state["node"]["events"]["metrics-disconnected"].as_u64() > Some(0), "{state}");
    node.stop();
    wait_until("a stopped node is offline", PATIENCE, || says(&subscriber, "offline"));
}

#[test]
fn a_broker_hears_what_is_measured_and_that_a_node_is_gone() {
    told("5");
}

#[test]
fn so_does_one_that_speaks_mqtt_3_1_1() {
    told("3.1.1");
}

#[test]
fn a_broker_that_forbids_the_topics_is_told_of() {
    let Some(mut broker) = Mosquitto::start(Tuning::Tuned) else { return };
    let mut node = node(&module(broker.port, "5"));
    // As its manual says, `#` is no topic that begins with a dollar.
    let list = node.write_file("acl", "topic readwrite #\n");
    broker.stop();
    broker.configure(&format!("acl_file {}\n", list.display()));
    broker.start_again();
    node.start();
    wait_until("the node says so", PATIENCE, || {
        node.log().contains("metrics-refused: $fogfun/kitchen/status")
    });
    node.stop();
}
