//! What does a remote function cost? A node whose function is behind HTTP beside the same client calling the same endpoint bare.
//!
//! `cargo bench --bench remote` prints calls a second of the bare client, records a second through the node (MQTT QoS 1 in, the function,
//! MQTT QoS 1 out), their ratio, and bytes on the wire per invocation, against a trivial endpoint in this process; then, with
//! `-- --python PORT` for a process that serves `bench/count` with StateFun's Python SDK (`benches/support/functions.py`), the same
//! and latencies at 100 and 500 records a second with QoS 2 both ways. Figures are medians of `FOGFUN_BENCH_RUNS` (5) runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

#[path = "../tests/support/mod.rs"]
mod rig;
mod support;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fogfun::host::http::HttpClient;
use fogfun::host::inbox::Inbox;
use fogfun::host::shell::Event;
use fogfun::module::{Board, Specification};
use fogfun::remote::call::{Call, CallNumber, CallOutcome, EndpointIndex};
use fogfun::remote::request::encode_request;
use fogfun::sim::endpoint::Endpoint;
use fogfun::state::value::{Letter, StateValue};
use fogfun::worker::io::WorkerIndex;
use fogfun::{Address, Context, FunctionError, MqttRecord, PersistedValue, TypeName, TypedValue, Value};
use rig::mosquitto::{Mosquitto, Tuning};
use rig::wire::Qos;
use support::load::Load;
use support::relay::{Kind, Relay};

const RECORDS: u64 = 20_000;
const WARM_UP: u64 = 2_000;
const UNDER_WAY: u64 = 500;
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
    let trivial = rig::http::serve_functions(|| {
        Endpoint::new(|_| Some(Box::new(count)), vec![("count", i64::TYPENAME)])
    });
    throughput("trivial", trivial, runs);
    if let Some(port) = python {
        throughput("Python", port, runs);
        latency(port, runs);
    }
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
    let yaml = format!(
        "kind: io.statefun.endpoints.v2/http\nspec: {{functions: bench/*, urlPathTemplate: \"http://127.0.0.1:{port}/\"}}\n"
    );
    let specification = Specification::parse("module.yaml", &yaml, &|_| None).unwrap();
    let endpoints = specification.with_board(&Board::default()).unwrap().endpoints;
    let (window, url) = (endpoints[0].transport.pool_size, endpoints[0].url.url(&OUT).unwrap());
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
    let executor = Rc::new(smol::LocalExecutor::new());
    let inbox: Arc<Inbox<Event>> = Arc::default();
    let mut client = HttpClient::new(endpoints, &executor, Arc::clone(&inbox));
    let call = |number| Call {
        number: CallNumber(number),
        endpoint: EndpointIndex(0),
        url: Arc::clone(&url),
        body: body.clone(),
    };
    let (mut made, mut ended, mut begin, mut bytes) = (0, 0, Instant::now(), 0);
    let drive = async {
        let mut events = VecDeque::new();
        while ended < WARM_UP + RECORDS {
            while made - ended < u64::from(window) && made < WARM_UP + RECORDS {
                made += 1;
                client.call(WorkerIndex(0), call(made));
            }
            poll_fn(|context| if inbox.is_ready(context.waker()) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            inbox.take(&mut events);
            for event in events.drain(..) {
                let Event::Called { outcome: CallOutcome::Answered { status: 200, body: reply, .. }, .. } =
                    event
                else {
                    panic!("{event:?}");
                };
                bytes = body.len() + reply.len();
                ended += 1;
                if ended == WARM_UP {
                    begin = Instant::now();
                }
            }
        }
    };
    smol::block_on(executor.run(drive));
    (RECORDS as f64 / begin.elapsed().max(Duration::from_nanos(1)).as_secs_f64(), bytes as f64)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
