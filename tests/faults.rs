//! Promise: whatever the world does wrong has the outcome that docs/operating/faults.md names.
//!
//! A real process and a real Mosquitto; what stops, fills up, becomes read-only, forgets or jumps is the real thing too, as far as the machine
//! permits it. What it does not permit is said and skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::module_yaml::ModuleYaml;
use support::node::{self, Node, PATIENCE};
use support::publisher::publish;
use support::subscriber::Subscriber;
use support::trouble::{Rig, script};
use support::wire::{Qos, Version};
use support::{say, wait_until};

/// So that a keep-alive may be short, which is at least twice the longest invocation.
const HASTY: &str = "invocation_max_ms = 500\n";
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A broker closes after one and a half keep-alives; Mosquitto looks every five seconds.
const STANDSTILL: Duration = Duration::from_secs(10);
const SMALL_LOG: &str = "segment_bytes = 1_048_576\nlog_bytes_max = 4_194_304\nbase_bytes = 16_777_216\n";

fn with_keep_alive(module: String) -> String {
    let short = format!("keepAlive: {} s\n", KEEP_ALIVE.as_secs());
    let module = module.replace("clientId: counting-in\n", &format!("clientId: counting-in\n  {short}"));
    module.replace("clientId: counting-out\n", &format!("clientId: counting-out\n  {short}"))
}

fn wait_flow(rig: &Rig) {
    let before = rig.subscriber.count();
    wait_until("records flow", PATIENCE, || before + 100 < rig.subscriber.count());
}

#[test]
fn a_node_that_stands_still_longer_than_its_keep_alive_goes_on() {
    let Some(rig) = Rig::start_with(HASTY, "", with_keep_alive) else { return };
    let (script, expected) = script(3_000, 0);
    let publishing = publish(rig.pace(1_000), script);
    wait_flow(&rig);
    rig.node.freeze();
    // Not a wait for something: the keep-alive is to pass.
    std::thread::sleep(STANDSTILL);
    rig.node.thaw();
    publishing.join().unwrap();
    rig.assert_right(&expected);
    for session in ["counting/in", "counting/out"] {
        assert_eq!(rig.session(session)["incarnation"], 1, "the broker kept the session");
    }
    let said = rig.broker.log();
    assert!(said.contains("exceeded timeout"), "the broker had given the node up: {said}");
}

#[test]
fn a_broker_that_stands_still_longer_than_the_keep_alive_is_left_and_found_again() {
    let Some(rig) = Rig::start_with(HASTY, "", with_keep_alive) else { return };
    let (script, expected) = script(1_500, 0);
    let publishing = publish(rig.pace(1_000), script);
    wait_flow(&rig);
    rig.broker.freeze();
    rig.wait_status("disconnected", |status| {
        support::trouble::session_in(status, "counting/in")["connection"] != "connected"
    });
    rig.broker.thaw();
    publishing.join().unwrap();
    rig.assert_right(&expected);
}

#[test]
fn a_broker_that_forgets_its_sessions_is_served_anew() {
    let Some(Rig { mut broker, node, subscriber }) = Rig::start("").inspect(|rig| {
        rig.send(&[("a", "1"), ("b", "1")]);
        rig.wait_records("a", &["1 1"]);
        rig.wait_records("b", &["1 1"]);
        rig.wait_status("all handshakes are done", |status| {
            support::trouble::session_in(status, "counting/out")["outbox_entries"] == 0
        });
    }) else {
        return;
    };
    drop(subscriber);
    broker.kill();
    broker.forget();
    broker.start_again();
    let subscriber = Subscriber::start(broker.port, Version::Mqtt5, "subscriber", "out/#", Qos::ExactlyOnce);
    let rig = Rig { broker, node, subscriber };
    rig.wait_status("a new incarnation", |status| {
        ["counting/in", "counting/out"].iter().all(|name| {
            let session = support::trouble::session_in(status, name);
            session["connection"] == "connected" && session["incarnation"] == 2
        })
    });
    let (status, _) = rig.node.status();
    assert!(status["node"]["events"]["session-lost"].is_u64(), "{status}");
    wait_until("it is subscribed again", PATIENCE, || {
        2 <= rig.broker.log().lines().filter(|line| line.ends_with("in/+")).count()
    });
    rig.send(&[("a", "2"), ("b", "2")]);
    rig.wait_records("a", &["2 2"]);
    rig.wait_records("b", &["2 2"]);
}

