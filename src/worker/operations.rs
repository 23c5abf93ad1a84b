//! What is done outside? Operations that functions registered: put with their epoch, begun once it is committed, told exactly once.
//!
//! ```text
//! fresh ─ cut: put ─→ in a frame ─ committed ─→ ready ─ room ─→ running ─ ended ─→ deleted, and a message to the address
//! ```
//! - What runs is known to the log: a start tells the addresses of all that it finds there that nobody knows what came of them.
//! - The delete and the message are of one epoch.
//! - At most [`OPERATIONS_RUNNING_MAX`] run at a time; what is ready waits, on the account, and is seen in `status`.

use std::collections::{BTreeMap, VecDeque};

use embassy_time::Instant;

use crate::address::{Address, TypeName};
use crate::epoch::Epoch;
use crate::epoch::frame::FrameBuilder;
use crate::function::operation::{OperationOutcome, OperationResult};
use crate::key_group::KeyGroup;
use crate::limits::{OPERATIONS_RUNNING_MAX, VALUE_BYTES_MAX};
use crate::message::Message;
use crate::state::key::Key;
use crate::state::value::encode_operation;
use crate::store::BaseRead;
use crate::typed_value::TypedValue;

use super::io::{OperationNumber, WorkerOutput};
use super::{Notes, Worker};

/// The operations of one worker.
#[derive(Default, Debug)]
pub(crate) struct Operations {
    pending: BTreeMap<Place, Operation>,
    /// Those that no frame holds yet.
    fresh: Vec<Place>,
    /// Those in the frame of an epoch that is not committed.
    put: VecDeque<(Epoch, Place)>,
    ready: VecDeque<Place>,
    running: BTreeMap<OperationNumber, Place>,
    begun: u64,
}

/// An operation's identity: the group of its address, and a number in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) group: KeyGroup,
    pub(crate) number: u64,
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) address: Address,
    pub(crate) operation: TypeName,
    pub(crate) request: TypedValue,
}

impl Operations {
    /// Registers one in the working epoch.
    pub(crate) fn insert(&mut self, place: Place, operation: Operation) {
        self.fresh.push(place);
        self.pending.insert(place, operation);
    }

    /// Puts those that no frame holds yet; `put` hears the group of each.
    pub(crate) fn cut(&mut self, epoch: Epoch, frame: &mut FrameBuilder, mut put: impl FnMut(KeyGroup)) {
        for place in self.fresh.drain(..) {
            if let Some(Operation { address, operation, request }) = self.pending.get(&place) {
                frame.put(&place.key(address), |out| encode_operation(operation, request, out));
                put(place.group);
                self.put.push_back((epoch, place));
            }
        }
    }

    /// The epoch is durable: what it registered may begin.
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        while let Some(&(put, place)) = self.put.front()
            && put <= epoch
        {
            self.put.pop_front();
            self.ready.push_back(place);
        }
    }

    /// The next that begins, if there is room.
    fn begin(&mut self) -> Option<WorkerOutput> {
        if OPERATIONS_RUNNING_MAX <= self.running.len() {
            return None;
        }
        let place = self.ready.pop_front()?;
        let Operation { operation, request, .. } = self.pending.get(&place)?.clone();
        self.begun += 1;
        let number = OperationNumber(self.begun);
        self.running.insert(number, place);
        Some(WorkerOutput::Operate { number, operation, request })
    }

    fn end(&mut self, number: OperationNumber) -> Option<(Place, Operation)> {
        let place = self.running.remove(&number)?;
        Some((place, self.pending.remove(&place)?))
    }

    pub(crate) fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Registered and not begun.
    pub(crate) fn waiting_count(&self) -> usize {
        self.pending.len() - self.running.len()
    }
}

impl Place {
    pub(crate) fn key<'a>(&self, address: &'a Address) -> Key<'a> {
        let (id, function_type) = (address.id(), address.function_type().as_str());
        Key::AsyncOperation { id, function_type, number: self.number }
    }
}

impl Operation {
    /// Bytes of memory that it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        2 * size_of::<Self>() + self.request.heap_bytes()
    }
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Registers an operation of the invocation that is being applied.
    pub(crate) fn register(&mut self, operation: Operation) {
        let group = operation.address.key_group();
        let place = Place { group, number: self.next_arrival(group) };
        self.account.add(operation.memory_bytes());
        self.operations.insert(place, operation);
    }

    /// Begins what may begin.
    pub(crate) fn begin_operations(&mut self) {
        while let Some(output) = self.operations.begin() {
            self.outputs.push_back(output);
        }
    }

    /// An operation ended.
    pub(crate) fn handle_operated(
        &mut self,
        now: Instant,
        number: OperationNumber,
        result: Result<TypedValue, String>,
    ) {
        let Some((place, operation)) = self.operations.end(number) else {
            unreachable!("an operation ends once")
        };
        self.account.remove(operation.memory_bytes());
        let outcome = match result {
            Ok(value) => OperationOutcome::Success(value),
            Err(text) => OperationOutcome::Failure(text),
        };
        self.tell_outcome(now, place, operation, outcome);
        self.begin_operations();
    }

    /// Tells an address what came of its operation, which is over in the same epoch.
    pub(crate) fn tell_outcome(
        &mut self,
        now: Instant,
        place: Place,
        operation: Operation,
        outcome: OperationOutcome,
    ) {
        let Operation { address, operation, request } = operation;
        self.frame.delete(&place.key(&address));
        let mut result = OperationResult { operation, request, outcome };
        let mut argument = TypedValue::of(&result);
        if VALUE_BYTES_MAX < argument.typename.len() + argument.bytes().len() {
            let bytes = argument.bytes().len();
            let text = format!("its result has {bytes} bytes, {VALUE_BYTES_MAX} are possible");
            result.outcome = OperationOutcome::Failure(text);
            argument = TypedValue::of(&result);
        }
        self.count("operations-ended");
        let message = Message { target: address.clone(), caller: Some(address), argument, headers: None };
        self.deliver(now, place.group, message);
    }
}
