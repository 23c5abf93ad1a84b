//! Which states does a function in another process have? What it declared itself, since the start, per function type.
//!
//! A request names the states that are known; a function that misses one declares it instead of answering. Nothing of this is
//! stored: after a start the first request names none, and everything is learnt again. So a type's expiration and the types of
//! its states may change with a new version of the function, from the next start on.
//!
//! - A declaration stands as long as the process: declaring again changes nothing, also not the expiration; declaring with another
//!   type is an error.
//! - In order of names, so that a request is the same bytes whichever order the declarations came in.
//!
//! Source: StateFun's `PersistedRemoteFunctionValues`.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use crate::function::Expiration;
use crate::limits::{STATE_NAME_BYTES_MAX, STATES_PER_FUNCTION_TYPE_MAX};

use super::protobuf::{Reader, WireError};
use super::value::clipped;

/// The states that one function type declared.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Specs {
    by_name: BTreeMap<SmolStr, Spec>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Its name.
    pub name: SmolStr,
    /// The type of its values; [`UNSET`] takes any.
    pub typename: SmolStr,
    /// How long they live.
    pub expiration: Expiration,
}

impl Specs {
    /// Takes up what a function declares; all of it or, after an error, nothing. Returns how many were new.
    ///
    /// None new means that the function asked for what was known already. If it was known when the request was *made* — if
    /// [`len`](Self::len) has not grown since — asking again would go on for ever.
    ///
    /// # Errors
    /// If one has another type than before, or there are too many.
    pub fn register(&mut self, declared: Vec<Spec>) -> Result<usize, SpecError> {
        let mut new = BTreeMap::new();
        for spec in declared {
            match self.by_name.get(&spec.name).or_else(|| new.get(&spec.name)) {
                Some(known) if known.typename != spec.typename => {
                    return Err(SpecError::OtherType {
                        name: spec.name,
                        declared: known.typename.clone(),
                        found: clipped(&spec.typename),
                    });
                }
                Some(_) => {}
                None => {
                    new.insert(spec.name.clone(), spec);
                }
            }
        }
        if STATES_PER_FUNCTION_TYPE_MAX < self.by_name.len() + new.len() {
            return Err(SpecError::TooMany);
        }
        let count = new.len();
        self.by_name.append(&mut new);
        Ok(count)
    }

    /// The state of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Spec> {
        self.by_name.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Spec> {
        self.by_name.values()
    }

    /// How many. Never decreases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// None?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl Spec {
    /// Reads a `PersistedValueSpec`: 1 state_name · 2 expiration_spec (1 mode, 2 expire_after_millis) · 3 type_typename.
    ///
    /// # Errors
    /// If the bytes are none, the name is empty or too long, or the expiration is unknown, zero or negative (at which StateFun
    /// fails too).
    pub fn decode(message: &[u8]) -> Result<Self, SpecError> {
        let (mut name, mut typename) = ("", "");
        let (mut mode, mut after_ms) = (0, 0);
        for field in Reader::new(message) {
            let field = field?;
            match field.number {
                1 => name = field.text()?,
                2 => {
                    for field in Reader::new(field.bytes()?) {
                        let field = field?;
                        match field.number {
                            1 => mode = field.varint()?,
                            2 => after_ms = field.int64()?,
                            _ => {}
                        }
                    }
                }
                3 => typename = field.text()?,
                _ => {}
            }
        }
        if name.is_empty() || STATE_NAME_BYTES_MAX < name.len() {
            return Err(SpecError::Name { name: clipped(name) });
        }
        if TYPENAME_BYTES_MAX < typename.len() {
            return Err(SpecError::TypeName { name: name.into() });
        }
        let life = u64::try_from(after_ms).ok().filter(|&ms| 0 < ms).map(Duration::from_millis);
        let expiration = match (mode, life) {
            (0, _) => Expiration::None,
            (1, Some(life)) => Expiration::AfterWrite(life),
            (2, Some(life)) => Expiration::AfterCall(life),
            (1 | 2, None) => return Err(SpecError::Life { name: name.into(), after_ms }),
            _ => return Err(SpecError::Mode { name: name.into(), mode }),
        };
        let typename = if typename.is_empty() { SmolStr::new_static(UNSET) } else { typename.into() };
        Ok(Self { name: name.into(), typename, expiration })
    }

    /// May a value of this type be put?
    #[must_use]
    pub fn takes(&self, typename: &str) -> bool {
        self.typename == UNSET || self.typename == typename
    }
}

