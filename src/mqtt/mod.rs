//! How do records come in and go out? Over MQTT sessions whose state is ours, not a client library's.

pub(crate) mod builtin;
pub mod codec;
pub mod config;
pub mod format;
mod inbound;
pub mod io;
mod message_id;
pub mod metrics;
mod outbound;
mod progress;
mod queue;
mod reconnect;
pub mod session;
mod subscriptions;
pub mod topic;
mod values;
mod wire;
