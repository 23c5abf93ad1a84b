//! What does a module of the old form say? One document with `version`, taken apart into documents with `kind` and `spec`.
//!
//! - `"3.0"` (StateFun 3.0) is read: the same things in other places.
//! - `"1.0"` and `"2.0"` (StateFun 2.x) speak another wire; their modern documents are shown in the error, so that one can move.

use super::error::{Place, Report};
use super::fields::{self, Fields};
use super::kinds::{ENDPOINT_V1, ENDPOINT_V2};
use super::yaml::{Entry, Node, Value};
use super::{suggest, translate};

/// Is it a document of the old form?
pub(super) fn is_legacy(document: &Node) -> bool {
    has(document, "version") && !has(document, "kind")
}

/// The modern documents of one that can be read; none of others, about which something is said.
pub(super) fn modern(document: &Node, report: &mut Report) -> Vec<Node> {
    let Some(version) = version(document, report) else {
        return Vec::new();
    };
    match version {
        Version::V3 => documents(document, version, report),
        Version::V2 => {
            let place = find(document, "version").map_or(document.place, |node| node.place);
            let mut unheard = Report::new(std::sync::Arc::new(super::error::Source::new("", "")));
            let documents = documents(document, version, &mut unheard);
            let help = format!(
                "move the functions to an SDK of Stateful Functions 3.x, which declares their states, and write:\n{}",
                translate::documents(&documents).trim_end()
            );
            let message =
                "this is a module of Stateful Functions 2.x, whose functions speak another protocol";
            report.add(place, message, help);
            Vec::new()
        }
    }
}

/// The modern documents, of 2.x too.
pub(super) fn modern_of_any(document: &Node, report: &mut Report) -> Vec<Node> {
    version(document, report).map(|version| documents(document, version, report)).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V3,
    V2,
}

fn version(document: &Node, report: &mut Report) -> Option<Version> {
    let node = find(document, "version")?;
    let help = "there is `\"3.0\"`; later modules have documents with `kind` and `spec`".to_owned();
    match &node.value {
        Value::Text(text) => match text.as_str() {
            "3.0" => Some(Version::V3),
            "1.0" | "2.0" => Some(Version::V2),
            other => {
                report.add(node.place, format!("there is no version `{other}` of the old form"), help);
                None
            }
        },
        other => {
            fields::expected(node.place, "`\"3.0\"`", other, report);
            None
        }
    }
}

fn documents(document: &Node, version: Version, report: &mut Report) -> Vec<Node> {
    let Some(spec) = module_spec(document, report) else {
        return Vec::new();
    };
    let Some(mut spec) = Fields::of(spec, "`spec` of `module`", report) else {
        return Vec::new();
    };
    let mut documents = Vec::new();
    if version == Version::V3 {
        for part in parts(spec.optional("endpoints"), "endpoint", report) {
            documents.extend(endpoint(&part, report));
        }
    } else {
        spec.skip(&["routers"]);
        for part in parts(spec.optional("functions"), "function", report) {
            documents.extend(function(&part));
        }
    }
    for (list, item) in [("ingresses", "ingress"), ("egresses", "egress")] {
        for part in parts(spec.optional(list), item, report) {
            documents.extend(gress(&part, item, version, report));
        }
    }
    spec.finish(report);
    documents
}

/// What stands under `module.spec`; `module.meta.type` is `remote`.
fn module_spec<'n>(document: &'n Node, report: &mut Report) -> Option<&'n Node> {
    let mut fields = Fields::of(document, "a module of the old form", report)?;
    fields.skip(&["version"]);
    let module = fields.required("module", "{meta: {type: remote}, spec: {…}}");
    fields.finish(report);
    let mut module = Fields::of(module?, "`module`", report)?;
    let meta = module.required("meta", "{type: remote}");
    let spec = module.required("spec", "{…}");
    module.finish(report);
    let mut meta = Fields::of(meta?, "`meta` of `module`", report)?;
    let module_type = meta.required("type", "remote");
    meta.finish(report);
    fields::one_of(module_type?, &[("remote", ())], report)?;
    spec
}

/// An item of a list: its `meta` and `spec`.
struct Part<'n> {
    place: Place,
    meta: &'n Node,
    spec: &'n Node,
}

fn parts<'n>(list: Option<&'n Node>, item: &'static str, report: &mut Report) -> Vec<Part<'n>> {
    let nodes = list.and_then(|node| fields::items(node, report)).unwrap_or_default();
    let mut parts = Vec::new();
    for node in nodes {
        let Some(mut outer) = Fields::of(node, "an item of the list", report) else {
            continue;
        };
        let inner = outer.required(item, "{meta: {…}, spec: {…}}");
        outer.finish(report);
        let Some(mut fields) = inner.and_then(|inner| Fields::of(inner, "an item of the list", report))
        else {
            continue;
        };
        let place = fields.place();
        let (meta, spec) = (fields.required("meta", "{…}"), fields.required("spec", "{…}"));
        fields.finish(report);
        if let (Some(meta), Some(spec)) = (meta, spec) {
            parts.push(Part { place, meta, spec });
        }
    }
    parts
}

