//! What does a client over HTTP hear, and when? Nothing before it is durable.

use super::bench::*;
use crate::address::Address;
use crate::http_config::{HTTP_TYPE, PLAYGROUND_EGRESS};
use crate::worker::io::{Taken, TakenRecord, WorkerOutput};

/// `test/*` hears its text; `reply` is answered, `fetch` goes to the playground's egress.
fn bench(ear: &Ear, workers: usize) -> Bench {
    let ear = ear.clone();
    Bench::new(
        workers,
        limits(),
        module(move |context, text| {
            ear.hear(context, text);
            match text {
                "reply" => context.reply("replied"),
                "fetch" => context.egress(&PLAYGROUND_EGRESS, "fetched"),
                _ => Ok(()),
            }
        }),
    )
}

fn record(id: &str, text: &str) -> TakenRecord {
    let target = address("test/a", id);
    TakenRecord { target, value: text.into(), headers: None, idempotency: None, reply_to: None }
}

fn keyed(id: &str, key: &str, remembered: u16) -> TakenRecord {
    TakenRecord { idempotency: Some((key.into(), remembered)), ..record(id, key) }
}

/// In words: `taken <request> <what>`, `replied <waiter> <text>`, `fetchable <text>`.
fn heard(bench: &mut Bench) -> Vec<String> {
    let words = |output| match output {
        WorkerOutput::Taken { request, taken } => format!("taken {request} {taken:?}"),
        WorkerOutput::Replied { waiter, value } => {
            format!("replied {waiter} {}", value.get::<String>().unwrap())
        }
        WorkerOutput::Fetchable { value } => format!("fetchable {}", value.get::<String>().unwrap()),
        other => panic!("{other:?}"),
    };
    bench.heard_over_http().into_iter().map(words).collect()
}

fn accepted(request: u64) -> String {
    format!("taken {request} {:?}", Taken::Accepted)
}

fn repeated(request: u64) -> String {
    format!("taken {request} {:?}", Taken::Repeated)
}

#[test]
fn a_record_is_accepted_once_its_epoch_is_committed() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 2);
    let request = bench.take(record("x", "hi"));
    bench.settle();
    assert_eq!(ear.take(), ["x hi"], "it is handled at once");
    bench.cut();
    bench.gather();
    assert!(heard(&mut bench).is_empty(), "durable, but nobody has been told");
    bench.tell_committed();
    assert_eq!(heard(&mut bench), [accepted(request)]);
}

#[test]
fn what_comes_while_an_epoch_is_in_flight_waits_for_its_own() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    let first = bench.take(record("x", "1"));
    bench.settle();
    bench.cut();
    let second = bench.take(record("x", "2"));
    bench.gather();
    bench.tell_committed();
    assert_eq!(heard(&mut bench), [accepted(first)]);
    bench.settle();
    bench.commit();
    assert_eq!(heard(&mut bench), [accepted(second)]);
}

#[test]
fn a_repeat_counts_once_across_restarts_and_folds() {
    let ear = Ear::default();
    for folds in [false, true] {
        let mut bench = bench(&ear, 2);
        let first = bench.take(keyed("x", "k", 2));
        let again = bench.take(keyed("x", "k", 2));
        bench.settle();
        assert!(heard(&mut bench).is_empty(), "not even the repeat is answered before the first is durable");
        bench.commit();
        assert_eq!(heard(&mut bench), [accepted(first), repeated(again)]);
        if folds {
            bench.fold();
        }
        bench.restart(1);
        let again = bench.take(keyed("x", "k", 2));
        assert_eq!(heard(&mut bench), [repeated(again)]);
        let others = [bench.take(keyed("y", "k", 2)), bench.take(keyed("x", "l", 2))];
        bench.settle();
        bench.commit();
        assert_eq!(heard(&mut bench), others.map(accepted), "another id's key and another key");
        assert_eq!(ear.take(), ["x k", "y k", "x l"]);
    }
}

#[test]
fn a_record_that_was_not_committed_never_came() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.take(keyed("x", "k", 2));
    bench.settle();
    bench.restart(1);
    assert!(heard(&mut bench).is_empty());
    let again = bench.take(keyed("x", "k", 2));
    bench.settle();
    bench.commit();
    assert_eq!(heard(&mut bench), [accepted(again)]);
}

#[test]
fn beyond_what_is_remembered_a_repeat_counts_again() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    for key in ["a", "b", "c", "a"] {
        bench.take(keyed("x", key, 2));
    }
    bench.settle();
    bench.commit();
    assert_eq!(ear.take(), ["x a", "x b", "x c", "x a"]);
    assert!(heard(&mut bench).iter().all(|heard| heard.ends_with("Accepted")));
}

#[test]
fn a_reply_is_passed_on_once_committed_from_whichever_worker() {
    let ear = Ear::default();
    for workers in [1, 3] {
        for waiter in 0..workers {
            let mut bench = bench(&ear, workers);
            let waiter = id_of(waiter, workers);
            let reply_to = Some(Address::new(HTTP_TYPE, &waiter).unwrap());
            let request = bench.take(TakenRecord { reply_to, ..record("x", "reply") });
            bench.settle();
            bench.cut();
            bench.gather();
            assert!(heard(&mut bench).is_empty(), "{workers} {waiter}");
            bench.tell_committed();
            let mut all = heard(&mut bench);
            all.sort();
            assert_eq!(all, [format!("replied {waiter} replied"), accepted(request)]);
        }
    }
}

#[test]
fn what_the_playground_fetches_is_committed() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "fetch");
    bench.settle();
    assert!(heard(&mut bench).is_empty());
    bench.commit();
    assert_eq!(heard(&mut bench), ["fetchable fetched"]);
    assert_eq!(bench.status(0).dead_letters, 0);
}
