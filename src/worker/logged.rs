//! What does the log say of states that nobody has asked for yet? Their newest values as bytes, until the base holds them.
//!
//! A start hands over every state of the log. Most are not touched before the first fold, so they stay what they are, bytes in one
//! piece, and become instances only when a message comes for them. To whoever reads states this is the base: [`Behind`] hides
//! older values of the base behind newer ones of the log.
//!
//! ```text
//! arena   key length u16 │ value length u32, u32::MAX is a delete │ key │ value
//! slots   open addressing, at most three quarters full: 0 empty, else tag of the key's hash (24 bits) │ place in the arena + 1
//! ```

use std::cell::{OnceCell, RefCell};
use std::ops::ControlFlow;

use crate::key_group::KeyGroup;
use crate::state::key::group_of;
use crate::store::{BaseError, BaseRead};

use super::overlay::seek_with_newer;

/// Newest values by key. All of them are handed over before the first is read.
#[derive(Default, Debug)]
pub(crate) struct Logged {
    arena: Vec<u8>,
    slots: Vec<u64>,
    count: usize,
    /// By group, once somebody wants an order.
    groups: OnceCell<Vec<Group>>,
}

/// Places of one group: as they were found, then, once asked for, in key order.
#[derive(Default, Debug)]
struct Group {
    found: RefCell<Vec<usize>>,
    sorted: OnceCell<Vec<usize>>,
}

impl Logged {
    /// Puts or, without a value, deletes.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.groups.take();
        if self.slots.len() * 3 <= (self.count + 1) * 4 {
            self.grow();
        }
        let hash = hash_of(key);
        let slot = self.slot_of(hash, key);
        if let Some(place) = place_of(self.slots[slot]) {
            // Counters keep their length: a key that is written over and over takes its room once.
            let (old, old_value) = self.record(place);
            if let (Some(value), Some(old_value)) = (value, old_value)
                && value.len() == old_value.len()
            {
                let start = place + HEAD_BYTES + old.len();
                self.arena[start..start + value.len()].copy_from_slice(value);
                return;
            }
        } else {
            self.count += 1;
        }
        let place = self.append(key, value);
        self.slots[slot] = slot_with(hash, place);
    }

    /// What the log says of a key: nothing, that it is gone, or its value.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.count == 0 {
            return None;
        }
        let place = place_of(self.slots[self.slot_of(hash_of(key), key)])?;
        Some(self.record(place).1)
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.arena.capacity() + self.slots.capacity() * size_of::<u64>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives back the room that growing took ahead.
    pub(crate) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
    }

    /// Keys not below `from` and what the log says of them, in order.
    fn range<'a>(&'a self, from: &[u8]) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let first = group_of(from).map_or(0, KeyGroup::index);
        let from = from.to_vec();
        let groups = if self.count == 0 { &[][..] } else { self.groups() };
        groups.iter().skip(first).flat_map(move |group| {
            let places = group.sorted.get_or_init(|| self.sort(group.found.take()));
            let begin = places.partition_point(|&place| self.record(place).0 < from.as_slice());
            places[begin..].iter().map(|&place| self.record(place))
        })
    }

    fn groups(&self) -> &[Group] {
        self.groups.get_or_init(|| {
            let mut groups: Vec<Group> = KeyGroup::all().map(|_| Group::default()).collect();
            for place in self.slots.iter().filter_map(|&slot| place_of(slot)) {
                if let Some(group) = group_of(self.record(place).0) {
                    groups[group.index()].found.get_mut().push(place);
                }
            }
            groups
        })
    }

    fn sort(&self, mut places: Vec<usize>) -> Vec<usize> {
        places.sort_unstable_by_key(|&place| self.record(place).0);
        places
    }

    fn append(&mut self, key: &[u8], value: Option<&[u8]>) -> usize {
        let place = self.arena.len();
        let key_length = u16::try_from(key.len());
        let value_length = value.map_or(Ok(DELETED), |value| u32::try_from(value.len()));
        let (Ok(key_length), Ok(value_length)) = (key_length, value_length) else {
            unreachable!("keys and epochs are bounded far below this")
        };
        self.arena.extend_from_slice(&key_length.to_le_bytes());
        self.arena.extend_from_slice(&value_length.to_le_bytes());
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value.unwrap_or_default());
        place
    }

    fn record(&self, place: usize) -> (&[u8], Option<&[u8]>) {
        let bytes = &self.arena[place..];
        let key_length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let value_length = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        let (key, rest) = bytes[HEAD_BYTES..].split_at(key_length);
        let value = (value_length != DELETED).then(|| &rest[..value_length as usize]);
        (key, value)
    }

    /// The slot that holds the key, or the empty one where it belongs.
    fn slot_of(&self, hash: u64, key: &[u8]) -> usize {
        let mut at = self.first_slot(hash);
        loop {
            let slot = self.slots[at];
            match place_of(slot) {
                None => return at,
                Some(place) if slot >> TAG_SHIFT == hash >> TAG_SHIFT && self.record(place).0 == key => {
                    return at;
                }
                Some(_) => at = (at + 1) % self.slots.len(),
            }
        }
    }

    fn first_slot(&self, hash: u64) -> usize {
        let mask = self.slots.len() as u64 - 1;
        usize::try_from(hash & mask).unwrap_or(0)
    }

    fn grow(&mut self) {
        let length = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![0; length]);
        for slot in old {
            let Some(place) = place_of(slot) else { continue };
            let mut at = self.first_slot(hash_of(self.record(place).0));
            while self.slots[at] != 0 {
                at = (at + 1) % length;
            }
            self.slots[at] = slot;
        }
    }
}

