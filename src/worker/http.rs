//! What comes and goes over HTTP? Records for addresses of this worker, replies to whoever waits, and what a playground fetches.
//!
//! - A record is answered when its epoch is committed, and not before; so is a reply passed on.
//! - A record with an idempotency key that its target remembers is a repeat: answered, counted, not delivered.
//! - A reply goes to an address of type `fogfun/http`, whose id says who waits. Whether he still does is the shell's to know: of
//!   replies and fetched records nothing outlives the process, as in StateFun's playground.

use std::sync::Arc;

use embassy_time::Instant;

use crate::address::Address;
use crate::epoch::Epoch;
use crate::message::{Headers, Message};
use crate::state::key::Key;
use crate::store::BaseRead;
use crate::typed_value::TypedValue;

use super::channel::credit_of;
use super::io::{Taken, TakenRecord, WorkerOutput};
use super::{Notes, Worker};

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Takes a record in.
    pub(crate) fn handle_take(&mut self, now: Instant, request: u64, record: TakenRecord) {
        let taken = self.take(now, record);
        if let Taken::Refused(_) = &taken {
            self.count("records-refused");
        }
        self.promise(WorkerOutput::Taken { request, taken });
    }

    fn take(&mut self, now: Instant, record: TakenRecord) -> Taken {
        let TakenRecord { target, value, headers, idempotency, reply_to } = record;
        if !self.account.is_intake_open() || self.is_at_rest || self.stop.is_some() {
            return Taken::Refused("the node takes nothing in at the moment".to_owned());
        }
        if let Some((key, remembered)) = idempotency {
            let mut scope = HTTP_SCOPE.to_vec();
            scope.extend_from_slice(target.function_type().as_str().as_bytes());
            let seen = Key::Seen { id: target.id(), scope: &scope }.to_vec();
            match self.was_seen(&seen, &key, usize::from(remembered)) {
                Ok(false) => self.mark_dirty(now),
                Ok(true) => {
                    self.count("records-repeated");
                    return Taken::Repeated;
                }
                Err(error) => return Taken::Refused(error),
            }
        }
        self.count("records-in");
        let headers: Option<Arc<Headers>> = headers.map(Arc::new);
        let group = target.key_group();
        let message = Message { target, caller: reply_to, argument: value, headers };
        self.account.add_dirty(credit_of(&message) as usize);
        self.deliver(now, group, message);
        Taken::Accepted
    }

    /// Passes a reply on once it is committed.
    pub(crate) fn reply_over_http(&mut self, target: &Address, value: TypedValue) {
        self.count("replies-over-http");
        self.promise(WorkerOutput::Replied { waiter: target.id().into(), value });
    }

    /// Gives an output when all that it tells of is committed: at once, if all is.
    pub(crate) fn promise(&mut self, output: WorkerOutput) {
        let awaited = self.awaited();
        if awaited <= self.epochs.committed {
            self.outputs.push_back(output);
        } else {
            self.promised.push_back((awaited, output));
        }
    }

    /// The epoch that is committed when all that has happened so far is.
    pub(crate) fn awaited(&self) -> Epoch {
        match (&self.activity.first_effect, &self.epochs.in_flight) {
            (Some(_), _) => self.epochs.working,
            (None, Some(in_flight)) => in_flight.epoch,
            (None, None) => Epoch(0),
        }
    }

    /// The epoch is durable: what was promised of it is given.
    pub(crate) fn keep_promises(&mut self, epoch: Epoch) {
        while self.promised.front().is_some_and(|(awaited, _)| *awaited <= epoch) {
            self.outputs.extend(self.promised.pop_front().map(|(_, output)| output));
        }
    }
}

/// What stands before the function type in the scope of a target's idempotency keys.
const HTTP_SCOPE: &[u8] = b"http\0";
