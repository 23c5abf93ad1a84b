//! What did a function in another process do? A `FromFunction` becomes the effects of an invocation, through the same
//! [`Context`] that embedded functions have, or says which states were missing.
//!
//! ```text
//! FromFunction         100 invocation_result: InvocationResponse | 101 incomplete_invocation_context: 1 missing_values, …
//! InvocationResponse   1 state_mutations, … · 2 outgoing_messages, … · 3 delayed_invocations, … · 4 outgoing_egresses, …
//! Invocation           1 target · 2 argument
//! DelayedInvocation    1 delay_in_ms · 2 target · 3 argument · 10 is_cancellation_request · 11 cancellation_token
//! EgressMessage        1 egress_namespace · 2 egress_type · 3 argument
//! Mutation             1 mutation_type: 0 DELETE, 1 MODIFY · 2 state_name · 3 state_value
//! ```
//! - In StateFun's order, whatever the order on the wire: messages, delayed and cancellations as listed, egress, state.
//! - All or nothing: after an error there are no effects.
//! - No bytes, or neither arm, is a function that did nothing; DELETE is what stands there if nothing does.
//! - Nothing is collected first. The bytes are walked once per kind of effect, and the context bounds what it takes.
//! - What repeats what came from outside is cut: an endless name makes a short sentence.
//!
//! Source: StateFun's `RequestReplyFunction.handleInvocationResultResponse`, `PersistedRemoteFunctionValues`.

use std::time::Duration;

use smol_str::SmolStr;

use crate::address::{Address, NameError};
use crate::function::effects::Change;
use crate::function::{Context, Expiration, FunctionError};
use crate::limits::STATES_PER_FUNCTION_TYPE_MAX;
use crate::payload::Payload;

use super::protobuf::{Reader, WireError};
use super::specs::{Spec, SpecError, Specs};
use super::value::{WireAddress, WireValue, clipped};

/// What a function answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// It ran. Its effects are in the context.
    Done,
    /// It did not run, for it misses these states: to be registered, and then it is asked again.
    Missing(Vec<Spec>),
}

/// Gives the effects that `body` asks for to `context`, which must have none yet. `specs` are the states of the function's type.
///
/// Every state that expires after a call and has a value lives on from now, whether it is changed or not.
///
/// # Errors
/// If anything in it is wrong, or a state cannot be read. Then there are no effects.
pub fn apply_reply(body: &[u8], specs: &Specs, context: &mut Context<'_>) -> Result<Reply, ReplyError> {
    let applied = apply(body, specs, context);
    if applied.is_err() {
        context.forget_effects();
    }
    applied
}

fn apply(body: &[u8], specs: &Specs, context: &mut Context<'_>) -> Result<Reply, ReplyError> {
    let from_function = |source| ReplyError::malformed("FromFunction", source);
    match arm(body).map_err(from_function)? {
        Arm::Neither => refresh(specs, context)?,
        Arm::Missing(parts) => return missing(parts).map(Reply::Missing),
        Arm::Result(parts) => {
            each(parts, INVOCATION_RESULT, OUTGOING_MESSAGES, |message| send(message, context))?;
            each(parts, INVOCATION_RESULT, DELAYED_INVOCATIONS, |message| delay(message, context))?;
            each(parts, INVOCATION_RESULT, OUTGOING_EGRESSES, |message| egress(message, context))?;
            refresh(specs, context)?;
            each(parts, INVOCATION_RESULT, STATE_MUTATIONS, |message| mutate(message, specs, context))?;
        }
    }
    Ok(Reply::Done)
}

/// Which arm of a `FromFunction` counts, and from where on: the last given, with the parts of it that nothing came between.
enum Arm<'a> {
    Neither,
    Result(&'a [u8]),
    Missing(&'a [u8]),
}

fn arm(body: &[u8]) -> Result<Arm<'_>, WireError> {
    let mut arm = Arm::Neither;
    let mut rest = body;
    for field in Reader::new(body) {
        let field = field?;
        match (field.number, &arm) {
            (INVOCATION_RESULT, Arm::Neither | Arm::Missing(_)) => arm = Arm::Result(rest),
            (INCOMPLETE_CONTEXT, Arm::Neither | Arm::Result(_)) => arm = Arm::Missing(rest),
            _ => {}
        }
        (_, rest) = rest.split_at(field.raw.len());
    }
    Ok(arm)
}

