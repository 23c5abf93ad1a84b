//! When is an epoch over, and when is it safe? The control plane of one board.
//!
//! A pure machine beside the workers: it hears how busy they are, says when to cut, gathers their sections into frames, hands
//! frames and session records to the store, and tells everyone what is durable.
//!
//! **The cut rule.** There is something to commit, no epoch is in flight, the pause since the last cut has passed, and the node is
//! at rest (nothing runnable, nothing under way between workers) or the epoch is older than its age. So a chain of local messages is
//! one epoch, a lone event one sync, and load alone makes the batches. A wrong guess costs an epoch, never a promise.
//!
//! What must always hold:
//!
//! - At most one epoch is in flight; its frame is the log's next one.
//! - `Committed` and `Synced` are said of nothing that the store has not said is durable; an epoch that leaves nothing behind needs
//!   no store.
//! - Session records that are known when a frame is handed over stand in front of it in the same write.

pub mod io;

use std::collections::BTreeMap;

use embassy_time::{Duration, Instant};

use crate::admin::NodeStatus;
use crate::epoch::{Epoch, TimeStamp};
use crate::store::{LogEntry, StoreCommand, StoreEvent};
use crate::worker::io::{Activity, SessionIndex, WorkerIndex};

pub use io::{NodeInput, NodeOutput};

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How many workers it has.
    pub workers: usize,
    /// The least time between two cuts; zero where storage wears little.
    pub pause: Duration,
    /// The longest that an epoch goes on while the node is busy.
    pub epoch_age: Duration,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// The view; 1 on a single node.
    pub view: u64,
    /// The latest time stamped.
    pub time: TimeStamp,
}

/// The control plane.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    outputs: std::collections::VecDeque<NodeOutput>,
    activities: Vec<Activity>,
    phase: Phase,
    store: StorePhase,
    /// By key; each the newest of its key.
    records: BTreeMap<Vec<u8>, PendingRecord>,
    last_cut: Option<Instant>,
    last_sync: Option<Instant>,
    last_stamp: Instant,
    working: Epoch,
    committed: Epoch,
    is_fold_wanted: bool,
    is_clock_proven: bool,
    is_stopping: bool,
    status: NodeStatus,
}

/// Where the epoch before the working one is.
#[derive(Debug)]
enum Phase {
    /// Committed.
    None,
    /// Cut; sections are coming.
    Gathering { time: TimeStamp, must_stamp: bool, sections: Vec<Option<Vec<u8>>> },
    /// Whole; the store is busy with something else.
    Gathered(LogEntry),
    /// With the store.
    Storing,
}

/// What the store's thread does.
#[derive(Debug)]
enum StorePhase {
    Idle,
    Appending(InAppend),
    Folding,
    /// It failed; it is asked to go on at `retry_at`.
    Latched {
        retry_at: Instant,
        wait: Duration,
        append: Option<InAppend>,
    },
    /// It was asked to go on.
    Rewriting {
        wait: Duration,
        append: Option<InAppend>,
    },
}

/// What becomes durable with an append.
#[derive(Debug, Default)]
struct InAppend {
    has_frame: bool,
    records: Vec<(WorkerIndex, SessionIndex, u64)>,
}

#[derive(Debug)]
struct PendingRecord {
    worker: WorkerIndex,
    session: SessionIndex,
    number: u64,
    deadline: Instant,
    value: Vec<u8>,
}

