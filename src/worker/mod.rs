//! One thread's share of the work: its key groups, their functions and sessions, and its part of every epoch.
//!
//! A pure machine. The shell hands it inputs, lets it [`run`](Worker::run), and drains its outputs:
//!
//! ```text
//! session ─ route ─┬─ mailbox(address) ─ invoke ─ effects ─┬─ states
//!                  │        ▲                               ├─ messages → a mailbox here, or a channel
//!    channel ──────┴────────┴───────────────────────────────┤
//!                                                           ├─ delayed messages
//!                                                           └─ the outbox of an egress session, here or behind a channel
//! ```
//! What must always hold:
//!
//! - One invocation per address at a time, in the order of arrival; messages from A to B are delivered in the order sent.
//! - Nothing is applied of an invocation that failed; everything of one that did not, in one epoch.
//! - A message has one identity, (address, arrival number), from its arrival until it is consumed; the epoch that must carry it
//!   over puts it, the later one that consumed it deletes it.
//! - Nothing leaves before its epoch is committed: no record, no acknowledgement, no answer.
//! - No worker waits for another inside an epoch: what does not fit a channel waits with its sender.
//!
//! Sources: Chandy and Lamport, "Distributed Snapshots" (1985); Flink StateFun's feedback loop.

mod admin;
mod channel;
mod delayed;
mod epochs;
mod functions;
mod http;
mod ingress;
mod instances;
mod invoke;
pub mod io;
mod logged;
mod mailbox;
mod memory;
mod operations;
mod overlay;
mod recovery;
mod remote;
mod states;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use embassy_time::Instant;

use crate::address::{Address, TypeName};
use crate::admin::AdminReply;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::function::effects::Effects;
use crate::key_group::KeyGroup;
use crate::limits::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, EFFECTS_BYTES_MAX, KEY_GROUPS};
use crate::message::Message;
use crate::module::{Application, Board};
use crate::mqtt::session::SessionStart;
use crate::store::BaseRead;

use channel::{Channel, Unsent, split};
use delayed::DelayedMessages;
use epochs::Epochs;
use functions::Functions;
use ingress::OwnedSession;
use instances::{InstanceIndex, Instances, Status};
use io::{Activity, ChannelItem, SessionIndex, WorkerIndex, WorkerInput, WorkerOutput};
use logged::{Behind, Logged};
use mailbox::Waiting;
use memory::Account;
pub(crate) use memory::channel_bytes_max;
use operations::Operations;
use overlay::Overlay;
use recovery::Replayed;
use remote::Remote;

pub use crate::http_config::HTTP_TYPE;
pub(crate) use invoke::panic_text;

/// The function type of sessions: a session is an address too.
pub const SESSION_TYPE: TypeName = TypeName::from_static("fogfun/session");

/// What a worker is made with.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Which of them.
    pub index: WorkerIndex,
    /// How many there are.
    pub workers: usize,
    /// What is bound.
    pub application: Arc<Application>,
    /// Its bounds.
    pub limits: WorkerLimits,
    /// Seeds jitter; nothing else is random.
    pub seed: u64,
    /// Messages that were being invoked when the process ended uncleanly.
    pub suspects: Vec<Suspect>,
}

/// A message that was being invoked when the process ended uncleanly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspect {
    /// The hash of the address that was invoked.
    pub address_hash: u64,
    /// The hash of the message that it was invoked with: caller, type, bytes and headers.
    pub message_hash: u64,
    /// Has that happened too often? Then it is a dead letter and not invoked.
    pub is_poison: bool,
}

/// What the store recovered, as far as a worker needs it.
#[derive(Clone, Copy, Debug)]
pub struct WorkerStart {
    /// The last committed epoch.
    pub epoch: Epoch,
    /// The data directory's identity, part of message ids.
    pub identity: u64,
    /// How sessions begin; `None` is at rest: nothing acts by itself, only questions are answered.
    pub sessions: Option<SessionStart>,
}

