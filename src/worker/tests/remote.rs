//! What becomes of a request while other things happen?

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use crate::module::Module;
use crate::remote::call::{CallFailure, CallOutcome};
use crate::sim::endpoint::{Endpoint, answered};
use crate::typed_value::TypedValue;

const COUNT: PersistedValue<i64> = PersistedValue::new("count");

/// What runs behind the endpoint: counts; `bad` fails, `to <id>` tells another.
fn function(context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
    match message.get::<String>()?.as_str() {
        "bad" => return Err("as asked".into()),
        "nowhere" => context.send(address("nobody/there", "x"), "lost")?,
        "here" => context.send(address("test/ear", context.self_address().id()), "told")?,
        _ => {}
    }
    COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
    Ok(())
}

fn endpoint() -> Endpoint {
    Endpoint::new(
        |_| Some(Box::new(function) as Box<dyn StatefulFunction>),
        vec![("count", "io.statefun.types/long")],
    )
}

fn bench(ear: &Ear, workers: usize) -> Bench {
    let ear = ear.clone();
    let hears = move |context: &mut Context<'_>, text: &str| {
        ear.hear(context, text);
        Ok(())
    };
    let module: Module = module(hears);
    Bench::new(workers, limits(), module)
}

fn failed(failure: CallFailure) -> CallOutcome {
    CallOutcome::Failed { failure, text: "as planned".to_owned() }
}

/// Lets the endpoint answer until no call is out.
fn answer_all(bench: &mut Bench, endpoint: &mut Endpoint) -> Vec<usize> {
    let mut batches = Vec::new();
    while !bench.calls.is_empty() {
        batches.push(bench.end_call(|body| endpoint.answer(body)).invocations.len());
        bench.settle();
    }
    batches
}

fn count(bench: &mut Bench, id: &str) -> Option<String> {
    use crate::admin::{AdminReply, AdminRequest};
    bench.live();
    let (function_type, id, name) = ("remote/a".to_owned(), id.to_owned(), "count".to_owned());
    match bench.ask(&id.clone(), AdminRequest::StateGet { function_type, id, name }) {
        Some(AdminReply::State { entries, .. }) => entries.first().map(|entry| entry.value.bytes.clone()),
        other => panic!("{other:?}"),
    }
}

fn long(number: i64) -> Option<String> {
    use crate::typed_value::Value;
    Some(data_encoding::BASE64.encode(&number.encode()))
}

#[test]
fn one_request_per_address_is_out_and_what_comes_meanwhile_is_the_next_batch() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    for _ in 0..6 {
        bench.send(&address("remote/a", "x"), "count");
        bench.settle();
        assert_eq!(bench.calls.len(), 1);
    }
    // The first asked without states and is repeated; of the other five three are a batch at most.
    assert_eq!(answer_all(&mut bench, &mut endpoint), [1, 1, 3, 2]);
    assert_eq!(count(&mut bench, "x"), long(6));
}

#[test]
fn states_are_asked_for_once_and_the_others_of_the_type_are_held_meanwhile() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    for id in ["a", "b", "c", "d", "e"] {
        bench.send(&address("remote/a", id), "count");
    }
    bench.settle();
    assert_eq!((bench.calls.len(), bench.status(0).addresses_held), (1, 4));
    assert_eq!(bench.end_call(|body| endpoint.answer(body)).state.len(), 0);
    bench.settle();
    assert_eq!(bench.end_call(|body| endpoint.answer(body)).state.len(), 1);
    bench.settle();
    // The URL takes two at a time.
    assert_eq!((bench.calls.len(), bench.status(0).addresses_held), (2, 0));
    answer_all(&mut bench, &mut endpoint);
    assert_eq!((endpoint.answered, endpoint.negotiated), (6, 1));
    assert_eq!(count(&mut bench, "e"), long(1));
}

#[test]
fn a_first_asker_that_fails_hands_the_question_on() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    bench.send(&address("remote/a", "bad"), "bad");
    bench.send(&address("remote/a", "good"), "count");
    bench.settle();
    bench.end_call(|_| answered(500, Some("text/plain"), b"no".to_vec()));
    bench.settle();
    assert_eq!(answer_all(&mut bench, &mut endpoint).len(), 2, "the other goes on though the first waits");
    assert_eq!(count(&mut bench, "good"), long(1));
}

