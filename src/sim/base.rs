//! What is a base? A sorted map with a mark, changed in whole transactions.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use crate::store::{Base, BaseError, BaseRead, Mark};

use super::disk::{Fault, SimDisk};

/// A base in memory; clones are the same base, for the writer and its readers. A transaction counts as one operation of its
/// disk. One that power loss cuts short has happened or not: here it has if its number is odd.
#[derive(Clone, Debug)]
pub struct SimBase {
    disk: SimDisk,
    content: Rc<RefCell<Content>>,
}

#[derive(Clone, Default, Debug)]
struct Content {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    mark: Option<Mark>,
    transactions: u64,
    keys_max: usize,
}

impl SimBase {
    /// An empty base beside this disk.
    #[must_use]
    pub fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), content: Rc::default() }
    }

    /// A base of its own with the same content, beside another disk.
    #[must_use]
    pub fn copied(&self, disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), content: Rc::new(RefCell::new(self.content.borrow().clone())) }
    }

    /// Keys and values.
    #[must_use]
    pub fn values(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.content.borrow().values.clone()
    }

    /// Transactions so far, and the keys of the largest.
    #[must_use]
    pub fn transactions(&self) -> (u64, usize) {
        let content = self.content.borrow();
        (content.transactions, content.keys_max)
    }
}

impl Base for SimBase {
    fn apply(
        &mut self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: Option<&Mark>,
    ) -> Result<(), BaseError> {
        let failed = |error: std::io::Error| BaseError::Failed(error.to_string());
        let fault = self.disk.begin_operation().map_err(failed)?;
        let mut content = self.content.borrow_mut();
        content.transactions += 1;
        match fault {
            Some(Fault::Fails(std::io::ErrorKind::StorageFull)) => {
                return Err(BaseError::Full("simulated".to_owned()));
            }
            Some(Fault::Fails(_)) => return Err(BaseError::Failed("simulated".to_owned())),
            Some(Fault::Crash) if content.transactions.is_multiple_of(2) => {
                self.disk.lose_power();
                return Err(BaseError::Failed("simulated power loss".to_owned()));
            }
            _ => {}
        }
        let mut keys = 0;
        for (key, value) in changes {
            keys += 1;
            match value {
                Some(value) => content.values.insert(key.to_vec(), value.to_vec()),
                None => content.values.remove(key),
            };
        }
        content.keys_max = content.keys_max.max(keys);
        if let Some(mark) = mark {
            content.mark = Some(*mark);
        }
        if fault == Some(Fault::Crash) {
            self.disk.lose_power();
            return Err(BaseError::Failed("simulated power loss".to_owned()));
        }
        Ok(())
    }

    fn mark(&self) -> Result<Option<Mark>, BaseError> {
        Ok(self.content.borrow().mark)
    }
}

impl BaseRead for SimBase {
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, BaseError> {
        value.clear();
        let content = self.content.borrow();
        let found = content.values.get(key);
        if let Some(found) = found {
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn seek(
        &self,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BaseError> {
        let content = self.content.borrow();
        let range = (Bound::Included(from), Bound::Unbounded);
        for (key, value) in content.values.range::<[u8], _>(range) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
