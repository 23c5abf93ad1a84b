//! What does a user configure? A `module.yaml`, a board file, and in Rust what an application binds.
//!
//! ```text
//! module.yaml ─ yaml (tree with places) ─ kinds (one file each) ─┐
//!                                                                Specification ─ with_board ─ with_files ─┐
//! board file ── Board ───────────────────────────────────────────────────────────┘                        Application
//! fn main() ─── Module (functions, routers) ──────────────────────────────────────────────────────────────┘
//! ```
//!
//! - Whatever can be wrong is found before anything runs, as [`LoadErrors`]: several at once, each with its place and a way out.
//! - Nothing here reads a file, the environment or a clock: who calls hands them in.
//! - What is read is bounded in bytes, depth and number of values ([`limits`](crate::limits)).
//!
//! Source: the document form of StateFun 3.x; every key is in `docs/module-yaml.md`.

mod application;
mod board;
mod broker_url;
mod endpoint;
mod environment;
mod error;
mod fields;
mod kinds;
mod legacy;
mod specification;
pub(crate) mod suggest;
mod translate;
mod yaml;
mod yaml_text;

pub use application::{Application, Binding, Module};
pub use board::{BOARD_NAMES, Board};
pub use error::{LoadError, LoadErrors};
pub use specification::Specification;
pub use translate::translate;

#[cfg(test)]
mod tests;