#[test]
fn a_request_that_is_out_when_the_process_ends_is_made_again_and_counts_once() {
    for (folds, workers) in [(false, 1), (true, 3)] {
        let (mut bench, mut endpoint) = (bench(&Ear::default(), 2), endpoint());
        for _ in 0..3 {
            bench.send(&address("remote/a", "x"), "count");
        }
        bench.settle();
        bench.commit();
        // It runs, and nobody hears of it.
        let (_, call) = bench.calls.remove(0);
        endpoint.answer(&call.body);
        if folds {
            bench.fold();
        }
        bench.restart(workers);
        bench.settle();
        answer_all(&mut bench, &mut endpoint);
        assert_eq!(count(&mut bench, "x"), long(3));
    }
}

#[test]
fn a_reply_that_nothing_was_committed_of_is_undone_by_a_crash() {
    let ear = Ear::default();
    let (mut bench, mut endpoint) = (bench(&ear, 1), endpoint());
    bench.send(&address("remote/a", "x"), "here");
    bench.settle();
    bench.commit();
    answer_all(&mut bench, &mut endpoint);
    assert_eq!(ear.take(), ["x told"]);
    bench.restart(1);
    bench.settle();
    answer_all(&mut bench, &mut endpoint);
    assert_eq!(ear.take(), ["x told"], "of the epoch that never was nothing is left");
    assert_eq!(count(&mut bench, "x"), long(1));
}

#[test]
fn an_endpoint_that_is_down_makes_its_addresses_wait_with_the_identical_request() {
    let ear = Ear::default();
    let (mut bench, mut endpoint) = (bench(&ear, 1), endpoint());
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    let first: Bytes = bench.calls[0].1.body.clone();
    for _ in 0..20 {
        bench.end_call(|_| failed(CallFailure::Unreachable));
        bench.send(&address("remote/a", "x"), "count");
        bench.settle();
        assert!(bench.calls.is_empty(), "it waits");
        // Other functions go on.
        bench.send(&address("test/ear", "y"), "hello");
        bench.settle();
        assert_eq!(ear.take(), ["y hello"]);
        bench.pass_time(Duration::from_millis(900));
        bench.settle();
        assert_eq!(bench.calls[0].1.body, first);
    }
    let status = bench.status(0);
    assert_eq!(status.endpoints[0].failures, 20);
    assert!(status.endpoints[0].last_error.as_deref().unwrap().contains("as planned"), "{status:?}");
    assert!(bench.told("endpoint-down")[0].starts_with("remote/a/x at http://endpoint/a, attempt 1: "));
    answer_all(&mut bench, &mut endpoint);
    assert_eq!(count(&mut bench, "x"), long(21));
    assert!(bench.told("dead-letter").is_empty());
}

#[test]
fn waiting_for_an_endpoint_writes_nothing() {
    let mut bench = bench(&Ear::default(), 1);
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    bench.commit();
    for _ in 0..5 {
        bench.end_call(|_| failed(CallFailure::TimedOut));
        bench.settle();
        assert!(bench.workers[0].activity.first_effect.is_none());
        bench.pass_time(Duration::from_secs(2));
        bench.settle();
    }
}

#[test]
fn of_a_batch_that_fails_only_what_fails_alone_is_a_dead_letter() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    bench.send(&address("remote/a", "x"), "first");
    bench.settle();
    for text in ["count", "bad", "count"] {
        bench.send(&address("remote/a", "x"), text);
    }
    for _ in 0..20 {
        answer_all(&mut bench, &mut endpoint);
        bench.pass_time(Duration::from_millis(500));
        bench.settle();
    }
    assert_eq!(count(&mut bench, "x"), long(3));
    let letters = bench.told("dead-letter");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0], "remote/a/x: remote/a/x at http://endpoint/a, attempt 3: status 500: as asked");
    let status = bench.status(0);
    assert_eq!((status.dead_letters, status.messages_waiting), (1, 0));
}

#[test]
fn a_target_that_nothing_binds_is_the_functions_error_and_nothing_of_the_reply_counts() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    bench.send(&address("remote/a", "x"), "nowhere");
    for _ in 0..10 {
        bench.settle();
        answer_all(&mut bench, &mut endpoint);
        bench.pass_time(Duration::from_millis(500));
    }
    assert_eq!(count(&mut bench, "x"), None);
    assert!(bench.told("dead-letter")[0].contains("`nobody/there`"), "{:?}", bench.told("dead-letter"));
}

