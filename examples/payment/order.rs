//! What becomes of an order? Credit is set aside, the customer may think again for a while, then the card is charged, once.
//!
//! ```text
//! Place ─→ Reserving ─ yes ─→ Waiting ─ delay over ─→ Charging ─ success ─→ paid
//!             │ no               │ Withdraw              │ ▲ failure: again, later; unknown: again, now; the same key each time
//!             └→ refused         └→ cancelled            └─┘
//! ```
//! There is one logical function per order, `payment/order` with the order's number as its id. Exactly one outcome is published for each.
//!
//! - An order that is placed twice is one order: what is known already is not begun again.
//! - An attempt at charging is never given up, for of a lost answer nobody knows whether money went. It is repeated under one key,
//!   at growing intervals, and the processor charges a key once.
//! - A message that comes too late — the trigger behind a cancellation, a cancellation behind the trigger — changes nothing.

use std::time::Duration;

use fogfun::address::{Address, TypeName};
use fogfun::function::{
    Context, FunctionError, OperationOutcome, OperationResult, PersistedValue, StatefulFunction,
};
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

use crate::card::{Release, Reserve, Reserved};
use crate::processor::Charge;

/// How long a customer may think again; short, so that one need not wait for it.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);
/// Before the second attempt; doubled for each further one, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

const CARD: TypeName = TypeName::from_static("payment/card");
const CHARGE: TypeName = TypeName::from_static("payment/charge");
const OUTCOMES: TypeName = TypeName::from_static("payment/outcomes");
/// Under which the delayed charge waits; each order has its own.
const TOKEN: &str = "charge";

/// One object serves all orders of a worker.
pub(crate) struct Order {
    progress: PersistedValue<Json<Progress>>,
}

/// From the shop: `{"order":"17","card":"4711","cents":1999}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    card: String,
    cents: i64,
}

/// From the shop: `{"order":"17"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Withdraw {}

/// The message to oneself, after [`SECOND_THOUGHTS`] and before each further attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ChargeNow;

/// What is known of an order; nothing, if it was not placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    card: String,
    cents: i64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    /// The card has been asked for credit.
    Reserving,
    /// The customer withdrew before the card replied.
    Withdrawing,
    /// [`ChargeNow`] waits.
    Waiting,
    /// An attempt runs, or [`ChargeNow`] waits for the next. So many ended without a receipt: failed, and unknown.
    Charging { failed: u32, unknown: u32 },
    /// The outcome is published.
    Ended,
}

impl JsonType for Place {
    const TYPENAME: &'static str = "payment/place";
}

impl JsonType for Withdraw {
    const TYPENAME: &'static str = "payment/withdraw";
}

impl JsonType for ChargeNow {
    const TYPENAME: &'static str = "payment/charge-now";
}

impl JsonType for Progress {
    const TYPENAME: &'static str = "payment/progress";
}

impl Order {
    pub(crate) fn new() -> Self {
        Self { progress: PersistedValue::new("progress") }
    }

    fn on_place(&self, context: &mut Context<'_>, place: Place) -> Result<(), FunctionError> {
        if self.progress.get(context)?.is_some() {
            return Ok(());
        }
        let Place { card, cents } = place;
        context.send(Address::new(CARD, &card)?, Json(Reserve { cents }))?;
        self.progress.set(context, Json(Progress { card, cents, step: Step::Reserving }))
    }

    fn on_reserved(
        &self,
        context: &mut Context<'_>,
        order: Progress,
        reserved: Reserved,
    ) -> Result<(), FunctionError> {
        match (order.step, reserved) {
            (Step::Reserving, Reserved::Yes) => {
                let own = context.self_address().clone();
                context.send_after_with_token(SECOND_THOUGHTS, own, Json(ChargeNow), TOKEN)?;
                self.step(context, order, Step::Waiting)
            }
            (Step::Withdrawing, Reserved::Yes) => {
                context.send(Address::new(CARD, &order.card)?, Json(Release { cents: order.cents }))?;
                self.end(context, order, "cancelled".to_owned())
            }
            (Step::Reserving | Step::Withdrawing, Reserved::No) => {
                self.end(context, order, "refused".to_owned())
            }
            _ => Err("the card answers what it was not asked".into()),
        }
    }

