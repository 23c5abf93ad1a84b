//! Stateful Functions on small boards: addressable functions with state of their own, messaging each other by logical address,
//! exactly once, over MQTT, as one static binary.
//!
//! An application binds functions to types in a [`Module`]; its `module.yaml` says where records come from and go to. The binary has
//! the whole command line:
//!
//! ```no_run
//! use fogfun::{Context, FunctionError, Module, PersistedValue, StatefulFunction, TypedValue};
//!
//! struct Greeter {
//!     visits: PersistedValue<i64>,
//! }
//!
//! impl StatefulFunction for Greeter {
//!     fn invoke(&mut self, context: &mut Context<'_>, _message: &TypedValue) -> Result<(), FunctionError> {
//!         let visits = self.visits.get_or_default(context)? + 1;
//!         self.visits.set(context, visits)
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let greeter = || Greeter { visits: PersistedValue::new("visits") };
//!     fogfun::run(Module::new().function("example/greeter", greeter))
//! }
//! ```
//!
//! # The path of a record
//!
//! ```text
//! MQTT ─ session ─ router ─┬─ mailbox(address) ─ invoke ─ effects ─┬─ state
//!                          │         ▲                              ├─ messages → a mailbox here or on another worker
//!                          │         └──────────────────────────────┤
//!                          └─ other worker (channel, FIFO)          ├─ delayed messages
//!                                                                   └─ egress session's outbox ── (epoch committed) ── MQTT
//! ```
//! Inside an epoch everything runs in memory at full speed. At the cut the epoch's net result is frozen as one frame, written and synced
//! in the background; then, and not before, records are published and acknowledged. After a crash an uncommitted epoch never happened:
//! the broker still holds its input.
//!
//! # Reading order
//!
//! | question | module |
//! |---|---|
//! | who is spoken to, with what? | [`address`], [`key_group`], [`typed_value`], [`values`], [`payload`], [`message`] |
//! | what does a user write? | [`function`], [`router`], [`egress`], [`testing`] |
//! | what does a user configure? | [`module`] |
//! | how is work done and made durable? | [`worker`], [`node`], [`epoch`], [`state`], [`store`] |
//! | how do records come in and go out? | [`mqtt`], [`http_config`] |
//! | what does the operating system do? | [`host`]; nothing else calls it |
//! | how do we know that it holds? | [`sim`]: the same machines, a simulated world, one seed |
//! | what does it look like? | [`demo`] |
//! | how much of everything? | [`limits`] |
//! | what may a person ask? | [`admin`] |
//!
//! The machines — [`Worker`](worker::Worker), [`Node`](node::Node), [`Session`](mqtt::session::Session) — are pure: no clock, no socket,
//! no file, no thread; `handle_input`, `poll_output`, `poll_timeout`.

// So that the example's functions, which the demo shares, can name the crate as a user does.
extern crate self as fogfun;

pub mod address;
pub mod admin;
mod cli;
pub mod credentials;
pub mod demo;
pub mod egress;
pub mod epoch;
pub mod function;
pub mod host;
pub mod http_config;
pub mod key_group;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod module;
pub mod mqtt;
pub mod node;
pub mod payload;
pub mod remote;
pub mod router;
mod run;
pub mod sim;
pub mod state;
pub mod store;
pub mod testing;
pub mod typed_value;
pub mod values;
pub mod worker;

pub use address::{Address, TypeName};
pub use egress::MqttRecord;
pub use function::{
    Context, Expiration, FunctionError, PersistedAppendingBuffer, PersistedTable, PersistedValue,
    StatefulFunction,
};
pub use message::{Headers, IngressRecord};
pub use module::Module;
pub use router::{Downstream, Router};
pub use run::run;
pub use typed_value::{TypedValue, Value};

/// The program in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
