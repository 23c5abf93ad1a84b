//! What becomes of an operation while other things happen?

use super::bench::*;
use crate::address::TypeName;
use crate::function::{Context, FunctionError, OperationOutcome, OperationResult, StatefulFunction};
use crate::module::Module;
use crate::typed_value::TypedValue;
use crate::worker::io::{OperationNumber, WorkerInput};

const CHARGE: TypeName = TypeName::from_static("test/charge");

/// Registers an operation for every text it gets, and tells the ear what came of it.
struct Cashier(Ear);

impl StatefulFunction for Cashier {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let Ok(result) = message.get::<OperationResult>() else {
            return context.register_operation(&CHARGE, message.get::<String>()?);
        };
        let outcome = match result.outcome {
            OperationOutcome::Success(value) => value.get::<String>()?,
            OperationOutcome::Failure(text) => format!("failed: {text}"),
            OperationOutcome::Unknown => "unknown".to_owned(),
        };
        assert_eq!(context.caller(), Some(context.self_address()));
        self.0.hear(context, &format!("{}: {outcome}", result.request.get::<String>()?));
        Ok(())
    }
}

fn bench(ear: &Ear, workers: usize) -> Bench {
    let ear = ear.clone();
    let module = Module::new()
        .namespace("test", move |_| Box::new(Cashier(ear.clone())))
        .operation("test/charge", |request: &TypedValue| Ok(request.clone()));
    Bench::new(workers, limits(), module)
}

#[test]
fn an_operation_begins_when_its_epoch_is_committed_and_not_before() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "card");
    bench.settle();
    bench.cut();
    bench.gather();
    assert!(bench.operations.is_empty());
    bench.tell_committed();
    assert_eq!(bench.operations.len(), 1);
    bench.end_operation(Ok("paid".into()));
    bench.settle();
    assert_eq!(ear.take(), ["x card: paid"]);
    let frame = bench.commit();
    assert_eq!(of_kind(&frame, "AsyncOperation").1.len(), 1, "told and over in one epoch: {frame:?}");
}

#[test]
fn whatever_was_under_way_at_a_crash_is_told_as_unknown_once() {
    for (folds, workers) in [(false, 1), (true, 1), (true, 3)] {
        let ear = Ear::default();
        let mut bench = bench(&ear, 2);
        bench.send(&address("test/a", "x"), "card");
        bench.settle();
        bench.commit();
        // It ends, and the epoch in which that is told never is.
        bench.end_operation(Err("no money".into()));
        bench.settle();
        assert_eq!(ear.take(), ["x card: failed: no money"]);
        if folds {
            bench.fold();
        }
        bench.restart(workers);
        bench.settle();
        assert_eq!(ear.take(), ["x card: unknown"]);
        bench.commit();
        bench.restart(1);
        bench.settle();
        assert!(ear.take().is_empty() && bench.operations.is_empty());
    }
}

#[test]
fn what_is_registered_in_an_epoch_that_never_was_never_begins() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    bench.send(&address("test/a", "x"), "card");
    bench.settle();
    bench.restart(1);
    bench.live();
    assert!(bench.operations.is_empty() && ear.take().is_empty());
}

#[test]
fn more_than_may_run_wait_their_turn_visibly() {
    let ear = Ear::default();
    let mut bench = bench(&ear, 1);
    for text in ["1", "2", "3", "4"] {
        bench.send(&address("test/a", "x"), text);
    }
    bench.settle();
    bench.commit();
    let status = bench.status(0);
    assert_eq!((status.operations_running, status.operations_waiting), (2, 2));
    for ended in 1..=4 {
        bench.end_operation(Ok("paid".into()));
        bench.settle();
        assert_eq!(ear.take(), [format!("x {ended}: paid")]);
    }
    assert!(bench.operations.is_empty());
}

impl Bench {
    /// Ends the oldest operation that runs.
    fn end_operation(&mut self, result: Result<TypedValue, String>) {
        let (worker, number): (usize, OperationNumber) = self.operations.remove(0);
        self.tell(worker, WorkerInput::Operated { number, result });
    }
}