#[test]
fn a_card_that_becomes_read_only_is_a_state_and_the_next_start_has_all() {
    let Some(mut rig) = Rig::start(SMALL_LOG) else { return };
    rig.node.stop();
    let Some(card) = Card::mount(&rig.node.data()) else { return };
    rig.node.start();
    let (script, expected) = script(2_000, 500);
    let publishing = publish(rig.pace(500), script);
    wait_flow(&rig);
    card.become_read_only();
    let latched = |rig: &Rig| rig.node.status().0["node"]["store"]["latched"].clone();
    wait_until("status says so", PATIENCE, || latched(&rig).is_string());
    assert!(latched(&rig).as_str().unwrap().to_lowercase().contains("read-only"), "{}", latched(&rig));
    let received = rig.subscriber.count();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.subscriber.count(), received, "what is not durable is not told");
    rig.node.kill();
    // On a card that cannot be written a start is refused, and says why.
    rig.node.start_with(&[]);
    let ended = rig.node.wait_end(PATIENCE).expect("a start that is refused ends");
    assert_eq!(ended.code(), Some(1), "{}", rig.node.log_tail());
    assert!(rig.node.log().to_lowercase().contains("read-only"), "{}", rig.node.log_tail());
    card.become_writable();
    rig.node.start();
    publishing.join().unwrap();
    rig.assert_right(&expected);
    rig.node.stop();
}

#[test]
fn a_card_that_becomes_read_only_under_a_quiet_node_ends_no_process() {
    let Some(mut rig) = Rig::start(SMALL_LOG) else { return };
    rig.node.stop();
    let Some(card) = Card::mount(&rig.node.data()) else { return };
    rig.node.start();
    rig.send(&[("a", "1")]);
    rig.wait_records("a", &["1 1"]);
    // What is mapped is on the card, so the next change of it asks the file system again.
    std::thread::sleep(Duration::from_secs(2));
    assert!(card.run("sync", &["-f"]));
    card.become_read_only();
    rig.send(&[("a", "2")]);
    let latched = |rig: &Rig| rig.node.status().0["node"]["store"]["latched"].clone();
    wait_until("status says so", PATIENCE, || latched(&rig).is_string());
    rig.node.kill();
    card.become_writable();
    rig.node.start();
    rig.wait_records("a", &["1 1", "2 2"]);
    rig.node.stop();
}

#[test]
fn a_start_on_a_full_disk_is_refused_and_loses_nothing() {
    let Some(mut rig) = Rig::start(SMALL_LOG) else { return };
    rig.node.stop();
    let Some(_card) = Card::mount(&rig.node.data()) else { return };
    rig.node.start();
    let (script, expected) = script(500, 0);
    publish(rig.pace(1_000), script).join().unwrap();
    wait_flow_of(&rig, &expected);
    rig.node.kill();
    let filler = rig.node.data().join("filler");
    fill(&filler);
    rig.node.start_with(&[]);
    match rig.node.wait_end(Duration::from_secs(3)) {
        Some(ended) => {
            assert_eq!(ended.code(), Some(1), "{}", rig.node.log_tail());
            assert!(rig.node.log().contains("No space left"), "{}", rig.node.log_tail());
        }
        // A segment that waits to be used again needs no space.
        None => rig.node.kill(),
    }
    std::fs::remove_file(&filler).unwrap();
    rig.node.start();
    rig.assert_right(&expected);
    let (status, code) = rig.node.status();
    assert_eq!(code, Some(0), "{status}");
    rig.node.stop();
}

fn wait_flow_of(rig: &Rig, expected: &BTreeMap<String, u64>) {
    let count = usize::try_from(expected.values().sum::<u64>()).unwrap();
    wait_until("all is answered", PATIENCE, || count <= rig.subscriber.count());
}

fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    while file.write_all(&[7]).is_ok() {}
}

