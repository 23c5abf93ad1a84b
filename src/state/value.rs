//! The value layout: what lies under a key?
//!
//! CBOR arrays with numbered fields (minicbor), so that what outlives an upgrade can grow at its end; the user's own bytes are a
//! byte string, untouched. The same bytes lie in frames, log and base.
//!
//! ```text
//! Counter      uint
//! State        [0 type name, 1 bytes, 2 expires at, ms of runtime time, or null, 3 unknown fields]
//! Mailbox      [0 caller, 1 type name, 2 bytes or null if absent, 3 headers or null, 4 unknown fields]  caller: [type, id] or null
//! Unsent       [0 target, 1 message as under Mailbox]
//! Delayed      [0 target, 1 message as under Mailbox, 2 token or null]
//! AsyncOperation [0 operation, 1 its request as a message under Mailbox]
//! DeadLetter   [0 message as under Mailbox, 1 reason, 2 attempts, 3 at, ms of runtime time]
//! Seen         byte string, 8 bytes an id (XXH3-64, big-endian), the oldest first
//! ```
//! Unknown fields are a byte string as it came over the wire, left out if there are none.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::message::Headers;
use crate::payload::Payload;
use crate::typed_value::{TypedValue, UnknownFields, typename_heap_bytes};

/// A value at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// The name of its type.
    pub typename: SmolStr,
    /// Its bytes.
    pub value: Payload,
    /// When it ceases to be, in milliseconds of runtime time; `None` is never.
    pub expires_at_ms: Option<u64>,
    /// What else a remote function said about it.
    pub unknown_fields: UnknownFields,
}

impl StateValue {
    /// What bytes, unknown fields and a long type name cost beside the value itself, in bytes of heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        typename_heap_bytes(&self.typename) + self.value.heap_bytes() + self.unknown_fields.heap_bytes()
    }
}

/// What a waiting message is beside its target, which its key names.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// From whom; `None` if it comes from an ingress.
    pub caller: Option<Address>,
    /// What.
    pub argument: TypedValue,
    /// What the record said beside its payload.
    pub headers: Option<Arc<Headers>>,
}

/// A message or record that failed for good.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The message, whose target the key names.
    pub letter: Letter,
    /// Why, for a person.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, in milliseconds of runtime time.
    pub at_ms: u64,
}

/// Appends a persisted value.
pub fn encode_state(value: &StateValue, out: &mut Vec<u8>) {
    encode(
        &StateOnDisk {
            typename: &value.typename,
            value: &value.value,
            expires_at_ms: value.expires_at_ms,
            unknown_fields: unknown_on_disk(&value.unknown_fields),
        },
        out,
    );
}

/// Reads a persisted value back.
#[must_use]
pub fn decode_state(bytes: &[u8]) -> Option<StateValue> {
    let state: StateOnDisk<'_> = minicbor::decode(bytes).ok()?;
    Some(StateValue {
        typename: state.typename.into(),
        value: Payload::copy_from(state.value),
        expires_at_ms: state.expires_at_ms,
        unknown_fields: UnknownFields::copy_from(state.unknown_fields.unwrap_or_default()),
    })
}

/// Appends a waiting message.
pub fn encode_letter(letter: &Letter, out: &mut Vec<u8>) {
    encode(&LetterOnDisk::from(letter), out);
}

/// Reads a waiting message back.
#[must_use]
pub fn decode_letter(bytes: &[u8]) -> Option<Letter> {
    minicbor::decode::<LetterOnDisk<'_>>(bytes).ok()?.into_letter()
}

/// Appends a message that waits for its channel.
pub fn encode_unsent(target: &Address, letter: &Letter, out: &mut Vec<u8>) {
    encode(&UnsentOnDisk { target: target.into(), letter: letter.into() }, out);
}

/// Reads a message that waits for its channel back.
#[must_use]
pub fn decode_unsent(bytes: &[u8]) -> Option<(Address, Letter)> {
    let unsent: UnsentOnDisk<'_> = minicbor::decode(bytes).ok()?;
    Some((unsent.target.into_address()?, unsent.letter.into_letter()?))
}

/// Appends a delayed message.
pub fn encode_delayed(target: &Address, letter: &Letter, token: Option<&str>, out: &mut Vec<u8>) {
    encode(&DelayedOnDisk { target: target.into(), letter: letter.into(), token }, out);
}

