//! What is said? Bytes with the name of their type; the engine never looks inside.
//!
//! A function author does, through [`Value`]: a Rust type with a type name and an encoding. The StateFun built-ins, JSON and
//! CBOR are in [`values`](crate::values).

use std::error::Error;

use smol_str::SmolStr;

use crate::payload::Payload;

/// StateFun's `TypedValue`: a type name and, unless absent, bytes.
///
/// Present-but-empty is not absent: the StateFun built-ins encode 0, `false` and `""` as no bytes at all.
///
/// ```
/// use fogfun::typed_value::{TypedValue, ValueError};
///
/// let value = TypedValue::of(&7_i64);
/// assert!(value.is::<i64>());
/// assert_eq!(value.get::<i64>().unwrap(), 7);
/// assert!(matches!(value.get::<String>(), Err(ValueError::OtherType { .. })));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypedValue {
    /// The type, usually `namespace/name`; StateFun does not check its form and neither do we.
    pub typename: SmolStr,
    /// The bytes; `None` is StateFun's `has_value = false`.
    pub value: Option<Payload>,
    /// What else a remote function said about it: passed on as it came.
    pub unknown_fields: UnknownFields,
}

/// Fields of StateFun's `TypedValue` message that this version does not know, as they stood on the wire, tags included. They
/// travel and rest with the value, so a remote function gets back what another (or an earlier itself) put there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnknownFields(Option<std::sync::Arc<Vec<u8>>>);

impl UnknownFields {
    /// None.
    pub const NONE: Self = Self(None);

    /// These, one behind the other.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| std::sync::Arc::new(bytes.to_vec())))
    }

    /// The bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// What they cost beside themselves, in bytes of heap (shared ones count in full at each holder).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes().len()
    }
}

impl TypedValue {
    /// A present value.
    #[must_use]
    pub fn new(typename: impl Into<SmolStr>, value: impl Into<Payload>) -> Self {
        Self { typename: typename.into(), value: Some(value.into()), ..Self::default() }
    }

    /// A value of a Rust type. Allocates only if the encoding is longer than a [`Payload`] holds in place.
    #[must_use]
    pub fn of<T: Value>(value: &T) -> Self {
        Self {
            typename: SmolStr::new_static(T::TYPENAME),
            value: Some(value.encode()),
            unknown_fields: UnknownFields::NONE,
        }
    }

    /// Does it say that it is a `T`? An absent value says so too.
    #[must_use]
    pub fn is<T: Value>(&self) -> bool {
        self.typename == T::TYPENAME
    }

    /// The value as a Rust type.
    ///
    /// # Errors
    /// Tells apart: the value is of another type, it is absent, its bytes are not an encoding of a `T`.
    pub fn get<T: Value>(&self) -> Result<T, ValueError> {
        check_typename::<T>(&self.typename)?;
        match &self.value {
            Some(bytes) => T::decode(bytes),
            None => Err(ValueError::Absent { expected: T::TYPENAME }),
        }
    }

    /// The bytes; none if the value is absent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// What bytes, unknown fields and a long type name cost beside the value itself, in bytes of heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        typename_heap_bytes(&self.typename)
            + self.value.as_ref().map_or(0, Payload::heap_bytes)
            + self.unknown_fields.heap_bytes()
    }
}

/// What the name of a type costs beside itself: nothing if short, or spelt by the program.
pub(crate) fn typename_heap_bytes(typename: &SmolStr) -> usize {
    if typename.is_heap_allocated() { typename.len() } else { 0 }
}

/// So that `context.send(target, 7_i64)` works, with any type of one's own too.
impl<T: Value> From<T> for TypedValue {
    fn from(value: T) -> Self {
        Self::of(&value)
    }
}

impl From<&str> for TypedValue {
    fn from(text: &str) -> Self {
        crate::values::string(text)
    }
}

/// A Rust type that has a type name and an encoding: what a message, a record or a state can hold.
///
/// ```
/// use fogfun::payload::Payload;
/// use fogfun::typed_value::{Value, ValueError};
///
/// /// Hundredths of a degree.
/// struct Temperature(i16);
///
/// impl Value for Temperature {
///     const TYPENAME: &'static str = "example/temperature";
///
///     fn encode(&self) -> Payload {
///         Payload::copy_from(&self.0.to_le_bytes())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
///         let bytes = bytes.try_into().map_err(|error| ValueError::malformed(Self::TYPENAME, error))?;
///         let bytes: &[u8; 2] = bytes;
///         Ok(Self(i16::from_le_bytes(*bytes)))
///     }
/// }
/// ```
pub trait Value: Sized {
    /// The name under which others know the type, `namespace/name`. It is stored with every value: once used, it stays.
    const TYPENAME: &'static str;

    /// The bytes. A value has one encoding; equal values give equal bytes wherever that can be had.
    fn encode(&self) -> Payload;

    /// The value of these bytes, which may come from anywhere.
    ///
    /// # Errors
    /// [`ValueError::Malformed`] if they are no encoding of this type.
    fn decode(bytes: &[u8]) -> Result<Self, ValueError>;
}

pub(crate) fn check_typename<T: Value>(found: &SmolStr) -> Result<(), ValueError> {
    if found == T::TYPENAME {
        return Ok(());
    }
    Err(ValueError::OtherType { expected: T::TYPENAME, found: found.clone() })
}

/// A value that is not what was expected. The fault of who wrote it or of who reads it; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The type is right, but there is no value (StateFun's `has_value = false`).
    #[error("expected a value of type `{expected}`, found it absent")]
    Absent {
        /// The type that was asked for.
        expected: &'static str,
    },
    /// The value is of another type. Reading it as that type would succeed.
    #[error("expected a value of type `{expected}`, found one of type `{found}`")]
    OtherType {
        /// The type that was asked for.
        expected: &'static str,
        /// The type that it says it has.
        found: SmolStr,
    },
    /// The bytes are no encoding of the type that they claim.
    #[error("malformed value of type `{typename}`: {source}")]
    Malformed {
        /// The type.
        typename: &'static str,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ValueError {
    /// For a [`Value::decode`]: these bytes are no encoding of `typename`. `what` is a text or an error.
    #[must_use]
    pub fn malformed(typename: &'static str, what: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Malformed { typename, source: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_mistyped_and_malformed_are_told_apart() {
        let absent = TypedValue { typename: i64::TYPENAME.into(), ..TypedValue::default() };
        assert!(absent.is::<i64>());
        assert!(matches!(absent.get::<i64>(), Err(ValueError::Absent { .. })));
        assert_eq!(TypedValue::new(i64::TYPENAME, Payload::EMPTY).get::<i64>().unwrap(), 0);
        assert!(matches!(
            TypedValue::from(1_i32).get::<i64>(),
            Err(ValueError::OtherType { expected: i64::TYPENAME, found }) if found == i32::TYPENAME
        ));
        assert!(matches!(
            TypedValue::new(i64::TYPENAME, &[0xff][..]).get::<i64>(),
            Err(ValueError::Malformed { typename: i64::TYPENAME, .. })
        ));
    }

    #[test]
    fn text_is_a_statefun_string() {
        assert_eq!(TypedValue::from("hi"), TypedValue::of(&"hi".to_owned()));
    }
}
