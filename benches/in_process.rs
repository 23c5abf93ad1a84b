//! How fast is a board inside? Workers, node and a store on a real disk, with epochs, cuts and commits, without sockets.
//!
//! `cargo bench --bench in_process` prints the median of five runs of each load; `-- a` only that load, `-- a 1 200` one run of 200
//! epochs; `-- v` is load a in virtual time, a fixed count of invocations an epoch, for callgrind: its instructions are the same
//! beside any other load. Where the files lie is `FOGFUN_BENCH_DIRECTORY`, else the system's temporary directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

mod bed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as WallInstant;

use bed::{Bed, Plan, application, of_process, publish};
use bytes::BytesMut;
use embassy_time::Duration;
use fogfun::address::{Address, TypeName};
use fogfun::epoch::frame::FrameBuilder;
use fogfun::epoch::{Epoch, TimeStamp};
use fogfun::function::effects::StateValue;
use fogfun::host::base::LmdbBase;
use fogfun::host::files::FileDisk;
use fogfun::module::Board;
use fogfun::mqtt::config::Qos;
use fogfun::payload::Payload;
use fogfun::state::key::Key;
use fogfun::state::value::{Letter, encode_delayed, encode_letter, encode_state};
use fogfun::store::{LogEntry, Store, StoreCommand, StoreEvent};
use fogfun::{Context, FunctionError, Module, PersistedValue, StatefulFunction, TypedValue};

const SOURCE: TypeName = TypeName::from_static("bench/source");
const COUNT: TypeName = TypeName::from_static("bench/count");
const CHAIN: TypeName = TypeName::from_static("bench/chain");
const OUT: TypeName = TypeName::from_static("bench/out");
const IDS: usize = 1_000;
const LINKS: usize = 100;

/// Invocations, or messages of a chain.
static DONE: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let wanted = |name: &str| arguments.first().is_none_or(|only| only == name);
    let number =
        |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (runs, epochs) = (number(1, 5), number(2, 200));
    println!("a sync of 4 KiB takes {:?} (median of 50)", sync_time());
    let loads = [
        ("a", "source → 1,000 ids, 8 bytes of state → egress QoS 0", 1, "invocations"),
        ("b", "chain of 100 ids, one worker", 1, "messages"),
        ("c", "64 chains of 100 ids across two workers, one thread", 2, "messages"),
        ("m", "PUBLISH QoS 1 → 1,000 ids → PUBLISH QoS 1", 1, "records"),
    ];
    for (name, text, workers, unit) in loads {
        if wanted(name) {
            let mut rates: Vec<f64> = (0..runs).map(|_| throughput(name, workers, epochs)).collect();
            rates.sort_by(f64::total_cmp);
            let all: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            println!("{name}: {text}: {:.0} {unit}/s (all: {})", rates[rates.len() / 2], all.join(", "));
        }
    }
    if arguments.first().is_some_and(|only| only == "v") {
        virtual_time(epochs);
    }
    if wanted("d") {
        recovery();
        for pause_ms in [0, 40] {
            bytes_per_event(pause_ms);
        }
    }
}

