//! How does a user test a function? With a [`Harness`]: state in memory, a clock that is told, no node, no broker.
//!
//! It applies what the runtime applies and returns the rest: one invocation's messages, delayed messages and records are there
//! to be looked at, not delivered. Every function type and every egress exists.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::function::effects::{Change, Effects, Mutation, StateAccess, StateValue};
use crate::function::{Context, Directory, FunctionError, StatefulFunction};
use crate::message::Message;
use crate::payload::Payload;
use crate::store::BaseError;
use crate::typed_value::{TypedValue, Value, ValueError};

/// One function with the state of all its ids.
///
/// ```
/// use fogfun::address::{Address, TypeName};
/// use fogfun::function::{Context, PersistedValue};
/// use fogfun::testing::Harness;
/// use fogfun::typed_value::TypedValue;
///
/// const COUNTER: TypeName = TypeName::from_static("example/counter");
/// const TOTALS: TypeName = TypeName::from_static("example/totals");
/// const COUNT: PersistedValue<i64> = PersistedValue::new("count");
///
/// let mut harness = Harness::new(|context: &mut Context<'_>, message: &TypedValue| {
///     let step: i64 = message.get()?;
///     let count = COUNT.update(context, |count| count.unwrap_or(0) + step)?;
///     context.egress(&TOTALS, count)
/// });
/// let address = Address::new(COUNTER, "a")?;
/// harness.invoke(&address, 3_i64)?;
/// let effects = harness.invoke(&address, 4_i64)?;
/// assert_eq!(effects.egress[0].value.get::<i64>()?, 7);
/// assert_eq!(harness.value::<i64>(&address, "count")?, Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Harness<F> {
    function: F,
    states: BTreeMap<Address, MemoryState>,
    effects: Effects,
    now_ms: u64,
}

impl<F: StatefulFunction> Harness<F> {
    /// A harness at runtime time 0, without any state.
    #[must_use]
    pub fn new(function: F) -> Self {
        Self { function, states: BTreeMap::new(), effects: Effects::default(), now_ms: 0 }
    }

    /// Invokes the function at `target` with a message from nobody, as from an ingress without headers.
    ///
    /// # Errors
    /// The function's; then state is as before.
    pub fn invoke(
        &mut self,
        target: &Address,
        value: impl Into<TypedValue>,
    ) -> Result<&Effects, FunctionError> {
        self.deliver(&Message { target: target.clone(), caller: None, argument: value.into(), headers: None })
    }

    /// Invokes the function with a message, applies its changes of state, and returns all its effects.
    ///
    /// # Errors
    /// The function's; then state is as before.
    pub fn deliver(&mut self, message: &Message) -> Result<&Effects, FunctionError> {
        self.effects.clear();
        let state = self.states.entry(message.target.clone()).or_default();
        state.expire(self.now_ms);
        let context = Context::new(
            &message.target,
            message.caller.as_ref(),
            message.headers.as_deref(),
            self.now_ms,
            &mut self.effects,
            state,
            &Everything,
        );
        context.run(&mut self.function, &message.argument)?;
        state.apply(&self.effects.mutations);
        Ok(&self.effects)
    }

    /// Lets runtime time pass.
    pub fn advance(&mut self, time: Duration) {
        self.now_ms = self.now_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Runtime time in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What a [`PersistedValue`](crate::function::PersistedValue) of this name holds at `address`; does not count as a read.
    ///
    /// # Errors
    /// If it is of another type or malformed.
    pub fn value<T: Value>(&mut self, address: &Address, name: &str) -> Result<Option<T>, ValueError> {
        let Some(state) = self.states.get_mut(address) else {
            return Ok(None);
        };
        state.expire(self.now_ms);
        let entry = state.0.get(name).and_then(|entries| entries.get(&Payload::EMPTY));
        entry.map(crate::function::value::decode).transpose()
    }

    /// All state of `address` that has not expired: by name, then by subkey.
    #[must_use]
    pub fn state(&mut self, address: &Address) -> &BTreeMap<SmolStr, BTreeMap<Payload, StateValue>> {
        let state = self.states.entry(address.clone()).or_default();
        state.expire(self.now_ms);
        &state.0
    }
}

/// The state of one address in memory.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct MemoryState(BTreeMap<SmolStr, BTreeMap<Payload, StateValue>>);

impl MemoryState {
    /// Removes what has expired by `now_ms`.
    pub fn expire(&mut self, now_ms: u64) {
        for entries in self.0.values_mut() {
            entries.retain(|_, value| value.expires_at_ms.is_none_or(|end| now_ms < end));
        }
    }

    /// Applies changes in order.
    pub fn apply(&mut self, mutations: &[Mutation]) {
        for Mutation { name, change } in mutations {
            let entries = self.0.entry(name.clone()).or_default();
            match change {
                Change::Put { subkey, value } => {
                    entries.insert(subkey.clone(), value.clone());
                }
                Change::Delete { subkey } => {
                    entries.remove(subkey);
                }
                Change::Clear => entries.clear(),
            }
        }
    }
}

impl StateAccess for MemoryState {
    fn entry(&mut self, name: &str, subkey: &[u8]) -> Result<Option<&StateValue>, BaseError> {
        Ok(self.0.get(name).and_then(|entries| entries.get(subkey)))
    }

    fn entries(&mut self, name: &str) -> Result<&BTreeMap<Payload, StateValue>, BaseError> {
        Ok(self.0.entry(name.into()).or_default())
    }
}

/// Every function type and every egress exists.
struct Everything;

impl Directory for Everything {
    fn binds_function(&self, _: &TypeName) -> bool {
        true
    }

    fn has_egress(&self, _: &TypeName) -> bool {
        true
    }

    fn has_operation(&self, _: &TypeName) -> bool {
        true
    }
}
