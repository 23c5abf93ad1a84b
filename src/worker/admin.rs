//! What does a person see and do? Reads see what is committed, writes go through an epoch like any other change.
//!
//! Both by one rule: an answer leaves when the epoch is committed in which it became true.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use data_encoding::{BASE64, HEXLOWER};
use embassy_time::Instant;

use crate::address::{Address, TypeName};
use crate::admin::{AdminReply, AdminRequest, AdminValue, DeadLetterEntry, StateEntry, WorkerStatus};
use crate::epoch::Epoch;
use crate::function::effects::{Change, Mutation, StateValue};
use crate::key_group::KeyGroup;
use crate::limits::{STATE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::payload::Payload;
use crate::state::key::{Key, Kind, address_of, address_prefix, kind_prefix};
use crate::state::value::{DeadLetter, decode_dead_letter, decode_state, encode_dead_letter};
use crate::store::BaseRead;
use crate::typed_value::UnknownFields;

use super::channel::join;
use super::instances::{INSTANCE_BYTES, Status};
use super::io::WorkerOutput;
use super::states::is_expired;
use super::{Behind, Notes, SESSION_TYPE, Worker};

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Answers a question once, when what the answer says is committed.
    pub(crate) fn handle_admin(&mut self, now: Instant, request: u64, question: AdminRequest) {
        let reply = self.answer(now, question).unwrap_or_else(|text| AdminReply::Error { text });
        // Status is of the moment.
        let awaited = if matches!(reply, AdminReply::Status(_)) { Epoch(0) } else { self.awaited() };
        if awaited <= self.epochs.committed {
            self.outputs.push_back(WorkerOutput::Admin { request, reply });
        } else {
            self.answers.push((awaited, request, reply));
        }
    }

    fn answer(&mut self, now: Instant, question: AdminRequest) -> Result<AdminReply, String> {
        match question {
            AdminRequest::Status => Ok(AdminReply::Status(Box::new(self.status()?))),
            AdminRequest::StateList { function_type, id, after, entries_max } => {
                let after = decode_hex(after.as_deref().unwrap_or_default())?;
                let wanted = Wanted { function_type, id, name: None };
                self.list_state(now, &wanted, &after, usize::try_from(entries_max).unwrap_or(usize::MAX))
            }
            AdminRequest::StateGet { function_type, id, name } => {
                let wanted = Wanted { function_type: Some(function_type), id: Some(id), name: Some(name) };
                self.list_state(now, &wanted, &[], usize::MAX)
            }
            AdminRequest::StateSet { function_type, id, name, value } => {
                let subkey = Payload::EMPTY;
                let value = decode_value(&value)?;
                self.change_state(now, &function_type, &id, &name, Change::Put { subkey, value })
            }
            AdminRequest::StateDelete { function_type, id, name } => {
                self.change_state(now, &function_type, &id, &name, Change::Clear)
            }
            AdminRequest::DeadLetterList { after, entries_max } => {
                let after = decode_hex(after.as_deref().unwrap_or_default())?;
                self.list_dead_letters(&after, usize::try_from(entries_max).unwrap_or(usize::MAX))
            }
            AdminRequest::DeadLetterShow { key } => {
                let letters = self.find_dead_letters(&key)?.into_iter().map(|(key, dead)| shown(&key, dead));
                Ok(AdminReply::DeadLetters { letters: letters.collect(), more: false })
            }
            AdminRequest::AcceptDegraded => Err("the store answers this, not a worker".to_owned()),
            AdminRequest::DeadLetterRetry { key } => self.retry_dead_letters(now, &key),
            AdminRequest::DeadLetterDrop { key } => {
                let found = self.find_dead_letters(&key)?;
                let count = found.len() as u64;
                for (key, dead) in found {
                    self.forget_dead_letter(now, key, stored_bytes(&dead));
                }
                Ok(AdminReply::Done { count })
            }
        }
    }

    fn status(&mut self) -> Result<WorkerStatus, String> {
        let mut unbound = BTreeMap::<String, u64>::new();
        let mut functions = self.functions.status();
        let (mut spilled, mut retrying) = (0, 0);
        for (_, instance) in self.instances.iter() {
            spilled += instance.mailbox.spilled_count();
            if let Some(function) = functions.get_mut(instance.address.function_type().as_str()) {
                let is_calling = instance.status == Status::Calling;
                function.num_backlog += instance.mailbox.count();
                function.inflight_async_ops += u64::from(is_calling);
                function.num_blocked_address += u64::from(is_calling || instance.status == Status::Held);
            }
            match instance.status {
                Status::Unbound => {
                    let function_type = instance.address.function_type().to_string();
                    *unbound.entry(function_type).or_default() += instance.mailbox.count();
                }
                Status::Retrying { .. } => retrying += 1,
                Status::Idle | Status::Queued | Status::Held | Status::Calling | Status::WaitingForMemory => {
                }
            }
        }
        let mut counters: Vec<(String, u64)> =
            self.counters.iter().map(|(&kind, &count)| (kind.to_owned(), count)).collect();
        counters.push(("invocations".to_owned(), self.invocations));
        Ok(WorkerStatus {
            worker: self.config.index.0,
            working_epoch: self.epochs.working.0,
            committed_epoch: self.epochs.committed.0,
            memory_bytes: self.account.used() as u64,
            memory_bytes_max: self.account.limit() as u64,
            instances: self.instances.count() as u64,
            messages_waiting: self.account.letters,
            messages_spilled: spilled,
            messages_unsent: self.channels.iter().map(|channel| channel.unsent_count() as u64).sum(),
            messages_delayed: self.delayed.count() as u64,
            messages_unbound: unbound.into_iter().collect(),
            dead_letters: self.account.dead_letters(),
            addresses_retrying: retrying,
            calls_out: self.remote.calls_out() as u64,
            addresses_held: self.remote.held() as u64,
            endpoints: self.remote.status(),
            operations_running: self.operations.running_count() as u64,
            operations_waiting: self.operations.waiting_count() as u64,
            saturated: self.is_saturated(),
            functions: functions.into_values().collect(),
            sessions: self.sessions.iter().map(|owned| owned.session.status()).collect(),
            counters,
        })
    }

    fn list_state(
        &self,
        now: Instant,
        wanted: &Wanted,
        after: &[u8],
        entries_max: usize,
    ) -> Result<AdminReply, String> {
        let now_ms = now.as_millis();
        let mut found = self.state_in_memory(wanted, after);
        let mut in_base = 0_usize;
        let mut damage = Ok(());
        for group in self.groups_behind(after) {
            let prefix = kind_prefix(group, Kind::State);
            let from = if after < &prefix[..] { &prefix[..] } else { after };
            let base = Behind { logged: &self.logged, base: &self.base };
            let seek = base.seek(from, &mut |bytes, value| {
                if !bytes.starts_with(&prefix) || entries_max < in_base {
                    return ControlFlow::Break(());
                }
                let Some(Key::State { id, function_type, name, .. }) = Key::decode(bytes) else {
                    return ControlFlow::Break(());
                };
                let hidden = (function_type.to_owned(), id.to_owned(), name.to_owned());
                if bytes > after && wanted.matches(function_type, id, name) && !found.tables.contains(&hidden)
                {
                    match decode_state(value) {
                        // What memory hides or time has ended is no entry of the page.
                        Some(value) if is_expired(&value, now_ms) => {}
                        Some(value) => {
                            if let Entry::Vacant(entry) = found.entries.entry(bytes.to_vec()) {
                                entry.insert(Some(value));
                                in_base += 1;
                            }
                        }
                        None => {
                            damage = Err(format!("the base is damaged at {}", bytes.escape_ascii()));
                            return ControlFlow::Break(());
                        }
                    }
                }
                ControlFlow::Continue(())
            });
            seek.map_err(|error| error.to_string())?;
            if entries_max < in_base {
                break;
            }
        }
        damage?;
        let live = found.entries.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut live = live.filter(|(_, value)| !is_expired(value, now_ms));
        let entries: Vec<StateEntry> = live
            .by_ref()
            .take(entries_max)
            .filter_map(|(key, value)| state_entry(&key, value, now_ms))
            .collect();
        Ok(AdminReply::State { entries, more: live.next().is_some() })
    }

    /// What memory holds, which is never older than what the base does.
    fn state_in_memory(&self, wanted: &Wanted, after: &[u8]) -> InMemory {
        let mut found = InMemory::default();
        for (_, instance) in self.instances.iter() {
            let (function_type, id) = (instance.address.function_type().as_str(), instance.address.id());
            instance.states.visit(|name, is_whole, entries| {
                if !wanted.matches(function_type, id, name) {
                    return;
                }
                if is_whole {
                    found.tables.insert((function_type.to_owned(), id.to_owned(), name.to_owned()));
                }
                for (subkey, value) in entries {
                    let key = Key::State { id, function_type, name, subkey }.to_vec();
                    if after < &key[..] {
                        found.entries.insert(key, value.cloned());
                    }
                }
            });
        }
        found
    }

    fn change_state(
        &mut self,
        now: Instant,
        function_type: &str,
        id: &str,
        name: &str,
        change: Change,
    ) -> Result<AdminReply, String> {
        let function_type = TypeName::parse(function_type).map_err(|error| error.to_string())?;
        let address = Address::new(function_type, id).map_err(|error| error.to_string())?;
        if name.is_empty() || STATE_NAME_BYTES_MAX < name.len() {
            return Err(format!("a state's name has 1 to {STATE_NAME_BYTES_MAX} bytes"));
        }
        let (at, is_new) = self.instances.find_or_insert(&address);
        if is_new {
            self.account.add(INSTANCE_BYTES);
        }
        let instance = self.instances.at(at);
        let before = instance.states.memory_bytes();
        let mutation = Mutation { name: name.into(), change };
        let base = Behind { logged: &self.logged, base: &self.base };
        let applied = instance.states.apply(&address, &base, mutation, self.epochs.working);
        self.account.add(instance.states.memory_bytes());
        self.account.remove(before);
        applied.map_err(|error| error.to_string())?;
        self.touch(at);
        self.mark_dirty(now);
        Ok(AdminReply::Done { count: 1 })
    }

    fn list_dead_letters(&self, after: &[u8], entries_max: usize) -> Result<AdminReply, String> {
        let (mut letters, mut more) = (Vec::new(), false);
        self.scan_dead_letters(after, &mut |key, value| {
            more = entries_max <= letters.len();
            if more {
                return ControlFlow::Break(());
            }
            letters.extend(decode_dead_letter(value).map(|dead| shown(key, dead)));
            ControlFlow::Continue(())
        })?;
        Ok(AdminReply::DeadLetters { letters, more })
    }

    /// One dead letter by its key, or all of an address `namespace/name/id` in order.
    fn find_dead_letters(&self, name: &str) -> Result<Vec<(Vec<u8>, DeadLetter)>, String> {
        if let Ok(key) = decode_hex(name) {
            let mut value = Vec::new();
            let found = self.overlay.read(&self.base, &key, &mut value).map_err(|error| error.to_string())?;
            let dead = if found { decode_dead_letter(&value) } else { None };
            return Ok(dead.map(|dead| (key, dead)).into_iter().collect());
        }
        let address = parse_address(name)?;
        let prefix = address_prefix(Kind::DeadLetter, &address, None);
        let mut found = Vec::new();
        let scanned = self.overlay.scan(&self.base, &prefix, &[], &mut |key, value| {
            found.extend(decode_dead_letter(value).map(|dead| (key.to_vec(), dead)));
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| error.to_string())?;
        Ok(found)
    }

    /// Sends dead letters again, in the order in which they failed.
    fn retry_dead_letters(&mut self, now: Instant, name: &str) -> Result<AdminReply, String> {
        let found = self.find_dead_letters(name)?;
        let count = found.len() as u64;
        for (key, dead) in found {
            let bytes = stored_bytes(&dead);
            let Some(Key::DeadLetter { id, function_type, .. }) = Key::decode(&key) else {
                continue;
            };
            let Some(target) = address_of(function_type, id) else {
                continue;
            };
            if *target.function_type() == SESSION_TYPE && self.is_at_rest {
                return Err(format!(
                    "{key}: the record of a session is sent again by a running node only",
                    key = target
                ));
            }
            if *target.function_type() == SESSION_TYPE {
                self.retry_record(now, &target, dead.letter)?;
            } else {
                self.deliver(now, target.key_group(), join(target, dead.letter));
            }
            self.forget_dead_letter(now, key, bytes);
        }
        Ok(AdminReply::Done { count })
    }

    fn forget_dead_letter(&mut self, now: Instant, key: Vec<u8>, value_bytes: usize) {
        self.mark_dirty(now);
        self.account.remove_dead_letter(key.len() + value_bytes);
        self.overlay.write(key, None, self.epochs.working);
    }

    fn scan_dead_letters(
        &self,
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let mut ended = false;
        for group in self.groups_behind(after) {
            let prefix = kind_prefix(group, Kind::DeadLetter);
            let scanned = self.overlay.scan(&self.base, &prefix, after, &mut |key, value| {
                let flow = visit(key, value);
                ended = flow.is_break();
                flow
            });
            scanned.map_err(|error| error.to_string())?;
            if ended {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn groups_behind(&self, after: &[u8]) -> impl Iterator<Item = KeyGroup> + use<B, N> {
        let first = crate::state::key::group_of(after);
        let (workers, index) = (self.config.workers, self.config.index.0);
        KeyGroup::all()
            .filter(move |group| group.worker(workers) == index && first.is_none_or(|first| first <= *group))
    }
}

/// How long a dead letter's value is in storage.
fn stored_bytes(dead: &DeadLetter) -> usize {
    let mut value = Vec::new();
    encode_dead_letter(dead, &mut value);
    value.len()
}

/// Which states are asked for; `None` is any.
struct Wanted {
    function_type: Option<String>,
    id: Option<String>,
    name: Option<String>,
}

impl Wanted {
    fn matches(&self, function_type: &str, id: &str, name: &str) -> bool {
        self.function_type.as_deref().is_none_or(|wanted| wanted == function_type)
            && self.id.as_deref().is_none_or(|wanted| wanted == id)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

#[derive(Default)]
struct InMemory {
    entries: BTreeMap<Vec<u8>, Option<StateValue>>,
    /// Tables that are whole in memory: (type, id, name). The base has nothing to add.
    tables: BTreeSet<(String, String, String)>,
}

fn state_entry(key: &[u8], value: StateValue, now_ms: u64) -> Option<StateEntry> {
    let Some(Key::State { id, function_type, name, subkey }) = Key::decode(key) else {
        return None;
    };
    Some(StateEntry {
        key: HEXLOWER.encode(key),
        function_type: function_type.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        subkey: BASE64.encode(subkey),
        value: AdminValue { typename: value.typename.to_string(), bytes: BASE64.encode(&value.value) },
        expires_in_ms: value.expires_at_ms.map(|at| at.saturating_sub(now_ms)),
    })
}

fn shown(key: &[u8], dead: DeadLetter) -> DeadLetterEntry {
    let (function_type, id) = match Key::decode(key) {
        Some(Key::DeadLetter { id, function_type, .. }) => (function_type.to_owned(), id.to_owned()),
        _ => Default::default(),
    };
    let argument = &dead.letter.argument;
    DeadLetterEntry {
        key: HEXLOWER.encode(key),
        function_type,
        id,
        caller: dead.letter.caller.as_ref().map(ToString::to_string),
        reason: dead.reason,
        attempts: dead.attempts,
        at_ms: dead.at_ms,
        value: AdminValue { typename: argument.typename.to_string(), bytes: BASE64.encode(argument.bytes()) },
    }
}

fn decode_value(value: &AdminValue) -> Result<StateValue, String> {
    let bytes = BASE64.decode(value.bytes.as_bytes()).map_err(|error| format!("not base64: {error}"))?;
    if VALUE_BYTES_MAX < bytes.len() {
        return Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
    }
    Ok(StateValue {
        typename: value.typename.as_str().into(),
        value: bytes.into(),
        expires_at_ms: None,
        unknown_fields: UnknownFields::NONE,
    })
}

fn decode_hex(text: &str) -> Result<Vec<u8>, String> {
    HEXLOWER.decode(text.as_bytes()).map_err(|error| format!("`{text}` is no key: {error}"))
}

/// `namespace/name/id`; the id may hold slashes.
fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || format!("`{text}` is neither a key nor an address `namespace/name/id`");
    let slash = text.find('/').ok_or_else(wrong)?;
    let end = slash + 1 + text[slash + 1..].find('/').ok_or_else(wrong)?;
    let function_type = TypeName::parse(&text[..end]).map_err(|error| error.to_string())?;
    Address::new(function_type, &text[end + 1..]).map_err(|error| error.to_string())
}
