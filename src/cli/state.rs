//! `state list|get|set|delete`.

use super::arguments::StateCommand;
use super::{Exit, Failure, ask, decode, say};
use crate::admin::{AdminReply, AdminRequest, StateEntry};

/// Entries of one address that `get` shows at most.
const ENTRIES_OF_ADDRESS_MAX: u32 = 10_000;

pub(super) fn state(command: StateCommand) -> Result<Exit, Failure> {
    match command {
        StateCommand::List(list) => {
            let (function_type, id) = (list.function_type, list.id);
            let question =
                AdminRequest::StateList { function_type, id, after: list.after, entries_max: list.max };
            show(ask::reply(&list.data, &question)?, list.json, false)
        }
        StateCommand::Get(get) => {
            let question = match get.name {
                Some(name) => AdminRequest::StateGet { function_type: get.function_type, id: get.id, name },
                None => AdminRequest::StateList {
                    function_type: Some(get.function_type),
                    id: Some(get.id),
                    after: None,
                    entries_max: ENTRIES_OF_ADDRESS_MAX,
                },
            };
            show(ask::reply(&get.data, &question)?, get.json, true)
        }
        StateCommand::Set(set) => {
            let value =
                decode::read(&set.value, &set.value_type).map_err(|text| Failure(Exit::Usage, text))?;
            let (function_type, id, name) = (set.function_type, set.id, set.name);
            ask::done(&set.data, &AdminRequest::StateSet { function_type, id, name, value }, "set")
        }
        StateCommand::Delete(delete) => {
            let (function_type, id, name) = (delete.function_type, delete.id, delete.name);
            ask::done(&delete.data, &AdminRequest::StateDelete { function_type, id, name }, "deleted")
        }
    }
}

fn show(reply: AdminReply, json: bool, must_exist: bool) -> Result<Exit, Failure> {
    let AdminReply::State { entries, more } = reply else {
        return Err(Failure(Exit::Failed, "an answer to another question".to_owned()));
    };
    let found = if must_exist && entries.is_empty() { Exit::NotFound } else { Exit::Done };
    if json {
        let text = serde_json::to_string(&AdminReply::State { entries, more });
        say(&text.map_err(|error| error.to_string())?);
        return Ok(found);
    }
    if found == Exit::NotFound {
        return Err(Failure(found, "not found".to_owned()));
    }
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    say(&ask::table(&["FUNCTION TYPE", "ID", "NAME", "ENTRY", "VALUE", "TYPE", "EXPIRES IN"], &rows));
    if let (true, Some(last)) = (more, entries.last()) {
        say(&format!("there are more: --after {}", last.key));
    }
    Ok(found)
}

fn row(entry: &StateEntry) -> Vec<String> {
    let expires = entry.expires_in_ms.map_or_else(String::new, |ms| format!("{} s", ms.div_ceil(1000)));
    vec![
        entry.function_type.clone(),
        entry.id.clone(),
        entry.name.clone(),
        entry.subkey.clone(),
        decode::show(&entry.value),
        entry.value.typename.clone(),
        expires,
    ]
}
