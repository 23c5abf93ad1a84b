//! `fogfun.mqtt.v1/ingress`: which records come in over MQTT, and to whom do they go?

use smol_str::SmolStr;

use super::{Loading, mqtt};
use crate::address::TypeName;
use crate::limits::{INGRESS_TOPICS_MAX, MESSAGE_IDS_REMEMBERED_MAX};
use crate::module::error::{Place, Report};
use crate::module::fields::{self, Fields};
use crate::module::suggest;
use crate::module::yaml::{Node, Value};
use crate::mqtt::builtin;
use crate::mqtt::config::{
    Format, IdSource, MessageIdSource, Protocol, Retained, Role, Scope, Subscription, TopicPattern,
};

pub(super) fn read(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `fogfun.mqtt.v1/ingress`", report) else {
        return;
    };
    let topics_node =
        fields.required("topics", "[{topic: \"fridge/{id}\", format: number, targets: [example/fridge]}]");
    let role = Role::Ingress { subscriptions: Vec::new() };
    let session = mqtt::session(&mut fields, role, report);
    fields.finish(report);
    let protocol = session.as_ref().map_or(Protocol::V5, |session| session.config.broker.protocol);
    let mut topics = Vec::new();
    for node in topics_node.and_then(|node| topic_nodes(node, report)).unwrap_or_default() {
        topics.extend(Topic::read(node, protocol, report));
    }
    check_overlaps(&topics, report);
    let Some(mut session) = session else { return };
    for topic in &topics {
        session.places.subscriptions.push(topic.place);
        session.places.targets.extend(topic.targets.iter().cloned());
    }
    session.config.role =
        Role::Ingress { subscriptions: topics.into_iter().map(|topic| topic.subscription).collect() };
    loading.sessions.push(session);
}

fn topic_nodes<'n>(node: &'n Node, report: &mut Report) -> Option<&'n [Node]> {
    let nodes = fields::items(node, report)?;
    if nodes.is_empty() {
        report.add(node.place, "an ingress has at least one topic", None);
    }
    if INGRESS_TOPICS_MAX < nodes.len() {
        let message =
            format!("an ingress has at most {INGRESS_TOPICS_MAX} topics, this one has {}", nodes.len());
        report.add(node.place, message, "use wildcards, or several ingresses".to_owned());
        return None;
    }
    Some(nodes)
}

/// Brokers deliver a record once for each filter that takes it (MQTT 5), so overlapping ones would count it twice.
fn check_overlaps(topics: &[Topic], report: &mut Report) {
    for (index, topic) in topics.iter().enumerate() {
        let pattern = &topic.subscription.pattern;
        for earlier in topics.iter().take(index) {
            let other = &earlier.subscription.pattern;
            let apart = pattern.is_shared() || other.is_shared();
            if pattern.filter == other.filter || !apart && pattern.overlaps(other) {
                let message =
                    format!("`{}` overlaps `{}` in line {}", pattern.text, other.text, earlier.place.line);
                let help = "a broker delivers a record once for each of them; make them exclude each other, or use two ingresses";
                report.add(topic.place, message, help.to_owned());
            }
        }
    }
}

struct Topic {
    subscription: Subscription,
    place: Place,
    targets: Vec<(TypeName, Place)>,
}

impl Topic {
    fn read(node: &Node, protocol: Protocol, report: &mut Report) -> Option<Self> {
        let mut fields = Fields::of(node, "a topic", report)?;
        let topic_node = fields.required("topic", "fridge/{id}/temperature");
        let pattern = topic_node.and_then(|node| pattern(node, report));
        let qos = mqtt::qos(&mut fields, report);
        let retained_words = [("taken", Retained::Taken), ("ignored", Retained::Ignored)];
        let retained =
            fields.optional("retained").and_then(|node| fields::one_of(node, &retained_words, report));
        let format = match fields.optional("format") {
            Some(node) => mqtt::format(node, report),
            None => Some(Format::Raw),
        };
        let value_type = value_type(&mut fields, format, report);
        let targets = targets(fields.optional("targets"), report);
        let context = Context { pattern: pattern.as_ref(), format, protocol };
        let id = id(&mut fields, &context, !targets.is_empty(), report);
        let message_id = fields.optional("messageId").and_then(|node| message_id(node, &context, report));
        fields.finish(report);
        Some(Self {
            place: topic_node?.place,
            subscription: Subscription {
                pattern: pattern?,
                qos,
                retained: retained.unwrap_or(Retained::Taken),
                format: format.unwrap_or(Format::Raw),
                value_type,
                targets: targets.iter().map(|(target, _)| target.clone()).collect(),
                id,
                message_id,
            },
            targets,
        })
    }
}

