//! Promise: power can go at any instant, and the node starts again by itself with all that it had said.
//!
//! A real node runs between a real Mosquitto, a publisher and a subscriber, with so small a log that it is folded and its segments are used
//! again all the time; it is stopped once and killed once under way. strace records what it writes, syncs, names and sends, in order. Then
//! the power is cut at every instant of that run and anything between two of them: what may lie on a card that had obeyed every sync, and
//! no more than that, is laid out as real files, a store is started on it, and the books are checked. On some a real node is started.
//!
//! The nightly form (`FOGFUN_NIGHTLY=1`) runs longer and cuts 15,000 times instead of 500. `SEED` repeats a run's choice of losses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]
#![allow(unreachable_pub, missing_docs, reason = "the modules are this test's own")]

#[path = "power/books.rs"]
mod books;
#[path = "power/disk.rs"]
mod disk;
mod support;
#[path = "power/trace.rs"]
mod trace;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use books::Books;
use disk::{Disk, Lie, Loss};
use support::module_yaml::ModuleYaml;
use support::mosquitto::{Mosquitto, Tuning, free_port};
use support::node::{self, Node};
use support::publisher::{Pace, ToPublish, publish};
use support::subscriber::Subscriber;
use support::wire::{Qos, Version};
use support::{Seeded, nightly, say, wait_until};
use trace::Event;

/// The smallest log that a board may have, folded in the smallest transactions. The books start stores with the same.
const BOARD: &str = "segment_bytes = 1_048_576\nlog_bytes_max = 4_194_304\nfold_keys = 100\n";
/// How long a payload is, so that the log fills many times; and the ids over which messages go round.
const PAYLOAD_BYTES: usize = 3_000;
const IDS: u64 = 400;

/// Messages a second, seconds of recording, cuts in all, and cuts of which a real node starts.
fn length() -> (u32, u64, u64, u64) {
    if nightly() { (300, 20, 15_000, 200) } else { (500, 9, 500, 10) }
}

/// Events of the first start, about.
const FIRST_EVENTS: usize = 60;

/// What a run did, from an empty directory on.
struct Recording {
    events: Vec<Event>,
    /// Events at which something is rare: a name, the base, a new segment.
    rare: Vec<usize>,
    /// The notes that the run left, which are never synced.
    notes: Vec<u8>,
}

