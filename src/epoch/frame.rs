//! What did an epoch leave behind? A sorted list of puts and deletes in the base's own key layout, in sections by key group.
//!
//! A worker gathers its part in a [`FrameBuilder`] in any order and finishes it once, when every barrier has come; the parts of
//! all workers, which own disjoint ascending ranges of groups, one behind the other are the frame. Applying a frame twice
//! changes nothing.
//!
//! ```text
//! section   group u16 LE │ byte length of the records u32 LE │ record …       groups ascend, each at most once
//! record    postcard (key: bytes, value: Option<bytes>)                       keys ascend; no value is a delete
//! ```

use serde::{Deserialize, Serialize};

use crate::key_group::KeyGroup;
use crate::state::key::{Key, group_of};

/// Gathers puts and deletes of one worker in one epoch.
#[derive(Default, Debug)]
pub struct FrameBuilder {
    arena: Vec<u8>,
    records: Vec<Record>,
}

/// One record in the arena: the key, then the value.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The key's first bytes, big-endian: most comparisons end there.
    head: u64,
    key_start: usize,
    value_start: usize,
    value_end: usize,
    is_delete: bool,
}

impl FrameBuilder {
    /// Puts `key`; `value` appends the value's bytes.
    pub fn put(&mut self, key: &Key<'_>, value: impl FnOnce(&mut Vec<u8>)) {
        let key_start = self.arena.len();
        key.encode(&mut self.arena);
        let value_start = self.arena.len();
        value(&mut self.arena);
        let head = head_of(&self.arena[key_start..value_start]);
        self.records.push(Record {
            head,
            key_start,
            value_start,
            value_end: self.arena.len(),
            is_delete: false,
        });
    }

    /// Deletes `key`; deleting what is not there is no error.
    pub fn delete(&mut self, key: &Key<'_>) {
        let key_start = self.arena.len();
        key.encode(&mut self.arena);
        let end = self.arena.len();
        let head = head_of(&self.arena[key_start..]);
        self.records.push(Record { head, key_start, value_start: end, value_end: end, is_delete: true });
    }

    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes gathered so far.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.arena.len()
    }

    /// Appends the sections to `out`, in key order, and empties the builder; some of its memory is kept for the next epoch.
    ///
    /// # Panics
    /// If a key was put or deleted twice: an epoch says one thing about a key.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let Self { arena, records } = self;
        records.sort_unstable_by(|a, b| {
            let by_head = a.head.cmp(&b.head);
            by_head.then_with(|| arena[a.key_start..a.value_start].cmp(&arena[b.key_start..b.value_start]))
        });
        let mut section: Option<(KeyGroup, usize)> = None;
        let mut previous: Option<&[u8]> = None;
        for record in records.iter() {
            let key = &arena[record.key_start..record.value_start];
            assert!(previous != Some(key), "one key twice in a frame: {:?}", Key::decode(key));
            previous = Some(key);
            let Some(group) = group_of(key) else { unreachable!("Key::encode writes a group") };
            if section.map(|(open, _)| open) != Some(group) {
                close_section(out, section);
                out.extend_from_slice(&group.number().to_le_bytes());
                out.extend_from_slice(&[0; 4]);
                section = Some((group, out.len()));
            }
            let value = (!record.is_delete).then(|| &arena[record.value_start..record.value_end]);
            encode_record(out, key, value);
        }
        close_section(out, section);
        arena.clear();
        records.clear();
        arena.shrink_to(KEPT_BYTES);
        records.shrink_to(KEPT_BYTES / size_of::<Record>());
    }
}

/// What a builder keeps for the next epoch of each of its two buffers, in bytes at most.
const KEPT_BYTES: usize = 256 * 1024;