/// What the sources of ids depend on; `None` where something was said already.
struct Context<'a> {
    pattern: Option<&'a TopicPattern>,
    format: Option<Format>,
    protocol: Protocol,
}

fn pattern(node: &Node, report: &mut Report) -> Option<TopicPattern> {
    let text = fields::text(node, report)?;
    TopicPattern::parse(text)
        .map_err(|error| report.add(node.place, format!("`{text}` is no topic: {error}"), None))
        .ok()
}

fn targets(node: Option<&Node>, report: &mut Report) -> Vec<(TypeName, Place)> {
    let nodes = node.and_then(|node| fields::items(node, report)).unwrap_or_default();
    let mut targets: Vec<(TypeName, Place)> = Vec::new();
    for node in nodes {
        let Some(target) = fields::type_name(node, report) else {
            continue;
        };
        if targets.iter().any(|(earlier, _)| *earlier == target) {
            let help = "a record goes to each target once".to_owned();
            report.add(node.place, format!("the target `{target}` is here for the second time"), help);
            continue;
        }
        targets.push((target, node.place));
    }
    targets
}

fn value_type(fields: &mut Fields<'_>, format: Option<Format>, report: &mut Report) -> Option<SmolStr> {
    let node = match format {
        Some(Format::Raw | Format::Json) => fields.required("valueType", "example/reading"),
        _ => fields.optional("valueType"),
    };
    let node = node?;
    let text = fields::text(node, report)?;
    let allowed: &[&str] = match format? {
        Format::Raw => &BUILTINS,
        Format::Text => &[builtin::STRING],
        Format::Number => &[builtin::DOUBLE, builtin::FLOAT, builtin::INT, builtin::LONG],
        Format::Json => &[],
    };
    let is_builtin = text.starts_with(BUILTIN_NAMESPACE);
    if allowed.contains(&text) || !is_builtin && format != Some(Format::Number) {
        return Some(text.into());
    }
    let (message, help) = match format? {
        Format::Raw => (format!("there is no built-in type `{text}`"), suggest::help(text, BUILTINS)),
        Format::Number => (format!("a number is no `{text}`"), suggest::help(text, allowed.iter().copied())),
        Format::Text => (
            format!("a text is no `{text}`"),
            format!("leave `valueType` out for `{}`, or name a type of your own", builtin::STRING),
        ),
        Format::Json => (
            format!("JSON is no `{text}`"),
            "name a type of your own; the value is the JSON text as it comes".into(),
        ),
    };
    report.add(node.place, message, help);
    None
}

fn id(fields: &mut Fields<'_>, context: &Context<'_>, needed: bool, report: &mut Report) -> IdSource {
    if let Some(node) = fields.optional("id") {
        let written = SourceKey { what: "`id`", usual: "capture", beside: &[] };
        let Some((source, fields)) = source(node, &written, context, report) else {
            return IdSource::None;
        };
        fields.finish(report);
        return source;
    }
    let Some(pattern) = context.pattern else {
        return IdSource::None;
    };
    let mut names = pattern.capture_names();
    match (names.next(), names.next()) {
        (Some(only), None) => IdSource::Capture(only.to_owned()),
        (first, _) if needed => {
            let message = match first {
                None => {
                    "nothing says which id the targets get: the topic captures nothing and there is no `id`"
                }
                Some(_) => {
                    "nothing says which id the targets get: the topic has several captures and there is no `id`"
                }
            };
            let help =
                "for example `id: {capture: name}`, `id: {jsonPointer: /name}` or `id: {property: name}`";
            report.add(fields.place(), message, help.to_owned());
            IdSource::None
        }
        _ => IdSource::None,
    }
}

fn message_id(node: &Node, context: &Context<'_>, report: &mut Report) -> Option<MessageIdSource> {
    let written = SourceKey { what: "`messageId`", usual: "property", beside: &["scope", "remembered"] };
    let (source, mut fields) = source(node, &written, context, report)?;
    if let IdSource::Capture(_) = source {
        let help = "use `jsonPointer` or `property`; a capture can be the `scope`".to_owned();
        report.add(node.place, "a topic does not change from message to message", help);
    }
    let scope = match fields.optional("scope") {
        None => Some(Scope::Topic),
        Some(node) => scope(node, context, report),
    };
    let remembered = match fields.optional("remembered") {
        None => Some(MESSAGE_IDS_REMEMBERED),
        Some(node) => fields::number(node, 1, MESSAGE_IDS_REMEMBERED_MAX, report),
    };
    fields.finish(report);
    Some(MessageIdSource { source, scope: scope?, remembered: remembered? })
}