/// One run of at least `epochs` committed epochs behind as many that warm it up.
fn throughput(name: &str, workers: usize, epochs: u64) -> f64 {
    let directory = directory();
    let plan = Plan { workers, pause: Duration::from_ticks(0), is_real_time: true };
    let mut bed = Bed::start(directory.path(), application(module(name), &yaml(name)), &plan);
    bed.settle();
    let mut feed = Feed::new();
    let idle = of_process("smaps_rollup", "Anonymous");
    match name {
        "m" => {}
        "a" => feed.send(&mut bed, "in/0", 1),
        "b" => feed.send(&mut bed, "in/0", 1),
        _ => (0..64).for_each(|chain| feed.send(&mut bed, &format!("in/{chain}"), 1)),
    }
    let mut begun = None;
    loop {
        if name == "m" {
            feed.fill(&mut bed);
        }
        bed.turn(256);
        let (done, committed) = (DONE.load(Ordering::Relaxed), bed.counts.committed);
        match begun {
            None if epochs / 4 <= committed => begun = Some((WallInstant::now(), done, bed.counts)),
            Some((at, before, counts)) if counts.committed + epochs <= committed => {
                let elapsed = at.elapsed().as_secs_f64();
                let epochs = bed.counts.committed - counts.committed;
                println!(
                    "  {name}: {} in {elapsed:.3} s, {epochs} epochs, {} each; {:.0} B of frame an epoch, \
                     anonymous {idle} → {} kB, published {}, folds {}",
                    done - before,
                    (done - before) / epochs,
                    (bed.counts.section_bytes - counts.section_bytes) as f64 / epochs as f64,
                    of_process("smaps_rollup", "Anonymous"),
                    bed.counts.published - counts.published,
                    bed.counts.folds,
                );
                return (done - before) as f64 / elapsed;
            }
            _ => {}
        }
    }
}

/// Load a with 1,024 invocations an epoch and the store on this thread; prints how many, to divide callgrind's sum by.
fn virtual_time(epochs: u64) {
    let directory = directory();
    let plan = Plan { workers: 1, pause: Duration::from_ticks(0), is_real_time: false };
    let mut bed = Bed::start(directory.path(), application(module("a"), &yaml("a")), &plan);
    bed.settle();
    Feed::new().send(&mut bed, "in/0", 1);
    for _ in 0..epochs {
        for _ in 0..4 {
            bed.turn(256);
        }
        bed.set_now(bed.now() + Duration::from_millis(2));
    }
    println!("v: {} invocations, {} epochs", DONE.load(Ordering::Relaxed), bed.counts.committed);
}

/// PUBLISHes with QoS 1, `IDS` under way at most.
struct Feed {
    sent: u64,
    topics: Vec<String>,
    buffer: BytesMut,
}

impl Feed {
    fn new() -> Self {
        let topics = (0..IDS).map(|id| format!("in/{id}")).collect();
        Self { sent: 0, topics, buffer: BytesMut::new() }
    }

    fn send(&mut self, bed: &mut Bed, topic: &str, records: u64) {
        for _ in 0..records {
            let id = u16::try_from(self.sent % 60_000 + 1).unwrap();
            publish(topic, b"\x09\x01\0\0\0\0\0\0\0", Qos::AtLeastOnce, id, &mut self.buffer);
            self.sent += 1;
        }
        bed.receive(0, self.buffer.split().freeze());
        bed.drain();
    }

    fn fill(&mut self, bed: &mut Bed) {
        if self.sent - bed.counts.acknowledged + 64 > IDS as u64 {
            return;
        }
        for _ in 0..64 {
            self.append();
        }
        bed.receive(0, self.buffer.split().freeze());
        bed.drain();
    }

    fn append(&mut self) {
        let id = u16::try_from(self.sent % 60_000 + 1).unwrap();
        let topic = &self.topics[usize::try_from(self.sent).unwrap() % IDS];
        publish(topic, b"\x09\x01\0\0\0\0\0\0\0", Qos::AtLeastOnce, id, &mut self.buffer);
        self.sent += 1;
    }
}

/// Sends to the next ids, then to itself.
struct Source {
    targets: Vec<Address>,
    next: usize,
}

impl StatefulFunction for Source {
    fn invoke(&mut self, context: &mut Context<'_>, _message: &TypedValue) -> Result<(), FunctionError> {
        for _ in 0..100 {
            self.next = (self.next + 1) % self.targets.len();
            context.send(self.targets[self.next].clone(), 1_i64)?;
        }
        context.send(context.self_address().clone(), 1_i64)
    }
}

struct Count {
    count: PersistedValue<i64>,
}

impl StatefulFunction for Count {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let count = self.count.get_or_default(context)? + message.get::<i64>()?;
        self.count.set(context, count)?;
        DONE.fetch_add(1, Ordering::Relaxed);
        context.egress(&OUT, count)
    }
}

