//! Promise: a node says what is wrong, keeps what it promised, and goes on by itself where it can.
//!
//! A real process between a real Mosquitto, a publisher and a subscriber that keeps repeats. What its functions do wrong is in
//! `examples/trouble`; what the world does wrong is done here: signals, a full disk, a flipped bit, a broker with wishes of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::time::{Duration, Instant};

use support::connection::Connection;
use support::node::PATIENCE;
use support::publisher::{Pace, Published, publish};
use support::trouble::{Rig, message, script, session_in, sessions};
use support::wait_until;
use support::wire::{self, Publish, Qos, Received, Version};

/// Quick tries, and an endless loop is one soon.
const HASTY: &str = "attempts_max = 3\nretry_first_ms = 10\nretry_max_ms = 20\ninvocation_max_ms = 500\n";

fn joined(publishing: std::thread::JoinHandle<Published>) -> Published {
    publishing.join().unwrap()
}

#[test]
fn a_stop_under_load_ends_in_time_and_repeats_nothing() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    let (script, expected) = script(2_000, 0);
    let publishing = publish(rig.pace(1_000), script);
    for _ in 0..3 {
        let before = rig.subscriber.count();
        wait_until("records flow", PATIENCE, || before + 100 < rig.subscriber.count());
        let begin = Instant::now();
        rig.node.stop();
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
        rig.node.start();
    }
    joined(publishing);
    rig.assert_right(&expected);
}

#[test]
fn a_backlog_many_times_the_receive_maximum_is_taken_in() {
    let Some(mut rig) = Rig::start_with(HASTY, "", |text| {
        text.replace("clientId: counting-in\n", "clientId: counting-in\n  receiveMaximum: 50\n")
    }) else {
        return;
    };
    rig.node.kill();
    let (script, expected) = script(3_000, 0);
    joined(publish(rig.pace(10_000), script));
    rig.node.start();
    rig.assert_right(&expected);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    let (script, _) = script(20_000, 0);
    drop(publish(rig.pace(5_000), script));
    wait_until("records flow", PATIENCE, || 200 < rig.subscriber.count());
    // A broker that answers nothing keeps handshakes open, which a stop waits for.
    wait_until("the broker owes an answer", PATIENCE, || {
        rig.broker.freeze();
        let owes = 0 < handshakes_open(&rig.node.status().0);
        if !owes {
            rig.broker.thaw();
        }
        owes
    });
    rig.node.ask_to_stop();
    assert!(rig.node.wait_end(Duration::from_millis(300)).is_none(), "{}", rig.node.log_tail());
    rig.node.ask_to_stop();
    let ended = rig.node.wait_end(Duration::from_secs(1)).expect("the second ends it");
    assert_eq!(ended.code(), Some(1), "{}", rig.node.log_tail());
    std::mem::forget(rig.subscriber);
}

/// Records that a session has sent or taken in and whose handshakes are not finished.
fn handshakes_open(status: &serde_json::Value) -> u64 {
    let count = |session: &serde_json::Value, name: &str| session[name].as_u64().unwrap();
    sessions(status)
        .map(|session| count(session, "outbox_in_flight") + count(session, "accepted_unfinished"))
        .sum()
}

#[test]
fn a_message_that_aborts_the_process_is_a_dead_letter_after_three_deaths() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    rig.send(&[("a", "abort"), ("a", "1"), ("b", "1")]);
    rig.survive_aborts(3);
    rig.wait_records("a", &["1 1"]);
    rig.wait_records("b", &["1 1"]);
    let letter = rig.wait_dead_letter("a");
    assert_eq!(letter.function_type, "trouble/count");
    assert!(letter.reason.contains("ended the process too often"), "{}", letter.reason);
    // In a version that is cured, the same message is as good as any other.
    rig.cure();
    rig.retry(&letter.key);
    rig.wait_records("a", &["1 1", "2 abort"]);
    assert!(rig.node.dead_letters().is_empty());
}

#[test]
fn a_first_try_that_only_fails_acquits_no_killer() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    rig.send(&[("a", "fail-then-abort"), ("b", "1")]);
    rig.survive_aborts(3);
    rig.wait_records("b", &["1 1"]);
    let letter = rig.wait_dead_letter("a");
    assert!(letter.reason.contains("ended the process too often"), "{}", letter.reason);
}

#[test]
fn an_endless_loop_is_a_dead_letter_after_three_deaths() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    rig.send(&[("a", "loop"), ("b", "1")]);
    rig.survive_aborts(3);
    rig.wait_records("b", &["1 1"]);
    let letter = rig.wait_dead_letter("a");
    assert!(letter.reason.contains("ended the process too often"), "{}", letter.reason);
    assert!(rig.node.log().contains("took longer than 500ms"), "{}", rig.node.log_tail());
}

