//! Promise: what an existing StateFun 3.3 SDK writes runs unmodified, exactly once, whatever is killed.
//!
//! The published SDKs, fetched from their registries, serve the same two functions (`tests/sdks/<language>`): two states with
//! expiration, messages to another type and id, delayed ones of which some are cancelled, Kafka and generic egress. Node and function
//! process are killed at random while records flow; afterwards every count and every record received, in order, must be right.
//!
//! Python and JavaScript always; Java and Go with `FOGFUN_NIGHTLY=1`, for they take minutes to fetch and build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::mosquitto::{Mosquitto, Tuning, free_port};
use support::node::{self, Node};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::{Record, Subscriber};
use support::wire::{Qos, Version};
use support::{Seeded, books, nightly, program, say, wait_until};

#[test]
fn python_functions_count_once() {
    run("python", python);
}

#[test]
fn javascript_functions_count_once() {
    run("javascript", javascript);
}

#[test]
fn java_functions_count_once() {
    if nightly() {
        run("java", java);
    }
}

#[test]
fn go_functions_count_once() {
    if nightly() {
        run("go", go);
    }
}

/// One at a time: two cores are shared by the broker, the clients, the node and the functions.
static ALONE: Mutex<()> = Mutex::new(());

/// Ids, and records for each.
const IDS: u64 = 30;
const RECORDS: u64 = 60;

fn run(language: &str, prepare: fn() -> Result<Server, String>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(broker) = Mosquitto::start(Tuning::Tuned) else {
        return;
    };
    let mut functions = match prepare() {
        Ok(functions) => functions,
        Err(reason) => {
            let required = std::env::var("FOGFUN_REQUIRE_SDKS").is_ok_and(|value| value == "1");
            assert!(!required, "FOGFUN_REQUIRE_SDKS=1, but: {reason}");
            say(&format!("\n!!! SKIPPED: the {language} SDK: {reason}"));
            return;
        }
    };
    let mut seeded = Seeded::from_environment(0x5DC5);
    let module = module(broker.port, functions.port);
    let mut node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module, &["--workers", "2"]);
    // The functions come later: a node waits for them.
    node.start();
    wait_until("the ingress is subscribed", node::PATIENCE, || broker.has_subscription("sdk-in", "in/+"));
    let out = Subscriber::start(broker.port, Version::Mqtt5, "out", "out/#", Qos::ExactlyOnce);
    let generic = Subscriber::start(broker.port, Version::Mqtt5, "generic", "generic/#", Qos::ExactlyOnce);
    functions.start();
    let publishing = publish(pace(broker.port), script());
    let deaths = die_under_way(&mut node, &mut functions, &mut seeded);
    publishing.join().unwrap();

    let expected = expected();
    let total = usize::try_from(expected.values().sum::<u64>()).unwrap();
    let patience = Duration::from_secs(90);
    let records = out.wait_for(total, patience, Duration::from_secs(1));
    let verdict = books::check(&records, &expected);
    let seen = node.status().0;
    assert!(verdict.is_ok(), "{}\n{seen:#}\n{}", verdict.unwrap_err(), node.log_tail());
    let fifths = usize::try_from(IDS * (RECORDS / 5)).unwrap();
    check_generic(&generic.wait_for(fifths, patience, Duration::from_secs(1)));
    // One delayed message an id was never cancelled; nothing else waits.
    let delayed: u64 = workers(&seen).map(|worker| worker["messages_delayed"].as_u64().unwrap()).sum();
    assert_eq!(delayed, IDS, "{seen:#}");
    assert!(node.dead_letters().is_empty(), "{:?}", node.dead_letters());
    node.stop();
    for id in 0..IDS {
        let count = node.ask(&["state", "get", "sdk/counter", &id.to_string(), "count"]);
        assert_eq!(int_in(&count), Some(RECORDS), "{count}");
        let last = node.ask(&["state", "get", "sdk/counter", &id.to_string(), "last"]);
        assert!(last["entries"][0]["expires_in_ms"].as_u64().is_some_and(|left| 0 < left), "{last}");
    }
    eprintln!("{language}: {deaths:?} deaths of node and functions, {total} records out");
}

/// Kills the node and the functions in turn while records flow.
fn die_under_way(node: &mut Node, functions: &mut Server, seeded: &mut Seeded) -> (u32, u32) {
    let deaths = if nightly() { 12 } else { 4 };
    for _ in 0..deaths {
        std::thread::sleep(Duration::from_millis(seeded.within(200, 700)));
        functions.kill();
        // The records that come meanwhile wait.
        std::thread::sleep(Duration::from_millis(seeded.within(50, 400)));
        functions.start();
        std::thread::sleep(Duration::from_millis(seeded.within(200, 700)));
        node.kill();
        node.start();
    }
    (deaths, deaths)
}

