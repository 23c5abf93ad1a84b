//! What is a seed's run, and did it hold? Workloads whose every mistake shows, under the faults that the seed draws.
//!
//! Each publishes records while things fail, then lets nothing fail any more, and waits until the books balance: that they do within
//! virtual minutes is liveness, that they do at all is exactly once.
//!
//! | promise | checker |
//! |---|---|
//! | state is changed exactly once | every count equals what was published less what is a dead letter |
//! | end to end exactly once, in order | every topic carries 1, 2, 3 … up to its count; over QoS 1, once repeats are dropped by message id |
//! | FIFO from address to address | a mirror that is told anything but the next number fails, and its dead letter is found |
//! | one invocation at a time | every invocation is heard of, with its worker |
//! | nothing is lost silently | in = applied + dead letters + what the broker says that it dropped; what was promised to a person is there |
//! | nothing leaves before its sync | the bytes on the wire against what the disk holds durably ([`watch`](super::watch)) |
//! | memory is bounded | every worker's account after every event |
//! | it goes on | all of this within virtual minutes after the last fault |

use std::collections::BTreeSet;

use embassy_time::Duration;

use super::simulation::sabotage::Sabotage;
use super::simulation::{Counts, Plan, Recorder, Simulation};
use super::swarm::{self, Trouble};

mod books;
mod meddler;
mod trees;

pub(super) use books::state_of;

/// What is done in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Workload {
    /// [`counting`](super::counting): counters, their mirrors on other workers, dead letters, a person who meddles.
    Counting,
    /// [`commands`](super::commands): random trees of commands.
    Trees,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Counting, Self::Trees];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Trees => "trees",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Records that it publishes if nobody says how many.
    #[must_use]
    pub fn records(self) -> u64 {
        match self {
            Self::Counting => 150,
            Self::Trees => 40,
        }
    }
}

/// How the faults of a run are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// The seed draws them.
    Swarm,
    /// Crashes alone, QoS 2 both ways, and what this mistake needs to show: where it is looked for if it is planted.
    Plain(Sabotage),
}

/// A run to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What is done.
    pub workload: Workload,
    /// Everything random comes from it.
    pub seed: u64,
    /// How many records are published.
    pub records: u64,
    /// Faults that are left out.
    pub without: BTreeSet<Trouble>,
    /// A mistake that is planted; then the faults are those in which it shows.
    pub sabotage: Sabotage,
    pub(crate) manner: Manner,
}

/// A run in which everything held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// What happened.
    pub counts: Counts,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Invocations, those undone by a crash included.
    pub invocations: u64,
    /// How full the fullest worker's memory account was, in percent.
    pub memory_percent_max: usize,
    /// The hash of everything that happened: equal cases, equal hashes.
    pub trace: u64,
}

impl Case {
    /// Everything as the seed draws it.
    #[must_use]
    pub fn new(workload: Workload, seed: u64) -> Self {
        Self {
            workload,
            seed,
            records: workload.records(),
            without: BTreeSet::new(),
            sabotage: Sabotage::None,
            manner: Manner::Swarm,
        }
    }

    /// The run in which a planted mistake is looked for.
    #[must_use]
    pub fn planted(seed: u64, sabotage: Sabotage) -> Self {
        Self { sabotage, manner: Manner::Plain(sabotage), ..Self::new(Workload::Counting, seed) }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The first promise that does not hold.
    ///
    /// # Panics
    /// If one of the machines' own assertions does not hold.
    pub fn run(&self) -> Result<Passed, String> {
        self.run_recorded(None)
    }

    /// Runs it and keeps the last events in words.
    ///
    /// # Errors
    /// The first promise that does not hold.
    ///
    /// # Panics
    /// If one of the machines' own assertions does not hold.
    pub fn run_recorded(&self, recorder: Option<Recorder>) -> Result<Passed, String> {
        let simulation = match self.workload {
            Workload::Counting => books::run(self, recorder),
            Workload::Trees => trees::run(self, recorder),
        }?;
        Ok(Passed {
            counts: simulation.counts,
            virtual_time: simulation.now() - embassy_time::Instant::from_ticks(0),
            invocations: simulation.invocations(),
            memory_percent_max: simulation.memory_percent_max(),
            trace: simulation.trace(),
        })
    }

    /// The command that repeats it.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("fogfun sim --seed {}", self.seed);
        if let Some(name) = self.sabotage.name() {
            command += &format!(" --plant {name}");
        } else {
            command += &format!(" --workload {}", self.workload.name());
        }
        if self.records != self.workload.records() {
            command += &format!(" --records {}", self.records);
        }
        if !self.without.is_empty() {
            let names: Vec<&str> = self.without.iter().map(|trouble| trouble.name()).collect();
            command += &format!(" --without {}", names.join(","));
        }
        command
    }

    /// What fails in it, before its workload says more.
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = swarm::plan(seed, &self.without);
        plan.sabotage = self.sabotage;
        plan
    }

    fn leaves_out(&self, trouble: Trouble) -> bool {
        self.without.contains(&trouble)
    }
}

/// Lets virtual time pass until `check` holds, for minutes at most; then nothing else must have been wrong either.
fn settle(
    simulation: &mut Simulation,
    mut check: impl FnMut(&mut Simulation) -> Result<(), String>,
) -> Result<(), String> {
    let mut checked = Ok(());
    for _ in 0..CHECKS_MAX {
        simulation.run_until(simulation.now() + BETWEEN_CHECKS);
        checked = check(simulation);
        if checked.is_ok() {
            break;
        }
    }
    simulation.violations().into_iter().next().map_or(checked, Err)
}

/// How often the books are looked at after the last fault before they count as wrong.
const CHECKS_MAX: u32 = 60;
const BETWEEN_CHECKS: Duration = Duration::from_secs(5);
