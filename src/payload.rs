//! Where do the bytes of a value lie? Short ones in place, long ones shared: sending a counter allocates nothing, and
//! fanning out a picture copies nothing.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// Bytes of a value. Equal bytes are equal payloads, wherever they lie.
#[derive(Clone)]
pub struct Payload(Place);

#[derive(Clone)]
enum Place {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Shared(Bytes),
}

/// What fits beside a length and a tag without making a payload larger than a shared one with its tag (40 bytes).
const INLINE_BYTES_MAX: usize = 38;

impl Payload {
    /// No bytes.
    pub const EMPTY: Self = Self(Place::Inline { length: 0, bytes: [0; INLINE_BYTES_MAX] });

    /// A copy of `bytes`; allocates only beyond 38 bytes.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        if INLINE_BYTES_MAX < bytes.len() {
            return Self(Place::Shared(Bytes::copy_from_slice(bytes)));
        }
        let mut inline = [0; INLINE_BYTES_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "at most 38")]
        Self(Place::Inline { length: bytes.len() as u8, bytes: inline })
    }

    /// The same bytes as [`Bytes`]; copies short ones.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Place::Inline { .. } => Bytes::copy_from_slice(self),
            Place::Shared(bytes) => bytes.clone(),
        }
    }

    /// What these bytes cost beside the payload itself, in bytes of heap, about (a shared one counts in full at each holder).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Place::Inline { .. } => 0,
            Place::Shared(bytes) => bytes.len() + ALLOCATION_BYTES,
        }
    }
}

/// What an allocation costs beside its bytes, about: the allocator's own, and what rounding up wastes.
const ALLOCATION_BYTES: usize = 24;

impl Default for Payload {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Place::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Takes short bytes in, shares long ones.
impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX { Self::copy_from(&bytes) } else { Self(Place::Shared(bytes)) }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE_BYTES_MAX {
            Self::copy_from(&bytes)
        } else {
            Self(Place::Shared(bytes.into()))
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

/// Orders as the bytes do.
impl Ord for Payload {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl PartialOrd for Payload {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Payload {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_equal_wherever_they_lie() {
        for length in [0, 1, 37, 38, 39, 1000] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            let copied = Payload::copy_from(&bytes);
            assert_eq!(copied, Payload::from(bytes.clone()));
            assert_eq!(&*copied, &bytes[..]);
            assert_eq!(copied.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_payload_is_five_words() {
        assert_eq!(size_of::<Payload>(), 40);
    }
}
