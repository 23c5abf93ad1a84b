//! Is a run the same in every build and on every machine? The hashes that some runs have, wherever the words have 64 bits.
//!
//! A hash is over everything that happens in a run, event by event ([`Simulation::trace`](super::simulation::Simulation::trace)). It
//! changes whenever what the machines do changes, in order, number or bytes, and only then: a change that was to change nothing is seen
//! here, and so is a build whose runs are not those of another.
//!
//! After a change that was meant, `cargo test --test determinism` says what the table must be; look at the commit, then put it here. Library
//! tests cannot check it: they are built with smaller bounds ([`limits`](crate::limits)).

use super::workload::{Case, Workload};

/// Workload, seed, hash.
const RUNS: [(Workload, u64, u64); 6] = [
    (Workload::Counting, 1, 0x031a_4271_7435_ceb4),
    (Workload::Counting, 2, 0x39fa_1742_687a_105a),
    (Workload::Counting, 3, 0x7cab_d729_157d_3e3b),
    (Workload::Trees, 1, 0x0493_0293_f83a_a158),
    (Workload::Trees, 2, 0x3fe4_4060_a02c_7660),
    (Workload::Trees, 3, 0x1976_f456_4336_b601),
];

/// Runs them again.
///
/// # Errors
/// A run that fails, or the table as it should be if it is another.
pub fn check() -> Result<(), String> {
    let mut lines = String::new();
    let mut is_same = true;
    for (workload, seed, hash) in RUNS {
        let found = Case::new(workload, seed).run()?.trace;
        is_same &= found == hash;
        lines += &format!("    (Workload::{workload:?}, {seed}, 0x{found:016x}),\n");
    }
    if is_same { Ok(()) } else { Err(format!("runs are not those of src/sim/golden.rs, but\n{lines}")) }
}
