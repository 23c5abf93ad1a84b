//! `fogfun.mqtt.v1/egress`: how do records leave over MQTT?

use super::{Loading, mqtt};
use crate::module::fields::{self, Fields};
use crate::module::yaml::Node;
use crate::mqtt::config::{EgressConfig, Format, Role};
use crate::mqtt::topic::check_template;

pub(super) fn read(spec: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, "`spec` of `fogfun.mqtt.v1/egress`", report) else {
        return;
    };
    let topic_node = fields.optional("topic");
    let topic = topic_node.and_then(|node| {
        let text = fields::text(node, report)?;
        check_template(text)
            .map_err(|error| report.add(node.place, format!("`{text}`: {error}"), None))
            .ok()?;
        Some(text.to_owned())
    });
    let qos = mqtt::qos(&mut fields, report);
    let retain = fields.optional("retain").and_then(|node| fields::truth(node, report));
    // Where records bring their own topic, they bring their payload as well.
    let format_node = match topic_node {
        Some(_) => fields.required("format", "number"),
        None => fields.optional("format"),
    };
    let format = format_node.and_then(|node| mqtt::format(node, report));
    if let (None, Some(node)) = (topic_node, format_node) {
        let message = "`format` is for values that take their topic from the egress, and it has no `topic`";
        report.add(node.place, message, "add `topic: …`, or leave `format` out".to_owned());
    }
    let role = Role::Egress(EgressConfig {
        topic,
        qos,
        retain: retain.unwrap_or(false),
        format: format.unwrap_or(Format::Raw),
    });
    let session = mqtt::session(&mut fields, role, report);
    fields.finish(report);
    loading.sessions.extend(session);
}
