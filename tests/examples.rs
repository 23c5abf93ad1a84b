//! Promise: every example does what its README says, by its one command.
//!
//! Each `examples/<name>/run` starts what it needs, checks its own outcome and says by its exit code whether it was right. Where a program is
//! missing that it needs, it says so and ends with 77: a skip, unless `FOGFUN_REQUIRE_SDKS=1` makes it a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use support::{node, say};

#[test]
fn payment_charges_every_order_once() {
    holds(&run("payment", Application::Embedded, &[]));
}

#[test]
fn a_processor_that_charges_twice_is_found_out() {
    let Some(output) = run("payment", Application::Embedded, &[("PAYMENT_FORGETFUL", "1")]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was charged twice"), "{said}");
}

#[test]
fn the_greeter_counts_once_in_two_languages() {
    holds(&run("greeter", Application::Remote, &[]));
}

#[test]
fn bandits_learn_and_their_counts_are_right() {
    holds(&run("bandits", Application::Remote, &[]));
}

#[test]
fn every_ride_ends_once_with_a_driver_of_its_own() {
    holds(&run("rides", Application::Embedded, &[]));
}

/// One at a time: two cores are shared by the broker, the clients, the node and the functions.
static ALONE: Mutex<()> = Mutex::new(());

/// What the example's node runs.
enum Application {
    /// A program of the example's own.
    Embedded,
    /// The stock binary, with functions elsewhere.
    Remote,
}

/// The exit code of a missing program.
const MISSING: i32 = 77;

/// How the command ended; `None`, said loudly, if a program is missing.
fn run(name: &str, application: Application, environment: &[(&str, &str)]) -> Option<Output> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("examples").join(name).join("run"));
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    // target/tmp is where the examples keep what they fetch, and this test's own.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
    match application {
        Application::Embedded => {
            command.env("FOGFUN_EXAMPLES", node::example(name).parent().unwrap());
        }
        Application::Remote => {
            command.env("FOGFUN", env!("CARGO_BIN_EXE_fogfun"));
        }
    }
    let output = command.output().unwrap();
    if output.status.code() == Some(MISSING) {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let required = std::env::var("FOGFUN_REQUIRE_SDKS").is_ok_and(|value| value == "1");
        assert!(!required, "FOGFUN_REQUIRE_SDKS=1, but: {reason}");
        say(&format!("\n!!! SKIPPED: the example {name}: {reason}"));
        return None;
    }
    Some(output)
}

fn holds(output: &Option<Output>) {
    let Some(output) = output else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{complaint}", output.status);
    eprintln!("{said}");
}