    fn on_withdraw(&self, context: &mut Context<'_>, order: Progress) -> Result<(), FunctionError> {
        match order.step {
            Step::Reserving => self.step(context, order, Step::Withdrawing),
            Step::Waiting => {
                context.cancel(TOKEN)?;
                context.send(Address::new(CARD, &order.card)?, Json(Release { cents: order.cents }))?;
                self.end(context, order, "cancelled".to_owned())
            }
            Step::Withdrawing | Step::Charging { .. } | Step::Ended => Ok(()),
        }
    }

    fn on_charge_now(&self, context: &mut Context<'_>, order: Progress) -> Result<(), FunctionError> {
        match order.step {
            Step::Waiting => {
                Self::charge(context, &order)?;
                self.step(context, order, Step::Charging { failed: 0, unknown: 0 })
            }
            Step::Charging { .. } => Self::charge(context, &order),
            // It waited in the mailbox when the order was cancelled.
            Step::Reserving | Step::Withdrawing | Step::Ended => Ok(()),
        }
    }

    fn on_result(
        &self,
        context: &mut Context<'_>,
        order: Progress,
        outcome: &OperationOutcome,
    ) -> Result<(), FunctionError> {
        let Step::Charging { failed, unknown } = order.step else {
            return Err("the processor answers what it was not asked".into());
        };
        match outcome {
            OperationOutcome::Success(_) => {
                let attempts = failed + unknown + 1;
                let text = format!("paid {} attempts {attempts} unknown {unknown}", order.cents);
                self.end(context, order, text)
            }
            OperationOutcome::Failure(_) => {
                let pause = PAUSE.saturating_mul(1 << failed.min(10)).min(PAUSE_MAX);
                context.send_after(pause, context.self_address().clone(), Json(ChargeNow))?;
                self.step(context, order, Step::Charging { failed: failed + 1, unknown })
            }
            // The node died in between: it was charged, or not. The key makes it safe to ask again.
            OperationOutcome::Unknown => {
                Self::charge(context, &order)?;
                self.step(context, order, Step::Charging { failed, unknown: unknown + 1 })
            }
        }
    }

    fn charge(context: &mut Context<'_>, order: &Progress) -> Result<(), FunctionError> {
        let idempotency_key = context.self_address().id().to_owned();
        context.register_operation(&CHARGE, Json(Charge { idempotency_key, cents: order.cents }))
    }

    fn end(&self, context: &mut Context<'_>, order: Progress, outcome: String) -> Result<(), FunctionError> {
        context.egress(&OUTCOMES, outcome)?;
        self.step(context, order, Step::Ended)
    }

    fn step(&self, context: &mut Context<'_>, order: Progress, step: Step) -> Result<(), FunctionError> {
        self.progress.set(context, Json(Progress { step, ..order }))
    }
}

impl StatefulFunction for Order {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<Place>>() {
            let Json(place) = message.get()?;
            return self.on_place(context, place);
        }
        let Some(Json(order)) = self.progress.get(context)? else {
            return Err("no such order".into());
        };
        if message.is::<Json<Reserved>>() {
            let Json(reserved) = message.get()?;
            self.on_reserved(context, order, reserved)
        } else if message.is::<Json<Withdraw>>() {
            self.on_withdraw(context, order)
        } else if message.is::<Json<ChargeNow>>() {
            self.on_charge_now(context, order)
        } else {
            let result: OperationResult = message.get()?;
            self.on_result(context, order, &result.outcome)
        }
    }
}

#[cfg(test)]
mod tests {
    use fogfun::function::effects::{DelayedEffect, Effects};
    use fogfun::testing::Harness;

