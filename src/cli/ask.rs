//! Where is the answer? With the running node if there is one, else in the data directory at rest.

use std::path::Path;

use super::{Exit, Failure};
use crate::admin::{AdminReply, AdminRequest};
use crate::host::{admin, start};
use crate::module::Board;

/// The answer as a line of JSON.
pub(super) fn line(data: &Path, question: &AdminRequest) -> Result<String, Failure> {
    let answer = admin::ask(data, question)
        .map_err(|error| format!("{}: {error}", admin::socket_path(data).display()))?;
    match answer {
        Some(line) => Ok(line),
        None => Ok(start::ask_at_rest(Board::default(), data, question.clone())?),
    }
}

/// The answer as a value; an error is a failure.
pub(super) fn reply(data: &Path, question: &AdminRequest) -> Result<AdminReply, Failure> {
    let line = line(data, question)?;
    match AdminReply::decode(line.as_bytes()) {
        Ok(AdminReply::Error { text }) => Err(Failure(Exit::Failed, text)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Failure(Exit::Failed, format!("an answer that is none: {error}"))),
    }
}

/// How many things it concerned; none is "not found".
pub(super) fn done(data: &Path, question: &AdminRequest, word: &str) -> Result<Exit, Failure> {
    match reply(data, question)? {
        AdminReply::Done { count: 0 } => Err(Failure(Exit::NotFound, "not found".to_owned())),
        AdminReply::Done { count } => {
            super::say(&format!("{word}: {count}"));
            Ok(Exit::Done)
        }
        _ => Err(Failure(Exit::Failed, "an answer to another question".to_owned())),
    }
}

/// Rows under a head, columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "größer".to_owned(), "x".to_owned()]];
        assert_eq!(super::table(&["ID", "V", "T"], &rows), "ID  V       T\na   größer  x\n");
    }
}
