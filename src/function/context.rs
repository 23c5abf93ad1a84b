//! What may a running invocation ask and do? Everything goes through its [`Context`], and nothing happens before it ends.
//!
//! Invariants:
//! - Effects are collected in the order in which they were asked for.
//! - What an invocation wrote, it reads: staged changes are looked up, the latest first, before the base is asked.
//! - What could not be delivered or stored is an error at once, not after the invocation.
//! - A steady invocation allocates nothing: names are static, short values lie in place, the effects' memory is reused.
//!
//! Reading back looks through the staged changes one by one, so n changes cost n² / 2 comparisons of names; invocations change a
//! handful of entries.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::function::effects::{
    Change, DelayedEffect, Effects, Mutation, OperationEffect, StateAccess, StateValue,
};
use crate::function::{Expiration, FunctionError, StatefulFunction};
use crate::limits::{DELAY_MS_MAX, EFFECTS_BYTES_MAX, TABLE_KEY_BYTES_MAX, TOKEN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::message::{EgressRecord, Headers, Message};
use crate::payload::Payload;
use crate::typed_value::{TypedValue, UnknownFields, ValueError};

/// How many of the latest staged changes are looked at to replace an older one of the same entry, so that a state written in a
/// loop is one change, and filling a table stays linear.
const REPLACE_LOOKBACK: usize = 8;

/// What exists beside the running function.
pub trait Directory {
    /// Is there a function of this type, by its type or by its namespace?
    fn binds_function(&self, function_type: &TypeName) -> bool;

    /// Is there an egress of this name?
    fn has_egress(&self, egress: &TypeName) -> bool;

    /// Is there an operation of this name?
    fn has_operation(&self, operation: &TypeName) -> bool;

    /// The name of a function type that might have been meant.
    fn nearest_function(&self, _function_type: &TypeName) -> Option<TypeName> {
        None
    }

    /// The name of an egress that might have been meant.
    fn nearest_egress(&self, _egress: &TypeName) -> Option<TypeName> {
        None
    }
}

/// One invocation: who is invoked, by whom, when, and what it wants done.
pub struct Context<'a> {
    self_address: &'a Address,
    caller: Option<&'a Address>,
    headers: Option<&'a Headers>,
    now_ms: u64,
    effects: &'a mut Effects,
    effects_bytes: usize,
    state: &'a mut dyn StateAccess,
    directory: &'a dyn Directory,
}

impl<'a> Context<'a> {
    /// For the runtime: an invocation of `self_address` that fills `effects`, which must be empty.
    #[must_use]
    pub fn new(
        self_address: &'a Address,
        caller: Option<&'a Address>,
        headers: Option<&'a Headers>,
        now_ms: u64,
        effects: &'a mut Effects,
        state: &'a mut dyn StateAccess,
        directory: &'a dyn Directory,
    ) -> Self {
        assert!(effects.is_empty(), "effects of another invocation");
        Self { self_address, caller, headers, now_ms, effects, effects_bytes: 0, state, directory }
    }

    /// For the runtime: invokes `function` and, if it fails, forgets its effects. Panics pass through; the caller then clears.
    ///
    /// # Errors
    /// The function's.
    pub fn run<F: StatefulFunction + ?Sized>(
        mut self,
        function: &mut F,
        message: &TypedValue,
    ) -> Result<(), FunctionError> {
        let result = function.invoke(&mut self, message);
        if result.is_err() {
            self.effects.clear();
        }
        result
    }

    /// Sends `value` to `target`. Two messages from here to one address arrive in the order sent.
    ///
    /// # Errors
    /// If no function is bound to the target's type or the value is too long.
    pub fn send(&mut self, target: Address, value: impl Into<TypedValue>) -> Result<(), FunctionError> {
        let message = self.message(target, value.into())?;
        self.effects.messages.push(message);
        Ok(())
    }

    /// Sends `value` to the caller.
    ///
    /// # Errors
    /// If there is none, because the message came from an ingress; else as [`send`](Self::send).
    pub fn reply(&mut self, value: impl Into<TypedValue>) -> Result<(), FunctionError> {
        let Some(caller) = self.caller else {
            return Err("nobody to reply to: the message came from an ingress".into());
        };
        self.send(caller.clone(), value)
    }

