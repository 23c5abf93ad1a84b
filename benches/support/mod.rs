//! What do the end-to-end benchmarks share? The echo client to compare with, the load, and the table.

#![allow(dead_code, unreachable_pub, reason = "each benchmark uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

pub mod echo;
pub mod load;
pub mod relay;
pub mod storage;
