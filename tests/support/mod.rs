//! What do tests and benchmarks that run real processes share? A broker, clients that know nothing of ours, a node.
//!
//! - [`mosquitto`]: a real Mosquitto on a free loopback port, in its own directory, ended by its process id.
//! - [`wire`] and [`connection`]: MQTT packets on a socket, over rumqttc's codecs alone.
//! - [`http`]: what a server of remote functions reads and writes.
//! - [`publisher`]: publishes a script of messages at a pace, each exactly or at least once, across broker restarts.
//! - [`subscriber`]: records what comes, in order. It does **not** drop repeats: a repeat is what the tests look for.
//! - [`node`]: a node as a child process that can be killed, stopped and started again, and its named points of death.
//! - [`trouble`]: broker, node and subscriber in one, and questions to them.
//! - [`books`]: what should have come out, and what is wrong with what did.
//!
//! Nothing here shares code with `src/mqtt`, so that one misunderstanding is not made twice.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub mod books;
pub mod connection;
pub mod http;
pub mod module_yaml;
pub mod mosquitto;
pub mod node;
pub mod publisher;
pub mod subscriber;
pub mod trouble;
pub mod wire;

/// Looks again every few milliseconds until `holds`; panics with `what` and the time waited if it never does.
pub fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "waited {within:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says so where the test runner cannot swallow it: past its capture of a passing test's output.
pub fn say(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{text}");
}

/// Is this the nightly form: longer, with more kills?
pub fn nightly() -> bool {
    std::env::var("FOGFUN_NIGHTLY").is_ok_and(|value| value == "1")
}

/// A new empty directory under the system's temporary one, short enough for a UNIX socket's path; gone when dropped.
pub fn scratch(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("fogfun-{name}-")).tempdir().unwrap()
}

/// The program's path if it is installed where Debian puts it or on `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// A small generator of unpredictable but repeatable numbers (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// The seed is `SEED` from the environment, else `default`; it is said, so that a failure can be repeated.
    pub fn from_environment(default: u64) -> Self {
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        eprintln!("SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// At least `low`, less than `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }
}
