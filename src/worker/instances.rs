//! Who is in memory? The instances that have letters waiting or state that was touched lately.

use std::collections::HashMap;

use embassy_time::Instant;
use foldhash::fast::FixedState;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::key_group::KeyGroup;

use super::functions::FunctionIndex;
use super::mailbox::Mailbox;
use super::states::States;

/// One logical instance while it is in memory.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) address: Address,
    /// Names the address in the notes of what runs; XXH3-64.
    pub(crate) hash: u64,
    /// Its id's.
    pub(crate) group: KeyGroup,
    /// Where its function stands, once it was asked for.
    pub(crate) function: Option<FunctionIndex>,
    pub(crate) mailbox: Mailbox,
    pub(crate) states: States,
    pub(crate) status: Status,
    /// Failed attempts at the first letter.
    pub(crate) failures: u32,
    /// Its first letters that a request to a remote function is made of: they stay in memory.
    pub(crate) called_letters: u32,
    /// The epoch in whose list of touched instances it stands.
    pub(crate) touched: Epoch,
}

impl Instance {
    /// How many letters stay in memory when so many would be enough.
    pub(crate) fn kept_letters(&self, enough: usize) -> usize {
        enough.max(self.called_letters as usize)
    }
}

/// What becomes of an instance's first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// There is none.
    Idle,
    /// It stands in the run queue.
    Queued,
    /// It failed and is tried again then.
    Retrying { at: Instant },
    /// It waits for its turn to ask a remote function.
    Held,
    /// A remote function is asked.
    Calling,
    /// Its effects did not fit.
    WaitingForMemory,
    /// The module binds no function of this type.
    Unbound,
}

/// Where an instance stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InstanceIndex(usize);

/// The instances of one worker.
#[derive(Default, Debug)]
pub(crate) struct Instances {
    slots: Vec<Option<Instance>>,
    free: Vec<InstanceIndex>,
    index: HashMap<Address, InstanceIndex, FixedState>,
    /// Where the search for something to evict goes on.
    hand: usize,
}

impl Instances {
    /// The instance with this address, made if it is not there; says whether it was made.
    pub(crate) fn find_or_insert(&mut self, address: &Address) -> (InstanceIndex, bool) {
        if let Some(&at) = self.index.get(address) {
            return (at, false);
        }
        let instance = Instance {
            address: address.clone(),
            hash: xxhash_rust::xxh3::xxh3_64_with_seed(
                address.id().as_bytes(),
                xxhash_rust::xxh3::xxh3_64(address.function_type().as_str().as_bytes()),
            ),
            group: address.key_group(),
            function: None,
            mailbox: Mailbox::default(),
            states: States::default(),
            status: Status::Idle,
            failures: 0,
            called_letters: 0,
            touched: Epoch(0),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at.0] = Some(instance);
                at
            }
            None => {
                self.slots.push(Some(instance));
                InstanceIndex(self.slots.len() - 1)
            }
        };
        self.index.insert(address.clone(), at);
        (at, true)
    }

    /// The instance with this address, if it is there.
    pub(crate) fn find(&self, address: &Address) -> Option<InstanceIndex> {
        self.index.get(address).copied()
    }

    /// The instance at `at`.
    ///
    /// # Panics
    /// If it was evicted: whoever keeps an index keeps the instance busy or touched, so it was not.
    pub(crate) fn at(&mut self, at: InstanceIndex) -> &mut Instance {
        match &mut self.slots[at.0] {
            Some(instance) => instance,
            None => unreachable!("an index outlived its instance"),
        }
    }

    /// Visits instances from where the last visit ended, each at most once, until `visit` says enough.
    pub(crate) fn sweep(&mut self, mut visit: impl FnMut(&mut Instance) -> Sweep) {
        for _ in 0..self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(instance) = &mut self.slots[self.hand] else {
                continue;
            };
            match visit(instance) {
                Sweep::Keep => {}
                Sweep::Enough => return,
                Sweep::Evict => {
                    self.index.remove(&instance.address);
                    self.slots[self.hand] = None;
                    self.free.push(InstanceIndex(self.hand));
                }
            }
        }
    }

    /// All of them, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InstanceIndex, &Instance)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((InstanceIndex(at), slot.as_ref()?)))
    }

    pub(crate) fn count(&self) -> usize {
        self.index.len()
    }
}

/// What a sweep does with an instance.
pub(crate) enum Sweep {
    Keep,
    Evict,
    Enough,
}

/// What an instance costs beside letters and states, in bytes, about: itself, its address again and two table slots.
pub(crate) const INSTANCE_BYTES: usize = size_of::<Instance>() + 2 * size_of::<Address>();