#[test]
fn what_fails_or_panics_is_a_dead_letter_and_can_be_retried() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    rig.send(&[("a", "fail"), ("b", "panic"), ("c", "1"), ("a", "1"), ("b", "1")]);
    for (id, reason) in [("a", "the fridge is open"), ("b", "it panicked: the fridge is on fire")] {
        let letter = rig.wait_dead_letter(id);
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        rig.wait_records(id, &["1 1"]);
    }
    rig.wait_records("c", &["1 1"]);
    rig.cure();
    rig.retry("trouble/count/a");
    rig.wait_records("a", &["1 1", "2 fail"]);
    let letter = rig.wait_dead_letter("b");
    rig.retry(&letter.key);
    rig.wait_records("b", &["1 1", "2 panic"]);
    assert!(rig.node.dead_letters().is_empty());
}

#[test]
fn a_record_that_cannot_be_decoded_is_a_dead_letter_of_its_ingress() {
    let Some(rig) = Rig::start(HASTY) else { return };
    let mut unreadable = message("a", "");
    unreadable.payload = vec![0xFF, 0xFE].into();
    joined(publish(rig.pace(1_000), vec![unreadable, message("a", "1")]));
    rig.wait_records("a", &["1 1"]);
    let letter = rig.wait_dead_letter("counting/in");
    assert_eq!(letter.function_type, "fogfun/session");
    assert!(letter.reason.contains("UTF-8"), "{}", letter.reason);
}

#[test]
fn messages_for_a_function_that_is_not_bound_wait_for_a_version_that_binds_it() {
    let Some(mut rig) = Rig::start(HASTY) else { return };
    rig.node.stop();
    rig.node.start_with(&[("TROUBLE_LATER", "1")]);
    rig.node.wait_ready();
    rig.send(&[("a", "later"), ("b", "later"), ("a", "later"), ("c", "1")]);
    rig.wait_records("c", &["1 1"]);
    rig.node.stop();
    rig.node.start();
    let unbound = |rig: &Rig| rig.node.status().0["workers"][0]["messages_unbound"].clone();
    let expected = serde_json::json!([["trouble/later", 3]]);
    rig.wait_status("three messages wait", |status| status["workers"][0]["messages_unbound"] == expected);
    rig.node.kill();
    rig.node.start();
    assert_eq!(unbound(&rig), expected, "they outlive the process");
    rig.node.stop();
    rig.node.start_with(&[("TROUBLE_LATER", "1")]);
    rig.node.wait_ready();
    rig.wait_records("a", &["1 later", "2 later"]);
    rig.wait_records("b", &["1 later"]);
    assert_eq!(unbound(&rig), serde_json::json!([]));
}

#[test]
fn a_full_disk_is_a_state_that_ends_by_itself() {
    const BOARD: &str = "segment_bytes = 1_048_576\nlog_bytes_max = 4_194_304\nbase_bytes = 16_777_216\n";
    let Some(mut rig) = Rig::start(BOARD) else { return };
    rig.node.stop();
    let Some(_small) = SmallDisk::mount(&rig.node.data(), "16m") else { return };
    rig.node.start();
    let filler = rig.node.data().join("filler");
    fill(&filler);
    let (script, expected) = script(1_000, 8_000);
    let publishing = publish(rig.pace(10_000), script);
    let latched = |rig: &Rig| rig.node.status().0["node"]["store"]["latched"].clone();
    wait_until("status says that the disk is full", PATIENCE, || latched(&rig).is_string());
    assert!(latched(&rig).as_str().unwrap().contains("space"), "{}", latched(&rig));
    let received = rig.subscriber.count();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.subscriber.count(), received, "what is not durable is not told");
    std::fs::remove_file(&filler).unwrap();
    joined(publishing);
    rig.assert_right(&expected);
    assert!(latched(&rig).is_null(), "{}", latched(&rig));
    rig.node.stop();
}

/// A file system of a few megabytes over a directory, until dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(directory: &std::path::Path, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory.to_owned()));
        }
        support::say("SKIPPED: a full disk needs the permission to mount a small one");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn fill(path: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}

