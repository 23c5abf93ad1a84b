use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::TypeName;
use crate::credentials::{Secret, TlsFiles};
use crate::limits::{INGRESS_TOPICS_MAX, LOAD_ERRORS_MAX, MODULE_BYTES_MAX, MODULE_DEPTH_MAX};
use crate::mqtt::config::*;

mod endpoints;

fn environment(name: &str) -> Option<String> {
    (name == "BROKER").then(|| "broker.example".to_owned())
}

fn parse(yaml: &str) -> Result<Specification, String> {
    Specification::parse("module.yaml", yaml, &environment).map_err(|errors| errors.to_string())
}

/// Every mistake with the exact words that a person is told.
#[test]
fn every_mistake_is_told_with_its_place_and_a_way_out() {
    let table = include_str!("tests/errors.txt");
    for case in table.split("#### ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (yaml, expected) = rest.split_once("---->\n").unwrap();
        let errors = parse(yaml).expect_err(name);
        assert_eq!(errors.trim_end(), expected.trim_end(), "{name}");
    }
}

const FULL: &str = "\
kind: fogfun.mqtt.v1/ingress
spec:
  id: example/fridges
  address: mqtts://${BROKER}
  protocol: 5
  clientId: ${CLIENT:-fridges}
  sessionExpiry: 2 h
  user: me
  passwordFile: secret
  caFile: /etc/ca.pem
  clientCertificateFile: c.pem
  clientKeyFile: k.pem
  keepAlive: 1 min
  receiveMaximum: 7
  packetBytesMax: 1000
  topics:
    - topic: fridge/{id}/temperature
      qos: 1
      retained: ignored
      format: number
      valueType: io.statefun.types/float
      targets: [example/fridge, example/house]
      messageId: {property: n, scope: {capture: id}, remembered: 9}
    - topic: $share/g/door/+/#
      format: json
      valueType: example/door
      targets: [example/door]
      id: {jsonPointer: /door}
---

---
kind: fogfun.mqtt.v1/egress
spec:
  id: example/alarms
  address: mqtt://[::1]:1
  protocol: 3.1.1
  topic: alarm/{caller.id}
  qos: 0
  retain: true
  format: text
";

#[test]
fn every_key_means_what_it_says() {
    let specification = Specification::parse("etc/module.yaml", FULL, &environment).unwrap();
    let [ingress, egress] = &specification.sessions[..] else {
        panic!("two sessions");
    };
    let pattern = |text| TopicPattern::parse(text).unwrap();
    let fridge = TypeName::from_static("example/fridge");
    let expected = SessionConfig {
        name: TypeName::from_static("example/fridges"),
        broker: Broker {
            host: "broker.example".into(),
            port: 8883,
            protocol: Protocol::V5,
            tls: Some(TlsFiles {
                key_password: None,
                ca: Some("/etc/ca.pem".into()),
                client: Some(("etc/c.pem".into(), "etc/k.pem".into())),
            }),
        },
        client_id: "fridges".into(),
        session_expiry: Duration::from_secs(7200),
        user: Some("me".into()),
        password: None,
        keep_alive: Duration::from_secs(60),
        receive_maximum: 7,
        packet_bytes_max: 1000,
        role: Role::Ingress {
            subscriptions: vec![
                Subscription {
                    pattern: pattern("fridge/{id}/temperature"),
                    qos: Qos::AtLeastOnce,
                    retained: Retained::Ignored,
                    format: Format::Number,
                    value_type: Some("io.statefun.types/float".into()),
                    targets: vec![fridge, TypeName::from_static("example/house")],
                    id: IdSource::Capture("id".into()),
                    message_id: Some(MessageIdSource {
                        source: IdSource::Property("n".into()),
                        scope: Scope::Capture("id".into()),
                        remembered: 9,
                    }),
                },
                Subscription {
                    pattern: pattern("$share/g/door/+/#"),
                    qos: Qos::ExactlyOnce,
                    retained: Retained::Taken,
                    format: Format::Json,
                    value_type: Some("example/door".into()),
                    targets: vec![TypeName::from_static("example/door")],
                    id: IdSource::JsonPointer("/door".into()),
                    message_id: None,
                },
            ],
        },
    };
    assert_eq!(**ingress, expected);
    assert_eq!((egress.broker.host.as_str(), egress.broker.port), ("::1", 1));
    assert_eq!(egress.broker.protocol, Protocol::V311);
    assert_eq!(egress.client_id, "fogfun-example-alarms");
    assert_eq!(
        egress.role,
        Role::Egress(EgressConfig {
            topic: Some("alarm/{caller.id}".into()),
            qos: Qos::AtMostOnce,
            retain: true,
            format: Format::Text,
        })
    );
}

