//! How do the StateFun built-ins lie in bytes? Each as a protobuf message with one field, number 1.

use crate::payload::Payload;
use crate::typed_value::{TypedValue, Value, ValueError};

// Field 1 with each wire type: `1 << 3 | wire type`.
const TAG_VARINT: u8 = 0x08;
const TAG_FIXED64: u8 = 0x09;
const TAG_BYTES: u8 = 0x0a;
const TAG_FIXED32: u8 = 0x0d;

/// Longest string whose wrapper fits into a payload without an allocation; its length takes one byte.
const SHORT_STRING_BYTES_MAX: usize = 36;

impl Value for bool {
    const TYPENAME: &'static str = "io.statefun.types/bool";

    fn encode(&self) -> Payload {
        if *self { Payload::copy_from(&[TAG_VARINT, 1]) } else { Payload::EMPTY }
    }

    fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        match bytes {
            [] => Ok(false),
            [TAG_VARINT, 1] => Ok(true),
            _ => foreign::<BooleanWrapper>(Self::TYPENAME, bytes).map(|wrapper| wrapper.value),
        }
    }
}

/// A number of fixed width: nothing if all its bits are zero, else its tag and its bytes, little-endian.
macro_rules! fixed {
    ($number:ty, $typename:literal, $tag:ident, $width:literal, $wrapper:ident) => {
        impl Value for $number {
            const TYPENAME: &'static str = $typename;

            fn encode(&self) -> Payload {
                let number: [u8; $width] = self.to_le_bytes();
                if number == [0; $width] {
                    return Payload::EMPTY;
                }
                let mut bytes = [$tag; $width + 1];
                bytes[1..].copy_from_slice(&number);
                Payload::copy_from(&bytes)
            }

            fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
                match bytes {
                    [] => Ok(Self::from_le_bytes([0; $width])),
                    [$tag, number @ ..] if number.len() == $width => {
                        let mut bytes = [0; $width];
                        bytes.copy_from_slice(number);
                        Ok(Self::from_le_bytes(bytes))
                    }
                    _ => foreign::<$wrapper>(Self::TYPENAME, bytes).map(|wrapper| wrapper.value),
                }
            }
        }
    };
}

fixed!(i32, "io.statefun.types/int", TAG_FIXED32, 4, IntWrapper);
fixed!(i64, "io.statefun.types/long", TAG_FIXED64, 8, LongWrapper);
fixed!(f32, "io.statefun.types/float", TAG_FIXED32, 4, FloatWrapper);
fixed!(f64, "io.statefun.types/double", TAG_FIXED64, 8, DoubleWrapper);

impl Value for String {
    const TYPENAME: &'static str = "io.statefun.types/string";

