//! What does a remote function cost? A node whose function is behind HTTP beside the same client calling the same endpoint bare.
//!
//! `cargo bench --bench remote` prints, all against trivial endpoints in this process:
//! - invocations a second of a board without MQTT beside those of the client with the same requests ([`calls`]), with one invocation
//!   a call and with as many as come together, 10 at most; bytes on the wire; and the ratio. `-- --batch 1` or `-- --batch 10` is that alone.
//! - with a broker: calls a second of the client, and records a second through a whole node (MQTT QoS 1 in, the function, MQTT QoS 1
//!   out).
//!
//! Then, with `-- --python PORT` for a process that serves `bench/count` with StateFun's Python SDK (`benches/support/functions.py`),
//! the same with the broker, and latencies at 100 and 500 records a second with QoS 2 both ways. Figures are medians of
//! `FOGFUN_BENCH_RUNS` (5) runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

mod bed;
mod calls;
#[path = "../tests/support/mod.rs"]
mod rig;
mod support;

use std::time::Instant;

use calls::endpoint::Endpoint as TrivialEndpoint;
use calls::{Figures, Load as CallLoad, bare, node};
use fogfun::remote::request::encode_request;
use fogfun::sim::endpoint::Endpoint;
use fogfun::state::value::{Letter, StateValue};
use fogfun::{Address, Context, FunctionError, MqttRecord, PersistedValue, TypeName, TypedValue, Value};
use rig::mosquitto::{Mosquitto, Tuning};
use rig::wire::Qos;
use support::load::Load;
use support::relay::{Kind, Relay};

const RECORDS: u64 = 20_000;
const WARM_UP: u64 = 2_000;
const UNDER_WAY: u64 = 500;
const LOADS: [CallLoad; 2] = [CallLoad { batch: 1, calls: 100_000 }, CallLoad { batch: 10, calls: 50_000 }];
const PACES: [(u32, u32); 2] = [(100, 500), (500, 2_500)];

const COUNT: PersistedValue<i64> = PersistedValue::new("count");
const OUT: TypeName = TypeName::from_static("bench/out");

/// Counts, and publishes its count with what it was told.
fn count(context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
    let count = COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
    let topic = format!("out/{}", context.self_address().id());
    context.egress(&OUT, MqttRecord::new(topic, format!("{count} {}", message.get::<String>()?)))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = |at: usize| arguments[at + 1].parse().expect("--python takes a port");
    let python = arguments.iter().position(|argument| argument == "--python").map(port);
    let runs = std::env::var("FOGFUN_BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let endpoint = TrivialEndpoint::start();
    let only = arguments.iter().position(|argument| argument == "--batch").map(|at| &arguments[at + 1]);
    for load in LOADS {
        if only.is_none_or(|batch| *batch == load.batch.to_string()) {
            in_process(&endpoint, load, runs);
        }
    }
    if only.is_some() {
        return;
    }
    let trivial = rig::http::serve_functions(|| {
        Endpoint::new(|_| Some(Box::new(count)), vec![("count", i64::TYPENAME)])
    });
    throughput("trivial", trivial, runs);
    if let Some(port) = python {
        throughput("Python", port, runs);
        latency(port, runs);
    }
}

fn in_process(endpoint: &TrivialEndpoint, load: CallLoad, runs: usize) {
    let (mut of_node, mut of_bare) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (figures, requests) = node::run(endpoint, load);
        of_node.push(figures);
        of_bare.push(bare::run(endpoint, load, &requests));
    }
    println!(
        "at most {} invocations a call, without sockets but the client's, medians of {runs}:",
        load.batch
    );
    for (name, figures) in [("node", &of_node), ("bare", &of_bare)] {
        let of = |field: fn(&Figures) -> f64| median(&mut figures.iter().map(field).collect::<Vec<_>>());
        println!(
            "  {name}: {:.0} invocations/s, {:.0} calls/s, {:.2} invocations a call, {:.0} B out and {:.0} B in an invocation; \
             {:.2} µs of its thread each, {:.2} of a CPU, the endpoint {:.2}",
            of(|run| run.invocations_per_second),
            of(|run| run.calls_per_second),
            of(|run| run.invocations_per_call),
            of(|run| run.bytes_sent),
            of(|run| run.bytes_received),
            of(|run| run.own_micros),
            of(|run| run.own_share),
            of(|run| run.endpoint_share),
        );
    }
    let ratios = |of: fn(&Figures, &Figures) -> f64| -> Vec<f64> {
        of_node.iter().zip(&of_bare).map(|(node, bare)| of(node, bare)).collect()
    };
    let speeds = ratios(|node, bare| node.invocations_per_second / bare.invocations_per_second);
    let mut times = ratios(|node, bare| bare.own_micros / node.own_micros);
    println!(
        "  ratio {:.2}, of time on a CPU {:.2} (all: {speeds:.2?})",
        median(&mut speeds.clone()),
        median(&mut times)
    );
}

