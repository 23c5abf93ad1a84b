//! Why did an invocation fail? A text for a person and, if there is one, the error behind it.

use std::error::Error;
use std::fmt;

use crate::address::NameError;
use crate::store::BaseError;
use crate::typed_value::ValueError;

/// The failure of an invocation or of a router. It has no effect; the runtime repeats the invocation a bounded number of times,
/// then its message is a dead letter.
///
/// Made from any text, from the errors of this library, and from a boxed error; `Display` is the whole sentence, and
/// [`source`](Error::source) the error behind it.
///
/// ```
/// use fogfun::function::FunctionError;
///
/// fn parse(text: &str) -> Result<u32, FunctionError> {
///     if text.is_empty() {
///         return Err("no number".into());
///     }
///     text.parse().map_err(|error| FunctionError::caused_by(format!("`{text}`"), error))
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "`x`: invalid digit found in string");
/// ```
pub struct FunctionError(Box<Inner>);

struct Inner {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl FunctionError {
    /// A failure that this text explains; lower case, no full stop.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Box::new(Inner { text: text.into(), source: None }))
    }

    /// A failure of what `text` names, caused by `source`.
    #[must_use]
    pub fn caused_by(text: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        let mut text = text.into();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&source.to_string());
        Self(Box::new(Inner { text, source: Some(source) }))
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionError").field("text", &self.0.text).field("source", &self.0.source).finish()
    }
}

impl Error for FunctionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<&str> for FunctionError {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for FunctionError {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Box<dyn Error + Send + Sync>> for FunctionError {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::caused_by("", error)
    }
}

impl From<ValueError> for FunctionError {
    fn from(error: ValueError) -> Self {
        Self::caused_by("", error)
    }
}

impl From<BaseError> for FunctionError {
    fn from(error: BaseError) -> Self {
        Self::caused_by("", error)
    }
}

impl From<NameError> for FunctionError {
    fn from(error: NameError) -> Self {
        Self::caused_by("", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_behind_is_kept() {
        let error = FunctionError::from(BaseError::Failed("no disk".into()));
        assert_eq!(error.to_string(), "the base failed: no disk");
        assert!(error.source().unwrap().downcast_ref::<BaseError>().is_some());
        assert!(FunctionError::from("text").source().is_none());
    }
}