/// The base behind what the log says.
pub(crate) struct Behind<'a, B> {
    pub(crate) logged: &'a Logged,
    pub(crate) base: &'a B,
}

impl<B: BaseRead> BaseRead for Behind<'_, B> {
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, BaseError> {
        match self.logged.get(key) {
            None => self.base.get(key, value),
            Some(found) => {
                value.clear();
                value.extend_from_slice(found.unwrap_or_default());
                Ok(found.is_some())
            }
        }
    }

    fn seek(
        &self,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BaseError> {
        seek_with_newer(self.base, from, self.logged.range(from), visit)
    }
}

fn hash_of(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

fn slot_with(hash: u64, place: usize) -> u64 {
    (hash >> TAG_SHIFT << TAG_SHIFT) | (place as u64 + 1)
}

fn place_of(slot: u64) -> Option<usize> {
    usize::try_from(slot & ((1 << TAG_SHIFT) - 1)).ok()?.checked_sub(1)
}

const HEAD_BYTES: usize = 6;
const DELETED: u32 = u32::MAX;
/// Places have 40 bits: a terabyte, far beyond what a log may be.
const TAG_SHIFT: u32 = 40;
/// A power of two.
const SLOTS_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sim::base::SimBase;
    use crate::sim::disk::SimDisk;
    use crate::state::key::Key;
    use crate::store::Base;

    fn key(number: u32) -> Vec<u8> {
        let id = (number % 97).to_string();
        Key::State { id: &id, function_type: "a/b", name: "c", subkey: &number.to_be_bytes() }.to_vec()
    }

    fn all(base: &impl BaseRead, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        base.seek(from, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn the_log_hides_what_the_base_says() {
        let mut base = SimBase::new(&SimDisk::default());
        let mut expected = BTreeMap::new();
        for number in 0..500 {
            expected.insert(key(number), vec![1]);
        }
        let held = expected.clone();
        base.apply(&mut held.iter().map(|(key, value)| (&key[..], Some(&value[..]))), None).unwrap();
        let mut logged = Logged::default();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let key = key(random.u32(250..1_000));
            if random.bool() {
                let value = vec![2; random.usize(0..3)];
                logged.put(&key, Some(&value));
                expected.insert(key, value);
            } else {
                logged.put(&key, None);
                expected.remove(&key);
            }
        }
        let behind = Behind { logged: &logged, base: &base };
        let mut value = Vec::new();
        for number in 0..1_100 {
            let key = key(number);
            let found = behind.get(&key, &mut value).unwrap().then(|| value.clone());
            assert_eq!(found, expected.get(&key).cloned());
            let from: Vec<_> = expected.range(key.clone()..).take(1).collect();
            let seen = all(&behind, &key);
            assert_eq!(seen.first().map(|(key, value)| (key, value)), from.first().copied());
        }
        assert_eq!(all(&behind, &[]), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_counter_written_often_takes_its_room_once() {
        let mut logged = Logged::default();
        (0..1_000).for_each(|_| logged.put(b"\0\0key", Some(&[0; 8])));
        let bytes = logged.arena.len();
        assert_eq!(bytes, HEAD_BYTES + 5 + 8);
    }
}
