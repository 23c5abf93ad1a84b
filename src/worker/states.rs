//! What does an address know? The latest values of its persisted states: written in this epoch, in the log, or read from the base.
//!
//! One copy of each value, the newest; a rollback is a restart, so none older is ever needed. A value is kept in memory at least
//! until the base holds it (`last_written` is folded), so memory hides what the base does not know yet.
//!
//! A table or buffer is read whole at its first touch and written entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use smol_str::SmolStr;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::function::effects::{Change, Mutation, StateAccess, StateValue};
use crate::payload::Payload;
use crate::state::key::{Key, Kind, address_prefix};
use crate::state::value::{decode_state, encode_state};
use crate::store::{BaseError, BaseRead};

/// All states of one address that are in memory.
#[derive(Default, Debug)]
pub(crate) struct States {
    states: Vec<State>,
}

#[derive(Debug)]
struct State {
    name: SmolStr,
    content: Content,
    /// Subkeys changed in the working epoch.
    dirty: Dirty,
    /// The last epoch that wrote to it; 0 if it only was read.
    last_written: Epoch,
    /// Bytes of memory, about; kept up to date entry by entry, for a table may be long.
    memory_bytes: usize,
}

#[derive(Debug)]
enum Content {
    /// Nothing is known yet.
    Unread,
    /// The entry with the empty subkey, or that there is none: all there is to a persisted value.
    Value(Option<StateValue>),
    /// Every entry.
    Table(BTreeMap<Payload, StateValue>),
}

#[derive(Debug, Default)]
struct Dirty {
    value: bool,
    entries: BTreeSet<Payload>,
}

impl States {
    /// Reads what applying `mutations` needs, so that applying them cannot fail half-way.
    ///
    /// # Errors
    /// If the base cannot be read; nothing was changed.
    pub(crate) fn prepare<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
        mutations: &[Mutation],
    ) -> Result<(), BaseError> {
        for Mutation { name, change } in mutations {
            let is_whole = match change {
                Change::Put { subkey, .. } | Change::Delete { subkey } => !subkey.is_empty(),
                Change::Clear => true,
            };
            if is_whole {
                self.state(name).load_table(address, base)?;
            }
        }
        Ok(())
    }

    /// Applies a mutation in the working epoch.
    ///
    /// # Errors
    /// If the base cannot be read: clearing or changing a table reads it first.
    pub(crate) fn apply<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
        mutation: Mutation,
        working: Epoch,
    ) -> Result<(), BaseError> {
        let Mutation { name, change } = mutation;
        let state = self.state(&name);
        let (subkey, value) = match change {
            Change::Put { subkey, value } => (subkey, Some(value)),
            Change::Delete { subkey } => (subkey, None),
            Change::Clear => {
                state.clear(address, base)?;
                state.last_written = working;
                return Ok(());
            }
        };
        if subkey.is_empty() && !matches!(state.content, Content::Table(_)) {
            state.set_value(value);
        } else {
            let entries = state.load_table(address, base)?;
            let added = value.as_ref().map_or(0, |value| entry_bytes(&subkey, value));
            let removed = match value {
                Some(value) => entries.insert(subkey.clone(), value),
                None => entries.remove(&subkey),
            };
            let removed = removed.map_or(0, |value| entry_bytes(&subkey, &value));
            state.memory_bytes = (state.memory_bytes + added).saturating_sub(removed);
            state.dirty.entries.insert(subkey);
        }
        state.last_written = working;
        Ok(())
    }

    /// Puts and deletes what changed in the epoch that ends; drops what had expired.
    pub(crate) fn cut(&mut self, address: &Address, frame: &mut FrameBuilder) {
        let (id, function_type) = (address.id(), address.function_type().as_str());
        for state in &mut self.states {
            let State { name, content, dirty, .. } = state;
            let mut write = |subkey: &[u8], value: Option<&StateValue>| {
                let key = Key::State { id, function_type, name, subkey };
                match value {
                    Some(value) => frame.put(&key, |out| encode_state(value, out)),
                    None => frame.delete(&key),
                }
            };
            match content {
                Content::Value(value) if dirty.value => write(&[], value.as_ref()),
                Content::Table(entries) => {
                    for subkey in &dirty.entries {
                        write(subkey, entries.get(subkey));
                    }
                }
                Content::Value(_) | Content::Unread => {}
            }
            dirty.value = false;
            dirty.entries.clear();
        }
    }

    /// Visits each state by name: whether these are all its entries, and the entries, `None` for one that is gone.
    pub(crate) fn visit<'a>(
        &'a self,
        mut visit: impl FnMut(&str, bool, &mut dyn Iterator<Item = (&'a [u8], Option<&'a StateValue>)>),
    ) {
        for State { name, content, .. } in &self.states {
            match content {
                Content::Value(value) => visit(name, false, &mut std::iter::once((&[][..], value.as_ref()))),
                Content::Table(entries) => {
                    visit(name, true, &mut entries.iter().map(|(key, value)| (&**key, Some(value))));
                }
                Content::Unread => {}
            }
        }
    }

    /// May all of it leave memory, the base holding every epoch up to `folded`?
    pub(crate) fn is_evictable(&self, folded: Epoch) -> bool {
        self.states.iter().all(|state| !state.is_dirty() && state.last_written <= folded)
    }

    /// Leaves memory if that loses nothing; how many bytes it took.
    pub(crate) fn give_back(&mut self, folded: Epoch) -> usize {
        if !self.is_evictable(folded) {
            return 0;
        }
        let bytes = self.memory_bytes();
        self.states.clear();
        bytes
    }

    /// Has the working epoch something of it to put or delete?
    pub(crate) fn is_dirty(&self) -> bool {
        self.states.iter().any(State::is_dirty)
    }

    /// Bytes of memory that the states take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.states.iter().map(|state| state.memory_bytes).sum()
    }

    fn state(&mut self, name: &str) -> &mut State {
        let at = match self.states.iter().position(|state| state.name == name) {
            Some(at) => at,
            None => {
                self.states.push(State {
                    name: name.into(),
                    content: Content::Unread,
                    dirty: Dirty::default(),
                    last_written: Epoch(0),
                    memory_bytes: size_of::<State>(),
                });
                self.states.len() - 1
            }
        };
        &mut self.states[at]
    }
}