fn throughput(name: &str, port: u16, runs: usize) {
    let (mut bare, mut node, mut ratios, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for _ in 0..runs {
        let Some(broker) = Mosquitto::start(Tuning::Tuned) else { return };
        let (calls, bytes_of_call) = bare_calls(port);
        let relay = Relay::start(Kind::Remote(port), &broker, Qos::AtLeastOnce);
        let mut load = Load::connect(broker.port, Qos::AtLeastOnce);
        load.closed_loop(WARM_UP, UNDER_WAY);
        let took = load.closed_loop(RECORDS, UNDER_WAY);
        drop(relay);
        let records = RECORDS as f64 / took.as_secs_f64();
        bare.push(calls);
        node.push(records);
        ratios.push(records / calls);
        bytes = bytes_of_call;
    }
    println!(
        "{name}: bare {:.0} calls/s ({bytes:.0} B of bodies each), node {:.0} records/s, ratio {:.2}",
        median(&mut bare),
        median(&mut node),
        median(&mut ratios)
    );
}

fn latency(port: u16, runs: usize) {
    let (mut halves, mut tails) = (vec![Vec::new(); PACES.len()], vec![Vec::new(); PACES.len()]);
    for _ in 0..runs {
        let Some(broker) = Mosquitto::start(Tuning::Tuned) else { return };
        let _relay = Relay::start(Kind::Remote(port), &broker, Qos::ExactlyOnce);
        let mut load = Load::connect(broker.port, Qos::ExactlyOnce);
        load.closed_loop(WARM_UP, UNDER_WAY);
        for (index, (per_second, count)) in PACES.into_iter().enumerate() {
            let latencies = load.open_loop(per_second, count);
            halves[index].push(latencies[latencies.len() / 2].as_secs_f64() * 1e3);
            tails[index].push(latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3);
        }
    }
    for (index, (per_second, _)) in PACES.into_iter().enumerate() {
        let (half, tail) = (median(&mut halves[index]), median(&mut tails[index]));
        println!("Python, QoS 2 both ways, {per_second}/s: p50 {half:.2} ms, p99 {tail:.2} ms");
    }
}

/// Calls a second of the client alone, with as many under way as the node's board allows, and bytes of both bodies of one.
fn bare_calls(port: u16) -> (f64, f64) {
    let target = Address::new(TypeName::from_static("bench/count"), "500").unwrap();
    let state = StateValue {
        typename: i64::TYPENAME.into(),
        value: 7_i64.encode(),
        expires_at_ms: None,
        unknown_fields: Default::default(),
    };
    let argument = TypedValue::from("1234567890123");
    let letter = Letter { caller: None, argument, headers: None };
    let body = encode_request(&target, [("count", Some(&state))].into_iter(), std::iter::once(&letter));
    let (mut begin, mut rate, mut bytes) = (None, 0.0, 0);
    bare::ask(port, std::slice::from_ref(&body), WARM_UP, RECORDS, |_, reply_bytes| {
        let begin = begin.get_or_insert_with(Instant::now);
        rate = RECORDS as f64 / begin.elapsed().as_secs_f64();
        bytes = body.len() + reply_bytes;
    });
    (rate, bytes as f64)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