#[test]
fn a_request_that_is_too_long_gives_its_place_to_who_waits() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    bench.send(&address("remote/a", "first"), "count");
    bench.settle();
    answer_all(&mut bench, &mut endpoint);
    // The URL takes two at a time.
    for (id, text) in [("a", "count"), ("b", "count"), ("long", &*"x".repeat(70_000)), ("c", "count")] {
        bench.send(&address("remote/a", id), text);
    }
    bench.settle();
    assert_eq!((bench.calls.len(), bench.status(0).endpoints[0].waiting), (2, 2));
    bench.end_call(|body| endpoint.answer(body));
    bench.settle();
    assert!(bench.told("invocation-failed")[0].contains("`payload_max_bytes` is 65536"));
    assert_eq!((bench.calls.len(), bench.status(0).endpoints[0].waiting), (2, 0));
    answer_all(&mut bench, &mut endpoint);
    assert_eq!(count(&mut bench, "c"), long(1));
}

#[test]
fn where_failures_block_the_address_tries_for_ever() {
    let mut bench = bench(&Ear::default(), 1);
    bench.send(&address("remote/blocking", "x"), "bad");
    for _ in 0..30 {
        bench.settle();
        bench.end_call(|_| answered(404, Some("text/html"), b"<html>".to_vec()));
        bench.pass_time(Duration::from_secs(1));
    }
    assert!(bench.told("dead-letter").is_empty());
    assert_eq!(bench.status(0).messages_waiting, 1);
}

#[test]
fn a_function_that_asks_for_what_it_was_sent_does_not_go_round_for_ever() {
    let (mut bench, mut endpoint) = (bench(&Ear::default(), 1), endpoint());
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    let first = bench.calls[0].1.body.clone();
    let mut missing = None;
    bench.end_call(|_| {
        let answer = endpoint.answer(&first);
        missing = Some(answer.clone());
        answer
    });
    bench.settle();
    for _ in 0..10 {
        if !bench.calls.is_empty() {
            bench.end_call(|_| missing.clone().unwrap());
        }
        bench.pass_time(Duration::from_millis(500));
        bench.settle();
    }
    assert!(bench.told("dead-letter")[0].contains("it asks for states that it was sent"));
}

#[test]
fn a_reply_waits_while_the_epoch_is_full() {
    let mut limits = limits();
    limits.epoch_bytes = 1;
    let ear = Ear::default();
    let mut endpoint = endpoint();
    let mut bench = Bench::new(1, limits, module(|_, _| Ok(())));
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    bench.end_call(|body| endpoint.answer(body));
    bench.settle();
    // An epoch is in flight, and the next is full.
    bench.end_call(|body| endpoint.answer(body));
    bench.settle();
    bench.cut();
    bench.gather();
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    bench.end_call(|body| endpoint.answer(body));
    bench.settle();
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    let before = bench.workers[0].invocations;
    if !bench.calls.is_empty() {
        bench.end_call(|body| endpoint.answer(body));
        bench.settle();
        assert_eq!(bench.workers[0].invocations, before);
    }
    bench.tell_committed();
    bench.live();
    answer_all(&mut bench, &mut endpoint);
    assert_eq!(count(&mut bench, "x"), long(3));
    drop(ear);
}

#[test]
fn a_new_version_that_declares_another_state_is_asked_again_and_gets_it() {
    let mut bench = bench(&Ear::default(), 1);
    let mut old = endpoint();
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    answer_all(&mut bench, &mut old);
    let make = |_: &crate::address::TypeName| Some(Box::new(function) as Box<dyn StatefulFunction>);
    let mut new =
        Endpoint::new(make, vec![("count", "io.statefun.types/long"), ("added", "io.statefun.types/string")]);
    bench.send(&address("remote/a", "x"), "count");
    bench.settle();
    assert_eq!(answer_all(&mut bench, &mut new), [1, 1]);
    bench.send(&address("remote/a", "y"), "count");
    bench.settle();
    assert_eq!(bench.end_call(|body| new.answer(body)).state.len(), 2, "what one address learnt all know");
    assert_eq!(count(&mut bench, "x"), long(2));
}
