//! How does a worker come back? The log's replay over what the base holds, then only the heads of what acts by itself.
//!
//! Order: letters by arrival number, unsent messages by number, then anything new. State is never scanned; letters that only the
//! base holds stay there until their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use embassy_time::Instant;

use crate::address::Address;
use crate::function::OperationOutcome;
use crate::key_group::KeyGroup;
use crate::mqtt::session::{RecoveredSession, Session, SessionStart};
use crate::state::key::{Key, Kind, address_of, id_prefix, kind_prefix};
use crate::state::value::{
    Letter, decode_counter, decode_delayed, decode_letter, decode_operation, decode_unsent,
};
use crate::store::{BaseError, BaseRead};

use super::channel::join;
use super::delayed::{Delayed, Place};
use super::epochs::Epochs;
use super::ingress::OwnedSession;
use super::instances::{INSTANCE_BYTES, Status};
use super::io::SessionIndex;
use super::mailbox::Waiting;
use super::operations::{self, Operation};
use super::{Notes, REPLAYED, SESSION_TYPE, Worker, WorkerStart, session_address, session_owner};

/// What the log said of things that need the base to be whole.
///
/// A delete is kept only where it hides what the base holds: else a start would hold every record and message that the log has seen.
#[derive(Default, Debug)]
pub(crate) struct Replayed {
    /// The base's keys of [`READ_WHOLE`]; read at the first delete.
    in_base: Option<BTreeSet<Vec<u8>>>,
    /// Session kinds: the newest of each key.
    sessions: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    counters: BTreeMap<KeyGroup, u64>,
    unsent: BTreeMap<(KeyGroup, u64), Option<(Address, Letter)>>,
    /// Delayed messages: there, or gone.
    delayed: BTreeMap<Place, Option<Delayed>>,
    /// Operations: not over, or over.
    operations: BTreeMap<operations::Place, Option<Operation>>,
    /// The highest arrival number consumed, per address: letters are consumed in order.
    consumed: BTreeMap<Address, u64>,
    /// Letters for sessions.
    session_letters: BTreeMap<(Address, u64), Option<Letter>>,
}

/// Letters of one address that only the base holds.
struct InBase {
    from: u64,
    to: u64,
    count: u64,
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Hears what the log says of a key, in log order; keys of groups that it does not own are ignored.
    ///
    /// # Errors
    /// If the value is none: then the log holds what no version of us wrote.
    pub fn replay(&mut self, bytes: &[u8], value: Option<&[u8]>) -> Result<(), BaseError> {
        let damaged = || BaseError::Damaged { key: bytes.escape_ascii().to_string() };
        let key = Key::decode(bytes).ok_or_else(damaged)?;
        if !self.owns(key.group()) {
            return Ok(());
        }
        let epoch = REPLAYED;
        let hides = value.is_none() && self.is_in_base(&key, bytes)?;
        let replayed = &mut self.replayed;
        match key {
            Key::Session { .. } | Key::Progress { .. } | Key::Outbox { .. } | Key::Accepted { .. } => {
                replace(&mut replayed.sessions, bytes.to_vec(), value.map(<[u8]>::to_vec), hides);
            }
            Key::Counter { group } => {
                let next = value.and_then(decode_counter).ok_or_else(damaged)?;
                replayed.counters.insert(group, next);
            }
            Key::Mailbox { id, function_type, arrival } => {
                let address = address_of(function_type, id).ok_or_else(damaged)?;
                let letter = decoded(value, decode_letter).ok_or_else(damaged)?;
                self.replay_letter(address, arrival, letter, hides);
            }
            Key::Unsent { group, number } => {
                let unsent = decoded(value, decode_unsent).ok_or_else(damaged)?;
                replace(&mut replayed.unsent, (group, number), unsent, hides);
            }
            Key::Delayed { due_ms, id, function_type, number } => {
                let place = Place { due_ms, number, group: key.group() };
                let sender = address_of(function_type, id).ok_or_else(damaged)?;
                let delayed = decoded(value, |value| read_delayed(&sender, value)).ok_or_else(damaged)?;
                replace(&mut replayed.delayed, place, delayed, hides);
            }
            Key::AsyncOperation { id, function_type, number } => {
                let place = operations::Place { group: key.group(), number };
                let address = address_of(function_type, id).ok_or_else(damaged)?;
                let operation =
                    decoded(value, |value| read_operation(&address, value)).ok_or_else(damaged)?;
                replace(&mut replayed.operations, place, operation, hides);
            }
            Key::Token { .. } => {}
            Key::Seen { .. } | Key::DeadLetter { .. } => self.overlay.replay(bytes, value, epoch),
            Key::State { .. } => self.logged.put(bytes, value),
        }
        Ok(())
    }

