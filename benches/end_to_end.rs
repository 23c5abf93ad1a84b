//! How much does exactly once cost, end to end? A node beside an echo client that promises nothing, over the same Mosquitto.
//!
//! `cargo bench --bench end_to_end` prints, for the tuned and the stock broker and QoS 1 and 2: records a second and CPU per record of
//! both, their ratio (the figure that carries over to other machines), anonymous memory under load, latencies at steady paces, and what
//! an event costs the storage. A figure is the median of
//! `FOGFUN_BENCH_RUNS` (5) runs, in each of which echo and node take turns. `-- --echo-only` measures the bed without a node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

#[path = "../tests/support/mod.rs"]
mod rig;
mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use rig::mosquitto::{Mosquitto, Tuning};
use rig::wire::Qos;
use support::echo;
use support::load::Load;
use support::relay::{Kind, Relay};

/// Records of a throughput run, behind as many as warm it up.
const RECORDS: u64 = 20_000;
const WARM_UP: u64 = 2_000;
/// Records between load and load in a throughput run. The stock broker drops what it queues beyond 1,000.
const UNDER_WAY: u64 = 500;
/// The pace at which the cost to the storage is counted, in records a second, and how many records.
const STORAGE_PACE: u32 = 800;
const STORAGE_RECORDS: u32 = 16_000;
/// The paces at which latency is measured, in records a second, and how many records.
const PACES: [(u32, u32); 3] = [(10, 50), (500, 2_000), (2_000, 6_000)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, port, qos] = arguments.as_slice()
        && command == "echo"
    {
        echo::run(port.parse().unwrap(), rumqttc::v5::mqttbytes::qos(qos.parse().unwrap()).unwrap());
        return;
    }
    let kinds: &[Kind] = if arguments.iter().any(|argument| argument == "--echo-only") {
        &[Kind::Echo]
    } else {
        &[Kind::Echo, Kind::Node]
    };
    let runs = std::env::var("FOGFUN_BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("a sync of 4 KiB takes {:?} (median of 50)", sync_time());
    throughput(kinds, runs);
    latency(kinds, runs);
    storage(kinds);
}

fn throughput(kinds: &[Kind], runs: usize) {
    println!(
        "\n{:<8}{:<5}{:<6}{:>10}{:>14}{:>8}{:>12}",
        "broker", "QoS", "relay", "records/s", "CPU/record", "ratio", "anonymous"
    );
    for (tuning, qos) in cases() {
        let mut rates = vec![Vec::new(); kinds.len()];
        let mut costs = vec![Vec::new(); kinds.len()];
        let mut loaded = vec![Vec::new(); kinds.len()];
        let mut ratios = Vec::new();
        for _ in 0..runs {
            for (index, kind) in kinds.iter().enumerate() {
                let Some(broker) = Mosquitto::start(tuning) else {
                    return;
                };
                let (took, cpu, anonymous_kb) = throughput_once(*kind, &broker, qos);
                loaded[index].push(anonymous_kb as f64);
                rates[index].push(RECORDS as f64 / took.as_secs_f64());
                costs[index].push(cpu.as_secs_f64() * 1e6 / RECORDS as f64);
            }
            if let [echo, node] = rates.as_slice() {
                ratios.push(node.last().unwrap() / echo.last().unwrap());
            }
        }
        for (index, kind) in kinds.iter().enumerate() {
            let ratio = match kind {
                Kind::Node | Kind::Remote(_) => format!("{:.2}", median(&mut ratios)),
                Kind::Echo => "1".to_owned(),
            };
            let (rate, cost) = (median(&mut rates[index]), median(&mut costs[index]));
            let loaded = median(&mut loaded[index]);
            let (tuning, kind) = (format!("{tuning:?}"), format!("{kind:?}"));
            println!(
                "{tuning:<8}{:<5}{kind:<6}{rate:>10.0}{cost:>11.2} µs{ratio:>8}{loaded:>9.0} kB",
                qos as u8
            );
        }
    }
}

