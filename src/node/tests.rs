use super::*;
use crate::store::{StoreCommand, StoreFailure};

const START: Instant = Instant::from_millis(1_000);
const PAUSE: Duration = Duration::from_millis(100);
const AGE: Duration = Duration::from_millis(500);

fn after(milliseconds: u64) -> Instant {
    START + Duration::from_millis(milliseconds)
}

/// A node with its workers, store and clock played by hand.
struct Bench {
    node: Node,
    now: Instant,
}

impl Bench {
    fn new(workers: usize) -> Self {
        Self::continuing(workers, TimeStamp::default())
    }

    fn continuing(workers: usize, time: TimeStamp) -> Self {
        let (epoch, view) = (Epoch(7), 1);
        let config = NodeConfig { workers, pause: PAUSE, epoch_age: AGE, epoch, view, time };
        Self { node: Node::new(config, START), now: START }
    }

    fn tell(&mut self, input: NodeInput) -> Vec<NodeOutput> {
        self.node.handle_input(self.now, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<NodeOutput> {
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    /// Lets time pass, firing every timeout at its time; what came of it, each with when.
    fn pass_until(&mut self, until: Instant) -> Vec<(Instant, NodeOutput)> {
        let mut outputs = Vec::new();
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now);
            let drained = self.drain();
            assert!(!drained.is_empty(), "a timeout at {due} for which nothing was to be done");
            outputs.extend(drained.into_iter().map(|output| (self.now, output)));
        }
        self.now = self.now.max(until);
        outputs
    }

    fn activity(&mut self, worker: usize, activity: Activity) -> Vec<NodeOutput> {
        self.tell(NodeInput::Activity { worker: WorkerIndex(worker), activity })
    }

    /// A worker tells of something to commit since now, with nothing else to do.
    fn effect(&mut self, worker: usize) -> Vec<NodeOutput> {
        let first_effect = Some(self.now);
        self.activity(worker, Activity { first_effect, ..Activity::default() })
    }

    fn section(&mut self, worker: usize, epoch: u64, sections: &[u8]) -> Vec<NodeOutput> {
        let (worker, epoch) = (WorkerIndex(worker), Epoch(epoch));
        self.tell(NodeInput::Section { worker, epoch, sections: sections.to_vec() })
    }

    fn record(&mut self, number: u64, deadline: Instant) -> Vec<NodeOutput> {
        self.record_of(b"progress", number, deadline)
    }

    fn record_of(&mut self, key: &[u8], number: u64, deadline: Instant) -> Vec<NodeOutput> {
        let (worker, session) = (WorkerIndex(0), SessionIndex(3));
        let (key, value) = (key.to_vec(), number.to_string().into_bytes());
        self.tell(NodeInput::Record { worker, session, number, deadline, key, value })
    }

    fn appended(&mut self) -> Vec<NodeOutput> {
        self.tell(NodeInput::Store(StoreEvent::Appended { fold_due: false }))
    }

    fn failed(&mut self) -> Vec<NodeOutput> {
        let failure = StoreFailure::Other;
        self.tell(NodeInput::Store(StoreEvent::Failed { failure, text: "as asked".to_owned() }))
    }

    /// A lone effect becomes durable.
    fn commit_one(&mut self, epoch: u64) {
        assert_eq!(names(&self.effect(0)), [format!("cut {epoch}")]);
        assert_eq!(names(&self.section(0, epoch, b"x")), [format!("append frame {epoch}")]);
        assert_eq!(names(&self.appended()), [format!("committed {epoch}")]);
    }
}

/// Outputs as words, so that a test reads as what happens.
fn names(outputs: &[NodeOutput]) -> Vec<String> {
    outputs.iter().map(name).collect()
}

fn name(output: &NodeOutput) -> String {
    match output {
        NodeOutput::Cut { epoch } => format!("cut {epoch}"),
        NodeOutput::Committed { epoch } => format!("committed {epoch}"),
        NodeOutput::Synced { record, .. } => format!("synced {record}"),
        NodeOutput::Folded { epoch } => format!("folded {epoch}"),
        NodeOutput::Advance { runtime } => format!("advance {}", runtime.as_millis()),
        NodeOutput::Store(StoreCommand::Rewrite) => "rewrite".to_owned(),
        NodeOutput::Store(StoreCommand::Fold) => "fold".to_owned(),
        NodeOutput::Store(StoreCommand::Append(entries)) => {
            let entries = entries.iter().map(|entry| match entry {
                LogEntry::Frame { epoch, .. } => format!("frame {epoch}"),
                LogEntry::SessionRecords { records } => {
                    let values = records.iter().map(|(_, value)| String::from_utf8_lossy(value));
                    format!("records {}", values.collect::<Vec<_>>().join("+"))
                }
            });
            format!("append {}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn timed(outputs: &[(Instant, NodeOutput)]) -> Vec<(u64, String)> {
    let since_start = |at: &Instant| at.as_millis() - START.as_millis();
    outputs.iter().map(|(at, output)| (since_start(at), name(output))).collect()
}

#[test]
fn an_idle_node_waits_for_nothing_and_does_nothing() {
    let mut bench = Bench::new(3);
    assert!(bench.activity(1, Activity { working: Epoch(8), ..Activity::default() }).is_empty());
    assert_eq!(bench.node.poll_timeout(), None);
}

#[test]
fn a_lone_event_is_one_cut_and_one_append() {
    let mut bench = Bench::new(1);
    bench.commit_one(8);
    assert_eq!(bench.node.poll_timeout(), None);
    assert_eq!((bench.node.status().frames, bench.node.status().syncs), (1, 1));
}

#[test]
fn a_frame_holds_the_sections_of_all_workers_in_their_order() {
    let mut bench = Bench::new(3);
    assert_eq!(names(&bench.effect(1)), ["cut 8"]);
    assert!(bench.section(2, 8, b"c").is_empty());
    assert!(bench.section(0, 8, b"").is_empty());
    let outputs = bench.section(1, 8, b"b");
    let [NodeOutput::Store(StoreCommand::Append(entries))] = &outputs[..] else { panic!("{outputs:?}") };
    let [LogEntry::Frame { sections, .. }] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(*sections, [b"b".to_vec(), b"c".to_vec()]);
}

#[test]
fn the_pause_lies_between_two_cuts() {
    let mut bench = Bench::new(1);
    bench.commit_one(8);
    bench.now = after(30);
    assert!(bench.effect(0).is_empty());
    assert_eq!(timed(&bench.pass_until(after(400))), [(100, "cut 9".to_owned())]);
}

#[test]
fn a_busy_node_is_cut_when_its_epoch_is_old() {
    let mut bench = Bench::new(2);
    let first_effect = Some(START);
    let runnable = Activity { first_effect, runnable: true, ..Activity::default() };
    assert!(bench.activity(0, runnable).is_empty());
    assert_eq!(timed(&bench.pass_until(after(2_000))), [(500, "cut 8".to_owned())]);
}

#[test]
fn what_is_under_way_between_workers_is_waited_for() {
    let mut bench = Bench::new(2);
    let first_effect = Some(START);
    assert!(bench.activity(0, Activity { first_effect, sent: 3, ..Activity::default() }).is_empty());
    assert!(bench.activity(1, Activity { first_effect, handled: 2, ..Activity::default() }).is_empty());
    let handled = Activity { first_effect, handled: 3, ..Activity::default() };
    assert_eq!(names(&bench.activity(1, handled)), ["cut 8"]);
}

#[test]
fn urgent_waits_for_no_pause_and_no_rest() {
    let mut bench = Bench::new(1);
    bench.commit_one(8);
    let first_effect = Some(bench.now);
    let urgent = Activity { first_effect, urgent: true, runnable: true, ..Activity::default() };
    assert_eq!(names(&bench.activity(0, urgent)), ["cut 9"]);
}

#[test]
fn stopping_commits_what_there_is_at_once() {
    let mut bench = Bench::new(1);
    bench.commit_one(8);
    assert!(bench.effect(0).is_empty(), "the pause has not passed");
    assert_eq!(names(&bench.tell(NodeInput::Stop)), ["cut 9"]);
}

#[test]
fn one_epoch_is_in_flight_at_most() {
    let mut bench = Bench::new(1);
    assert_eq!(names(&bench.effect(0)), ["cut 8"]);
    bench.now = after(1_000);
    assert!(bench.effect(0).is_empty());
    assert_eq!(bench.node.poll_timeout(), None, "nothing can be done before the section");
    assert_eq!(names(&bench.section(0, 8, b"x")), ["append frame 8"]);
    assert_eq!(bench.node.poll_timeout(), None, "nothing can be done before the sync");
    assert_eq!(names(&bench.appended()), ["committed 8", "cut 9"]);
}

#[test]
fn a_record_rides_in_front_of_the_frame_of_the_same_write() {
    let mut bench = Bench::new(1);
    assert_eq!(names(&bench.effect(0)), ["cut 8"]);
    assert!(bench.record(41, after(1_000)).is_empty());
    assert_eq!(names(&bench.section(0, 8, b"x")), ["append records 41, frame 8"]);
    assert!(bench.record(42, after(1_000)).is_empty());
    assert_eq!(names(&bench.appended()), ["synced 41", "committed 8"]);
    assert_eq!(timed(&bench.pass_until(after(5_000))), [(1_000, "append records 42".to_owned())]);
}

#[test]
fn a_lazy_record_is_written_at_its_deadline_without_a_frame() {
    let mut bench = Bench::new(1);
    assert!(bench.record(41, after(1_000)).is_empty());
    assert_eq!(timed(&bench.pass_until(after(5_000))), [(1_000, "append records 41".to_owned())]);
    assert_eq!(names(&bench.appended()), ["synced 41"]);
    assert_eq!(bench.node.poll_timeout(), None);
}

#[test]
fn the_newest_record_of_a_key_is_written_at_the_earliest_deadline() {
    let mut bench = Bench::new(1);
    assert!(bench.record(41, after(300)).is_empty());
    assert!(bench.record(42, after(900)).is_empty());
    assert!(bench.record_of(b"session", 43, after(900)).is_empty());
    assert_eq!(timed(&bench.pass_until(after(5_000))), [(300, "append records 42+43".to_owned())]);
    assert_eq!(names(&bench.appended()), ["synced 42", "synced 43"]);
}

#[test]
fn an_urgent_record_spares_the_storage_a_quarter_of_the_pause() {
    let mut bench = Bench::new(1);
    assert_eq!(names(&bench.record(41, START)), ["append records 41"]);
    assert_eq!(names(&bench.appended()), ["synced 41"]);
    bench.now = after(5);
    assert!(bench.record(42, after(5)).is_empty());
    assert_eq!(timed(&bench.pass_until(after(5_000))), [(25, "append records 42".to_owned())]);
}

#[test]
fn an_empty_epoch_is_said_and_not_written() {
    let mut bench = Bench::new(2);
    assert_eq!(names(&bench.effect(0)), ["cut 8"]);
    assert!(bench.section(0, 8, b"").is_empty());
    assert_eq!(names(&bench.section(1, 8, b"")), ["committed 8"]);
    bench.now = after(200);
    assert_eq!(names(&bench.effect(0)), ["cut 9"]);
    assert_eq!(bench.node.status().syncs, 0);
}

#[test]
fn a_failed_store_is_asked_again_after_longer_and_longer_waits() {
    let mut bench = Bench::new(1);
    bench.effect(0);
    bench.section(0, 8, b"x");
    assert!(bench.failed().is_empty());
    assert!(bench.node.status().latched.is_some());
    let mut waits = Vec::new();
    for _ in 0..8 {
        let failed_at = bench.now;
        let due = bench.node.poll_timeout().unwrap();
        waits.push((due - failed_at).as_millis());
        let outputs = bench.pass_until(due);
        assert_eq!(outputs.iter().map(|(_, output)| name(output)).collect::<Vec<_>>(), ["rewrite"]);
        assert!(bench.failed().is_empty());
    }
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
}

#[test]
fn what_was_latched_is_told_durable_once_and_nothing_before() {
    let mut bench = Bench::new(1);
    bench.effect(0);
    bench.record(41, after(1_000));
    assert_eq!(names(&bench.section(0, 8, b"x")), ["append records 41, frame 8"]);
    assert!(bench.failed().is_empty());
    // Meanwhile the workers go on.
    assert!(bench.effect(0).is_empty());
    assert!(bench.record(42, bench.now).is_empty());
    assert_eq!(timed(&bench.pass_until(after(50))), []);
    assert_eq!(timed(&bench.pass_until(after(150))), [(100, "rewrite".to_owned())]);
    assert!(bench.failed().is_empty());
    assert_eq!(timed(&bench.pass_until(after(400))), [(350, "rewrite".to_owned())]);
    assert_eq!(names(&bench.appended()), ["synced 41", "committed 8", "cut 9"]);
    assert_eq!(bench.node.status().latched, None);
    // The sync of the rewritten tail spares the storage like any other.
    assert_eq!(timed(&bench.pass_until(after(500))), [(425, "append records 42".to_owned())]);
    assert_eq!(names(&bench.appended()), ["synced 42"]);
}

#[test]
fn an_append_waits_for_one_step_of_a_fold_at_most() {
    let mut bench = Bench::new(1);
    assert_eq!(names(&bench.tell(NodeInput::FoldWanted)), ["fold"]);
    assert_eq!(names(&bench.effect(0)), ["cut 8"]);
    assert!(bench.section(0, 8, b"x").is_empty());
    let step = |complete| NodeInput::Store(StoreEvent::Folded { epoch: Epoch(7), complete });
    assert_eq!(names(&bench.tell(step(false))), ["append frame 8"]);
    assert_eq!(names(&bench.appended()), ["committed 8", "fold"]);
    assert_eq!(names(&bench.tell(step(true))), ["folded 7"]);
    assert_eq!(bench.node.poll_timeout(), None);
}

#[test]
fn a_fold_that_fails_is_begun_again_and_commits_nothing() {
    let mut bench = Bench::new(1);
    assert_eq!(names(&bench.tell(NodeInput::FoldWanted)), ["fold"]);
    assert!(bench.failed().is_empty());
    assert_eq!(timed(&bench.pass_until(after(150))), [(100, "rewrite".to_owned())]);
    assert_eq!(names(&bench.appended()), ["fold"]);
}

#[test]
fn while_a_delayed_message_waits_the_time_is_stamped_every_ten_minutes() {
    let mut bench = Bench::new(1);
    let waits = Activity { delayed: true, ..Activity::default() };
    assert!(bench.activity(0, waits).is_empty());
    let ten_minutes = STAMP_EVERY.as_millis();
    for round in 1..=3 {
        let at = after(round * ten_minutes);
        let cut = format!("cut {}", 7 + round);
        assert_eq!(timed(&bench.pass_until(at)), [(round * ten_minutes, cut)]);
        let outputs = bench.section(0, 7 + round, b"");
        let [NodeOutput::Store(StoreCommand::Append(entries))] = &outputs[..] else { panic!("{outputs:?}") };
        let [LogEntry::Frame { time, sections, .. }] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((time.runtime_ms, sections.len()), (at.as_millis(), 0));
        assert_eq!(names(&bench.appended()), [format!("committed {}", 7 + round)]);
    }
    assert!(bench.activity(0, Activity::default()).is_empty());
    assert_eq!(bench.node.poll_timeout(), None);
}

const WALL: u64 = 1_700_000_000_000;
const TWO_WEEKS: u64 = 14 * 24 * 3_600_000;

#[test]
fn proven_downtime_advances_runtime_once() {
    let time = TimeStamp { runtime_ms: 900, proven: Some((400, WALL)) };
    let mut bench = Bench::continuing(1, time);
    let proven = |wall_ms| NodeInput::ClockProven { wall_ms };
    assert_eq!(names(&bench.tell(proven(WALL + 60_000))), ["advance 60400"]);
    bench.now = Instant::from_millis(60_400);
    // From then on a wall clock that jumps changes nothing.
    assert!(bench.tell(proven(WALL + TWO_WEEKS)).is_empty());
    assert!(bench.tell(proven(WALL - TWO_WEEKS)).is_empty());
    bench.effect(0);
    let outputs = bench.section(0, 8, b"x");
    let [NodeOutput::Store(StoreCommand::Append(entries))] = &outputs[..] else { panic!("{outputs:?}") };
    let [LogEntry::Frame { time, .. }] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(*time, TimeStamp { runtime_ms: 60_400, proven: Some((60_400, WALL + 60_000)) });
}

#[test]
fn downtime_that_nobody_proves_does_not_count() {
    let time = TimeStamp { runtime_ms: 900, proven: Some((400, WALL)) };
    let mut bench = Bench::continuing(1, time);
    assert_eq!(bench.node.status().clock, "unproven");
    bench.effect(0);
    let outputs = bench.section(0, 8, b"x");
    let [NodeOutput::Store(StoreCommand::Append(entries))] = &outputs[..] else { panic!("{outputs:?}") };
    let [LogEntry::Frame { time, .. }] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(time.proven, Some((400, WALL)), "what was proven last stays known");
}

#[test]
fn a_wall_clock_before_what_was_proven_turns_nothing_back() {
    let time = TimeStamp { runtime_ms: 900, proven: Some((400, WALL)) };
    let mut bench = Bench::continuing(1, time);
    assert!(bench.tell(NodeInput::ClockProven { wall_ms: WALL - TWO_WEEKS }).is_empty());
    assert_eq!(bench.node.status().clock, "proven");
}
