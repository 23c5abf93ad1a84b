//! How do we know that the promises hold? The world as pure machines, so that a run repeats from its seed.
//!
//! ```text
//!                 ┌ Worker, Node, Session, Store: those that run in production ┐
//!  clients ─ broker ─ network ─ board ─ disk, base, clock      all of it in one thread, in virtual time, from one seed
//! ```
//!
//! - [`Run`]: *your* module under it, in a unit test of your own;
//! - [`workload`] and [`hunt`]: FogFun's own workloads over many seeds, and a failing run made smaller: `fogfun sim`;
//! - [`swarm`]: which faults a seed draws; [`simulation::sabotage`]: mistakes to plant, to see that the checkers find them.
//!
//! What it does not simulate: the operating system's shell (`host`), threads, LMDB, TLS, the wall time that things take.
//!
//! ```
//! use fogfun::sim::Run;
//! use fogfun::{Context, Module, MqttRecord, PersistedValue, TypeName, TypedValue};
//!
//! const COUNT: PersistedValue<i64> = PersistedValue::new("count");
//! const YAML: &str = r"
//! kind: fogfun.mqtt.v1/ingress
//! spec:
//!   id: example/in
//!   address: mqtt://broker
//!   topics: [{topic: 'in/{id}', qos: 2, format: text, targets: [example/counter]}]
//! ---
//! kind: fogfun.mqtt.v1/egress
//! spec: {id: example/out, address: mqtt://broker, qos: 2}
//! ";
//!
//! let counter = |context: &mut Context<'_>, _message: &TypedValue| {
//!     let count = COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
//!     let topic = format!("out/{}", context.self_address().id());
//!     context.egress(&TypeName::from_static("example/out"), MqttRecord::new(topic, count.to_string()))
//! };
//! Run::new(Module::new().function("example/counter", move || counter), YAML)?
//!     .publish("in/a", "tick")
//!     .publish("in/a", "tick")
//!     .expect("out/a", ["1", "2"])
//!     .expect_state("example/counter", "a", "count", 2_i64)
//!     .seeds(0..10)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod base;
pub mod broker;
pub mod client;
pub mod commands;
pub mod counting;
pub mod disk;
pub mod endpoint;
pub mod golden;
pub mod hunt;
mod run;
pub mod simulation;
pub mod swarm;
pub mod watch;
pub mod workload;

pub use run::{Outcome, Run, RunFailure};

#[cfg(test)]
mod tests;