#[test]
fn every_cut_is_a_start_that_keeps_what_was_said() {
    let Some(recording) = recording() else { return };
    let (_, _, cuts, _) = length();
    let mut seeded = Seeded::from_environment(0x0F06_F00D);
    let mut failures = Vec::new();
    let walked = recording.walk(None, &recording.places(cuts), |cut, disk, books| {
        let loss = Loss::ALL[usize::try_from(cut.number).unwrap() % Loss::ALL.len()];
        let directory = in_memory();
        disk.leave(directory.path(), loss, &mut seeded).unwrap();
        if let Err(text) = books.check(&directory.path().join("data"), cut.number % 8 == 0) {
            failures.push(format!("cut {} behind event {}, {loss:?}: {text}", cut.number, cut.event));
        }
    });
    let (told, acknowledged) = walked.expect("nothing leaves before it is durable");
    say(&format!(
        "{cuts} power cuts over {} events ({} rare); {told} records out and {acknowledged} in had been promised at the end",
        recording.events.len(),
        recording.rare.len()
    ));
    assert!(
        failures.is_empty(),
        "{} of {cuts}:\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
}

#[test]
fn a_real_node_starts_on_what_a_cut_leaves() {
    let Some(recording) = recording() else { return };
    let (_, _, _, starts) = length();
    let mut seeded = Seeded::from_environment(0x0F06_F00E);
    let module = module(free_port());
    let walked = recording.walk(None, &recording.places(starts), |cut, disk, books| {
        let mut node = Node::new(&node::example("counting"), &module, &[]);
        let board = node.write_file("board.toml", BOARD);
        node.set_arguments(&["--board", board.to_str().unwrap()]);
        let loss = Loss::ALL[usize::try_from(cut.number).unwrap() % Loss::ALL.len()];
        disk.leave(node.data().parent().unwrap(), loss, &mut seeded).unwrap();
        if node.data().is_dir() {
            std::fs::write(node.data().join("notes"), recording.notes_torn(&mut seeded)).unwrap();
        }
        let what = format!("cut {} behind event {}, {loss:?}", cut.number, cut.event);
        node.start();
        let (status, code) = node.status();
        assert_eq!(code, Some(0), "{what}: {status}\n{}", node.log_tail());
        node.stop();
        let counts = counts_listed(&node);
        for (id, told) in books.counts_told() {
            let count = counts.iter().find(|(known, _)| known == id).map_or(0, |it| it.1);
            assert!(*told <= count, "{what}: {id} has {count}, {told} were told\n{}", node.log_tail());
        }
    });
    walked.expect("nothing leaves before it is durable");
    say(&format!("{starts} real nodes started on what a power cut left"));
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    let Some(recording) = recording() else { return };
    let mut seeded = Seeded::from_environment(0x0F06_F00F);
    for lie in [Lie::LogFiles, Lie::LogDirectory, Lie::Base, Lie::Directories] {
        let mut found = None;
        let places = recording.places(60);
        let walked = recording.walk(Some(lie), &places, |cut, disk, books| {
            if found.is_none() && cut.number % 2 == 1 {
                let directory = in_memory();
                let loss = [Loss::Everything, Loss::Sectors][usize::try_from(cut.number / 2 % 2).unwrap()];
                disk.leave(directory.path(), loss, &mut seeded).unwrap();
                found = books.check(&directory.path().join("data"), true).err();
            }
        });
        walked.expect("nothing leaves before it is durable");
        say(&format!("{lie:?}: {}", found.unwrap_or_else(|| panic!("{lie:?} was not noticed"))));
    }
}

/// An instant at which the power is cut.
#[derive(Clone, Copy)]
struct Cut {
    number: u64,
    /// Behind the event with this index.
    event: usize,
}

impl Recording {
    /// Cuts in the order of events: a quarter at rare events, a quarter at the first ones, the rest evenly spread.
    fn places(&self, count: u64) -> Vec<Cut> {
        let spread = |number: u64, over: usize| {
            usize::try_from(number * over as u64 / count.max(1)).unwrap().min(over - 1)
        };
        let place = |number: u64| match number % 4 {
            // A directory is made once, and each of its steps may be the last.
            2 => spread(number, FIRST_EVENTS.min(self.events.len())),
            0 => self.rare[spread(number, self.rare.len())],
            _ => spread(number, self.events.len()),
        };
        let mut cuts: Vec<Cut> = (0..count).map(|number| Cut { number, event: place(number) }).collect();
        cuts.sort_by_key(|cut| cut.event);
        cuts
    }

    /// Goes through the run and calls `visit` at each cut. Says what had been promised at the end.
    fn walk(
        &self,
        lie: Option<Lie>,
        cuts: &[Cut],
        mut visit: impl FnMut(Cut, &Disk, &Books),
    ) -> Result<(u64, u64), String> {
        // The books believe every sync, the disk only those that are no lie.
        let (mut honest, mut disk, mut books) = (Disk::new(None), Disk::new(lie), Books::default());
        let mut cuts = cuts.iter().peekable();
        for (index, event) in self.events.iter().enumerate() {
            honest.apply(event);
            disk.apply(event);
            books.note(event, &honest).map_err(|text| format!("event {index}: {text}"))?;
            while let Some(cut) = cuts.next_if(|cut| cut.event <= index) {
                visit(*cut, &disk, &books);
            }
        }
        Ok(books.told())
    }

    /// A mapped file that nobody synced: any of its sectors.
    fn notes_torn(&self, seeded: &mut Seeded) -> Vec<u8> {
        let mut notes = self.notes.clone();
        for sector in notes.chunks_mut(512) {
            if seeded.within(0, 3) == 0 {
                sector.fill(0);
            }
        }
        notes
    }
}

fn is_rare(event: &Event) -> bool {
    match event {
        Event::Write { path, offset, .. } => path.starts_with("data/base/") || *offset == 0,
        Event::Sync(path) => !path.contains("/log-"),
        Event::Sent { .. } => false,
        _ => true,
    }
}

/// Recorded once for all tests; `None` where it cannot be, which was said.
fn recording() -> Option<&'static Recording> {
    static RECORDED: OnceLock<Option<Recording>> = OnceLock::new();
    RECORDED.get_or_init(record).as_ref()
}

fn record() -> Option<Recording> {
    let broker = Mosquitto::start(Tuning::Tuned)?;
    if !can_trace() {
        say("SKIPPED: power cuts are recorded with strace, which is not installed or not permitted here");
        return None;
    }
    let (per_second, seconds, ..) = length();
    let scripts = support::scratch("traced");
    let mut node = Node::new(&traced(scripts.path()), &module(broker.port), &[]);
    let board = node.write_file("board.toml", BOARD);
    node.set_arguments(&["--board", board.to_str().unwrap()]);
    let root = node.data().parent().unwrap().to_owned();
    let subscriber = Subscriber::start(broker.port, Version::Mqtt5, "subscriber", "out/#", Qos::ExactlyOnce);
    let pace = Pace { window: 200, ..Pace::new(broker.port, per_second) };
    let messages = u64::from(per_second) * seconds;
    let mut publishing = None;
    let (mut events, mut disk) = (Vec::new(), Disk::new(None));
    for phase in 1..=3 {
        let trace = scripts.path().join(format!("trace-{phase}"));
        node.start_with(&[("FOGFUN_TRACE", trace.to_str().unwrap())]);
        node.wait_ready();
        let process = node.pid().unwrap();
        if publishing.is_none() {
            wait_until("it is subscribed", node::PATIENCE, || broker.has_subscription("counting-in", "in/+"));
            publishing = Some(publish(pace.clone(), script(messages)));
        }
        let due = usize::try_from(messages * phase / 3).unwrap();
        wait_until("records come out", node::PATIENCE * 4, || due <= subscriber.count());
        match phase {
            2 => node.kill(),
            _ => node.stop(),
        }
        wait_until("strace has written all", node::PATIENCE, || has_ended(&trace, process));
        let of_phase = trace::read(&std::fs::read(&trace).unwrap(), &root).unwrap();
        std::fs::remove_file(&trace).unwrap();
        of_phase.iter().for_each(|event| disk.apply(event));
        events.extend(of_phase);
        let is_killed = phase == 2;
        events.extend(what_is_there(&mut disk, &root, is_killed));
    }
    publishing.unwrap().join().unwrap();
    let released = |event: &&Event| matches!(event, Event::Rename { to, .. } if to.contains("/spare-"));
    let released = events.iter().filter(released).count();
    assert!(3 <= released, "the log is folded and its segments are used again, and not {released} times");
    let rare = (0..events.len()).filter(|index| is_rare(&events[*index])).collect();
    let notes = std::fs::read(node.data().join("notes")).unwrap();
    Some(Recording { events, rare, notes })
}

