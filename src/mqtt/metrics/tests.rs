use super::*;
use crate::mqtt::codec::ConnAck;
use crate::mqtt::config::{Broker, Protocol};
use crate::mqtt::reconnect::PAUSE_MAX;

const INTERVAL: Duration = Duration::from_secs(10);

/// A publisher, what it last wanted, and a clock.
struct World {
    publisher: MetricsPublisher,
    now: Instant,
    stream: BytesMut,
}

impl World {
    fn new() -> Self {
        let broker = Broker { host: "b".into(), port: 1883, protocol: Protocol::V5, tls: None };
        let config = MetricsConfig {
            broker,
            node: None,
            client_id: None,
            user: None,
            password: None,
            keep_alive: std::time::Duration::from_secs(30),
            interval: std::time::Duration::from_secs(10),
        };
        let now = Instant::from_secs(1);
        let publisher = MetricsPublisher::new(Arc::new(config), "kitchen", 1, now);
        Self { publisher, now, stream: BytesMut::new() }
    }

    fn give(&mut self, input: MetricsInput) -> Vec<MetricsOutput> {
        self.publisher.handle_input(self.now, input);
        self.outputs()
    }

    fn receive(&mut self, packet: &Packet) -> Vec<MetricsOutput> {
        let mut bytes = BytesMut::new();
        codec::write(packet, Protocol::V5, &mut bytes);
        self.give(MetricsInput::Received(bytes.freeze()))
    }

    fn values(&mut self, values: &[(&str, f64)]) -> Vec<MetricsOutput> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.give(MetricsInput::Values(values))
    }

    /// Lets time pass, never beyond what is due.
    fn pass(&mut self, time: Duration) -> Vec<MetricsOutput> {
        let (end, mut outputs) = (self.now + time, Vec::new());
        while let Some(at) = self.publisher.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.publisher.handle_timeout(self.now);
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    fn outputs(&mut self) -> Vec<MetricsOutput> {
        std::iter::from_fn(|| self.publisher.poll_output()).collect()
    }

    /// The packets in these outputs.
    fn packets(&mut self, outputs: Vec<MetricsOutput>) -> Vec<Packet> {
        for output in outputs {
            if let MetricsOutput::Transmit(bytes) = output {
                self.stream.extend_from_slice(&bytes);
            }
        }
        std::iter::from_fn(|| codec::read(&mut self.stream, Protocol::V5, 1 << 20).unwrap()).collect()
    }

    /// Topics and payloads, all of them retained.
    fn published(&mut self, outputs: Vec<MetricsOutput>) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let of = |packet: Packet| match packet {
            Packet::Publish(publish) => {
                assert!(publish.retain);
                Some((text(&publish.topic), text(&publish.payload)))
            }
            _ => None,
        };
        self.packets(outputs).into_iter().filter_map(of).collect()
    }

    fn connect(&mut self) -> Vec<(String, String)> {
        assert!(self.pass(PAUSE_MAX).contains(&MetricsOutput::Connect));
        let greeting = self.give(MetricsInput::Connected);
        assert!(matches!(&self.packets(greeting)[..], [Packet::Connect(connect)] if connect.clean_start));
        let outputs = self.receive(&Packet::ConnAck(welcome()));
        let published = self.published(outputs);
        self.give(MetricsInput::Written);
        published
    }
}

fn welcome() -> ConnAck {
    ConnAck {
        session_present: false,
        reason: 0,
        receive_maximum: None,
        qos_max: Qos::ExactlyOnce,
        retain_available: true,
        packet_bytes_max: None,
        session_expiry_seconds: None,
        keep_alive_seconds: None,
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (format!("$fogfun/kitchen/{name}"), value.to_owned())
}

#[test]
fn a_value_is_told_once_and_again_when_it_changes() {
    let mut world = World::new();
    assert_eq!(world.connect(), [pair("status", "online")]);
    assert_eq!(world.pass(Duration::from_ticks(0)), [MetricsOutput::Read]);
    let outputs = world.values(&[("a", 1.0), ("b", 0.5)]);
    assert_eq!(world.published(outputs), [pair("a", "1"), pair("b", "0.5")]);
    world.give(MetricsInput::Written);
    assert_eq!(world.pass(INTERVAL), [MetricsOutput::Read]);
    let outputs = world.values(&[("a", 2.0), ("b", 0.5)]);
    assert_eq!(world.published(outputs), [pair("a", "2")]);
    world.give(MetricsInput::Written);
    world.pass(INTERVAL);
    assert_eq!(world.values(&[("a", 2.0), ("b", 0.5)]), []);
}

#[test]
fn a_value_that_is_gone_is_cleared() {
    let mut world = World::new();
    world.connect();
    world.pass(Duration::from_ticks(0));
    world.values(&[("a", 1.0), ("b", 1.0)]);
    world.stream.clear();
    world.give(MetricsInput::Written);
    world.pass(INTERVAL);
    let outputs = world.values(&[("b", 1.0)]);
    assert_eq!(world.published(outputs), [pair("a", "")]);
}

#[test]
fn values_beyond_the_bound_are_left_out_and_counted() {
    let mut world = World::new();
    world.connect();
    world.pass(Duration::from_ticks(0));
    let outputs = world.values(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)]);
    assert!(matches!(&outputs[0], MetricsOutput::Event { kind: "metrics-left-out", .. }), "{outputs:?}");
    assert_eq!(world.published(outputs).len(), VALUES_MAX);
}