/// Sends to the next of its ring.
struct Chain {
    ring: Vec<Address>,
}

impl StatefulFunction for Chain {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let link = message.get::<i64>()? + 1;
        DONE.fetch_add(1, Ordering::Relaxed);
        let next = usize::try_from(link).unwrap_or(0) % self.ring.len();
        context.send(self.ring[next].clone(), link)
    }
}

fn module(name: &str) -> Module {
    let addresses = |function_type: TypeName, count: usize| -> Vec<Address> {
        (0..count).map(|id| Address::new(function_type.clone(), &id.to_string()).unwrap()).collect()
    };
    let _ = name;
    Module::new()
        .function("bench/source", move || Source { targets: addresses(COUNT, IDS), next: 0 })
        .function("bench/count", || Count { count: PersistedValue::new("count") })
        .function("bench/chain", move || Chain { ring: addresses(CHAIN, LINKS) })
}

fn yaml(name: &str) -> String {
    let (target, qos) = match name {
        "a" => (SOURCE, 0),
        "m" => (COUNT, 1),
        _ => (CHAIN, 0),
    };
    format!(
        "kind: fogfun.mqtt.v1/ingress\nspec:\n  id: bench/in\n  address: mqtt://broker\n  topics:\n    - topic: in/{{id}}\n      \
         qos: 1\n      format: raw\n      valueType: io.statefun.types/long\n      id: {{capture: id}}\n      targets: [{target}]\n\
         ---\nkind: fogfun.mqtt.v1/egress\nspec:\n  id: bench/out\n  address: mqtt://broker\n  topic: out/{{caller.id}}\n  \
         qos: {qos}\n  format: number\n"
    )
}

