use super::disk::Lie;
use super::hunt::attempt;
use super::simulation::sabotage::Sabotage;
use super::workload::{Case, Manner, Workload};
use crate::state::key::Kind;

fn seeds(by_default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(by_default),
    }
}

/// Every seed passes, and not because nothing happened.
fn holds(workload: Workload, seeds: std::ops::Range<u64>) {
    let (is_one, mut crashes) = (seeds.clone().count() == 1, 0);
    let mut failed = Vec::new();
    for seed in seeds {
        match attempt(&Case::new(workload, seed), None) {
            Ok(passed) => crashes += passed.counts.crashes,
            Err(error) => failed.push(format!("seed {seed}: {error}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed; the first: {:#?}",
        failed.len(),
        &failed[..failed.len().min(6)]
    );
    assert!(is_one || 0 < crashes, "no seed crashed: nothing was shown");
}

#[test]
fn books_balance_whatever_crashes() {
    holds(Workload::Counting, seeds(60));
}

#[test]
fn trees_of_commands_come_to_their_sums_whatever_crashes() {
    holds(Workload::Trees, seeds(40));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for workload in Workload::ALL {
        let run = || Case::new(workload, 4).run().unwrap();
        assert_eq!(run(), run());
    }
}

/// A planted mistake is found in one of many seeds.
fn found(sabotage: Sabotage) {
    let fails = |seed| attempt(&Case::planted(seed, sabotage), None).is_err();
    assert!((0..SABOTAGE_SEEDS).any(fails), "{sabotage:?} is found in none of {SABOTAGE_SEEDS} seeds");
}

const SABOTAGE_SEEDS: u64 = 200;

#[test]
fn without_sabotage_the_same_seeds_pass() {
    let scenes = [
        Sabotage::None,
        Sabotage::GuardOutlives,
        Sabotage::SharesNoMemory,
        Sabotage::HearsOldSession,
        Sabotage::HidesLosses,
    ];
    for (seed, scene) in (0..20).flat_map(|seed| scenes.map(|scene| (seed, scene))) {
        let run = Case { manner: Manner::Plain(scene), ..Case::new(Workload::Counting, seed) }.run();
        assert!(run.is_ok(), "seed {seed} as for {scene:?}: {:?}", run.err());
    }
}

#[test]
fn an_answer_before_the_sync_is_found() {
    found(Sabotage::AnswersBeforeSync);
}

#[test]
fn a_record_believed_before_its_sync_is_found() {
    found(Sabotage::TellsRecordsBeforeSync);
}

#[test]
fn a_packet_id_freed_early_is_found() {
    found(Sabotage::FreesPacketId);
}

#[test]
fn a_session_outside_the_cut_is_found() {
    found(Sabotage::Defers(Kind::Accepted));
    found(Sabotage::Defers(Kind::Outbox));
}

#[test]
fn a_frame_torn_between_workers_is_found() {
    found(Sabotage::TearsFrame);
}

#[test]
fn a_barrier_that_overtakes_messages_is_found() {
    found(Sabotage::BarrierOvertakes);
}

#[test]
fn messages_that_overtake_a_barrier_are_found() {
    found(Sabotage::BarrierLags);
}

#[test]
fn forgetting_what_came_between_cut_and_barrier_is_found() {
    found(Sabotage::ForgetsLate);
}

#[test]
fn messages_out_of_order_are_found() {
    found(Sabotage::ReversesBatch);
}

#[test]
fn messages_for_another_worker_are_found() {
    found(Sabotage::Misroutes);
}

#[test]
fn queues_that_wait_for_each_other_are_found() {
    found(Sabotage::CreditWaits);
}

#[test]
fn a_guard_that_outlives_its_handshake_is_found() {
    found(Sabotage::GuardOutlives);
}

#[test]
fn an_acknowledgement_from_an_older_session_is_found() {
    found(Sabotage::HearsOldSession);
}

#[test]
fn an_account_beyond_its_share_is_found() {
    found(Sabotage::SharesNoMemory);
}

#[test]
fn a_loss_that_the_log_hides_is_found() {
    found(Sabotage::HidesLosses);
}

#[test]
fn whatever_a_frame_forgets_is_found() {
    for kind in
        [Kind::State, Kind::Mailbox, Kind::Unsent, Kind::Delayed, Kind::Counter, Kind::Accepted, Kind::Outbox]
    {
        found(Sabotage::Forgets(kind));
    }
}

#[test]
fn whatever_a_frame_does_not_delete_is_found() {
    for kind in [Kind::Mailbox, Kind::Unsent, Kind::Delayed] {
        found(Sabotage::Keeps(kind));
    }
}

#[test]
fn an_operation_that_a_frame_forgets_or_does_not_delete_is_found() {
    for sabotage in [Sabotage::Forgets(Kind::AsyncOperation), Sabotage::Keeps(Kind::AsyncOperation)] {
        let fails = |seed| attempt(&Case { sabotage, ..Case::new(Workload::Trees, seed) }, None).is_err();
        assert!((0..SABOTAGE_SEEDS).any(fails), "{sabotage:?} is found in none of {SABOTAGE_SEEDS} seeds");
    }
}

#[test]
fn removing_any_sync_is_found() {
    let syncs = [Lie::Always, Lie::Of("log-"), Lie::Of("spare-"), Lie::OfDirectory];
    for lie in syncs {
        found(Sabotage::Skips(lie));
    }
}

#[test]
fn a_start_that_trusts_what_nobody_synced_is_found() {
    found(Sabotage::StartTrusts);
}
