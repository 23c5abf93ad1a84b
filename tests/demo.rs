//! Does the demo show what it says? It is run as a person would run it, for a few seconds, with nothing but its own binary.

#![allow(clippy::unwrap_used, reason = "tests say failure by a panic")]

use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};

fn demo(arguments: &[&str], temporary: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fogfun"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary.path());
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn is_empty(directory: &tempfile::TempDir) -> bool {
    directory.path().read_dir().unwrap().next().is_none()
}

#[test]
fn books_balance_though_the_node_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&["--seconds", "5", "--kills", "4", "--json"], &temporary).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let result: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    // 8 fridges, 20 times a second.
    assert_eq!(result["sent"], 800, "{result}");
    assert_eq!(result["counted"], 800, "{result}");
    assert_eq!(result["kills"], 4, "{result}");
    assert_eq!(result["balanced"], true, "{result}");
    assert!(!result["restart_ms"].as_array().unwrap().is_empty(), "{result}");
    assert!(is_empty(&temporary), "something was left behind");
}

#[test]
fn with_qos_1_state_is_right_and_repeats_are_told_by_their_id() {
    let temporary = tempfile::tempdir().unwrap();
    let arguments = ["--seconds", "4", "--kills", "3", "--qos", "1", "--plain"];
    let output = demo(&arguments, &temporary).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("The books balance: 640 events sent, 640 counted"), "{last}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let child = demo(&["--plain"], &temporary).stdout(std::process::Stdio::piped()).spawn().unwrap();
    while is_empty(&temporary) {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(is_empty(&temporary), "something was left behind");
}

#[test]
fn a_node_that_cannot_start_is_explained() {
    let temporary = tempfile::tempdir().unwrap();
    let deep = temporary.path().join("d".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    // The path of its admin socket is longer than the system allows.
    let output = demo(&["--plain"], &temporary).env("TMPDIR", &deep).output().unwrap();
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the node ended by itself"), "{stderr}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&["--qos", "0"], &temporary).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
