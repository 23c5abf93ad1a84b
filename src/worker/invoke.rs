//! How is a function called, and what comes of it? Everything of an invocation that succeeds is applied, nothing of one that does not.
//!
//! A function that fails or panics is tried again after a wait, `attempts_max` times; then its message is a dead letter. Waiting
//! and counting attempts write nothing. Effects that do not fit the memory account are thrown away and the address waits.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use embassy_time::{Duration, Instant};

use crate::address::Address;
use crate::epoch::Epoch;
use crate::function::effects::{Change, DelayedEffect, Effects, OperationEffect};
use crate::function::{Context, FunctionError};
use crate::message::{EgressRecord, Message};
use crate::state::key::Key;
use crate::state::value::{DeadLetter, Letter, encode_dead_letter};
use crate::store::BaseRead;
use crate::typed_value::TypedValue;

use super::channel::{join, split};
use super::delayed::{Delayed, Place};
use super::functions::Bound;
use super::instances::{Instance, InstanceIndex, Status};
use super::io::{SessionIndex, WorkerOutput};
use super::mailbox::Waiting;
use super::operations::Operation;
use super::remote::RemoteIndex;
use super::states::StateView;
use super::{Behind, Notes, Suspect, Worker, owned_at};

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Invokes an instance that stands first in the run queue with its first letter.
    pub(crate) fn invoke_first(&mut self, now: Instant, at: InstanceIndex) {
        debug_assert_eq!(self.instances.at(at).status, Status::Queued);
        if !self.account.fits(0) {
            // Even to look at the letter takes memory.
            self.wait_for_memory(at, 0);
            return;
        }
        let called = self.reading(at, |worker| worker.call(now, at));
        if self.instances.at(at).states.is_dirty() {
            self.touch(at);
        }
        match called {
            Called::Succeeded => match self.apply(now, at, 1) {
                Ok(()) => {}
                Err(Unapplied::NoRoom(bytes)) => self.wait_for_memory(at, bytes),
                Err(Unapplied::Failed(error)) => self.fail(now, at, &error),
            },
            Called::Remote(function) => self.turn_remote(now, at, function),
            Called::Failed(error) => self.fail(now, at, &error),
            Called::Poisoned => self.give_up(now, at, POISON_REASON),
            Called::Unbound => self.instances.at(at).status = Status::Unbound,
            Called::NothingWaits => self.instances.at(at).status = Status::Idle,
        }
    }

    /// A step that may read an address's letters and states from the base: what they take in memory then is on the account.
    pub(crate) fn reading<T>(&mut self, at: InstanceIndex, step: impl FnOnce(&mut Self) -> T) -> T {
        let instance = self.instances.at(at);
        let (letters, states) = (instance.mailbox.memory_bytes(), instance.states.memory_bytes());
        let read = step(self);
        let instance = self.instances.at(at);
        self.account.change_letters(letters, instance.mailbox.memory_bytes());
        self.account.add(instance.states.memory_bytes());
        self.account.remove(states);
        read
    }

    /// Puts addresses whose wait is over back into the run queue.
    pub(crate) fn retry_failed(&mut self, now: Instant) {
        while let Some(&(due, at)) = self.retries.first()
            && due <= now
        {
            self.retries.pop_first();
            self.requeue(at);
        }
    }

    /// Sends what is due.
    pub(crate) fn fire_delayed(&mut self, now: Instant) {
        while let Some((place, delayed)) = self.delayed.pop_due(now.as_millis()) {
            self.mark_dirty(now);
            self.account.remove(delayed.memory_bytes());
            self.forget_delayed(place, &delayed);
            let Delayed { sender, target, letter, .. } = delayed;
            self.send(now, sender.key_group(), join(target, letter));
        }
    }

    /// Makes a message or record a dead letter.
    pub(crate) fn bury(
        &mut self,
        now: Instant,
        target: &Address,
        letter: Letter,
        reason: &str,
        attempts: u32,
    ) {
        self.mark_dirty(now);
        let group = target.key_group();
        let number = self.next_arrival(group);
        self.arrivals_used.insert(group);
        let (id, function_type) = (target.id(), target.function_type().as_str());
        let key = Key::DeadLetter { id, function_type, number }.to_vec();
        let dead = DeadLetter { letter, reason: reason.to_owned(), attempts, at_ms: now.as_millis() };
        let mut value = Vec::new();
        encode_dead_letter(&dead, &mut value);
        self.account.add_dirty(key.len() + value.len());
        self.account.add_dead_letter(key.len() + value.len());
        self.overlay.write(key, Some(value), self.epochs.working);
        self.event("dead-letter", format!("{target}: {reason}"));
    }

    fn call(&mut self, now: Instant, at: InstanceIndex) -> Called {
        let page_bytes = self.account.page_bytes();
        let Self {
            instances, functions, effects, base, logged, notes, config, scratch, delayed, remote, ..
        } = self;
        let instance = instances.at(at);
        let Instance { address, mailbox, states, hash, function, .. } = instance;
        let (address, hash) = (&*address, *hash);
        let waiting = match mailbox.first(address, base, page_bytes) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return Called::NothingWaits,
            Err(error) => return Called::Failed(error.into()),
        };
        let application = &config.application;
        let function_type = address.function_type();
        let place = *function.get_or_insert_with(|| functions.place(function_type));
        let place_remote = |endpoint| remote.add(function_type, endpoint, application, config.workers);
        let function = match functions.at(place, function_type, application, place_remote) {
            Bound::Embedded(function) => function,
            Bound::Remote(remote) => return Called::Remote(remote),
            Bound::Nowhere => return Called::Unbound,
        };
        let message_hash = letter_hash(&waiting.letter);
        let is_poison = |suspect: &Suspect| {
            suspect.is_poison && (suspect.address_hash, suspect.message_hash) == (hash, message_hash)
        };
        if config.suspects.iter().any(is_poison) {
            return Called::Poisoned;
        }
        effects.clear();
        let Letter { caller, argument, headers } = &waiting.letter;
        let now_ms = now.as_millis();
        let base = &Behind { logged, base };
        let mut view = StateView { states, address, base, now_ms, scratch };
        let mut context = Context::new(
            address,
            caller.as_ref(),
            headers.as_deref(),
            now_ms,
            effects,
            &mut view,
            &**application,
        );
        notes.begin(hash, message_hash);
        let result = catch_unwind(AssertUnwindSafe(|| function.invoke(&mut context, argument)));
        notes.end();
        match result {
            Ok(Ok(())) => match check_tokens(effects, |token| delayed.holds_token(address.id(), token)) {
                Ok(()) => Called::Succeeded,
                Err(error) => Called::Failed(error),
            },
            Ok(Err(error)) => Called::Failed(error),
            Err(panic) => {
                functions.forget(place);
                Called::Failed(FunctionError::new(format!("it panicked: {}", panic_text(&*panic))))
            }
        }
    }

    /// Applies the effects of an invocation that succeeded, in StateFun's order, and consumes its letters.
    pub(crate) fn apply(&mut self, now: Instant, at: InstanceIndex, letters: u32) -> Result<(), Unapplied> {
        let bytes = effects_bytes(&self.effects);
        if self.config.limits.effects_bytes_max < bytes {
            let bound = self.config.limits.effects_bytes_max;
            let text = format!("its effects take {bytes} bytes; {bound} is the bound");
            return Err(Unapplied::Failed(FunctionError::new(text)));
        }
        if !self.account.fits(bytes) {
            return Err(Unapplied::NoRoom(bytes));
        }
        let mut effects = std::mem::take(&mut self.effects);
        if let Err(error) = self.apply_state(at, &mut effects) {
            // Reading a table to change it failed: the invocation never happened, and nothing was sent yet.
            self.effects = effects;
            return Err(Unapplied::Failed(error));
        }
        self.invocations += u64::from(letters);
        let instance = self.instances.at(at);
        let (group, function) = (instance.group, instance.function);
        let (mut sent_here, mut sent_elsewhere) = (0, 0);
        let sent_out = effects.egress.len() as u64;
        let is_sender_named =
            !(effects.delayed.is_empty() && effects.egress.is_empty() && effects.operations.is_empty());
        let sender = is_sender_named.then(|| instance.address.clone());
        for _ in 0..letters {
            self.consume_first(now, at);
        }
        for message in effects.messages.drain(..) {
            if self.send(now, group, message) {
                sent_here += 1;
            } else {
                sent_elsewhere += 1;
            }
        }
        for effect in effects.delayed.drain(..) {
            if let Some(sender) = &sender {
                self.apply_delayed(now, sender, effect);
            }
        }
        for OperationEffect { operation, request } in effects.operations.drain(..) {
            if let Some(address) = sender.clone() {
                self.register(Operation { address, operation, request });
            }
        }
        for EgressRecord { egress, value } in effects.egress.drain(..) {
            // A session's address is its egress's name, which fitted where it was declared.
            let Some(session) = self.config.application.egress(&egress) else {
                // The context refused what is neither.
                debug_assert!(self.config.application.http_egress(&egress).is_some());
                self.promise(WorkerOutput::Fetchable { value });
                continue;
            };
            let caller = sender.clone();
            if let Some(owned) = owned_at(&self.sessions, SessionIndex(session)) {
                self.egress(now, owned, caller, value);
            } else if let Some(target) = self.session_addresses[session].clone() {
                self.send(now, group, Message { target, caller, argument: value, headers: None });
            }
        }
        if let Some(function) = function {
            let counts = self.functions.counts(function);
            counts.consumed += u64::from(letters);
            counts.sent_here += sent_here;
            counts.sent_elsewhere += sent_elsewhere;
            counts.sent_out += sent_out;
        }
        self.effects = effects;
        self.account.add_dirty(bytes);
        self.queue_next(at);
        Ok(())
    }

    fn apply_state(&mut self, at: InstanceIndex, effects: &mut Effects) -> Result<(), FunctionError> {
        let Self { instances, base, logged, epochs, account, .. } = self;
        let base = &Behind { logged, base };
        let instance = instances.at(at);
        // Tables are read before anything changes, so that a failing read changes nothing.
        instance.states.prepare(&instance.address, base, &effects.mutations)?;
        let before = instance.states.memory_bytes();
        for mutation in effects.mutations.drain(..) {
            instance.states.apply(&instance.address, base, mutation, epochs.working)?;
        }
        account.add(instance.states.memory_bytes());
        account.remove(before);
        if instance.states.is_dirty() {
            self.touch(at);
        }
        Ok(())
    }

    fn apply_delayed(&mut self, now: Instant, sender: &Address, effect: DelayedEffect) {
        match effect {
            DelayedEffect::Send { delay, message, token } => {
                let group = sender.key_group();
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let due_ms = now.as_millis().saturating_add(delay_ms).min(DUE_MS_MAX);
                let place = Place { due_ms, number: self.next_arrival(group), group };
                let (target, letter) = split(message);
                let delayed = Delayed { sender: sender.clone(), target, letter, token, persisted: Epoch(0) };
                self.account.add(delayed.memory_bytes());
                self.delayed.insert(place, delayed);
            }
            DelayedEffect::Cancel { token } => {
                if let Some((place, delayed)) = self.delayed.cancel(sender.id(), &token) {
                    self.account.remove(delayed.memory_bytes());
                    self.forget_delayed(place, &delayed);
                }
            }
        }
    }

    /// Deletes a delayed message that a frame holds.
    fn forget_delayed(&mut self, place: Place, delayed: &Delayed) {
        if delayed.persisted != Epoch(0) {
            self.frame.delete(&place.key(&delayed.sender));
        }
    }

    /// Takes an instance's first letter for good.
    fn consume_first(&mut self, now: Instant, at: InstanceIndex) -> Option<Waiting> {
        let instance = self.instances.at(at);
        instance.failures = 0;
        let hash = instance.hash;
        let waiting = instance.mailbox.pop()?;
        if !self.config.suspects.is_empty() {
            self.acquit(hash, letter_hash(&waiting.letter));
        }
        let instance = self.instances.at(at);
        if waiting.persisted != Epoch(0) {
            let (id, function_type) = (instance.address.id(), instance.address.function_type().as_str());
            self.frame.delete(&Key::Mailbox { id, function_type, arrival: waiting.arrival });
        }
        self.account.change_letters(waiting.memory_bytes(), 0);
        self.account.letters = self.account.letters.saturating_sub(1);
        self.mark_dirty(now);
        Some(waiting)
    }

    /// A message is consumed, in life or as a dead letter: if it comes again, it is tried again.
    fn acquit(&mut self, address_hash: u64, message_hash: u64) {
        let suspects = &mut self.config.suspects;
        let before = suspects.len();
        suspects
            .retain(|suspect| (suspect.address_hash, suspect.message_hash) != (address_hash, message_hash));
        if suspects.len() < before {
            self.notes.consumed(address_hash, message_hash);
        }
    }

    fn queue_next(&mut self, at: InstanceIndex) {
        let instance = self.instances.at(at);
        if instance.mailbox.is_empty() {
            instance.status = Status::Idle;
        } else {
            self.requeue(at);
        }
    }

    /// Its turn comes when those before it in the run queue have had theirs.
    pub(crate) fn requeue(&mut self, at: InstanceIndex) {
        self.instances.at(at).status = Status::Queued;
        self.run_queue.push_back(at);
    }

    fn fail(&mut self, now: Instant, at: InstanceIndex, error: &FunctionError) {
        let instance = self.instances.at(at);
        instance.failures += 1;
        let failures = instance.failures;
        let address = instance.address.clone();
        if let Some(function) = instance.function {
            self.functions.counts(function).failures += 1;
        }
        if self.config.limits.attempts_max <= failures {
            self.give_up(now, at, &error.to_string());
            return;
        }
        let (first, longest) = (self.config.limits.backoff_min, self.config.limits.backoff_max);
        let wait = self.backoff(failures, first, longest);
        self.retry_after(now, at, wait);
        let wait_ms = wait.as_millis();
        self.event(
            "invocation-failed",
            format!("{address}: attempt {failures}: {error}; again in {wait_ms} ms"),
        );
    }

    /// Its turn comes again after so long.
    pub(crate) fn retry_after(&mut self, now: Instant, at: InstanceIndex, wait: Duration) {
        let due = now + wait;
        self.instances.at(at).status = Status::Retrying { at: due };
        self.retries.insert((due, at));
    }

    /// An instance's first letter becomes a dead letter; if there are too many already, it waits where it is and is tried again.
    pub(crate) fn give_up(&mut self, now: Instant, at: InstanceIndex, reason: &str) {
        let instance = self.instances.at(at);
        let address = instance.address.clone();
        let attempts = instance.failures.max(1);
        if self.account.is_full_of_dead_letters() {
            let wait_us = u64::try_from(self.config.limits.backoff_max.as_micros()).unwrap_or(u64::MAX / 4);
            self.retry_after(now, at, Duration::from_micros(wait_us));
            let kept = self.account.dead_letters();
            self.event(
                "dead-letters-full",
                format!("{address}: {reason}; {kept} dead letters wait for a person"),
            );
            return;
        }
        if let Some(waiting) = self.consume_first(now, at) {
            self.bury(now, &address, waiting.letter, reason, attempts);
        }
        self.queue_next(at);
    }

    /// Doubling with the number of failures, up to the longest, half of it jitter.
    pub(crate) fn backoff(
        &mut self,
        failures: u32,
        first: std::time::Duration,
        longest: std::time::Duration,
    ) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let ceiling_us = u64::try_from(doubled.min(longest).as_micros()).unwrap_or(u64::MAX);
        let half = ceiling_us / 2;
        Duration::from_micros(half + self.random.u64(..=half))
    }
}

