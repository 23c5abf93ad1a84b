//! `fogfun.metrics.v1/mqtt`: which broker hears what is measured?

use std::time::Duration;

use super::{LoadedMetrics, Loading, mqtt};
use crate::module::fields::{self, Fields};
use crate::module::specification::MetricsPlaces;
use crate::module::yaml::Node;
use crate::mqtt::config::MetricsConfig;
use crate::mqtt::metrics::{NODE_BYTES_MAX, is_node_name};

pub(super) fn read(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `fogfun.metrics.v1/mqtt`", report) else {
        return;
    };
    let mut places = MetricsPlaces::new(fields.place());
    let broker = mqtt::broker(&mut fields, &mut places.files, report);
    let node_node = fields.optional("node");
    let node = node_node.and_then(|node| fields::text(node, report)).map(str::to_owned);
    if let (Some(name), Some(node)) = (&node, node_node)
        && !is_node_name(name)
    {
        let message = format!("`{name}` is no name of a node");
        let help = format!("one level of a topic: at most {NODE_BYTES_MAX} bytes without `/`, `+` and `#`");
        report.add(node.place, message, help);
    }
    let client_id_node = fields.optional("clientId");
    let client_id = client_id_node.and_then(|node| mqtt::client_id(node, report));
    places.client_id = client_id_node.map(|node| node.place);
    let user = mqtt::login(&mut fields, broker.protocol, &mut places.files, report);
    let (keep_alive, keep_alive_place) = mqtt::keep_alive(&mut fields, report);
    places.keep_alive = keep_alive_place;
    let interval = fields
        .optional("interval")
        .and_then(|node| fields::duration(node, INTERVAL_MIN, INTERVAL_MAX, report))
        .unwrap_or(INTERVAL);
    fields.finish(report);
    let config = MetricsConfig { broker, node, client_id, user, password: None, keep_alive, interval };
    loading.metrics.push(LoadedMetrics { config, places });
}

/// As often as Mosquitto's own `$SYS`; a reading costs about a millisecond of a Pi's worker 0.
const INTERVAL: Duration = Duration::from_secs(10);
/// Reading more often would measure the measuring.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Rarer is not watched.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
