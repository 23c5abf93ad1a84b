//! Which object handles a type? One per type and worker, made when its first message comes and again after a panic.
//!
//! An instance remembers the place of its function, so a message costs no search by name.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::address::TypeName;
use crate::admin::FunctionStatus;
use crate::function::StatefulFunction;
use crate::metrics::Histogram;
use crate::module::{Application, Binding};
use crate::remote::call::EndpointIndex;

use super::remote::RemoteIndex;

/// The functions of one worker.
#[derive(Default)]
pub(crate) struct Functions {
    functions: Vec<Function>,
    /// What each has done.
    counts: Vec<FunctionCounts>,
    places: HashMap<TypeName, FunctionIndex, FixedState>,
}

/// Where a function stands; it stays there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FunctionIndex(usize);

/// What a function has done since the process began.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct FunctionCounts {
    /// Messages consumed.
    pub(crate) consumed: u64,
    /// Messages sent to addresses of this worker.
    pub(crate) sent_here: u64,
    /// Messages sent to addresses of other workers.
    pub(crate) sent_elsewhere: u64,
    /// Records sent to egresses.
    pub(crate) sent_out: u64,
    /// Invocations that failed.
    pub(crate) failures: u64,
    /// Attempts at calls of another process that failed.
    pub(crate) call_failures: u64,
    /// How long such attempts took.
    pub(crate) call_latency: Histogram,
}

/// What a type is bound to.
pub(crate) enum Bound<'a> {
    Embedded(&'a mut dyn StatefulFunction),
    Remote(RemoteIndex),
    Nowhere,
}

enum Function {
    /// Not asked for yet, or it panicked.
    Unmade,
    Made(Box<dyn StatefulFunction>),
    /// Another process has it.
    Remote(RemoteIndex),
    /// The module binds no function of this type.
    Unbound,
}

impl Functions {
    /// The place of a type's function, now and for ever.
    pub(crate) fn place(&mut self, function_type: &TypeName) -> FunctionIndex {
        if let Some(&at) = self.places.get(function_type) {
            return at;
        }
        let at = FunctionIndex(self.functions.len());
        self.functions.push(Function::Unmade);
        self.counts.push(FunctionCounts::default());
        self.places.insert(function_type.clone(), at);
        at
    }

    /// The function at `at`, which is that of `function_type`; `remote` finds the place of one in another process.
    pub(crate) fn at(
        &mut self,
        at: FunctionIndex,
        function_type: &TypeName,
        application: &Application,
        remote: impl FnOnce(EndpointIndex) -> Option<RemoteIndex>,
    ) -> Bound<'_> {
        let function = &mut self.functions[at.0];
        if matches!(function, Function::Unmade) {
            *function = match application.binding(function_type) {
                Some(Binding::Embedded) => {
                    application.make_function(function_type).map_or(Function::Unbound, Function::Made)
                }
                Some(Binding::Remote(endpoint)) => {
                    remote(endpoint).map_or(Function::Unbound, Function::Remote)
                }
                None => Function::Unbound,
            };
        }
        match function {
            Function::Made(function) => Bound::Embedded(&mut **function),
            Function::Remote(at) => Bound::Remote(*at),
            Function::Unbound | Function::Unmade => Bound::Nowhere,
        }
    }

    /// What the function at `at` has done.
    pub(crate) fn counts(&mut self, at: FunctionIndex) -> &mut FunctionCounts {
        &mut self.counts[at.0]
    }

    /// What each function has done, in the order of their names.
    pub(crate) fn status(&self) -> BTreeMap<String, FunctionStatus> {
        let of = |(function_type, at): (&TypeName, &FunctionIndex)| {
            let counts = &self.counts[at.0];
            let status = FunctionStatus {
                function_type: function_type.to_string(),
                r#in: counts.consumed,
                out_local: counts.sent_here,
                out_remote: counts.sent_elsewhere,
                out_egress: counts.sent_out,
                invocation_failures: counts.failures,
                remote_invocation_failures: counts.call_failures,
                remote_invocation_latency: counts.call_latency,
                ..FunctionStatus::default()
            };
            (function_type.to_string(), status)
        };
        self.places.iter().map(of).collect()
    }

    /// The function at `at` panicked: its fields may be half changed, the next message gets a new one.
    pub(crate) fn forget(&mut self, at: FunctionIndex) {
        self.functions[at.0] = Function::Unmade;
    }
}
