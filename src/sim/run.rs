//! Does *your* module keep its promises when everything fails? It is run in the simulated world, from a seed, in a test of your own.
//!
//! ```text
//! Run::new(module, yaml)? ─ publish, wait ─ expect, expect_state, check ─ seeds(0..100)?
//! ```
//!
//! Per seed a board runs the module between a simulated broker, disk, clock and network, and dies, loses connections, finds its disk
//! full … as the seed draws it ([`swarm`](super::swarm)). When all records are published nothing fails any more, and what is
//! expected must come true within virtual minutes, and stay so. What is not expected is looked for too: records or acknowledgements
//! that leave before their sync, invocations side by side, memory beyond its bound, dead letters that nobody allowed.
//!
//! The same seed is the same run, so a failure names the seed, and [`seed`](Run::seed) repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use embassy_time::Duration;

use super::client::{Client, message_id_of};
use super::endpoint::Endpoint;
use super::simulation::sabotage::Sabotage;
use super::simulation::{Plan, Recorder, Simulation};
use super::swarm::{self, Trouble};
use crate::admin::{AdminReply, AdminRequest};
use crate::module::{Application, LoadErrors, Module, Specification};
use crate::mqtt::codec::Publish;
use crate::mqtt::config::Qos;
use crate::typed_value::Value;
use crate::worker::io::WorkerIndex;

