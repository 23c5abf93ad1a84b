//! What if a function fails?

use std::time::Duration;

use super::bench::*;
use crate::admin::{AdminReply, AdminRequest};
use crate::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use crate::module::Module;
use crate::typed_value::TypedValue;

const COUNT: PersistedValue<i64> = PersistedValue::new("count");

#[test]
fn a_failing_message_is_tried_again_after_growing_waits_and_then_is_a_dead_letter() {
    let ear = Ear::default();
    let heard = ear.clone();
    let mut bench = Bench::new(
        1,
        limits(),
        module(move |context, text| {
            heard.hear(context, text);
            if text == "bad" { Err(FunctionError::new("as asked")) } else { Ok(()) }
        }),
    );
    let target = address("test/a", "x");
    bench.send(&target, "bad");
    bench.send(&target, "good");
    bench.settle();
    assert_eq!(ear.take(), ["x bad"], "what comes behind waits");
    assert_eq!(bench.status(0).addresses_retrying, 1);
    bench.pass_time(Duration::from_millis(49));
    bench.settle();
    assert!(ear.take().is_empty(), "the first wait is at least half of 100 ms");
    bench.pass_time(Duration::from_millis(51));
    bench.settle();
    assert_eq!(ear.take(), ["x bad"]);
    bench.pass_time(Duration::from_millis(99));
    bench.settle();
    assert!(ear.take().is_empty(), "the second wait is at least half of 200 ms");
    bench.pass_time(Duration::from_millis(101));
    bench.settle();
    assert_eq!(ear.take(), ["x bad", "x good"]);
    let status = bench.status(0);
    assert_eq!((status.dead_letters, status.addresses_retrying, status.messages_waiting), (1, 0, 0));
    assert_eq!(bench.told("invocation-failed").len(), 2);
    assert_eq!(bench.told("dead-letter"), ["test/a/x: as asked"]);
}

#[test]
fn waiting_for_another_attempt_writes_nothing() {
    let mut bench = Bench::new(1, limits(), module(|_, _| Err(FunctionError::new("as asked"))));
    bench.send(&address("test/a", "x"), "bad");
    bench.settle();
    assert_eq!(of_kind(&bench.commit(), "letter").0.len(), 1);
    bench.pass_time(Duration::from_millis(100));
    bench.settle();
    assert_eq!(bench.commit(), Frame::new());
}

#[test]
fn nothing_of_a_failed_invocation_stays() {
    let ear = Ear::default();
    let heard = ear.clone();
    let mut bench = Bench::new(
        1,
        limits(),
        module(move |context, text| {
            if text != "listen" {
                COUNT.set(context, 5)?;
                context.send(address("test/b", "y"), "listen")?;
                context.send_after(Duration::ZERO, address("test/b", "y"), "listen")?;
                context.egress(&OUT, crate::egress::MqttRecord::new("out", "x"))?;
                return Err(FunctionError::new("as asked"));
            }
            heard.hear(context, text);
            Ok(())
        }),
    );
    bench.send(&address("test/a", "x"), "bad");
    for _ in 0..5 {
        bench.settle();
        bench.pass_time(Duration::from_secs(1));
    }
    assert!(ear.take().is_empty());
    assert_eq!(bench.status(0).messages_delayed, 0);
    let frame = bench.commit();
    assert_eq!(
        frame.keys().map(|key| key.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["counter", "dead"]
    );
}

/// Panics when asked, and else says how many messages this object has seen.
struct Fragile {
    seen: u64,
    ear: Ear,
}

impl StatefulFunction for Fragile {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        self.seen += 1;
        COUNT.set(context, 7)?;
        context.send(address("test/other", "y"), "effect")?;
        // Without the hook, which would print it.
        if message.get::<String>()? == "panic" {
            std::panic::resume_unwind(Box::new("as asked"));
        }
        self.ear.hear(context, &self.seen.to_string());
        Ok(())
    }
}

