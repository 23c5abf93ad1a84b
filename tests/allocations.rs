//! What does an invocation cost the allocator? Nothing, once everything that it touches has been touched before.
//!
//! Inside one epoch: a message, a state read and written, a message to another id. An egress record is counted apart, for it
//! lives on in the session's outbox; cuts and commits are counted per epoch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

#[path = "../benches/bed/mod.rs"]
mod bed;

use allocation_counter::{AllocationInfo, measure};
use bed::{Bed, Plan, application, publish};
use bytes::BytesMut;
use embassy_time::Duration;
use fogfun::mqtt::config::Qos;
use fogfun::{
    Address, Context, FunctionError, Module, PersistedValue, StatefulFunction, TypeName, TypedValue,
};

const RING: TypeName = TypeName::from_static("test/ring");
const LOUD: TypeName = TypeName::from_static("test/loud");
const OUT: TypeName = TypeName::from_static("test/out");
const IDS: usize = 100;
const INVOCATIONS: usize = 2_000;
/// Allocations of one egress record whose topic and payload are short, on its way into the outbox: only the outbox grows.
const EGRESS_ALLOCATIONS_MAX: f64 = 0.01;

/// Counts, and passes the message on to the next id.
struct Ring {
    count: PersistedValue<i64>,
    ring: Vec<Address>,
    is_loud: bool,
}

impl StatefulFunction for Ring {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let link = message.get::<i64>()? + 1;
        let count = self.count.get_or_default(context)? + 1;
        self.count.set(context, count)?;
        if self.is_loud {
            context.egress(&OUT, count)?;
        }
        let next = usize::try_from(link).unwrap_or(0) % self.ring.len();
        context.send(self.ring[next].clone(), link)
    }
}

fn module() -> Module {
    let ring = |function_type: TypeName, is_loud: bool| Ring {
        count: PersistedValue::new("count"),
        ring: (0..IDS).map(|id| Address::new(function_type.clone(), &id.to_string()).unwrap()).collect(),
        is_loud,
    };
    Module::new()
        .function("test/ring", move || ring(RING, false))
        .function("test/loud", move || ring(LOUD, true))
}

/// A board on which one message goes round and round for ever.
fn board(directory: &std::path::Path, target: &TypeName) -> Bed {
    let yaml = format!(
        "kind: fogfun.mqtt.v1/ingress\nspec:\n  id: test/in\n  address: mqtt://broker\n  topics:\n    - topic: in/{{id}}\n      \
         qos: 1\n      format: raw\n      valueType: io.statefun.types/long\n      id: {{capture: id}}\n      targets: [{target}]\n\
         ---\nkind: fogfun.mqtt.v1/egress\nspec:\n  id: test/out\n  address: mqtt://broker\n  topic: out/{{caller.id}}\n  \
         qos: 0\n  format: number\n"
    );
    let plan = Plan { workers: 1, pause: Duration::from_ticks(0), is_real_time: false };
    let mut bed = Bed::start(directory, application(module(), &yaml), &plan);
    bed.settle();
    let mut packet = BytesMut::new();
    publish("in/0", b"\x09\x01\0\0\0\0\0\0\0", Qos::AtLeastOnce, 1, &mut packet);
    bed.receive(0, packet.freeze());
    bed.drain();
    // Every id, every vector and every epoch's buffers have been used.
    for _ in 0..10 {
        let now = bed.now();
        assert!(bed.workers[0].run(now, INVOCATIONS));
        epoch(&mut bed);
    }
    bed
}

/// Cuts and commits; the ring goes on from where it was.
fn epoch(bed: &mut Bed) {
    let committed = bed.counts.committed;
    bed.set_now(bed.now() + Duration::from_millis(5));
    bed.turn(0);
    bed.turn(0);
    assert!(committed < bed.counts.committed, "nothing was committed");
}

fn invoke(bed: &mut Bed) -> AllocationInfo {
    let now = bed.now();
    // The first round of an epoch touches every instance once more.
    bed.workers[0].run(now, IDS);
    measure(|| {
        bed.workers[0].run(now, INVOCATIONS);
    })
}

#[test]
fn an_invocation_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut bed = board(directory.path(), &RING);
    let inside = invoke(&mut bed);
    let between = measure(|| epoch(&mut bed));
    println!("{INVOCATIONS} invocations: {inside:?}\none epoch of {IDS} states: {between:?}");
    assert_eq!((inside.count_total, inside.bytes_total), (0, 0));
}

#[test]
fn a_short_egress_record_allocates_nothing_but_its_outbox() {
    let directory = tempfile::tempdir().unwrap();
    let mut bed = board(directory.path(), &LOUD);
    let inside = invoke(&mut bed);
    let between = measure(|| epoch(&mut bed));
    println!("{INVOCATIONS} records: {inside:?}\none epoch with their publication: {between:?}");
    let each = inside.count_total as f64 / INVOCATIONS as f64;
    assert!(each <= EGRESS_ALLOCATIONS_MAX, "{each} allocations a record");
}
