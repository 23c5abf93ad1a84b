//! How is a remote function called? A batch of an address's first letters is asked for, and stays in its mailbox until the reply is
//! applied.
//!
//! ```text
//! queued ─→ learning? ─→ gate of the URL ─→ request ─→ (shell) ─→ judged ─┬─ reply ─→ queued again ─→ applied, letters consumed
//!             held          held             calling                     ├─ missing states: learnt, asked again
//!                                                                        ├─ down: waits, the identical request again
//!                                                                        └─ failed: one by one, then tried again, then a dead letter
//! ```
//! - At most one request per address is out. Nothing of it is written: a crash finds its letters waiting.
//! - While a type's states are unknown one address asks; the others of the type are held. Whoever fails hands that on.
//! - A reply is applied in its turn, as an invocation, so a full epoch holds it back.
//! - Bodies, and what a reply may take at most, are on the account from the request to the reply.
//!
//! Source: StateFun's `RequestReplyFunction`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use embassy_time::Instant;
use foldhash::fast::FixedState;

use crate::address::TypeName;
use crate::admin::EndpointStatus;
use crate::function::effects::StateAccess;
use crate::function::{Context, FunctionError};
use crate::module::Application;
use crate::remote::call::{Call, CallNumber, CallOutcome, EndpointIndex};
use crate::remote::config::{EndpointConfig, OnFailure};
use crate::remote::gate::{Ended, Gate};
use crate::remote::outcome::{Verdict, judge};
use crate::remote::reply::{Reply, apply_reply};
use crate::remote::request::{encode_request, invocation_bytes};
use crate::remote::specs::Specs;
use crate::remote::url::Url;
use crate::store::{BaseError, BaseRead};

use super::instances::{Instance, InstanceIndex, Status};
use super::invoke::{Unapplied, check_tokens};
use super::io::WorkerOutput;
use super::mailbox::Waiting;
use super::states::StateView;
use super::{Behind, Notes, Worker};

/// The remote functions of one worker, and the calls that are out.
#[derive(Default)]
pub(crate) struct Remote {
    types: Vec<RemoteType>,
    gates: Vec<UrlGate>,
    /// Addresses with a batch that is not finished.
    batches: Batches,
    calls: HashMap<CallNumber, InstanceIndex, FixedState>,
    calls_made: u64,
}

/// Where a remote function type stands; it stays there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemoteIndex(usize);

struct RemoteType {
    config: Arc<EndpointConfig>,
    endpoint: EndpointIndex,
    gate: usize,
    specs: Specs,
    learning: Learning,
    /// Held until the states are known.
    held: VecDeque<InstanceIndex>,
}

/// Does this process know which states a type declares?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Learning {
    Unknown,
    /// This address's request will tell.
    Asking(InstanceIndex),
    Known,
}

struct UrlGate {
    url: Arc<Url>,
    gate: Gate<InstanceIndex>,
    last_error: Option<String>,
}

type Batches = HashMap<InstanceIndex, Batch, FixedState>;

/// What an address asks for.
#[derive(Debug)]
struct Batch {
    function: RemoteIndex,
    /// How many of its first letters; 0 until the request is made.
    letters: u32,
    /// Letters that are still to be tried one by one, because they failed together.
    alone: u32,
    /// The time at which its states are read: a repeated request is the same request.
    asked_at: Instant,
    /// When its URL last let it go.
    began: Instant,
    /// How many states were in the request.
    states_sent: usize,
    /// May it go to the URL? Then it is counted there.
    is_granted: bool,
    /// On the account while the request is out.
    reserved_bytes: usize,
    /// Came, and waits for its turn.
    reply: Option<Bytes>,
}

/// What a reply says.
enum Read {
    /// What to do: it is in the worker's effects.
    Effects,
    /// Which states its function declares: they are known now.
    Learnt,
}