/// A board's clock since power-on says something else at every start; delays are counted from what was stamped.
#[test]
fn a_clock_that_jumps_two_weeks_between_starts_brings_no_delayed_message_forward() {
    const DELAY: Duration = Duration::from_secs(3);
    let Some(Rig { broker, node: unused, subscriber }) = Rig::start("") else { return };
    drop(unused);
    let scripts = support::scratch("clock");
    let shifted = scripts.path().join("shifted");
    let Some(()) = write_shifted(&shifted, &node::example("trouble")) else { return };
    let module = ModuleYaml {
        port: broker.port,
        version: Version::Mqtt5,
        qos: Qos::ExactlyOnce,
        target: "trouble/count",
        message_ids: false,
    };
    let node = Node::new(&shifted, &module.text(), &[]);
    let mut rig = Rig { broker, node, subscriber };
    let start = |rig: &mut Rig, ahead: Duration| {
        let seconds = ahead.as_secs().to_string();
        rig.node.start_with(&[("TROUBLE_LATER", "1"), ("FOGFUN_TEST_AHEAD", &seconds)]);
        rig.node.wait_ready();
    };
    start(&mut rig, Duration::ZERO);
    wait_until("it is subscribed", PATIENCE, || rig.broker.has_subscription("counting-in", "in/+"));
    let mut received = 0;
    // Two weeks on, and two weeks back.
    for (round, ahead) in [(1, Duration::from_secs(14 * 24 * 3600)), (2, Duration::ZERO)] {
        let begin = Instant::now();
        let ids: Vec<String> = (0..20).map(|id| format!("{round}-{id}")).collect();
        let messages: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "later")).collect();
        rig.send(&messages);
        rig.wait_status("twenty wait", |status| status["workers"][0]["messages_delayed"] == 20);
        rig.node.kill();
        let lived = begin.elapsed();
        start(&mut rig, ahead);
        let began = Instant::now();
        wait_until("the first is due", PATIENCE, || received < rig.subscriber.count());
        // Time stands still while there is no process, so what is left of the delay is waited for, whatever the clock says.
        let least = DELAY.saturating_sub(lived + Duration::from_millis(500));
        assert!(least <= began.elapsed(), "{:?} instead of {least:?}", began.elapsed());
        received += 20;
        wait_until("all have come", PATIENCE, || rig.subscriber.count() == received);
    }
    rig.node.kill();
}

/// A program that is the node with a clock since power-on that is ahead; killed with the process that started it.
fn write_shifted(path: &Path, binary: &Path) -> Option<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let tried = Command::new("unshare").args(["--time", "--boottime", "60", "--fork", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        say("SKIPPED: a clock that jumps needs the permission to make a time namespace");
        return None;
    }
    let script = format!(
        "#!/bin/sh\nexec unshare --time --boottime \"${{FOGFUN_TEST_AHEAD:-0}}\" --fork --kill-child=KILL -- {} \"$@\"\n",
        binary.display()
    );
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(())
}

/// A file system of its own over a directory, which can fail as a worn card's does; until dropped.
struct Card {
    mounted: PathBuf,
    image: tempfile::TempDir,
}

impl Card {
    /// `None` where it may not be mounted, which was said.
    fn mount(directory: &Path) -> Option<Self> {
        let card = Self { mounted: directory.to_owned(), image: support::scratch("card") };
        let file = std::fs::File::create(card.path()).unwrap();
        file.set_len(CARD_BYTES).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(card.path()).output();
        if made.is_ok_and(|output| output.status.success()) && card.try_mount() {
            return Some(card);
        }
        say("SKIPPED: a failing card needs mkfs.ext4 and the permission to mount a file as one");
        None
    }

    /// What the kernel does when it cannot write the journal: files that are open for writing cannot be written any more either.
    fn become_read_only(&self) {
        assert!(self.run("mount", &["-o", "remount,abort"]), "the card can fail");
    }

    /// Taken out, and put in again as good.
    fn become_writable(&self) {
        assert!(self.run("umount", &[]), "nobody uses it");
        assert!(self.try_mount());
    }

    fn try_mount(&self) -> bool {
        let mounted = Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(self.path())
            .arg(&self.mounted)
            .output();
        mounted.is_ok_and(|output| output.status.success())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let done = Command::new(program).args(arguments).arg(&self.mounted).output();
        done.is_ok_and(|output| output.status.success())
    }

    fn path(&self) -> PathBuf {
        self.image.path().join("card")
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = self.run("umount", &["-l"]);
    }
}

const CARD_BYTES: u64 = 32 * 1024 * 1024;
