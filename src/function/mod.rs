//! What does a user write? Stateful functions: how they are invoked, what they may do, and what comes of it.
//!
//! ```text
//! message ─→ StatefulFunction::invoke(context, message) ─→ Effects ─→ (applied together, or not at all)
//!                    │ reads                   ▲ writes
//!                    └── PersistedValue, PersistedTable, PersistedAppendingBuffer
//! ```
//! - One invocation per address at a time; a function object serves all ids of its type on one worker, so what belongs to an id
//!   lives in persisted state, never in the object's fields.
//! - An invocation touches nothing: what it does is collected as [`Effects`](effects::Effects).
//! - It sees its own writes, and no one else's before it ends.
//! - An invocation that returns an error or panics has no effect. It is repeated, and in the end its message is a dead letter.
//! - Code may run more than once for one message; its effects count once. What reaches beyond the effects is not protected.
//!
//! The guide is `docs/functions.md`. After StateFun's `sdk-embedded` (`StatefulFunction`, `Context`, `Persisted*`).

pub mod buffer;
pub mod context;
pub mod effects;
pub mod error;
pub mod expiration;
pub mod operation;
pub mod table;
pub mod value;

pub use buffer::PersistedAppendingBuffer;
pub use context::{Context, Directory};
pub use error::FunctionError;
pub use expiration::Expiration;
pub use operation::{AsyncOperation, OperationOutcome, OperationResult};
pub use table::{PersistedTable, Subkey, TableKey};
pub use value::PersistedValue;

use crate::typed_value::TypedValue;

/// What handles the messages of one function type.
///
/// Made by its provider once per worker, and used on that worker's thread only. A closure is one too.
///
/// ```
/// use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
/// use fogfun::typed_value::TypedValue;
///
/// struct Greeter {
///     seen: PersistedValue<i64>,
/// }
///
/// impl StatefulFunction for Greeter {
///     fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
///         let name: String = message.get()?;
///         let seen = self.seen.update(context, |seen| seen.unwrap_or(0) + 1)?;
///         context.reply(format!("Hello {name}, for the {seen}. time"))
///     }
/// }
/// ```
pub trait StatefulFunction {
    /// Handles one message to `context.self_address()`.
    ///
    /// # Errors
    /// Whatever keeps it from being handled. Then the invocation has no effect and will be repeated.
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError>;
}

impl<F> StatefulFunction for F
where
    F: FnMut(&mut Context<'_>, &TypedValue) -> Result<(), FunctionError>,
{
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        self(context, message)
    }
}

#[cfg(doctest)]
#[doc = include_str!("../../docs/functions.md")]
struct Guide;

#[cfg(test)]
mod tests;
