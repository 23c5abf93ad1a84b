//! How do records come in and go out? Over MQTT sessions whose state is ours, not a client library's.

pub mod codec;
pub mod config;
mod inbound;
pub mod io;
mod outbound;
mod progress;
mod reconnect;
pub mod session;
mod subscriptions;
mod values;
mod wire;
