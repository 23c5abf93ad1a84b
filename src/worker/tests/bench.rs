//! Some workers with everything round them played by hand: channels, node, log and base. No sockets: sessions stay unconnected.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use embassy_time::Instant;
use prost::Message as _;

use crate::address::{Address, TypeName};
use crate::admin::{AdminReply, AdminRequest, WorkerStatus};
use crate::epoch::Epoch;
use crate::epoch::frame::read_sections;
use crate::function::{Context, FunctionError, StatefulFunction};
use crate::key_group::KeyGroup;
use crate::message::Message;
use crate::module::{Application, Module, Specification};
use crate::mqtt::session::SessionStart;
use crate::remote::call::{Call, CallOutcome};
use crate::sim::base::SimBase;
use crate::sim::disk::SimDisk;
use crate::sim::endpoint::wire;
use crate::sim::simulation::NoNotes;
use crate::state::key::Key;
use crate::store::Base;
use crate::typed_value::TypedValue;
use crate::worker::io::{ChannelItem, OperationNumber, TakenRecord, WorkerIndex, WorkerInput, WorkerOutput};
use crate::worker::{Worker, WorkerConfig, WorkerLimits, WorkerStart};

pub(super) const OUT: TypeName = TypeName::from_static("test/out");

/// What a frame says: keys in words, and whether each is put.
pub(super) type Frame = BTreeMap<String, bool>;

pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) workers: Vec<Worker<SimBase, NoNotes>>,
    pub(super) events: Vec<(&'static str, String)>,
    pub(super) fold_wanted: bool,
    application: Arc<Application>,
    limits: WorkerLimits,
    base: SimBase,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    channels: BTreeMap<(usize, usize), VecDeque<ChannelItem>>,
    sections: Vec<Option<Vec<u8>>>,
    answers: Vec<AdminReply>,
    /// What went to the shell's HTTP ports.
    over_http: Vec<WorkerOutput>,
    committed: Epoch,
    requests: u64,
    /// Calls that are out, by worker, in the order made.
    pub(super) calls: Vec<(usize, Call)>,
    /// Operations that run, likewise.
    pub(super) operations: Vec<(usize, OperationNumber)>,
}

pub(super) fn limits() -> WorkerLimits {
    WorkerLimits {
        memory_bytes: 4 * 1024 * 1024,
        epoch_bytes: 1024 * 1024,
        effects_bytes_max: 64 * 1024,
        channel_bytes: 64 * 1024,
        letters_max: 100_000,
        dead_letters_max: 10_000,
        dead_letter_bytes_max: 16 * 1024 * 1024,
        attempts_max: 3,
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_millis(300),
    }
}

impl Bench {
    pub(super) fn new(workers: usize, limits: WorkerLimits, module: Module) -> Self {
        let mut bench = Self {
            now: Instant::from_millis(1_000),
            workers: Vec::new(),
            events: Vec::new(),
            fold_wanted: false,
            application: linked(module),
            limits,
            base: SimBase::new(&SimDisk::default()),
            log: Vec::new(),
            channels: BTreeMap::new(),
            sections: Vec::new(),
            answers: Vec::new(),
            over_http: Vec::new(),
            committed: Epoch(0),
            requests: 0,
            calls: Vec::new(),
            operations: Vec::new(),
        };
        bench.start(workers);
        bench
    }

    /// Everything that is not in the log or the base is gone; so many workers start from those.
    pub(super) fn restart(&mut self, workers: usize) {
        self.workers.clear();
        self.channels.clear();
        self.answers.clear();
        self.calls.clear();
        self.operations.clear();
        self.over_http.clear();
        self.fold_wanted = false;
        self.start(workers);
    }

    pub(super) fn restart_with(&mut self, workers: usize, module: Module) {
        self.application = linked(module);
        self.restart(workers);
    }

    fn start(&mut self, workers: usize) {
        for index in 0..workers {
            let config = WorkerConfig {
                index: WorkerIndex(index),
                workers,
                application: Arc::clone(&self.application),
                limits: self.limits.clone(),
                seed: 1,
                suspects: Vec::new(),
            };
            let mut worker = Worker::new(config, self.base.clone(), NoNotes);
            for (key, value) in &self.log {
                worker.replay(key, value.as_deref()).unwrap();
            }
            let sessions = Some(SessionStart::Resume);
            worker.start(self.now, WorkerStart { epoch: self.committed, identity: 1, sessions }).unwrap();
            self.workers.push(worker);
        }
        self.sections = vec![None; workers];
        for worker in 0..workers {
            self.drain(worker);
        }
        // The first that each tells the others is that they may send.
        self.pass_some();
    }

