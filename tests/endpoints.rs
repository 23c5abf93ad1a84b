//! Promise: a bad endpoint stops nothing but its own addresses, holds no memory, and is named; once it is well, nothing was lost.
//!
//! A node has two remote functions behind two servers of this test. One answers as an SDK does. The other misbehaves in every way that
//! a server can, in turn, under a stream of records; meanwhile the first one's records must go through. In the end both have counted
//! every record once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fogfun::sim::endpoint::Endpoint;
use fogfun::{Context, FunctionError, MqttRecord, PersistedValue, StatefulFunction, TypeName, TypedValue};
use support::http::{answer, read_request, response};
use support::mosquitto::{Mosquitto, Tuning};
use support::node::{self, Node};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::Subscriber;
use support::wire::{Qos, Version};
use support::{books, wait_until};

const COUNT: PersistedValue<i64> = PersistedValue::new("count");
const OUT: TypeName = TypeName::from_static("bad/out");

/// Counts, and publishes its count with what it was told.
fn function(context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
    let text = message.get::<String>()?;
    if text == "never" {
        return Err("it never works".into());
    }
    let count = COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
    let address = context.self_address();
    let topic = format!("out/{}/{}", address.function_type().name(), address.id());
    context.egress(&OUT, MqttRecord::new(topic, format!("{count} {text}")))
}

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AsAnSdk,
    Closes,
    Says(u16),
    OtherType,
    Garbage,
    /// Says that it will send a gigabyte.
    TooLong,
    /// Sends chunks without end.
    Endless,
    Hangs,
    /// Ends half-way through the body.
    HalfClosed,
    /// A byte now and then.
    Drips,
    /// To itself.
    Redirects,
    NoHttp,
}

const BAD: [Manner; 14] = [
    Manner::Closes,
    Manner::Says(404),
    Manner::Says(500),
    Manner::Says(503),
    Manner::Says(429),
    Manner::OtherType,
    Manner::Garbage,
    Manner::TooLong,
    Manner::Endless,
    Manner::Hangs,
    Manner::HalfClosed,
    Manner::Drips,
    Manner::Redirects,
    Manner::NoHttp,
];

struct Server {
    port: u16,
    manner: Arc<Mutex<Manner>>,
}

impl Server {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let manner = Arc::new(Mutex::new(manner));
        let shared = Arc::clone(&manner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = Arc::clone(&shared);
                // A client that goes away ends its thread by an error.
                std::thread::spawn(move || serve(&stream, &manner).ok());
            }
        });
        Self { port, manner }
    }

    fn be(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

fn serve(stream: &TcpStream, manner: &Mutex<Manner>) -> std::io::Result<()> {
    let make = |_: &TypeName| Some(Box::new(function) as Box<dyn StatefulFunction>);
    let mut endpoint = Endpoint::new(make, vec![("count", "io.statefun.types/long")]);
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let Some(body) = read_request(&mut reader)? else { return Ok(()) };
        let octets = "application/octet-stream";
        let manner = *manner.lock().unwrap();
        match manner {
            Manner::AsAnSdk => writer.write_all(&answer(&mut endpoint, &body))?,
            Manner::Closes => return Ok(()),
            Manner::Says(status) => writer.write_all(&response(status, "text/plain", b"out of order"))?,
            Manner::OtherType => writer.write_all(&response(200, "text/html", b"<html>"))?,
            Manner::Garbage => writer.write_all(&response(200, octets, &[0xFF; 1000]))?,
            Manner::TooLong => {
                writer.write_all(
                    format!("HTTP/1.1 200 X\r\ncontent-type: {octets}\r\ncontent-length: 1000000000\r\n\r\n")
                        .as_bytes(),
                )?;
                return endless(writer, &[0; 65_536]);
            }
            Manner::Endless => {
                writer.write_all(
                    format!("HTTP/1.1 200 X\r\ncontent-type: {octets}\r\ntransfer-encoding: chunked\r\n\r\n")
                        .as_bytes(),
                )?;
                let chunk = [b"10000\r\n".as_slice(), &[0; 65_536], b"\r\n"].concat();
                return endless(writer, &chunk);
            }
            Manner::Hangs => {
                // Until the client gives up.
                reader.read_exact(&mut [0])?;
            }
            Manner::HalfClosed => {
                writer.write_all(
                    format!("HTTP/1.1 200 X\r\ncontent-type: {octets}\r\ncontent-length: 1000\r\n\r\nabc")
                        .as_bytes(),
                )?;
                stream.shutdown(Shutdown::Write)?;
                reader.read_exact(&mut [0])?;
            }
            Manner::Drips => {
                for byte in format!("HTTP/1.1 200 X\r\nx-long: {}", "y".repeat(1000)).into_bytes() {
                    writer.write_all(&[byte])?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                return Ok(());
            }
            Manner::Redirects => {
                writer.write_all(b"HTTP/1.1 307 X\r\nlocation: /functions\r\ncontent-length: 0\r\n\r\n")?;
            }
            Manner::NoHttp => {
                writer.write_all(b"220 mail.example.org ESMTP\r\n\r\n")?;
                return Ok(());
            }
        }
    }
}

fn endless(mut writer: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        writer.write_all(bytes)?;
    }
}

