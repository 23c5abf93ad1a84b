//! What does a process with functions do? An SDK's half of the protocol round the very functions of this program, so that one
//! application runs embedded or remote, and must come to the same.
//!
//! The messages are derived from their field numbers ([`wire`]), not written by the code that they test.

pub mod wire;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use prost::Message as _;
use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::function::effects::{Change, DelayedEffect, Effects, Mutation, StateValue};
use crate::function::{Context, Directory, StatefulFunction};
use crate::message::Message;
use crate::payload::Payload;
use crate::remote::call::CallOutcome;
use crate::testing::MemoryState;
use crate::typed_value::{TypedValue, UnknownFields};

/// A process with functions, all of which declare the same persisted values.
pub struct Endpoint {
    make: fn(&TypeName) -> Option<Box<dyn StatefulFunction>>,
    functions: BTreeMap<TypeName, Box<dyn StatefulFunction>>,
    /// Name and type name of each.
    states: Vec<(&'static str, &'static str)>,
    /// Batches answered, and of those the ones that asked for states.
    pub answered: u64,
    /// See [`answered`](Self::answered).
    pub negotiated: u64,
}

impl Endpoint {
    /// A process with the functions that `make` makes.
    #[must_use]
    pub fn new(
        make: fn(&TypeName) -> Option<Box<dyn StatefulFunction>>,
        states: Vec<(&'static str, &'static str)>,
    ) -> Self {
        Self { make, functions: BTreeMap::new(), states, answered: 0, negotiated: 0 }
    }

    /// Ends the process and starts it again.
    pub fn restart(&mut self) {
        self.functions.clear();
    }

    /// Answers a request as an SDK and its web framework do: an error of the function is a status 500.
    pub fn answer(&mut self, body: &[u8]) -> CallOutcome {
        match self.run(body) {
            Ok(reply) => answered(200, Some("application/octet-stream"), reply.encode_to_vec()),
            Err(text) => answered(500, Some("text/plain"), text.into_bytes()),
        }
    }

    fn run(&mut self, body: &[u8]) -> Result<wire::FromFunction, String> {
        let request = wire::ToFunction::decode(body).map_err(|error| error.to_string())?;
        let batch = request.invocation.ok_or("no invocation")?;
        let target = batch.target.and_then(|address| address.into_address()).ok_or("no target")?;
        self.answered += 1;
        let is_missing = |name: &str| batch.state.iter().all(|state| state.state_name != name);
        let missing: Vec<_> = self.states.iter().filter(|(name, _)| is_missing(name)).collect();
        if !missing.is_empty() {
            self.negotiated += 1;
            let missing_values = missing
                .iter()
                .map(|(name, typename)| wire::PersistedValueSpec {
                    state_name: (*name).to_owned(),
                    expiration_spec: None,
                    type_typename: (*typename).to_owned(),
                })
                .collect();
            let context = wire::IncompleteInvocationContext { missing_values };
            return Ok(wire::FromFunction {
                incomplete_invocation_context: Some(context),
                ..Default::default()
            });
        }
        let function_type = target.function_type();
        if !self.functions.contains_key(function_type) {
            let made = (self.make)(function_type).ok_or("no such function")?;
            self.functions.insert(function_type.clone(), made);
        }
        let function = self.functions.get_mut(function_type).ok_or("no such function")?;
        let mut state = MemoryState::default();
        for wire::PersistedValue { state_name, state_value } in batch.state {
            let Some(value) = state_value.filter(|value| value.has_value) else { continue };
            let value = StateValue {
                typename: value.typename.into(),
                value: value.value.into(),
                expires_at_ms: None,
                unknown_fields: UnknownFields::NONE,
            };
            let change = Change::Put { subkey: Payload::EMPTY, value };
            state.apply(&[Mutation { name: state_name.into(), change }]);
        }
        let mut response = wire::InvocationResponse::default();
        let mut changed = BTreeMap::new();
        for invocation in batch.invocations {
            let caller = invocation.caller.and_then(wire::Address::into_address);
            let argument = invocation.argument.map(wire::TypedValue::into_value).unwrap_or_default();
            let mut effects = Effects::default();
            let context =
                Context::new(&target, caller.as_ref(), None, 0, &mut effects, &mut state, &Everything);
            let ran = catch_unwind(AssertUnwindSafe(|| context.run(&mut **function, &argument)));
            ran.map_err(|_| "it panicked".to_owned())?.map_err(|error| error.to_string())?;
            merge(effects, &mut state, &mut changed, &mut response);
        }
        response.state_mutations = changed
            .into_iter()
            .map(|(name, value): (SmolStr, Option<StateValue>)| wire::PersistedValueMutation {
                mutation_type: i32::from(value.is_some()),
                state_name: name.into(),
                state_value: value.map(|value| wire::TypedValue {
                    typename: value.typename.into(),
                    has_value: true,
                    value: value.value.to_bytes(),
                }),
            })
            .collect();
        Ok(wire::FromFunction { invocation_result: Some(response), ..Default::default() })
    }
}

