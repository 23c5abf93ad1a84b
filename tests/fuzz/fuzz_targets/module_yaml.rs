//! The target `module_yaml` of tests/hostile/targets.rs, with libFuzzer.

#![no_main]
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "it is a test")]

#[path = "../../hostile/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::module_yaml(data));