    /// A message from nobody arrives at its address's worker.
    pub(super) fn send(&mut self, target: &Address, value: impl Into<TypedValue>) {
        let message = Message { target: target.clone(), caller: None, argument: value.into(), headers: None };
        let worker = self.owner(target);
        self.workers[worker].deliver(self.now, target.key_group(), message);
        self.workers[worker].settle(self.now);
        self.drain(worker);
    }

    /// A record comes over HTTP; its number.
    pub(super) fn take(&mut self, record: TakenRecord) -> u64 {
        self.requests += 1;
        let (request, worker) = (self.requests, self.owner(&record.target));
        self.tell(worker, WorkerInput::Take { request, record });
        request
    }

    /// What clients and the playground have heard since the last call.
    pub(super) fn heard_over_http(&mut self) -> Vec<WorkerOutput> {
        std::mem::take(&mut self.over_http)
    }

    pub(super) fn owner(&self, address: &Address) -> usize {
        address.key_group().worker(self.workers.len())
    }

    fn drain(&mut self, worker: usize) {
        while let Some(output) = self.workers[worker].poll_output() {
            match output {
                WorkerOutput::Channel { to, items } => {
                    self.channels.entry((worker, to.0)).or_default().extend(items);
                }
                WorkerOutput::Section { epoch, sections } => {
                    assert_eq!(epoch, self.committed.next());
                    assert!(self.sections[worker].replace(sections).is_none());
                }
                WorkerOutput::Admin { reply, .. } => self.answers.push(reply),
                WorkerOutput::Event { kind, text } => self.events.push((kind, text)),
                WorkerOutput::FoldWanted => self.fold_wanted = true,
                WorkerOutput::Call(call) => self.calls.push((worker, call)),
                WorkerOutput::Operate { number, .. } => self.operations.push((worker, number)),
                WorkerOutput::Taken { .. }
                | WorkerOutput::Replied { .. }
                | WorkerOutput::Fetchable { .. } => self.over_http.push(output),
                _ => {}
            }
        }
    }

    pub(super) fn tell(&mut self, worker: usize, input: WorkerInput) {
        self.workers[worker].handle_input(self.now, input);
        self.drain(worker);
    }

    /// Lets one worker invoke so many times at most; says whether more is runnable.
    pub(super) fn run(&mut self, worker: usize, invocations: usize) -> bool {
        let more = self.workers[worker].run(self.now, invocations);
        self.drain(worker);
        more
    }

    /// Passes the next item of a channel, if there is one.
    pub(super) fn pass(&mut self, from: usize, to: usize) -> bool {
        let item = self.channels.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        let Some(item) = item else { return false };
        self.tell(to, WorkerInput::Channel { from: WorkerIndex(from), items: vec![item] });
        true
    }

    pub(super) fn under_way(&self, from: usize, to: usize) -> usize {
        self.channels.get(&(from, to)).map_or(0, VecDeque::len)
    }

    fn pass_some(&mut self) -> bool {
        let channels: Vec<(usize, usize)> = self.channels.keys().copied().collect();
        channels.into_iter().fold(false, |any, (from, to)| self.pass(from, to) || any)
    }