/// Adds one invocation's effects to those of its batch: sends in order, of states the last value.
fn merge(
    effects: Effects,
    state: &mut MemoryState,
    changed: &mut BTreeMap<SmolStr, Option<StateValue>>,
    response: &mut wire::InvocationResponse,
) {
    for message in effects.messages {
        response.outgoing_messages.push(sent(message));
    }
    for effect in effects.delayed {
        response.delayed_invocations.push(match effect {
            DelayedEffect::Send { delay, message, token } => {
                let wire::Sent { target, argument } = sent(message);
                let cancellation_token = token.map(String::from).unwrap_or_default();
                let delay_in_ms = millis(delay);
                wire::DelayedInvocation {
                    delay_in_ms,
                    target,
                    argument,
                    is_cancellation_request: false,
                    cancellation_token,
                }
            }
            DelayedEffect::Cancel { token } => wire::DelayedInvocation {
                is_cancellation_request: true,
                cancellation_token: token.into(),
                ..Default::default()
            },
        });
    }
    for record in effects.egress {
        response.outgoing_egresses.push(wire::EgressMessage {
            egress_namespace: record.egress.namespace().to_owned(),
            egress_type: record.egress.name().to_owned(),
            argument: Some(record.value.into()),
        });
    }
    state.apply(&effects.mutations);
    for mutation in effects.mutations {
        let value = match mutation.change {
            Change::Put { value, .. } => Some(value),
            Change::Delete { .. } | Change::Clear => None,
        };
        changed.insert(mutation.name, value);
    }
}

fn sent(message: Message) -> wire::Sent {
    wire::Sent { target: Some((&message.target).into()), argument: Some(message.argument.into()) }
}

fn millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

/// An HTTP response with a status, a content type and a body.
#[must_use]
pub fn answered(status: u16, content_type: Option<&str>, body: Vec<u8>) -> CallOutcome {
    CallOutcome::Answered { status, content_type: content_type.map(str::to_owned), body: body.into() }
}

/// An SDK does not know what else is bound.
struct Everything;

impl Directory for Everything {
    fn binds_function(&self, _function_type: &TypeName) -> bool {
        true
    }

    fn has_egress(&self, _egress: &TypeName) -> bool {
        true
    }

    fn has_operation(&self, _operation: &TypeName) -> bool {
        false
    }
}

impl From<TypedValue> for wire::TypedValue {
    fn from(value: TypedValue) -> Self {
        Self {
            typename: value.typename.into(),
            has_value: value.value.is_some(),
            value: value.value.as_ref().map(Payload::to_bytes).unwrap_or_default(),
        }
    }
}

impl wire::TypedValue {
    fn into_value(self) -> TypedValue {
        TypedValue {
            typename: self.typename.into(),
            value: self.has_value.then(|| self.value.into()),
            unknown_fields: UnknownFields::NONE,
        }
    }
}

impl From<&Address> for wire::Address {
    fn from(address: &Address) -> Self {
        Self {
            namespace: address.function_type().namespace().to_owned(),
            name: address.function_type().name().to_owned(),
            id: address.id().to_owned(),
        }
    }
}

impl wire::Address {
    fn into_address(self) -> Option<Address> {
        let function_type = TypeName::parse(&format!("{}/{}", self.namespace, self.name)).ok()?;
        Address::new(function_type, &self.id).ok()
    }
}