    /// Sends `value` to `target` once `delay` has passed. It waits durably, across restarts; a zero delay is legal.
    ///
    /// # Errors
    /// If the delay is longer than 100 years; else as [`send`](Self::send).
    pub fn send_after(
        &mut self,
        delay: Duration,
        target: Address,
        value: impl Into<TypedValue>,
    ) -> Result<(), FunctionError> {
        self.delay(delay, target, value.into(), None)
    }

    /// As [`send_after`](Self::send_after), and while it waits, functions with the same id as this one may cancel it by `token`.
    /// To use the token of a message that still waits is an error of the invocation, found when its effects are applied.
    ///
    /// # Errors
    /// If the token is empty or too long; else as [`send_after`](Self::send_after).
    pub fn send_after_with_token(
        &mut self,
        delay: Duration,
        target: Address,
        value: impl Into<TypedValue>,
        token: &str,
    ) -> Result<(), FunctionError> {
        let token = checked_token(token)?;
        self.delay(delay, target, value.into(), Some(token))
    }

    /// Cancels the delayed message that waits under `token`. Nothing happens if none does.
    ///
    /// # Errors
    /// If the token is empty or too long.
    pub fn cancel(&mut self, token: &str) -> Result<(), FunctionError> {
        let token = checked_token(token)?;
        self.account(size_of::<DelayedEffect>())?;
        self.effects.delayed.push(DelayedEffect::Cancel { token });
        Ok(())
    }

    /// Sends `value` out through `egress`, once the epoch is committed and not before.
    ///
    /// # Errors
    /// If there is no such egress or the value is too long.
    pub fn egress(&mut self, egress: &TypeName, value: impl Into<TypedValue>) -> Result<(), FunctionError> {
        let value = value.into();
        check_size(&value)?;
        if !self.directory.has_egress(egress) {
            let nearest = self.directory.nearest_egress(egress);
            return Err(unknown("egress", egress, nearest));
        }
        self.account(size_of::<EgressRecord>() + value.heap_bytes())?;
        self.effects.egress.push(EgressRecord { egress: egress.clone(), value });
        Ok(())
    }

    /// Begins a slow operation once the epoch is committed. This address is told what came of it: an
    /// [`OperationResult`](crate::function::OperationResult) with `request` in it, exactly once.
    ///
    /// # Errors
    /// If the module binds no such operation or the value is too long.
    pub fn register_operation(
        &mut self,
        operation: &TypeName,
        request: impl Into<TypedValue>,
    ) -> Result<(), FunctionError> {
        let request = request.into();
        // Room for the result's frame round it.
        check_size(&request)?;
        if !self.directory.has_operation(operation) {
            return Err(unknown("operation", operation, None));
        }
        self.account(size_of::<OperationEffect>() + request.heap_bytes())?;
        self.effects.operations.push(OperationEffect { operation: operation.clone(), request });
        Ok(())
    }

    /// Who is invoked.
    #[must_use]
    pub fn self_address(&self) -> &'a Address {
        self.self_address
    }

    /// Who sent the message; `None` if it came from an ingress.
    #[must_use]
    pub fn caller(&self) -> Option<&'a Address> {
        self.caller
    }

    /// What the record said beside its payload; `None` if the message did not come from an ingress.
    #[must_use]
    pub fn headers(&self) -> Option<&'a Headers> {
        self.headers
    }

    /// Runtime time in milliseconds: the same throughout an invocation, and it never goes back. Not the wall clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn delay(
        &mut self,
        delay: Duration,
        target: Address,
        value: TypedValue,
        token: Option<SmolStr>,
    ) -> Result<(), FunctionError> {
        if u128::from(DELAY_MS_MAX) < delay.as_millis() {
            return Err("a delay is longer than 100 years".into());
        }
        let message = self.message(target, value)?;
        self.account(size_of::<DelayedEffect>() - size_of::<Message>())?;
        self.effects.delayed.push(DelayedEffect::Send { delay, message, token });
        Ok(())
    }

    fn message(&mut self, target: Address, value: TypedValue) -> Result<Message, FunctionError> {
        check_size(&value)?;
        check_target(self.directory, &target)?;
        self.account(size_of::<Message>() + value.heap_bytes())?;
        Ok(Message { target, caller: Some(self.self_address.clone()), argument: value, headers: None })
    }

    /// Counts what an effect costs before it is taken; a refused one costs nothing.
    fn account(&mut self, bytes: usize) -> Result<(), FunctionError> {
        let effects_bytes = self.effects_bytes + bytes;
        if EFFECTS_BYTES_MAX < effects_bytes {
            return Err(too_many_effects());
        }
        self.effects_bytes = effects_bytes;
        Ok(())
    }
}

