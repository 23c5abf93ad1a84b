//! What does a passenger's function do? It begins rides, one at a time, and numbers them.

use fogfun::address::Address;
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::Json;

use crate::words::{Arrived, Ask, News, RIDE, Request, publish};

/// One object serves all passengers of a worker.
pub(crate) struct Passenger {
    /// Rides asked for so far.
    rides: PersistedValue<i64>,
    is_under_way: PersistedValue<bool>,
}

impl Passenger {
    pub(crate) fn new() -> Self {
        Self { rides: PersistedValue::new("rides"), is_under_way: PersistedValue::new("is_under_way") }
    }
}

impl StatefulFunction for Passenger {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<Arrived>>() {
            self.is_under_way.clear(context)?;
            let rides = self.rides.get_or_default(context)?;
            return publish(context, News::Arrived(rides));
        }
        let Json(Ask { from, to }) = message.get()?;
        if self.is_under_way.get(context)?.is_some() {
            return Err("a passenger who rides asks for another ride".into());
        }
        self.is_under_way.set(context, true)?;
        let rides = self.rides.update(context, |rides| rides.unwrap_or(0) + 1)?;
        let ride = Address::new(RIDE, &format!("{}-{rides}", context.self_address().id()))?;
        context.send(ride, Json(Request { from, to }))
    }
}
