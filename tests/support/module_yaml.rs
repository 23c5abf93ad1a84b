//! What does the module.yaml of a test say? One ingress `in/{id}` and one egress `out/<id>` on one broker.

use std::fmt::Write as _;

use super::wire::{Qos, Version};

/// The parts in which the tests' modules differ.
#[derive(Clone, Debug)]
pub struct ModuleYaml {
    pub port: u16,
    pub version: Version,
    pub qos: Qos,
    /// The function type that every record goes to.
    pub target: &'static str,
    /// Is `message-id`, a user property, used to recognise repeats?
    pub message_ids: bool,
}

/// The user property in which our publishers number their messages.
pub const MESSAGE_ID_PROPERTY: &str = "message-id";
/// The user property in which a node numbers what it publishes.
pub const NODE_MESSAGE_ID_PROPERTY: &str = "fogfun-message-id";

impl ModuleYaml {
    /// The text of the file.
    pub fn text(&self) -> String {
        let Self { port, target, .. } = *self;
        let qos = self.qos as u8;
        let protocol = match self.version {
            Version::Mqtt5 => "5",
            Version::Mqtt311 => "3.1.1",
        };
        let mut text = format!(
            "kind: fogfun.mqtt.v1/ingress\n\
             spec:\n  \
               id: counting/in\n  \
               address: mqtt://127.0.0.1:{port}\n  \
               protocol: {protocol}\n  \
               clientId: counting-in\n  \
               topics:\n    \
                 - topic: in/{{id}}\n      \
                   qos: {qos}\n      \
                   format: text\n      \
                   id:\n        \
                     capture: id\n      \
                   targets:\n        \
                     - {target}\n"
        );
        if self.message_ids {
            write!(
                text,
                "      messageId:\n        property: {MESSAGE_ID_PROPERTY}\n        scope: topic\n        \
                 remembered: 1000\n"
            )
            .unwrap();
        }
        write!(
            text,
            "---\n\
             kind: fogfun.mqtt.v1/egress\n\
             spec:\n  \
               id: counting/out\n  \
               address: mqtt://127.0.0.1:{port}\n  \
               protocol: {protocol}\n  \
               clientId: counting-out\n  \
               topic: out/{{caller.id}}\n  \
               qos: {qos}\n  \
               format: text\n"
        )
        .unwrap();
        text
    }
}

/// An ingress `a/in` for `in/<id>`, whose function nobody serves.
pub fn quiet(port: u16) -> String {
    format!(
        "kind: fogfun.mqtt.v1/ingress\n\
         spec:\n  \
           id: a/in\n  \
           address: mqtt://127.0.0.1:{port}\n  \
           topics:\n    \
             - topic: in/{{id}}\n      \
               format: text\n      \
               targets: [a/f]\n\
         ---\n\
         kind: io.statefun.endpoints.v2/http\n\
         spec:\n  \
           functions: a/*\n  \
           urlPathTemplate: http://127.0.0.1:9/f\n"
    )
}