    /// Reads the heads of what acts by itself, opens the sessions and makes runnable what waits.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub fn start(&mut self, now: Instant, start: WorkerStart) -> Result<(), BaseError> {
        self.epochs = Epochs::after(start.epoch);
        self.logged.shrink();
        self.account.add(self.logged.memory_bytes());
        self.identity = start.identity;
        let mut in_base = BTreeMap::new();
        for group in self.groups_behind(&[]) {
            self.read_counter(group)?;
            self.scan_letters(group, &mut in_base)?;
            self.scan_unsent(group)?;
            self.scan_delayed(group)?;
            self.scan_operations(group)?;
            self.count_dead_letters(group)?;
        }
        self.adopt_letters(in_base);
        for (place, delayed) in std::mem::take(&mut self.replayed.delayed) {
            if let Some(delayed) = delayed {
                self.account.add(delayed.memory_bytes());
                self.delayed.insert(place, delayed);
            }
        }
        match start.sessions {
            Some(sessions) => {
                self.open_sessions(now, sessions)?;
                self.resend(now);
            }
            None => self.is_at_rest = true,
        }
        self.replayed = Replayed::default();
        self.settle(now);
        Ok(())
    }

    fn count_dead_letters(&mut self, group: KeyGroup) -> Result<(), BaseError> {
        let Self { overlay, base, account, .. } = self;
        overlay.scan(base, &kind_prefix(group, Kind::DeadLetter), &[], &mut |key, value| {
            account.add_dead_letter(key.len() + value.len());
            ControlFlow::Continue(())
        })
    }

    fn owns(&self, group: KeyGroup) -> bool {
        group.worker(self.config.workers) == self.config.index.0
    }

    /// Does the base hold this key, of what a start reads whole?
    fn is_in_base(&mut self, key: &Key<'_>, bytes: &[u8]) -> Result<bool, BaseError> {
        match key {
            Key::Mailbox { function_type, .. } if *function_type == SESSION_TYPE.as_str() => {
                return self.base.get(bytes, &mut self.scratch);
            }
            Key::Mailbox { .. } | Key::Counter { .. } | Key::State { .. } => return Ok(false),
            Key::Token { .. } | Key::Seen { .. } | Key::DeadLetter { .. } => return Ok(false),
            Key::Session { .. } | Key::Progress { .. } | Key::Outbox { .. } | Key::Accepted { .. } => {}
            Key::Unsent { .. } | Key::Delayed { .. } | Key::AsyncOperation { .. } => {}
        }
        if self.replayed.in_base.is_none() {
            let mut keys = BTreeSet::new();
            for group in self.groups_behind(&[]) {
                for kind in READ_WHOLE {
                    scan(&self.base, &kind_prefix(group, kind), |key, _| {
                        keys.insert(key.to_vec());
                        Some(())
                    })?;
                }
            }
            self.replayed.in_base = Some(keys);
        }
        Ok(self.replayed.in_base.as_ref().is_some_and(|keys| keys.contains(bytes)))
    }

    fn replay_letter(&mut self, address: Address, arrival: u64, letter: Option<Letter>, hides: bool) {
        if *address.function_type() == SESSION_TYPE {
            replace(&mut self.replayed.session_letters, (address, arrival), letter, hides);
            return;
        }
        let (at, is_new) = self.instances.find_or_insert(&address);
        if is_new {
            self.account.add(INSTANCE_BYTES);
        }
        let instance = self.instances.at(at);
        match letter {
            Some(letter) => {
                let waiting = Waiting { arrival, persisted: REPLAYED, letter };
                let bytes = waiting.memory_bytes();
                if instance.mailbox.replay_put(waiting) {
                    self.account.change_letters(0, bytes);
                    self.account.letters += 1;
                }
            }
            None => {
                if let Some(waiting) = instance.mailbox.replay_delete(arrival) {
                    self.account.change_letters(waiting.memory_bytes(), 0);
                    self.account.letters = self.account.letters.saturating_sub(1);
                }
                let consumed = self.replayed.consumed.entry(address).or_default();
                *consumed = arrival.max(*consumed);
            }
        }
    }

    fn read_counter(&mut self, group: KeyGroup) -> Result<(), BaseError> {
        let next = match self.replayed.counters.get(&group) {
            Some(&next) => next,
            None => {
                let key = Key::Counter { group }.to_vec();
                if !self.base.get(&key, &mut self.scratch)? {
                    return Ok(());
                }
                decode_counter(&self.scratch)
                    .ok_or_else(|| BaseError::Damaged { key: key.escape_ascii().to_string() })?
            }
        };
        self.arrivals[group.index()] = next;
        Ok(())
    }

    fn scan_letters(
        &mut self,
        group: KeyGroup,
        in_base: &mut BTreeMap<Address, InBase>,
    ) -> Result<(), BaseError> {
        let Self { base, replayed, instances, account, .. } = self;
        scan(base, &kind_prefix(group, Kind::Mailbox), |key, value| {
            let Key::Mailbox { id, function_type, arrival } = key else {
                return None;
            };
            let address = address_of(function_type, id)?;
            if *address.function_type() == SESSION_TYPE {
                let letter = decode_letter(value)?;
                replayed.session_letters.entry((address, arrival)).or_insert(Some(letter));
                return Some(());
            }
            let consumed = replayed.consumed.get(&address).copied().unwrap_or_default();
            if arrival <= consumed {
                return Some(());
            }
            if let Some(at) = instances.find(&address) {
                let mailbox = &mut instances.at(at).mailbox;
                let (is_left, repeated) = mailbox.leave_in_base(arrival);
                if let Some(repeated) = repeated {
                    account.change_letters(repeated.memory_bytes(), 0);
                    account.letters = account.letters.saturating_sub(1);
                }
                if !is_left {
                    let waiting = Waiting { arrival, persisted: REPLAYED, letter: decode_letter(value)? };
                    let bytes = waiting.memory_bytes();
                    if mailbox.replay_put(waiting) {
                        account.change_letters(0, bytes);
                        account.letters += 1;
                    }
                    return Some(());
                }
            }
            let range = in_base.entry(address).or_insert(InBase { from: arrival, to: arrival, count: 0 });
            range.to = arrival;
            range.count += 1;
            Some(())
        })
    }

    fn scan_unsent(&mut self, group: KeyGroup) -> Result<(), BaseError> {
        let Self { base, replayed, .. } = self;
        scan(base, &kind_prefix(group, Kind::Unsent), |key, value| {
            let Key::Unsent { group, number } = key else {
                return None;
            };
            let unsent = decode_unsent(value)?;
            replayed.unsent.entry((group, number)).or_insert(Some(unsent));
            Some(())
        })
    }

    fn scan_delayed(&mut self, group: KeyGroup) -> Result<(), BaseError> {
        let Self { base, replayed, .. } = self;
        scan(base, &kind_prefix(group, Kind::Delayed), |key, value| {
            let Key::Delayed { due_ms, id, function_type, number } = key else {
                return None;
            };
            let delayed = read_delayed(&address_of(function_type, id)?, value)?;
            replayed.delayed.entry(Place { due_ms, number, group }).or_insert(Some(delayed));
            Some(())
        })
    }

    fn scan_operations(&mut self, group: KeyGroup) -> Result<(), BaseError> {
        let Self { base, replayed, .. } = self;
        scan(base, &kind_prefix(group, Kind::AsyncOperation), |key, value| {
            let Key::AsyncOperation { id, function_type, number } = key else {
                return None;
            };
            let operation = read_operation(&address_of(function_type, id)?, value)?;
            replayed.operations.entry(operations::Place { group, number }).or_insert(Some(operation));
            Some(())
        })
    }

    fn adopt_letters(&mut self, in_base: BTreeMap<Address, InBase>) {
        for (address, InBase { from, to, count }) in in_base {
            let (at, is_new) = self.instances.find_or_insert(&address);
            if is_new {
                self.account.add(INSTANCE_BYTES);
            }
            let instance = self.instances.at(at);
            instance.mailbox.adopt_spilled(from, to, count);
            self.account.letters += count;
        }
        let waiting = self.instances.iter().filter(|(_, instance)| !instance.mailbox.is_empty());
        self.run_queue.extend(waiting.map(|(at, _)| at));
        for &at in &self.run_queue {
            self.instances.at(at).status = Status::Queued;
        }
    }

    fn open_sessions(&mut self, now: Instant, start: SessionStart) -> Result<(), BaseError> {
        let application = Arc::clone(&self.config.application);
        for (index, config) in application.sessions.iter().enumerate() {
            let owner = session_owner(&config.name, self.config.workers);
            let (true, Some(address)) = (owner == self.config.index, session_address(&config.name)) else {
                continue;
            };
            let mut recovered = RecoveredSession::default();
            for kind in [Kind::Session, Kind::Progress, Kind::Outbox, Kind::Accepted] {
                scan(&self.base, &id_prefix(kind, address.id(), None), |key, value| {
                    recovered.take(&key, Some(value));
                    Some(())
                })?;
            }
            // Given up as they are taken, so that there are never two of all.
            let mut others = BTreeMap::new();
            for (bytes, value) in std::mem::take(&mut self.replayed.sessions) {
                match Key::decode(&bytes) {
                    Some(key) if session_of(&key) == Some(address.id()) => {
                        recovered.take(&key, value.as_deref());
                    }
                    _ => {
                        others.insert(bytes, value);
                    }
                }
            }
            self.replayed.sessions = others;
            let seed = self.config.seed ^ KeyGroup::of(address.id()).number() as u64;
            let session = Session::new(Arc::clone(config), recovered, start, seed);
            self.sessions.push(OwnedSession {
                index: SessionIndex(index),
                group: address.key_group(),
                address,
                config: Arc::clone(config),
                session,
                routers: application.make_routers(&config.name),
                is_stirred: true,
                is_stopped: false,
                is_read: true,
            });
        }
        for owned in &mut self.sessions {
            owned.session.start(now);
        }
        Ok(())
    }

    /// Hands sessions the letters that waited for them, sends what waited for its channel, and tells whose operations were under
    /// way that nobody knows what came of them.
    fn resend(&mut self, now: Instant) {
        for ((target, arrival), letter) in std::mem::take(&mut self.replayed.session_letters) {
            if let Some(letter) = letter {
                self.mark_dirty(now);
                let message = join(target, letter);
                self.delete_letter(&message, arrival);
                self.deliver_to_session(now, message, Some(arrival));
            }
        }
        for ((group, number), unsent) in std::mem::take(&mut self.replayed.unsent) {
            if let Some((target, letter)) = unsent {
                self.mark_dirty(now);
                self.frame.delete(&Key::Unsent { group, number });
                self.send(now, group, join(target, letter));
            }
        }
        for (place, operation) in std::mem::take(&mut self.replayed.operations) {
            if let Some(operation) = operation {
                self.tell_outcome(now, place, operation, OperationOutcome::Unknown);
            }
        }
    }
}