fn scope(node: &Node, context: &Context<'_>, report: &mut Report) -> Option<Scope> {
    if let Value::Mapping(_) = node.value {
        let mut fields = Fields::of(node, "`scope`", report)?;
        let capture = fields.required("capture", "id").and_then(|node| capture(node, context, report));
        fields.finish(report);
        return capture.map(Scope::Capture);
    }
    match &node.value {
        Value::Text(text) if text == "topic" => Some(Scope::Topic),
        Value::Text(text) if text == "ingress" => Some(Scope::Ingress),
        other => {
            fields::expected(node.place, "`topic`, `ingress` or `{capture: name}`", other, report);
            None
        }
    }
}

/// Where an id is written, and how errors speak of it.
struct SourceKey {
    what: &'static str,
    /// What a plain text there was probably meant to be.
    usual: &'static str,
    /// Keys beside the source.
    beside: &'static [&'static str],
}

/// One of `capture`, `jsonPointer` and `property`; the caller finishes the fields.
fn source<'n>(
    node: &'n Node,
    written: &SourceKey,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<(IdSource, Fields<'n>)> {
    if let Value::Text(text) = &node.value {
        let message = format!("expected a mapping, found `{text}`");
        report.add(node.place, message, format!("did you mean `{{{}: {text}}}`?", written.usual));
        return None;
    }
    let mut fields = Fields::of(node, written.what, report)?;
    let given: Vec<(&'static str, &Node)> = ["capture", "jsonPointer", "property"]
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .collect();
    let source = match given.as_slice() {
        [("capture", value)] => capture(value, context, report).map(IdSource::Capture),
        [("jsonPointer", value)] => json_pointer(value, context, report).map(IdSource::JsonPointer),
        [(_, value)] => property(value, context, report).map(IdSource::Property),
        _ => {
            fields.skip(written.beside);
            // Of a misspelt key nothing more is said.
            if !given.is_empty() || !fields.has_others() {
                let message = format!("{} has one of `capture`, `jsonPointer` and `property`", written.what);
                report.add(fields.place(), message, None);
            }
            None
        }
    };
    if source.is_none() {
        fields.skip(written.beside);
        fields.finish(report);
        return None;
    }
    Some((source?, fields))
}

fn capture(node: &Node, context: &Context<'_>, report: &mut Report) -> Option<String> {
    let name = fields::text(node, report)?;
    let pattern = context.pattern?;
    if pattern.capture_names().any(|capture| capture == name) {
        return Some(name.to_owned());
    }
    let message = format!("the topic `{}` has no capture `{name}`", pattern.text);
    let names: Vec<&str> = pattern.capture_names().collect();
    report.add(node.place, message, suggest::help(name, names.iter().copied()));
    None
}

/// RFC 6901; `""` is the whole document.
fn json_pointer(node: &Node, context: &Context<'_>, report: &mut Report) -> Option<String> {
    let pointer = match &node.value {
        Value::Text(text) => text,
        other => {
            fields::expected(node.place, "a JSON pointer", other, report);
            return None;
        }
    };
    let escapes_end_well = pointer.split('~').skip(1).all(|behind| behind.starts_with(['0', '1']));
    if !(pointer.is_empty() || pointer.starts_with('/')) || !escapes_end_well {
        let message = format!("`{pointer}` is no JSON pointer");
        let help = format!(
            "for example `/{}`; `~0` stands for `~` and `~1` for `/`",
            pointer.replace(['~', '.', '$', '/'], "")
        );
        report.add(node.place, message, help);
        return None;
    }
    if context.format.is_some_and(|format| format != Format::Json) {
        report.add(node.place, "a JSON pointer needs `format: json`", None);
        return None;
    }
    Some(pointer.clone())
}

fn property(node: &Node, context: &Context<'_>, report: &mut Report) -> Option<String> {
    let name = fields::text(node, report)?;
    if context.protocol == Protocol::V311 {
        report.add(node.place, "MQTT 3.1.1 has no user properties", "use `protocol: 5`".to_owned());
        return None;
    }
    Some(name.to_owned())
}

const BUILTIN_NAMESPACE: &str = "io.statefun.types/";

const BUILTINS: [&str; 6] =
    [builtin::BOOL, builtin::INT, builtin::LONG, builtin::FLOAT, builtin::DOUBLE, builtin::STRING];

/// What a broker usually has outstanding (20), and some; each is 8 bytes that every record of the scope writes again.
const MESSAGE_IDS_REMEMBERED: u16 = 32;
