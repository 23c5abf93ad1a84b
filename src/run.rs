//! How does an application become a program? `fn main() -> ExitCode { fogfun::run(module) }` has the whole command line.

use std::process::ExitCode;

use crate::module::Module;

/// Runs the command line with the functions and routers that `module` binds; the program's `main` returns what this returns.
///
/// Exit codes: 0 done, 1 failed, 2 not understood, 3 not found, 4 the node needs care; see `docs/operating/command-line.md`.
#[must_use]
pub fn run(module: Module) -> ExitCode {
    crate::cli::main(module)
}