impl State {
    fn is_dirty(&self) -> bool {
        self.dirty.value || !self.dirty.entries.is_empty()
    }

    fn set_value(&mut self, value: Option<StateValue>) {
        self.dirty.value = true;
        let heap_bytes = |value: &Option<StateValue>| value.as_ref().map_or(0, StateValue::heap_bytes);
        self.memory_bytes += heap_bytes(&value);
        match &mut self.content {
            Content::Value(old) => {
                self.memory_bytes = self.memory_bytes.saturating_sub(heap_bytes(old));
                *old = value;
            }
            Content::Unread => self.content = Content::Value(value),
            Content::Table(_) => unreachable!("the caller asks"),
        }
    }

    fn load_value<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
        scratch: &mut Vec<u8>,
    ) -> Result<(), BaseError> {
        if !matches!(self.content, Content::Unread) {
            return Ok(());
        }
        let (id, function_type) = (address.id(), address.function_type().as_str());
        let key = Key::State { id, function_type, name: &self.name, subkey: &[] }.to_vec();
        let value = if base.get(&key, scratch)? { Some(read_state(&key, scratch)?) } else { None };
        self.memory_bytes += value.as_ref().map_or(0, StateValue::heap_bytes);
        self.content = Content::Value(value);
        Ok(())
    }

    fn load_table<B: BaseRead>(
        &mut self,
        address: &Address,
        base: &B,
    ) -> Result<&mut BTreeMap<Payload, StateValue>, BaseError> {
        if !matches!(self.content, Content::Table(_)) {
            let mut entries = read_entries(address, &self.name, base)?;
            if let Content::Value(newer) = &mut self.content {
                match newer.take() {
                    Some(value) => entries.insert(Payload::EMPTY, value),
                    None => entries.remove(&Payload::EMPTY),
                };
            }
            if std::mem::take(&mut self.dirty.value) {
                self.dirty.entries.insert(Payload::EMPTY);
            }
            self.memory_bytes = size_of::<Self>()
                + entries.iter().map(|(subkey, value)| entry_bytes(subkey, value)).sum::<usize>();
            self.content = Content::Table(entries);
        }
        match &mut self.content {
            Content::Table(entries) => Ok(entries),
            Content::Value(_) | Content::Unread => unreachable!("made a table above"),
        }
    }

    fn clear<B: BaseRead>(&mut self, address: &Address, base: &B) -> Result<(), BaseError> {
        let entries = std::mem::take(self.load_table(address, base)?);
        self.memory_bytes = size_of::<Self>();
        self.dirty.entries.extend(entries.into_keys());
        Ok(())
    }
}

