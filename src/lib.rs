//! Stateful Functions on small boards.

pub mod address;
pub mod admin;
pub mod egress;
pub mod epoch;
pub mod function;
pub mod host;
pub mod key_group;
pub mod limits;
pub mod message;
pub mod module;
pub mod mqtt;
pub mod node;
pub mod payload;
pub mod router;
pub mod sim;
pub mod state;
pub mod store;
pub mod testing;
pub mod typed_value;
pub mod values;
pub mod worker;

pub use egress::MqttRecord;
