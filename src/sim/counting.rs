//! What is counted, and who checks? An application whose every mistake shows, and the checkers.
//!
//! A record for id *i* makes `sim/counter` *i* count, publish its count on `out/i` and tell `sim/mirror` of another id, which counts
//! and publishes on `mirror/…`, and every third time tells it once more after a delay. So each record touches two key groups, usually
//! of two workers, and three outboxes' worth of order.
//!
//! What a counter tells its mirror at once is 1, 2, 3 …: a mirror that hears anything else has seen that messages from one address to
//! another are not in order, and fails, which makes a dead letter where there may be none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::address::{Address, TypeName};
use crate::egress::MqttRecord;
use crate::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use crate::module::{Application, Module, Specification};
use crate::mqtt::codec::Publish;
use crate::sim::client::message_id_of;
use crate::sim::endpoint::Endpoint;
use crate::typed_value::{TypedValue, Value};

/// The application of the simulator's own tests.
///
/// # Panics
/// Never: its `module.yaml` is fixed.
#[must_use]
pub fn counting(qos_in: u8, qos_out: u8) -> Arc<Application> {
    let (module, yaml) = module(qos_in, qos_out);
    let application = Specification::parse("module.yaml", &yaml, &|_| None)
        .and_then(|specification| Application::link(module, specification));
    match application {
        Ok(application) => Arc::new(application),
        Err(errors) => unreachable!("{errors}"),
    }
}

/// The same application with its functions in another process, and that process.
///
/// # Panics
/// Never: its `module.yaml` is fixed.
#[must_use]
pub fn counting_remotely(qos_in: u8, qos_out: u8) -> (Arc<Application>, Endpoint) {
    let yaml = MODULE.replace("QOS_IN", &qos_in.to_string()).replace("QOS_OUT", &qos_out.to_string());
    let yaml = yaml + ENDPOINT;
    let application = Specification::parse("module.yaml", &yaml, &|_| None)
        .and_then(|specification| Application::link(Module::new(), specification));
    let make = |name: &TypeName| -> Option<Box<dyn StatefulFunction>> {
        match name.as_str() {
            "sim/counter" => Some(Box::new(Counter::new())),
            "sim/mirror" => Some(Box::new(Mirror::new())),
            _ => None,
        }
    };
    match application {
        Ok(application) => (Arc::new(application), Endpoint::new(make, STATES.to_vec())),
        Err(errors) => unreachable!("{errors}"),
    }
}

/// What it binds, and its `module.yaml`.
#[must_use]
pub fn module(qos_in: u8, qos_out: u8) -> (Module, String) {
    let yaml = MODULE.replace("QOS_IN", &qos_in.to_string()).replace("QOS_OUT", &qos_out.to_string());
    (Module::new().function("sim/counter", Counter::new).function("sim/mirror", Mirror::new), yaml)
}

/// How often `mirror` of an id is told when its source has counted to `count`: once each, and later every third.
#[must_use]
pub fn mirrored(count: i64) -> i64 {
    count + count / 3
}

/// The id whose mirror an id tells.
#[must_use]
pub fn mirror_of(id: &str) -> String {
    format!("m{id}")
}

/// Checks that on every topic the counts received are 1, 2, 3 …, up to what `expected` says of its topic.
///
/// # Errors
/// The first topic that is wrong, and how.
pub fn check_sequences(received: &[Publish], expected: &BTreeMap<String, i64>) -> Result<(), String> {
    let mut counts = BTreeMap::<String, i64>::new();
    for publish in received {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let count = String::from_utf8_lossy(&publish.payload).parse::<i64>().unwrap_or(-1);
        let last = counts.entry(topic.clone()).or_default();
        if count != *last + 1 {
            return Err(format!("{topic}: {count} came after {last}"));
        }
        *last = count;
    }
    match expected.iter().find(|(topic, count)| counts.get(*topic).copied().unwrap_or(0) != **count) {
        Some((topic, expected)) => {
            let got = counts.get(topic).copied().unwrap_or(0);
            Err(format!("{topic}: {got} records came, {expected} should have"))
        }
        None => Ok(()),
    }
}