/// A worker's bounds; a node divides its board's among its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerLimits {
    /// Bytes of memory for everything that waits or is cached. Full: spill, then close the ingress, then make addresses wait.
    pub memory_bytes: usize,
    /// Bytes an epoch may make dirty. Reached: cut; reached with one in flight: nothing is invoked or taken in until it is committed.
    pub epoch_bytes: usize,
    /// Bytes of one invocation's effects; more is the function's error.
    pub effects_bytes_max: usize,
    /// Bytes that a channel to another worker holds. Those of all others to this one have at most 12 % of `memory_bytes`.
    pub channel_bytes: u32,
    /// Letters that wait on this worker; more closes the ingress until they are fewer.
    pub letters_max: u64,
    /// Dead letters that this worker keeps; at the bound the ingress closes and addresses go on trying, until some are dropped.
    pub dead_letters_max: u64,
    /// Bytes of their keys and values; at the bound likewise.
    pub dead_letter_bytes_max: u64,
    /// Attempts at a message whose function fails, before it is a dead letter.
    pub attempts_max: u32,
    /// The wait before the second attempt; doubles up to `backoff_max`, with jitter.
    pub backoff_min: Duration,
    /// The longest wait between attempts.
    pub backoff_max: Duration,
}

impl WorkerLimits {
    /// What each worker of this board may hold.
    #[must_use]
    pub fn of(board: &Board) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let memory_bytes = bytes(board.worker_account_bytes());
        Self {
            memory_bytes,
            epoch_bytes: bytes(board.epoch_bytes),
            effects_bytes_max: EFFECTS_BYTES_MAX.min(memory_bytes / 2),
            channel_bytes: board.channel_bytes.min(channel_bytes_max(memory_bytes, board.workers.into())),
            letters_max: u64::from(board.waiting_messages_max),
            dead_letters_max: DEAD_LETTERS_MAX,
            dead_letter_bytes_max: DEAD_LETTER_BYTES_MAX,
            attempts_max: board.attempts_max,
            backoff_min: Duration::from_millis(board.retry_first_ms),
            backoff_max: Duration::from_millis(board.retry_max_ms),
        }
    }
}

/// Hears what is being invoked, so that a message that kills the process is known afterwards.
pub trait Notes {
    /// An invocation begins.
    fn begin(&mut self, address_hash: u64, message_hash: u64);
    /// It ended, however, with the process alive. This acquits nobody: what fails at its first try may kill at its second.
    fn end(&mut self);
    /// A message that was suspected is consumed by the working epoch.
    fn consumed(&mut self, address_hash: u64, message_hash: u64);
    /// The working epoch is cut.
    fn cut(&mut self);
    /// The epoch that was cut is durable: what it consumed is no longer suspected.
    fn committed(&mut self);
}

/// One worker.
pub struct Worker<B, N> {
    config: WorkerConfig,
    base: B,
    notes: N,
    outputs: VecDeque<WorkerOutput>,
    epochs: Epochs,
    /// Deletes of the working epoch, as they happen.
    frame: FrameBuilder,
    /// Instances with letters or states that the working epoch's frame must carry.
    touched: Vec<InstanceIndex>,
    /// The next arrival number of each key group.
    arrivals: Vec<u64>,
    /// Groups whose arrival number the working epoch's frame must carry.
    arrivals_used: GroupSet,
    instances: Instances,
    run_queue: VecDeque<InstanceIndex>,
    retries: BTreeSet<(Instant, InstanceIndex)>,
    /// Whose effects did not fit, and how many bytes they need.
    memory_waiters: VecDeque<(InstanceIndex, usize)>,
    /// One per other worker.
    channels: Vec<Channel>,
    delayed: DelayedMessages,
    operations: Operations,
    /// Dead letters and remembered message ids.
    overlay: Overlay,
    /// States that the log told of and the base does not hold yet.
    logged: Logged,
    sessions: Vec<OwnedSession>,
    /// Of every session of the module, in its order.
    session_addresses: Vec<Option<Address>>,
    functions: Functions,
    remote: Remote,
    /// Reused from one invocation to the next.
    effects: Effects,
    scratch: Vec<u8>,
    account: Account,
    activity: Activity,
    reported: Activity,
    /// Answers that wait for the epoch in which they became true.
    answers: Vec<(Epoch, u64, AdminReply)>,
    /// Outputs that wait for the epoch of which they tell; nobody is in a hurry for them.
    promised: VecDeque<(Epoch, WorkerOutput)>,
    counters: BTreeMap<&'static str, u64>,
    invocations: u64,
    random: fastrand::Rng,
    identity: u64,
    is_at_rest: bool,
    stop: Option<Instant>,
    is_stopped: bool,
    replayed: Replayed,
}

