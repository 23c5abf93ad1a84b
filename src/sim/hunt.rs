//! Does a case fail, and how little of it fails too? A failing run is made smaller before anybody reads it.
//!
//! First as few records as still fail, by halving; then each kind of fault that is not needed is left out; then records again. What
//! else a run does stays as it was drawn, so a smaller run is likely to fail for the same reason, but need not: its own reason is told.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::simulation::Recorder;
use super::swarm::Trouble;
use super::workload::{Case, Manner, Passed};

/// A failing case, made small.
#[derive(Clone, Debug)]
pub struct Found {
    /// The smallest case found that fails.
    pub case: Case,
    /// Why it fails.
    pub reason: String,
    /// The last events of its run.
    pub events: Vec<String>,
    /// Runs that it took to find it.
    pub tries: u32,
}

/// Runs a case. An assertion of the machines that does not hold is a failure like others.
///
/// # Errors
/// What did not hold.
pub fn attempt(case: &Case, recorder: Option<Recorder>) -> Result<Passed, String> {
    catch_unwind(AssertUnwindSafe(|| case.run_recorded(recorder)))
        .unwrap_or_else(|payload| Err(format!("an assertion: {}", text_of(&*payload))))
}

/// Makes a failing case smaller; `None` if it does not fail.
#[must_use]
pub fn shrink(case: &Case) -> Option<Found> {
    let mut tries = 0;
    let case = smaller(case, &mut tries, &mut |candidate| attempt(candidate, None).is_err());
    let recorder = Recorder::default();
    let reason = attempt(&case, Some(recorder.clone())).err()?;
    Some(Found { case, reason, events: recorder.lines(), tries: tries + 1 })
}

/// The smallest case that was found to fail.
fn smaller(case: &Case, tries: &mut u32, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut fails = |candidate: &Case| {
        *tries += 1;
        *tries <= TRIES_MAX && fails(candidate)
    };
    let mut least = case.clone();
    shrink_records(&mut least, &mut fails);
    let troubles: &[Trouble] = if case.manner == Manner::Swarm { &Trouble::ALL } else { &[] };
    for &trouble in troubles {
        let mut candidate = least.clone();
        if candidate.without.insert(trouble) && fails(&candidate) {
            least = candidate;
        }
    }
    shrink_records(&mut least, &mut fails);
    least
}

fn shrink_records(least: &mut Case, fails: &mut dyn FnMut(&Case) -> bool) {
    let mut too_few = 0;
    while too_few + 1 < least.records {
        let records = too_few + (least.records - too_few) / 2;
        let candidate = Case { records, ..least.clone() };
        if fails(&candidate) {
            *least = candidate;
        } else {
            too_few = records;
        }
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Runs that making a case smaller may take; with them a run of minutes is not made to hours.
const TRIES_MAX: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::workload::Workload;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let case = Case::new(Workload::Counting, 1);
        let needs = |candidate: &Case| {
            17 <= candidate.records
                && !candidate.without.contains(&Trouble::Crash)
                && !candidate.without.contains(&Trouble::LostTail)
        };
        let mut tries = 0;
        let least = smaller(&case, &mut tries, &mut { needs });
        assert_eq!(least.records, 17);
        let kept = Trouble::ALL.into_iter().filter(|trouble| !least.without.contains(trouble));
        assert_eq!(kept.collect::<Vec<_>>(), [Trouble::LostTail, Trouble::Crash]);
        assert!(tries <= TRIES_MAX);
    }

    #[test]
    fn what_never_fails_again_stays_whole() {
        let case = Case::new(Workload::Trees, 1);
        assert_eq!(smaller(&case, &mut 0, &mut |_| false), case);
    }
}
