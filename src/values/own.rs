//! How does a type of one's own become a value? As JSON by serde or CBOR by minicbor, with one line that names it.

use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;
use crate::typed_value::{Value, ValueError};

/// A type that travels as JSON under a name of its own.
pub trait JsonType: Serialize + DeserializeOwned {
    /// The type name, `namespace/name`.
    const TYPENAME: &'static str;
}

/// A value as UTF-8 JSON: what every SDK can read, and a person too.
///
/// ```
/// use fogfun::typed_value::TypedValue;
/// use fogfun::values::{Json, JsonType};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Reading { celsius: f64 }
///
/// impl JsonType for Reading {
///     const TYPENAME: &'static str = "example/reading";
/// }
///
/// let value = TypedValue::of(&Json(Reading { celsius: 4.5 }));
/// assert_eq!(value.bytes(), br#"{"celsius":4.5}"#);
/// assert_eq!(value.get::<Json<Reading>>().unwrap().celsius, 4.5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Json<T>(pub T);

/// # Panics
/// `encode` panics if the type's `Serialize` says that it failed (a map whose keys are no strings is one cause). In an
/// invocation that is a failure of the function like any other: no effect, and contained.
impl<T: JsonType> Value for Json<T> {
    const TYPENAME: &'static str = T::TYPENAME;

    #[expect(clippy::panic, reason = "a Serialize that fails is a mistake in the program")]
    fn encode(&self) -> Payload {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Payload::from(bytes),
            Err(error) => panic!("a value of type `{}` cannot be JSON: {error}", T::TYPENAME),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| ValueError::malformed(T::TYPENAME, error))
    }
}

/// A type that travels as CBOR under a name of its own.
pub trait CborType: minicbor::Encode<()> + for<'bytes> minicbor::Decode<'bytes, ()> {
    /// The type name, `namespace/name`.
    const TYPENAME: &'static str;
}

/// A value as CBOR: small, and with numbered fields it may grow new ones while old state stays readable.
///
/// ```
/// use fogfun::typed_value::TypedValue;
/// use fogfun::values::{Cbor, CborType};
///
/// #[derive(minicbor::Encode, minicbor::Decode)]
/// struct Statistics {
///     #[n(0)] count: u64,
///     #[n(1)] sum: f64,
/// }
///
/// impl CborType for Statistics {
///     const TYPENAME: &'static str = "example/statistics";
/// }
///
/// let value = TypedValue::of(&Cbor(Statistics { count: 2, sum: 9.0 }));
/// assert_eq!(value.bytes().len(), 11);
/// assert_eq!(value.get::<Cbor<Statistics>>().unwrap().count, 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cbor<T>(pub T);

/// # Panics
/// `encode` panics if the type's `Encode` says that it failed; see [`Json`].
impl<T: CborType> Value for Cbor<T> {
    const TYPENAME: &'static str = T::TYPENAME;

    #[expect(clippy::panic, reason = "an Encode that fails is a mistake in the program")]
    fn encode(&self) -> Payload {
        match minicbor::to_vec(&self.0) {
            Ok(bytes) => Payload::from(bytes),
            Err(error) => panic!("a value of type `{}` cannot be CBOR: {error}", T::TYPENAME),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let value =
            decoder.decode().map_err(|error| ValueError::malformed(T::TYPENAME, error.to_string()))?;
        if decoder.position() < bytes.len() {
            return Err(ValueError::malformed(T::TYPENAME, "bytes follow the value"));
        }
        Ok(Self(value))
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Deref for Cbor<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Cbor<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, minicbor::Encode, minicbor::Decode)]
    struct Pair {
        #[n(0)]
        left: u32,
        #[n(1)]
        right: Option<String>,
    }

    impl JsonType for Pair {
        const TYPENAME: &'static str = "test/json";
    }

    impl CborType for Pair {
        const TYPENAME: &'static str = "test/cbor";
    }

    fn pair() -> Pair {
        Pair { left: 1, right: Some("x".repeat(100)) }
    }

    #[test]
    fn json_and_cbor_go_round() {
        assert_eq!(Json::<Pair>::decode(&Json(pair()).encode()).unwrap().0, pair());
        assert_eq!(Cbor::<Pair>::decode(&Cbor(pair()).encode()).unwrap().0, pair());
    }

    #[test]
    fn what_is_torn_or_followed_by_more_is_malformed() {
        let (json, cbor) = (Json(pair()).encode(), Cbor(pair()).encode());
        for bytes in [&json[..json.len() - 1], &[&json[..], b"0"].concat(), b""] {
            assert!(matches!(Json::<Pair>::decode(bytes), Err(ValueError::Malformed { .. })));
        }
        for bytes in [&cbor[..cbor.len() - 1], &[&cbor[..], b"0"].concat(), b""] {
            assert!(matches!(Cbor::<Pair>::decode(bytes), Err(ValueError::Malformed { .. })));
        }
    }
}
