//! What do the tests of a node in trouble share? A broker, a node of `examples/trouble` between it and a subscriber, and questions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::books;
use super::module_yaml::ModuleYaml;
use super::mosquitto::{Mosquitto, Tuning};
use super::node::{self, Node, PATIENCE};
use super::publisher::{Pace, ToPublish, publish};
use super::subscriber::Subscriber;
use super::wait_until;
use super::wire::{Qos, Version};

/// A broker, a node of `examples/trouble` that runs, and a subscriber to all that comes out.
pub struct Rig {
    pub broker: Mosquitto,
    pub node: Node,
    pub subscriber: Subscriber,
}

impl Rig {
    /// `None` where there is no Mosquitto, which was said.
    pub fn start(board: &str) -> Option<Self> {
        Self::start_with(board, "", |module| module)
    }

    pub fn start_with(
        board: &str,
        broker_configuration: &str,
        module: impl Fn(String) -> String,
    ) -> Option<Self> {
        let mut broker = Mosquitto::start(Tuning::Tuned)?;
        if !broker_configuration.is_empty() {
            broker.stop();
            broker.configure(broker_configuration);
            broker.start_again();
        }
        let text = ModuleYaml {
            port: broker.port,
            version: Version::Mqtt5,
            qos: Qos::ExactlyOnce,
            target: "trouble/count",
            message_ids: false,
        };
        let mut node = Node::new(&node::example("trouble"), &module(text.text()), &[]);
        let board = node.write_file("board.toml", board);
        node.set_arguments(&["--board", board.to_str().unwrap()]);
        let qos = if broker_configuration.is_empty() { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
        let subscriber = Subscriber::start(broker.port, Version::Mqtt5, "subscriber", "out/#", qos);
        let mut rig = Self { broker, node, subscriber };
        rig.node.start();
        wait_until("the ingress is connected", PATIENCE, || {
            rig.session("counting/in")["connection"] == "connected"
        });
        Some(rig)
    }

    pub fn pace(&self, per_second: u32) -> Pace {
        Pace { window: 200, ..Pace::new(self.broker.port, per_second) }
    }

    /// Publishes these to `in/<id>`, and returns when the broker has them all.
    pub fn send(&self, messages: &[(&str, &str)]) {
        let to_publish = |(id, text): &(&str, &str)| message(id, text);
        publish(self.pace(10_000), messages.iter().map(to_publish).collect()).join().unwrap();
    }

    /// Waits until `out/<id>` has got this and nothing else.
    pub fn wait_records(&self, id: &str, expected: &[&str]) {
        let topic = format!("out/{id}");
        let got = || -> Vec<String> {
            let records = self.subscriber.records();
            records
                .iter()
                .filter(|record| record.topic == topic)
                .map(|record| record.text().to_owned())
                .collect()
        };
        let begin = Instant::now();
        while got() != expected {
            assert!(
                begin.elapsed() < PATIENCE,
                "{topic} got {:?} instead of {expected:?}\n{}",
                got(),
                self.node.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for all that is expected, and is sure that it is all, in order.
    pub fn assert_right(&self, expected: &BTreeMap<String, u64>) {
        let count = usize::try_from(expected.values().sum::<u64>()).unwrap();
        let records = self.subscriber.wait_for(count, PATIENCE, Duration::from_millis(500));
        let verdict = books::check(&records, expected);
        assert!(verdict.is_ok(), "{}\n{}", verdict.unwrap_err(), self.node.log_tail());
    }

    /// What `status` says of one session.
    pub fn session(&self, name: &str) -> serde_json::Value {
        session_in(&self.node.status().0, name)
    }

    /// Looks at `status` until `holds`.
    pub fn wait_status(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        let begin = Instant::now();
        loop {
            let (status, _) = self.node.status();
            if holds(&status) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "never {what}: {status}\n{}", self.node.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the node again and again until it has died `deaths` times by SIGABRT, and then once more.
    pub fn survive_aborts(&mut self, deaths: u32) {
        for death in 1..=deaths {
            let ended = self.node.wait_end(PATIENCE);
            let signal = ended.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
            assert_eq!(signal, Some(6), "death {death}: {ended:?}\n{}", self.node.log_tail());
            self.node.start_with(&[]);
        }
        self.node.wait_ready();
    }

    /// Stops the node and starts it as a version without its troubles.
    pub fn cure(&mut self) {
        self.node.stop();
        self.node.start_with(&[("TROUBLE_CURED", "1")]);
        self.node.wait_ready();
    }

    /// Waits for a dead letter of this id and says its key and reason.
    pub fn wait_dead_letter(&self, id: &str) -> node::DeadLetter {
        let find = || self.node.dead_letters().into_iter().find(|letter| letter.id == id);
        wait_until("a dead letter", PATIENCE, || find().is_some());
        find().unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.node.command(arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn retry(&self, key: &str) {
        let (code, text) = self.command(&["dlq", "retry", key]);
        assert_eq!(code, Some(0), "{text}");
    }
}

/// The sessions of all workers.
pub fn sessions(status: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    let workers = status["workers"].as_array().unwrap().iter();
    workers.flat_map(|worker| worker["sessions"].as_array().unwrap())
}

pub fn session_in(status: &serde_json::Value, name: &str) -> serde_json::Value {
    let found = sessions(status).find(|session| session["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {status}")).clone()
}

pub fn message(id: &str, text: &str) -> ToPublish {
    ToPublish { topic: format!("in/{id}"), payload: text.to_owned().into(), properties: Vec::new() }
}

/// Messages in turn to ten ids, padded to `bytes`, and how many records each topic must get.
pub fn script(messages: u64, bytes: usize) -> (Vec<ToPublish>, BTreeMap<String, u64>) {
    let mut expected = BTreeMap::new();
    let script = (0..messages).map(|index| {
        let (id, number) = (index % 10, 1 + index / 10);
        *expected.entry(format!("out/{id}")).or_insert(0) += 1;
        message(&id.to_string(), &format!("{number:<bytes$}"))
    });
    (script.collect(), expected)
}
