//! How does a protobuf message lie in bytes? Read field by field in place, and written as proto3 wants it: without defaults.
//!
//! ```text
//! message   field, field, …                 in any order
//! field     tag (number << 3 | wire type), then 0 varint · 1 eight bytes · 2 length, bytes · 5 four bytes
//! ```
//! - Reading allocates nothing and recurses nowhere: a nested message is bytes, read by another [`Reader`].
//! - Every field is yielded, known or not, so that nobody drops one without knowing.
//! - What no SDK of ours has ever written is an error: groups (wire types 3 and 4), field number 0, a known field with another
//!   wire type than its own. Other parsers would skip the last, and an effect would be lost in silence.

use prost::encoding::{decode_varint, encode_key, encode_varint, encoded_len_varint, key_len};

use prost::encoding::WireType;

/// Walks over the fields of one message. After an error it ends.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over the fields of `message`.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let begin = self.rest;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(u32::MAX);
        if number == 0 || NUMBER_MAX < number {
            return Err(WireError::Number);
        }
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(self.array(number)?),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                FieldValue::Bytes(self.take(number, length)?)
            }
            5 => FieldValue::Fixed32(self.array(number)?),
            _ => return Err(WireError::Type { number }),
        };
        let (raw, _) = begin.split_at(begin.len() - self.rest.len());
        Ok(Field { number, value, raw })
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        decode_varint(&mut self.rest).map_err(|_| WireError::Varint)
    }

    fn array<const N: usize>(&mut self, number: u32) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated { number })?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, number: u32, length: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated { number })?;
        self.rest = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// One field, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Its number, from 1 on.
    pub number: u32,
    /// What it holds.
    pub value: FieldValue<'a>,
    /// All of it, tag included: what must be written to pass it on.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// As bytes or a nested message.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            FieldValue::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type { number: self.number }),
        }
    }

    /// As a string.
    ///
    /// # Errors
    /// If it has another wire type or is no UTF-8.
    pub fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Text { number: self.number })
    }

    /// As an integer or enum of varying length.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            FieldValue::Varint(number) => Ok(number),
            _ => Err(WireError::Type { number: self.number }),
        }
    }

    /// As an `int64`.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn int64(&self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    /// As a truth value.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn bool(&self) -> Result<bool, WireError> {
        self.varint().map(|number| number != 0)
    }
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldValue<'a> {
    /// A number of varying length.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// A string, bytes, or a nested message.
    Bytes(&'a [u8]),
}

/// Bytes that are no message. Their writer's fault; nothing was changed, and reading them again helps nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A varint ends early or has more than 64 bits.
    #[error("a number is cut off or has more than 64 bits")]
    Varint,
    /// A field has a number that no field has.
    #[error("a field has an impossible number")]
    Number,
    /// A field is longer than what is left of its message.
    #[error("field {number} is longer than its message")]
    Truncated {
        /// Which field.
        number: u32,
    },
    /// A group, an unknown wire type, or not the one that this field has.
    #[error("field {number} has a wire type that it cannot have")]
    Type {
        /// Which field.
        number: u32,
    },
    /// A string is no UTF-8.
    #[error("field {number} is no UTF-8")]
    Text {
        /// Which field.
        number: u32,
    },
}

/// Appends a string or bytes, unless empty.
pub fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_length(number, bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

/// Bytes that [`put_bytes`] appends.
#[must_use]
pub fn bytes_length(number: u32, bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { message_length(number, bytes.len()) }
}

/// Appends a truth value, unless false.
pub fn put_bool(number: u32, value: bool, out: &mut Vec<u8>) {
    if value {
        encode_key(number, WireType::Varint, out);
        out.push(1);
    }
}

/// Bytes that [`put_bool`] appends.
#[must_use]
pub fn bool_length(number: u32, value: bool) -> usize {
    if value { key_len(number) + 1 } else { 0 }
}

/// Appends what stands before a nested message (also an empty one) of `length` bytes.
pub fn put_length(number: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Bytes of a nested message of `length` bytes with what [`put_length`] puts before it.
#[must_use]
pub fn message_length(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

/// The greatest number that a field may have.
const NUMBER_MAX: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
        Reader::new(bytes).collect()
    }

    #[test]
    fn every_kind_of_field_is_read() {
        let bytes = [0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 0x06, 1, b'x', 0x25, 1, 2, 3, 4];
        let fields = read(&bytes).unwrap();
        let found: Vec<_> = fields.iter().map(|field| (field.number, field.value)).collect();
        assert_eq!(
            found,
            [
                (1, FieldValue::Varint(150)),
                (2, FieldValue::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
                (100, FieldValue::Bytes(b"x")),
                (4, FieldValue::Fixed32([1, 2, 3, 4])),
            ]
        );
        assert_eq!(fields.iter().flat_map(|field| field.raw).copied().collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn what_is_no_message_is_told() {
        for (bytes, error) in [
            (&[0x80][..], WireError::Varint),
            (&[0x08], WireError::Varint),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], WireError::Varint),
            (&[0x00, 0x01], WireError::Number),
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0x01], WireError::Number),
            (&[0x09, 1, 2, 3, 4, 5, 6, 7], WireError::Truncated { number: 1 }),
            (&[0x15, 1, 2, 3], WireError::Truncated { number: 2 }),
            (&[0x1a, 2, 1], WireError::Truncated { number: 3 }),
            (
                &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                WireError::Truncated { number: 3 },
            ),
            (&[0x0b, 0x0c], WireError::Type { number: 1 }),
            (&[0x0e], WireError::Type { number: 1 }),
        ] {
            assert_eq!(read(bytes).unwrap_err(), error, "{bytes:x?}");
        }
        let field = read(&[0x0a, 1, 0xff]).unwrap()[0];
        assert_eq!(field.text().unwrap_err(), WireError::Text { number: 1 });
        assert_eq!(field.varint().unwrap_err(), WireError::Type { number: 1 });
    }

    #[test]
    fn negative_integers_take_ten_bytes() {
        let minus_one = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&minus_one).unwrap()[0].int64().unwrap(), -1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_fields_or_an_error(bytes: Vec<u8>) {
            if let Ok(fields) = read(&bytes) {
                prop_assert_eq!(fields.iter().flat_map(|field| field.raw).copied().collect::<Vec<_>>(), bytes);
            }
        }

        #[test]
        fn lengths_are_those_of_what_is_written(number in 1_u32..=NUMBER_MAX, bytes: Vec<u8>, truth: bool) {
            let mut out = Vec::new();
            put_bytes(number, &bytes, &mut out);
            prop_assert_eq!(out.len(), bytes_length(number, &bytes));
            let written = read(&out).unwrap();
            prop_assert_eq!(written.first().map_or(&[][..], |field| field.bytes().unwrap()), &bytes[..]);
            out.clear();
            put_bool(number, truth, &mut out);
            prop_assert_eq!(out.len(), bool_length(number, truth));
        }
    }
}