/// State, for the persisted types of this module.
impl Context<'_> {
    /// Reads one entry, as this invocation left it.
    pub(crate) fn read<T>(
        &mut self,
        name: &SmolStr,
        subkey: &Payload,
        expiration: Expiration,
        decode: impl FnOnce(&StateValue) -> Result<T, ValueError>,
    ) -> Result<Option<T>, FunctionError> {
        let named = |error: ValueError| FunctionError::caused_by(format!("state `{name}`"), error);
        match staged(&self.effects.mutations, name, subkey) {
            Staged::Put(value) => return decode(value).map(Some).map_err(named),
            Staged::Gone => return Ok(None),
            Staged::Untouched => {}
        }
        let Some(value) = self.state.entry(name, subkey)? else {
            return Ok(None);
        };
        let decoded = decode(value).map_err(named)?;
        if let Some(value) = expiration.read_at(self.now_ms, value) {
            let subkey = subkey.clone();
            self.stage(name, Change::Put { subkey, value })?;
        }
        Ok(Some(decoded))
    }

    /// Reads all entries, as this invocation left them.
    pub(crate) fn read_all(
        &mut self,
        name: &SmolStr,
        expiration: Expiration,
    ) -> Result<BTreeMap<Payload, StateValue>, FunctionError> {
        let since_clear = after_clear(&self.effects.mutations, name);
        let mut entries = match since_clear {
            Some(_) => BTreeMap::new(),
            None => self.state.entries(name)?.clone(),
        };
        for mutation in &self.effects.mutations[since_clear.unwrap_or(0)..] {
            match &mutation.change {
                Change::Put { subkey, value } if mutation.name == *name => {
                    entries.insert(subkey.clone(), value.clone());
                }
                Change::Delete { subkey } if mutation.name == *name => {
                    entries.remove(subkey);
                }
                _ => {}
            }
        }
        for (subkey, value) in &entries {
            if let Some(value) = expiration.read_at(self.now_ms, value) {
                let subkey = subkey.clone();
                self.stage(name, Change::Put { subkey, value })?;
            }
        }
        Ok(entries)
    }

    /// The greatest subkey of a state whose entries are put and cleared, but never deleted one by one.
    pub(crate) fn last_subkey(&mut self, name: &SmolStr) -> Result<Option<Payload>, FunctionError> {
        let since_clear = after_clear(&self.effects.mutations, name);
        let last_staged = self.effects.mutations[since_clear.unwrap_or(0)..]
            .iter()
            .filter(|mutation| mutation.name == *name)
            .filter_map(|mutation| match &mutation.change {
                Change::Put { subkey, .. } => Some(subkey),
                Change::Delete { .. } | Change::Clear => None,
            })
            .max()
            .cloned();
        let last_before = match since_clear {
            Some(_) => None,
            None => self.state.last(name)?,
        };
        Ok(last_staged.max(last_before))
    }

    /// Puts one entry.
    pub(crate) fn put(
        &mut self,
        name: &SmolStr,
        subkey: Payload,
        expiration: Expiration,
        typename: &'static str,
        value: Payload,
    ) -> Result<(), FunctionError> {
        let value = StateValue {
            typename: SmolStr::new_static(typename),
            value,
            expires_at_ms: expiration.written_at(self.now_ms),
            unknown_fields: UnknownFields::NONE,
        };
        if TABLE_KEY_BYTES_MAX < subkey.len() {
            return Err(FunctionError::new(format!(
                "a key of table `{name}` has {} bytes, {TABLE_KEY_BYTES_MAX} are possible",
                subkey.len()
            )));
        }
        self.put_value(name, subkey, value)
    }

    /// Puts one entry as it is, with its end.
    pub(crate) fn put_value(
        &mut self,
        name: &SmolStr,
        subkey: Payload,
        value: StateValue,
    ) -> Result<(), FunctionError> {
        let bytes = value.typename.len() + value.value.len() + value.unknown_fields.bytes().len();
        if VALUE_BYTES_MAX < bytes {
            return Err(FunctionError::new(format!(
                "a value of state `{name}` has {bytes} bytes, {VALUE_BYTES_MAX} are possible"
            )));
        }
        self.stage(name, Change::Put { subkey, value })
    }

    /// Forgets all effects so far: the invocation has failed.
    pub(crate) fn forget_effects(&mut self) {
        self.effects.clear();
        self.effects_bytes = 0;
    }

    /// Appends a change, or puts it in the place of a recent one of the same entry.
    pub(crate) fn stage(&mut self, name: &SmolStr, change: Change) -> Result<(), FunctionError> {
        let recent = recent_of_same_entry(&mut self.effects.mutations, name, &change);
        if let Some(mutation) = recent {
            let freed = change_bytes(&mutation.change);
            let effects_bytes = self.effects_bytes + change_bytes(&change) - freed;
            if EFFECTS_BYTES_MAX < effects_bytes {
                return Err(too_many_effects());
            }
            self.effects_bytes = effects_bytes;
            mutation.change = change;
            return Ok(());
        }
        self.account(size_of::<Mutation>() + change_bytes(&change))?;
        let name = name.clone();
        self.effects.mutations.push(Mutation { name, change });
        Ok(())
    }
}