/// Walks over the messages in field `number` of every part of field `arm`.
fn each<'a>(
    parts: &'a [u8],
    arm: u32,
    number: u32,
    mut take: impl FnMut(&'a [u8]) -> Result<(), ReplyError>,
) -> Result<(), ReplyError> {
    let malformed = |source| ReplyError::malformed("InvocationResponse", source);
    for part in Reader::new(parts) {
        let part = part.map_err(malformed)?;
        if part.number != arm {
            continue;
        }
        for field in Reader::new(part.bytes().map_err(malformed)?) {
            let field = field.map_err(malformed)?;
            if field.number == number {
                take(field.bytes().map_err(malformed)?)?;
            }
        }
    }
    Ok(())
}

fn missing(parts: &[u8]) -> Result<Vec<Spec>, ReplyError> {
    let mut specs = Vec::new();
    each(parts, INCOMPLETE_CONTEXT, MISSING_VALUES, |message| {
        if specs.len() == STATES_PER_FUNCTION_TYPE_MAX {
            return Err(SpecError::TooMany.into());
        }
        specs.push(Spec::decode(message)?);
        Ok(())
    })?;
    Ok(specs)
}

fn send(message: &[u8], context: &mut Context<'_>) -> Result<(), ReplyError> {
    let (mut target, mut argument) = (WireAddress::default(), WireValue::default());
    let mut read = || -> Result<(), WireError> {
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => target.merge(field.bytes()?)?,
                2 => argument.merge(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    };
    read().map_err(|source| ReplyError::malformed("outgoing_messages", source))?;
    let to = address(target)?;
    let sent = context.send(to, argument.to_typed_value());
    sent.map_err(|source| ReplyError::Message { target: target.to_text(), source })
}

#[derive(Default)]
struct DelayedInvocation<'a> {
    delay_ms: i64,
    target: WireAddress<'a>,
    argument: WireValue<'a>,
    is_cancellation: bool,
    token: &'a str,
}

impl<'a> DelayedInvocation<'a> {
    fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut delayed = Self::default();
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => delayed.delay_ms = field.int64()?,
                2 => delayed.target.merge(field.bytes()?)?,
                3 => delayed.argument.merge(field.bytes()?)?,
                10 => delayed.is_cancellation = field.bool()?,
                11 => delayed.token = field.text()?,
                _ => {}
            }
        }
        Ok(delayed)
    }
}

fn delay(message: &[u8], context: &mut Context<'_>) -> Result<(), ReplyError> {
    let delayed = DelayedInvocation::decode(message)
        .map_err(|source| ReplyError::malformed("delayed_invocations", source))?;
    let DelayedInvocation { delay_ms, target, argument, is_cancellation, token } = delayed;
    if is_cancellation {
        return match context.cancel(token) {
            Ok(()) => Ok(()),
            Err(source) => Err(ReplyError::Cancellation { source }),
        };
    }
    let Ok(millis) = u64::try_from(delay_ms) else {
        return Err(ReplyError::NegativeDelay { target: target.to_text(), delay_ms });
    };
    let (to, delay, value) = (address(target)?, Duration::from_millis(millis), argument.to_typed_value());
    let sent = if token.is_empty() {
        context.send_after(delay, to, value)
    } else {
        context.send_after_with_token(delay, to, value, token)
    };
    sent.map_err(|source| ReplyError::Message { target: target.to_text(), source })
}

