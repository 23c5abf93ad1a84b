//! What is a function in another process asked? A `ToFunction`: who it is, its states, and what came for it.
//!
//! ```text
//! ToFunction               100 invocation: InvocationBatchRequest
//! InvocationBatchRequest   1 target · 2 state: PersistedValue, … · 3 invocations: Invocation, …
//! PersistedValue           1 state_name · 2 state_value, left out if the state is empty
//! Invocation               1 caller, left out if the message comes from an ingress · 2 argument
//! ```
//! - Every known state is named, also one without a value: a missing *name* makes an SDK ask for it.
//! - Canonical proto3, because StateFun's Java SDK reads parts of it by hand.
//! - Record headers are not part of the protocol and stay behind.

use bytes::Bytes;

use crate::address::Address;
use crate::state::value::{Letter, StateValue};

use super::protobuf::{bytes_length, message_length, put_bytes, put_length};
use super::value::{ValueToWrite, address_length, put_address};

/// A `ToFunction` message. Deterministic: the same arguments, the same bytes.
///
/// One allocation, which grows if there is much in it.
pub fn encode_request<'a>(
    target: &Address,
    states: impl Iterator<Item = (&'a str, Option<&'a StateValue>)>,
    letters: impl Iterator<Item = &'a Letter>,
) -> Bytes {
    // How long the batch is stands before it and is known after it.
    let mut out = Vec::with_capacity(REQUEST_BYTES_FIRST);
    out.resize(BEFORE_BATCH_BYTES_MAX, 0);
    put_length(TARGET, address_length(target), &mut out);
    put_address(target, &mut out);
    for (name, value) in states {
        put_state(name, value, &mut out);
    }
    for letter in letters {
        put_invocation(letter, &mut out);
    }
    let mut before = Vec::with_capacity(BEFORE_BATCH_BYTES_MAX);
    put_length(INVOCATION, out.len() - BEFORE_BATCH_BYTES_MAX, &mut before);
    let begin = BEFORE_BATCH_BYTES_MAX - before.len();
    out[begin..BEFORE_BATCH_BYTES_MAX].copy_from_slice(&before);
    Bytes::from(out).slice(begin..)
}

/// Bytes that this letter adds to a request.
#[must_use]
pub fn invocation_bytes(letter: &Letter) -> usize {
    message_length(INVOCATIONS, invocation_length(letter))
}

fn put_state(name: &str, value: Option<&StateValue>, out: &mut Vec<u8>) {
    let value = value.map(ValueToWrite::from);
    let value_length = value.map_or(0, |value| message_length(STATE_VALUE, value.length()));
    put_length(STATE, bytes_length(STATE_NAME, name.as_bytes()) + value_length, out);
    put_bytes(STATE_NAME, name.as_bytes(), out);
    if let Some(value) = value {
        put_length(STATE_VALUE, value.length(), out);
        value.put(out);
    }
}

fn invocation_length(letter: &Letter) -> usize {
    let caller = letter.caller.as_ref().map_or(0, |caller| message_length(CALLER, address_length(caller)));
    caller + message_length(ARGUMENT, ValueToWrite::from(&letter.argument).length())
}

fn put_invocation(letter: &Letter, out: &mut Vec<u8>) {
    put_length(INVOCATIONS, invocation_length(letter), out);
    if let Some(caller) = &letter.caller {
        put_length(CALLER, address_length(caller), out);
        put_address(caller, out);
    }
    let argument = ValueToWrite::from(&letter.argument);
    put_length(ARGUMENT, argument.length(), out);
    argument.put(out);
}

/// Room made for a request, in bytes (chosen: less has it moved as it grows, more is seldom needed).
const REQUEST_BYTES_FIRST: usize = 1_024;

/// Two bytes of tag and ten of length at most.
const BEFORE_BATCH_BYTES_MAX: usize = 12;

// Of ToFunction.
const INVOCATION: u32 = 100;
// Of InvocationBatchRequest.
const TARGET: u32 = 1;
const STATE: u32 = 2;
const INVOCATIONS: u32 = 3;
// Of PersistedValue.
const STATE_NAME: u32 = 1;
const STATE_VALUE: u32 = 2;
// Of Invocation.
const CALLER: u32 = 1;
const ARGUMENT: u32 = 2;
