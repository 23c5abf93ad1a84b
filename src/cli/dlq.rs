//! `dlq list|show|retry|drop`.

use super::arguments::DlqCommand;
use super::{Exit, Failure, ask, decode, say};
use crate::admin::{AdminReply, AdminRequest, DeadLetterEntry};

pub(super) fn dlq(command: DlqCommand) -> Result<Exit, Failure> {
    match command {
        DlqCommand::List(list) => {
            let question = AdminRequest::DeadLetterList { after: list.after, entries_max: list.max };
            let (letters, more) = letters(ask::reply(&list.data, &question)?)?;
            if list.json {
                return json(letters, more);
            }
            let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
            say(&ask::table(&["KEY", "FUNCTION TYPE", "ID", "ATTEMPTS", "REASON"], &rows));
            if let (true, Some(last)) = (more, letters.last()) {
                say(&format!("there are more: --after {}", last.key));
            }
            Ok(Exit::Done)
        }
        DlqCommand::Show(show) => {
            let question = AdminRequest::DeadLetterShow { key: show.key };
            let (letters, more) = letters(ask::reply(&show.data, &question)?)?;
            let Some(letter) = letters.first() else {
                return Err(Failure(Exit::NotFound, "not found".to_owned()));
            };
            if show.json {
                return json(letters, more);
            }
            say(&ask::table(
                &["FIELD", "VALUE"],
                &[
                    ("key", letter.key.clone()),
                    ("function type", letter.function_type.clone()),
                    ("id", letter.id.clone()),
                    ("caller", letter.caller.clone().unwrap_or_default()),
                    ("reason", letter.reason.clone()),
                    ("attempts", letter.attempts.to_string()),
                    ("at (runtime, ms)", letter.at_ms.to_string()),
                    ("type", letter.value.typename.clone()),
                    ("value", decode::show(&letter.value)),
                ]
                .map(|(field, value)| vec![field.to_owned(), value]),
            ));
            Ok(Exit::Done)
        }
        DlqCommand::Retry(retry) => {
            ask::done(&retry.data, &AdminRequest::DeadLetterRetry { key: retry.key }, "sent again")
        }
        DlqCommand::Drop(drop) => {
            ask::done(&drop.data, &AdminRequest::DeadLetterDrop { key: drop.key }, "dropped")
        }
    }
}

fn letters(reply: AdminReply) -> Result<(Vec<DeadLetterEntry>, bool), Failure> {
    match reply {
        AdminReply::DeadLetters { letters, more } => Ok((letters, more)),
        _ => Err(Failure(Exit::Failed, "an answer to another question".to_owned())),
    }
}

fn json(letters: Vec<DeadLetterEntry>, more: bool) -> Result<Exit, Failure> {
    let text = serde_json::to_string(&AdminReply::DeadLetters { letters, more });
    say(&text.map_err(|error| error.to_string())?);
    Ok(Exit::Done)
}

fn row(letter: &DeadLetterEntry) -> Vec<String> {
    vec![
        letter.key.clone(),
        letter.function_type.clone(),
        letter.id.clone(),
        letter.attempts.to_string(),
        letter.reason.clone(),
    ]
}
