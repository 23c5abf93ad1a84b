//! The Fridge: a function per fridge that keeps statistics of its temperature and raises an alarm when it stays warm.
//!
//! A fridge publishes `21.5` on `fridge/<id>/temperature`. Its function keeps how many readings came, their mean, lowest and highest; tells them on
//! `fridge/<id>/statistics` at every tenth; and when three readings in a row are above eight degrees, tells the alarm function, which counts alarms per
//! fridge and publishes each on `fridge/<id>/alarm`. One cold reading ends an alarm.
//!
//! With Mosquitto on this machine: `cargo run --release --example fridge -- run examples/fridge/module.yaml --data /tmp/fridge`.

use serde::{Deserialize, Serialize};

use fogfun::address::{Address, TypeName};
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::module::Module;
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};

/// Above this many degrees Celsius food spoils.
const WARM: f64 = 8.0;
/// So many warm readings in a row are an alarm: a door stands open for two.
const WARM_READINGS: u32 = 3;
/// Statistics are published at every so many-th reading.
const READINGS_PER_REPORT: u64 = 10;

fn main() -> std::process::ExitCode {
    fogfun::run(
        Module::new()
            .specification_embedded(include_str!("module.yaml"))
            .function("example/fridge", || Fridge {
                statistics: PersistedValue::new("statistics"),
            })
            .function("example/alarm", || Alarm {
                alarms: PersistedValue::new("alarms"),
            }),
    )
}

/// What is known of one fridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Statistics {
    readings: u64,
    mean: f64,
    lowest: f64,
    highest: f64,
    /// Readings above [`WARM`] in a row, up to now.
    warm_in_a_row: u32,
}

impl JsonType for Statistics {
    const TYPENAME: &'static str = "example/statistics";
}

impl Statistics {
    fn add(&mut self, temperature: f64) {
        let is_first = self.readings == 0;
        self.readings += 1;
        self.mean += (temperature - self.mean) / self.readings as f64;
        self.lowest = if is_first {
            temperature
        } else {
            self.lowest.min(temperature)
        };
        self.highest = if is_first {
            temperature
        } else {
            self.highest.max(temperature)
        };
        self.warm_in_a_row = if WARM < temperature {
            self.warm_in_a_row + 1
        } else {
            0
        };
    }
}

/// Keeps statistics; one object for all fridges of a worker, the state is each fridge's own.
struct Fridge {
    statistics: PersistedValue<Json<Statistics>>,
}

impl StatefulFunction for Fridge {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let temperature: f64 = message.get()?;
        let mut statistics = self
            .statistics
            .get(context)?
            .map(|Json(known)| known)
            .unwrap_or_default();
        statistics.add(temperature);
        if statistics.warm_in_a_row == WARM_READINGS {
            let alarm = Address::new(TypeName::parse("example/alarm")?, context.self_address().id())?;
            context.send(alarm, temperature)?;
        }
        if statistics.readings % READINGS_PER_REPORT == 0 {
            context.egress(&TypeName::parse("example/statistics")?, Json(statistics.clone()))?;
        }
        self.statistics.set(context, Json(statistics))
    }
}

/// Counts a fridge's alarms and tells them.
struct Alarm {
    alarms: PersistedValue<i64>,
}

impl StatefulFunction for Alarm {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let temperature: f64 = message.get()?;
        let alarms = self.alarms.get_or_default(context)? + 1;
        self.alarms.set(context, alarms)?;
        let text = format!("alarm {alarms}: {temperature} degrees, warm for {WARM_READINGS} readings");
        context.egress(&TypeName::parse("example/alarms")?, text)
    }
}
