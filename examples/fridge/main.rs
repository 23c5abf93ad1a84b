//! The Fridge: an application with functions in the same binary. What it does is in `fridge.rs`, how to try it in `README.md`.

use std::process::ExitCode;
use std::time::Duration;

use fogfun::module::Module;

mod fridge;

use fridge::Fridge;

/// How long a fridge may be warm before there is an alarm; short, so that one need not wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

const YAML: &str = include_str!("module.yaml");

fn main() -> ExitCode {
    fogfun::run(module().specification_embedded(YAML))
}

fn module() -> Module {
    Module::new().function("example/fridge", || Fridge::new(PATIENCE))
}

#[cfg(test)]
mod tests {
    use fogfun::sim::swarm::Trouble;
    use fogfun::sim::{Outcome, Run};

    use super::*;

    /// Readings counted exactly once, whatever fails: of 40 that are published each is in the statistics, in its place.
    #[test]
    fn no_reading_is_lost_or_counted_twice_whatever_crashes() {
        let readings = (1..=40_u32).map(|number| f64::from(number) / 10.0);
        let run = Run::new(module(), YAML).unwrap();
        let run =
            readings.fold(run, |run, celsius| run.publish("fridge/cellar/temperature", celsius.to_string()));
        run.check(|outcome| {
            let published = outcome.texts("fridge/cellar/statistics");
            let is_right =
                |(place, text): (usize, &String)| text.contains(&format!("\"count\":{},", place + 1));
            match published.len() == 40 && published.iter().enumerate().all(is_right) {
                true => Ok(()),
                false => Err(format!("{published:#?}")),
            }
        })
        .seeds(0..30)
        .unwrap();
    }

    /// The alarm comes once, and its all-clear behind it. The clock keeps still: how long a fridge is warm is told by the clock.
    #[test]
    fn an_alarm_is_raised_once_whatever_crashes() {
        let is_alarm = |outcome: &mut Outcome<'_>| match &outcome.texts("fridge/kitchen/alarm")[..] {
            [alarm, clear] if alarm.starts_with("alarm 1: 9.5") && clear.starts_with("all clear 1: 4.5") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        };
        Run::new(module(), YAML)
            .unwrap()
            .without(Trouble::ClockJump)
            .publish("fridge/kitchen/temperature", "9.5")
            // A full disk and a dozen deaths may keep the reading waiting meanwhile.
            .wait(120 * PATIENCE)
            .publish("fridge/kitchen/temperature", "4.5")
            .check(is_alarm)
            .seeds(0..30)
            .unwrap();
    }
}
