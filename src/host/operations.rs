//! Where do operations run? Each on a thread of smol's pool, so that thread 0 goes on; the workers bound how many there are.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smol::LocalExecutor;

use super::inbox::Inbox;
use super::shell::Event;
use crate::address::TypeName;
use crate::function::AsyncOperation;
use crate::typed_value::TypedValue;
use crate::worker::io::{OperationNumber, WorkerIndex};
use crate::worker::panic_text;

/// What the module binds.
#[derive(Clone, Default)]
pub struct Operations(BTreeMap<TypeName, Arc<dyn AsyncOperation>>);

impl Operations {
    /// These.
    #[must_use]
    pub fn new(operations: BTreeMap<TypeName, Arc<dyn AsyncOperation>>) -> Self {
        Self(operations)
    }

    /// Begins one; an [`Event::Operated`] tells its end.
    pub(super) fn begin(
        &self,
        executor: &LocalExecutor<'static>,
        inbox: &Arc<Inbox<Event>>,
        worker: WorkerIndex,
        number: OperationNumber,
        operation: &TypeName,
        request: TypedValue,
    ) {
        let Some(operation) = self.0.get(operation).cloned() else {
            unreachable!("a context registers only what is bound")
        };
        let inbox = Arc::clone(inbox);
        let run = smol::unblock(move || {
            catch_unwind(AssertUnwindSafe(|| operation.run(&request)))
                .unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_text(&*panic)).into()))
                .map_err(|error| error.to_string())
        });
        executor
            .spawn(async move {
                let result = run.await;
                inbox.push(Event::Operated { worker, number, result });
            })
            .detach();
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Operations").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}
