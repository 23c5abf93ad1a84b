//! What does a fridge's function do? It keeps statistics of the temperature, and raises an alarm when it stays warm.
//!
//! There is one logical function per fridge, `example/fridge` with the fridge's name as its id. It receives
//! - a reading, a number of degrees Celsius, from the ingress: the statistics are updated and published at each;
//! - [`StillWarm`], from itself: sent with a delay when the fridge becomes warm, cancelled when it is cold again. If it arrives,
//!   the fridge was warm all that time.
//!
//! Statistics, alarm and timer change together or not at all, and once for every reading, whatever crashes.

use std::time::Duration;

use fogfun::address::TypeName;
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

/// Above this many degrees Celsius food spoils.
pub(crate) const WARM_CELSIUS: f64 = 8.0;

const STATISTICS: TypeName = TypeName::from_static("example/statistics");
const ALARMS: TypeName = TypeName::from_static("example/alarms");
/// Under which the delayed message waits, so that it can be cancelled; each fridge has its own.
const TOKEN: &str = "still-warm";

/// One object serves all fridges of a worker: it holds names of states, not their values.
pub(crate) struct Fridge {
    /// How long a fridge may be warm: a door that is soon closed is no alarm.
    patience: Duration,
    statistics: PersistedValue<Json<Statistics>>,
    warmth: PersistedValue<Json<Warmth>>,
    alarms: PersistedValue<i64>,
}

/// What is known of one fridge's temperature, in degrees Celsius.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    pub(crate) count: u64,
    pub(crate) minimum: f64,
    pub(crate) maximum: f64,
    pub(crate) mean: f64,
    pub(crate) last: f64,
}

/// Where a fridge is between cold and alarm; cold is where it is if nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Warmth {
    /// [`StillWarm`] is on its way.
    Warm,
    /// The alarm was raised and waits for its all-clear.
    Alarmed,
}

/// The message to oneself, to be received after [`Fridge::patience`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct StillWarm;

impl JsonType for Statistics {
    const TYPENAME: &'static str = "example/statistics";
}

impl JsonType for Warmth {
    const TYPENAME: &'static str = "example/warmth";
}

impl JsonType for StillWarm {
    const TYPENAME: &'static str = "example/still-warm";
}

impl Fridge {
    /// A function that raises an alarm once a fridge has been warm for `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            statistics: PersistedValue::new("statistics"),
            warmth: PersistedValue::new("warmth"),
            alarms: PersistedValue::new("alarms"),
        }
    }

    fn on_reading(&self, context: &mut Context<'_>, celsius: f64) -> Result<(), FunctionError> {
        let mut statistics = self.known(context)?;
        statistics.add(celsius);
        self.statistics.set(context, Json(statistics.clone()))?;
        context.egress(&STATISTICS, Json(statistics))?;

        let warmth = self.warmth.get(context)?.map(|Json(warmth)| warmth);
        match (WARM_CELSIUS < celsius, warmth) {
            (true, None) => {
                self.warmth.set(context, Json(Warmth::Warm))?;
                let fridge = context.self_address().clone();
                context.send_after_with_token(self.patience, fridge, Json(StillWarm), TOKEN)
            }
            (false, Some(Warmth::Warm)) => {
                self.warmth.clear(context)?;
                context.cancel(TOKEN)
            }
            (false, Some(Warmth::Alarmed)) => {
                self.warmth.clear(context)?;
                let alarms = self.alarms.get_or_default(context)?;
                context.egress(&ALARMS, format!("all clear {alarms}: {celsius} °C"))
            }
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    fn on_still_warm(&self, context: &mut Context<'_>) -> Result<(), FunctionError> {
        // A message that already waits in the mailbox can no longer be cancelled.
        if self.warmth.get(context)? != Some(Json(Warmth::Warm)) {
            return Ok(());
        }
        self.warmth.set(context, Json(Warmth::Alarmed))?;
        let alarms = self.alarms.update(context, |alarms| alarms.unwrap_or(0) + 1)?;
        let celsius = self.known(context)?.last;
        let seconds = self.patience.as_secs();
        context.egress(&ALARMS, format!("alarm {alarms}: {celsius} °C, warm for {seconds} s"))
    }

    fn known(&self, context: &mut Context<'_>) -> Result<Statistics, FunctionError> {
        let Json(statistics) = self.statistics.get(context)?.unwrap_or(Json(Statistics::default()));
        Ok(statistics)
    }
}

impl StatefulFunction for Fridge {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        if message.is::<Json<StillWarm>>() {
            self.on_still_warm(context)
        } else {
            self.on_reading(context, message.get()?)
        }
    }
}

