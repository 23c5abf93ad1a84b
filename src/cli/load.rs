//! `run` and `check`: what starts from a module, a board and a data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::{Check, Run};
use super::{Exit, Failure, complain, say};
use crate::Module;
use crate::host::start::{self, Reload, Start};
use crate::module::{Application, Board, Specification};

pub(super) fn run(module: Module, arguments: &Run) -> Result<Exit, Failure> {
    let mut board = board(&arguments.board)?;
    if let Some(workers) = arguments.workers {
        board = board.with_workers(workers).map_err(|errors| Failure(Exit::Usage, errors.to_string()))?;
    }
    let metrics = arguments.metrics.as_deref().map(metrics_address).transpose()?;
    let reload = reload(&module, arguments, &board);
    let application = Arc::new(application(module, arguments.module.as_deref(), &board)?);
    start::serve(Start { application, board, data: arguments.data.clone(), reload: Some(reload), metrics })?;
    Ok(Exit::Done)
}

pub(super) fn check(module: Module, arguments: &Check) -> Result<Exit, Failure> {
    if arguments.translate {
        let (name, text) = module_text(module.embedded(), arguments.module.as_deref())?;
        say(&crate::module::translate(&name, &text).map_err(|errors| errors.to_string())?);
        return Ok(Exit::Done);
    }
    let board = board(&arguments.board)?;
    let application = application(module, arguments.module.as_deref(), &board)?;
    for session in &application.sessions {
        if let Some(files) = &session.broker.tls {
            crate::host::tls::config(files).map_err(|error| format!("{}: {error}", session.name))?;
        }
    }
    if let Some(files) = application.metrics.as_ref().and_then(|metrics| metrics.broker.tls.as_ref()) {
        crate::host::tls::config(files).map_err(|error| format!("metrics: {error}"))?;
    }
    for endpoint in &application.endpoints {
        let files = &endpoint.transport.tls;
        if files.ca.is_some() || files.client.is_some() {
            crate::host::tls::config(files).map_err(|error| format!("an endpoint: {error}"))?;
        }
    }
    say(&format!(
        "right: {} MQTT sessions, {} HTTP ports, {} endpoints, {} function types",
        application.sessions.len(),
        application.http.len(),
        application.endpoints.len(),
        application.function_types().count()
    ));
    Ok(Exit::Done)
}

/// A port of the loopback interface, or an address with its port.
fn metrics_address(text: &str) -> Result<SocketAddr, Failure> {
    let on_loopback = text.parse::<u16>().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let address = on_loopback.ok().or_else(|| text.parse().ok());
    address.ok_or_else(|| Failure(Exit::Usage, format!("--metrics {text}: neither a port nor ADDRESS:PORT")))
}

/// SIGHUP: are the files still what the node was started from, and would they start?
fn reload(module: &Module, arguments: &Run, started: &Board) -> Reload {
    let embedded = module.embedded().map(str::to_owned);
    let (path, name, workers) = (arguments.module.clone(), arguments.board.clone(), arguments.workers);
    let (before, started) = (module_text(embedded.as_deref(), path.as_deref()).ok(), started.clone());
    Arc::new(move || {
        let mut words = Vec::new();
        let board = board(&name).and_then(|board| match workers {
            Some(workers) => {
                board.with_workers(workers).map_err(|errors| Failure(Exit::Usage, errors.to_string()))
            }
            None => Ok(board),
        });
        match board {
            Ok(board) if board == started => {}
            Ok(_) => words.push(format!("the board {name} has changed: restart needed")),
            Err(Failure(_, text)) => words.push(format!("a restart would fail: {text}")),
        }
        let now = module_text(embedded.as_deref(), path.as_deref());
        match now {
            Err(Failure(_, text)) => words.push(format!("a restart would fail: {text}")),
            Ok((name, text)) => {
                if let Err(Failure(_, errors)) = specification(&name, &text, &started) {
                    words.push(format!("a restart would fail: {errors}"));
                }
                if before.as_ref().is_none_or(|(_, before)| *before != text) {
                    words.push(format!("{name} has changed: restart needed"));
                }
            }
        }
        words
    })
}

fn application(module: Module, path: Option<&Path>, board: &Board) -> Result<Application, Failure> {
    let (name, text) = module_text(module.embedded(), path)?;
    let specification = specification(&name, &text, board)?;
    let application = Application::link(module, specification).map_err(|errors| errors.to_string())?;
    for warning in &application.warnings {
        complain(&warning.to_string());
    }
    Ok(application)
}

pub(super) fn specification(name: &str, text: &str, board: &Board) -> Result<Specification, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let specification = Specification::parse(name, text, &environment)
        .and_then(|specification| specification.with_board(board))
        .and_then(|specification| specification.with_files(&|path| std::fs::read(path)));
    Ok(specification.map_err(|errors| errors.to_string())?)
}

/// The name and the text of what a person named, or of what the program carries.
pub(super) fn module_text(embedded: Option<&str>, path: Option<&Path>) -> Result<(String, String), Failure> {
    match (path, embedded) {
        (None, Some(embedded)) => Ok(("module.yaml".to_owned(), embedded.to_owned())),
        (path, _) => {
            let path = path.map_or_else(|| PathBuf::from("module.yaml"), Path::to_path_buf);
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((path.display().to_string(), text))
        }
    }
}

pub(super) fn board(name: &str) -> Result<Board, Failure> {
    let board = if crate::module::BOARD_NAMES.contains(&name) || !Path::new(name).exists() {
        Board::named(name)
    } else {
        let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
        Board::parse(name, &text)
    };
    Ok(board.map_err(|errors| errors.to_string())?)
}
