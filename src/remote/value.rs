//! What do a value and an address look like on StateFun's wire? `TypedValue` and `Address`, both ways.
//!
//! ```text
//! Address      1 namespace · 2 type · 3 id
//! TypedValue   1 typename · 2 has_value · 3 value · others: kept as they came, written back behind the known ones
//! ```
//! As protobuf has it, of a field given twice the last counts, and a nested message given in parts is all of them. What is
//! written is canonical: ascending, no defaults.
//!
//! Bytes are copied out of a body, never shared with it: a counter that outlives a reply must not hold all of the reply.

use smol_str::SmolStrBuilder;

use crate::address::{Address, NameError, TypeName};
use crate::limits::{FUNCTION_TYPE_BYTES_MAX, ID_BYTES_MAX};
use crate::payload::Payload;
use crate::state::value::StateValue;
use crate::typed_value::{TypedValue, UnknownFields};

use super::protobuf::{Reader, WireError, bool_length, bytes_length, put_bool, put_bytes};

/// A `TypedValue` in place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WireValue<'a> {
    /// The name of its type.
    pub typename: &'a str,
    /// Is there a value? Says nothing about `value`, which has no bytes for 0, `false` and `""`.
    pub has_value: bool,
    /// Its bytes.
    pub value: &'a [u8],
    /// Everything else.
    pub unknown_fields: Vec<u8>,
}

impl<'a> WireValue<'a> {
    /// Takes in a `TypedValue` message, or a further part of one.
    ///
    /// # Errors
    /// If the bytes are none. Parts of them may have been taken in.
    pub fn merge(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => self.typename = field.text()?,
                2 => self.has_value = field.bool()?,
                3 => self.value = field.bytes()?,
                _ => self.unknown_fields.extend_from_slice(field.raw),
            }
        }
        Ok(())
    }

    /// What it says to a function or an egress. Bytes that come without `has_value` are not there: so the SDKs read them.
    #[must_use]
    pub fn to_typed_value(&self) -> TypedValue {
        TypedValue {
            typename: self.typename.into(),
            value: self.has_value.then(|| Payload::copy_from(self.value)),
            unknown_fields: UnknownFields::copy_from(&self.unknown_fields),
        }
    }

    /// What it says to a state, where `has_value` says nothing.
    #[must_use]
    pub fn to_state_value(&self, expires_at_ms: Option<u64>) -> StateValue {
        StateValue {
            typename: self.typename.into(),
            value: Payload::copy_from(self.value),
            expires_at_ms,
            unknown_fields: UnknownFields::copy_from(&self.unknown_fields),
        }
    }
}

/// A `TypedValue` that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct ValueToWrite<'a> {
    typename: &'a str,
    value: Option<&'a [u8]>,
    unknown_fields: &'a UnknownFields,
}

impl<'a> From<&'a TypedValue> for ValueToWrite<'a> {
    fn from(value: &'a TypedValue) -> Self {
        Self {
            typename: &value.typename,
            value: value.value.as_deref(),
            unknown_fields: &value.unknown_fields,
        }
    }
}

impl<'a> From<&'a StateValue> for ValueToWrite<'a> {
    fn from(state: &'a StateValue) -> Self {
        Self { typename: &state.typename, value: Some(&state.value), unknown_fields: &state.unknown_fields }
    }
}

impl ValueToWrite<'_> {
    /// Bytes that [`put`](Self::put) appends.
    #[must_use]
    pub fn length(&self) -> usize {
        bytes_length(1, self.typename.as_bytes())
            + bool_length(2, self.value.is_some())
            + bytes_length(3, self.value.unwrap_or_default())
            + self.unknown_fields.bytes().len()
    }

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_bytes(1, self.typename.as_bytes(), out);
        put_bool(2, self.value.is_some(), out);
        put_bytes(3, self.value.unwrap_or_default(), out);
        out.extend_from_slice(self.unknown_fields.bytes());
    }
}

/// An `Address`, or the two halves of an egress's name, in place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WireAddress<'a> {
    /// The namespace of the type.
    pub namespace: &'a str,
    /// The name of the type.
    pub name: &'a str,
    /// The id.
    pub id: &'a str,
}

