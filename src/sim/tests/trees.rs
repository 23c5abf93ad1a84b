//! Do random trees of commands come to their sums?

use super::*;
use crate::sim::commands::{self, Expected};

/// Publishes trees of commands under faults, heals, and checks that counts and records are what the trees come to.
fn grow_trees(seed: u64, sabotage: Sabotage) -> Result<u64, String> {
    let mut plan = plan(seed ^ 0x7ee);
    plan.sabotage = sabotage;
    // What is cancelled is to be due never, also if a start is late by a jump.
    plan.limits.attempts_max = u32::MAX;
    let mut subscriber = Client::connect("subscriber");
    subscriber.subscribe("tree/#");
    let clients = vec![Client::connect("publisher"), subscriber];
    let mut simulation = Simulation::new(plan, commands::application(), clients);
    simulation.run_until_subscribed();
    let mut random = fastrand::Rng::with_seed(seed ^ 0x7ee5);
    let (mut expected, mut tokens) = (Expected::default(), 0);
    for _ in 0..40 {
        let id = random.u8(0..commands::IDS);
        let tree = commands::draw(&mut random, 4, &mut tokens);
        expected.add(id, &tree);
        let text = commands::text(&tree);
        simulation.client(PUBLISHER).publish(
            &format!("tree-in/{id}"),
            text.as_bytes(),
            Qos::ExactlyOnce,
            vec![],
        );
        let pause = Duration::from_micros(random.u64(0..40_000));
        simulation.run_until(simulation.now() + pause);
    }
    simulation.heal();
    let mut checked = Ok(());
    for _ in 0..60 {
        simulation.run_until(simulation.now() + Duration::from_secs(5));
        checked = check_trees(&mut simulation, &expected);
        if checked.is_ok() {
            break;
        }
    }
    let violation = simulation.watch.violations().first().cloned();
    violation
        .map_or(checked, Err)
        .map_err(|error| format!("seed {seed}: {error}; {:?}", simulation.counts))?;
    Ok(simulation.counts.crashes)
}

fn check_trees(simulation: &mut Simulation, expected: &Expected) -> Result<(), String> {
    check_sequences(simulation.client(SUBSCRIBER).received(), &expected.emitted)?;
    for (id, &count) in &expected.counts {
        let found = count_of(simulation, "tree/node", &id.to_string()).unwrap_or(0);
        if found != count {
            return Err(format!("{id} counts {found}, not {count}"));
        }
    }
    for status in status(simulation) {
        match status {
            Some(AdminReply::Status(status))
                if status.messages_delayed == 0
                    && status.messages_waiting == 0
                    && status.operations_running + status.operations_waiting == 0 => {}
            other => return Err(format!("something waits for ever: {other:?}")),
        }
    }
    Ok(())
}

#[test]
fn trees_of_commands_come_to_their_sums_whatever_crashes() {
    let mut crashes = 0;
    let mut failed = Vec::new();
    for seed in seeds(40) {
        match catch_unwind(AssertUnwindSafe(|| grow_trees(seed, Sabotage::None))) {
            Ok(Ok(count)) => crashes += count,
            Ok(Err(error)) => failed.push(error),
            Err(_) => failed.push(format!("seed {seed}: it panicked")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed; the first: {:#?}",
        failed.len(),
        &failed[..failed.len().min(6)]
    );
    assert!(seeds(40).count() == 1 || 0 < crashes, "no seed crashed: nothing was shown");
}

#[test]
fn an_operation_that_a_frame_forgets_or_does_not_delete_is_found() {
    for sabotage in [Sabotage::Forgets(Kind::AsyncOperation), Sabotage::Keeps(Kind::AsyncOperation)] {
        let is_found = |seed| !matches!(catch_unwind(|| grow_trees(seed, sabotage)), Ok(Ok(_)));
        assert!((0..SABOTAGE_SEEDS).any(is_found), "{sabotage:?} is found in none of {SABOTAGE_SEEDS} seeds");
    }
}