/// How long the records took, what they cost the relay, and its anonymous memory right behind the last, in kB.
fn throughput_once(kind: Kind, broker: &Mosquitto, qos: Qos) -> (Duration, Duration, u64) {
    let relay = Relay::start(kind, broker, qos);
    let mut load = Load::connect(broker.port, qos);
    load.closed_loop(WARM_UP, UNDER_WAY);
    let before = relay.cpu();
    let took = load.closed_loop(RECORDS, UNDER_WAY);
    (took, relay.cpu() - before, relay.anonymous_kb())
}

fn latency(kinds: &[Kind], runs: usize) {
    println!("\n{:<8}{:<5}{:<6}{:>10}{:>12}{:>12}", "broker", "QoS", "relay", "pace", "p50", "p99");
    for (tuning, qos) in cases() {
        let mut halves = vec![vec![Vec::new(); PACES.len()]; kinds.len()];
        let mut tails = halves.clone();
        for _ in 0..runs {
            for (index, kind) in kinds.iter().enumerate() {
                let Some(broker) = Mosquitto::start(tuning) else {
                    return;
                };
                let _relay = Relay::start(*kind, &broker, qos);
                let mut load = Load::connect(broker.port, qos);
                load.closed_loop(WARM_UP, UNDER_WAY);
                for (pace_index, (per_second, count)) in PACES.into_iter().enumerate() {
                    let latencies = load.open_loop(per_second, count);
                    halves[index][pace_index].push(milliseconds(latencies[latencies.len() / 2]));
                    tails[index][pace_index].push(milliseconds(latencies[latencies.len() * 99 / 100]));
                }
            }
        }
        for (index, kind) in kinds.iter().enumerate() {
            for (pace_index, (per_second, _)) in PACES.into_iter().enumerate() {
                let half = median(&mut halves[index][pace_index]);
                let tail = median(&mut tails[index][pace_index]);
                let (tuning, kind) = (format!("{tuning:?}"), format!("{kind:?}"));
                println!("{tuning:<8}{:<5}{kind:<6}{per_second:>8}/s{half:>9.2} ms{tail:>9.2} ms", qos as u8);
            }
        }
    }
}

/// What an event costs the storage at a steady pace, with the default pause and a card's.
fn storage(kinds: &[Kind]) {
    println!(
        "\nper event at {STORAGE_PACE}/s over {STORAGE_RECORDS} events, 1,000 ids, QoS 1, stock broker:"
    );
    for pause_ms in [0, 40] {
        for kind in kinds {
            let Some(broker) = Mosquitto::start(Tuning::Stock) else {
                return;
            };
            let board = format!("epoch_pause_ms = {pause_ms}\n");
            let relay = Relay::start_with(*kind, &broker, Qos::AtLeastOnce, Some(&board));
            let mut load = Load::connect(broker.port, Qos::AtLeastOnce);
            load.closed_loop(WARM_UP, UNDER_WAY);
            let before = relay.marks();
            load.open_loop(STORAGE_PACE, STORAGE_RECORDS);
            let text = relay.marks().since(before, STORAGE_RECORDS);
            println!(
                "{:<6}pause {pause_ms:>2} ms: {text}, anonymous {} kB",
                format!("{kind:?}"),
                relay.anonymous_kb()
            );
        }
    }
}

fn cases() -> impl Iterator<Item = (Tuning, Qos)> {
    [Tuning::Tuned, Tuning::Stock]
        .into_iter()
        .flat_map(|tuning| [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| (tuning, qos)))
}

/// What a sync of the file system costs that the nodes write to: figures of two machines differ by it.
fn sync_time() -> Duration {
    let directory = rig::scratch("sync");
    let mut file = std::fs::File::create(directory.path().join("file")).unwrap();
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            file.write_all(&[1; 4096]).unwrap();
            let start = Instant::now();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