/// A set of key groups.
#[derive(Clone, Copy, Default, Debug)]
struct GroupSet(u128);

const _: () = assert!(KEY_GROUPS as u32 <= u128::BITS);

impl GroupSet {
    fn insert(&mut self, group: KeyGroup) {
        self.0 |= 1 << group.number();
    }

    fn iter(self) -> impl Iterator<Item = KeyGroup> {
        KeyGroup::all().filter(move |group| self.0 >> group.number() & 1 == 1)
    }
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// A worker that has not started: hand it the log with [`replay`](Self::replay), then [`start`](Self::start) it.
    pub fn new(config: WorkerConfig, base: B, notes: N) -> Self {
        let others = (0..config.workers).map(WorkerIndex).filter(|&other| other != config.index);
        let channels = others.map(|peer| Channel::new(peer, config.limits.channel_bytes)).collect();
        let sessions = config.application.sessions.iter();
        let session_addresses = sessions.map(|session| session_address(&session.name)).collect();
        Self {
            epochs: Epochs::after(REPLAYED),
            identity: 0,
            frame: FrameBuilder::default(),
            touched: Vec::new(),
            arrivals: vec![0; usize::from(KEY_GROUPS)],
            arrivals_used: GroupSet::default(),
            instances: Instances::default(),
            run_queue: VecDeque::new(),
            retries: BTreeSet::new(),
            memory_waiters: VecDeque::new(),
            channels,
            delayed: DelayedMessages::default(),
            operations: Operations::default(),
            overlay: Overlay::default(),
            logged: Logged::default(),
            sessions: Vec::new(),
            session_addresses,
            functions: Functions::default(),
            remote: Remote::default(),
            effects: Effects::default(),
            scratch: Vec::new(),
            account: Account::new(&config.limits),
            activity: Activity::default(),
            reported: Activity::default(),
            answers: Vec::new(),
            promised: VecDeque::new(),
            counters: BTreeMap::new(),
            invocations: 0,
            random: fastrand::Rng::with_seed(config.seed),
            is_at_rest: false,
            stop: None,
            is_stopped: false,
            replayed: Replayed::default(),
            outputs: VecDeque::new(),
            config,
            base,
            notes,
        }
    }