struct Rig {
    broker: Mosquitto,
    good: Server,
    bad: Server,
    node: Node,
    out: Subscriber,
}

impl Rig {
    fn start(on_failure: &str) -> Option<Self> {
        let broker = Mosquitto::start(Tuning::Tuned)?;
        let (good, bad) = (Server::start(Manner::AsAnSdk), Server::start(Manner::AsAnSdk));
        let module = module(broker.port, good.port, bad.port, on_failure);
        let mut node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module, &[]);
        node.start();
        wait_until("the ingress is subscribed", node::PATIENCE, || {
            broker.has_subscription("bad-in", "in/+/bad")
        });
        let out = Subscriber::start(broker.port, Version::Mqtt5, "out", "out/#", Qos::ExactlyOnce);
        Some(Self { broker, good, bad, node, out })
    }

    fn publish(&self, records: Vec<ToPublish>) {
        let pace = Pace::new(self.broker.port, 10_000);
        publish(pace, records).join().unwrap();
    }

    fn counted(&self, topic: &str) -> usize {
        self.out.records().iter().filter(|record| record.topic == topic).count()
    }
}

fn record(id: u64, name: &str, text: &str) -> ToPublish {
    ToPublish { topic: format!("in/{id}/{name}"), payload: text.to_owned().into(), properties: Vec::new() }
}

fn module(broker: u16, good: u16, bad: u16, on_failure: &str) -> String {
    let endpoint = |name: &str, port: u16| {
        format!(
            "kind: io.statefun.endpoints.v2/http
spec:
  functions: bad/{name}
  urlPathTemplate: http://127.0.0.1:{port}/functions
  transport: {{type: io.statefun.transports.v1/async, call: 300ms, connect: 200ms, pool_size: 4}}
  retry: {{attempts: 3, backoff: 10ms, backoffMax: 50ms}}
  onFailure: {on_failure}
---
"
        )
    };
    let topic = |name: &str| {
        format!(
            "    - {{topic: \"in/{{id}}/{name}\", format: text, id: {{capture: id}}, targets: [bad/{name}]}}\n"
        )
    };
    format!(
        "{}{}kind: fogfun.mqtt.v1/ingress
spec:
  id: bad/in
  address: mqtt://127.0.0.1:{broker}
  clientId: bad-in
  topics:
{}{}---
kind: fogfun.mqtt.v1/egress
spec:
  id: bad/out
  address: mqtt://127.0.0.1:{broker}
  clientId: bad-out
",
        endpoint("good", good),
        endpoint("bad", bad),
        topic("good"),
        topic("bad")
    )
}

