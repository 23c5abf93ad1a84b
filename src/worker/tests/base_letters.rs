//! What does a worker make of letters that are partly in the base and partly in the log?

use crate::admin::{AdminRequest, WorkerStatus};
use crate::sim::base::SimBase;
use crate::sim::counting::counting;
use crate::sim::disk::SimDisk;
use crate::sim::simulation::NoNotes;
use crate::state::key::Key;
use crate::state::value::{Letter, encode_letter};
use crate::store::Base;
use crate::typed_value::TypedValue;
use crate::worker::io::{WorkerIndex, WorkerInput, WorkerOutput};
use crate::worker::*;

const ID: &str = "a";

fn worker(base: &SimBase) -> Worker<SimBase, NoNotes> {
    let config = WorkerConfig {
        index: WorkerIndex(0),
        workers: 1,
        application: counting(2, 2),
        limits: WorkerLimits {
            memory_bytes: 1024 * 1024,
            epoch_bytes: 1024 * 1024,
            effects_bytes_max: 16 * 1024,
            channel_bytes: 4096,
            letters_max: 1000,
            dead_letters_max: 10_000,
            dead_letter_bytes_max: 16 * 1024 * 1024,
            attempts_max: 3,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(50),
        },
        seed: 1,
        suspects: Vec::new(),
    };
    Worker::new(config, base.clone(), NoNotes)
}

fn letter_key(arrival: u64) -> Vec<u8> {
    let key = Key::Mailbox { id: ID, function_type: "sim/counter", arrival };
    key.to_vec()
}

fn letter() -> Vec<u8> {
    let mut bytes = Vec::new();
    let letter = Letter { caller: None, argument: TypedValue::from("counts"), headers: None };
    encode_letter(&letter, &mut bytes);
    bytes
}

/// A worker that starts with letters of one address in the base and, behind the base's mark, in the log.
fn started(in_base: &[u64], in_log: &[(u64, bool)]) -> Worker<SimBase, NoNotes> {
    let mut base = SimBase::new(&SimDisk::default());
    let held: Vec<(Vec<u8>, Vec<u8>)> =
        in_base.iter().map(|&arrival| (letter_key(arrival), letter())).collect();
    let mut changes = held.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    base.apply(&mut changes, None).unwrap();
    let mut worker = worker(&base);
    for &(arrival, is_put) in in_log {
        let value = letter();
        worker.replay(&letter_key(arrival), is_put.then_some(&value[..])).unwrap();
    }
    let start = WorkerStart { epoch: Epoch(10), identity: 1, sessions: Some(SessionStart::Resume) };
    worker.start(Instant::from_millis(1), start).unwrap();
    worker
}

fn status(worker: &mut Worker<SimBase, NoNotes>) -> WorkerStatus {
    let input = WorkerInput::Admin { request: 1, question: AdminRequest::Status };
    worker.handle_input(Instant::from_millis(1), input);
    loop {
        match worker.poll_output() {
            Some(WorkerOutput::Admin { reply: AdminReply::Status(status), .. }) => return *status,
            Some(_) => {}
            None => panic!("no status"),
        }
    }
}

/// Lets a started worker invoke everything, and gives the letters of the address it has consumed, in order.
fn waits_and_invocations(in_base: &[u64], in_log: &[(u64, bool)]) -> (u64, u64) {
    let mut worker = started(in_base, in_log);
    let at_start = status(&mut worker).messages_waiting;
    while worker.run(Instant::from_millis(2), 10) {}
    let status = status(&mut worker);
    assert_eq!(status.messages_waiting, 0);
    let invocations = status.counters.iter().find(|(name, _)| name == "invocations");
    // Each letter of a counter tells a mirror once.
    (at_start, invocations.map_or(0, |(_, count)| count / 2))
}

#[test]
fn a_letter_put_late_and_folded_hides_no_older_one() {
    // Cut of epoch 9, then 5 arrives from here, then 6 from a channel whose barrier is not there yet: 6 is in frame 9, which is
    // folded; 5 in frame 10, which is in the log.
    assert_eq!(waits_and_invocations(&[6], &[(5, true)]), (2, 2));
    assert_eq!(waits_and_invocations(&[3, 6, 8], &[(5, true), (7, true), (9, true)]), (6, 6));
}

#[test]
fn a_letter_in_log_and_base_is_one() {
    assert_eq!(waits_and_invocations(&[3, 4], &[(3, true), (4, true), (5, true)]), (3, 3));
}

#[test]
fn a_letter_consumed_in_the_log_is_gone_from_the_base() {
    assert_eq!(waits_and_invocations(&[3, 4, 5], &[(3, false), (4, false)]), (1, 1));
}

#[test]
fn a_mailbox_longer_than_a_page_is_read_page_by_page() {
    let in_base: Vec<u64> = (1..=200).collect();
    assert_eq!(waits_and_invocations(&in_base, &[(201, true)]), (201, 201));
}
