//! How does an application become a program? One call in its `main`.

use std::process::ExitCode;

use crate::Module;

/// The whole command line round the functions of `module`; see `docs/operating/command-line.md`.
#[must_use]
pub fn run(module: Module) -> ExitCode {
    crate::host::logger::install();
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    ExitCode::from(crate::cli::main(module, &arguments).code())
}