impl Node {
    /// A node whose workers have recovered `config.epoch` and work in the next one.
    #[must_use]
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        Self {
            outputs: std::collections::VecDeque::new(),
            activities: vec![Activity::default(); config.workers],
            phase: Phase::None,
            store: StorePhase::Idle,
            records: BTreeMap::new(),
            last_cut: None,
            last_sync: None,
            last_stamp: now,
            working: config.epoch.next(),
            committed: config.epoch,
            is_fold_wanted: false,
            is_clock_proven: false,
            is_stopping: false,
            status: NodeStatus::default(),
            config,
        }
    }

    /// Tells the node something. Afterwards drain [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, now: Instant, input: NodeInput) {
        match input {
            NodeInput::Activity { worker, activity } => self.activities[worker.0] = activity,
            NodeInput::Section { worker, epoch, sections } => self.take_section(worker, epoch, sections),
            NodeInput::Record { worker, session, number, deadline, key, value } => {
                self.take_record(key, PendingRecord { worker, session, number, deadline, value });
            }
            NodeInput::Store(event) => self.handle_store(now, event),
            NodeInput::ClockProven { wall_ms } => self.prove_clock(now, wall_ms),
            NodeInput::FoldWanted => self.is_fold_wanted = true,
            NodeInput::Stop => self.is_stopping = true,
        }
        self.go_on(now);
    }

    /// What the node wants done next.
    pub fn poll_output(&mut self) -> Option<NodeOutput> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let store = match self.store {
            StorePhase::Idle => self.record_due(),
            StorePhase::Latched { retry_at, .. } => Some(retry_at),
            StorePhase::Appending(_) | StorePhase::Folding | StorePhase::Rewriting { .. } => None,
        };
        let cut = match self.phase {
            Phase::None => self.cut_due(),
            Phase::Gathering { .. } | Phase::Gathered(_) | Phase::Storing => None,
        };
        [store, cut].into_iter().flatten().min()
    }

    /// Time has passed. Afterwards drain [`poll_output`](Self::poll_output).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.go_on(now);
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            epoch_working: self.working.0,
            epoch_committed: self.committed.0,
            clock: if self.is_clock_proven { "proven".to_owned() } else { "unproven".to_owned() },
            ..self.status.clone()
        }
    }

    fn go_on(&mut self, now: Instant) {
        if matches!(self.phase, Phase::None) && self.cut_due().is_some_and(|due| due <= now) {
            self.begin_cut(now);
        }
        self.feed_store(now);
    }

    /// When the working epoch is to be cut, as far as is known; `None` if there is nothing to commit.
    fn cut_due(&self) -> Option<Instant> {
        let first_effect = self.activities.iter().filter_map(|activity| activity.first_effect).min();
        let Some(first_effect) = first_effect else {
            let waits = self.activities.iter().any(|activity| activity.delayed);
            return waits.then_some(self.last_stamp + STAMP_EVERY);
        };
        if self.is_stopping || self.activities.iter().any(|activity| activity.urgent) {
            return Some(first_effect);
        }
        let rested = self.last_cut.map_or(first_effect, |last_cut| last_cut + self.config.pause);
        let ripe = if self.is_at_rest() { first_effect } else { first_effect + self.config.epoch_age };
        Some(rested.max(ripe))
    }

    /// Is nothing runnable and nothing under way between workers, as far as they have told?
    fn is_at_rest(&self) -> bool {
        let total = |count: fn(&Activity) -> u64| self.activities.iter().map(count).sum::<u64>();
        !self.activities.iter().any(|activity| activity.runnable)
            && total(|activity| activity.sent) == total(|activity| activity.handled)
    }

    fn begin_cut(&mut self, now: Instant) {
        let must_stamp = self.last_stamp + STAMP_EVERY <= now;
        let time = TimeStamp { runtime_ms: now.as_millis(), proven: self.config.time.proven };
        self.phase = Phase::Gathering { time, must_stamp, sections: vec![None; self.config.workers] };
        self.last_cut = Some(now);
        // Until the workers tell of their new epoch, nothing of it is known.
        for activity in &mut self.activities {
            activity.first_effect = None;
            activity.urgent = false;
        }
        self.outputs.push_back(NodeOutput::Cut { epoch: self.working });
    }

    fn take_section(&mut self, worker: WorkerIndex, epoch: Epoch, section: Vec<u8>) {
        assert_eq!(epoch, self.working, "a section of an epoch that was not cut");
        let Phase::Gathering { time, must_stamp, sections } = &mut self.phase else {
            unreachable!("a section while no epoch gathers")
        };
        assert!(sections[worker.0].is_none(), "two sections of one worker");
        sections[worker.0] = Some(section);
        if sections.iter().any(Option::is_none) {
            return;
        }
        let (time, must_stamp) = (*time, *must_stamp);
        // Workers own ascending ranges of groups, so their sections in order are the frame's.
        let sections: Vec<Vec<u8>> =
            sections.iter_mut().filter_map(Option::take).filter(|section| !section.is_empty()).collect();
        self.working = epoch.next();
        if sections.is_empty() && !must_stamp {
            // Nothing to record: said, not written.
            self.phase = Phase::None;
            self.commit(epoch);
            return;
        }
        self.status.frames += 1;
        self.phase = Phase::Gathered(LogEntry::Frame { view: self.config.view, epoch, time, sections });
    }

    fn take_record(&mut self, key: Vec<u8>, record: PendingRecord) {
        match self.records.get_mut(&key) {
            Some(old) => {
                let deadline = old.deadline.min(record.deadline);
                *old = PendingRecord { deadline, ..record };
            }
            None => {
                self.records.insert(key, record);
            }
        }
    }

    /// When records must be written, if nothing else is before.
    fn record_due(&self) -> Option<Instant> {
        let deadline = self.records.values().map(|record| record.deadline).min()?;
        let spared = self.last_sync.map_or(deadline, |last_sync| last_sync + self.config.pause / 4);
        Some(if self.is_stopping { deadline } else { deadline.max(spared) })
    }

    fn feed_store(&mut self, now: Instant) {
        match &mut self.store {
            StorePhase::Idle => {}
            StorePhase::Latched { retry_at, wait, append } if *retry_at <= now => {
                let (wait, append) = (*wait, append.take());
                self.store = StorePhase::Rewriting { wait, append };
                self.outputs.push_back(NodeOutput::Store(StoreCommand::Rewrite));
                return;
            }
            _ => return,
        }
        let frame = match std::mem::replace(&mut self.phase, Phase::None) {
            Phase::Gathered(frame) => {
                self.phase = Phase::Storing;
                Some(frame)
            }
            phase => {
                self.phase = phase;
                None
            }
        };
        if frame.is_some() || self.record_due().is_some_and(|due| due <= now) {
            self.append(frame);
        } else if self.is_fold_wanted {
            self.store = StorePhase::Folding;
            self.outputs.push_back(NodeOutput::Store(StoreCommand::Fold));
        }
    }

    fn append(&mut self, frame: Option<LogEntry>) {
        let mut in_append = InAppend { has_frame: frame.is_some(), records: Vec::new() };
        let mut entries = Vec::with_capacity(2);
        if !self.records.is_empty() {
            let mut records = Vec::with_capacity(self.records.len());
            for (key, record) in std::mem::take(&mut self.records) {
                in_append.records.push((record.worker, record.session, record.number));
                records.push((key, record.value));
            }
            entries.push(LogEntry::SessionRecords { records });
        }
        if let Some(LogEntry::Frame { time, .. }) = &frame {
            self.last_stamp = Instant::from_millis(time.runtime_ms);
        }
        entries.extend(frame);
        self.store = StorePhase::Appending(in_append);
        self.outputs.push_back(NodeOutput::Store(StoreCommand::Append(entries)));
    }

    fn handle_store(&mut self, now: Instant, event: StoreEvent) {
        match event {
            StoreEvent::Appended { fold_due } => {
                self.is_fold_wanted |= fold_due;
                self.last_sync = Some(now);
                self.status.latched = None;
                let store = std::mem::replace(&mut self.store, StorePhase::Idle);
                if let StorePhase::Appending(append) | StorePhase::Rewriting { append: Some(append), .. } =
                    store
                {
                    self.status.syncs += 1;
                    self.tell_durable(now, append);
                }
            }
            StoreEvent::Folded { epoch, complete } => {
                self.store = StorePhase::Idle;
                self.is_fold_wanted = !complete;
                if complete {
                    self.status.folds += 1;
                    self.outputs.push_back(NodeOutput::Folded { epoch });
                }
            }
            StoreEvent::Failed { failure, text } => {
                self.status.store_failures += 1;
                self.status.latched = Some(format!("{failure:?}: {text}"));
                let (wait, append) = match std::mem::replace(&mut self.store, StorePhase::Idle) {
                    StorePhase::Appending(append) => (RETRY_MIN, Some(append)),
                    StorePhase::Rewriting { wait, append } => ((wait * 2).min(RETRY_MAX), append),
                    StorePhase::Idle | StorePhase::Folding | StorePhase::Latched { .. } => (RETRY_MIN, None),
                };
                self.store = StorePhase::Latched { retry_at: now + wait, wait, append };
            }
        }
    }

    fn tell_durable(&mut self, now: Instant, append: InAppend) {
        for (worker, session, record) in append.records {
            self.outputs.push_back(NodeOutput::Synced { worker, session, record });
        }
        if append.has_frame {
            self.phase = Phase::None;
            if let Some(cut) = self.last_cut {
                self.status.commit_latency.observe((now - cut).as_micros());
            }
            self.commit(Epoch(self.working.0 - 1));
        }
    }

    fn commit(&mut self, epoch: Epoch) {
        self.committed = epoch;
        self.outputs.push_back(NodeOutput::Committed { epoch });
    }

    /// Once per start: downtime that is proven counts.
    fn prove_clock(&mut self, now: Instant, wall_ms: u64) {
        if std::mem::replace(&mut self.is_clock_proven, true) {
            return;
        }
        let now_ms = now.as_millis();
        let passed = self.config.time.proven.and_then(|(runtime_ms, proven_wall_ms)| {
            Some(runtime_ms.saturating_add(wall_ms.checked_sub(proven_wall_ms)?))
        });
        let runtime_ms = passed.map_or(now_ms, |passed| passed.max(now_ms));
        self.config.time.proven = Some((runtime_ms, wall_ms));
        if now_ms < runtime_ms {
            self.outputs.push_back(NodeOutput::Advance { runtime: Instant::from_millis(runtime_ms) });
        }
    }
}

/// While a delayed message waits, the time is put this often, so that little of it is lost at a crash.
const STAMP_EVERY: Duration = Duration::from_secs(600);
/// The wait before a failed store is asked to go on; doubles …
const RETRY_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
