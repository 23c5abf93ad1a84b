//! Scenarios of workers, told in sentences; the node, the store and the channels are played by hand ([`bench`]).

mod admin;
mod base_letters;
mod bench;
mod delayed;
mod epochs;
mod failures;
mod http;
mod memory;
mod operations;
mod remote;
mod states;