/// A start with 1,000,000 keys in the base, the log at its bound, 10,000 waiting and 10,000 delayed messages.
fn recovery() {
    let directory = directory();
    let log_bytes = fill(directory.path());
    let mut times: Vec<(f64, u64)> = (0..5)
        .map(|_| {
            let begun = WallInstant::now();
            let plan = Plan { workers: 1, pause: Duration::from_ticks(0), is_real_time: false };
            let application = application(module("m"), &yaml("m"));
            let bed = Bed::start(directory.path(), application, &plan);
            let elapsed = begun.elapsed().as_secs_f64() * 1_000.0;
            drop(bed);
            (elapsed, of_process("smaps_rollup", "Anonymous"))
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!(
        "d: start with 1,000,000 keys, {log_bytes} B of log, 10,000 waiting, 10,000 delayed: {:.0} ms (all: {times:.0?})",
        times[2].0
    );
}

/// Fills a directory through the store; gives the bytes of log that the base does not hold.
fn fill(directory: &Path) -> u64 {
    let board = Board::default();
    let (base, _) = LmdbBase::open(&directory.join("base"), 17_179_869_184).unwrap();
    let disk = FileDisk::open(&directory.join("log")).unwrap();
    let mut limits = bed::store_limits(&board);
    limits.fold_keys = 100_000;
    let (mut store, _) = Store::open(disk, base, limits, 3, &mut |_, _| {}).unwrap();
    let mut epoch = Epoch(1);
    for first in (0..1_000_000_u64).step_by(50_000) {
        let mut frame = FrameBuilder::default();
        (first..first + 50_000).for_each(|id| put_state(&mut frame, id));
        append(&mut store, &mut epoch, frame);
    }
    while !matches!(store.handle(StoreCommand::Fold), StoreEvent::Folded { complete: true, .. }) {}
    let mut frame = FrameBuilder::default();
    for number in 0..10_000_u64 {
        // Of a type that nobody binds, so that they go on waiting.
        let id = number.to_string();
        let key = Key::Mailbox { id: &id, function_type: "bench/nobody", arrival: number + 1 };
        frame.put(&key, |out| encode_letter(&letter(), out));
        let due_ms = 1_000_000_000 + number;
        let key = Key::Delayed { due_ms, id: &id, function_type: "bench/count", number: number + 1 };
        let target = Address::new(COUNT, &id).unwrap();
        frame.put(&key, |out| encode_delayed(&target, &letter(), None, out));
    }
    append(&mut store, &mut epoch, frame);
    let mut id = 0;
    while store.status().log_bytes < board.log_bytes_max {
        let mut frame = FrameBuilder::default();
        (id..id + 1_000).for_each(|id| put_state(&mut frame, id * 37 % 1_000_000));
        id += 1_000;
        append(&mut store, &mut epoch, frame);
    }
    store.status().log_bytes
}

fn letter() -> Letter {
    Letter { caller: None, argument: TypedValue::from(1_i64), headers: None }
}

fn put_state(frame: &mut FrameBuilder, id: u64) {
    let id = id.to_string();
    let key = Key::State { id: &id, function_type: "bench/count", name: "count", subkey: &[] };
    let value = StateValue {
        typename: "io.statefun.types/long".into(),
        value: Payload::copy_from(b"\x09\x01\0\0\0\0\0\0\0"),
        expires_at_ms: None,
        unknown_fields: fogfun::typed_value::UnknownFields::NONE,
    };
    frame.put(&key, |out| encode_state(&value, out));
}

fn append(store: &mut Store<FileDisk, LmdbBase>, epoch: &mut Epoch, mut frame: FrameBuilder) {
    let mut sections = Vec::new();
    frame.finish(&mut sections);
    let time = TimeStamp::default();
    let entry = LogEntry::Frame { view: 1, epoch: *epoch, time, sections: vec![sections] };
    *epoch = epoch.next();
    let answer = store.handle(StoreCommand::Append(vec![entry]));
    assert!(matches!(answer, StoreEvent::Appended { .. }), "{answer:?}");
}

/// 800 records a second in virtual time, each in, counted and out with QoS 1; bytes given to write(2), fold included.
fn bytes_per_event(pause_ms: u64) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let plan = Plan { workers: 1, pause: Duration::from_millis(pause_ms), is_real_time: false };
    let mut bed = Bed::start(directory.path(), application(module("m"), &yaml("m")), &plan);
    bed.settle();
    let mut feed = Feed::new();
    // From fold to fold, so that each event carries its share of one.
    let mut marks: Vec<(u64, u64, u64)> = Vec::new();
    let begun = WallInstant::now();
    let mut folds = 0;
    while marks.len() < 3 && begun.elapsed().as_secs() < 60 {
        bed.set_now(bed.now() + Duration::from_micros(1_250));
        feed.append();
        let bytes = feed.buffer.split().freeze();
        bed.receive(0, bytes);
        bed.turn(100);
        bed.turn(100);
        if folds != bed.counts.folds {
            folds = bed.counts.folds;
            marks.push((feed.sent, of_process("io", "wchar"), bed.counts.committed));
        }
    }
    let [first, .., last] = marks.as_slice() else {
        println!("d: pause {pause_ms} ms: no two folds in {} events", feed.sent);
        return;
    };
    let events = (last.0 - first.0) as f64;
    println!(
        "d: 800 events/s, pause {pause_ms} ms: {:.0} B/event to write(2), log and fold, {:.2} epochs an event ({events} events)",
        (last.1 - first.1) as f64 / events,
        (last.2 - first.2) as f64 / events,
    );
}

fn directory() -> tempfile::TempDir {
    let root = std::env::var_os("FOGFUN_BENCH_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(root).unwrap()
}

/// What the disk makes of a small append, as the store does it.
fn sync_time() -> std::time::Duration {
    use std::os::unix::fs::FileExt;
    let directory = directory();
    let file = std::fs::File::create(directory.path().join("sync")).unwrap();
    file.write_all_at(&[0; 256 * 1024], 0).unwrap();
    file.sync_all().unwrap();
    let mut times: Vec<_> = (0..50)
        .map(|at| {
            let begun = WallInstant::now();
            file.write_all_at(&[1; 4096], at * 4096).unwrap();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[25]
}
