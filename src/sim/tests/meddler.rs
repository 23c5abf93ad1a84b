//! Who else does something while records come in?

use super::*;
use crate::admin::AdminValue;

/// A person who sets states and retries dead letters, and a subscriber that stops reading.
pub(super) struct Meddler {
    random: fastrand::Rng,
    /// The last value that was acknowledged, by id.
    set: BTreeMap<String, i64>,
}

impl Meddler {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed ^ 0xadd), set: BTreeMap::new() }
    }

    pub(super) fn meddle(&mut self, simulation: &mut Simulation) {
        let id = self.random.u64(0..IDS).to_string();
        match self.random.u8(0..40) {
            0 => self.set_state(simulation, id),
            1 => {
                let key = format!("sim/counter/{id}");
                simulation.ask_owner(&id, &AdminRequest::DeadLetterRetry { key });
            }
            2 => simulation.client(SUBSCRIBER).set_reading(false),
            3..6 => simulation.client(SUBSCRIBER).set_reading(true),
            _ => {}
        }
    }

    fn set_state(&mut self, simulation: &mut Simulation, id: String) {
        use crate::typed_value::Value;
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
            Some(other) => panic!("{other:?}"),
            // It may have been done all the same.
            None => self.set.remove(&id),
        };
    }

    /// Everything that was acknowledged is there.
    pub(super) fn check(&self, simulation: &mut Simulation) -> Result<(), String> {
        for (id, &value) in &self.set {
            let found = state_of(simulation, "sim/counter", id, "note");
            if found != Some(value) {
                return Err(format!("{id} was set to {value} and is {found:?}"));
            }
        }
        Ok(())
    }
}
