//! What does a driver's function do? It keeps one offer or ride at a time, and is in the list of its cell while it is free.
//!
//! ```text
//!        ┌─ decline, or no answer in time ─┐
//! Free ──┴─ offer ─→ Offered ──────────────┘─ accept ─→ Riding ─ drop off ─→ Free
//! ```
//! **Invariant.** Whoever is not free declines: a cell may name a driver that has just moved and been named elsewhere.

use std::time::Duration;

use fogfun::address::Address;
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

use crate::words::{Answer, DriverSays, News, Offer, OfferOver, Place, Presence, RIDE, publish, sender};

/// How long an offer stands.
const OFFER: Duration = Duration::from_millis(500);
/// Under which the end of the offer waits; each driver has its own.
const TOKEN: &str = "offer";

/// One object serves all drivers of a worker.
pub(crate) struct Driver {
    known: PersistedValue<Json<Known>>,
}

/// What is known of a driver; nothing, before it first says where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    place: Place,
    duty: Duty,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Duty {
    /// In the list of its cell, unless a ride was just told of it.
    Free,
    /// The app was asked; [`OfferOver`] waits.
    Offered {
        ride: String,
    },
    Riding {
        ride: String,
    },
}

impl JsonType for Known {
    const TYPENAME: &'static str = "rides/driver-known";
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self { known: PersistedValue::new("known") }
    }

    fn on_app(&self, context: &mut Context<'_>, says: DriverSays) -> Result<(), FunctionError> {
        let Some(Json(known)) = self.known.get(context)? else {
            return match says {
                DriverSays::At { place } => self.free(context, place),
                _ => Err("a driver whose place is not known".into()),
            };
        };
        match (says, known.duty) {
            (DriverSays::At { place }, Duty::Free) => {
                context.send(known.place.cell()?, Json(Presence::Leave))?;
                self.free(context, place)
            }
            (DriverSays::At { place }, duty) => self.known.set(context, Json(Known { place, duty })),
            (DriverSays::Accept { ride }, Duty::Offered { ride: offered }) if ride == offered => {
                context.cancel(TOKEN)?;
                context.send(Address::new(RIDE, &ride)?, Json(Answer::Accepted))?;
                publish(context, News::Took(ride.clone()))?;
                self.known.set(context, Json(Known { place: known.place, duty: Duty::Riding { ride } }))
            }
            (DriverSays::Decline { ride }, Duty::Offered { ride: offered }) if ride == offered => {
                context.cancel(TOKEN)?;
                self.decline(context, known.place, &ride)
            }
            (DriverSays::DropOff { ride, place }, Duty::Riding { ride: ridden }) if ride == ridden => {
                context.send(Address::new(RIDE, &ride)?, Json(Answer::DroppedOff))?;
                publish(context, News::Finished(ride))?;
                self.free(context, place)
            }
            // Too late: the offer was over.
            (DriverSays::Accept { .. } | DriverSays::Decline { .. }, _) => Ok(()),
            (DriverSays::DropOff { .. }, _) => Err("a drop off without a ride".into()),
        }
    }

    fn on_offer(&self, context: &mut Context<'_>, offer: Offer) -> Result<(), FunctionError> {
        let ride = sender(context)?;
        let Some(Json(Known { place, duty: Duty::Free })) = self.known.get(context)? else {
            return context.reply(Json(Answer::Declined));
        };
        // It may have entered another cell since it was named.
        context.send(place.cell()?, Json(Presence::Leave))?;
        let ride = ride.id().to_owned();
        let own = context.self_address().clone();
        context.send_after_with_token(OFFER, own, Json(OfferOver { ride: ride.clone() }), TOKEN)?;
        publish(context, News::Offered { ride: ride.clone(), from: offer.from, to: offer.to })?;
        self.known.set(context, Json(Known { place, duty: Duty::Offered { ride } }))
    }

    fn on_offer_over(&self, context: &mut Context<'_>, over: &OfferOver) -> Result<(), FunctionError> {
        match self.known.get(context)? {
            Some(Json(Known { place, duty: Duty::Offered { ride } })) if ride == over.ride => {
                self.decline(context, place, &ride)
            }
            // It was answered when this already waited in the mailbox.
            _ => Ok(()),
        }
    }

    fn decline(&self, context: &mut Context<'_>, place: Place, ride: &str) -> Result<(), FunctionError> {
        context.send(Address::new(RIDE, ride)?, Json(Answer::Declined))?;
        self.free(context, place)
    }

    fn free(&self, context: &mut Context<'_>, place: Place) -> Result<(), FunctionError> {
        context.send(place.cell()?, Json(Presence::Enter))?;
        self.known.set(context, Json(Known { place, duty: Duty::Free }))
    }
}

