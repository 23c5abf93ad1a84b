//! Promise: a run repeats from its seed, in every build and on every machine of 64 bits.
//!
//! The hashes are in `src/sim/golden.rs`, with how to renew them. `fogfun sim` checks the same before anything else: so does an optimised
//! build in `.ci/run`, and one for aarch64 under qemu-user in `.ci/nightly`.

#![cfg(target_pointer_width = "64")]

#[test]
fn the_same_seed_is_the_same_run_everywhere() {
    assert_eq!(fogfun::sim::golden::check(), Ok(()));
}
