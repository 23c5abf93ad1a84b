//! What did an invocation do? Nothing yet: its [`Effects`] are a value, applied all together or not at all.
//!
//! Embedded functions, remote functions, replay and tests meet at this value. The order of application is StateFun's:
//! messages, delayed sends and cancellations as listed, egress records, operations, state.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use crate::address::TypeName;
use crate::message::{EgressRecord, Message};
use crate::payload::Payload;
use crate::store::BaseError;
use crate::typed_value::TypedValue;

pub use crate::state::value::StateValue;

/// Everything one invocation wants done. Reused from one invocation to the next, so that a steady one allocates nothing.
#[derive(Default, Debug, Clone, PartialEq)]
pub struct Effects {
    /// Messages to send now, in order; `caller` is the invoked address.
    pub messages: Vec<Message>,
    /// Delayed sends and cancellations, in the order in which the function asked for them.
    pub delayed: Vec<DelayedEffect>,
    /// Records to send out, in order.
    pub egress: Vec<EgressRecord>,
    /// Operations to begin, in order, once the epoch is committed.
    pub operations: Vec<OperationEffect>,
    /// Changes of state, in order; of several to one (name, subkey) the last counts.
    pub mutations: Vec<Mutation>,
}

impl Effects {
    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.delayed.is_empty()
            && self.egress.is_empty()
            && self.operations.is_empty()
            && self.mutations.is_empty()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.delayed.clear();
        self.egress.clear();
        self.operations.clear();
        self.mutations.clear();
    }
}

/// An operation to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationEffect {
    /// Which, by the name under which the module binds it.
    pub operation: TypeName,
    /// What it is given; comes back with its outcome.
    pub request: TypedValue,
}

/// A delayed send or a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub enum DelayedEffect {
    /// Send `message` when `delay` of runtime time has passed.
    Send {
        /// How long; zero is legal.
        delay: Duration,
        /// What, with the sender as its caller.
        message: Message,
        /// With which the same id may cancel it while it waits; unique among those that wait.
        token: Option<SmolStr>,
    },
    /// Cancel what waits under this token; nothing happens if nothing does.
    Cancel {
        /// The token given to the send.
        token: SmolStr,
    },
}

/// A change of one entry of one persisted state, or of all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The state's name.
    pub name: SmolStr,
    /// Which entry, and what.
    pub change: Change,
}

/// What happens to a state.
///
/// A persisted value has the one entry with an empty subkey; a table an entry per encoded key; an appending buffer an entry per
/// element, its subkey the element's number as u64 big-endian.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The entry has this value from now on.
    Put {
        /// Which entry.
        subkey: Payload,
        /// Its value.
        value: StateValue,
    },
    /// The entry is gone.
    Delete {
        /// Which entry.
        subkey: Payload,
    },
    /// All entries are gone.
    Clear,
}

/// What a running invocation reads: its address's state as it was before the invocation, expired entries left out.
pub trait StateAccess {
    /// One entry; a persisted value is the entry with an empty subkey.
    ///
    /// # Errors
    /// If the base cannot be read.
    fn entry(&mut self, name: &str, subkey: &[u8]) -> Result<Option<&StateValue>, BaseError>;

    /// All entries of a table or buffer, by subkey.
    ///
    /// # Errors
    /// If the base cannot be read.
    fn entries(&mut self, name: &str) -> Result<&BTreeMap<Payload, StateValue>, BaseError>;

    /// The greatest subkey of a table or buffer. Worth implementing where it need not read all entries: every append asks.
    ///
    /// # Errors
    /// If the base cannot be read.
    fn last(&mut self, name: &str) -> Result<Option<Payload>, BaseError> {
        Ok(self.entries(name)?.keys().next_back().cloned())
    }
}