impl Remote {
    /// Makes a place for a remote type; `None` if its name makes no URL.
    pub(crate) fn add(
        &mut self,
        function_type: &TypeName,
        endpoint: EndpointIndex,
        application: &Application,
        workers: usize,
    ) -> Option<RemoteIndex> {
        let config = Arc::clone(application.endpoints.get(endpoint.0)?);
        let url = config.url.url(function_type)?;
        let gate = self.gate_of(url, &config, workers);
        let at = RemoteIndex(self.types.len());
        let (specs, learning, held) = (Specs::default(), Learning::Unknown, VecDeque::new());
        self.types.push(RemoteType { config, endpoint, gate, specs, learning, held });
        Some(at)
    }

    fn gate_of(&mut self, url: Arc<Url>, config: &EndpointConfig, workers: usize) -> usize {
        if let Some(at) = self.gates.iter().position(|known| known.url == url) {
            return at;
        }
        let window = usize::from(config.transport.pool_size).div_ceil(workers).max(1);
        let retry = &config.retry;
        let gate = Gate::new(window, retry.backoff_first, retry.backoff_max);
        self.gates.push(UrlGate { url, gate, last_error: None });
        self.gates.len() - 1
    }

    fn batch(&mut self, at: InstanceIndex) -> &mut Batch {
        batch_of(&mut self.batches, at)
    }

