//! What does a cell of the map know? Which drivers in it are free. Whom it names to a ride it forgets, so that it names nobody twice.

use fogfun::function::{Context, FunctionError, PersistedTable, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::Json;

use crate::words::{Find, Found, Presence, sender};

/// One object serves all cells of a worker.
pub(crate) struct Cell {
    /// Free drivers, each with the runtime time of its coming: who came first is named first.
    drivers: PersistedTable<String, i64>,
}

impl Cell {
    pub(crate) fn new() -> Self {
        Self { drivers: PersistedTable::new("drivers") }
    }
}

impl StatefulFunction for Cell {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<Find>>() {
            let first = self.drivers.entries(context)?.into_iter().min_by_key(|(_, came)| *came);
            let driver = first.map(|(driver, _)| driver);
            if let Some(driver) = &driver {
                self.drivers.remove(context, driver)?;
            }
            return context.reply(Json(Found { driver }));
        }
        let driver = sender(context)?;
        match message.get()? {
            Json(Presence::Enter) => {
                let now = i64::try_from(context.now_ms()).unwrap_or(i64::MAX);
                self.drivers.set(context, driver.id(), now)
            }
            Json(Presence::Leave) => self.drivers.remove(context, driver.id()),
        }
    }
}
