//! What does the base not know yet, of the kinds that are few? The newest value of every key written since the last fold.
//!
//! For dead letters and remembered message ids; states, mailboxes and the rest keep their own memory. Reading looks here first, then
//! in the base.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::state::key::Key;
use crate::store::{BaseError, BaseRead};

/// Newest values by key.
#[derive(Default, Debug)]
pub(crate) struct Overlay {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Keys written in the working epoch.
    dirty: Vec<Vec<u8>>,
    memory_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Option<Vec<u8>>,
    written: Epoch,
    is_dirty: bool,
}

impl Overlay {
    /// Writes or deletes in the working epoch.
    pub(crate) fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, working: Epoch) {
        let was_dirty = self.insert(key.clone(), Entry { value, written: working, is_dirty: true });
        if !was_dirty {
            self.dirty.push(key);
        }
    }

    /// Applies what the log says.
    pub(crate) fn replay(&mut self, key: &[u8], value: Option<&[u8]>, epoch: Epoch) {
        let value = value.map(<[u8]>::to_vec);
        self.insert(key.to_vec(), Entry { value, written: epoch, is_dirty: false });
    }

    /// Reads the newest value into `value`; says whether there is one.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub(crate) fn read<B: BaseRead>(
        &self,
        base: &B,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<bool, BaseError> {
        match self.entries.get(key) {
            Some(entry) => {
                value.clear();
                value.extend_from_slice(entry.value.as_deref().unwrap_or_default());
                Ok(entry.value.is_some())
            }
            None => base.get(key, value),
        }
    }

    /// Visits the newest values of all keys with this prefix behind `after`, in order.
    ///
    /// # Errors
    /// If the base cannot be read.
    pub(crate) fn scan<B: BaseRead>(
        &self,
        base: &B,
        prefix: &[u8],
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BaseError> {
        let from = if after < prefix { prefix } else { after };
        let newer = self
            .entries
            .range(from.to_vec()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (&key[..], entry.value.as_deref()));
        seek_with_newer(base, from, newer, &mut |key, value| {
            if !key.starts_with(prefix) {
                ControlFlow::Break(())
            } else if key <= after {
                ControlFlow::Continue(())
            } else {
                visit(key, value)
            }
        })
    }

    /// Puts and deletes what was written in the epoch that ends.
    pub(crate) fn cut(&mut self, frame: &mut FrameBuilder) {
        for bytes in self.dirty.drain(..) {
            let (Some(key), Some(entry)) = (Key::decode(&bytes), self.entries.get_mut(&bytes)) else {
                unreachable!("only keys of the layout are written here, and a dirty one is not evicted")
            };
            entry.is_dirty = false;
            match &entry.value {
                Some(value) => frame.put(&key, |out| out.extend_from_slice(value)),
                None => frame.delete(&key),
            }
        }
    }

    /// Drops what the base now holds.
    pub(crate) fn folded(&mut self, epoch: Epoch) {
        let memory_bytes = &mut self.memory_bytes;
        self.entries.retain(|key, entry| {
            let is_kept = entry.is_dirty || epoch < entry.written;
            if !is_kept {
                *memory_bytes = memory_bytes.saturating_sub(entry_bytes(key, entry));
            }
            is_kept
        });
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Says whether the entry that it replaces was written in the working epoch.
    fn insert(&mut self, key: Vec<u8>, entry: Entry) -> bool {
        self.memory_bytes += entry_bytes(&key, &entry);
        let old = self.entries.remove(&key);
        if let Some(old) = &old {
            self.memory_bytes = self.memory_bytes.saturating_sub(entry_bytes(&key, old));
        }
        self.entries.insert(key, entry);
        old.is_some_and(|old| old.is_dirty)
    }
}

/// Visits keys and values in order from `from`: the base's, and instead of them those that `newer` knows better, `None` being gone.
///
/// # Errors
/// If the base cannot be read.
pub(super) fn seek_with_newer<'a, B: BaseRead>(
    base: &B,
    from: &[u8],
    newer: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), BaseError> {
    let mut newer = newer.peekable();
    let mut ended = false;
    base.seek(from, &mut |key, value| {
        let mut is_hidden = false;
        while let Some((newer_key, newer_value)) = newer.next_if(|(newer_key, _)| *newer_key <= key) {
            is_hidden = newer_key == key;
            if newer_value.is_some_and(|value| visit(newer_key, value).is_break()) {
                ended = true;
                return ControlFlow::Break(());
            }
        }
        if !is_hidden && visit(key, value).is_break() {
            ended = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    if !ended {
        for (key, value) in newer {
            if value.is_some_and(|value| visit(key, value).is_break()) {
                break;
            }
        }
    }
    Ok(())
}

fn entry_bytes(key: &[u8], entry: &Entry) -> usize {
    size_of::<Entry>() + 2 * key.len() + entry.value.as_ref().map_or(0, Vec::len)
}
