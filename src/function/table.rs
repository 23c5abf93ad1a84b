//! How does a function remember a map per id, entry by entry?

use std::borrow::Borrow;
use std::marker::PhantomData;

use smol_str::SmolStr;

use crate::function::effects::Change;
use crate::function::value::{decode, state_name};
use crate::function::{Context, Expiration, FunctionError};
use crate::payload::Payload;
use crate::typed_value::{Value, ValueError};

/// A map per id. Getting and setting one entry touches that entry only; each expires by itself.
///
/// Entries come in the order of their keys' bytes, which for the key types here is the order of the keys.
///
/// ```
/// use fogfun::function::{Context, FunctionError, PersistedTable};
///
/// fn vote(votes: &PersistedTable<String, i64>, context: &mut Context<'_>) -> Result<(), FunctionError> {
///     let count = votes.get(context, "yes")?.unwrap_or(0);
///     votes.set(context, "yes", count + 1)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PersistedTable<K, V> {
    name: SmolStr,
    expiration: Expiration,
    holds: PhantomData<fn() -> (K, V)>,
}

impl<K: TableKey, V: Value> PersistedTable<K, V> {
    /// The table of this name, without expiration.
    ///
    /// # Panics
    /// If the name is empty or longer than 64 bytes; when the program is built, if used in a `const`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::with_expiration(name, Expiration::None)
    }

    /// The table of this name, with an expiration for each of its entries.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn with_expiration(name: &'static str, expiration: Expiration) -> Self {
        Self { name: state_name(name), expiration, holds: PhantomData }
    }

    /// The value of `key`, or `None` if there is none.
    ///
    /// # Errors
    /// If the stored value is of another type or malformed, or the base cannot be read.
    pub fn get<Q>(&self, context: &mut Context<'_>, key: &Q) -> Result<Option<V>, FunctionError>
    where
        K: Borrow<Q>,
        Q: Subkey + ?Sized,
    {
        context.read(&self.name, &key.encode_subkey(), self.expiration, decode)
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// If the key's encoding is longer than 128 bytes or the value's longer than 256 KiB.
    pub fn set<Q>(&self, context: &mut Context<'_>, key: &Q, value: V) -> Result<(), FunctionError>
    where
        K: Borrow<Q>,
        Q: Subkey + ?Sized,
    {
        context.put(&self.name, key.encode_subkey(), self.expiration, V::TYPENAME, value.encode())
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// If the invocation's effects become too many.
    pub fn remove<Q>(&self, context: &mut Context<'_>, key: &Q) -> Result<(), FunctionError>
    where
        K: Borrow<Q>,
        Q: Subkey + ?Sized,
    {
        let subkey = key.encode_subkey();
        context.stage(&self.name, Change::Delete { subkey })
    }

    /// All keys, in order. Reads the whole table, and counts as a read of every entry.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn keys(&self, context: &mut Context<'_>) -> Result<Vec<K>, FunctionError> {
        let entries = context.read_all(&self.name, self.expiration)?;
        entries.keys().map(|key| K::decode_subkey(key).map_err(|error| self.named(error))).collect()
    }

    /// All values, in the order of their keys. Reads the whole table, and counts as a read of every entry.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn values(&self, context: &mut Context<'_>) -> Result<Vec<V>, FunctionError> {
        let entries = context.read_all(&self.name, self.expiration)?;
        entries.values().map(|value| decode(value).map_err(|error| self.named(error))).collect()
    }

    /// All entries, in the order of their keys. Reads the whole table, and counts as a read of every entry.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn entries(&self, context: &mut Context<'_>) -> Result<Vec<(K, V)>, FunctionError> {
        let entries = context.read_all(&self.name, self.expiration)?;
        let entry = |(key, value): (&Payload, _)| Ok((K::decode_subkey(key)?, decode(value)?));
        entries.iter().map(|pair| entry(pair).map_err(|error| self.named(error))).collect()
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// If the invocation's effects become too many.
    pub fn clear(&self, context: &mut Context<'_>) -> Result<(), FunctionError> {
        context.stage(&self.name, Change::Clear)
    }

    fn named(&self, error: ValueError) -> FunctionError {
        FunctionError::caused_by(format!("state `{}`", self.name), error)
    }
}

/// What can look up an entry of a table. Equal keys give equal bytes, and keys sort as their bytes do.
pub trait Subkey {
    /// The key's bytes, at most 128.
    fn encode_subkey(&self) -> Payload;
}

/// What can be the key of a table: numbers, `bool`, `String`, `Vec<u8>`, and types of one's own.
pub trait TableKey: Subkey + Sized {
    /// The key of these bytes.
    ///
    /// # Errors
    /// If they are no key of this type.
    fn decode_subkey(bytes: &[u8]) -> Result<Self, ValueError>;
}

impl Subkey for str {
    fn encode_subkey(&self) -> Payload {
        Payload::copy_from(self.as_bytes())
    }
}

impl Subkey for String {
    fn encode_subkey(&self) -> Payload {
        self.as_str().encode_subkey()
    }
}

impl TableKey for String {
    fn decode_subkey(bytes: &[u8]) -> Result<Self, ValueError> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| ValueError::malformed("table key, text", error))?;
        Ok(text.to_owned())
    }
}

impl Subkey for [u8] {
    fn encode_subkey(&self) -> Payload {
        Payload::copy_from(self)
    }
}

impl Subkey for Vec<u8> {
    fn encode_subkey(&self) -> Payload {
        self.as_slice().encode_subkey()
    }
}

impl TableKey for Vec<u8> {
    fn decode_subkey(bytes: &[u8]) -> Result<Self, ValueError> {
        Ok(bytes.to_vec())
    }
}

impl Subkey for bool {
    fn encode_subkey(&self) -> Payload {
        u8::from(*self).encode_subkey()
    }
}

impl TableKey for bool {
    fn decode_subkey(bytes: &[u8]) -> Result<Self, ValueError> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(ValueError::malformed("table key, bool", "neither 00 nor 01")),
        }
    }
}

/// Big-endian, with the sign turned round where there is one, so that bytes sort as the numbers do.
macro_rules! number {
    ($($number:ident flips $flip:expr;)*) => {$(
        impl Subkey for $number {
            fn encode_subkey(&self) -> Payload {
                Payload::copy_from(&(*self ^ $flip).to_be_bytes())
            }
        }

        impl TableKey for $number {
            fn decode_subkey(bytes: &[u8]) -> Result<Self, ValueError> {
                let bytes = bytes
                    .try_into()
                    .map_err(|error| ValueError::malformed(concat!("table key, ", stringify!($number)), error))?;
                Ok($number::from_be_bytes(bytes) ^ $flip)
            }
        }
    )*};
}

number! {
    u8 flips 0;
    u16 flips 0;
    u32 flips 0;
    u64 flips 0;
    i32 flips i32::MIN;
    i64 flips i64::MIN;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<K: TableKey + Ord + Clone + std::fmt::Debug>(left: &K, right: &K) {
        let (left_bytes, right_bytes) = (left.encode_subkey(), right.encode_subkey());
        assert_eq!(K::decode_subkey(&left_bytes).unwrap(), left.clone());
        assert_eq!(left_bytes.cmp(&right_bytes), left.cmp(right));
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_bytes(
            numbers: (u32, u32), signed: (i64, i64), small: (i32, i32), text: (String, String), flags: (bool, bool),
        ) {
            check(&numbers.0, &numbers.1);
            check(&signed.0, &signed.1);
            check(&small.0, &small.1);
            check(&text.0, &text.1);
            check(&flags.0, &flags.1);
        }
    }
}
