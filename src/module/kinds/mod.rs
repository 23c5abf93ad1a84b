//! Which kinds of documents are there? A kind is one file here and one line in [`KINDS`].

use super::error::{Place, Report};
use super::specification::Loaded;
use super::yaml::Node;

mod mqtt;
mod mqtt_egress;
mod mqtt_ingress;

/// A kind of document.
pub(super) struct Kind {
    /// As written behind `kind:`.
    pub(super) name: &'static str,
    /// Reads what stands under `spec:`.
    pub(super) read: fn(spec: &Node, loading: &mut Loading<'_>),
}

/// What documents are read into.
pub(super) struct Loading<'a> {
    /// What is wrong.
    pub(super) report: &'a mut Report,
    /// The sessions so far.
    pub(super) sessions: Vec<Loaded>,
}

/// Every kind that can be read.
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "fogfun.mqtt.v1/ingress", read: mqtt_ingress::read },
    Kind { name: "fogfun.mqtt.v1/egress", read: mqtt_egress::read },
];

/// StateFun's kinds that cannot be read, and what to do instead.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("io.statefun.endpoints.v2/http", REMOTE),
    ("io.statefun.endpoints.v1/http", REMOTE),
    (
        "io.statefun.kafka.v1/ingress",
        "use `fogfun.mqtt.v1/ingress`: `topics` with `targets` are the same there",
    ),
    (
        "io.statefun.kafka.v1/egress",
        "use `fogfun.mqtt.v1/egress`: it takes a KafkaProducerRecord and publishes its value to its topic",
    ),
    ("io.statefun.kinesis.v1/ingress", "use `fogfun.mqtt.v1/ingress`"),
    ("io.statefun.kinesis.v1/egress", "use `fogfun.mqtt.v1/egress`"),
    ("io.statefun.playground.v1/ingress", "use `fogfun.mqtt.v1/ingress`"),
    ("io.statefun.playground.v1/egress", "use `fogfun.mqtt.v1/egress`"),
];

const REMOTE: &str = "remote functions are not supported yet; bind the function in Rust: `Module::new().function(\"namespace/name\", …)`";

/// A note that something is wrong at a place, for checks that run after all documents are read.
pub(super) fn twice(place: Place, what: &str, name: &str, first: Place, report: &mut Report) {
    let message = format!("{what} `{name}` is declared for the second time");
    report.add(place, message, format!("the first is in line {}", first.line));
}
