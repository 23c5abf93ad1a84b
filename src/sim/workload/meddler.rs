//! Who else does something while records come in? A person who sets states and retries dead letters, and a subscriber that stops reading.

use std::collections::BTreeMap;

use super::books::{IDS, SUBSCRIBER, state_of};
use crate::admin::{AdminReply, AdminRequest, AdminValue};
use crate::sim::simulation::Simulation;
use crate::typed_value::Value;

/// That person, and what they were promised.
pub(super) struct Meddler {
    random: fastrand::Rng,
    /// The last value that was acknowledged, by id.
    set: BTreeMap<String, i64>,
}

impl Meddler {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed ^ 0xadd), set: BTreeMap::new() }
    }

    pub(super) fn meddle(&mut self, simulation: &mut Simulation) -> Result<(), String> {
        let id = self.random.u64(0..IDS).to_string();
        match self.random.u8(0..40) {
            0 => self.set_state(simulation, id)?,
            1 => {
                let key = format!("sim/counter/{id}");
                simulation.ask_owner(&id, &AdminRequest::DeadLetterRetry { key });
            }
            2 => simulation.client(SUBSCRIBER).set_reading(false),
            3..6 => simulation.client(SUBSCRIBER).set_reading(true),
            _ => {}
        }
        Ok(())
    }

    fn set_state(&mut self, simulation: &mut Simulation, id: String) -> Result<(), String> {
        let value = self.random.i64(0..1_000_000);
        let bytes = data_encoding::BASE64.encode(&value.encode());
        let question = AdminRequest::StateSet {
            function_type: "sim/counter".to_owned(),
            id: id.clone(),
            name: "note".to_owned(),
            value: AdminValue { typename: i64::TYPENAME.to_owned(), bytes },
        };
        match simulation.ask_owner(&id, &question) {
            Some(AdminReply::Done { count: 1 }) => self.set.insert(id, value),
            Some(other) => return Err(format!("{other:?} is no answer to a state that is set")),
            // It may have been done all the same.
            None => self.set.remove(&id),
        };
        Ok(())
    }

    /// Everything that was acknowledged is there.
    pub(super) fn check(&self, simulation: &mut Simulation) -> Result<(), String> {
        for (id, &value) in &self.set {
            let found: Option<i64> = state_of(simulation, "sim/counter", id, "note");
            if found != Some(value) {
                return Err(format!("{id} was set to {value} and is {found:?}"));
            }
        }
        Ok(())
    }
}