#[test]
fn another_number_of_workers_finds_the_same_data() {
    let Some(mut rig) = Rig::start("") else { return };
    for (round, workers) in ["3", "1", "4"].into_iter().enumerate() {
        rig.node.stop();
        rig.node.set_arguments(&["--workers", workers]);
        rig.node.start();
        let number = (round + 1).to_string();
        let messages: Vec<_> = (0..30).map(|id| message(&id.to_string(), &number)).collect();
        joined(publish(rig.pace(1_000), messages));
        wait_until("all is answered", PATIENCE, || 30 * (round + 1) <= rig.subscriber.count());
    }
    let expected = (0..30).map(|id| (format!("out/{id}"), 3)).collect();
    rig.assert_right(&expected);
}

#[test]
fn an_idle_node_writes_nothing() {
    let Some(rig) = Rig::start("") else { return };
    rig.send(&[("a", "1")]);
    rig.wait_records("a", &["1 1"]);
    std::thread::sleep(Duration::from_secs(2));
    let path = format!("/proc/{}/io", rig.node.pid().unwrap());
    let written = || {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_of_writes =
            |line: &&str| ["wchar", "syscw", "write_bytes"].iter().any(|name| line.starts_with(name));
        text.lines().filter(is_of_writes).collect::<Vec<_>>().join(" ")
    };
    let before = written();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(written(), before);
}

#[test]
fn state_is_seen_and_changed_while_the_node_runs_and_at_rest() {
    let Some(mut rig) = Rig::start("") else { return };
    rig.send(&[("a", "1"), ("b", "1")]);
    rig.wait_records("a", &["1 1"]);
    rig.wait_records("b", &["1 1"]);
    for value in ["41", "71"] {
        let set = ["state", "set", "trouble/count", "a", "count", value, "--type", "io.statefun.types/long"];
        assert_eq!(rig.command(&set).0, Some(0));
        let (code, text) = rig.command(&["state", "get", "trouble/count", "a", "count"]);
        assert!(code == Some(0) && text.contains(value), "{text}");
        let (code, text) = rig.command(&["state", "list", "trouble/count"]);
        assert!(code == Some(0) && text.lines().count() == 3, "{text}");
        if value == "41" {
            rig.send(&[("a", "2")]);
            rig.wait_records("a", &["1 1", "42 2"]);
            // What follows is done at rest.
            rig.node.stop();
        }
    }
    assert_eq!(rig.command(&["state", "delete", "trouble/count", "b", "count"]).0, Some(0));
    assert_eq!(rig.command(&["state", "get", "trouble/count", "b", "count"]).0, Some(3));
    rig.node.start();
    rig.send(&[("a", "3"), ("b", "3")]);
    rig.wait_records("a", &["1 1", "42 2", "72 3"]);
    rig.wait_records("b", &["1 1", "1 3"]);
}

#[test]
fn a_session_that_is_taken_over_is_not_fought_for() {
    let Some(mut rig) = Rig::start("") else { return };
    let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |port: u16| format!("mqtt://127.0.0.1:{port}");
    let module = std::fs::read_to_string(rig.node.module_path()).unwrap();
    let port = broker.local_addr().unwrap().port();
    // The ingress is at a broker that takes it, and then says that another client is it. Mosquitto 2.0 only closes.
    rig.node.set_module(&module.replacen(&address(rig.broker.port), &address(port), 1));
    rig.node.stop();
    rig.node.start_with(&[]);
    let (mut stream, _) = broker.accept().unwrap();
    let connect = std::io::Read::read(&mut stream, &mut [0; 512]).unwrap();
    assert!(0 < connect);
    std::io::Write::write_all(&mut stream, b"\x20\x03\0\0\0\xE0\x01\x8E").unwrap();
    rig.node.wait_ready();
    rig.wait_status("taken over", |status| session_in(status, "counting/in")["connection"] == "taken-over");
    assert_eq!(rig.session("counting/out")["connection"], "connected");
    assert!(rig.node.log().contains("session-taken-over"), "{}", rig.node.log_tail());
    broker.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(broker.accept().is_err(), "it does not come back");
}

#[test]
fn a_session_that_is_taken_over_without_a_word_is_taken_back_and_loses_nothing() {
    let Some(rig) = Rig::start("") else { return };
    rig.send(&[("a", "1")]);
    let thief = Connection::session(rig.broker.port, Version::Mqtt5, "counting-in", false, 100).unwrap();
    rig.send(&[("a", "2"), ("a", "3")]);
    rig.wait_records("a", &["1 1", "2 2", "3 3"]);
    let (status, _) = rig.node.status();
    assert!(status["node"]["events"]["disconnected"].is_u64(), "{status}");
    drop(thief);
}

#[test]
fn a_shared_subscription_works() {
    let Some(rig) =
        Rig::start_with("", "", |text| text.replace("topic: in/{id}", "topic: $share/group/in/{id}"))
    else {
        return;
    };
    wait_until("it is subscribed", PATIENCE, || {
        rig.broker.has_subscription("counting-in", "$share/group/in/+")
    });
    rig.send(&[("a", "1"), ("a", "2")]);
    rig.wait_records("a", &["1 1", "2 2"]);
}