fn module(broker: u16, functions: u16) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http
spec:
  functions: sdk/*
  urlPathTemplate: http://127.0.0.1:{functions}/statefun
---
kind: fogfun.mqtt.v1/ingress
spec:
  id: sdk/in
  address: mqtt://127.0.0.1:{broker}
  clientId: sdk-in
  topics:
    - topic: in/{{id}}
      qos: 2
      format: text
      id: {{capture: id}}
      targets: [sdk/counter]
---
kind: fogfun.mqtt.v1/egress
spec:
  id: sdk/out
  address: mqtt://127.0.0.1:{broker}
  clientId: sdk-out
---
kind: fogfun.mqtt.v1/egress
spec:
  id: sdk/generic
  address: mqtt://127.0.0.1:{broker}
  clientId: sdk-generic
  topic: generic/{{caller.id}}
  format: raw
"
    )
}

fn pace(port: u16) -> Pace {
    Pace::new(port, 300)
}

/// The n-th record of an id says n.
fn script() -> Vec<ToPublish> {
    let records = (1..=RECORDS).flat_map(|number| (0..IDS).map(move |id| (id, number)));
    let to_publish = |(id, number): (u64, u64)| ToPublish {
        topic: format!("in/{id}"),
        payload: number.to_string().into(),
        properties: Vec::new(),
    };
    records.map(to_publish).collect()
}

/// Counters publish each record, mirrors what they are told: each count at once, and every third later once more.
fn expected() -> BTreeMap<String, u64> {
    let of_id = |id| [(format!("out/{id}"), RECORDS), (format!("out/m{id}"), RECORDS + RECORDS / 3)];
    (0..IDS).flat_map(of_id).collect()
}

/// Every fifth count of every id, as digits.
fn check_generic(records: &[Record]) {
    for id in 0..IDS {
        let topic = format!("generic/{id}");
        let counts: Vec<&str> =
            records.iter().filter(|record| record.topic == topic).map(Record::text).collect();
        let fifths: Vec<String> = (1..=RECORDS / 5).map(|fifth| (5 * fifth).to_string()).collect();
        assert_eq!(counts, fifths, "{topic}");
    }
}

fn workers(status: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    status["workers"].as_array().unwrap().iter()
}

/// The number in an answer of `state get --json`: a StateFun int is a tag and four bytes little-endian.
fn int_in(answer: &serde_json::Value) -> Option<u64> {
    let bytes = answer["entries"][0]["value"]["bytes"].as_str()?;
    let bytes = data_encoding::BASE64.decode(bytes.as_bytes()).ok()?;
    Some(u64::from(u32::from_le_bytes(bytes.strip_prefix(&[0x0d])?.try_into().ok()?)))
}

/// A process with functions on a port that stays.
struct Server {
    command: Command,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// `command` takes the port as its last argument.
    fn new(mut command: Command) -> Self {
        let port = free_port();
        command.arg(port.to_string()).stdin(Stdio::null());
        Self { command, port, child: None }
    }

    fn start(&mut self) {
        self.child = Some(self.command.spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the functions ended: {ended:?}");
            assert!(start.elapsed() < node::PATIENCE, "the functions do not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn python() -> Result<Server, String> {
    let directory = kept("sdk-python");
    let interpreter = directory.join("bin/python");
    let is_there = |interpreter: &Path| {
        Command::new(interpreter).args(["-c", "import statefun"]).stderr(Stdio::null()).status()
    };
    if !is_there(&interpreter).is_ok_and(|status| status.success()) {
        let python = program("python3").ok_or("python3 is not installed")?;
        ran(Command::new(python).args(["-m", "venv", "--clear"]).arg(&directory))?;
        let packages = ["apache-flink-statefun==3.3.0", "protobuf<4"];
        ran(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    }
    let mut command = Command::new(interpreter);
    command.arg(sources("python").join("functions.py"));
    Ok(Server::new(command))
}

fn javascript() -> Result<Server, String> {
    let directory = kept("sdk-javascript");
    let node = program("node").or_else(|| program("nodejs")).ok_or("nodejs is not installed")?;
    if !directory.join("node_modules/apache-flink-statefun").is_dir() {
        let npm = program("npm").ok_or("npm is not installed")?;
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let arguments = ["install", "--silent", "--no-save", "--prefix"];
        ran(Command::new(npm).args(arguments).arg(&directory).arg("apache-flink-statefun@3.3.0"))?;
    }
    let mut command = Command::new(node);
    command.env("NODE_PATH", directory.join("node_modules"));
    command.arg(sources("javascript").join("functions.js"));
    Ok(Server::new(command))
}

fn java() -> Result<Server, String> {
    let java = program("java").ok_or("java is not installed")?;
    let maven = program("mvn").ok_or("maven is not installed")?;
    let directory = kept("sdk-java");
    let target = format!("-DbuildDirectory={}", directory.display());
    ran(Command::new(maven)
        .args(["--quiet", "package", &target, "-f"])
        .arg(sources("java").join("pom.xml")))?;
    let mut command = Command::new(java);
    command.arg("-cp").arg(format!("{0}/classes:{0}/libraries/*", directory.display())).arg("Functions");
    Ok(Server::new(command))
}

fn go() -> Result<Server, String> {
    let go = program("go").ok_or("go is not installed")?;
    let binary = kept("sdk-go").join("functions");
    ran(Command::new(go).args(["build", "-o"]).arg(&binary).arg(".").current_dir(sources("go")))?;
    Ok(Server::new(Command::new(binary)))
}

/// Where what was fetched is kept from one run to the next: under `target/tmp`.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdks").join(language)
}

fn ran(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.lines().last().unwrap_or_default()))
}