/// A running invocation's view of its address's states.
pub(crate) struct StateView<'a, B> {
    pub(crate) states: &'a mut States,
    pub(crate) address: &'a Address,
    pub(crate) base: &'a B,
    pub(crate) now_ms: u64,
    pub(crate) scratch: &'a mut Vec<u8>,
}

impl<B: BaseRead> StateAccess for StateView<'_, B> {
    fn entry(&mut self, name: &str, subkey: &[u8]) -> Result<Option<&StateValue>, BaseError> {
        let Self { states, address, base, now_ms, scratch } = self;
        let state = states.state(name);
        if subkey.is_empty() {
            state.load_value(address, *base, scratch)?;
        }
        if !(subkey.is_empty() && matches!(state.content, Content::Value(_))) {
            state.load_table(address, *base)?;
        }
        let found = match &state.content {
            Content::Value(value) => value.as_ref(),
            Content::Table(entries) => entries.get(subkey),
            Content::Unread => unreachable!("loaded above"),
        };
        Ok(found.filter(|value| !is_expired(value, *now_ms)))
    }

    fn entries(&mut self, name: &str) -> Result<&BTreeMap<Payload, StateValue>, BaseError> {
        let Self { states, address, base, now_ms, .. } = self;
        let state = states.state(name);
        // What has expired is absent; it leaves memory here and the base at its next write or fold.
        state.load_table(address, *base)?;
        let Content::Table(entries) = &mut state.content else { unreachable!("loaded above") };
        let dirty = &mut state.dirty.entries;
        entries.retain(|subkey, value| {
            let is_live = !is_expired(value, *now_ms);
            if !is_live {
                dirty.insert(subkey.clone());
            }
            is_live
        });
        Ok(entries)
    }
}

/// Has the value ceased to be?
pub(crate) fn is_expired(value: &StateValue, now_ms: u64) -> bool {
    value.expires_at_ms.is_some_and(|at| at <= now_ms)
}

fn read_state(key: &[u8], bytes: &[u8]) -> Result<StateValue, BaseError> {
    decode_state(bytes).ok_or_else(|| BaseError::Damaged { key: key.escape_ascii().to_string() })
}

fn read_entries<B: BaseRead>(
    address: &Address,
    name: &str,
    base: &B,
) -> Result<BTreeMap<Payload, StateValue>, BaseError> {
    let prefix = address_prefix(Kind::State, address, Some(name));
    let mut entries = BTreeMap::new();
    let mut damage = Ok(());
    base.seek(&prefix, &mut |key, value| match key.strip_prefix(&prefix[..]) {
        Some(subkey) => match read_state(key, value) {
            Ok(value) => {
                entries.insert(subkey.into(), value);
                ControlFlow::Continue(())
            }
            Err(error) => {
                damage = Err(error);
                ControlFlow::Break(())
            }
        },
        None => ControlFlow::Break(()),
    })?;
    damage.map(|()| entries)
}

fn entry_bytes(subkey: &[u8], value: &StateValue) -> usize {
    ENTRY_BYTES + size_of::<Payload>() + subkey.len() + size_of::<StateValue>() + value.heap_bytes()
}

/// What a map's entry costs beside key and value, in bytes, about.
const ENTRY_BYTES: usize = 16;