    /// When somebody who waits may go.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.gates.iter().filter_map(|url| url.gate.poll_timeout()).min()
    }

    /// Requests that are out.
    pub(crate) fn calls_out(&self) -> usize {
        self.calls.len()
    }

    /// How each URL is, for `status`.
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let of = |url: &UrlGate| EndpointStatus {
            url: url.url.to_string(),
            in_flight: url.gate.in_flight() as u64,
            waiting: url.gate.waiting() as u64,
            failures: url.gate.is_down().map_or(0, |(failures, _)| u64::from(failures)),
            last_error: url.last_error.clone(),
        };
        self.gates.iter().map(of).collect()
    }

    /// Addresses that are held until the states of their type are known.
    pub(crate) fn held(&self) -> usize {
        self.types.iter().map(|function| function.held.len()).sum()
    }
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// The turn of an address whose function is remote: applies its reply if one came, else asks.
    pub(crate) fn turn_remote(&mut self, now: Instant, at: InstanceIndex, function: RemoteIndex) {
        let new = || Batch::new(function, now);
        let batch = self.remote.batches.entry(at).or_insert_with(new);
        match batch.reply.take() {
            Some(body) => self.apply_remote(now, at, body),
            None => self.ask(now, at),
        }
    }

    /// A call ended.
    pub(crate) fn handle_called(&mut self, now: Instant, number: CallNumber, outcome: &CallOutcome) {
        let Some(at) = self.remote.calls.remove(&number) else { unreachable!("a call is answered once") };
        let batch = self.remote.batch(at);
        let (began, function, reserved) =
            (batch.began, batch.function, std::mem::take(&mut batch.reserved_bytes));
        batch.is_granted = false;
        self.account.remove(reserved);
        let function = &self.remote.types[function.0];
        let gate = function.gate;
        let verdict = judge(outcome, &function.config.retry);
        let ended = if matches!(verdict, Verdict::Down(_)) { Ended::Down } else { Ended::Answered };
        self.remote.gates[gate].gate.ended(now, ended, began, self.random.u64(..));
        if let Some(function) = self.instances.at(at).function {
            let counts = self.functions.counts(function);
            counts.call_latency.observe((now - began).as_micros());
            counts.call_failures += u64::from(!matches!(verdict, Verdict::Reply(_)));
        }
        match verdict {
            Verdict::Reply(body) => {
                self.account.add(body.len());
                self.remote.batch(at).reply = Some(body);
                self.requeue(at);
            }
            Verdict::Down(text) => self.stand_by(now, at, &text),
            Verdict::Failed(text) => self.fail_remote(now, at, &text),
        }
        self.release(now, gate);
    }

    /// Lets those go whose time has come.
    pub(crate) fn release_due(&mut self, now: Instant) {
        for gate in 0..self.remote.gates.len() {
            self.release(now, gate);
        }
    }

    /// Lets those go whom a gate lets go: to be asked after each end of a call.
    fn release(&mut self, now: Instant, gate: usize) {
        while let Some(at) = self.remote.gates[gate].gate.released(now) {
            let batch = self.remote.batch(at);
            (batch.is_granted, batch.began) = (true, now);
            self.requeue(at);
        }
    }

    /// Sends a request if its type's states are known or asked for by it, and its URL takes one.
    fn ask(&mut self, now: Instant, at: InstanceIndex) {
        let Remote { types, gates, batches, calls, .. } = &mut self.remote;
        let batch = batch_of(batches, at);
        let function = &mut types[batch.function.0];
        match function.learning {
            Learning::Known => {}
            Learning::Asking(leader) if leader == at => {}
            Learning::Unknown => function.learning = Learning::Asking(at),
            Learning::Asking(_) => {
                function.held.push_back(at);
                self.instances.at(at).status = Status::Held;
                return;
            }
        }
        // The reply may be as long as the transport takes. One call may always go: only replies make room.
        let reply_bytes_max = function.config.transport.payload_bytes_max.min(self.account.call_bytes_max());
        if !calls.is_empty() && !self.account.fits(reply_bytes_max) {
            self.wait_for_memory(at, reply_bytes_max);
            return;
        }
        if !batch.is_granted && !gates[function.gate].gate.ask(now, at) {
            self.instances.at(at).status = Status::Held;
            return;
        }
        if !std::mem::replace(&mut batch.is_granted, true) {
            batch.began = now;
        }
        match self.reading(at, |worker| worker.request(now, at)) {
            Ok(body) => self.transmit_call(at, body, reply_bytes_max),
            Err(error) => {
                self.abandon(now, at);
                self.fail_remote(now, at, &error);
            }
        }
    }

    /// Gives a place at the URL back that was not used, to whoever waits for one.
    fn abandon(&mut self, now: Instant, at: InstanceIndex) {
        let batch = self.remote.batch(at);
        batch.is_granted = false;
        let (function, began) = (batch.function, batch.began);
        let gate = self.remote.types[function.0].gate;
        self.remote.gates[gate].gate.ended(now, Ended::Unused, began, 0);
        self.release(now, gate);
    }

    fn transmit_call(&mut self, at: InstanceIndex, body: Bytes, reply_bytes_max: usize) {
        let Remote { types, gates, batches, calls, calls_made, .. } = &mut self.remote;
        let batch = batch_of(batches, at);
        let function = &types[batch.function.0];
        *calls_made += 1;
        let number = CallNumber(*calls_made);
        calls.insert(number, at);
        // No more than is there for it: the account is kept.
        batch.reserved_bytes = (body.len() + reply_bytes_max).min(self.account.call_bytes_max());
        self.account.add(batch.reserved_bytes);
        let instance = self.instances.at(at);
        instance.status = Status::Calling;
        instance.called_letters = batch.letters;
        let url = Arc::clone(&gates[function.gate].url);
        self.outputs.push_back(WorkerOutput::Call(Call { number, endpoint: function.endpoint, url, body }));
    }

    /// Reads the letters and states of a request. The first letter is in memory: the turn began with it.
    fn request(&mut self, now: Instant, at: InstanceIndex) -> Result<Bytes, String> {
        let Self { instances, base, logged, remote, scratch, .. } = self;
        let Remote { types, batches, .. } = remote;
        let batch = batch_of(batches, at);
        let RemoteType { config, specs, .. } = &types[batch.function.0];
        let Instance { address, mailbox, states, .. } = instances.at(at);
        let text = |error: BaseError| error.to_string();
        if batch.letters == 0 {
            batch.letters = if 0 < batch.alone { 1 } else { letters_of(mailbox.in_memory(), config) };
            batch.asked_at = now;
        }
        let behind = &Behind { logged, base };
        let mut view =
            StateView { states, address, base: behind, now_ms: batch.asked_at.as_millis(), scratch };
        let mut values = Vec::with_capacity(specs.len());
        for spec in specs.iter() {
            values.push((spec.name.as_str(), view.entry(&spec.name, &[]).map_err(text)?.cloned()));
        }
        batch.states_sent = values.len();
        let letters = mailbox.in_memory().take(batch.letters as usize).map(|waiting| &waiting.letter);
        let named = values.iter().map(|(name, value)| (*name, value.as_ref()));
        let body = encode_request(address, named, letters);
        if config.transport.payload_bytes_max < body.len() {
            let (bytes, bound) = (body.len(), config.transport.payload_bytes_max);
            return Err(format!("the request has {bytes} bytes, `payload_max_bytes` is {bound}"));
        }
        Ok(body)
    }

    fn apply_remote(&mut self, now: Instant, at: InstanceIndex, body: Bytes) {
        let read = self.reading(at, |worker| worker.read_reply(now, at, &body));
        let batch = self.remote.batch(at);
        let (letters, function) = (batch.letters, batch.function);
        let applied = match read {
            Ok(Read::Effects) => self.apply(now, at, letters),
            Ok(Read::Learnt) => {
                self.account.remove(body.len());
                self.requeue(at);
                return;
            }
            Err(error) => Err(Unapplied::Failed(error)),
        };
        if let Err(Unapplied::NoRoom(bytes)) = applied {
            self.remote.batch(at).reply = Some(body);
            self.wait_for_memory(at, bytes);
            return;
        }
        self.account.remove(body.len());
        match applied {
            Err(Unapplied::Failed(error)) => self.fail_remote(now, at, &error.to_string()),
            _ => {
                self.finish_batch(at, letters);
                self.learnt(function);
            }
        }
    }

    /// Turns a reply into effects, or learns what states it misses.
    fn read_reply(&mut self, now: Instant, at: InstanceIndex, body: &Bytes) -> Result<Read, FunctionError> {
        let Self { instances, base, logged, remote, effects, scratch, config, delayed, .. } = self;
        let Remote { types, batches, .. } = remote;
        let batch = batch_of(batches, at);
        let specs = &mut types[batch.function.0].specs;
        let Instance { address, states, .. } = instances.at(at);
        effects.clear();
        let base = &Behind { logged, base };
        let mut view = StateView { states, address, base, now_ms: now.as_millis(), scratch };
        let application = &*config.application;
        let mut context = Context::new(address, None, None, now.as_millis(), effects, &mut view, application);
        let reply = apply_reply(body, specs, &mut context);
        match reply.map_err(|error| FunctionError::new(error.to_string()))? {
            Reply::Done => {
                check_tokens(effects, |token| delayed.holds_token(address.id(), token))?;
                Ok(Read::Effects)
            }
            Reply::Missing(missing) => {
                let new = specs.register(missing).map_err(|error| FunctionError::new(error.to_string()))?;
                if new == 0 && specs.len() == batch.states_sent {
                    return Err(FunctionError::new("it asks for states that it was sent"));
                }
                Ok(Read::Learnt)
            }
        }
    }

    /// The endpoint is down: the same request again, later.
    fn stand_by(&mut self, now: Instant, at: InstanceIndex, text: &str) {
        self.hand_on_learning(at);
        let (policy, text) = self.told(at, text);
        self.event("endpoint-down", text);
        self.try_again(now, at, &policy);
    }

    /// Another error: what failed together is tried one by one; what fails alone is tried again, and then given up.
    fn fail_remote(&mut self, now: Instant, at: InstanceIndex, reason: &str) {
        self.hand_on_learning(at);
        if let Some(function) = self.instances.at(at).function {
            self.functions.counts(function).failures += 1;
        }
        let (policy, text) = self.told(at, reason);
        let batch = self.remote.batch(at);
        if 1 < batch.letters {
            batch.alone = batch.letters;
            batch.letters = 0;
            self.instances.at(at).called_letters = 0;
            self.event("batch-failed", format!("{text}; its messages are tried one by one"));
            self.requeue(at);
            return;
        }
        let failures = self.instances.at(at).failures + 1;
        if failures < policy.retry.attempts_max || policy.on_failure == OnFailure::Block {
            self.event("invocation-failed", text);
            self.try_again(now, at, &policy);
            return;
        }
        self.instances.at(at).failures = failures;
        self.finish_batch(at, 1);
        self.give_up(now, at, &text);
    }

    fn try_again(&mut self, now: Instant, at: InstanceIndex, policy: &EndpointConfig) {
        let instance = self.instances.at(at);
        instance.failures = instance.failures.saturating_add(1).min(FAILURES_COUNTED_MAX);
        let failures = instance.failures;
        let wait = self.backoff(failures, policy.retry.backoff_first, policy.retry.backoff_max);
        self.retry_after(now, at, wait);
    }

    /// What the endpoint's document says, and what to tell a person.
    fn told(&mut self, at: InstanceIndex, text: &str) -> (Arc<EndpointConfig>, String) {
        let Remote { types, gates, batches, .. } = &mut self.remote;
        let batch = batch_of(batches, at);
        let function = &types[batch.function.0];
        let url = &mut gates[function.gate];
        let instance = self.instances.at(at);
        let text = format!("{} at {}, attempt {}: {text}", instance.address, url.url, instance.failures + 1);
        url.last_error = Some(text.clone());
        (Arc::clone(&function.config), text)
    }

    /// So many letters are consumed or given up.
    fn finish_batch(&mut self, at: InstanceIndex, letters: u32) {
        self.instances.at(at).called_letters = 0;
        let batch = self.remote.batch(at);
        batch.alone = batch.alone.saturating_sub(letters);
        batch.letters = 0;
        if batch.alone == 0 {
            self.remote.batches.remove(&at);
        }
    }

    /// The states of a type are known: those that were held go on.
    fn learnt(&mut self, function: RemoteIndex) {
        let function = &mut self.remote.types[function.0];
        function.learning = Learning::Known;
        for at in std::mem::take(&mut function.held) {
            self.requeue(at);
        }
    }

    /// Whoever was to learn the states of its type has failed: let another try.
    fn hand_on_learning(&mut self, at: InstanceIndex) {
        let function = self.remote.batch(at).function;
        let function = &mut self.remote.types[function.0];
        if function.learning == Learning::Asking(at) {
            function.learning = Learning::Unknown;
            if let Some(next) = function.held.pop_front() {
                self.requeue(next);
            }
        }
    }
}

/// The batch of an address that asks, is held, waits or is answered.
fn batch_of(batches: &mut Batches, at: InstanceIndex) -> &mut Batch {
    match batches.get_mut(&at) {
        Some(batch) => batch,
        None => unreachable!("a batch lives until its letters are consumed or given up"),
    }
}

impl Batch {
    fn new(function: RemoteIndex, now: Instant) -> Self {
        Self {
            function,
            letters: 0,
            alone: 0,
            asked_at: now,
            began: now,
            states_sent: 0,
            is_granted: false,
            reserved_bytes: 0,
            reply: None,
        }
    }
}

/// How many of these letters one request takes: one at least.
fn letters_of<'a>(letters: impl Iterator<Item = &'a Waiting>, config: &EndpointConfig) -> u32 {
    let (mut count, mut bytes) = (0, 0);
    for waiting in letters {
        bytes += invocation_bytes(&waiting.letter);
        if 0 < count && (config.batch.invocations_max <= count || config.batch.bytes_max < bytes) {
            break;
        }
        count += 1;
    }
    count
}

/// Failures are counted no further: an endpoint may be down for ever.
const FAILURES_COUNTED_MAX: u32 = 1 << 20;