    /// Runs and passes until nothing happens any more, without a cut.
    pub(super) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let before = self.invocations();
            let mut any = self.pass_some();
            for worker in 0..self.workers.len() {
                any |= self.run(worker, 16);
            }
            if !any && before == self.invocations() {
                return;
            }
        }
        panic!("it never settles");
    }

    fn invocations(&self) -> u64 {
        self.workers.iter().map(|worker| worker.invocations).sum()
    }

    /// Time passes, and what is due then happens.
    pub(super) fn pass_time(&mut self, by: Duration) {
        self.now += embassy_time::Duration::from_micros(u64::try_from(by.as_micros()).unwrap());
        for worker in 0..self.workers.len() {
            self.workers[worker].handle_timeout(self.now);
            self.drain(worker);
        }
    }

    pub(super) fn cut(&mut self) {
        self.tell(0, WorkerInput::Cut { epoch: self.committed.next() });
    }

    /// Passes barriers, and what is before them, until the frame is whole and durable; tells nobody yet.
    pub(super) fn gather(&mut self) -> Frame {
        while self.sections.iter().any(Option::is_none) {
            assert!(self.pass_some(), "a section does not come");
        }
        let mut frame = Frame::new();
        for sections in &mut self.sections {
            let sections = sections.take().unwrap();
            read_sections(&sections, |key, value| {
                frame.insert(words(key), value.is_some());
                self.log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            })
            .unwrap();
        }
        self.committed = self.committed.next();
        frame
    }

    /// Bytes of keys and values that are not folded yet.
    pub(super) fn log_bytes(&self) -> usize {
        self.log.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    pub(super) fn tell_committed(&mut self) {
        for worker in 0..self.workers.len() {
            self.tell(worker, WorkerInput::Committed { epoch: self.committed });
        }
    }

    /// A whole epoch; what its frame says.
    pub(super) fn commit(&mut self) -> Frame {
        self.cut();
        let frame = self.gather();
        self.tell_committed();
        frame
    }

    pub(super) fn fold(&mut self) {
        let log = std::mem::take(&mut self.log);
        // The newest of each key, as the store's fold does it.
        let newest: BTreeMap<&[u8], Option<&[u8]>> =
            log.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        self.base.apply(&mut newest.into_iter(), None).unwrap();
        self.fold_wanted = false;
        for worker in 0..self.workers.len() {
            self.tell(worker, WorkerInput::Folded { epoch: self.committed });
        }
    }

    /// Lives like a node until nothing is left to do: runs, commits, and folds when asked.
    pub(super) fn live(&mut self) {
        for _ in 0..STEPS_MAX {
            let mut any = self.live_a_little();
            if self.workers.iter().any(|worker| worker.activity.first_effect.is_some()) {
                self.commit();
                any = true;
            }
            if self.fold_wanted {
                self.fold();
                any = true;
            }
            if !any {
                return;
            }
        }
        panic!("it lives for ever: {:?}", self.statuses());
    }

    fn live_a_little(&mut self) -> bool {
        let mut any = false;
        for _ in 0..50 {
            any |= self.pass_some();
            for worker in 0..self.workers.len() {
                any |= self.run(worker, 4);
            }
        }
        any
    }

    /// Ends the oldest call that is out; its request.
    pub(super) fn end_call(
        &mut self,
        end: impl FnOnce(&Bytes) -> CallOutcome,
    ) -> wire::InvocationBatchRequest {
        let (worker, call) = self.calls.remove(0);
        let outcome = end(&call.body);
        self.tell(worker, WorkerInput::Called { call: call.number, outcome });
        wire::ToFunction::decode(call.body).unwrap().invocation.unwrap()
    }

    /// Asks the owner of `id`; the answer if it is there already.
    pub(super) fn ask(&mut self, id: &str, question: AdminRequest) -> Option<AdminReply> {
        let worker = KeyGroup::of(id).worker(self.workers.len());
        self.ask_worker(worker, question)
    }

    pub(super) fn ask_worker(&mut self, worker: usize, question: AdminRequest) -> Option<AdminReply> {
        self.requests += 1;
        self.tell(worker, WorkerInput::Admin { request: self.requests, question });
        self.answer()
    }

    pub(super) fn answer(&mut self) -> Option<AdminReply> {
        self.answers.pop()
    }

    pub(super) fn status(&mut self, worker: usize) -> WorkerStatus {
        match self.ask_worker(worker, AdminRequest::Status) {
            Some(AdminReply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn statuses(&mut self) -> Vec<WorkerStatus> {
        (0..self.workers.len()).map(|worker| self.status(worker)).collect()
    }

    pub(super) fn counter(&mut self, worker: usize, name: &str) -> u64 {
        let status = self.status(worker);
        status.counters.iter().find(|(counter, _)| counter == name).map_or(0, |(_, count)| *count)
    }

    pub(super) fn told(&self, kind: &str) -> Vec<&str> {
        self.events.iter().filter(|(told, _)| *told == kind).map(|(_, text)| text.as_str()).collect()
    }
}

/// More than any scenario takes.
const STEPS_MAX: usize = 200_000;

fn linked(module: Module) -> Arc<Application> {
    let yaml = format!("{MODULE}{ENDPOINT}");
    let specification = Specification::parse("module.yaml", &yaml, &|_| None);
    match specification.and_then(|specification| Application::link(module, specification)) {
        Ok(application) => Arc::new(application),
        Err(errors) => panic!("{errors}"),
    }
}

/// A module with one function for every type of the namespace `test`; `invoke` is called with its text.
pub(super) fn module<F>(invoke: F) -> Module
where
    F: Fn(&mut Context<'_>, &str) -> Result<(), FunctionError> + Clone + Send + Sync + 'static,
{
    Module::new().namespace("test", move |_| Box::new(OfText(invoke.clone())))
}

struct OfText<F>(F);

impl<F> StatefulFunction for OfText<F>
where
    F: Fn(&mut Context<'_>, &str) -> Result<(), FunctionError>,
{
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        self.0(context, &message.get::<String>()?)
    }
}

/// Remembers what the functions of a test heard, outside of all rollbacks.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Vec<String>>>);

impl Ear {
    pub(super) fn hear(&self, context: &Context<'_>, text: &str) {
        self.0.lock().unwrap().push(format!("{} {text}", context.self_address().id()));
    }

    /// For an ear that is a switch.
    pub(super) fn tell(&self) {
        self.0.lock().unwrap().push(String::new());
    }

    pub(super) fn is_told(&self) -> bool {
        !self.0.lock().unwrap().is_empty()
    }

    /// What was heard since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(super) fn address(function_type: &'static str, id: &str) -> Address {
    Address::new(TypeName::parse(function_type).unwrap(), id).unwrap()
}

/// The first ids `0`, `1` … that belong to a worker of so many.
pub(super) fn ids_of(worker: usize, workers: usize) -> impl Iterator<Item = String> {
    (0..).map(|number: u64| number.to_string()).filter(move |id| KeyGroup::of(id).worker(workers) == worker)
}

pub(super) fn id_of(worker: usize, workers: usize) -> String {
    ids_of(worker, workers).next().unwrap()
}

fn words(key: &[u8]) -> String {
    match Key::decode(key).unwrap() {
        Key::Mailbox { id, function_type, arrival } => format!("letter {function_type}/{id} {arrival}"),
        Key::Unsent { number, .. } => format!("unsent {number}"),
        Key::Counter { group } => format!("counter {}", group.number()),
        Key::Delayed { due_ms, id, number, .. } => format!("delayed {id} {due_ms} {number}"),
        Key::State { id, name, subkey, .. } => format!("state {id} {name} {}", subkey.escape_ascii()),
        Key::DeadLetter { id, .. } => format!("dead {id}"),
        Key::Outbox { number, .. } => format!("outbox {number}"),
        other => format!("{other:?}"),
    }
}

/// What of a frame begins with these words: put, and deleted.
pub(super) fn of_kind(frame: &Frame, kind: &str) -> (Vec<String>, Vec<String>) {
    let (put, deleted): (Vec<_>, Vec<_>) =
        frame.iter().filter(|(key, _)| key.starts_with(kind)).partition(|(_, put)| **put);
    let keys = |found: Vec<(&String, &bool)>| found.into_iter().map(|(key, _)| key.clone()).collect();
    (keys(put), keys(deleted))
}

const MODULE: &str = r"
kind: fogfun.mqtt.v1/ingress
spec:
  id: test/in
  address: mqtt://broker
  topics:
    - topic: in/{id}
      qos: 2
      format: text
      id: {capture: id}
      targets: [test/a]
---
kind: fogfun.mqtt.v1/egress
spec:
  id: test/out
  address: mqtt://broker
  qos: 2
---
kind: io.statefun.playground.v1/egress
spec: {port: 8091, topics: [greetings]}
";

const ENDPOINT: &str = r"
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: remote/*
  urlPathTemplate: http://endpoint/{function.name}
  transport:
    type: io.statefun.transports.v1/async
    pool_size: 2
    payload_max_bytes: 65536
  batch: {invocations: 3}
  retry: {attempts: 3, backoff: 100ms, backoffMax: 400ms}
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: remote/blocking
  urlPathTemplate: http://endpoint/blocking
  retry: {attempts: 1, backoff: 100ms, backoffMax: 400ms}
  onFailure: block
";