impl<'a> WireAddress<'a> {
    /// Takes in an `Address` message, or a further part of one.
    ///
    /// # Errors
    /// If the bytes are none. Parts of them may have been taken in.
    pub fn merge(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => self.namespace = field.text()?,
                2 => self.name = field.text()?,
                3 => self.id = field.text()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The address.
    ///
    /// # Errors
    /// As [`type_name`](Self::type_name), and an id that is too long.
    pub fn to_address(self) -> Result<Address, NameError> {
        if ID_BYTES_MAX < self.id.len() {
            return Err(NameError::TooLong { name: clipped(self.id), bytes_max: ID_BYTES_MAX });
        }
        Address::new(self.type_name()?, self.id)
    }

    /// The type.
    ///
    /// # Errors
    /// If it is missing, too long, or has a slash within.
    pub fn type_name(self) -> Result<TypeName, NameError> {
        let Self { namespace, name, .. } = self;
        if FUNCTION_TYPE_BYTES_MAX < namespace.len() + 1 + name.len() {
            let name = format!("{}/{}", clipped(namespace), clipped(name));
            return Err(NameError::TooLong { name, bytes_max: FUNCTION_TYPE_BYTES_MAX });
        }
        // Without an allocation if it is as short as most are.
        let mut text = SmolStrBuilder::new();
        for part in [namespace, "/", name] {
            text.push_str(part);
        }
        TypeName::parse(&text.finish())
    }

    /// For a sentence, whatever it is.
    #[must_use]
    pub fn to_text(self) -> String {
        format!("{}/{}/{}", clipped(self.namespace), clipped(self.name), clipped(self.id))
    }
}

/// Bytes that [`put_address`] appends.
#[must_use]
pub fn address_length(address: &Address) -> usize {
    let function_type = address.function_type();
    bytes_length(1, function_type.namespace().as_bytes())
        + bytes_length(2, function_type.name().as_bytes())
        + bytes_length(3, address.id().as_bytes())
}

/// Appends an `Address` message.
pub fn put_address(address: &Address, out: &mut Vec<u8>) {
    let function_type = address.function_type();
    put_bytes(1, function_type.namespace().as_bytes(), out);
    put_bytes(2, function_type.name().as_bytes(), out);
    put_bytes(3, address.id().as_bytes(), out);
}

/// A name from outside, short enough for a sentence.
#[must_use]
pub fn clipped(name: &str) -> String {
    match name.char_indices().nth(CLIPPED_CHARS) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// Characters of a name from outside that an error repeats.
const CLIPPED_CHARS: usize = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &TypedValue) -> Vec<u8> {
        let value = ValueToWrite::from(value);
        let mut out = Vec::new();
        value.put(&mut out);
        assert_eq!(out.len(), value.length());
        out
    }

    fn read(bytes: &[u8]) -> TypedValue {
        let mut value = WireValue::default();
        value.merge(bytes).unwrap();
        value.to_typed_value()
    }

    #[test]
    fn absent_present_but_empty_and_zero_lie_apart() {
        let absent = TypedValue { typename: "a/b".into(), ..TypedValue::default() };
        assert_eq!(written(&absent), b"\x0a\x03a/b");
        assert_eq!(written(&TypedValue::new("a/b", Payload::EMPTY)), b"\x0a\x03a/b\x10\x01");
        assert_eq!(written(&TypedValue::new("a/b", &b"x"[..])), b"\x0a\x03a/b\x10\x01\x1a\x01x");
        assert_eq!(written(&TypedValue::default()), b"");
    }

    #[test]
    fn of_a_field_given_twice_the_last_counts_and_unknown_ones_keep_their_order() {
        let value = read(b"\x22\x01p\x0a\x01a\x10\x00\x1a\x01x\x28\x07\x0a\x03a/b\x1a\x01y\x10\x01\x22\x01q");
        assert_eq!((value.typename.as_str(), value.bytes()), ("a/b", &b"y"[..]));
        assert_eq!(value.unknown_fields.bytes(), b"\x22\x01p\x28\x07\x22\x01q");
        assert_eq!(written(&value), b"\x0a\x03a/b\x10\x01\x1a\x01y\x22\x01p\x28\x07\x22\x01q");
    }

    #[test]
    fn an_endless_name_makes_a_short_sentence() {
        let long = "é".repeat(10_000);
        let ids = WireAddress { namespace: "a", name: "b", id: &long };
        assert!(ids.to_address().unwrap_err().to_string().len() < 500);
        let types = WireAddress { namespace: &long, name: &long, id: "" };
        assert!(types.to_address().unwrap_err().to_string().len() < 500);
        assert!(WireAddress::default().to_address().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            typename in ".{0,40}",
            bytes: Option<Vec<u8>>,
            unknown in proptest::collection::vec((4_u32..1000, any::<Vec<u8>>()), 0..4),
        ) {
            let mut fields = Vec::new();
            for (number, bytes) in &unknown {
                put_bytes(*number, bytes, &mut fields);
            }
            let value = TypedValue {
                typename: typename.into(),
                value: bytes.map(Payload::from),
                unknown_fields: UnknownFields::copy_from(&fields),
            };
            prop_assert_eq!(read(&written(&value)), value);
        }

        #[test]
        fn addresses_come_back(name in "[a-z.]{1,20}", id in ".{0,30}") {
            let function_type = TypeName::parse(&format!("ns.x/{name}")).unwrap();
            let address = Address::new(function_type, &id).unwrap();
            let mut out = Vec::new();
            put_address(&address, &mut out);
            prop_assert_eq!(out.len(), address_length(&address));
            let mut read = WireAddress::default();
            read.merge(&out).unwrap();
            prop_assert_eq!(read.to_address().unwrap(), address);
        }
    }
}
