//! The Fridge: an application with functions in the same binary. What it does is in `fridge.rs`, how to try it in `README.md`.

use std::process::ExitCode;
use std::time::Duration;

use fogfun::module::Module;

mod fridge;

use fridge::Fridge;

/// How long a fridge may be warm before there is an alarm; short, so that one need not wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    fogfun::run(
        Module::new()
            .specification_embedded(include_str!("module.yaml"))
            .function("example/fridge", || Fridge::new(PATIENCE)),
    )
}
