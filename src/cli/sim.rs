//! `sim`: FogFun's own workloads in the simulated world, seed by seed, until one fails or the time is up.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::arguments::Sim;
use super::{Exit, Failure, complain, say};
use crate::sim::hunt::{self, Found};
use crate::sim::simulation::sabotage::Sabotage;
use crate::sim::swarm::Trouble;
use crate::sim::workload::{Case, Passed, Workload};

/// What came of all runs so far.
#[derive(Clone, Default, Serialize)]
struct Sum {
    runs: u64,
    seeds: u64,
    seconds: f64,
    virtual_hours: f64,
    crashes: u64,
    disconnects: u64,
    store_failures: u64,
    broker_restarts: u64,
    events: u64,
    invocations: u64,
    memory_percent_max: usize,
    /// Of the traces of all runs, in order: equal builds of equal sources have equal ones.
    trace: String,
    #[serde(skip)]
    hash: u64,
    failure: Option<Failed>,
}

/// The seed that failed.
#[derive(Clone, Serialize)]
struct Failed {
    seed: u64,
    workload: &'static str,
    reason: String,
    shrunk_reason: String,
    shrunk_events: Vec<String>,
    command: String,
}

pub(super) fn sim(arguments: &Sim) -> Result<Exit, Failure> {
    let cases = Cases::new(arguments)?;
    let golden = if cfg!(target_pointer_width = "64") { crate::sim::golden::check() } else { Ok(()) };
    let end = arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60) * minutes);
    let mut sum = Sum::default();
    keep_panics_quiet();
    let found = search(&cases, end, arguments.json, &mut sum);
    let _hook = std::panic::take_hook();
    sum.trace = format!("{:016x}", sum.hash);
    if let Some((case, reason)) = &found {
        sum.failure = Some(failed(case, reason));
    }
    if arguments.json {
        let text = serde_json::to_string(&sum).map_err(|error| error.to_string())?;
        say(&text);
    } else {
        say(&line(&sum, found.is_some()));
        if let Some(failure) = &sum.failure {
            say(&report(failure));
        }
    }
    // A seed that is not the same run everywhere is of no use in a report.
    golden?;
    Ok(if found.is_some() { Exit::Failed } else { Exit::Done })
}

/// What is to be run, seed by seed.
struct Cases {
    first: u64,
    seeds: Option<u64>,
    workloads: Vec<Workload>,
    records: Option<u64>,
    without: BTreeSet<Trouble>,
    sabotage: Sabotage,
}

impl Cases {
    fn new(arguments: &Sim) -> Result<Self, Failure> {
        let usage = |what: &str, name: &str, known: Vec<&str>| {
            Failure(Exit::Usage, format!("there is no {what} `{name}`; there is {}", known.join(", ")))
        };
        let workloads = match &arguments.workload {
            None => Workload::ALL.to_vec(),
            Some(name) => vec![Workload::named(name).ok_or_else(|| {
                usage("workload", name, Workload::ALL.iter().map(|workload| workload.name()).collect())
            })?],
        };
        let names = arguments.without.iter().flat_map(|list| list.split(','));
        let without = names
            .map(|name| {
                Trouble::named(name).ok_or_else(|| {
                    usage("fault", name, Trouble::ALL.iter().map(|trouble| trouble.name()).collect())
                })
            })
            .collect::<Result<_, _>>()?;
        let sabotage = match &arguments.plant {
            None => Sabotage::None,
            Some(name) => Sabotage::named(name).ok_or_else(|| {
                usage("mistake", name, Sabotage::NAMED.iter().map(|(name, _)| *name).collect())
            })?,
        };
        let seeds = match (arguments.seeds, arguments.seed, arguments.minutes) {
            (None, Some(_), None) => Some(1),
            (None, None, None) => Some(SEEDS),
            (seeds, _, _) => seeds,
        };
        let first = arguments.seed.unwrap_or(0);
        Ok(Self { first, seeds, workloads, records: arguments.records, without, sabotage })
    }

    /// The cases of one seed.
    fn of(&self, seed: u64) -> Vec<Case> {
        let adjust = |case: Case| Case {
            records: self.records.unwrap_or(case.records),
            without: self.without.clone(),
            ..case
        };
        match self.sabotage {
            Sabotage::None => {
                self.workloads.iter().map(|&workload| adjust(Case::new(workload, seed))).collect()
            }
            sabotage => vec![adjust(Case::planted(seed, sabotage))],
        }
    }
}