    fn encode(&self) -> Payload {
        encode_string(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        foreign::<StringWrapper>(Self::TYPENAME, bytes).map(|wrapper| wrapper.value)
    }
}

/// `text` as an `io.statefun.types/string`, without making a `String` of it.
#[must_use]
pub fn string(text: &str) -> TypedValue {
    TypedValue::new(smol_str::SmolStr::new_static(String::TYPENAME), encode_string(text))
}

fn encode_string(text: &str) -> Payload {
    if text.is_empty() {
        return Payload::EMPTY;
    }
    if let Ok(length) = u8::try_from(text.len())
        && text.len() <= SHORT_STRING_BYTES_MAX
    {
        let mut bytes = [0; SHORT_STRING_BYTES_MAX + 2];
        bytes[..2].copy_from_slice(&[TAG_BYTES, length]);
        bytes[2..2 + text.len()].copy_from_slice(text.as_bytes());
        return Payload::copy_from(&bytes[..2 + text.len()]);
    }
    let mut bytes = Vec::with_capacity(1 + prost::length_delimiter_len(text.len()) + text.len());
    bytes.push(TAG_BYTES);
    prost::encoding::encode_varint(text.len() as u64, &mut bytes);
    bytes.extend_from_slice(text.as_bytes());
    Payload::from(bytes)
}

/// Reads what is not as we would write it: any proto3 encoding.
fn foreign<M: prost::Message + Default>(typename: &'static str, bytes: &[u8]) -> Result<M, ValueError> {
    M::decode(bytes).map_err(|error| ValueError::malformed(typename, error))
}

#[derive(Clone, PartialEq, prost::Message)]
struct BooleanWrapper {
    #[prost(bool, tag = "1")]
    value: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IntWrapper {
    #[prost(sfixed32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LongWrapper {
    #[prost(sfixed64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FloatWrapper {
    #[prost(float, tag = "1")]
    value: f32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DoubleWrapper {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StringWrapper {
    #[prost(string, tag = "1")]
    value: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn protobuf(message: &impl prost::Message) -> Vec<u8> {
        message.encode_to_vec()
    }

    fn golden<T: Value + PartialEq + std::fmt::Debug>(value: T, bytes: &[u8]) {
        assert_eq!(&*value.encode(), bytes, "{value:?}");
        assert_eq!(T::decode(bytes).unwrap(), value);
    }

    #[test]
    fn bytes_are_those_of_statefun() {
        golden(true, &[0x08, 0x01]);
        golden(false, &[]);
        golden(-1_i32, &[0x0d, 0xff, 0xff, 0xff, 0xff]);
        golden(0_i32, &[]);
        golden(7_i64, &[0x09, 7, 0, 0, 0, 0, 0, 0, 0]);
        golden(0_i64, &[]);
        golden(1.5_f32, &[0x0d, 0x00, 0x00, 0xc0, 0x3f]);
        golden(0.0_f32, &[]);
        golden(1.5_f64, &[0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
        golden(0.0_f64, &[]);
        golden("hi".to_owned(), &[0x0a, 0x02, 0x68, 0x69]);
        golden(String::new(), &[]);
    }

    #[test]
    fn negative_zero_is_not_zero() {
        // Java compares the bits: -0.0 is not the default.
        assert_eq!(&*(-0.0_f32).encode(), &[0x0d, 0, 0, 0, 0x80]);
        assert!(f32::decode(&[0x0d, 0, 0, 0, 0x80]).unwrap().is_sign_negative());
        assert!(f64::decode(&(-0.0_f64).encode()).unwrap().is_sign_negative());
    }

    #[test]
    fn any_proto3_encoding_is_read() {
        // An explicit default, a field given twice, an unknown field (number 4, as forks add).
        assert!(!bool::decode(&[0x08, 0x00]).unwrap());
        assert_eq!(i32::decode(&[0x0d, 1, 0, 0, 0, 0x0d, 2, 0, 0, 0]).unwrap(), 2);
        assert_eq!(i32::decode(&[0x22, 1, 0x7a, 0x0d, 2, 0, 0, 0]).unwrap(), 2);
        assert_eq!(String::decode(&[0x0a, 1, b'a', 0x0a, 1, b'b']).unwrap(), "b");
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [&[0x0d][..], &[0x0d, 1, 2, 3], &[0xff], &[0x08, 0x01]] {
            assert!(matches!(i32::decode(bytes), Err(ValueError::Malformed { .. })), "{bytes:?}");
        }
        assert!(String::decode(&[0x0a, 0x05, b'a']).is_err());
        assert!(String::decode(&[0x0a, 0x01, 0xff]).is_err());
        assert!(bool::decode(&[0x08]).is_err());
    }

    proptest! {
        #[test]
        fn our_bytes_are_protobufs(boolean: bool, int: i32, long: i64, float: f32, double: f64, text in ".{0,200}") {
            prop_assert_eq!(&*boolean.encode(), protobuf(&BooleanWrapper { value: boolean }));
            prop_assert_eq!(&*int.encode(), protobuf(&IntWrapper { value: int }));
            prop_assert_eq!(&*long.encode(), protobuf(&LongWrapper { value: long }));
            prop_assert_eq!(&*text.encode(), protobuf(&StringWrapper { value: text.clone() }));
            // prost takes -0.0 for the default, which StateFun does not.
            if float != 0.0 {
                prop_assert_eq!(&*float.encode(), protobuf(&FloatWrapper { value: float }));
            }
            if double != 0.0 {
                prop_assert_eq!(&*double.encode(), protobuf(&DoubleWrapper { value: double }));
            }
        }

        #[test]
        fn what_is_written_is_read(int: i32, long: i64, float: f32, double: f64, text in ".{0,200}") {
            prop_assert_eq!(i32::decode(&int.encode()).unwrap(), int);
            prop_assert_eq!(i64::decode(&long.encode()).unwrap(), long);
            prop_assert_eq!(f32::decode(&float.encode()).unwrap().to_bits(), float.to_bits());
            prop_assert_eq!(f64::decode(&double.encode()).unwrap().to_bits(), double.to_bits());
            prop_assert_eq!(String::decode(&text.encode()).unwrap(), text);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
            let _ = (bool::decode(&bytes), i32::decode(&bytes), i64::decode(&bytes));
            let _ = (f32::decode(&bytes), f64::decode(&bytes), String::decode(&bytes));
        }
    }
}
