//! Do random trees of commands come to their sums, whatever crashes?

use embassy_time::Duration;

use super::books::{PUBLISHER, SUBSCRIBER, count_of, status};
use super::{Case, settle};
use crate::admin::AdminReply;
use crate::mqtt::config::Qos;
use crate::sim::client::Client;
use crate::sim::commands::{self, Expected};
use crate::sim::counting::check_sequences;
use crate::sim::simulation::{Recorder, Simulation};

/// Publishes trees of commands under faults, heals, and checks that counts and records are what the trees come to.
pub(super) fn run(case: &Case, recorder: Option<Recorder>) -> Result<Simulation, String> {
    let mut plan = case.plan(case.seed ^ 0x7ee);
    // What is cancelled is to be due never, also if a start is late by a jump.
    plan.limits.attempts_max = u32::MAX;
    let mut subscriber = Client::connect("subscriber");
    subscriber.subscribe("tree/#");
    let clients = vec![Client::connect("publisher"), subscriber];
    let mut simulation = Simulation::new(plan, commands::application(), clients);
    simulation.set_recorder(recorder);
    if !simulation.run_until_subscribed() {
        return Err("the ingress never subscribes".to_owned());
    }
    let mut random = fastrand::Rng::with_seed(case.seed ^ 0x7ee5);
    let (mut expected, mut tokens) = (Expected::default(), 0);
    for _ in 0..case.records {
        let id = random.u8(0..commands::IDS);
        let tree = commands::draw(&mut random, 4, &mut tokens);
        expected.add(id, &tree);
        let (topic, text) = (format!("tree-in/{id}"), commands::text(&tree));
        simulation.client(PUBLISHER).publish(&topic, text.as_bytes(), Qos::ExactlyOnce, vec![]);
        let pause = Duration::from_micros(random.u64(0..40_000));
        simulation.run_until(simulation.now() + pause);
    }
    simulation.heal();
    settle(&mut simulation, |simulation| check(simulation, &expected))
        .map_err(|error| format!("{error}; {:?}", simulation.counts))?;
    Ok(simulation)
}

fn check(simulation: &mut Simulation, expected: &Expected) -> Result<(), String> {
    check_sequences(simulation.client(SUBSCRIBER).received(), &expected.emitted)?;
    for (id, &count) in &expected.counts {
        let found = count_of(simulation, "tree/node", &id.to_string());
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
