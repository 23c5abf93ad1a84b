//! How do records come in and go out? Over MQTT sessions whose state is ours, not a client library's.

pub mod codec;
pub mod config;
pub mod session;
