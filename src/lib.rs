//! Stateful Functions on small boards.

pub mod address;
pub mod admin;
pub mod epoch;
pub mod function;
pub mod host;
pub mod key_group;
pub mod limits;
pub mod message;
pub mod mqtt;
pub mod node;
pub mod payload;
pub mod state;
pub mod store;
pub mod typed_value;
pub mod worker;