/// A record with this payload always fails.
pub const FAILS: &str = "fails";
/// A record with this payload makes its function panic.
pub const PANICS: &str = "panics";
/// A record with this payload fails at the first attempt.
pub const FAILS_ONCE: &str = "fails once";

/// Drops repeats by their message id, as a consumer of QoS 1 does.
#[must_use]
pub fn without_repeats(received: &[Publish]) -> Vec<Publish> {
    let mut seen = BTreeSet::new();
    received
        .iter()
        .filter(|publish| message_id_of(publish).is_none_or(|id| seen.insert(id)))
        .cloned()
        .collect()
}

struct Counter {
    count: PersistedValue<i64>,
    /// Ids whose first letter has failed once. Lost with a panic or crash: then it fails once more.
    failed: BTreeSet<String>,
}

impl Counter {
    fn new() -> Self {
        Self { count: PersistedValue::new("count"), failed: BTreeSet::new() }
    }
}

impl StatefulFunction for Counter {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let id = context.self_address().id().to_owned();
        match message.get::<String>()?.as_str() {
            FAILS => return Err(FunctionError::new("as asked")),
            // Without the hook, which would print each of them.
            PANICS => std::panic::resume_unwind(Box::new("as asked")),
            FAILS_ONCE if !self.failed.remove(&id) => {
                self.failed.insert(id);
                return Err(FunctionError::new("as asked, once"));
            }
            _ => {}
        }
        let count = self.count.get_or_default(context)? + 1;
        self.count.set(context, count)?;
        let id = context.self_address().id();
        publish(context, format!("out/{id}"), count)?;
        let mirror = Address::new(MIRROR, &mirror_of(id))?;
        if count % 3 == 0 {
            context.send_after(Duration::from_millis(20), mirror.clone(), DELAYED)?;
        }
        context.send(mirror, count)
    }
}

struct Mirror {
    count: PersistedValue<i64>,
    /// What its counter told it last.
    last: PersistedValue<i64>,
}

impl Mirror {
    fn new() -> Self {
        Self { count: PersistedValue::new("count"), last: PersistedValue::new("last") }
    }
}

impl StatefulFunction for Mirror {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let told: i64 = message.get()?;
        if told != DELAYED {
            let last = self.last.get_or_default(context)?;
            if told != last + 1 {
                return Err(FunctionError::new(format!(
                    "{told} came after {last}: messages are not in order"
                )));
            }
            self.last.set(context, told)?;
        }
        let count = self.count.get_or_default(context)? + 1;
        self.count.set(context, count)?;
        let id = context.self_address().id();
        publish(context, format!("mirror/{id}"), count)
    }
}

fn publish(context: &mut Context<'_>, topic: String, count: i64) -> Result<(), FunctionError> {
    context.egress(&OUT, MqttRecord::new(topic, count.to_string()))
}

/// What a mirror is told after a delay, for which no order is promised.
const DELAYED: i64 = -1;
const MIRROR: TypeName = TypeName::from_static("sim/mirror");
const OUT: TypeName = TypeName::from_static("sim/out");

const STATES: [(&str, &str); 2] = [("count", i64::TYPENAME), ("last", i64::TYPENAME)];
const ENDPOINT: &str = r"
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: sim/*
  urlPathTemplate: http://endpoint/{function.name}
  transport:
    type: io.statefun.transports.v1/async
    pool_size: 3
    payload_max_bytes: 4096
  batch: {invocations: 5}
  retry: {attempts: 12, backoff: 1ms, backoffMax: 50ms}
";

const MODULE: &str = r"
kind: fogfun.mqtt.v1/ingress
spec:
  id: sim/in
  address: mqtt://broker
  topics:
    - topic: in/{id}
      qos: QOS_IN
      format: text
      id: {capture: id}
      messageId: {property: n, scope: {capture: id}, remembered: 64}
      targets: [sim/counter]
---
kind: fogfun.mqtt.v1/egress
spec:
  id: sim/out
  address: mqtt://broker
  qos: QOS_OUT
";