#[test]
fn anchors_and_merge_keys_are_copied_and_what_is_said_itself_wins() {
    let yaml = "\
kind: fogfun.mqtt.v1/egress
spec: &base
  id: a/b
  address: mqtt://${BROKER}
  qos: 1
---
kind: fogfun.mqtt.v1/egress
spec:
  id: a/c
  address: mqtt://x
";
    assert_eq!(parse(yaml).unwrap().sessions.len(), 2);
    let topics = "\
kind: fogfun.mqtt.v1/ingress
spec:
  id: a/b
  address: mqtt://x
  topics:
    - &base {topic: 'a/{id}', qos: 1, format: number, targets: [a/b]}
    - {<<: *base, topic: 'b/{id}', qos: 0}
    - <<: [{topic: 'c/{id}'}, *base]
";
    let specification = parse(topics).unwrap();
    let Role::Ingress { subscriptions } = &specification.sessions[0].role else {
        panic!("an ingress");
    };
    let read: Vec<_> = subscriptions
        .iter()
        .map(|subscription| (subscription.pattern.text.as_str(), subscription.qos, subscription.format))
        .collect();
    assert_eq!(
        read,
        [
            ("a/{id}", Qos::AtLeastOnce, Format::Number),
            ("b/{id}", Qos::AtMostOnce, Format::Number),
            ("c/{id}", Qos::AtLeastOnce, Format::Number),
        ]
    );
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    let large = format!("# {}", "x".repeat(MODULE_BYTES_MAX));
    assert_eq!(
        parse(&large).unwrap_err(),
        "module.yaml: the file has 1048578 bytes, at most 1048576 are read"
    );
    let deep = format!("{}{}", "[".repeat(MODULE_DEPTH_MAX + 1), "]".repeat(MODULE_DEPTH_MAX + 1));
    assert!(parse(&deep).unwrap_err().starts_with("module.yaml:1:33: nested more than 32 levels deep"));
    // So deep that the scanner gives up before.
    assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("recursion limit exceeded"));
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                  d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert!(parse(laughs).unwrap_err().contains("more than 100000 values, aliases counted as often as used"));
    let mut topics =
        String::from("kind: fogfun.mqtt.v1/ingress\nspec:\n  id: a/b\n  address: mqtt://b\n  topics:\n");
    for index in 0..=INGRESS_TOPICS_MAX {
        topics.push_str(&format!("    - {{topic: 't/{index}', format: number}}\n"));
    }
    assert!(parse(&topics).unwrap_err().contains("an ingress has at most 256 topics, this one has 257"));
    let many: String = (0..LOAD_ERRORS_MAX + 3).map(|_| "--- 1\n").collect();
    assert!(parse(&many).unwrap_err().ends_with("\n\nand 3 more"));
    let id = "x".repeat(300);
    let long = format!("kind: fogfun.mqtt.v1/egress\nspec: {{id: a/b, address: mqtt://b, clientId: {id}}}");
    assert!(parse(&long).unwrap_err().contains("a client id has at most 256 bytes, this one has 300"));
}

fn session(extra: &str) -> Specification {
    parse(&format!("kind: fogfun.mqtt.v1/egress\nspec:\n  id: a/b\n  address: mqtts://b\n{extra}")).unwrap()
}