#[test]
fn retained_records_are_taken_or_ignored_as_the_module_says() {
    for (word, expected) in [("taken", &["1 old", "2 new"][..]), ("ignored", &["1 new"])] {
        let Some(mut rig) = Rig::start_with("", "", |text| {
            let retained = format!("in/{{id}}\n      retained: {word}\n");
            text.replace("in/{id}\n", &retained).replace("topic: in/", "topic: other/")
        }) else {
            return;
        };
        publish_retained(rig.broker.port, "in/a", "old");
        rig.node.stop();
        let module = std::fs::read_to_string(rig.node.module_path()).unwrap();
        rig.node.set_module(&module.replace("topic: other/", "topic: in/"));
        rig.node.start();
        wait_until("it is subscribed", PATIENCE, || rig.broker.has_subscription("counting-in", "in/+"));
        rig.send(&[("a", "new")]);
        rig.wait_records("a", expected);
    }
}

fn publish_retained(port: u16, topic: &str, text: &str) {
    let (mut connection, ..) = Connection::session(port, Version::Mqtt5, "retainer", true, 10).unwrap();
    let publish = Publish {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: topic.to_owned().into(),
        pkid: 1,
        payload: text.to_owned().into(),
        properties: None,
    };
    wire::publish(Version::Mqtt5, &publish, &mut connection.out);
    assert!(matches!(connection.wait_packet(), Ok(Received::PubAck { id: 1, failed: None })));
}

#[test]
fn a_broker_that_grants_less_is_said_and_served() {
    let Some(rig) = Rig::start_with("", "max_qos 1\n", |text| text) else { return };
    let pace = Pace { qos: Qos::AtLeastOnce, ..rig.pace(1_000) };
    joined(publish(pace, vec![message("a", "1"), message("a", "2")]));
    rig.wait_records("a", &["1 1", "2 2"]);
    let error = rig.session("counting/in")["last_error"].clone();
    assert!(error.as_str().is_some_and(|text| text.contains("QoS 1 instead of 2")), "{error}");
    let (status, _) = rig.node.status();
    assert!(status["node"]["events"]["qos-granted-lower"].is_u64(), "{status}");
}

#[test]
fn a_loss_is_said_until_a_person_accepts_it() {
    let Some(mut rig) = Rig::start("") else { return };
    for number in ["1", "2", "3", "4", "5"] {
        rig.send(&[("a", number)]);
        wait_until("it is answered", PATIENCE, || number == rig.subscriber.count().to_string());
    }
    rig.node.kill();
    flip_a_bit_of_a_proven_entry(&rig.node.data().join("log"));
    rig.node.start();
    let (status, code) = rig.node.status();
    assert_eq!(code, Some(4), "{status}");
    let text = status["node"]["degraded"].as_str().unwrap_or_else(|| panic!("{status}"));
    assert!(text.starts_with("lost epochs "), "{text}");
    // Degraded is not dead.
    let before = rig.subscriber.count();
    rig.send(&[("b", "1")]);
    rig.wait_records("b", &["1 1"]);
    assert!(before < rig.subscriber.count());
    let (code, text) = rig.command(&["doctor", "--accept"]);
    assert!(code == Some(0) && text.starts_with("accepted: "), "{text}");
    assert_eq!(rig.node.status().1, Some(0), "at once");
    rig.node.stop();
    assert_eq!(rig.node.status().1, Some(0), "at rest");
    let (code, text) = rig.command(&["doctor", "--accept"]);
    assert!(code == Some(0) && text.starts_with("nothing was lost"), "{text}");
}

/// Of the frame before the last but one in the newest segment, whose successors prove that it had been synced.
fn flip_a_bit_of_a_proven_entry(log: &std::path::Path) {
    const HEADER_BYTES: usize = 40;
    let names = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let is_segment =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("log-");
    let path = names.filter(is_segment).max().expect("there is a segment");
    let mut bytes = std::fs::read(&path).unwrap();
    let (mut at, mut frames) = (4096, Vec::new());
    while let Some(length) = bytes.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
    {
        if length == 0 {
            break;
        }
        if bytes[at + 32] == 1 {
            frames.push(at);
        }
        at += (HEADER_BYTES + length as usize).next_multiple_of(8);
    }
    assert!(4 <= frames.len(), "a few epochs");
    bytes[frames[frames.len() - 4] + HEADER_BYTES] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}
