//! What do StateFun's built-in values look like as bytes? Protobuf messages of one field, number 1.
//!
//! | type name | field | example |
//! |---|---|---|
//! | `io.statefun.types/bool` | bool | `true` = `08 01` |
//! | `io.statefun.types/int` | sfixed32 | `-1` = `0d ff ff ff ff` |
//! | `io.statefun.types/long` | sfixed64 | `7` = `09 07 00 00 00 00 00 00 00` |
//! | `io.statefun.types/float` | float | `1.5` = `0d 00 00 c0 3f` |
//! | `io.statefun.types/double` | double | `1.5` = `09 00 00 00 00 00 00 f8 3f` |
//! | `io.statefun.types/string` | string | `hi` = `0a 02 68 69` |
//!
//! Written canonically, since the Java SDK reads the first byte by hand: a default value is no bytes at all, nothing else is
//! added. Read strictly too: an unknown or repeated field is an error.

use std::fmt;

/// A value of a built-in type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Builtin<'a> {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(&'a str),
}

impl<'a> Builtin<'a> {
    /// Reads a value; `None` if the type is no built-in, `Some(Err(_))` if the bytes are not of that type.
    pub(crate) fn decode(typename: &str, bytes: &'a [u8]) -> Option<Result<Self, NotOfItsType>> {
        let value = match typename {
            BOOL => match bytes {
                [] | [8, 0] => Some(Self::Bool(false)),
                [8, 1] => Some(Self::Bool(true)),
                _ => None,
            },
            INT => fixed(bytes, FIXED32).map(|bytes| Self::Int(i32::from_le_bytes(bytes))),
            LONG => fixed(bytes, FIXED64).map(|bytes| Self::Long(i64::from_le_bytes(bytes))),
            FLOAT => fixed(bytes, FIXED32).map(|bytes| Self::Float(f32::from_le_bytes(bytes))),
            DOUBLE => fixed(bytes, FIXED64).map(|bytes| Self::Double(f64::from_le_bytes(bytes))),
            STRING => text(bytes).map(Self::Text),
            _ => return None,
        };
        Some(value.ok_or(NotOfItsType))
    }

    /// The type's name.
    pub(crate) fn typename(&self) -> &'static str {
        match self {
            Self::Bool(_) => BOOL,
            Self::Int(_) => INT,
            Self::Long(_) => LONG,
            Self::Float(_) => FLOAT,
            Self::Double(_) => DOUBLE,
            Self::Text(_) => STRING,
        }
    }

    /// The canonical bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Bool(false) | Self::Int(0) | Self::Long(0) | Self::Text("") => Vec::new(),
            Self::Bool(true) => vec![8, 1],
            Self::Int(value) => tagged(FIXED32, &value.to_le_bytes()),
            Self::Long(value) => tagged(FIXED64, &value.to_le_bytes()),
            // Minus zero is not the default: its bits are not all zero.
            Self::Float(value) if value.to_bits() == 0 => Vec::new(),
            Self::Double(value) if value.to_bits() == 0 => Vec::new(),
            Self::Float(value) => tagged(FIXED32, &value.to_le_bytes()),
            Self::Double(value) => tagged(FIXED64, &value.to_le_bytes()),
            Self::Text(value) => {
                let mut bytes = Vec::with_capacity(value.len() + 4);
                bytes.push(LENGTH_DELIMITED);
                prost::encoding::encode_varint(value.len() as u64, &mut bytes);
                bytes.extend_from_slice(value.as_bytes());
                bytes
            }
        }
    }
}

/// Plain text: `true`, `-7`, `21.5`, `1e300`, `hi`. Numbers that are neither tiny nor huge have no exponent.
impl fmt::Display for Builtin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Long(value) => write!(f, "{value}"),
            Self::Float(value) if is_plain(f64::from(value)) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:e}"),
            Self::Double(value) if is_plain(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:e}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// The bytes are not a message of the type that their name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotOfItsType;

