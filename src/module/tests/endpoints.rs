//! Do endpoints, HTTP ports and modules of Stateful Functions mean what they say?

use super::*;
use crate::http_config::{Dialect, HttpConfig, HttpIngress, HttpRole, PLAYGROUND_EGRESS, Targets};
use crate::remote::config::{
    BatchLimits, DOWN_STATUSES, EndpointConfig, OnFailure, RetryPolicy, Served, Transport, UrlTemplate,
};

const FULL: &str = "\
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: https://functions:8000/{function.name}
  maxNumBatchRequests: 70
  transport:
    type: io.statefun.transports.v1/async
    call: 2 min
    connect: 3s
    pool_ttl: 0
    pool_size: 2
    payload_max_bytes: 2000000
    trust_cacerts: file:///etc/ca.pem
    client_cert: c.pem
    client_key: file:k.pem
    client_key_password: password
  batch: {invocations: 7, bytes: 8000}
  retry: {attempts: 9, backoff: 20 ms, backoffMax: 1 min, downStatuses: [503, 500, 503]}
  onFailure: block
  headers:
    - {name: X-Site, value: kitchen 1}
    - {name: Authorization, valueFile: token}
";

fn endpoint(yaml: &str) -> EndpointConfig {
    let specification = parse(yaml).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(specification.endpoints.len(), 1);
    (*specification.endpoints[0]).clone()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    match path.to_str().unwrap() {
        "etc/token" => Ok(b"Bearer abc\n".to_vec()),
        "etc/lines" => Ok(b"Bearer\nabc\n".to_vec()),
        "etc/password" => Ok(b"hunter2".to_vec()),
        "etc/c.pem" | "etc/k.pem" | "/etc/ca.pem" => Ok(b"-----BEGIN X-----\n".to_vec()),
        _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file")),
    }
}

#[test]
fn every_field_of_an_endpoint_means_what_it_says() {
    let specification = Specification::parse("etc/module.yaml", FULL, &environment)
        .and_then(|specification| specification.with_board(&Board::default()))
        .and_then(|specification| specification.with_files(&read))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let expected = EndpointConfig {
        functions: Served::Namespace("example".into()),
        url: UrlTemplate::parse("https://functions:8000/{function.name}").unwrap(),
        batch: BatchLimits { invocations_max: 7, bytes_max: 8000 },
        transport: Transport {
            call: Duration::from_secs(120),
            connect: Duration::from_secs(3),
            read: None,
            write: None,
            pool_size: 2,
            pool_ttl: Duration::ZERO,
            payload_bytes_max: 2_000_000,
            redirects_max: 0,
            tls: TlsFiles {
                ca: Some("/etc/ca.pem".into()),
                client: Some(("etc/c.pem".into(), "etc/k.pem".into())),
                key_password: Some(Secret("hunter2".into())),
            },
            headers: vec![
                ("x-site".into(), Secret("kitchen 1".into())),
                ("authorization".into(), Secret("Bearer abc".into())),
            ],
        },
        retry: RetryPolicy {
            attempts_max: 9,
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_secs(60),
            down_statuses: vec![500, 503],
        },
        on_failure: OnFailure::Block,
    };
    assert_eq!(*specification.endpoints[0], expected);
    assert_eq!(specification.warnings, []);
    for (from, to, message) in [
        ("valueFile: token", "valueFile: gone", "cannot read `etc/gone`: no such file"),
        (
            "valueFile: token",
            "valueFile: lines",
            "`etc/lines` is no value of a header field: visible ASCII, no blanks at its ends",
        ),
        ("client_key: file:k.pem", "client_key: token", "`etc/token` is no PEM file"),
        (
            "client_key_password: password",
            "client_key_password: gone",
            "cannot read `etc/gone`: no such file",
        ),
    ] {
        let yaml = FULL.replace(from, to);
        let errors = Specification::parse("etc/module.yaml", &yaml, &environment).unwrap().with_files(&read);
        assert_eq!(errors.unwrap_err().errors()[0].message(), message);
    }
}

const LEAST: &str =
    "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: a/b\n  urlPathTemplate: http://a\n";

