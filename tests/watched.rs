//! Promise: a service manager, a health check and Prometheus see how a node is.
//!
//! A real process and a real datagram socket in the place of systemd's; no broker, for a node serves without one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::module_yaml;
use support::mosquitto::{Mosquitto, Tuning, free_port};
use support::node::{Node, PATIENCE};
use support::wait_until;

/// What the service manager hears, in order, without `STATUS`.
fn heard(socket: &UnixDatagram) -> String {
    loop {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        if !text.starts_with("STATUS=") {
            return text;
        }
    }
}

#[test]
fn a_node_without_a_broker_is_ready_lives_reloads_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (broker, metrics) = (free_port(), free_port().to_string());
    let arguments = ["--metrics", &metrics, "--workers", "2"];
    let mut node =
        Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module_yaml::quiet(broker), &arguments);
    assert_eq!(node.command(&["status", "--healthy"]).status.code(), Some(1), "nothing runs");

    node.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1500000")]);
    let mut first = heard(&socket);
    while first == "WATCHDOG=1" {
        first = heard(&socket);
    }
    assert_eq!(first, "READY=1", "{}", node.log_tail());
    for _ in 0..4 {
        assert_eq!(heard(&socket), "WATCHDOG=1", "two idle workers turn");
    }
    assert_eq!(node.command(&["status", "--healthy"]).status.code(), Some(0), "{}", node.log_tail());

    let page = get(&metrics, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(
        page.contains("\nfogfun_serving 1\n") && page.contains("\nfogfun_memory_bytes{worker=\"1\"} "),
        "{page}"
    );
    assert!(page.contains("\nfogfun_session_connected{session=\"a/in\"} 0\n"), "{page}");
    assert!(get(&metrics, "/").starts_with("HTTP/1.1 404"));

    node.set_module("kind: [");
    hang_up(&node);
    let words: Vec<String> =
        std::iter::repeat_with(|| heard(&socket)).take_while(|word| word != "READY=1").collect();
    assert!(words.iter().any(|word| word.starts_with("RELOADING=1\nMONOTONIC_USEC=")), "{words:?}");
    let log = node.log();
    assert!(log.contains("a restart would fail") && log.contains("has changed: restart needed"), "{log}");

    node.ask_to_stop();
    wait_until("it says that it stops", PATIENCE, || heard(&socket).starts_with("STOPPING=1"));
    assert!(node.wait_end(PATIENCE).is_some_and(|status| status.success()), "{}", node.log_tail());
}

#[test]
fn a_node_that_is_frozen_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module_yaml::quiet(free_port()), &[]);
    node.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")]);
    // Before it is ready it has no ear for SIGTERM.
    while heard(&socket) != "READY=1" {}
    while heard(&socket) != "WATCHDOG=1" {}
    node.freeze();
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 1024]).is_ok() {}
    std::thread::sleep(Duration::from_millis(600));
    assert!(socket.recv(&mut [0; 1024]).is_err());
    node.thaw();
    node.stop();
}

#[test]
fn the_doctor_finds_the_broker_that_is_not_there() {
    let node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module_yaml::quiet(free_port()), &[]);
    let output = node.command(&["doctor", node.module_path().to_str().unwrap(), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    let verdict = |check: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).map(|finding| finding["verdict"].clone())
    };
    assert_eq!(verdict("broker a/in").unwrap(), "fail");
    for check in [
        "node",
        "clock",
        "memory-cgroup",
        "temperature",
        "power",
        "page-size",
        "file-descriptors",
        "free-space",
        "storage",
    ] {
        assert!(verdict(check).is_some(), "{check} is not in {report}");
    }
}

#[test]
fn the_doctor_tells_a_tuned_mosquitto_from_one_as_installed() {
    for (tuning, verdict, words) in
        [(Tuning::Tuned, "ok", "mosquitto version"), (Tuning::Stock, "warn", "takes 20 records under way")]
    {
        let Some(broker) = Mosquitto::start(tuning) else { return };
        let node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module_yaml::quiet(broker.port), &[]);
        let output = node.command(&["doctor", node.module_path().to_str().unwrap(), "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == "broker a/in").unwrap();
        assert_eq!(found["verdict"], verdict, "{report}");
        assert!(found["text"].as_str().unwrap().contains(words), "{found}");
    }
}

#[test]
fn a_start_waits_a_little_for_whoever_reads_its_directory() {
    let mut node = Node::new(Path::new(env!("CARGO_BIN_EXE_fogfun")), &module_yaml::quiet(free_port()), &[]);
    node.start();
    node.stop();
    let lock = OpenOptions::new().write(true).open(node.data().join("log/lock")).unwrap();
    lock.lock().unwrap();
    node.start_with(&[]);
    wait_until("it waits", PATIENCE, || node.log().contains(": waiting for it, "));
    lock.unlock().unwrap();
    node.wait_ready();
    node.stop();

    lock.lock().unwrap();
    node.start_with(&[]);
    let status = node.wait_end(PATIENCE).expect("it gives up");
    assert_eq!(status.code(), Some(1));
    let log = node.log();
    assert!(log.trim_end().lines().last().unwrap().contains("is in use by process "), "{log}");
}

fn hang_up(node: &Node) {
    let pid = node.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

fn get(port: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