/// Anonymous memory of a process, in KiB.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_server_that_misbehaves_in_every_way_stops_only_its_own_and_loses_nothing() {
    let Some(mut rig) = Rig::start("block") else { return };
    const IDS: u64 = 4;
    let mut numbers = 0;
    let mut send = |rig: &Rig| {
        numbers += 1;
        let text = numbers.to_string();
        let both = |id| [record(id, "good", &text), record(id, "bad", &text)];
        rig.publish((0..IDS).flat_map(both).collect());
        numbers
    };
    send(&rig);
    wait_until("both count", node::PATIENCE, || {
        rig.counted("out/bad/0") == 1 && rig.counted("out/good/0") == 1
    });
    for manner in BAD {
        rig.bad.be(manner);
        let number = send(&rig);
        wait_until("the good function goes on", Duration::from_secs(10), || {
            (0..IDS).all(|id| rig.counted(&format!("out/good/{id}")) == number)
        });
        // Long enough for some attempts, and for what would grow to grow.
        let named = || {
            let (status, _) = rig.node.status();
            let endpoints = status["workers"][0]["endpoints"].as_array().unwrap().clone();
            let bad = endpoints
                .iter()
                .find(|endpoint| endpoint["url"].as_str().unwrap().contains(&format!(":{}/", rig.bad.port)));
            bad.and_then(|bad| bad["last_error"].as_str().map(str::to_owned)).unwrap_or_default()
        };
        let before = Instant::now();
        wait_until("its trouble is named", Duration::from_secs(10), || {
            let text = named();
            let says_who =
                text.starts_with("bad/bad/") && text.contains(&format!("http://127.0.0.1:{}", rig.bad.port));
            says_who && text.contains("attempt ") && Duration::from_millis(500) < before.elapsed()
        });
        eprintln!("{manner:?}: {}", named());
        let memory = anonymous_kib(rig.node.pid().unwrap());
        assert!(memory < 40_000, "{manner:?}: {memory} KiB");
        assert_eq!(rig.counted("out/bad/0"), 1, "{manner:?}");
    }
    // A crash in the middle of it changes nothing.
    rig.node.kill();
    rig.node.start();
    rig.bad.be(Manner::AsAnSdk);
    let number = send(&rig) as u64;
    let topics = (0..IDS).flat_map(|id| [format!("out/good/{id}"), format!("out/bad/{id}")]);
    let expected: BTreeMap<String, u64> = topics.map(|topic| (topic, number)).collect();
    let total = usize::try_from(2 * IDS * number).unwrap();
    let records = rig.out.wait_for(total, Duration::from_secs(30), Duration::from_millis(500));
    let verdict = books::check(&records, &expected);
    assert!(verdict.is_ok(), "{}\n{}", verdict.unwrap_err(), rig.node.log_tail());
    assert!(rig.node.dead_letters().is_empty());
    let _ = rig.good.port;
}

#[test]
fn what_fails_for_good_is_a_dead_letter_that_says_why_and_can_be_retried_in_order() {
    let Some(mut rig) = Rig::start("dead-letter") else { return };
    rig.publish(vec![record(1, "bad", "1"), record(1, "bad", "never"), record(1, "bad", "2")]);
    wait_until("the others go on", node::PATIENCE, || rig.counted("out/bad/1") == 2);
    wait_until("it is a dead letter", node::PATIENCE, || rig.node.dead_letters().len() == 1);
    let letter = rig.node.dead_letters().remove(0);
    assert!(letter.reason.contains("status 500") && letter.reason.contains("it never works"), "{letter:?}");
    let shown = String::from_utf8(rig.node.command(&["dlq", "show", &letter.key]).stdout).unwrap();
    assert!(shown.contains("\"never\"") && shown.contains("bad/bad"), "{shown}");

    // Three that fail while the server is broken come back in their order.
    rig.bad.be(Manner::Says(404));
    rig.publish((3..6).map(|number| record(1, "bad", &number.to_string())).collect());
    wait_until("all are dead letters", node::PATIENCE, || rig.node.dead_letters().len() == 4);
    assert!(rig.node.command(&["dlq", "drop", &letter.key]).status.success());
    rig.bad.be(Manner::AsAnSdk);
    assert!(rig.node.command(&["dlq", "retry", "bad/bad/1"]).status.success());
    wait_until("all are counted", node::PATIENCE, || rig.counted("out/bad/1") == 5);
    let verdict = books::check(&rig.out.records(), &BTreeMap::from([("out/bad/1".to_owned(), 5)]));
    assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    rig.node.stop();
}
