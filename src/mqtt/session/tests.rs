mod bench;
mod rules;
mod world;

use super::*;
use crate::mqtt::config::{
    Broker as BrokerPlace, EgressConfig, Format, IdSource, Retained, Subscription, TopicPattern,
};
use world::{Faults, World};

pub(super) fn config(name: &'static str, protocol: Protocol, role: Role) -> SessionConfig {
    SessionConfig {
        name: crate::address::TypeName::from_static(name),
        broker: BrokerPlace { host: "broker".into(), port: 1883, protocol, tls: None },
        client_id: name.into(),
        session_expiry: std::time::Duration::from_secs(3600),
        user: None,
        password: None,
        keep_alive: std::time::Duration::from_secs(30),
        receive_maximum: 10,
        packet_bytes_max: 100_000,
        role,
    }
}

pub(super) fn ingress(protocol: Protocol, qos: Qos, filters: &[&str]) -> SessionConfig {
    let subscriptions = filters.iter().map(|filter| Subscription {
        pattern: TopicPattern { text: (*filter).into(), filter: (*filter).into(), levels: vec![] },
        qos,
        retained: Retained::Taken,
        format: Format::Raw,
        value_type: None,
        targets: vec![],
        id: IdSource::None,
        message_id: None,
    });
    let subscriptions = subscriptions.collect();
    config("test/in", protocol, Role::Ingress { subscriptions })
}

pub(super) fn egress(protocol: Protocol, qos: Qos) -> SessionConfig {
    let role = Role::Egress(EgressConfig { topic: None, qos, retain: false, format: Format::Raw });
    config("test/out", protocol, role)
}

/// Everything published is relayed, and the subscriber sees this.
fn relay(seed: u64, protocol: Protocol, qos: Qos, faults: Faults, mistake: bool) -> Vec<String> {
    const RECORDS: usize = 60;
    let mut world = World::new(seed, protocol, qos, faults, mistake);
    let seen = world.run(RECORDS);
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), RECORDS, "seed {seed}: lost a record: {seen:?}");
    seen
}

fn expected() -> Vec<String> {
    (0..60).map(|number| format!("{number:03}")).collect()
}

#[test]
fn qos_2_is_exactly_once_and_in_order_when_connections_break() {
    for protocol in [Protocol::V5, Protocol::V311] {
        for seed in 0..150 {
            let faults = Faults { breaks: 30, crashes: 0, restarts: 0 };
            assert_eq!(relay(seed, protocol, Qos::ExactlyOnce, faults, false), expected(), "seed {seed}");
        }
    }
}

#[test]
fn qos_2_is_exactly_once_and_in_order_across_crashes() {
    for protocol in [Protocol::V5, Protocol::V311] {
        for seed in 0..300 {
            let faults = Faults { breaks: 10, crashes: 30, restarts: 5 };
            assert_eq!(relay(seed, protocol, Qos::ExactlyOnce, faults, false), expected(), "seed {seed}");
        }
    }
}

#[test]
fn the_guard_bears_a_broker_that_publishes_after_pubrel() {
    for seed in 0..300 {
        let faults = Faults { breaks: 30, crashes: 10, restarts: 0 };
        assert_eq!(relay(seed, Protocol::V5, Qos::ExactlyOnce, faults, true), expected(), "seed {seed}");
    }
}

#[test]
fn qos_1_loses_nothing_across_crashes() {
    for protocol in [Protocol::V5, Protocol::V311] {
        for seed in 0..150 {
            let faults = Faults { breaks: 10, crashes: 30, restarts: 5 };
            relay(seed, protocol, Qos::AtLeastOnce, faults, false);
        }
    }
}

#[test]
fn qos_1_without_faults_is_in_order_and_once() {
    let none = Faults { breaks: 0, crashes: 0, restarts: 0 };
    assert_eq!(relay(1, Protocol::V5, Qos::AtLeastOnce, none, false), expected());
}