/// A declaration that cannot stand. The function's fault; nothing was declared, and asking again helps only once the function is
/// another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The bytes are no declaration.
    #[error("a declaration of a state is malformed")]
    Malformed(#[from] WireError),
    /// A state without a name, or with one that no key can hold.
    #[error("`{name}` is no name of a state: 1 to {STATE_NAME_BYTES_MAX} bytes")]
    Name {
        /// What was declared.
        name: String,
    },
    /// The name of the type is too long.
    #[error("the type name of state `{name}` is longer than {TYPENAME_BYTES_MAX} bytes")]
    TypeName {
        /// The state.
        name: SmolStr,
    },
    /// A state that is known with another type.
    #[error(
        "state `{name}` was declared with type `{declared}` and now with `{found}`; restart the node to change it"
    )]
    OtherType {
        /// The state.
        name: SmolStr,
        /// Its type.
        declared: SmolStr,
        /// What is declared now.
        found: String,
    },
    /// An expiration that is none.
    #[error("state `{name}` cannot expire after {after_ms} ms")]
    Life {
        /// The state.
        name: SmolStr,
        /// What was declared.
        after_ms: i64,
    },
    /// An expiration of a kind that this version does not know.
    #[error("state `{name}` has the unknown expiration mode {mode}")]
    Mode {
        /// The state.
        name: SmolStr,
        /// What was declared.
        mode: u64,
    },
    /// More states than one function type may have.
    #[error("more than {STATES_PER_FUNCTION_TYPE_MAX} states of one function type")]
    TooMany,
}

/// StateFun's name for the type of a state that was declared without one.
pub const UNSET: &str = "io.statefun.types/unset";

/// Longest type name of a state, in bytes: it is kept per worker and repeated in every request.
const TYPENAME_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, typename: &str, expiration: Expiration) -> Spec {
        Spec { name: name.into(), typename: typename.into(), expiration }
    }

    #[test]
    fn a_declaration_stands() {
        let mut specs = Specs::default();
        let first = spec("seen", "a/b", Expiration::AfterWrite(Duration::from_secs(1)));
        assert_eq!(specs.register(vec![first.clone(), spec("x", UNSET, Expiration::None)]).unwrap(), 2);
        assert_eq!(specs.register(vec![spec("seen", "a/b", Expiration::None)]).unwrap(), 0);
        assert_eq!(specs.get("seen"), Some(&first));
        let before = specs.clone();
        let wrong = vec![spec("new", "a/b", Expiration::None), spec("seen", "a/c", Expiration::None)];
        let error = specs.register(wrong).unwrap_err().to_string();
        assert!(error.contains("seen") && error.contains("a/b") && error.contains("a/c"), "{error}");
        assert_eq!(specs, before);
        let twice = vec![spec("new", "a/b", Expiration::None), spec("new", "a/c", Expiration::None)];
        assert!(matches!(specs.register(twice), Err(SpecError::OtherType { .. })));
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["seen", "x"]);
    }

    #[test]
    fn there_is_an_end_to_declaring() {
        let mut specs = Specs::default();
        let many = |prefix: &str, count| -> Vec<_> {
            (0..count).map(|number| spec(&format!("{prefix}{number}"), UNSET, Expiration::None)).collect()
        };
        specs.register(many("a", STATES_PER_FUNCTION_TYPE_MAX)).unwrap();
        assert_eq!(specs.register(many("b", 1)), Err(SpecError::TooMany));
        assert_eq!(specs.len(), STATES_PER_FUNCTION_TYPE_MAX);
    }

    #[test]
    fn expirations_are_read_as_statefun_reads_them() {
        let millis = |mode: u8, after: &[u8]| {
            let mut bytes = vec![0x0a, 1, b's', 0x12];
            bytes.push(u8::try_from(2 + after.len()).unwrap());
            bytes.extend([0x08, mode]);
            bytes.extend(after);
            Spec::decode(&bytes).map(|spec| spec.expiration)
        };
        let second = &[0x10, 0xe8, 0x07][..];
        let minus_one = &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..];
        assert_eq!(millis(0, second), Ok(Expiration::None));
        assert_eq!(millis(1, second), Ok(Expiration::AfterWrite(Duration::from_secs(1))));
        assert_eq!(millis(2, second), Ok(Expiration::AfterCall(Duration::from_secs(1))));
        assert_eq!(millis(1, &[]), Err(SpecError::Life { name: "s".into(), after_ms: 0 }));
        assert_eq!(millis(2, minus_one), Err(SpecError::Life { name: "s".into(), after_ms: -1 }));
        assert_eq!(millis(3, second), Err(SpecError::Mode { name: "s".into(), mode: 3 }));
        assert_eq!(Spec::decode(&[0x0a, 1, b's']).unwrap(), spec("s", UNSET, Expiration::None));
        assert!(spec("s", UNSET, Expiration::None).takes("any/thing"));
        assert!(!spec("s", "a/b", Expiration::None).takes("any/thing"));
    }

    #[test]
    fn a_state_has_a_name_that_a_key_can_hold() {
        let named = |name: &str| {
            let mut bytes = vec![0x0a, u8::try_from(name.len()).unwrap()];
            bytes.extend(name.as_bytes());
            Spec::decode(&bytes)
        };
        assert!(matches!(Spec::decode(&[]), Err(SpecError::Name { .. })));
        assert!(named(&"s".repeat(STATE_NAME_BYTES_MAX)).is_ok());
        assert!(matches!(named(&"s".repeat(STATE_NAME_BYTES_MAX + 1)), Err(SpecError::Name { .. })));
    }
}
