//! What does a ride do? It looks for a driver, cell by cell, until one accepts, and says how it goes.
//!
//! ```text
//! Request ─→ Searching ─ found ─→ Offered ─ accepted ─→ Riding ─ dropped off ─→ Ended
//!             ▲  │ none: the next cell; none anywhere: again, later
//!             └──┴──────── declined ─┘
//! ```

use std::time::Duration;

use fogfun::address::Address;
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

use crate::words::{
    Answer, Arrived, DRIVER, Find, Found, News, Offer, PASSENGER, Place, Request, SearchAgain, publish,
    sender,
};

/// Before all cells are asked again, when nobody was free in any.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// One object serves all rides of a worker.
pub(crate) struct Ride {
    known: PersistedValue<Json<Known>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    passenger: String,
    from: Place,
    to: Place,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// Of the cells, the nearest first, this one is being asked; or all were, and [`SearchAgain`] waits.
    Searching {
        cell: usize,
    },
    Offered,
    Riding,
    Ended,
}

impl JsonType for Known {
    const TYPENAME: &'static str = "rides/ride-known";
}

impl Ride {
    pub(crate) fn new() -> Self {
        Self { known: PersistedValue::new("known") }
    }

    fn on_request(&self, context: &mut Context<'_>, request: &Request) -> Result<(), FunctionError> {
        let passenger = sender(context)?.id().to_owned();
        publish(context, News::Requested)?;
        let Request { from, to } = *request;
        self.search(context, Known { passenger, from, to, step: Step::Searching { cell: 0 } }, 0)
    }

    fn on_found(&self, context: &mut Context<'_>, ride: Known, found: &Found) -> Result<(), FunctionError> {
        let Step::Searching { cell } = ride.step else {
            return Err("a cell answers what it was not asked".into());
        };
        let Some(driver) = &found.driver else {
            return self.search(context, ride, cell + 1);
        };
        context.send(Address::new(DRIVER, driver)?, Json(Offer { from: ride.from, to: ride.to }))?;
        self.step(context, ride, Step::Offered)
    }

    fn on_answer(&self, context: &mut Context<'_>, ride: Known, answer: Answer) -> Result<(), FunctionError> {
        match (answer, &ride.step) {
            (Answer::Accepted, Step::Offered) => {
                let driver = sender(context)?.id().to_owned();
                publish(context, News::Driver(driver))?;
                self.step(context, ride, Step::Riding)
            }
            (Answer::Declined, Step::Offered) => self.search(context, ride, 0),
            (Answer::DroppedOff, Step::Riding) => {
                publish(context, News::Ended)?;
                context.send(Address::new(PASSENGER, &ride.passenger)?, Json(Arrived))?;
                self.step(context, ride, Step::Ended)
            }
            _ => Err(FunctionError::new(format!("{answer:?} in {:?}", ride.step))),
        }
    }

    /// Asks a cell, by its number from the nearest on; behind the last, waits.
    fn search(&self, context: &mut Context<'_>, ride: Known, cell: usize) -> Result<(), FunctionError> {
        match ride.from.nearest_first().get(cell) {
            Some(place) => context.send(place.cell()?, Json(Find))?,
            None => context.send_after(SEARCH_PAUSE, context.self_address().clone(), Json(SearchAgain))?,
        }
        self.step(context, ride, Step::Searching { cell })
    }

    fn step(&self, context: &mut Context<'_>, ride: Known, step: Step) -> Result<(), FunctionError> {
        self.known.set(context, Json(Known { step, ..ride }))
    }
}

impl StatefulFunction for Ride {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<Request>>() {
            let Json(request) = message.get()?;
            return self.on_request(context, &request);
        }
        let Some(Json(ride)) = self.known.get(context)? else {
            return Err("no such ride".into());
        };
        if message.is::<Json<Found>>() {
            let Json(found) = message.get()?;
            self.on_found(context, ride, &found)
        } else if message.is::<Json<SearchAgain>>() {
            self.search(context, ride, 0)
        } else {
            let Json(answer) = message.get()?;
            self.on_answer(context, ride, answer)
        }
    }
}
