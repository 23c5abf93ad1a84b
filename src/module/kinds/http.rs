//! `fogfun.http.v1/ingress` and the playground's two kinds: what is served over HTTP?

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{LoadedHttp, Loading, endpoint};
use crate::address::TypeName;
use crate::http_config::{
    Dialect, HttpConfig, HttpIngress, HttpRole, PLAYGROUND_EGRESS, PLAYGROUND_INGRESS, Targets,
};
use crate::limits::{MESSAGE_IDS_REMEMBERED_MAX, PLAYGROUND_TOPICS_MAX, VALUE_BYTES_MAX};
use crate::module::error::{Place, Report};
use crate::module::fields::{self, Fields};
use crate::module::specification::HttpPlaces;
use crate::module::yaml::Node;
use crate::remote::config::Served;

pub(super) fn read_ingress(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `fogfun.http.v1/ingress`", report) else {
        return;
    };
    let id_node = fields.required("id", "example/orders");
    let name = id_node.and_then(|node| fields::type_name(node, report));
    let listen = listen(&mut fields, LOOPBACK, report);
    let path = fields.optional("path").and_then(|node| path(node, report));
    let targets_node = fields.optional("targets");
    let targets = targets_node.map(|node| targets(node, report));
    let payload_bytes_max =
        fields.optional("payloadBytesMax").and_then(|node| fields::number(node, 1, VALUE_BYTES_MAX, report));
    let idempotency_keys = fields
        .optional("idempotencyKeys")
        .and_then(|node| fields::number(node, 0, MESSAGE_IDS_REMEMBERED_MAX, report));
    let wait_max = fields
        .optional("waitMax")
        .and_then(|node| fields::duration(node, Duration::ZERO, WAIT_MAX_MAX, report));
    let id_place = id_node.map_or(fields.place(), |node| node.place);
    fields.finish(report);
    let (Some(name), Some((listen, port))) = (name, listen) else {
        return;
    };
    let listed = targets.clone().unwrap_or_default();
    let ingress = HttpIngress {
        dialect: Dialect::Fogfun,
        path: path.unwrap_or_default(),
        targets: match targets {
            None => Targets::Every,
            Some(listed) => Targets::Listed(listed.into_iter().map(|(served, _)| served).collect()),
        },
        payload_bytes_max: payload_bytes_max.unwrap_or(VALUE_BYTES_MAX),
        idempotency_keys: idempotency_keys.unwrap_or(IDEMPOTENCY_KEYS),
        wait_max: wait_max.unwrap_or(WAIT_MAX),
    };
    let places = HttpPlaces { name: id_place, port, targets: listed };
    let config = HttpConfig { name, listen, role: HttpRole::Ingress(ingress) };
    loading.http.push(LoadedHttp { config, places });
}

pub(super) fn read_playground_ingress(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `io.statefun.playground.v1/ingress`", report) else {
        return;
    };
    let listen = listen(&mut fields, EVERY_INTERFACE, report);
    fields.finish(report);
    let role = HttpRole::Ingress(HttpIngress {
        dialect: Dialect::Playground,
        path: String::new(),
        targets: Targets::Every,
        payload_bytes_max: VALUE_BYTES_MAX,
        idempotency_keys: 0,
        wait_max: Duration::ZERO,
    });
    playground(PLAYGROUND_INGRESS, listen, role, loading);
}

pub(super) fn read_playground_egress(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `io.statefun.playground.v1/egress`", report) else {
        return;
    };
    let listen = listen(&mut fields, EVERY_INTERFACE, report);
    let topics = fields.required("topics", "[greetings]").and_then(|node| topics(node, report));
    fields.finish(report);
    let role = HttpRole::PlaygroundEgress { topics: topics.unwrap_or_default() };
    playground(PLAYGROUND_EGRESS, listen, role, loading);
}

fn playground(
    name: TypeName,
    listen: Option<(SocketAddr, Place)>,
    role: HttpRole,
    loading: &mut Loading<'_>,
) {
    if let Some((listen, port)) = listen {
        let places = HttpPlaces { name: port, port, targets: Vec::new() };
        loading.http.push(LoadedHttp { config: HttpConfig { name, listen, role }, places });
    }
}

/// Where to listen, and the place of the port.
fn listen(fields: &mut Fields<'_>, default: Ipv4Addr, report: &mut Report) -> Option<(SocketAddr, Place)> {
    let address = fields.optional("address").and_then(|node| {
        let text = fields::text(node, report)?;
        let help = "for example `127.0.0.1`, `::1`, or `0.0.0.0` for every interface".to_owned();
        text.parse::<IpAddr>()
            .map_err(|_| report.add(node.place, format!("`{text}` is no IP address"), help))
            .ok()
    });
    let node = fields.required("port", "8090")?;
    let port = fields::number(node, 1, u16::MAX, report)?;
    Some((SocketAddr::new(address.unwrap_or(IpAddr::V4(default)), port), node.place))
}

/// `/a/b` without a slash at its end.
fn path(node: &Node, report: &mut Report) -> Option<String> {
    let text = fields::text(node, report)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !text.starts_with('/') || text.contains("//") || !text.bytes().all(is_plain) {
        let help = "for example `/records`; letters, digits and `-._~/`".to_owned();
        report.add(node.place, format!("`{text}` is no path"), help);
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn targets(node: &Node, report: &mut Report) -> Vec<(Served, Place)> {
    let nodes = fields::items(node, report).unwrap_or_default();
    if nodes.is_empty() {
        report.add(
            node.place,
            "at least one target",
            "without `targets` every function can be addressed".to_owned(),
        );
    }
    nodes.iter().filter_map(|node| Some((endpoint::served(node, report)?, node.place))).collect()
}

fn topics(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let nodes = fields::items(node, report)?;
    if PLAYGROUND_TOPICS_MAX < nodes.len() {
        let message = format!("at most {PLAYGROUND_TOPICS_MAX} topics, these are {}", nodes.len());
        report.add(node.place, message, None);
        return None;
    }
    let mut topics: Vec<String> = Vec::new();
    for node in nodes {
        let Some(topic) = fields::text(node, report) else {
            continue;
        };
        if topics.iter().any(|earlier| earlier == topic) {
            report.add(node.place, format!("the topic `{topic}` is here for the second time"), None);
            continue;
        }
        topics.push(topic.to_owned());
    }
    Some(topics)
}

/// Nobody else reaches it until somebody says so: there is no password.
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The playground is for trying, often out of a container.
const EVERY_INTERFACE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// As MQTT remembers message ids.
const IDEMPOTENCY_KEYS: u16 = 32;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// An open request is an open connection.
const WAIT_MAX_MAX: Duration = Duration::from_secs(600);
