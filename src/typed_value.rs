//! What is said? Bytes with the name of their type; the engine never looks inside.

use smol_str::SmolStr;

use crate::payload::Payload;

/// StateFun's `TypedValue`: a type name and, unless absent, bytes.
///
/// Present-but-empty is not absent: the StateFun built-ins encode 0, `false` and `""` as no bytes at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypedValue {
    /// The type, usually `namespace/name`; StateFun does not check its form and neither do we.
    pub typename: SmolStr,
    /// The bytes; `None` is StateFun's `has_value = false`.
    pub value: Option<Payload>,
}

impl TypedValue {
    /// A present value.
    #[must_use]
    pub fn new(typename: impl Into<SmolStr>, value: impl Into<Payload>) -> Self {
        Self {
            typename: typename.into(),
            value: Some(value.into()),
        }
    }

    /// The bytes; none if the value is absent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }
}
