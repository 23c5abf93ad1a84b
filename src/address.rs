//! Who is it? An [`Address`] names one logical function instance: a function type and an id, nothing physical.

use std::fmt;

use smol_str::SmolStr;

use crate::key_group::KeyGroup;
use crate::limits::{FUNCTION_TYPE_BYTES_MAX, ID_BYTES_MAX};

/// `namespace/name`: exactly one slash, both parts non-empty, at most [`FUNCTION_TYPE_BYTES_MAX`] bytes.
///
/// Names function types, ingresses, egresses and the kinds of `module.yaml` (StateFun's `TypeName`). Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeName(SmolStr);

impl TypeName {
    /// Parses `namespace/name`.
    ///
    /// # Errors
    /// Says what is wrong with the text: no slash, more than one, an empty part, too long.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if FUNCTION_TYPE_BYTES_MAX < text.len() {
            return Err(NameError::TooLong { name: text.into(), bytes_max: FUNCTION_TYPE_BYTES_MAX });
        }
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self(text.into()))
            }
            _ => Err(NameError::NotNamespaceSlashName { name: text.into() }),
        }
    }

    /// A name that the program itself spells; checked when the program is built if used in a `const`.
    ///
    /// # Panics
    /// If `text` is not `namespace/name`.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let (mut slashes, mut at) = (0, 0);
        while at < bytes.len() {
            if bytes[at] == b'/' {
                slashes += 1;
                assert!(0 < at && at + 1 < bytes.len(), "a type name has two non-empty parts");
            }
            at += 1;
        }
        assert!(slashes == 1 && bytes.len() <= FUNCTION_TYPE_BYTES_MAX, "a type name is `namespace/name`");
        Self(SmolStr::new_static(text))
    }

    /// The whole name, `namespace/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// What stands behind the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A function type and an id: one logical instance, with its own state, invoked one message at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    id: SmolStr,
    function_type: TypeName,
}

impl Address {
    /// The address of instance `id` of `function_type`.
    ///
    /// # Errors
    /// If the id is longer than [`ID_BYTES_MAX`] bytes. An empty id is legal, as in StateFun.
    pub fn new(function_type: TypeName, id: &str) -> Result<Self, NameError> {
        if ID_BYTES_MAX < id.len() {
            return Err(NameError::TooLong { name: id.into(), bytes_max: ID_BYTES_MAX });
        }
        Ok(Self { id: id.into(), function_type })
    }

    /// The function type.
    #[must_use]
    pub fn function_type(&self) -> &TypeName {
        &self.function_type
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key group, which the id alone decides.
    #[must_use]
    pub fn key_group(&self) -> KeyGroup {
        KeyGroup::of(&self.id)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function_type, self.id)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name that cannot be one. The caller's fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not exactly one slash with something on either side.
    #[error("`{name}` is not of the form `namespace/name`")]
    NotNamespaceSlashName {
        /// What was given.
        name: String,
    },
    /// Longer than a key of the store can hold.
    #[error("`{name}` is longer than {bytes_max} bytes")]
    TooLong {
        /// What was given.
        name: String,
        /// The bound in bytes.
        bytes_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_name_has_exactly_two_parts() {
        assert_eq!(TypeName::parse("example/fridge").unwrap().namespace(), "example");
        assert_eq!(TypeName::parse("example/fridge").unwrap().name(), "fridge");
        for bad in ["", "a", "/a", "a/", "a/b/c", "/"] {
            assert!(matches!(TypeName::parse(bad), Err(NameError::NotNamespaceSlashName { .. })), "{bad}");
        }
        assert!(matches!(TypeName::parse(&format!("a/{}", "b".repeat(200))), Err(NameError::TooLong { .. })));
    }

    #[test]
    fn an_empty_id_is_legal_and_an_endless_one_is_not() {
        let function_type = TypeName::from_static("a/b");
        assert_eq!(Address::new(function_type.clone(), "").unwrap().id(), "");
        assert!(Address::new(function_type, &"x".repeat(ID_BYTES_MAX + 1)).is_err());
    }
}
