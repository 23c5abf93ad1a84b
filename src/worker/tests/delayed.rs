//! What is to be said later?

use std::time::Duration;

use super::bench::*;

/// `test/*` does what its text says, line by line: `after <ms> <token or -> <text>`, `cancel <token>`, `fail`; else it listens.
fn bench(ear: &Ear, workers: usize) -> Bench {
    let ear = ear.clone();
    let mut limits = limits();
    limits.attempts_max = 1;
    Bench::new(
        workers,
        limits,
        module(move |context, text| {
            for line in text.lines() {
                let words: Vec<&str> = line.splitn(4, ' ').collect();
                match words[..] {
                    ["after", milliseconds, token, said] => {
                        let delay = Duration::from_millis(milliseconds.parse().unwrap());
                        let target = address("test/ear", context.self_address().id());
                        match token {
                            "-" => context.send_after(delay, target, said)?,
                            token => context.send_after_with_token(delay, target, said, token)?,
                        }
                    }
                    ["cancel", token] => context.cancel(token)?,
                    _ => ear.hear(context, line),
                }
            }
            Ok(())
        }),
    )
}

#[test]
fn delayed_messages_fire_by_time_and_then_in_the_order_of_asking() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(
        &address("test/a", "x"),
        "after 30 - third\nafter 10 - first\nafter 30 - fourth\nafter 20 - second",
    );
    bench.settle();
    assert_eq!(bench.workers[0].delayed.count(), 4);
    bench.pass_time(Duration::from_millis(9));
    bench.settle();
    assert!(ear.take().is_empty());
    bench.pass_time(Duration::from_millis(21));
    bench.settle();
    assert_eq!(ear.take(), ["x first", "x second", "x third", "x fourth"]);
    assert_eq!(of_kind(&bench.commit(), "delayed"), (vec![], vec![]), "asked for and fired in one epoch");
}

#[test]
fn delayed_messages_survive_a_restart_and_are_deleted_when_they_fire() {
    let ear = Ear::default();
    for (folds, workers) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let mut bench = bench(&ear, 2);
        bench.send(&address("test/a", "x"), "after 20 - second\nafter 10 - first\nafter 20 - third");
        bench.settle();
        assert_eq!(of_kind(&bench.commit(), "delayed").0.len(), 3);
        if folds {
            bench.fold();
        }
        bench.restart(workers);
        bench.settle();
        assert!(ear.take().is_empty());
        bench.pass_time(Duration::from_millis(20));
        bench.settle();
        assert_eq!(ear.take(), ["x first", "x second", "x third"]);
        assert_eq!(of_kind(&bench.commit(), "delayed").1.len(), 3);
        bench.restart(2);
        bench.pass_time(Duration::from_secs(1));
        bench.settle();
        assert!(ear.take().is_empty());
    }
}

#[test]
fn a_token_cancels_from_any_type_of_the_same_id_and_no_other() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "after 10 t hello");
    bench.send(&address("test/b", "y"), "cancel t");
    bench.settle();
    assert_eq!(bench.status(0).messages_delayed, 1, "another id's token is another token");
    bench.commit();
    bench.restart(1);
    bench.send(&address("test/b", "x"), "cancel t");
    bench.settle();
    assert_eq!(bench.status(0).messages_delayed, 0);
    assert_eq!(of_kind(&bench.commit(), "delayed").1.len(), 1);
    bench.restart(1);
    bench.pass_time(Duration::from_secs(1));
    bench.settle();
    assert!(ear.take().is_empty());
}

#[test]
fn cancelling_what_does_not_wait_is_nothing() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "cancel t\nafter 10 t hello");
    bench.settle();
    bench.pass_time(Duration::from_millis(10));
    bench.settle();
    bench.send(&address("test/a", "x"), "cancel t");
    bench.settle();
    assert_eq!(ear.take(), ["x hello"]);
    assert_eq!(bench.status(0).dead_letters, 0);
}

#[test]
fn a_token_in_use_fails_the_invocation_without_effect() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "after 10 t first");
    bench.settle();
    bench.commit();
    // Also across a restart, and by another type of the same id.
    bench.restart(1);
    bench.send(&address("test/b", "x"), "after 5 - effect\nafter 20 t second");
    bench.settle();
    assert_eq!(bench.status(0).dead_letters, 1);
    assert!(bench.told("dead-letter")[0].contains("the token `t` is in use already"));
    bench.pass_time(Duration::from_secs(1));
    bench.settle();
    assert_eq!(ear.take(), ["x first"]);
}

#[test]
fn a_token_is_free_again_once_it_was_cancelled_or_has_fired() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    let target = address("test/a", "x");
    bench.send(&target, "after 10 t first");
    bench.send(&target, "cancel t\nafter 10 t second");
    bench.settle();
    bench.pass_time(Duration::from_millis(10));
    bench.send(&target, "after 10 t third");
    bench.settle();
    bench.pass_time(Duration::from_millis(10));
    bench.settle();
    assert_eq!(ear.take(), ["x second", "x third"]);
    bench.send(&target, "after 10 t fourth\nafter 10 t fifth");
    bench.settle();
    assert_eq!(bench.status(0).dead_letters, 1, "twice in one invocation");
}
