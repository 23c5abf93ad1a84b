//! Where does an address live? In the key group of its id, the unit of placement.
//!
//! `group = XXH3-64(id as UTF-8, seed 0) mod 128`: **the id alone**, as in StateFun, so all function types with one id are
//! neighbours. The count is fixed when a data directory is created; the golden values in the tests fix the hash for ever.

use crate::limits::KEY_GROUPS;

/// One of the [`KEY_GROUPS`] parts of all ids; big-endian in keys, so a group is a contiguous range of the base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The group of an id.
    #[must_use]
    pub fn of(id: &str) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder below 128 fits in 16 bits")]
        Self((xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % u64::from(KEY_GROUPS)) as u16)
    }

    /// The group with this number, `None` from [`KEY_GROUPS`] on.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        (number < KEY_GROUPS).then_some(Self(number))
    }

    /// Every group in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..KEY_GROUPS).map(Self)
    }

    /// The number, below [`KEY_GROUPS`].
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number as an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The worker that owns this group when there are `workers` of them: contiguous ranges, as even as can be.
    #[must_use]
    pub fn worker(self, workers: usize) -> usize {
        self.index() * workers / usize::from(KEY_GROUPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fixed_for_ever() {
        let groups: Vec<u16> =
            ["", "0", "kitchen", "fridge-17", "größe"].map(|id| KeyGroup::of(id).number()).to_vec();
        assert_eq!(groups, GOLDEN);
    }

    #[test]
    fn every_worker_owns_a_contiguous_even_range() {
        for workers in 1..=crate::limits::WORKERS_MAX {
            let owners: Vec<usize> = KeyGroup::all().map(|group| group.worker(workers)).collect();
            assert!(owners.is_sorted());
            let counts: Vec<usize> =
                (0..workers).map(|w| owners.iter().filter(|&&o| o == w).count()).collect();
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
    }

    const GOLDEN: [u16; 5] = [66, 85, 111, 107, 44];
}