/// Was everything recorded? The files as recorded are the files as they are; where a write was cut short by a kill, it is put right.
fn what_is_there(disk: &mut Disk, root: &Path, is_killed: bool) -> Vec<Event> {
    let mut corrections = Vec::new();
    let paths = disk.paths();
    let mut there = Vec::new();
    for directory in ["data", "data/log", "data/base"] {
        for entry in std::fs::read_dir(root.join(directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_trusted = !trace::UNTRUSTED.contains(&name.as_str());
            if entry.file_type().unwrap().is_file() && is_trusted {
                there.push(format!("{directory}/{name}"));
            }
        }
    }
    there.sort();
    assert_eq!(there, paths, "names that were not recorded");
    for path in paths {
        let bytes = std::fs::read(root.join(&path)).unwrap();
        if disk.live(&path) != Some(bytes.as_slice()) {
            assert!(is_killed, "{path} was changed in a way that was not recorded");
            corrections.push(Event::Write { path, offset: 0, bytes });
        }
    }
    corrections.iter().for_each(|event| disk.apply(event));
    corrections
}

fn module(port: u16) -> String {
    let (version, qos, target) = (Version::Mqtt5, Qos::ExactlyOnce, "counting/count");
    ModuleYaml { port, version, qos, target, message_ids: false }.text()
}

fn script(messages: u64) -> Vec<ToPublish> {
    let message = |index: u64| ToPublish {
        topic: format!("in/{}", index % IDS),
        payload: format!("{:<PAYLOAD_BYTES$}", 1 + index / IDS).into(),
        properties: Vec::new(),
    };
    (0..messages).map(message).collect()
}

/// Ids and counts, from `state list`.
fn counts_listed(node: &Node) -> Vec<(String, u64)> {
    let answer = node.ask(&["state", "list", "counting/count", "--max", "1000"]);
    let entries = answer["entries"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let count = |entry: &serde_json::Value| {
        let bytes = entry["value"]["bytes"].as_str().unwrap();
        let bytes = data_encoding::BASE64.decode(bytes.as_bytes()).unwrap();
        let count = bytes.get(1..9).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        (entry["id"].as_str().unwrap().to_owned(), count)
    };
    entries.iter().map(count).collect()
}

/// A program that is the node under strace: a detached tracer, so that the node keeps the process id.
fn traced(directory: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("traced");
    let binary = node::example("counting");
    let script = format!(
        "#!/bin/sh\nexec strace -D -f --seccomp-bpf -y -xx -s 33554432 -o \"$FOGFUN_TRACE\" -e trace={} {} \"$@\"\n",
        trace::CALLS,
        binary.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn can_trace() -> bool {
    let traced = std::process::Command::new("strace").args(["-D", "-f", "-o", "/dev/null", "true"]).output();
    traced.is_ok_and(|output| output.status.success())
}

/// Is the last line that of the process's end?
fn has_ended(trace: &Path, process: u32) -> bool {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::open(trace).unwrap();
    let length = file.metadata().unwrap().len();
    let mut tail = vec![0; usize::try_from(length.min(200)).unwrap()];
    let from = length - tail.len() as u64;
    file.read_exact_at(&mut tail, from).unwrap();
    let tail = String::from_utf8_lossy(&tail).into_owned();
    // strace pads short numbers: `812   +++ exited with 0 +++`.
    let is_its_end = |line: &str| {
        line.split_once(' ').is_some_and(|(thread, rest)| {
            thread == process.to_string() && rest.trim_start().starts_with("+++ ")
        })
    };
    tail.ends_with("+++\n") && tail.lines().any(is_its_end)
}

/// A directory in memory where there is one: what is cut is in the files, not in the file system under them.
fn in_memory() -> tempfile::TempDir {
    let directory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("fogfun-cut-");
    let made = builder.tempdir_in(if directory.is_dir() { directory } else { Path::new("/tmp") });
    made.unwrap_or_else(|_| support::scratch("cut"))
}
