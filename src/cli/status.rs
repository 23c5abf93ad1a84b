//! `status`: how the node is; exit code 4 if it is degraded. `status --healthy`: does it serve?

use serde_json::Value;

use super::arguments::Status;
use super::{Exit, Failure, ask, say};
use crate::admin::AdminRequest;
use crate::host::admin;

pub(super) fn status(arguments: &Status) -> Result<Exit, Failure> {
    if arguments.healthy {
        return healthy(arguments);
    }
    let line = ask::line(&arguments.data, &AdminRequest::Status)?;
    let status: Value =
        serde_json::from_str(&line).map_err(|error| format!("an answer that is none: {error}"))?;
    let exit = if status["node"]["degraded"].is_string() { Exit::Degraded } else { Exit::Done };
    if arguments.json {
        say(&line);
        return Ok(exit);
    }
    let mut rows = Vec::new();
    flatten("", &status["node"], &mut rows);
    say(&ask::table(&["NODE", ""], &rows));
    for worker in status["workers"].as_array().into_iter().flatten() {
        let mut rows = Vec::new();
        flatten("", worker, &mut rows);
        rows.retain(|row| row.first().is_some_and(|name| name != "answer"));
        say("");
        say(&ask::table(&["WORKER", ""], &rows));
    }
    Ok(exit)
}

/// A node that runs and serves is healthy, degraded or not: starting it again would mend nothing. At rest nothing is.
fn healthy(arguments: &Status) -> Result<Exit, Failure> {
    let socket = admin::socket_path(&arguments.data);
    let answer = admin::ask(&arguments.data, &AdminRequest::Status);
    let line = answer.map_err(|error| format!("{}: {error}", socket.display()))?;
    let line = line.ok_or_else(|| format!("{}: no node runs", arguments.data.display()))?;
    let status: Value =
        serde_json::from_str(&line).map_err(|error| format!("an answer that is none: {error}"))?;
    if status["node"]["serving"] != true {
        return Err(Failure(Exit::Failed, "the node starts or stops".to_owned()));
    }
    match status["node"]["degraded"].as_str() {
        Some(lost) => say(&format!("serving, degraded: {lost}")),
        None => say("serving"),
    }
    Ok(Exit::Done)
}

/// One row for each number or text, named by its path.
fn flatten(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let below = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path} {name}") }
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, rows)),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                match item.as_array().map(Vec::as_slice) {
                    Some([Value::String(name), value]) => flatten(&below(name), value, rows),
                    _ => flatten(&below(&place.to_string()), item, rows),
                }
            }
        }
        Value::String(text) => rows.push(vec![path.to_owned(), text.clone()]),
        other => rows.push(vec![path.to_owned(), other.to_string()]),
    }
}