fn is_plain(value: f64) -> bool {
    let size = value.abs();
    size == 0.0 || !value.is_finite() || (1e-6..1e21).contains(&size)
}

fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + value.len());
    bytes.push(tag);
    bytes.extend_from_slice(value);
    bytes
}

fn fixed<const LENGTH: usize>(bytes: &[u8], tag: u8) -> Option<[u8; LENGTH]> {
    match bytes.split_first() {
        None => Some([0; LENGTH]),
        Some((first, rest)) if *first == tag => rest.try_into().ok(),
        Some(_) => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return Some("");
    };
    if first != LENGTH_DELIMITED {
        return None;
    }
    let length = prost::encoding::decode_varint(&mut rest).ok()?;
    (length == rest.len() as u64).then_some(())?;
    std::str::from_utf8(rest).ok()
}

pub(crate) const BOOL: &str = "io.statefun.types/bool";
pub(crate) const INT: &str = "io.statefun.types/int";
pub(crate) const LONG: &str = "io.statefun.types/long";
pub(crate) const FLOAT: &str = "io.statefun.types/float";
pub(crate) const DOUBLE: &str = "io.statefun.types/double";
pub(crate) const STRING: &str = "io.statefun.types/string";

/// The tag of field 1 with each wire type.
const FIXED64: u8 = 0x09;
const LENGTH_DELIMITED: u8 = 0x0a;
const FIXED32: u8 = 0x0d;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_ins_have_statefuns_bytes() {
        let cases: [(Builtin<'_>, &[u8], &str); 13] = [
            (Builtin::Bool(true), &[8, 1], "true"),
            (Builtin::Bool(false), &[], "false"),
            (Builtin::Int(-1), &[0x0d, 255, 255, 255, 255], "-1"),
            (Builtin::Int(0), &[], "0"),
            (Builtin::Long(7), &[9, 7, 0, 0, 0, 0, 0, 0, 0], "7"),
            (Builtin::Float(1.5), &[0x0d, 0, 0, 0xc0, 0x3f], "1.5"),
            (Builtin::Float(0.0), &[], "0"),
            (Builtin::Double(1.5), &[9, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f], "1.5"),
            (Builtin::Double(-0.0), &[9, 0, 0, 0, 0, 0, 0, 0, 0x80], "-0"),
            (Builtin::Text("hi"), &[0x0a, 2, 0x68, 0x69], "hi"),
            (Builtin::Text(""), &[], ""),
            (Builtin::Double(21.0), &[9, 0, 0, 0, 0, 0, 0, 0x35, 0x40], "21"),
            (Builtin::Long(0), &[], "0"),
        ];
        for (value, bytes, text) in cases {
            assert_eq!(value.to_string(), text);
            assert_eq!(value.encode(), bytes, "{value}");
            assert_eq!(Builtin::decode(value.typename(), &value.encode()), Some(Ok(value)));
        }
        assert_eq!(Builtin::Double(1e21).to_string(), "1e21");
        assert_eq!(Builtin::Float(0.1).to_string(), "0.1");
        let long = "x".repeat(300);
        assert_eq!(Builtin::Text(&long).encode()[..3], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn other_bytes_are_refused_and_other_types_are_none() {
        for (typename, bytes) in [
            (BOOL, &[8u8, 2][..]),
            (INT, &[0x0d, 1, 2, 3]),
            (INT, &[9, 0, 0, 0, 0, 0, 0, 0, 0]),
            (DOUBLE, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (STRING, &[0x0a, 3, 0x68, 0x69]),
            (STRING, &[0x0a, 1, 0xff]),
            (STRING, &[0x0a]),
            (STRING, b"hi"),
        ] {
            assert_eq!(Builtin::decode(typename, bytes), Some(Err(NotOfItsType)), "{typename} {bytes:?}");
        }
        assert_eq!(Builtin::decode("example/other", &[]), None);
    }
}