type Check = Box<dyn Fn(&mut Outcome<'_>) -> Result<(), String>>;

/// A module, what is published to it, and what is to come of it. An example is in [`sim`](crate::sim).
pub struct Run {
    application: Arc<Application>,
    steps: Vec<Step>,
    checks: Vec<Check>,
    allows_dead_letters: bool,
    without: BTreeSet<Trouble>,
    sabotage: Sabotage,
}

enum Step {
    Publish { topic: String, payload: Vec<u8>, qos: Qos },
    Wait(Duration),
}

impl Run {
    /// A run of this module. Functions behind an endpoint are not there: bind them in the module instead. Environment variables in its `module.yaml` have their defaults, and every broker is the simulated one.
    ///
    /// # Errors
    /// What `fogfun check` would find.
    pub fn new(module: Module, yaml: &str) -> Result<Self, LoadErrors> {
        let specification = Specification::parse("module.yaml", yaml, &|_| None)?;
        let application = Arc::new(Application::link(module, specification)?);
        Ok(Self {
            application,
            steps: Vec::new(),
            checks: Vec::new(),
            allows_dead_letters: false,
            without: BTreeSet::new(),
            sabotage: Sabotage::None,
        })
    }

    /// Publishes a record with QoS 2, up to 20 ms of virtual time after the one before.
    #[must_use]
    pub fn publish(self, topic: &str, payload: impl Into<Vec<u8>>) -> Self {
        self.publish_with(topic, payload, Qos::ExactlyOnce)
    }

    /// Publishes a record with another QoS: 1 may be repeated, 0 may be lost.
    #[must_use]
    pub fn publish_with(mut self, topic: &str, payload: impl Into<Vec<u8>>, qos: Qos) -> Self {
        self.steps.push(Step::Publish { topic: topic.to_owned(), payload: payload.into(), qos });
        self
    }

    /// Lets virtual time pass before the next record.
    #[must_use]
    pub fn wait(mut self, time: std::time::Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.steps.push(Step::Wait(Duration::from_micros(micros.min(WAIT_US_MAX))));
        self
    }

    /// Expects exactly these records on a topic, in this order. Repeats that QoS 1 allows are dropped by their message id first.
    #[must_use]
    pub fn expect<T: Into<Vec<u8>>>(self, topic: &str, payloads: impl IntoIterator<Item = T>) -> Self {
        let topic = topic.to_owned();
        let expected: Vec<Vec<u8>> = payloads.into_iter().map(Into::into).collect();
        self.check(move |outcome| {
            let came = outcome.records(&topic);
            if came == expected {
                return Ok(());
            }
            let texts = |records: &[Vec<u8>]| -> Vec<String> {
                records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
            };
            Err(format!("{topic}: {:?} came, not {:?}", texts(&came), texts(&expected)))
        })
    }

    /// Expects a [`PersistedValue`](crate::PersistedValue) of one address to hold this.
    #[must_use]
    pub fn expect_state<T>(self, function_type: &str, id: &str, name: &str, expected: T) -> Self
    where
        T: Value + PartialEq + fmt::Debug + 'static,
    {
        let (function_type, id, name) = (function_type.to_owned(), id.to_owned(), name.to_owned());
        self.check(move |outcome| match outcome.state::<T>(&function_type, &id, &name) {
            Some(found) if found == expected => Ok(()),
            found => Err(format!("{function_type} {id} {name} is {found:?}, not {expected:?}")),
        })
    }

    /// Expects anything else. It is asked again until it holds, then once more.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&mut Outcome<'_>) -> Result<(), String> + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Dead letters are no failure; else each is.
    #[must_use]
    pub fn allow_dead_letters(mut self) -> Self {
        self.allows_dead_letters = true;
        self
    }

    /// Leaves out a kind of fault.
    #[must_use]
    pub fn without(mut self, trouble: Trouble) -> Self {
        self.without.insert(trouble);
        self
    }

    /// Leaves out all of them: is it the faults that the run fails under?
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.without.extend(Trouble::ALL);
        self
    }

    /// Plants a mistake in the world between the machines: does the run see it?
    #[must_use]
    pub fn plant(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Runs one seed.
    ///
    /// # Errors
    /// What did not hold, with the last events.
    pub fn seed(&self, seed: u64) -> Result<(), RunFailure> {
        let attempt = |recorder: Option<Recorder>| {
            catch_unwind(AssertUnwindSafe(|| self.run(seed, recorder)))
                .unwrap_or_else(|_| Err("an assertion of the machines does not hold".to_owned()))
        };
        let Err(reason) = attempt(None) else {
            return Ok(());
        };
        let recorder = Recorder::default();
        let again = attempt(Some(recorder.clone()));
        let reason = if again.is_ok() { format!("{reason} (but not when repeated)") } else { reason };
        Err(RunFailure { seed, reason, events: recorder.lines() })
    }

    /// Runs many seeds; some milliseconds each.
    ///
    /// # Errors
    /// The first that fails.
    pub fn seeds(&self, seeds: Range<u64>) -> Result<(), RunFailure> {
        for seed in seeds {
            self.seed(seed)?;
        }
        Ok(())
    }

    fn run(&self, seed: u64, recorder: Option<Recorder>) -> Result<(), String> {
        let mut subscriber = Client::connect("fogfun-sim-subscriber");
        subscriber.subscribe("#");
        let clients = vec![Client::connect("fogfun-sim-publisher"), subscriber];
        let simulation = Simulation::new(self.plan(seed), Arc::clone(&self.application), clients);
        let mut simulation = simulation.with_endpoint(Endpoint::new(|_| None, Vec::new()));
        simulation.set_recorder(recorder);
        if !simulation.run_until_subscribed() {
            return Err("the ingress never subscribes".to_owned());
        }
        let mut random = fastrand::Rng::with_seed(seed ^ 0x0f06);
        for step in &self.steps {
            let pause = match step {
                Step::Publish { topic, payload, qos } => {
                    simulation.client(PUBLISHER).publish(topic, payload, *qos, Vec::new());
                    Duration::from_micros(random.u64(0..PAUSE_US_MAX))
                }
                Step::Wait(time) => *time,
            };
            simulation.run_until(simulation.now() + pause);
        }
        simulation.heal();
        self.settle(&mut simulation)
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut plan = swarm::plan(seed, &self.without);
        // What an application may put into one invocation is not ours to make small.
        plan.limits.memory_bytes = plan.limits.memory_bytes.max(MEMORY_BYTES_MIN);
        plan.limits.effects_bytes_max = MEMORY_BYTES_MIN / 4;
        plan.sabotage = self.sabotage;
        plan
    }

    /// Waits until everything holds, and looks once more.
    fn settle(&self, simulation: &mut Simulation) -> Result<(), String> {
        let (mut held, mut checked) = (0, Ok(()));
        for _ in 0..CHECKS_MAX {
            simulation.run_until(simulation.now() + BETWEEN_CHECKS);
            checked = self.judge(&mut Outcome { simulation });
            held = if checked.is_ok() { held + 1 } else { 0 };
            if held == 2 {
                break;
            }
        }
        simulation.violations().into_iter().next().map_or(checked, Err)
    }

    fn judge(&self, outcome: &mut Outcome<'_>) -> Result<(), String> {
        if !self.allows_dead_letters
            && let Some(letter) = outcome.dead_letters().first()
        {
            return Err(format!("a dead letter: {letter}"));
        }
        self.checks.iter().try_for_each(|check| check(outcome))
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("application", &self.application)
            .field("steps", &self.steps.len())
            .field("checks", &self.checks.len())
            .field("without", &self.without)
            .finish_non_exhaustive()
    }
}

/// What has come of a run so far.
pub struct Outcome<'a> {
    simulation: &'a mut Simulation,
}

