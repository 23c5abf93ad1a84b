//! What does a function in another process do? StateFun's request–reply protocol: bytes to ask with, and effects of what is answered.
//!
//! ```text
//! letters + states ─ request ─→ (HTTP: the shell) ─→ outcome ─ reply ─→ Effects, as of an embedded function
//!                                                       └─ missing states: learnt, and asked again
//! ```
//! - One request at a time and address; its letters stay in the mailbox until the reply is applied, so an epoch that is cut
//!   meanwhile carries them, and after a crash they are sent again: effects once, the function's code at least once.
//! - Nothing of a reply is applied if anything in it is wrong.
//! - Every byte that comes from outside is read with a bound on what it makes us hold.
//!
//! Pure: no socket, no clock. Source: StateFun 3.3, `sdk/request-reply.proto`, `RequestReplyFunction`.

pub mod call;
pub mod config;
pub mod gate;
pub mod outcome;
pub mod protobuf;
pub mod reply;
pub mod request;
pub mod specs;
pub mod url;
pub mod value;

#[cfg(test)]
mod tests;