/// Reads a delayed message back.
#[must_use]
pub fn decode_delayed(bytes: &[u8]) -> Option<(Address, Letter, Option<SmolStr>)> {
    let delayed: DelayedOnDisk<'_> = minicbor::decode(bytes).ok()?;
    Some((delayed.target.into_address()?, delayed.letter.into_letter()?, delayed.token.map(SmolStr::from)))
}

/// Appends an operation that was registered.
pub fn encode_operation(operation: &TypeName, request: &TypedValue, out: &mut Vec<u8>) {
    let letter = Letter { caller: None, argument: request.clone(), headers: None };
    encode(&OperationOnDisk { operation: operation.as_str(), letter: (&letter).into() }, out);
}

/// Reads an operation back.
#[must_use]
pub fn decode_operation(bytes: &[u8]) -> Option<(TypeName, TypedValue)> {
    let operation: OperationOnDisk<'_> = minicbor::decode(bytes).ok()?;
    Some((TypeName::parse(operation.operation).ok()?, operation.letter.into_letter()?.argument))
}

/// Appends a dead letter.
pub fn encode_dead_letter(dead: &DeadLetter, out: &mut Vec<u8>) {
    let DeadLetter { letter, reason, attempts, at_ms } = dead;
    encode(&DeadLetterOnDisk { letter: letter.into(), reason, attempts: *attempts, at_ms: *at_ms }, out);
}

/// Reads a dead letter back.
#[must_use]
pub fn decode_dead_letter(bytes: &[u8]) -> Option<DeadLetter> {
    let dead: DeadLetterOnDisk<'_> = minicbor::decode(bytes).ok()?;
    Some(DeadLetter {
        letter: dead.letter.into_letter()?,
        reason: dead.reason.into(),
        attempts: dead.attempts,
        at_ms: dead.at_ms,
    })
}

/// Appends a counter.
pub fn encode_counter(next: u64, out: &mut Vec<u8>) {
    encode(&next, out);
}

/// Reads a counter back.
#[must_use]
pub fn decode_counter(bytes: &[u8]) -> Option<u64> {
    minicbor::decode(bytes).ok()
}

fn encode(value: &impl Encode<()>, out: &mut Vec<u8>) {
    if let Err(error) = minicbor::encode(value, out) {
        unreachable!("a vector takes every byte: {error}");
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StateOnDisk<'a> {
    #[b(0)]
    typename: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    value: &'a [u8],
    #[n(2)]
    expires_at_ms: Option<u64>,
    #[cbor(b(3), with = "minicbor::bytes")]
    unknown_fields: Option<&'a [u8]>,
}

fn unknown_on_disk(fields: &UnknownFields) -> Option<&[u8]> {
    Some(fields.bytes()).filter(|bytes| !bytes.is_empty())
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct AddressOnDisk<'a> {
    #[b(0)]
    function_type: &'a str,
    #[b(1)]
    id: &'a str,
}

impl<'a> From<&'a Address> for AddressOnDisk<'a> {
    fn from(address: &'a Address) -> Self {
        Self { function_type: address.function_type().as_str(), id: address.id() }
    }
}

impl AddressOnDisk<'_> {
    fn into_address(self) -> Option<Address> {
        Address::new(TypeName::parse(self.function_type).ok()?, self.id).ok()
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct HeaderOnDisk<'a> {
    #[b(0)]
    name: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    value: &'a [u8],
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct LetterOnDisk<'a> {
    #[b(0)]
    caller: Option<AddressOnDisk<'a>>,
    #[b(1)]
    typename: &'a str,
    #[cbor(b(2), with = "minicbor::bytes")]
    value: Option<&'a [u8]>,
    #[b(3)]
    headers: Option<Vec<HeaderOnDisk<'a>>>,
    #[cbor(b(4), with = "minicbor::bytes")]
    unknown_fields: Option<&'a [u8]>,
}

impl<'a> From<&'a Letter> for LetterOnDisk<'a> {
    fn from(letter: &'a Letter) -> Self {
        Self {
            caller: letter.caller.as_ref().map(AddressOnDisk::from),
            typename: &letter.argument.typename,
            value: letter.argument.value.as_deref(),
            headers: letter
                .headers
                .as_ref()
                .map(|headers| headers.iter().map(|(name, value)| HeaderOnDisk { name, value }).collect()),
            unknown_fields: unknown_on_disk(&letter.argument.unknown_fields),
        }
    }
}

