//! Which kinds of documents are there? A kind is one line in [`KINDS`] and a reader here.

use super::endpoint::LoadedEndpoint;
use super::error::{Place, Report};
use super::specification::{HttpPlaces, Loaded, MetricsPlaces};
use super::yaml::Node;
use crate::http_config::HttpConfig;
use crate::mqtt::config::MetricsConfig;

mod endpoint;
mod http;
mod metrics;
mod mqtt;
mod mqtt_egress;
mod mqtt_ingress;
mod transport;

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
    /// The endpoints so far.
    pub(super) endpoints: Vec<LoadedEndpoint>,
    /// What is served over HTTP so far.
    pub(super) http: Vec<LoadedHttp>,
    /// The brokers of metrics so far; one is possible.
    pub(super) metrics: Vec<LoadedMetrics>,
}

/// A broker of metrics that was read, and its places.
pub(super) struct LoadedMetrics {
    pub(super) config: MetricsConfig,
    pub(super) places: MetricsPlaces,
}

/// A port that was read, and its places.
pub(super) struct LoadedHttp {
    pub(super) config: HttpConfig,
    pub(super) places: HttpPlaces,
}

/// Every kind that can be read.
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "fogfun.mqtt.v1/ingress", read: mqtt_ingress::read },
    Kind { name: "fogfun.mqtt.v1/egress", read: mqtt_egress::read },
    Kind { name: "fogfun.http.v1/ingress", read: http::read_ingress },
    Kind { name: "fogfun.metrics.v1/mqtt", read: metrics::read },
    Kind { name: ENDPOINT_V2, read: endpoint::read_v2 },
    Kind { name: ENDPOINT_V1, read: endpoint::read_v1 },
    Kind { name: "io.statefun.playground.v1/ingress", read: http::read_playground_ingress },
    Kind { name: "io.statefun.playground.v1/egress", read: http::read_playground_egress },
];

/// Remote functions, since StateFun 3.1.
pub(super) const ENDPOINT_V2: &str = "io.statefun.endpoints.v2/http";
/// Remote functions, of StateFun 3.0.
pub(super) const ENDPOINT_V1: &str = "io.statefun.endpoints.v1/http";

/// One of StateFun's kinds that cannot be read; it is translated instead.
pub(super) struct Unsupported {
    pub(super) name: &'static str,
    pub(super) message: &'static str,
    /// Which of ours is meant.
    pub(super) translation: Translation,
}

/// What a kind becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Translation {
    /// `fogfun.mqtt.v1/ingress`; the list and what in it names a stream.
    Ingress { list: &'static str, stream: &'static str },
    /// `fogfun.mqtt.v1/egress`.
    Egress,
}

impl Unsupported {
    /// The kind of this name, if it is one of them.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        UNSUPPORTED.iter().find(|kind| kind.name == name)
    }
}

const UNSUPPORTED: [Unsupported; 4] = [
    Unsupported {
        name: "io.statefun.kafka.v1/ingress",
        message: "there is no Kafka here, records come in over MQTT: `fogfun.mqtt.v1/ingress`",
        translation: Translation::Ingress { list: "topics", stream: "topic" },
    },
    Unsupported {
        name: "io.statefun.kafka.v1/egress",
        message: "there is no Kafka here, records leave over MQTT: `fogfun.mqtt.v1/egress`",
        translation: Translation::Egress,
    },
    Unsupported {
        name: "io.statefun.kinesis.v1/ingress",
        message: "there is no Kinesis here, records come in over MQTT: `fogfun.mqtt.v1/ingress`",
        translation: Translation::Ingress { list: "streams", stream: "stream" },
    },
    Unsupported {
        name: "io.statefun.kinesis.v1/egress",
        message: "there is no Kinesis here, records leave over MQTT: `fogfun.mqtt.v1/egress`",
        translation: Translation::Egress,
    },
];

/// A note that something is wrong at a place, for checks that run after all documents are read.
pub(super) fn twice(place: Place, what: &str, name: &str, first: Place, report: &mut Report) {
    let message = format!("{what} `{name}` is declared for the second time");
    report.add(place, message, format!("the first is in line {}", first.line));
}
