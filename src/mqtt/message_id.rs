//! By what does a consumer know a record again? A short text, given once: data directory, key group and arrival number.
//!
//! It lies in place, so that a record on its way out costs no allocation for it.

use std::fmt;

use crate::key_group::KeyGroup;

/// The id of a record on its way out; at most [`MessageId::BYTES_MAX`] bytes of text. Empty is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    length: u8,
    bytes: [u8; Self::BYTES_MAX],
}

impl MessageId {
    /// Two numbers of 16 digits, a group of 2, two hyphens.
    pub const BYTES_MAX: usize = 36;

    /// No id.
    pub const NONE: Self = Self { length: 0, bytes: [0; Self::BYTES_MAX] };

    /// Data directory, group and arrival number, as `{:016x}-{:02x}-{:x}` writes them.
    #[must_use]
    pub fn new(identity: u64, group: KeyGroup, arrival: u64) -> Self {
        let mut id = Self::NONE;
        id.push_hexadecimal(identity, 16);
        id.push(b'-');
        id.push_hexadecimal(u64::from(group.number()), 2);
        id.push(b'-');
        id.push_hexadecimal(arrival, 1);
        id
    }

    /// An id as the store knows it; `None` if the text is longer than any that was given.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut id = Self::NONE;
        id.bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        id.length = u8::try_from(text.len()).ok()?;
        Some(id)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = std::str::from_utf8(&self.bytes[..usize::from(self.length)]);
        debug_assert!(text.is_ok(), "made of text or of digits");
        text.unwrap_or_default()
    }

    fn push_hexadecimal(&mut self, number: u64, digits_min: u32) {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(digits_min);
        for place in (0..digits).rev() {
            self.push(DIGITS[(number >> (4 * place) & 15) as usize]);
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

const DIGITS: [u8; 16] = *b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_what_format_writes() {
        for (identity, arrival) in [(0, 0), (1, 1), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 0x10_0000)]
        {
            for group in KeyGroup::all() {
                let expected = format!("{identity:016x}-{:02x}-{arrival:x}", group.number());
                let id = MessageId::new(identity, group, arrival);
                assert_eq!(id.as_str(), expected);
                assert_eq!(MessageId::from_text(&expected), Some(id));
            }
        }
    }

    #[test]
    fn a_text_that_nobody_gave_is_none() {
        assert_eq!(MessageId::from_text(""), Some(MessageId::NONE));
        assert_eq!(MessageId::from_text(&"x".repeat(MessageId::BYTES_MAX + 1)), None);
    }
}