enum Staged<'e> {
    Untouched,
    Gone,
    Put(&'e StateValue),
}

fn staged<'e>(mutations: &'e [Mutation], name: &SmolStr, wanted: &Payload) -> Staged<'e> {
    for mutation in mutations.iter().rev().filter(|mutation| mutation.name == *name) {
        match &mutation.change {
            Change::Put { subkey, value } if subkey == wanted => return Staged::Put(value),
            Change::Delete { subkey } if subkey == wanted => return Staged::Gone,
            Change::Clear => return Staged::Gone,
            Change::Put { .. } | Change::Delete { .. } => {}
        }
    }
    Staged::Untouched
}

/// A recently staged change that `change` makes void: of the same entry, with no clear in between.
fn recent_of_same_entry<'e>(
    mutations: &'e mut [Mutation],
    name: &SmolStr,
    change: &Change,
) -> Option<&'e mut Mutation> {
    mutations
        .iter_mut()
        .rev()
        .take(REPLACE_LOOKBACK)
        .filter(|mutation| mutation.name == *name)
        .take_while(|mutation| mutation.change != Change::Clear)
        .find(|mutation| subkey_of(&mutation.change) == subkey_of(change))
}

/// Where the changes begin that came after the last clear of this state.
fn after_clear(mutations: &[Mutation], name: &SmolStr) -> Option<usize> {
    let cleared = |mutation: &Mutation| mutation.change == Change::Clear && mutation.name == *name;
    mutations.iter().rposition(cleared).map(|at| at + 1)
}

fn subkey_of(change: &Change) -> Option<&Payload> {
    match change {
        Change::Put { subkey, .. } | Change::Delete { subkey } => Some(subkey),
        Change::Clear => None,
    }
}

fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Put { subkey, value } => subkey.heap_bytes() + value.heap_bytes(),
        Change::Delete { subkey } => subkey.heap_bytes(),
        Change::Clear => 0,
    }
}

/// Is a function bound to the target's type? Says what might have been meant if not.
pub(crate) fn check_target(directory: &dyn Directory, target: &Address) -> Result<(), FunctionError> {
    let function_type = target.function_type();
    if directory.binds_function(function_type) {
        return Ok(());
    }
    let nearest = directory.nearest_function(function_type);
    Err(unknown("function type", function_type, nearest))
}

/// Is the value, with the name of its type, short enough to be kept?
pub(crate) fn check_size(value: &TypedValue) -> Result<(), FunctionError> {
    let bytes = value.typename.len() + value.bytes().len() + value.unknown_fields.bytes().len();
    if VALUE_BYTES_MAX < bytes {
        return Err(FunctionError::new(format!("a value has {bytes} bytes, {VALUE_BYTES_MAX} are possible")));
    }
    Ok(())
}

fn too_many_effects() -> FunctionError {
    FunctionError::new(format!("the effects of one invocation are more than {EFFECTS_BYTES_MAX} bytes"))
}

fn checked_token(token: &str) -> Result<SmolStr, FunctionError> {
    if token.is_empty() {
        return Err("a cancellation token is empty".into());
    }
    if TOKEN_BYTES_MAX < token.len() {
        return Err(FunctionError::new(format!(
            "a cancellation token has {} bytes, {TOKEN_BYTES_MAX} are possible",
            token.len()
        )));
    }
    Ok(token.into())
}

fn unknown(what: &str, name: &TypeName, nearest: Option<TypeName>) -> FunctionError {
    FunctionError::new(match nearest {
        Some(nearest) => format!("unknown {what} `{name}`; is `{nearest}` meant?"),
        None => format!("unknown {what} `{name}`"),
    })
}
