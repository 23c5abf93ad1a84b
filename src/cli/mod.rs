//! What does a person type, and what does the shell get back? One file per command; exit codes in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | not done: the world's failure, said in one line |
//! | 2 | not understood: wrong arguments, a mistake in `module.yaml` or a board file |
//! | 3 | nothing of that name |
//! | 4 | the node is degraded, latched or saturated (`status`, `doctor`) |

mod check;
mod dead_letters;
mod doctor;
mod node;
mod state;
mod status;
mod table;
mod value;

use std::process::ExitCode;

use argh::FromArgs;

use crate::module::Module;

/// Runs the command line of an application: what [`fogfun::run`](crate::run) is.
pub(crate) fn main(module: Module) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let name = arguments.first().map_or("fogfun", |path| path.rsplit('/').next().unwrap_or(path));
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    if let ["--version" | "-V"] = words[..] {
        println!("fogfun {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match Arguments::from_args(&[name], &words) {
        Ok(arguments) => ending(dispatch(arguments.command, module)),
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output.trim_end());
            ExitCode::SUCCESS
        }
        Err(exit) => {
            eprintln!("{}", exit.output.trim_end());
            Ending::NotUnderstood(String::new()).code()
        }
    }
}

/// How a command ends if it does not succeed.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The world failed.
    Failed(String),
    /// The person's mistake.
    NotUnderstood(String),
    /// Nothing of that name.
    NotFound(String),
    /// The node needs a person.
    NeedsCare(String),
}

impl Ending {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::NotUnderstood(_) => 2,
            Self::NotFound(_) => 3,
            Self::NeedsCare(_) => 4,
        })
    }

    fn text(&self) -> &str {
        match self {
            Self::Failed(text)
            | Self::NotUnderstood(text)
            | Self::NotFound(text)
            | Self::NeedsCare(text) => text,
        }
    }
}

fn ending(result: Result<(), Ending>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            if !ending.text().is_empty() {
                eprintln!("{}", ending.text());
            }
            ending.code()
        }
    }
}

fn dispatch(command: Command, module: Module) -> Result<(), Ending> {
    match command {
        Command::Run(command) => node::run(command, module),
        Command::Check(command) => check::check(&command, module),
        Command::State(command) => state::state(command),
        Command::Dlq(command) => dead_letters::dead_letters(command),
        Command::Status(command) => status::status(&command),
        Command::Doctor(command) => doctor::doctor(&command),
    }
}

/// Stateful Functions on small boards: MQTT in and out, exactly once.
#[derive(FromArgs)]
#[argh(
    example = "{command_name} run module.yaml --data /var/lib/fogfun",
    error_code(1, "not done: said in one line"),
    error_code(2, "not understood: arguments, module.yaml or board file"),
    error_code(3, "nothing of that name"),
    error_code(4, "the node is degraded, latched or saturated")
)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(node::RunCommand),
    Check(check::CheckCommand),
    State(state::StateCommand),
    Dlq(dead_letters::DlqCommand),
    Status(status::StatusCommand),
    Doctor(doctor::DoctorCommand),
}

/// The data directory where none is named.
const DATA_DEFAULT: &str = "fogfun-data";
