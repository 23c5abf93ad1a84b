//! The stock binary: everything but embedded functions.

fn main() -> std::process::ExitCode {
    fogfun::run(fogfun::Module::new())
}