fn close_section(out: &mut [u8], section: Option<(KeyGroup, usize)>) {
    if let Some((_, start)) = section {
        let Ok(length) = u32::try_from(out.len() - start) else {
            unreachable!("an epoch is bounded far below 4 GiB")
        };
        out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends one record.
pub fn encode_record(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    // What postcard makes of `RecordOnTheWire`, without going through bytes one by one.
    encode_bytes(out, key);
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        encode_bytes(out, value);
    }
}

fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            out.push(low);
            break;
        }
        out.push(low | 0x80);
    }
    out.extend_from_slice(bytes);
}

/// The first eight bytes of a key, zeros behind a shorter one: orders as keys do, or says nothing.
fn head_of(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

/// Calls `visit(key, value)` for every record of `sections` in order; a value of `None` is a delete.
///
/// # Errors
/// If the bytes are no sections: the caller checked their CRC, so this is damage that a CRC does not see, or our mistake.
pub fn read_sections<'a>(
    mut sections: &'a [u8],
    mut visit: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Result<(), MalformedFrame> {
    while !sections.is_empty() {
        let (head, rest) = sections.split_first_chunk::<6>().ok_or(MalformedFrame)?;
        let group = KeyGroup::from_number(u16::from_le_bytes([head[0], head[1]])).ok_or(MalformedFrame)?;
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
        let length = usize::try_from(length).map_err(|_| MalformedFrame)?;
        let (records, rest) = rest.split_at_checked(length).ok_or(MalformedFrame)?;
        read_records(records, |key, value| {
            if group_of(key) == Some(group) {
                visit(key, value);
                Ok(())
            } else {
                Err(MalformedFrame)
            }
        })?;
        sections = rest;
    }
    Ok(())
}

/// Calls `visit(key, value)` for every record.
///
/// # Errors
/// If the bytes are no records, or the first error of `visit`.
pub fn read_records<'a>(
    mut records: &'a [u8],
    mut visit: impl FnMut(&'a [u8], Option<&'a [u8]>) -> Result<(), MalformedFrame>,
) -> Result<(), MalformedFrame> {
    while !records.is_empty() {
        let (record, rest) =
            postcard::take_from_bytes::<RecordOnTheWire<'a>>(records).map_err(|_| MalformedFrame)?;
        visit(record.key, record.value)?;
        records = rest;
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct RecordOnTheWire<'a> {
    #[serde(with = "serde_bytes", borrow)]
    key: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    value: Option<&'a [u8]>,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no frame")]
pub struct MalformedFrame;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_in_key_order() {
        let mut builder = FrameBuilder::default();
        let ids = ["zebra", "ant", "bee", "cow", ""];
        for (number, id) in ids.iter().enumerate() {
            let key = Key::Mailbox { id, function_type: "a/b", arrival: number as u64 };
            if number == 2 { builder.delete(&key) } else { builder.put(&key, |out| out.push(7)) }
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        assert!(builder.is_empty());
        let mut keys = Vec::new();
        read_sections(&bytes, |key, value| keys.push((key.to_vec(), value.map(<[u8]>::to_vec)))).unwrap();
        assert_eq!(keys.len(), ids.len());
        assert!(keys.is_sorted());
        assert_eq!(keys.iter().filter(|(_, value)| value.is_none()).count(), 1);
    }

    #[test]
    #[should_panic(expected = "one key twice")]
    fn an_epoch_says_one_thing_about_a_key() {
        let mut builder = FrameBuilder::default();
        builder.delete(&Key::Session { id: "x" });
        builder.put(&Key::Session { id: "x" }, |_| ());
        builder.finish(&mut Vec::new());
    }

    proptest::proptest! {
        #[test]
        fn a_record_is_what_postcard_makes_of_it(key: Vec<u8>, value: Option<Vec<u8>>, padding in 0..40_000_usize) {
            let value = value.map(|mut value| { value.resize(value.len() + padding, 7); value });
            let value = value.as_deref();
            let mut bytes = vec![1];
            encode_record(&mut bytes, &key, value);
            let record = RecordOnTheWire { key: &key, value };
            assert_eq!(bytes[1..], postcard::to_allocvec(&record).unwrap());
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
            let _ = read_sections(&bytes, |_, _| ());
        }
    }
}
