//! How do records come in and go out? Over MQTT sessions whose state is ours, not a client library's.

pub mod config;
pub mod format;
pub mod session;
pub mod topic;

pub(crate) mod builtin;