#[test]
fn what_an_endpoint_does_not_say_has_statefuns_default() {
    let seconds = Duration::from_secs;
    let least = endpoint(LEAST);
    assert_eq!(least.functions, Served::Function(TypeName::from_static("a/b")));
    assert_eq!(least.batch.invocations_max, 1000);
    assert_eq!((least.transport.call, least.transport.connect), (seconds(120), seconds(20)));
    assert_eq!((least.transport.read, least.transport.write), (None, None));
    assert_eq!((least.transport.pool_ttl, least.transport.redirects_max), (seconds(15), 0));
    assert_eq!((least.retry.attempts_max, least.retry.down_statuses), (5, DOWN_STATUSES.to_vec()));
    assert_eq!(least.retry.backoff_first, Duration::from_millis(100));
    assert_eq!(least.on_failure, OnFailure::DeadLetter);
    for yaml in [
        format!("{LEAST}  transport: {{type: io.statefun.transports.v1/okhttp}}\n"),
        LEAST.replace("v2/http", "v1/http"),
    ] {
        let transport = endpoint(&yaml).transport;
        assert_eq!((transport.call, transport.connect), (seconds(60), seconds(10)));
        assert_eq!((transport.read, transport.write), (Some(seconds(10)), Some(seconds(10))));
        assert_eq!(transport.redirects_max, 20);
    }
    let v1 =
        endpoint(&format!("{}  timeouts: {{call: 4 s, read: 2 s}}\n", LEAST.replace("v2/http", "v1/http")));
    // What is not said is no longer than the whole.
    assert_eq!((v1.transport.call, v1.transport.connect), (seconds(4), seconds(4)));
    assert_eq!((v1.transport.read, v1.transport.write), (Some(seconds(2)), Some(seconds(4))));
}

#[test]
fn a_threshold_of_nothing_is_our_own_bound() {
    for (written, invocations) in [("0", 10_000), ("-1", 10_000), ("1", 1), ("20000", 10_000)] {
        let yaml = format!("{LEAST}  maxNumBatchRequests: {written}\n");
        assert_eq!(endpoint(&yaml).batch.invocations_max, invocations, "{written}");
    }
}

#[test]
fn timeouts_of_async_win_and_have_their_own_defaults() {
    let yaml = format!("{LEAST}  transport: {{call: 5 s, connect: 4 s, timeouts: {{read: 3 s}}}}\n");
    let specification = parse(&yaml).unwrap();
    let transport = &specification.endpoints[0].transport;
    assert_eq!((transport.call, transport.connect), (Duration::from_secs(60), Duration::from_secs(10)));
    assert_eq!(transport.read, None);
    assert_eq!(
        told(&specification),
        "module.yaml:5:21: warning: `call` is not used: `timeouts` counts, as in Stateful Functions
  5 |   transport: {call: 5 s, connect: 4 s, timeouts: {read: 3 s}}
    |                     ^^^
  help: keep one of the two

module.yaml:5:35: warning: `connect` is not used: `timeouts` counts, as in Stateful Functions
  5 |   transport: {call: 5 s, connect: 4 s, timeouts: {read: 3 s}}
    |                                   ^^^
  help: keep one of the two

module.yaml:5:57: warning: `read` is not used: only `io.statefun.transports.v1/okhttp` has it
  5 |   transport: {call: 5 s, connect: 4 s, timeouts: {read: 3 s}}
    |                                                         ^^^"
    );
}