/// Runs case after case, and says now and then how far it is. Ends with the first that fails.
fn search(cases: &Cases, end: Option<Instant>, is_json: bool, sum: &mut Sum) -> Option<(Case, String)> {
    let begin = Instant::now();
    let (is_terminal, mut said) = (std::io::stderr().is_terminal(), begin);
    let every = if is_terminal { Duration::from_secs(1) } else { Duration::from_secs(30) };
    let mut seed = cases.first;
    while cases.seeds.is_none_or(|seeds| seed - cases.first < seeds)
        && end.is_none_or(|end| Instant::now() < end)
    {
        for case in cases.of(seed) {
            let ended = hunt::attempt(&case, None);
            sum.seconds = begin.elapsed().as_secs_f64();
            sum.runs += 1;
            match ended {
                Ok(passed) => sum.add(&passed),
                Err(reason) => return Some((case, with_place(reason))),
            }
        }
        seed += 1;
        sum.seeds += 1;
        if every <= said.elapsed() && !is_json {
            said = Instant::now();
            progress(&line(sum, false), is_terminal);
        }
    }
    None
}

impl Sum {
    fn add(&mut self, passed: &Passed) {
        let counts = passed.counts;
        self.virtual_hours += passed.virtual_time.as_micros() as f64 / 3.6e9;
        self.crashes += counts.crashes;
        self.disconnects += counts.disconnects;
        self.store_failures += counts.store_failures;
        self.broker_restarts += counts.broker_restarts;
        self.events += counts.events;
        self.invocations += passed.invocations;
        self.memory_percent_max = self.memory_percent_max.max(passed.memory_percent_max);
        self.hash = self.hash.rotate_left(7) ^ passed.trace;
    }
}

fn line(sum: &Sum, has_failed: bool) -> String {
    let seconds = sum.seconds.max(0.001);
    format!(
        "{} seeds, {} runs, {:.0} runs/s, {:.1} virtual hours ({:.0} times as fast as time), {} crashes, {} broken \
         connections, {} failed writes, {} invocations; {}",
        sum.seeds,
        sum.runs,
        sum.runs as f64 / seconds,
        sum.virtual_hours,
        sum.virtual_hours * 3600.0 / seconds,
        sum.crashes,
        sum.disconnects,
        sum.store_failures,
        sum.invocations,
        if has_failed { "the last one FAILED" } else { "every promise held" },
    )
}

fn progress(line: &str, is_terminal: bool) {
    use std::io::Write;
    let text = if is_terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") };
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

/// Makes the failing case small and puts together what a person needs.
fn failed(case: &Case, reason: &str) -> Failed {
    complain(&format!("seed {} fails; looking for less that fails too", case.seed));
    let found = hunt::shrink(case).unwrap_or_else(|| Found {
        case: case.clone(),
        reason: "it did not fail again: what it does does not hang on its seed alone".to_owned(),
        events: Vec::new(),
        tries: 0,
    });
    Failed {
        seed: case.seed,
        workload: case.workload.name(),
        reason: reason.to_owned(),
        shrunk_reason: with_place(found.reason),
        shrunk_events: found.events,
        command: found.case.command(),
    }
}

fn report(failure: &Failed) -> String {
    format!(
        "\nseed {} of workload {} fails: {}\n\nsmaller: {}\nits last events:\n{}\n\nrepeat it:  {}",
        failure.seed,
        failure.workload,
        failure.reason,
        failure.shrunk_reason,
        failure.shrunk_events.join("\n"),
        failure.command
    )
}

/// Where the last panic was.
static PANIC_PLACE: Mutex<Option<String>> = Mutex::new(None);

/// A seed that fails may panic dozens of times while it is made small: only the place of the last counts.
fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        *PANIC_PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
}

fn with_place(reason: String) -> String {
    match PANIC_PLACE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(place) => format!("{reason} (at {place})"),
        None => reason,
    }
}

/// Seeds that are run if nobody says how many or how long.
const SEEDS: u64 = 1_000;