    use super::*;

    struct Shop(Harness<Order>);

    impl Shop {
        /// A shop with one order, for which credit was asked.
        fn new() -> Self {
            let mut shop = Self(Harness::new(Order::new()));
            let effects = shop.tell(Json(Place { card: "4711".into(), cents: 5 }));
            assert_eq!(effects.messages[0].argument.get::<Json<_>>().unwrap(), Json(Reserve { cents: 5 }));
            shop
        }

        fn tell(&mut self, argument: impl Into<TypedValue>) -> &Effects {
            let order = Address::new(TypeName::from_static("payment/order"), "17").unwrap();
            self.0.invoke(&order, argument).unwrap()
        }

        fn told(&mut self, outcome: OperationOutcome) -> &Effects {
            self.tell(OperationResult { operation: CHARGE, request: TypedValue::default(), outcome })
        }
    }

    fn outcome(effects: &Effects) -> Option<String> {
        effects.egress.first().map(|record| record.value.get().unwrap())
    }

    fn key(effects: &Effects) -> String {
        effects.operations[0].request.get::<Json<Charge>>().unwrap().0.idempotency_key
    }

    #[test]
    fn every_attempt_has_the_same_key() {
        let mut shop = Shop::new();
        shop.tell(Json(Reserved::Yes));
        assert_eq!(key(shop.tell(Json(ChargeNow))), "17");
        let failed = shop.told(OperationOutcome::Failure("busy".into()));
        assert!(matches!(&failed.delayed[..], [DelayedEffect::Send { delay, .. }] if *delay == PAUSE));
        assert!(failed.operations.is_empty());
        assert_eq!(key(shop.tell(Json(ChargeNow))), "17");
        assert_eq!(key(shop.told(OperationOutcome::Unknown)), "17");
        let paid = shop.told(OperationOutcome::Success("receipt".into()));
        assert_eq!(outcome(paid).as_deref(), Some("paid 5 attempts 3 unknown 1"));
    }

    #[test]
    fn an_order_placed_twice_is_one() {
        let mut shop = Shop::new();
        assert!(shop.tell(Json(Place { card: "4711".into(), cents: 5 })).messages.is_empty());
    }

    #[test]
    fn a_cancelled_order_is_not_charged_and_frees_the_credit() {
        let mut shop = Shop::new();
        shop.tell(Json(Reserved::Yes));
        let cancelled = shop.tell(Json(Withdraw {}));
        assert_eq!(outcome(cancelled).as_deref(), Some("cancelled"));
        assert!(matches!(&cancelled.delayed[..], [DelayedEffect::Cancel { token }] if token == TOKEN));
        assert_eq!(cancelled.messages[0].argument.get::<Json<_>>().unwrap(), Json(Release { cents: 5 }));
        // The trigger may already have waited in the mailbox.
        assert!(shop.tell(Json(ChargeNow)).operations.is_empty());
    }

    #[test]
    fn a_cancellation_may_overtake_the_cards_reply() {
        let mut shop = Shop::new();
        assert!(shop.tell(Json(Withdraw {})).egress.is_empty());
        let cancelled = shop.tell(Json(Reserved::Yes));
        assert_eq!(outcome(cancelled).as_deref(), Some("cancelled"));
        assert_eq!(cancelled.messages[0].argument.get::<Json<_>>().unwrap(), Json(Release { cents: 5 }));
    }

    #[test]
    fn a_late_cancellation_changes_nothing() {
        let mut shop = Shop::new();
        shop.tell(Json(Reserved::Yes));
        shop.tell(Json(ChargeNow));
        assert!(outcome(shop.tell(Json(Withdraw {}))).is_none());
    }

    #[test]
    fn without_credit_an_order_is_refused() {
        let refused = outcome(Shop::new().tell(Json(Reserved::No)));
        assert_eq!(refused.as_deref(), Some("refused"));
    }
}