#[test]
fn a_board_fills_in_what_the_file_leaves_open() {
    let board =
        Board::parse("b.toml", "receive_maximum = 50\npacket_bytes_max = 5_000\ninvocation_max_ms = 6_000")
            .unwrap();
    let bounds = |specification: Specification| {
        let specification = specification.with_board(&board).unwrap();
        (specification.sessions[0].receive_maximum, specification.sessions[0].packet_bytes_max)
    };
    assert_eq!(bounds(session("")), (50, 5_000));
    assert_eq!(bounds(session("  receiveMaximum: 3\n")), (3, 5_000));
    assert_eq!(bounds(session("  packetBytesMax: 300\n")), (50, 300));
    let short = session("  keepAlive: 11 s\n").with_board(&board).unwrap_err();
    assert_eq!(
        short.to_string(),
        "module.yaml:5:14: a keep-alive of 11s is less than twice the longest invocation (6s)\n  5 |   keepAlive: 11 s\n    |              ^^^^\n  help: at least 12s; the board file says `invocation_max_ms`"
    );
    let large = parse(
        "kind: fogfun.mqtt.v1/ingress\nspec:\n  id: a/b\n  address: mqtts://b\n  receiveMaximum: 65535\n  packetBytesMax: 300000\n  topics: [{topic: 't/{id}', format: number}]\n",
    )
    .unwrap()
    .with_board(&board)
    .unwrap_err();
    assert_eq!(
        large.to_string(),
        "module.yaml:3:7: `receiveMaximum` 65535 × `packetBytesMax` 300000 is more than half of a worker's account (27262976 bytes)\n  3 |   id: a/b\n    |       ^^^"
    );
}

#[test]
fn files_are_read_relative_to_the_module() {
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        match path.to_str().unwrap() {
            "etc/good" => Ok(b"hunter2\r\n".to_vec()),
            "etc/empty" => Ok(b"\n".to_vec()),
            "etc/binary" => Ok(b"\xff".to_vec()),
            "etc/long" => Ok(vec![b'x'; 65_536]),
            "etc/ca.pem" => Ok(b"# mine\n-----BEGIN CERTIFICATE-----\n".to_vec()),
            _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file")),
        }
    };
    let with = |extra: &str| {
        let yaml = format!("kind: fogfun.mqtt.v1/egress\nspec: {{id: a/b, address: mqtts://b, {extra}}}\n");
        Specification::parse("etc/module.yaml", &yaml, &environment).unwrap().with_files(&read)
    };
    let specification = with("user: me, passwordFile: good, caFile: ca.pem").unwrap();
    let session = Arc::clone(&specification.sessions[0]);
    assert_eq!(session.password, Some(Secret("hunter2".into())));
    assert_eq!(session.broker.tls.as_ref().unwrap().ca, Some(PathBuf::from("etc/ca.pem")));
    for (extra, message) in [
        ("passwordFile: empty", "`etc/empty` is empty"),
        ("passwordFile: binary", "`etc/binary` is not UTF-8"),
        ("passwordFile: long", "`etc/long` is too long for a password: MQTT has 65,535 bytes"),
        ("passwordFile: gone", "cannot read `etc/gone`: no such file"),
        ("caFile: good", "`etc/good` is no PEM file"),
    ] {
        let errors = with(extra).unwrap_err();
        assert_eq!(errors.errors()[0].message(), message);
        assert_eq!((errors.errors()[0].line(), errors.errors().len()), (2, 1));
    }
}

