//! How does a function remember a growing list per id, without rewriting it?

use std::marker::PhantomData;

use smol_str::SmolStr;

use crate::function::effects::Change;
use crate::function::value::{decode, state_name};
use crate::function::{Context, Expiration, FunctionError};
use crate::payload::Payload;
use crate::typed_value::{Value, ValueError};

/// A list per id that grows at its end. Appending writes the new elements only; each expires by itself.
///
/// ```
/// use fogfun::function::PersistedAppendingBuffer;
///
/// let readings = PersistedAppendingBuffer::<f64>::new("readings");
/// ```
#[derive(Clone, Debug)]
pub struct PersistedAppendingBuffer<T> {
    name: SmolStr,
    expiration: Expiration,
    holds: PhantomData<fn() -> T>,
}

impl<T: Value> PersistedAppendingBuffer<T> {
    /// The buffer of this name, without expiration.
    ///
    /// # Panics
    /// If the name is empty or longer than 64 bytes; when the program is built, if used in a `const`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::with_expiration(name, Expiration::None)
    }

    /// The buffer of this name, with an expiration for each of its elements.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn with_expiration(name: &'static str, expiration: Expiration) -> Self {
        Self { name: state_name(name), expiration, holds: PhantomData }
    }

    /// Appends one element.
    ///
    /// # Errors
    /// If it is longer than 256 KiB, or the base cannot be read.
    pub fn append(&self, context: &mut Context<'_>, element: T) -> Result<(), FunctionError> {
        self.append_all(context, [element])
    }

    /// Appends elements in order.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_all(
        &self,
        context: &mut Context<'_>,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<(), FunctionError> {
        let first = match context.last_subkey(&self.name)? {
            Some(last) => element_number(&last)?.saturating_add(1),
            None => 0,
        };
        self.put_from(context, first, elements)
    }

    /// Replaces all elements by these.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn replace_with(
        &self,
        context: &mut Context<'_>,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<(), FunctionError> {
        self.clear(context)?;
        self.put_from(context, 0, elements)
    }

    /// The elements, oldest first.
    ///
    /// # Errors
    /// If an element is of another type or malformed, or the base cannot be read.
    pub fn view(&self, context: &mut Context<'_>) -> Result<Vec<T>, FunctionError> {
        let elements = context.read_all(&self.name, self.expiration)?;
        elements.values().map(|element| decode(element).map_err(|error| self.named(error))).collect()
    }

    /// Removes all elements.
    ///
    /// # Errors
    /// If the invocation's effects become too many.
    pub fn clear(&self, context: &mut Context<'_>) -> Result<(), FunctionError> {
        context.stage(&self.name, Change::Clear)
    }

    fn put_from(
        &self,
        context: &mut Context<'_>,
        first: u64,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<(), FunctionError> {
        for (number, element) in (first..).zip(elements) {
            let subkey = Payload::copy_from(&number.to_be_bytes());
            context.put(&self.name, subkey, self.expiration, T::TYPENAME, element.encode())?;
        }
        Ok(())
    }

    fn named(&self, error: ValueError) -> FunctionError {
        FunctionError::caused_by(format!("state `{}`", self.name), error)
    }
}

fn element_number(subkey: &Payload) -> Result<u64, FunctionError> {
    let bytes = <[u8; 8]>::try_from(&**subkey)
        .map_err(|error| FunctionError::caused_by("a state that is no appending buffer", error))?;
    Ok(u64::from_be_bytes(bytes))
}