#[test]
fn a_broker_that_comes_and_goes_is_told_no_more_often() {
    let mut world = World::new();
    world.connect();
    let (mut reads, begin) = (0, world.now);
    for _ in 0..20 {
        let outputs = world.pass(Duration::from_secs(1));
        if outputs.contains(&MetricsOutput::Read) {
            reads += 1;
            let outputs = world.values(&[("a", 1.0)]);
            assert_eq!(world.published(outputs), [pair("a", "1")], "all of it on every connection");
        }
        world.give(MetricsInput::Disconnected { cause: "gone".into() });
        world.connect();
    }
    let intervals = (world.now - begin).as_ticks() / INTERVAL.as_ticks();
    assert!(0 < reads && reads <= intervals + 1, "{reads} in {intervals} intervals");
}

#[test]
fn a_broker_that_does_not_read_is_told_nothing_more_and_left() {
    let mut world = World::new();
    world.connect();
    world.pass(Duration::from_ticks(0));
    world.values(&[("a", 1.0)]);
    let outputs = world.pass(Duration::from_secs(30));
    assert!(!outputs.contains(&MetricsOutput::Read), "{outputs:?}");
    assert!(outputs.contains(&MetricsOutput::Close), "{outputs:?}");
}

#[test]
fn a_broker_that_answers_pings_is_kept() {
    let mut world = World::new();
    world.connect();
    for _ in 0..20 {
        let outputs = world.pass(Duration::from_secs(5));
        assert!(!outputs.contains(&MetricsOutput::Close));
        world.values(&[("a", 1.0)]);
        world.give(MetricsInput::Written);
        if world.packets(outputs).contains(&Packet::PingReq) {
            world.receive(&Packet::PingResp);
        }
    }
}

#[test]
fn a_broker_that_is_away_costs_a_counter_and_ever_longer_pauses() {
    let mut world = World::new();
    let mut attempts = 0;
    for _ in 0..600 {
        let outputs = world.pass(Duration::from_secs(1));
        if outputs.contains(&MetricsOutput::Connect) {
            attempts += 1;
            let outputs = world.give(MetricsInput::Disconnected { cause: "refused".into() });
            assert!(matches!(&outputs[..], [MetricsOutput::Event { kind: "metrics-disconnected", .. }]));
        }
    }
    assert!((600 / 30..100).contains(&attempts), "{attempts} in ten minutes");
}

#[test]
fn what_a_broker_forbids_is_told() {
    let mut world = World::new();
    world.connect();
    let outputs = world.receive(&Packet::PubAck { id: STATUS_PACKET_ID, reason: 0x87 });
    assert!(matches!(&outputs[..], [MetricsOutput::Event { kind: "metrics-refused", .. }]), "{outputs:?}");
    let mut world = World::new();
    world.pass(Duration::from_ticks(0));
    world.give(MetricsInput::Connected);
    let outputs = world.receive(&Packet::ConnAck(ConnAck { reason: 0x87, ..welcome() }));
    assert!(
        matches!(&outputs[..], [MetricsOutput::Close, MetricsOutput::Event { kind: "metrics-refused", .. }]),
        "{outputs:?}"
    );
}

#[test]
fn a_node_is_one_level_of_a_topic() {
    assert!(is_node_name("kitchen") && is_node_name("pi.local"));
    for name in ["", "a/b", "a+", "#", "a\n", &"x".repeat(NODE_BYTES_MAX + 1)] {
        assert!(!is_node_name(name), "{name:?}");
    }
}