fn endpoint(part: &Part<'_>, report: &mut Report) -> Option<Node> {
    let mut meta = Fields::of(part.meta, "`meta` of an endpoint", report)?;
    let kind = meta.required("kind", "http");
    meta.finish(report);
    fields::one_of(kind?, &[("http", ()), (ENDPOINT_V1, ())], report)?;
    Some(document(part.place, kind?.place, ENDPOINT_V1, part.spec.clone()))
}

fn gress(part: &Part<'_>, what: &str, version: Version, report: &mut Report) -> Option<Node> {
    let mut meta = Fields::of(part.meta, "`meta` of an ingress or egress", report)?;
    let kind_node = meta.required("type", "io.statefun.kafka/ingress");
    let id = meta.required("id", "example/orders");
    meta.finish(report);
    let (kind_node, id) = (kind_node?, id?);
    let written = fields::text(kind_node, report)?;
    let known = KINDS.iter().filter(|kind| kind.version == version && kind.modern.ends_with(what));
    let Some(kind) = known.clone().find(|kind| kind.old == written) else {
        let help = suggest::help(written, known.map(|kind| kind.old));
        report.add(kind_node.place, format!("unknown type `{written}` of the old form"), help);
        return None;
    };
    let mut spec = renamed(part.spec.clone());
    if let Value::Mapping(entries) = &mut spec.value
        && !entries.iter().any(|entry| entry.key == "id")
    {
        entries.insert(0, entry("id", id.clone()));
    }
    Some(document(part.place, kind_node.place, kind.modern, spec))
}

/// A function of 2.x: an endpoint of its own.
fn function(part: &Part<'_>) -> Option<Node> {
    let own = |key: &str| find(part.spec, key).cloned();
    let mut spec = vec![entry("functions", find(part.meta, "type")?.clone())];
    spec.push(entry("urlPathTemplate", own("endpoint")?));
    spec.extend(own("maxNumBatchRequests").map(|node| entry("maxNumBatchRequests", node)));
    let times = [("call", own("timeout")), ("connect", own("connectTimeout"))];
    let times: Vec<Entry> = times.into_iter().filter_map(|(key, node)| Some(entry(key, node?))).collect();
    if !times.is_empty() {
        spec.push(entry("transport", Node { place: part.place, value: Value::Mapping(times) }));
    }
    let spec = Node { place: part.spec.place, value: Value::Mapping(spec) };
    Some(document(part.place, part.place, ENDPOINT_V2, spec))
}

/// `typeUrl` was the name of `valueType`.
fn renamed(mut spec: Node) -> Node {
    let Value::Mapping(entries) = &mut spec.value else {
        return spec;
    };
    let lists = entries.iter_mut().filter(|entry| matches!(entry.key.as_str(), "topics" | "streams"));
    for list in lists {
        let Value::Sequence(items) = &mut list.value.value else { continue };
        for item in items {
            let Value::Mapping(entries) = &mut item.value else { continue };
            for entry in entries.iter_mut().filter(|entry| entry.key == "typeUrl") {
                entry.key = "valueType".to_owned();
            }
        }
    }
    spec
}

fn document(place: Place, kind_place: Place, kind: &str, spec: Node) -> Node {
    let kind = Node { place: kind_place, value: Value::Text(kind.to_owned()) };
    Node { place, value: Value::Mapping(vec![entry("kind", kind), entry("spec", spec)]) }
}

fn entry(key: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), key_place: value.place, value }
}

/// The value under a key of a mapping.
pub(super) fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    }
}

fn has(node: &Node, key: &str) -> bool {
    find(node, key).is_some()
}

/// A type of the old form and its kind.
struct OldKind {
    version: Version,
    old: &'static str,
    modern: &'static str,
}

const KINDS: [OldKind; 9] = [
    old(Version::V3, "io.statefun.kafka/ingress", "io.statefun.kafka.v1/ingress"),
    old(Version::V3, "io.statefun.kafka/egress", "io.statefun.kafka.v1/egress"),
    old(Version::V3, "io.statefun.kinesis/ingress", "io.statefun.kinesis.v1/ingress"),
    old(Version::V3, "io.statefun.kinesis/egress", "io.statefun.kinesis.v1/egress"),
    old(Version::V2, "statefun.kafka.io/routable-protobuf-ingress", "io.statefun.kafka.v1/ingress"),
    old(Version::V2, "statefun.kafka.io/protobuf-ingress", "io.statefun.kafka.v1/ingress"),
    old(Version::V2, "statefun.kafka.io/generic-egress", "io.statefun.kafka.v1/egress"),
    old(Version::V2, "statefun.kinesis.io/routable-protobuf-ingress", "io.statefun.kinesis.v1/ingress"),
    old(Version::V2, "statefun.kinesis.io/generic-egress", "io.statefun.kinesis.v1/egress"),
];

const fn old(version: Version, old: &'static str, modern: &'static str) -> OldKind {
    OldKind { version, old, modern }
}
