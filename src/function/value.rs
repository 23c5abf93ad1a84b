//! How does a function remember one thing per id?

use std::marker::PhantomData;

use smol_str::SmolStr;

use crate::function::effects::{Change, StateValue};
use crate::function::{Context, Expiration, FunctionError};
use crate::limits::STATE_NAME_BYTES_MAX;
use crate::payload::Payload;
use crate::typed_value::{Value, ValueError, check_typename};

/// One value per id. It holds a name and an expiration only; the value is read and written through the [`Context`].
///
/// Absent and zero are different: a value never written, cleared or expired is `None`.
///
/// ```
/// use fogfun::function::{Expiration, PersistedValue};
/// use std::time::Duration;
///
/// let count = PersistedValue::<i64>::new("count");
/// let alarm = PersistedValue::<String>::with_expiration("alarm", Expiration::AfterWrite(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct PersistedValue<T> {
    name: SmolStr,
    expiration: Expiration,
    holds: PhantomData<fn() -> T>,
}

impl<T: Value> PersistedValue<T> {
    /// The state of this name, without expiration. Once used, name and type stay: other functions of the type read it.
    ///
    /// # Panics
    /// If the name is empty or longer than 64 bytes; when the program is built, if used in a `const`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::with_expiration(name, Expiration::None)
    }

    /// The state of this name, with an expiration.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn with_expiration(name: &'static str, expiration: Expiration) -> Self {
        Self { name: state_name(name), expiration, holds: PhantomData }
    }

    /// The value, or `None` if there is none.
    ///
    /// # Errors
    /// If the stored value is of another type or malformed, or the base cannot be read.
    pub fn get(&self, context: &mut Context<'_>) -> Result<Option<T>, FunctionError> {
        context.read(&self.name, &Payload::EMPTY, self.expiration, decode)
    }

    /// The value, or the type's default if there is none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_or_default(&self, context: &mut Context<'_>) -> Result<T, FunctionError>
    where
        T: Default,
    {
        Ok(self.get(context)?.unwrap_or_default())
    }

    /// Sets the value.
    ///
    /// # Errors
    /// If it is longer than 256 KiB.
    pub fn set(&self, context: &mut Context<'_>, value: T) -> Result<(), FunctionError> {
        self.put(context, &value)
    }

    /// Sets the value to what `change` makes of it, and returns it.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`set`](Self::set).
    pub fn update(
        &self,
        context: &mut Context<'_>,
        change: impl FnOnce(Option<T>) -> T,
    ) -> Result<T, FunctionError> {
        let value = change(self.get(context)?);
        self.put(context, &value)?;
        Ok(value)
    }

    /// Removes the value.
    ///
    /// # Errors
    /// If the invocation's effects become too many.
    pub fn clear(&self, context: &mut Context<'_>) -> Result<(), FunctionError> {
        let subkey = Payload::EMPTY;
        context.stage(&self.name, Change::Delete { subkey })
    }

    fn put(&self, context: &mut Context<'_>, value: &T) -> Result<(), FunctionError> {
        context.put(&self.name, Payload::EMPTY, self.expiration, T::TYPENAME, value.encode())
    }
}

/// A state's value as a `T`.
pub(crate) fn decode<T: Value>(value: &StateValue) -> Result<T, ValueError> {
    check_typename::<T>(&value.typename)?;
    T::decode(&value.value)
}

/// A name that keys of the store can hold.
pub(crate) const fn state_name(name: &'static str) -> SmolStr {
    assert!(!name.is_empty() && name.len() <= STATE_NAME_BYTES_MAX, "a state's name has 1 to 64 bytes");
    SmolStr::new_static(name)
}

const _: () = assert!(STATE_NAME_BYTES_MAX == 64, "said in the documentation above");