impl Outcome<'_> {
    /// The payloads that came on a topic, in order; of QoS 1 without repeats, of QoS 2 with any there should not be.
    #[must_use]
    pub fn records(&mut self, topic: &str) -> Vec<Vec<u8>> {
        let mut seen = BTreeSet::new();
        let mut is_new = |publish: &Publish| {
            publish.qos != Qos::AtLeastOnce
                || message_id_of(publish).is_none_or(|id| seen.insert(id.to_owned()))
        };
        let received = self.simulation.client(SUBSCRIBER).received().iter();
        received
            .filter(|publish| publish.topic == topic.as_bytes() && is_new(publish))
            .map(|publish| publish.payload.to_vec())
            .collect()
    }

    /// The same as text.
    #[must_use]
    pub fn texts(&mut self, topic: &str) -> Vec<String> {
        let records = self.records(topic);
        records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
    }

    /// What a [`PersistedValue`](crate::PersistedValue) of one address holds, as committed.
    #[must_use]
    pub fn state<T: Value>(&mut self, function_type: &str, id: &str, name: &str) -> Option<T> {
        super::workload::state_of(self.simulation, function_type, id, name)
    }

    /// Dead letters: for whom, and why.
    #[must_use]
    pub fn dead_letters(&mut self) -> Vec<String> {
        let question = AdminRequest::DeadLetterList { after: None, entries_max: u32::MAX };
        let mut letters = BTreeMap::new();
        for worker in 0..self.simulation.workers() {
            if let Some(AdminReply::DeadLetters { letters: found, .. }) =
                self.simulation.ask(&question, WorkerIndex(worker))
            {
                let texts = found.into_iter().map(|letter| {
                    (letter.key, format!("{} {}: {}", letter.function_type, letter.id, letter.reason))
                });
                letters.extend(texts);
            }
        }
        letters.into_values().collect()
    }
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome").field("now", &self.simulation.now()).finish_non_exhaustive()
    }
}

/// A seed under which something did not hold. Nobody's state is changed; the same seed fails again.
#[derive(Clone, thiserror::Error)]
#[error("seed {seed}: {reason}\nrepeat it alone with `.seed({seed})`; what happened last:\n{}", events.join("\n"))]
pub struct RunFailure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub reason: String,
    /// The last events, the oldest first.
    pub events: Vec<String>,
}

/// As text: it is what a test prints that ends with this error.
impl fmt::Debug for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
/// The longest pause after a record, in microseconds.
const PAUSE_US_MAX: u64 = 20_000;
/// The longest wait between records: a day. Beyond it nothing new happens.
const WAIT_US_MAX: u64 = 24 * 3600 * 1_000_000;
/// How often expectations are looked at after the last fault before they count as not met.
const CHECKS_MAX: u32 = 60;
const BETWEEN_CHECKS: Duration = Duration::from_secs(5);
/// The least memory of a worker; a quarter of it is what one invocation's effects may take.
const MEMORY_BYTES_MIN: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::counting;

    fn counters() -> Run {
        let (module, yaml) = counting::module(2, 2);
        // Records carry no message id here.
        let yaml: String = yaml
            .lines()
            .filter(|line| !line.contains("messageId"))
            .map(|line| line.to_owned() + "\n")
            .collect();
        let records = (0..30).map(|number| format!("in/{}", number % 3));
        let run = Run::new(module, &yaml).unwrap();
        let run = records.fold(run, |run, topic| run.publish(&topic, "counts"));
        let counts: Vec<String> = (1..=10).map(|count| count.to_string()).collect();
        run.expect("out/0", counts.clone()).expect("out/2", counts).expect_state(
            "sim/counter",
            "1",
            "count",
            10_i64,
        )
    }

    #[test]
    fn a_module_counts_exactly_once_whatever_fails() {
        counters().seeds(0..20).unwrap();
    }

    #[test]
    fn what_is_not_as_expected_names_its_seed() {
        let failure = counters().expect("out/1", ["1"]).calm().seed(3).unwrap_err();
        assert_eq!(failure.seed, 3);
        let text = failure.to_string();
        assert!(text.contains("out/1") && text.contains(".seed(3)") && !failure.events.is_empty(), "{text}");
    }

    #[test]
    fn a_dead_letter_that_nobody_allowed_is_a_failure() {
        let run = || counters().publish("in/5", counting::FAILS).calm();
        let failure = run().seed(1).unwrap_err();
        assert!(failure.reason.starts_with("a dead letter: sim/counter 5"), "{failure}");
        run().allow_dead_letters().seed(1).unwrap();
    }

    #[test]
    fn a_planted_mistake_is_found() {
        let run = counters().plant(Sabotage::AnswersBeforeSync);
        let failure = run.seeds(0..50).unwrap_err();
        assert!(failure.reason.contains("before"), "{failure}");
    }
}