impl Statistics {
    fn add(&mut self, celsius: f64) {
        let is_first = self.count == 0;
        self.count += 1;
        self.minimum = if is_first { celsius } else { self.minimum.min(celsius) };
        self.maximum = if is_first { celsius } else { self.maximum.max(celsius) };
        self.mean += (celsius - self.mean) / self.count as f64;
        self.last = celsius;
    }
}

#[cfg(test)]
mod tests {
    use fogfun::address::Address;
    use fogfun::function::effects::{DelayedEffect, Effects};
    use fogfun::testing::Harness;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn fridge(id: &str) -> Address {
        Address::new(TypeName::from_static("example/fridge"), id).unwrap()
    }

    fn alarms(effects: &Effects) -> Vec<String> {
        let records = effects.egress.iter().filter(|record| record.egress == ALARMS);
        records.map(|record| record.value.get().unwrap()).collect()
    }

    #[test]
    fn statistics_are_of_one_fridge_and_published_at_each_reading() {
        let mut harness = Harness::new(Fridge::new(PATIENCE));
        harness.invoke(&fridge("cellar"), 7.0).unwrap();
        harness.invoke(&fridge("kitchen"), 4.0).unwrap();
        let effects = harness.invoke(&fridge("kitchen"), 5.0).unwrap();
        let Json(published) = effects.egress[0].value.get::<Json<Statistics>>().unwrap();
        let expected = Statistics { count: 2, minimum: 4.0, maximum: 5.0, mean: 4.5, last: 5.0 };
        assert_eq!(published, expected);
    }

    #[test]
    fn a_door_soon_closed_is_no_alarm() {
        let mut harness = Harness::new(Fridge::new(PATIENCE));
        let effects = harness.invoke(&fridge("kitchen"), 9.0).unwrap();
        assert!(matches!(&effects.delayed[..], [DelayedEffect::Send { delay, .. }] if *delay == PATIENCE));
        assert!(harness.invoke(&fridge("kitchen"), 9.5).unwrap().delayed.is_empty());
        let effects = harness.invoke(&fridge("kitchen"), 5.0).unwrap();
        assert!(matches!(&effects.delayed[..], [DelayedEffect::Cancel { token }] if token == TOKEN));
        let effects = harness.invoke(&fridge("kitchen"), Json(StillWarm)).unwrap();
        assert!(alarms(effects).is_empty());
    }

    #[test]
    fn a_fridge_that_stays_warm_is_an_alarm_until_it_is_cold() {
        let mut harness = Harness::new(Fridge::new(PATIENCE));
        for number in 1..=2 {
            harness.invoke(&fridge("kitchen"), 9.5).unwrap();
            let effects = harness.invoke(&fridge("kitchen"), Json(StillWarm)).unwrap();
            assert_eq!(alarms(effects), [format!("alarm {number}: 9.5 °C, warm for 5 s")]);
            assert!(alarms(harness.invoke(&fridge("kitchen"), 9.0).unwrap()).is_empty());
            let effects = harness.invoke(&fridge("kitchen"), 4.5).unwrap();
            assert_eq!(alarms(effects), [format!("all clear {number}: 4.5 °C")]);
        }
    }

    #[test]
    fn what_is_no_reading_changes_nothing() {
        let mut harness = Harness::new(Fridge::new(PATIENCE));
        assert!(harness.invoke(&fridge("kitchen"), "warm".to_owned()).is_err());
        assert!(harness.state(&fridge("kitchen")).is_empty());
    }
}