#[test]
fn a_panic_has_no_effect_and_the_next_message_gets_a_new_object() {
    let (ear, other) = (Ear::default(), Ear::default());
    let (of_fragile, of_other) = (ear.clone(), other.clone());
    let fragile = move || Fragile { seen: 0, ear: of_fragile.clone() };
    let bound: Module = module(move |context, text| {
        of_other.hear(context, text);
        Ok(())
    });
    let mut bench = Bench::new(1, limits(), bound.function("test/fragile", fragile));
    let (first, second) = (address("test/fragile", "1"), address("test/fragile", "2"));
    for text in ["a", "b"] {
        bench.send(&first, text);
        bench.settle();
    }
    bench.send(&first, "panic");
    bench.settle();
    bench.send(&second, "c");
    bench.settle();
    assert_eq!(ear.take(), ["1 1", "1 2", "2 1"]);
    assert_eq!(other.take().len(), 3, "the one that panicked sent nothing");
    assert!(bench.told("invocation-failed")[0].contains("it panicked: as asked"));
    bench.commit();
    assert!(matches!(
        bench.ask("2", AdminRequest::StateGet { function_type: "test/fragile".into(), id: "2".into(), name: "count".into() }),
        Some(AdminReply::State { entries, .. }) if entries.len() == 1
    ));
}

#[test]
fn messages_of_an_unbound_type_wait_visibly_and_run_once_it_is_bound() {
    let ear = Ear::default();
    let heard = ear.clone();
    let listen = move || {
        let heard = heard.clone();
        module(move |context, text| {
            heard.hear(context, text);
            Ok(())
        })
    };
    let mut bench = Bench::new(1, limits(), listen());
    bench.send(&address("gone/away", "x"), "first");
    bench.send(&address("gone/away", "x"), "second");
    bench.settle();
    assert_eq!(bench.status(0).messages_unbound, [("gone/away".to_owned(), 2)]);
    assert_eq!(of_kind(&bench.commit(), "letter").0.len(), 2);
    bench.restart(1);
    bench.settle();
    assert_eq!(bench.status(0).messages_unbound, [("gone/away".to_owned(), 2)]);
    let again = ear.clone();
    let bound = listen().namespace("gone", move |_| {
        let again = again.clone();
        Box::new(move |context: &mut Context<'_>, message: &TypedValue| {
            again.hear(context, &message.get::<String>()?);
            Ok(())
        })
    });
    bench.restart_with(1, bound);
    bench.settle();
    assert_eq!(ear.take(), ["x first", "x second"]);
    assert_eq!(of_kind(&bench.commit(), "letter").1.len(), 2);
}

#[test]
fn effects_over_the_bound_are_the_functions_error() {
    let mut limits = limits();
    limits.attempts_max = 1;
    let mut bench = Bench::new(
        1,
        limits,
        module(|context, text| match text {
            "much" => (0..100).try_for_each(|_| context.send(address("test/b", "y"), "z".repeat(1024))),
            _ => Ok(()),
        }),
    );
    bench.send(&address("test/a", "x"), "much");
    bench.settle();
    assert_eq!(bench.status(0).dead_letters, 1);
    assert!(bench.told("dead-letter")[0].contains("65536 is the bound"), "{:?}", bench.events);
    assert_eq!(bench.status(0).messages_waiting, 0);
}

#[test]
fn too_many_dead_letters_close_the_ingress_and_let_addresses_wait() {
    let limits = crate::worker::WorkerLimits { dead_letters_max: 2, ..limits() };
    let mut bench = Bench::new(1, limits, module(|_, _| Err(FunctionError::new("as asked"))));
    let is_open = |bench: &mut Bench| bench.status(0).sessions.iter().all(|session| session.intake_open);
    let pass = |bench: &mut Bench| {
        for _ in 0..6 {
            bench.settle();
            bench.pass_time(Duration::from_millis(300));
        }
        bench.settle();
    };
    for id in ["x", "y"] {
        assert!(is_open(&mut bench));
        bench.send(&address("test/a", id), "bad");
        pass(&mut bench);
    }
    bench.send(&address("test/a", "z"), "bad");
    pass(&mut bench);
    assert!(!is_open(&mut bench));
    let status = bench.status(0);
    assert_eq!((status.dead_letters, status.addresses_retrying, status.messages_waiting), (2, 1, 1));
    assert!(!bench.told("dead-letters-full").is_empty());
    bench.commit();
    let dropped = bench.ask("x", AdminRequest::DeadLetterDrop { key: "test/a/x".to_owned() });
    assert_eq!(dropped, None, "answered when it is committed");
    bench.commit();
    assert_eq!(bench.answer(), Some(AdminReply::Done { count: 1 }));
    pass(&mut bench);
    let status = bench.status(0);
    assert_eq!((status.dead_letters, status.addresses_retrying, status.messages_waiting), (2, 0, 0));
}