/// Why a message is a dead letter without having been tried once more.
const POISON_REASON: &str =
    "it ended the process too often: an abort, no memory, or longer than invocation_max_ms";

/// Of all that a function is given besides its own address; the same before and after a restart.
fn letter_hash(letter: &Letter) -> u64 {
    use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
    let Letter { caller, argument, headers } = letter;
    let mut hash = xxh3_64(argument.bytes());
    let mut add = |bytes: &[u8]| hash = xxh3_64_with_seed(bytes, hash);
    add(argument.typename.as_bytes());
    if let Some(caller) = caller {
        add(caller.function_type().as_str().as_bytes());
        add(caller.id().as_bytes());
    }
    for (name, value) in headers.iter().flat_map(|headers| headers.iter()) {
        add(name.as_bytes());
        add(value);
    }
    hash
}

/// What became of a call.
enum Called {
    Succeeded,
    Remote(RemoteIndex),
    Failed(FunctionError),
    Poisoned,
    Unbound,
    NothingWaits,
}

/// Why effects were not applied; nothing of them was.
pub(crate) enum Unapplied {
    /// So many bytes do not fit the account now.
    NoRoom(usize),
    /// They cannot be applied at all.
    Failed(FunctionError),
}

/// No two delayed messages may share a token: cancelling by it would be ambiguous.
pub(crate) fn check_tokens(effects: &Effects, is_held: impl Fn(&str) -> bool) -> Result<(), FunctionError> {
    let is_live_before = |at: usize, token: &str| {
        let mut is_live = is_held(token);
        for effect in &effects.delayed[..at] {
            match effect {
                DelayedEffect::Send { token: Some(earlier), .. } if earlier == token => is_live = true,
                DelayedEffect::Cancel { token: earlier } if earlier == token => is_live = false,
                DelayedEffect::Send { .. } | DelayedEffect::Cancel { .. } => {}
            }
        }
        is_live
    };
    for (at, effect) in effects.delayed.iter().enumerate() {
        if let DelayedEffect::Send { token: Some(token), .. } = effect
            && is_live_before(at, token)
        {
            return Err(FunctionError::new(format!("the token `{token}` is in use already")));
        }
    }
    Ok(())
}