fn told(specification: &Specification) -> String {
    specification.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn what_a_board_cannot_afford_is_capped_with_a_warning() {
    let board = Board::default();
    let fitted = |extra: &str| {
        let specification = parse(&format!("{LEAST}{extra}")).unwrap().with_board(&board).unwrap();
        let transport = &specification.endpoints[0].transport;
        let batch_bytes = specification.endpoints[0].batch.bytes_max;
        ((transport.pool_size, transport.payload_bytes_max, batch_bytes), specification.warnings.len())
    };
    // A quarter of 64 MiB is 32 bodies of 512 KiB.
    assert_eq!(fitted(""), ((32, 524_288, 262_144), 0));
    // What is not said bends first.
    assert_eq!(fitted("  transport: {payload_max_bytes: 8388608}\n"), ((2, 8_388_608, 4_194_304), 0));
    assert_eq!(fitted("  transport: {pool_size: 4}\n"), ((4, 4_194_304, 2_097_152), 0));
    // Then what is said: the body down to its floor, then the connections.
    assert_eq!(fitted("  transport: {payload_max_bytes: 33554432}\n"), ((1, 16_777_216, 8_388_608), 1));
    assert_eq!(fitted("  transport: {pool_size: 64}\n"), ((32, 524_288, 262_144), 1));
    let both = "  transport: {pool_size: 16, payload_max_bytes: 2000000}\n";
    assert_eq!(fitted(both), ((16, 1_048_576, 524_288), 1));
    assert_eq!(
        fitted("  transport: {pool_size: 64, payload_max_bytes: 100000}\n"),
        ((64, 100_000, 50_000), 0)
    );
    assert_eq!(fitted("  batch: {bytes: 262144}\n"), ((32, 524_288, 262_144), 0));
    assert_eq!(fitted("  batch: {bytes: 262145}\n"), ((32, 524_288, 262_144), 1));
    let shared = format!("{LEAST}---\n{}", LEAST.replace("a/b", "a/c"));
    let specification = parse(&shared).unwrap().with_board(&board).unwrap();
    assert!(specification.endpoints.iter().all(|endpoint| endpoint.transport.pool_size == 16));
    let yaml = format!("{LEAST}  transport: {{pool_size: 1024, payload_max_bytes: 33554432}}\n");
    assert_eq!(
        told(&parse(&yaml).unwrap().with_board(&board).unwrap()),
        "module.yaml:5:26: warning: `pool_size` 1024 is more than this board affords: 32 is used
  5 |   transport: {pool_size: 1024, payload_max_bytes: 33554432}
    |                          ^^^^
  help: connections times bodies are at most 16777216 bytes here: an endpoint's part of a quarter of the board's `memory_bytes`

module.yaml:5:51: warning: `payload_max_bytes` 33554432 is more than this board affords: 524288 is used
  5 |   transport: {pool_size: 1024, payload_max_bytes: 33554432}
    |                                                   ^^^^^^^^
  help: connections times bodies are at most 16777216 bytes here: an endpoint's part of a quarter of the board's `memory_bytes`"
    );
}

#[test]
fn a_board_fills_in_retries_that_are_not_given() {
    let board =
        Board::parse("b.toml", "attempts_max = 3\nretry_first_ms = 50\nretry_max_ms = 2_000").unwrap();
    let retry = |extra: &str| {
        let specification = parse(&format!("{LEAST}{extra}")).unwrap().with_board(&board).unwrap();
        let retry = specification.endpoints[0].retry.clone();
        (retry.attempts_max, retry.backoff_first.as_millis(), retry.backoff_max.as_millis())
    };
    assert_eq!(retry(""), (3, 50, 2_000));
    assert_eq!(retry("  retry: {attempts: 1, backoff: 3 s}\n"), (1, 3_000, 3_000));
    assert_eq!(retry("  retry: {backoffMax: 20 ms}\n"), (3, 20, 20));
}

#[test]
fn files_of_tls_without_tls_are_told() {
    let specification = parse(&format!("{LEAST}  transport: {{trust_cacerts: ca.pem}}\n")).unwrap();
    assert_eq!(
        told(&specification),
        "module.yaml:5:30: warning: this file is for TLS, and the endpoint's URL has none: it is not used
  5 |   transport: {trust_cacerts: ca.pem}
    |                              ^^^^^^
  help: did you mean `https://`?"
    );
}

#[test]
fn the_old_form_means_what_its_documents_mean() {
    let old = "\
version: \"3.0\"
module:
  meta:
    type: remote
  spec:
    endpoints:
      - endpoint:
          meta:
            kind: http
          spec:
            functions: a/b
            urlPathTemplate: http://a
            maxNumBatchRequests: 5
            timeouts: {call: 4 s}
";
    let modern = "\
kind: io.statefun.endpoints.v1/http
spec:
  functions: a/b
  urlPathTemplate: http://a
  maxNumBatchRequests: 5
  timeouts: {call: 4 s}
";
    assert_eq!(endpoint(old), endpoint(modern));
    assert_eq!(
        translate("m", old).unwrap(),
        modern.replace("{call: 4 s}", "\n    call: '4 s'").replace(": \n", ":\n")
    );
}

#[test]
fn an_http_ingress_says_where_and_to_whom() {
    let yaml = "\
kind: fogfun.http.v1/ingress
spec:
  id: example/orders
  address: '::1'
  port: 8090
  path: /records/
  targets: [example/order, other/*]
  payloadBytesMax: 1000
  idempotencyKeys: 0
  waitMax: 5 s
---
kind: fogfun.http.v1/ingress
spec: {id: example/all, port: 8091}
";
    let http = parse(yaml).unwrap().http;
    let expected = HttpConfig {
        name: TypeName::from_static("example/orders"),
        listen: "[::1]:8090".parse().unwrap(),
        role: HttpRole::Ingress(HttpIngress {
            dialect: Dialect::Fogfun,
            path: "/records".into(),
            targets: Targets::Listed(vec![
                Served::Function(TypeName::from_static("example/order")),
                Served::Namespace("other".into()),
            ]),
            payload_bytes_max: 1000,
            idempotency_keys: 0,
            wait_max: Duration::from_secs(5),
        }),
    };
    assert_eq!(*http[0], expected);
    assert_eq!(http[1].listen, "127.0.0.1:8091".parse().unwrap());
    let HttpRole::Ingress(all) = &http[1].role else { panic!("an ingress") };
    assert_eq!((&all.targets, all.idempotency_keys), (&Targets::Every, 32));
}

/// As StateFun's playground has it.
const GREETER: &str = "\
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: http://functions.python:8000/statefun
---
kind: io.statefun.playground.v1/ingress
spec:
  port: 8090
---
kind: io.statefun.playground.v1/egress
spec:
  port: 8091
  topics:
    - greetings
";

#[test]
fn the_playgrounds_greeter_links_without_any_function_of_ours() {
    let application = Application::link(Module::new(), parse(GREETER).unwrap()).unwrap();
    assert_eq!(application.http.len(), 2);
    assert_eq!(application.http_egress(&PLAYGROUND_EGRESS), Some(1));
    assert_eq!(application.http[0].listen, "0.0.0.0:8090".parse().unwrap());
    let HttpRole::PlaygroundEgress { topics } = &application.http[1].role else { panic!("an egress") };
    assert_eq!(topics, &["greetings"]);
    assert_eq!(translate("m", GREETER).unwrap(), GREETER);
}

const KAFKA: &str = "\
# Licensed to somebody.

---
# Where the functions are.
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*   # all of them
  urlPathTemplate: http://functions:8000/statefun
---
kind: io.statefun.kafka.v1/ingress
spec:
  id: example/records
  address: kafka:9092
  consumerGroupId: my-consumer-group
  startupPosition:
    type: earliest
  topics:
    - topic: names
      valueType: io.statefun.types/string
      targets:
        - example/person
    - topic: ${TOPIC:-orders}
      valueType: com.example/Order
      targets: [example/order, example/audit]
    - topic: names
      valueType: example/Name
      targets: [example/person]
---
kind: io.statefun.kafka.v1/egress
spec:
  id: example/records
  address: kafka:9092
  deliverySemantic:
    type: exactly-once
    transactionTimeout: 15min
  properties:
    - retries: 3
";

const TRANSLATED: &str = "\
# Licensed to somebody.

---
# Where the functions are.
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*   # all of them
  urlPathTemplate: http://functions:8000/statefun
---
kind: fogfun.mqtt.v1/ingress
spec:
  # An egress has the id `example/records`; no two sessions have one.
  id: example/records-in
  # Fill in, or set BROKER: where the MQTT broker is. It was `kafka:9092`.
  address: mqtt://${BROKER:-localhost}
  # Left out, for MQTT has no such thing: consumerGroupId, startupPosition.
  topics:
    # The last level is the id of the targets, as the key was: devices publish to it.
    - topic: ${TOPIC:-orders}/{id}
      # Bytes as they come. For devices that send text, numbers or JSON say `format`.
      valueType: com.example/Order
      targets:
        - example/order
        - example/audit
    - topic: names/{id}
      # Bytes as they come. For devices that send text, numbers or JSON say `format`.
      valueType: example/Name
      targets:
        - example/person
---
kind: fogfun.mqtt.v1/egress
spec:
  id: example/records
  # Fill in, or set BROKER: where the MQTT broker is. It was `kafka:9092`.
  address: mqtt://${BROKER:-localhost}
  # Left out, for MQTT has no such thing: properties.
  # A Kafka record is published to its own topic; its key is not used.
  qos: 2
";

#[test]
fn a_module_with_kafka_is_translated_into_one_that_links() {
    let translated = translate("module.yaml", KAFKA).unwrap();
    assert_eq!(translated, TRANSLATED.replacen("\n---\n", "\n", 1));
    let specification = parse(&translated).unwrap_or_else(|errors| panic!("{errors}"));
    let application =
        Application::link(Module::new(), specification).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((application.sessions.len(), application.endpoints.len()), (2, 1));
    // What needs no translation stays as it is.
    assert_eq!(translate("module.yaml", &translated).unwrap(), translated);
}

#[test]
fn a_module_of_kinesis_or_of_the_old_forms_is_translated_into_one_that_loads() {
    let kinesis = "\
kind: io.statefun.kinesis.v1/ingress
spec:
  id: a/in
  awsRegion: {type: specific, id: eu-west-1}
  streams: [{stream: s, valueType: a/b, targets: [a/b]}]
---
kind: io.statefun.kinesis.v1/egress
spec: {id: a/out, maxOutstandingRecords: 10}
";
    let table = include_str!("errors.txt");
    let old = table.split("#### the form of statefun 2\n").nth(1).unwrap().split("---->").next().unwrap();
    let third = "\
version: \"3.0\"
module:
  meta: {type: remote}
  spec:
    ingresses:
      - ingress:
          meta: {type: io.statefun.kafka/ingress, id: a/in}
          spec: {topics: [{topic: t, valueType: a/b, targets: [a/b]}]}
    egresses:
      - egress:
          meta: {type: io.statefun.kafka/egress, id: a/out}
          spec: {address: 'k:1', deliverySemantic: {type: at-least-once}}
";
    for (yaml, endpoints) in [(kinesis, 0), (old, 1), (third, 0)] {
        let translated = translate("module.yaml", yaml).unwrap_or_else(|errors| panic!("{errors}"));
        let specification = parse(&translated).unwrap_or_else(|errors| panic!("{translated}\n{errors}"));
        assert_eq!((specification.sessions.len(), specification.endpoints.len()), (2, endpoints));
    }
}

#[test]
fn what_cannot_be_translated_is_told() {
    for (yaml, error) in [
        (
            "kind: [a\n",
            "m:2:1: this is not YAML: while parsing a flow sequence, expected ',' or ']'\n  2 | \n    | ^",
        ),
        ("# nothing\n", "m: the file says nothing\n  help: there is nothing to translate"),
    ] {
        assert_eq!(translate("m", yaml).unwrap_err().to_string(), error);
    }
}

proptest! {
    #[test]
    fn what_is_translated_from_kafka_loads(
        topics in proptest::collection::vec(("[a-zA-Z0-9._-]{1,12}", "[a-z]{1,3}/[a-zA-Z. ':#*é-]{0,8}[a-z]"), 1..5),
        id in "[a-z-]{1,5}/[a-z ':#\"\\\\é&*-]{0,8}[a-z]",
        address in "[a-z:0-9,]{0,12}",
    ) {
        let mut yaml = String::from("kind: io.statefun.kafka.v1/ingress\nspec:\n");
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        yaml.push_str(&format!("  id: {}\n  address: {}\n  topics:\n", quoted(&id), quoted(&address)));
        for (topic, value_type) in &topics {
            yaml.push_str(&format!(
                "  - topic: {}\n    valueType: {}\n    targets: [a/b]\n", quoted(topic), quoted(value_type)
            ));
        }
        let translated = translate("m", &yaml).unwrap();
        let specification = parse(&translated).map_err(|errors| TestCaseError::fail(format!("{translated}{errors}")))?;
        prop_assert_eq!(specification.sessions[0].name.as_str(), id);
    }

    #[test]
    fn no_change_of_a_module_makes_the_translator_panic(
        at in 0..KAFKA.len(), length in 0_usize..20, with in "[a:{}\\[\\]&*|>\"'\n\t -]{0,5}",
    ) {
        let mut text = KAFKA.to_owned();
        text.replace_range(at..(at + length).min(KAFKA.len()), &with);
        let _ = translate("m", &text);
        let _ = parse(&text);
    }

    #[test]
    fn no_change_of_an_endpoint_makes_the_reader_panic(
        at in 0..FULL.len(), length in 0_usize..20, with in "[a:{}\\[\\]&*|>\"'\n\t -]{0,5}",
    ) {
        let mut text = FULL.to_owned();
        text.replace_range(at..(at + length).min(FULL.len()), &with);
        let _ = parse(&text).map(|specification| specification.with_board(&Board::default()));
    }
}