#[test]
fn the_reference_shows_what_loads() {
    let reference = include_str!("../../docs/module-yaml.md");
    let guide = include_str!("../../docs/from-statefun.md");
    let examples: Vec<&str> = [reference, guide]
        .iter()
        .flat_map(|page| page.split("```yaml\n").skip(1))
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        parse(example).unwrap_or_else(|errors| panic!("{example}\n{errors}"));
    }
    // Every key of the kinds is in the reference: the help of an unknown key lists those that there are.
    let transport = |name: &str| {
        format!(
            "io.statefun.endpoints.v2/http\nspec: {{transport: {{type: io.statefun.transports.v1/{name}, nothing-like-it: 1}}}}"
        )
    };
    let specs = [
        "fogfun.mqtt.v1/ingress",
        "fogfun.mqtt.v1/egress",
        "fogfun.http.v1/ingress",
        "io.statefun.endpoints.v1/http",
        "io.statefun.endpoints.v2/http",
        "io.statefun.playground.v1/ingress",
        "io.statefun.playground.v1/egress",
    ];
    let specs = specs.map(|kind| format!("{kind}\nspec: {{nothing-like-it: 1}}"));
    let parts = ["batch", "retry"]
        .map(|part| format!("io.statefun.endpoints.v2/http\nspec: {{{part}: {{nothing-like-it: 1}}}}"));
    for yaml in specs.iter().chain(&parts).chain(&[transport("async"), transport("okhttp")]) {
        let errors = parse(&format!("kind: {yaml}")).unwrap_err();
        let help = errors.lines().find(|line| line.contains("help: there are")).unwrap();
        for key in help.split('`').skip(1).step_by(2) {
            assert!(reference.contains(&format!("`{key}`")), "{yaml} has {key}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,80}", yaml in "[a&*<:{}\\[\\]\n\t \"'|>!#,~?%@`$-]{0,80}") {
        let _ = parse(&text);
        let _ = parse(&yaml);
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_reader_panic(at in 0..FULL.len(), length in 0_usize..20, with in "[a:{}\\[\\]&*|>\"'\n\t -]{0,5}") {
        let mut text = FULL.to_owned();
        text.replace_range(at..(at + length).min(FULL.len()), &with);
        let _ = parse(&text);
    }
}

const METRICS: &str = "\
kind: fogfun.metrics.v1/mqtt
spec:
  address: mqtts://${BROKER}
  protocol: 3.1.1
  node: kitchen
  interval: 1 min
  clientId: watcher
  user: me
  passwordFile: secret
  caFile: /etc/ca.pem
  keepAlive: 40 s
";

#[test]
fn every_key_of_the_metrics_means_what_it_says() {
    let read = |path: &Path| match path.to_str().unwrap() {
        "etc/secret" => Ok(b"hunter2\n".to_vec()),
        "/etc/ca.pem" => Ok(b"-----BEGIN X-----\n".to_vec()),
        other => panic!("{other}"),
    };
    let specification = Specification::parse("etc/module.yaml", METRICS, &environment)
        .and_then(|specification| specification.with_board(&Board::default()))
        .and_then(|specification| specification.with_files(&read))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let expected = MetricsConfig {
        broker: Broker {
            host: "broker.example".into(),
            port: 8883,
            protocol: Protocol::V311,
            tls: Some(TlsFiles { ca: Some("/etc/ca.pem".into()), client: None, key_password: None }),
        },
        node: Some("kitchen".into()),
        client_id: Some("watcher".into()),
        user: Some("me".into()),
        password: Some(Secret("hunter2".into())),
        keep_alive: Duration::from_secs(40),
        interval: Duration::from_secs(60),
    };
    assert_eq!(specification.metrics.as_deref(), Some(&expected));
}

#[test]
fn what_the_metrics_do_not_say_is_a_default() {
    let specification = parse("kind: fogfun.metrics.v1/mqtt\nspec: {address: mqtt://b}\n").unwrap();
    let metrics = specification.metrics.clone().unwrap();
    assert_eq!(
        (metrics.node.clone(), metrics.client_id.clone(), metrics.interval),
        (None, None, Duration::from_secs(10))
    );
    let slow = Board { invocation_max_ms: 60_000, ..Board::default() };
    let errors = specification.with_board(&slow).unwrap_err().to_string();
    assert!(errors.contains("a keep-alive of 30s is less than"), "{errors}");
}