/// What effects take once applied, in bytes of memory and of the frame, about.
fn effects_bytes(effects: &Effects) -> usize {
    let of_value = |value: &TypedValue| value.typename.len() + value.bytes().len();
    let messages = effects.messages.iter().map(|message| MESSAGE_BYTES + of_value(&message.argument));
    let egress = effects.egress.iter().map(|record| MESSAGE_BYTES + of_value(&record.value));
    let operations = effects.operations.iter().map(|effect| 2 * MESSAGE_BYTES + of_value(&effect.request));
    let delayed = effects.delayed.iter().map(|effect| match effect {
        DelayedEffect::Send { message, .. } => 2 * MESSAGE_BYTES + of_value(&message.argument),
        DelayedEffect::Cancel { .. } => MESSAGE_BYTES,
    });
    let mutations = effects.mutations.iter().map(|mutation| match &mutation.change {
        Change::Put { subkey, value } => STATE_BYTES + subkey.len() + value.value.len(),
        Change::Delete { subkey } => STATE_BYTES + subkey.len(),
        Change::Clear => STATE_BYTES,
    });
    messages.chain(egress).chain(operations).chain(delayed).chain(mutations).sum()
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text").to_owned()
}

/// What a message costs beside its value, in bytes, about: itself in a mailbox.
const MESSAGE_BYTES: usize = size_of::<Waiting>();
/// What a changed state costs beside its value, in bytes, about: key and value in a frame.
const STATE_BYTES: usize = 128;
/// The latest time that a delayed message may be due: what microseconds in 63 bits can say.
const DUE_MS_MAX: u64 = u64::MAX / 4000;