    /// Tells the worker something. Afterwards drain [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, now: Instant, input: WorkerInput) {
        match input {
            WorkerInput::Channel { from, items } => self.handle_channel(now, from, items),
            WorkerInput::Cut { epoch } => self.cut(now, epoch, None),
            WorkerInput::Committed { epoch } => self.handle_committed(now, epoch),
            WorkerInput::Synced { session, record } => {
                use crate::mqtt::session::SessionInput;
                self.handle_session(now, session, SessionInput::Synced { record });
            }
            WorkerInput::Folded { epoch } => self.handle_folded(now, epoch),
            WorkerInput::Session { session, input } => self.handle_session(now, session, input),
            WorkerInput::Called { call, outcome } => self.handle_called(now, call, &outcome),
            WorkerInput::Take { request, record } => self.handle_take(now, request, record),
            WorkerInput::Operated { number, result } => self.handle_operated(now, number, result),
            WorkerInput::Admin { request, question } => self.handle_admin(now, request, question),
            WorkerInput::Stop { deadline } => self.handle_stop(now, deadline),
        }
        self.settle(now);
    }

    /// Invokes what is runnable, `invocations_max` at most; says whether more is. Afterwards drain
    /// [`poll_output`](Self::poll_output).
    pub fn run(&mut self, now: Instant, invocations_max: usize) -> bool {
        for _ in 0..invocations_max {
            if self.must_pause() {
                break;
            }
            let Some(at) = self.run_queue.pop_front() else {
                break;
            };
            self.invoke_first(now, at);
        }
        self.settle(now);
        !self.run_queue.is_empty() && !self.must_pause()
    }

    /// What the worker wants done next.
    pub fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.first_due_ms().filter(|_| !self.is_at_rest).map(Instant::from_millis);
        let retry = self.retries.first().map(|&(at, _)| at);
        let sessions = self.sessions.iter().filter_map(|owned| owned.session.poll_timeout()).min();
        let remote = self.remote.poll_timeout();
        [delayed, retry, sessions, remote, self.stop.filter(|_| !self.is_stopped)].into_iter().flatten().min()
    }

    /// Time has passed. Afterwards drain [`poll_output`](Self::poll_output).
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_at_rest {
            self.fire_delayed(now);
        }
        self.retry_failed(now);
        self.release_due(now);
        for at in 0..self.sessions.len() {
            if self.sessions[at].session.poll_timeout().is_some_and(|due| due <= now) {
                self.sessions[at].session.handle_timeout(now);
                self.drain_session(now, at);
            }
        }
        self.settle(now);
    }

    /// Bytes that the memory account holds beside PUBLISHes that wait for the intake, for which the Receive Maximum is the bound.
    pub fn memory_bytes(&self) -> usize {
        self.account.used_beside_held()
    }

    /// The number of the epoch that is being worked in.
    pub fn working_epoch(&self) -> Epoch {
        self.epochs.working
    }

    /// Delivers a message to its address's worker: here, or over a channel; is it here? `from` is the sender's group.
    fn send(&mut self, now: Instant, from: KeyGroup, message: Message) -> bool {
        if let Some(at) = self.instances.find(&message.target) {
            // Only addresses of our own groups are in memory, and a session is not among them.
            let group = self.instances.at(at).group;
            let arrival = self.next_arrival(group);
            let (_, letter) = split(message);
            self.mark_dirty(now);
            self.enqueue_at(at, Waiting { arrival, persisted: Epoch(0), letter });
            return true;
        }
        let group = message.target.key_group();
        let owner = group.worker(self.config.workers);
        if owner == self.config.index.0 {
            self.deliver(now, group, message);
            return true;
        }
        let channel = self.channel_to(WorkerIndex(owner));
        match self.channels[channel].try_send(message) {
            Ok(()) => self.activity.sent += 1,
            Err(message) => {
                let number = self.next_arrival(from);
                self.account.add(channel::credit_of(&message) as usize);
                let unsent = Unsent { group: from, number, persisted: Epoch(0), message };
                self.channels[channel].wait(unsent);
            }
        }
        self.mark_dirty(now);
        false
    }

    /// Puts a message that has arrived into its mailbox, or hands it to its session. `group` is its target's.
    fn deliver(&mut self, now: Instant, group: KeyGroup, message: Message) {
        self.mark_dirty(now);
        if *message.target.function_type() == HTTP_TYPE {
            self.reply_over_http(&message.target, message.argument);
            return;
        }
        if *message.target.function_type() == SESSION_TYPE {
            self.deliver_to_session(now, message, None);
            return;
        }
        let arrival = self.next_arrival(group);
        let (target, letter) = split(message);
        self.enqueue(&target, Waiting { arrival, persisted: Epoch(0), letter });
    }

    fn enqueue(&mut self, target: &Address, waiting: Waiting) -> InstanceIndex {
        let (at, is_new) = self.instances.find_or_insert(target);
        if is_new {
            self.account.add(instances::INSTANCE_BYTES);
        }
        self.enqueue_at(at, waiting);
        at
    }

    fn enqueue_at(&mut self, at: InstanceIndex, waiting: Waiting) {
        self.account.change_letters(0, waiting.memory_bytes());
        self.account.letters += 1;
        self.touch(at);
        let instance = self.instances.at(at);
        instance.mailbox.push(waiting);
        if instance.status == Status::Idle {
            self.requeue(at);
        }
    }

    fn touch(&mut self, at: InstanceIndex) {
        let working = self.epochs.working;
        let instance = self.instances.at(at);
        if instance.touched != working {
            instance.touched = working;
            self.touched.push(at);
        }
    }

    fn next_arrival(&mut self, group: KeyGroup) -> u64 {
        let next = &mut self.arrivals[group.index()];
        *next += 1;
        *next
    }

    fn channel_to(&self, peer: WorkerIndex) -> usize {
        if peer < self.config.index { peer.0 } else { peer.0 - 1 }
    }

    fn handle_channel(&mut self, now: Instant, from: WorkerIndex, items: Vec<ChannelItem>) {
        let channel = self.channel_to(from);
        debug_assert_eq!(self.channels[channel].peer, from);
        for item in items {
            match item {
                ChannelItem::Message(message) => {
                    self.activity.handled += 1;
                    self.channels[channel].take(&message);
                    self.take_from_channel(now, channel, message);
                }
                ChannelItem::Barrier(epoch) => self.handle_barrier(now, channel, epoch),
                ChannelItem::Credit(bytes) => {
                    self.channels[channel].add_credit(bytes);
                    self.hand_over_waiting(now, channel);
                }
            }
        }
    }

    /// Hands over what waits for a channel that has got credit; what a frame holds of it is deleted.
    fn hand_over_waiting(&mut self, now: Instant, channel: usize) {
        let Self { channels, frame, activity, account, .. } = self;
        let mut any = false;
        channels[channel].hand_over_waiting(|unsent| {
            activity.sent += 1;
            any = true;
            account.remove(channel::credit_of(&unsent.message) as usize);
            if unsent.persisted != Epoch(0) {
                frame.delete(&crate::state::key::Key::Unsent { group: unsent.group, number: unsent.number });
            }
        });
        if any {
            self.mark_dirty(now);
        }
    }

    fn handle_stop(&mut self, now: Instant, deadline: Instant) {
        self.stop = Some(deadline);
        for at in 0..self.sessions.len() {
            use crate::mqtt::session::SessionInput;
            self.sessions[at].session.handle_input(now, SessionInput::Stop { deadline });
            self.drain_session(now, at);
        }
    }

    fn mark_dirty(&mut self, now: Instant) {
        self.activity.first_effect.get_or_insert(now);
    }

    fn count(&mut self, kind: &'static str) {
        *self.counters.entry(kind).or_default() += 1;
    }

    fn event(&mut self, kind: &'static str, text: String) {
        self.count(kind);
        self.outputs.push_back(WorkerOutput::Event { kind, text });
    }

    /// After each input and run: give credit, open or close the ingress, emit what goes to other workers, tell how busy we are.
    fn settle(&mut self, now: Instant) {
        self.drain_sessions(now);
        self.balance_memory(now);
        let has_unsent = self.channels.iter().any(|channel| 0 < channel.unsent_count());
        for at in 0..self.channels.len() {
            if self.account.has_room(has_unsent) {
                self.channels[at].give(self.config.limits.channel_bytes);
            }
            if let Some(items) = self.channels[at].take_outgoing() {
                self.outputs.push_back(WorkerOutput::Channel { to: self.channels[at].peer, items });
            }
        }
        self.activity.runnable = !self.run_queue.is_empty() && !self.must_pause();
        self.activity.urgent = self.is_epoch_full() || !self.answers.is_empty() || self.stop.is_some();
        self.activity.delayed = 0 < self.delayed.count();
        self.activity.working = self.epochs.working;
        if self.activity != self.reported {
            self.reported = self.activity;
            self.outputs.push_back(WorkerOutput::Activity(self.activity));
        }
        self.check_stopped(now);
    }

    fn check_stopped(&mut self, now: Instant) {
        let Some(deadline) = self.stop else { return };
        let is_quiet = self.sessions.iter().all(|owned| owned.is_stopped)
            && self.run_queue.is_empty()
            && self.activity.first_effect.is_none()
            && self.epochs.in_flight.is_none();
        let is_stopped = is_quiet || deadline <= now;
        if is_stopped && !self.is_stopped {
            self.outputs.push_back(WorkerOutput::Stopped);
        }
        self.is_stopped = is_stopped;
    }
}

/// Stands for whatever epoch put what the log or the base holds at start: the first fold that is told of covers all of it.
const REPLAYED: Epoch = Epoch(1);

/// The session's place is fixed by the module; only its owner has it.
fn session_address(name: &TypeName) -> Option<Address> {
    Address::new(SESSION_TYPE, name.as_str()).ok()
}

/// Which worker owns a session.
#[must_use]
pub fn session_owner(name: &TypeName, workers: usize) -> WorkerIndex {
    WorkerIndex(KeyGroup::of(name.as_str()).worker(workers))
}

/// The index of a session in its worker's list, if it owns it.
fn owned_at(sessions: &[OwnedSession], session: SessionIndex) -> Option<usize> {
    sessions.iter().position(|owned| owned.index == session)
}