/// What the log says last of a key: a value, or that it is gone, which is kept if it `hides` what the base holds.
fn replace<K: Ord, V>(map: &mut BTreeMap<K, Option<V>>, key: K, value: Option<V>, hides: bool) {
    if value.is_some() || hides {
        map.insert(key, value);
    } else {
        map.remove(&key);
    }
}

/// Visits every key with a prefix; `visit` says `None` of what it cannot read.
fn scan<B: BaseRead>(
    base: &B,
    prefix: &[u8],
    mut visit: impl FnMut(Key<'_>, &[u8]) -> Option<()>,
) -> Result<(), BaseError> {
    let mut damage = Ok(());
    base.seek(prefix, &mut |bytes, value| {
        if !bytes.starts_with(prefix) {
            return ControlFlow::Break(());
        }
        match Key::decode(bytes).and_then(|key| visit(key, value)) {
            Some(()) => ControlFlow::Continue(()),
            None => {
                damage = Err(BaseError::Damaged { key: bytes.escape_ascii().to_string() });
                ControlFlow::Break(())
            }
        }
    })?;
    damage
}

/// Decodes a put; a delete is `Some(None)`, a value that is none is `None`.
fn decoded<T>(value: Option<&[u8]>, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match value {
        Some(value) => decode(value).map(Some),
        None => Some(None),
    }
}

fn read_delayed(sender: &Address, value: &[u8]) -> Option<Delayed> {
    let (target, letter, token) = decode_delayed(value)?;
    // It is in the base or in the log, so no frame need put it again.
    Some(Delayed { sender: sender.clone(), target, letter, token, persisted: REPLAYED })
}

fn read_operation(address: &Address, value: &[u8]) -> Option<Operation> {
    let (operation, request) = decode_operation(value)?;
    Some(Operation { address: address.clone(), operation, request })
}

fn session_of<'a>(key: &Key<'a>) -> Option<&'a str> {
    match *key {
        Key::Session { id }
        | Key::Progress { id, .. }
        | Key::Outbox { id, .. }
        | Key::Accepted { id, .. } => Some(id),
        _ => None,
    }
}

/// Kinds of which a start reads all that there is, in base and log; letters for sessions are looked up one by one.
const READ_WHOLE: [Kind; 7] = [
    Kind::Session,
    Kind::Progress,
    Kind::Outbox,
    Kind::Accepted,
    Kind::Unsent,
    Kind::Delayed,
    Kind::AsyncOperation,
];