impl StatefulFunction for Driver {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<Offer>>() {
            let Json(offer) = message.get()?;
            self.on_offer(context, offer)
        } else if message.is::<Json<OfferOver>>() {
            let Json(over) = message.get()?;
            self.on_offer_over(context, &over)
        } else {
            let Json(says) = message.get()?;
            self.on_app(context, says)
        }
    }
}

#[cfg(test)]
mod tests {
    use fogfun::function::effects::Effects;
    use fogfun::message::Message;
    use fogfun::testing::Harness;

    use super::*;
    use crate::words::DRIVER;

    const HERE: Place = Place { column: 1, row: 2 };

    struct Bob(Harness<Driver>);

    impl Bob {
        fn new() -> Self {
            let mut bob = Self(Harness::new(Driver::new()));
            bob.says(DriverSays::At { place: HERE });
            bob
        }

        fn says(&mut self, says: DriverSays) -> &Effects {
            self.0.invoke(&Address::new(DRIVER, "bob").unwrap(), Json(says)).unwrap()
        }

        fn offered(&mut self, ride: &str) -> &Effects {
            let message = Message {
                target: Address::new(DRIVER, "bob").unwrap(),
                caller: Some(Address::new(RIDE, ride).unwrap()),
                argument: Json(Offer { from: HERE, to: HERE }).into(),
                headers: None,
            };
            self.0.deliver(&message).unwrap()
        }

        fn accepts(&mut self, ride: &str) -> &Effects {
            self.says(DriverSays::Accept { ride: ride.to_owned() })
        }
    }

    fn answers(effects: &Effects) -> Vec<Answer> {
        let answers = effects.messages.iter().filter(|message| message.argument.is::<Json<Answer>>());
        answers.map(|message| message.argument.get::<Json<Answer>>().unwrap().0).collect()
    }

    #[test]
    fn no_driver_has_two_rides() {
        let mut bob = Bob::new();
        assert_eq!(bob.offered("ann-1").egress.len(), 1);
        assert_eq!(answers(bob.offered("cid-1")), [Answer::Declined]);
        assert_eq!(answers(bob.accepts("ann-1")), [Answer::Accepted]);
        assert_eq!(answers(bob.offered("cid-2")), [Answer::Declined]);
        let end = bob.says(DriverSays::DropOff { ride: "ann-1".to_owned(), place: HERE });
        assert_eq!(answers(end), [Answer::DroppedOff]);
        assert_eq!(bob.offered("cid-3").egress.len(), 1);
    }

    #[test]
    fn an_offer_that_is_over_cannot_be_accepted() {
        let mut bob = Bob::new();
        bob.offered("ann-1");
        let over = Json(OfferOver { ride: "ann-1".to_owned() });
        let effects = bob.0.invoke(&Address::new(DRIVER, "bob").unwrap(), over).unwrap();
        assert_eq!(answers(effects), [Answer::Declined]);
        assert!(bob.accepts("ann-1").is_empty());
    }

    #[test]
    fn who_is_driving_enters_no_cell() {
        let mut bob = Bob::new();
        bob.offered("ann-1");
        bob.accepts("ann-1");
        let there = Place { column: 0, row: 0 };
        assert!(bob.says(DriverSays::At { place: there }).messages.is_empty());
    }
}