impl LetterOnDisk<'_> {
    fn into_letter(self) -> Option<Letter> {
        let caller = match self.caller {
            Some(caller) => Some(caller.into_address()?),
            None => None,
        };
        let headers = self.headers.map(|on_disk| {
            let mut headers = Headers::new();
            for HeaderOnDisk { name, value } in on_disk {
                headers.push(name, value);
            }
            Arc::new(headers)
        });
        let argument = TypedValue {
            typename: self.typename.into(),
            value: self.value.map(Payload::copy_from),
            unknown_fields: UnknownFields::copy_from(self.unknown_fields.unwrap_or_default()),
        };
        Some(Letter { caller, argument, headers })
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct UnsentOnDisk<'a> {
    #[b(0)]
    target: AddressOnDisk<'a>,
    #[b(1)]
    letter: LetterOnDisk<'a>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct DelayedOnDisk<'a> {
    #[b(0)]
    target: AddressOnDisk<'a>,
    #[b(1)]
    letter: LetterOnDisk<'a>,
    #[b(2)]
    token: Option<&'a str>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct OperationOnDisk<'a> {
    #[b(0)]
    operation: &'a str,
    #[b(1)]
    letter: LetterOnDisk<'a>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct DeadLetterOnDisk<'a> {
    #[b(0)]
    letter: LetterOnDisk<'a>,
    #[b(1)]
    reason: &'a str,
    #[n(2)]
    attempts: u32,
    #[n(3)]
    at_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let mut headers = Headers::new();
        headers.push("topic", "fridge/7/temperature".as_bytes());
        Letter {
            caller: Some(Address::new(TypeName::from_static("a/b"), "7").unwrap()),
            argument: TypedValue {
                unknown_fields: UnknownFields::copy_from(b"\x22\x01x"),
                ..TypedValue::new("io.statefun.types/int", &[13_u8, 255, 255, 255, 255][..])
            },
            headers: Some(Arc::new(headers)),
        }
    }

    #[test]
    fn everything_comes_back() {
        let letter = letter();
        let target = Address::new(TypeName::from_static("c/d"), "").unwrap();
        let mut out = Vec::new();
        encode_letter(&letter, &mut out);
        assert_eq!(decode_letter(&out).unwrap(), letter);
        out.clear();
        encode_unsent(&target, &letter, &mut out);
        assert_eq!(decode_unsent(&out).unwrap(), (target.clone(), letter.clone()));
        out.clear();
        encode_delayed(&target, &letter, Some("t"), &mut out);
        assert_eq!(decode_delayed(&out).unwrap(), (target, letter.clone(), Some("t".into())));
        out.clear();
        let operation = TypeName::from_static("example/charge");
        encode_operation(&operation, &letter.argument, &mut out);
        assert_eq!(decode_operation(&out).unwrap(), (operation, letter.argument.clone()));
        out.clear();
        let dead = DeadLetter { letter, reason: "no".into(), attempts: 3, at_ms: 9 };
        encode_dead_letter(&dead, &mut out);
        assert_eq!(decode_dead_letter(&out).unwrap(), dead);
        out.clear();
        for unknown in [&b""[..], b"\x22\x01x"] {
            let state = StateValue {
                typename: "x/y".into(),
                value: Payload::EMPTY,
                expires_at_ms: Some(5),
                unknown_fields: UnknownFields::copy_from(unknown),
            };
            out.clear();
            encode_state(&state, &mut out);
            assert_eq!(decode_state(&out).unwrap(), state);
        }
    }

    #[test]
    fn an_absent_value_is_not_an_empty_one() {
        for value in [None, Some(Payload::EMPTY)] {
            let letter = Letter {
                caller: None,
                argument: TypedValue {
                    typename: "io.statefun.types/int".into(),
                    value,
                    ..Default::default()
                },
                headers: None,
            };
            let mut out = Vec::new();
            encode_letter(&letter, &mut out);
            assert_eq!(decode_letter(&out).unwrap(), letter);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_value_or_nothing(bytes: Vec<u8>) {
            let _ = (decode_letter(&bytes), decode_unsent(&bytes), decode_delayed(&bytes));
            let _ = decode_operation(&bytes);
            let _ = (decode_dead_letter(&bytes), decode_state(&bytes), decode_counter(&bytes));
        }
    }
}
