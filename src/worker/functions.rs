//! Which object handles a type? One per type and worker, made when its first message comes and again after a panic.
//!
//! An instance remembers the place of its function, so a message costs no search by name.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::address::TypeName;
use crate::function::StatefulFunction;
use crate::module::{Application, Binding};
use crate::remote::call::EndpointIndex;

use super::remote::RemoteIndex;

/// The functions of one worker.
#[derive(Default)]
pub(crate) struct Functions {
    functions: Vec<Function>,
    places: HashMap<TypeName, FunctionIndex, FixedState>,
}

/// Where a function stands; it stays there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FunctionIndex(usize);

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

    /// The function at `at` panicked: its fields may be half changed, the next message gets a new one.
    pub(crate) fn forget(&mut self, at: FunctionIndex) {
        self.functions[at.0] = Function::Unmade;
    }
}
