//! What does a card's function do? It sets credit aside for an order, and gives it back when the order comes to nothing.
//!
//! There is one logical function per card, `payment/card` with the card's number as its id. Orders send it [`Reserve`] and [`Release`]; it
//! replies [`Reserved`]. Credit that is set aside for an order that is paid stays so: it is spent.

use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

/// What a card may owe in all, in cents.
pub(crate) const CREDIT_CENTS: i64 = 20_000;

/// One object serves all cards of a worker.
pub(crate) struct Card {
    /// What is set aside or spent, in cents; never above [`CREDIT_CENTS`].
    reserved: PersistedValue<i64>,
}

/// From an order: set this aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) cents: i64,
}

/// From an order for which credit was set aside: it will not be charged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) cents: i64,
}

/// To the order: is the credit set aside?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reserved {
    Yes,
    No,
}

impl JsonType for Reserve {
    const TYPENAME: &'static str = "payment/reserve";
}

impl JsonType for Release {
    const TYPENAME: &'static str = "payment/release";
}

impl JsonType for Reserved {
    const TYPENAME: &'static str = "payment/reserved";
}

impl Card {
    pub(crate) fn new() -> Self {
        Self { reserved: PersistedValue::new("reserved") }
    }
}

impl StatefulFunction for Card {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let reserved = self.reserved.get_or_default(context)?;
        if message.is::<Json<Release>>() {
            let Json(Release { cents }) = message.get()?;
            return self.reserved.set(context, reserved - cents);
        }
        let Json(Reserve { cents }) = message.get()?;
        if CREDIT_CENTS < reserved + cents {
            return context.reply(Json(Reserved::No));
        }
        self.reserved.set(context, reserved + cents)?;
        context.reply(Json(Reserved::Yes))
    }
}

#[cfg(test)]
mod tests {
    use fogfun::address::{Address, TypeName};
    use fogfun::message::Message;
    use fogfun::testing::Harness;

    use super::*;

    fn tell(harness: &mut Harness<Card>, argument: impl Into<TypedValue>) -> Option<Reserved> {
        let message = Message {
            target: Address::new(TypeName::from_static("payment/card"), "4711").unwrap(),
            caller: Some(Address::new(TypeName::from_static("payment/order"), "1").unwrap()),
            argument: argument.into(),
            headers: None,
        };
        let effects = harness.deliver(&message).unwrap();
        effects.messages.first().map(|reply| reply.argument.get::<Json<Reserved>>().unwrap().0)
    }

    #[test]
    fn credit_is_set_aside_once_and_comes_back() {
        let mut harness = Harness::new(Card::new());
        let most = Json(Reserve { cents: CREDIT_CENTS - 1 });
        assert_eq!(tell(&mut harness, most.clone()), Some(Reserved::Yes));
        assert_eq!(tell(&mut harness, Json(Reserve { cents: 2 })), Some(Reserved::No));
        assert_eq!(tell(&mut harness, Json(Reserve { cents: 1 })), Some(Reserved::Yes));
        assert_eq!(tell(&mut harness, Json(Release { cents: CREDIT_CENTS - 1 })), None);
        assert_eq!(tell(&mut harness, most), Some(Reserved::Yes));
    }
}
