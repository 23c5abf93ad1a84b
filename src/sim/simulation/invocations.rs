//! Is one address invoked twice at a time? A checker that hears of every invocation, and of nothing else.
//!
//! - No invocation of an address begins while another of it runs.
//! - Between two starts an address is invoked by one worker only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::worker::Notes;
use crate::worker::io::WorkerIndex;

/// What is known of all invocations since the last start; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Invocations(Rc<RefCell<Known>>);

#[derive(Debug, Default)]
struct Known {
    owners: BTreeMap<u64, WorkerIndex>,
    running: BTreeSet<u64>,
    count: u64,
    violation: Option<String>,
}

impl Invocations {
    /// The board starts: who owns what is open again, and nothing runs.
    pub(super) fn started(&self) {
        let mut known = self.0.borrow_mut();
        known.owners.clear();
        known.running.clear();
    }

    pub(super) fn notes(&self, worker: WorkerIndex) -> SimNotes {
        SimNotes { worker, running: None, invocations: self.clone() }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.borrow().count
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.0.borrow().violation.clone()
    }
}

/// One worker's notes.
#[derive(Debug)]
pub(super) struct SimNotes {
    worker: WorkerIndex,
    running: Option<u64>,
    invocations: Invocations,
}

impl Notes for SimNotes {
    fn begin(&mut self, address_hash: u64, _message_hash: u64) {
        let mut known = self.invocations.0.borrow_mut();
        known.count += 1;
        let owner = *known.owners.entry(address_hash).or_insert(self.worker);
        if owner != self.worker {
            let text = format!("an address is invoked by workers {} and {}", owner.0, self.worker.0);
            known.violation.get_or_insert(text);
        }
        if !known.running.insert(address_hash) {
            known.violation.get_or_insert("an address is invoked while it is being invoked".to_owned());
        }
        self.running = Some(address_hash);
    }

    fn end(&mut self) {
        if let Some(address_hash) = self.running.take() {
            self.invocations.0.borrow_mut().running.remove(&address_hash);
        }
    }

    fn consumed(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn cut(&mut self) {}
    fn committed(&mut self) {}
}

/// Notes nothing: for workers that are tested alone.
#[derive(Debug)]
pub struct NoNotes;

impl Notes for NoNotes {
    fn begin(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn end(&mut self) {}
    fn consumed(&mut self, _address_hash: u64, _message_hash: u64) {}
    fn cut(&mut self) {}
    fn committed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_two_workers_is_a_violation() {
        let invocations = Invocations::default();
        let (mut one, mut other) = (invocations.notes(WorkerIndex(0)), invocations.notes(WorkerIndex(1)));
        one.begin(7, 0);
        one.end();
        one.begin(7, 1);
        one.end();
        other.begin(8, 0);
        other.end();
        assert_eq!(invocations.violation(), None);
        other.begin(7, 2);
        assert!(invocations.violation().is_some());
    }

    #[test]
    fn two_invocations_at_a_time_are_a_violation() {
        let invocations = Invocations::default();
        let (mut one, mut same) = (invocations.notes(WorkerIndex(0)), invocations.notes(WorkerIndex(0)));
        one.begin(7, 0);
        same.begin(7, 1);
        assert!(invocations.violation().is_some());
    }
}