fn egress(message: &[u8], context: &mut Context<'_>) -> Result<(), ReplyError> {
    let (mut name, mut argument) = (WireAddress::default(), WireValue::default());
    let mut read = || -> Result<(), WireError> {
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => name.namespace = field.text()?,
                2 => name.name = field.text()?,
                3 => argument.merge(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    };
    read().map_err(|source| ReplyError::malformed("outgoing_egresses", source))?;
    let egress = name.type_name().map_err(|source| ReplyError::EgressName { source })?;
    context
        .egress(&egress, argument.to_typed_value())
        .map_err(|source| ReplyError::Egress { egress: egress.as_str().into(), source })
}

/// Puts off the end of what lives on by being used.
fn refresh(specs: &Specs, context: &mut Context<'_>) -> Result<(), ReplyError> {
    for spec in specs.iter().filter(|spec| matches!(spec.expiration, Expiration::AfterCall(_))) {
        let refreshed = context.read(&spec.name, &Payload::EMPTY, spec.expiration, |_| Ok(()));
        refreshed.map_err(|source| ReplyError::State { name: spec.name.clone(), source })?;
    }
    Ok(())
}

fn mutate(message: &[u8], specs: &Specs, context: &mut Context<'_>) -> Result<(), ReplyError> {
    let (mut kind, mut name, mut value) = (DELETE, "", WireValue::default());
    let mut read = || -> Result<(), WireError> {
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => kind = field.varint()?,
                2 => name = field.text()?,
                3 => value.merge(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    };
    read().map_err(|source| ReplyError::malformed("state_mutations", source))?;
    let Some(spec) = specs.get(name) else {
        return Err(ReplyError::UndeclaredState { name: clipped(name) });
    };
    let name = spec.name.clone();
    let staged = match kind {
        DELETE => context.stage(&name, Change::Delete { subkey: Payload::EMPTY }),
        MODIFY if spec.takes(value.typename) => {
            let expires_at_ms = spec.expiration.written_at(context.now_ms());
            context.put_value(&name, Payload::EMPTY, value.to_state_value(expires_at_ms))
        }
        MODIFY => {
            let (declared, found) = (spec.typename.clone(), clipped(value.typename));
            return Err(ReplyError::StateType { name, declared, found });
        }
        _ => return Err(ReplyError::UnknownMutation { name, kind }),
    };
    staged.map_err(|source| ReplyError::State { name, source })
}

fn address(target: WireAddress<'_>) -> Result<Address, ReplyError> {
    target.to_address().map_err(|source| ReplyError::Target { source })
}

/// A reply that cannot be applied. Nothing was changed. All but [`State`](Self::State), which may be the base's, is the
/// function's fault: asked again it will answer the same, unless it is another by then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The bytes are no `FromFunction` message.
    #[error("the reply is no FromFunction message: in {within}: {source}")]
    Malformed {
        /// The message or field within which it goes wrong.
        within: &'static str,
        /// What goes wrong.
        source: WireError,
    },
    /// A message to what is no address.
    #[error("a message to no address: {source}")]
    Target {
        /// What is wrong with it.
        source: NameError,
    },
    /// A message, delayed or not, that cannot be sent: an unknown target, a value, delay or token too large, too many effects.
    #[error("a message to `{target}`: {source}")]
    Message {
        /// To whom.
        target: String,
        /// Why not.
        source: FunctionError,
    },
    /// A delayed message that was due in the past.
    #[error("a message to `{target}` is delayed by {delay_ms} ms")]
    NegativeDelay {
        /// To whom.
        target: String,
        /// By how much.
        delay_ms: i64,
    },
    /// A cancellation without a token, or with an endless one.
    #[error("a cancellation: {source}")]
    Cancellation {
        /// Why not.
        source: FunctionError,
    },
    /// A record for what is no egress's name.
    #[error("a record for no egress: {source}")]
    EgressName {
        /// What is wrong with it.
        source: NameError,
    },
    /// A record that cannot be sent out: an unknown egress, a value too large, too many effects.
    #[error("a record for egress `{egress}`: {source}")]
    Egress {
        /// Where to.
        egress: SmolStr,
        /// Why not.
        source: FunctionError,
    },
    /// A change of a state that the function has not declared.
    #[error("state `{name}` is changed and was never declared")]
    UndeclaredState {
        /// The state.
        name: String,
    },
    /// A value of another type than the state's.
    #[error("state `{name}` has type `{declared}` and is given a value of type `{found}`")]
    StateType {
        /// The state.
        name: SmolStr,
        /// The type with which it was declared.
        declared: SmolStr,
        /// The type of the value.
        found: String,
    },
    /// A change that is neither DELETE nor MODIFY.
    #[error("state `{name}` has the unknown mutation type {kind}")]
    UnknownMutation {
        /// The state.
        name: SmolStr,
        /// What is asked for.
        kind: u64,
    },
    /// A state that cannot be read, which is the base's fault, or written: a value too large, too many effects.
    #[error("state `{name}`: {source}")]
    State {
        /// The state.
        name: SmolStr,
        /// Why not.
        source: FunctionError,
    },
    /// A declaration that cannot stand.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl ReplyError {
    fn malformed(within: &'static str, source: WireError) -> Self {
        Self::Malformed { within, source }
    }
}

// Of FromFunction.
const INVOCATION_RESULT: u32 = 100;
const INCOMPLETE_CONTEXT: u32 = 101;
// Of IncompleteInvocationContext.
const MISSING_VALUES: u32 = 1;
// Of InvocationResponse.
const STATE_MUTATIONS: u32 = 1;
const OUTGOING_MESSAGES: u32 = 2;
const DELAYED_INVOCATIONS: u32 = 3;
const OUTGOING_EGRESSES: u32 = 4;
// Of MutationType.
const DELETE: u64 = 0;
const MODIFY: u64 = 1;
