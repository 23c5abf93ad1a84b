//! `run`: the node. And what the other commands need of one: load its module, ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use argh::FromArgs;
use serde_json::Value;

use crate::admin::{AdminReply, AdminRequest};
use crate::host::assembly::{self, HostError, NodeOptions};
use crate::host::logger;
use crate::module::{Application, BOARD_NAMES, Board, LoadErrors, Module, Specification};

use super::{DATA_DEFAULT, Ending};

/// run a node until SIGTERM
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    example = "{command_name} module.yaml --data /var/lib/fogfun --board rpi3bplus",
    note = "Prints `ready` on standard error when it has begun to connect. SIGTERM: takes in nothing more, commits, disconnects, exits with 0."
)]
pub(crate) struct RunCommand {
    /// the module (default: what the program carries, else module.yaml)
    #[argh(positional)]
    module: Option<PathBuf>,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// a board's name or a board file (default: generic)
    #[argh(option, default = "String::from(BOARD_NAMES[0])")]
    board: String,
    /// worker threads instead of the board's
    #[argh(option)]
    workers: Option<u16>,
}

/// Runs a node.
pub(crate) fn run(command: RunCommand, module: Module) -> Result<(), Ending> {
    logger::start();
    let mut board = load_board(&command.board)?;
    if let Some(workers) = command.workers {
        board = board.with_workers(workers).map_err(mistakes)?;
    }
    let (application, module) = load(command.module.as_deref(), module, &board)?;
    let options = NodeOptions { application: Arc::new(application), board, data: command.data, module };
    assembly::run(options).map_err(failed)
}

/// Loads a module and checks it against the program and the board; gives its name too.
pub(crate) fn load(
    path: Option<&Path>,
    module: Module,
    board: &Board,
) -> Result<(Application, String), Ending> {
    let (name, text) = match (path, module.embedded()) {
        (Some(path), _) => read(path)?,
        (None, Some(embedded)) => ("(embedded) module.yaml".to_owned(), embedded.to_owned()),
        (None, None) => read(Path::new("module.yaml"))?,
    };
    let directory = path.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    let environment = |name: &str| std::env::var(name).ok();
    let files = |path: &Path| std::fs::read(directory.join(path));
    Specification::parse(&name, &text, &environment)
        .and_then(|specification| specification.with_board(board))
        .and_then(|specification| specification.with_files(&files))
        .and_then(|specification| Application::link(module, specification))
        .map(|application| (application, name))
        .map_err(mistakes)
}

/// A board by name, or from a file.
pub(crate) fn load_board(name: &str) -> Result<Board, Ending> {
    if BOARD_NAMES.contains(&name) || !name.contains(['/', '.']) {
        return Board::named(name).map_err(mistakes);
    }
    let (name, text) = read(Path::new(name))?;
    Board::parse(&name, &text).map_err(mistakes)
}

/// Asks the node that runs on a data directory or, if none does, the directory itself.
pub(crate) fn ask(data: &Path, question: &AdminRequest) -> Result<Value, Ending> {
    match assembly::ask_running(data, question) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) if data.is_dir() => assembly::ask_at_rest(data, question).map_err(failed),
        Ok(None) => Err(Ending::NotFound(format!("{}: no such data directory", data.display()))),
        Err(error) => Err(failed(error)),
    }
}

/// Asks for a reply of the workers.
pub(crate) fn ask_workers(data: &Path, question: &AdminRequest) -> Result<AdminReply, Ending> {
    let answer = ask(data, question)?;
    match serde_json::from_value(answer) {
        Ok(AdminReply::Error { text }) => Err(Ending::Failed(text)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Ending::Failed(format!("the node's answer makes no sense: {error}"))),
    }
}

/// Prints JSON on one line.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Ending> {
    let text = serde_json::to_string(value).map_err(|error| Ending::Failed(error.to_string()))?;
    println!("{text}");
    Ok(())
}

fn read(path: &Path) -> Result<(String, String), Ending> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Ending::NotUnderstood(format!("{name}: {error}"))),
    }
}

fn mistakes(errors: LoadErrors) -> Ending {
    Ending::NotUnderstood(errors.to_string().trim_end().to_owned())
}

fn failed(error: HostError) -> Ending {
    Ending::Failed(format!("fogfun: {error}"))
}
