//! `run`, `check` and `doctor`: what starts from a module, a board and a data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::{Check, Doctor, Run};
use super::{Exit, Failure, ask, complain, say};
use crate::Module;
use crate::admin::{AdminReply, AdminRequest};
use crate::host::start::{self, Start};
use crate::module::{Application, Board, Specification};

pub(super) fn run(module: Module, arguments: &Run) -> Result<Exit, Failure> {
    let mut board = board(&arguments.board)?;
    if let Some(workers) = arguments.workers {
        board = board.with_workers(workers).map_err(|errors| Failure(Exit::Usage, errors.to_string()))?;
    }
    let application = Arc::new(application(module, arguments.module.as_deref(), &board)?);
    start::serve(Start { application, board, data: arguments.data.clone() })?;
    Ok(Exit::Done)
}

pub(super) fn check(module: Module, arguments: &Check) -> Result<Exit, Failure> {
    if arguments.translate {
        let (name, text) = module_text(&module, arguments.module.as_deref())?;
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

pub(super) fn doctor(arguments: &Doctor) -> Result<Exit, Failure> {
    if !arguments.accept {
        let text = "`doctor` does one thing: --accept; `status` says what was lost";
        return Err(Failure(Exit::Usage, text.to_owned()));
    }
    match ask::reply(&arguments.data, &AdminRequest::AcceptDegraded)? {
        AdminReply::Done { count: 0 } => say("nothing was lost"),
        AdminReply::Done { count } => say(&format!("accepted: {count} epochs were lost")),
        _ => return Err(Failure(Exit::Failed, "an answer to another question".to_owned())),
    }
    Ok(Exit::Done)
}

fn application(module: Module, path: Option<&Path>, board: &Board) -> Result<Application, Failure> {
    let (name, text) = module_text(&module, path)?;
    let environment = |name: &str| std::env::var(name).ok();
    let specification = Specification::parse(&name, &text, &environment)
        .and_then(|specification| specification.with_board(board))
        .and_then(|specification| specification.with_files(&|path| std::fs::read(path)))
        .map_err(|errors| errors.to_string())?;
    let application = Application::link(module, specification).map_err(|errors| errors.to_string())?;
    for warning in &application.warnings {
        complain(&warning.to_string());
    }
    Ok(application)
}

/// The name and the text of what a person named, or of what the program carries.
fn module_text(module: &Module, path: Option<&Path>) -> Result<(String, String), Failure> {
    match (path, module.embedded()) {
        (None, Some(embedded)) => Ok(("module.yaml".to_owned(), embedded.to_owned())),
        (path, _) => {
            let path = path.map_or_else(|| PathBuf::from("module.yaml"), Path::to_path_buf);
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((path.display().to_string(), text))
        }
    }
}

fn board(name: &str) -> Result<Board, Failure> {
    let board = if crate::module::BOARD_NAMES.contains(&name) || !Path::new(name).exists() {
        Board::named(name)
    } else {
        let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
        Board::parse(name, &text)
    };
    Ok(board.map_err(|errors| errors.to_string())?)
}
