//! What may a person say to the program? One file per command; exit codes in one place.

mod arguments;
mod ask;
mod decode;
mod demo;
mod dlq;
mod doctor;
mod install;
mod judge;
mod load;
#[cfg(feature = "sim")]
mod sim;
mod state;
mod status;

use argh::FromArgs;

use self::arguments::{Command, Top};
use crate::Module;

/// How a command ended; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// It failed; why is on stderr.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// What was asked for is not there.
    NotFound,
    /// The node is degraded: epochs were lost and nobody has accepted it.
    Degraded,
    /// Ctrl-C broke it off.
    Interrupted,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Degraded => 4,
            Self::Interrupted => 130,
        }
    }
}

/// A command that did not do what it was to, and what to say.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Exit, pub(crate) String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(Exit::Failed, text)
    }
}

/// Parses the arguments and does the command.
pub(crate) fn main(module: Module, arguments: &[String]) -> Exit {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (program, rest) = arguments.split_first().map_or(("fogfun", &[][..]), |(first, rest)| (*first, rest));
    if let Some((&crate::demo::NODE_COMMAND, rest)) = rest.split_first() {
        return ended(demo::node(rest));
    }
    let name = std::path::Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or("fogfun");
    if let ["--version" | "-V"] = rest {
        say(concat!("fogfun ", env!("CARGO_PKG_VERSION")));
        return Exit::Done;
    }
    let top = match Top::from_args(&[name], rest) {
        Ok(top) => top,
        Err(argh::EarlyExit { output, status: Ok(()) }) => {
            say(&output);
            return Exit::Done;
        }
        Err(argh::EarlyExit { output, status: Err(()) }) => {
            complain(&output);
            return Exit::Usage;
        }
    };
    let done = match top.command {
        Command::Run(run) => load::run(module, &run),
        Command::Check(check) => load::check(module, &check),
        Command::Demo(demo) => Ok(demo::demo(&demo)),
        Command::State(state) => state::state(state.command),
        Command::Dlq(dlq) => dlq::dlq(dlq.command),
        Command::Status(status) => status::status(&status),
        Command::Doctor(doctor) => doctor::doctor(&module, &doctor),
        Command::Install(install) => install::install(&install),
        Command::Uninstall(uninstall) => install::uninstall(&uninstall),
        #[cfg(feature = "sim")]
        Command::Sim(arguments) => sim::sim(&arguments),
        #[cfg(not(feature = "sim"))]
        Command::Sim(_) => Err(Failure(
            Exit::Usage,
            "this program was built without its simulator: `cargo run --release --features sim --bin fogfun -- sim`"
                .to_owned(),
        )),
    };
    ended(done)
}

fn ended(done: Result<Exit, Failure>) -> Exit {
    match done {
        Ok(exit) => exit,
        Err(Failure(exit, text)) => {
            complain(&text);
            exit
        }
    }
}

/// A line for the person or the script that asked.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    // `… | head` closes the pipe: nobody listens any more.
    let _closed = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn complain(text: &str) {
    use std::io::Write;
    let _closed = writeln!(std::io::stderr(), "{}", text.trim_end());
}
