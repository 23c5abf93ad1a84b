//! `state`: what does an address know? List, get, set and delete persisted state, of a running node or at rest.

use std::path::PathBuf;

use argh::FromArgs;

use crate::admin::{AdminReply, AdminRequest, StateEntry};

use super::node::{ask_workers, print_json};
use super::table::Table;
use super::{DATA_DEFAULT, Ending, value};

/// see and change persisted state
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "state",
    example = "{command_name} get example/fridge kitchen --data /var/lib/fogfun",
    note = "Asks the node that runs on the data directory, or the directory itself if none does."
)]
pub(crate) struct StateCommand {
    #[argh(subcommand)]
    action: Action,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Action {
    List(List),
    Get(Get),
    Set(Set),
    Delete(Delete),
}

/// list state entries in key order
#[derive(FromArgs)]
#[argh(subcommand, name = "list", example = "{command_name} --type example/fridge --limit 20")]
struct List {
    /// only of this function type
    #[argh(option, long = "type")]
    function_type: Option<String>,
    /// only of this id
    #[argh(option)]
    id: Option<String>,
    /// at most so many (default: 1000)
    #[argh(option, default = "1000")]
    limit: u32,
    /// go on behind this key, as printed by --json
    #[argh(option)]
    after: Option<String>,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// get the states of an address
#[derive(FromArgs)]
#[argh(subcommand, name = "get", example = "{command_name} example/fridge kitchen statistics")]
struct Get {
    /// function type, namespace/name
    #[argh(positional)]
    function_type: String,
    /// id
    #[argh(positional)]
    id: String,
    /// state name (default: all of the address)
    #[argh(positional)]
    name: Option<String>,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// set a persisted value
#[derive(FromArgs)]
#[argh(subcommand, name = "set", example = "{command_name} example/counter kitchen count 42 --type long")]
struct Set {
    /// function type, namespace/name
    #[argh(positional)]
    function_type: String,
    /// id
    #[argh(positional)]
    id: String,
    /// state name
    #[argh(positional)]
    name: String,
    /// value as text; base64:… for bytes of other types
    #[argh(positional)]
    value: String,
    /// bool, int, long, float, double, string or namespace/name
    #[argh(option, long = "type")]
    typename: String,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// delete a state with all its entries
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", example = "{command_name} example/counter kitchen count")]
struct Delete {
    /// function type, namespace/name
    #[argh(positional)]
    function_type: String,
    /// id
    #[argh(positional)]
    id: String,
    /// state name
    #[argh(positional)]
    name: String,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Sees or changes state.
pub(crate) fn state(command: StateCommand) -> Result<(), Ending> {
    match command.action {
        Action::List(List { function_type, id, limit, after, data, json }) => {
            let question = AdminRequest::StateList { function_type, id, after, entries_max: limit };
            print(&ask_workers(&data, &question)?, json)
        }
        Action::Get(Get { function_type, id, name, data, json }) => {
            let what = format!("{function_type}/{id}");
            let question = match name {
                Some(name) => AdminRequest::StateGet { function_type, id, name },
                None => AdminRequest::StateList {
                    function_type: Some(function_type),
                    id: Some(id),
                    after: None,
                    entries_max: u32::MAX,
                },
            };
            let reply = ask_workers(&data, &question)?;
            match &reply {
                AdminReply::State { entries, .. } if entries.is_empty() => {
                    Err(Ending::NotFound(format!("{what}: no such state")))
                }
                _ => print(&reply, json),
            }
        }
        Action::Set(Set { function_type, id, name, value, typename, data, json }) => {
            let value = value::parse(&typename, &value)?;
            let question = AdminRequest::StateSet { function_type, id, name, value };
            done(&ask_workers(&data, &question)?, json)
        }
        Action::Delete(Delete { function_type, id, name, data, json }) => {
            done(&ask_workers(&data, &AdminRequest::StateDelete { function_type, id, name })?, json)
        }
    }
}

fn done(reply: &AdminReply, json: bool) -> Result<(), Ending> {
    if json { print_json(reply) } else { Ok(()) }
}

fn print(reply: &AdminReply, json: bool) -> Result<(), Ending> {
    if json {
        return print_json(reply);
    }
    let AdminReply::State { entries, more } = reply else {
        return Err(Ending::Failed("the node answered something else".to_owned()));
    };
    let mut table = Table::new(&["FUNCTION", "ID", "STATE", "TYPE", "VALUE"]);
    for StateEntry { function_type, id, name, subkey, value, .. } in entries {
        let name = if subkey.is_empty() { name.clone() } else { format!("{name}[{subkey}]") };
        table.row(&[function_type, id, &name, &value.typename, &value::shown(value)]);
    }
    print!("{table}");
    if *more {
        let last = entries.last().map_or("", |entry| entry.key.as_str());
        println!("… more: --after {last}");
    }
    Ok(())
}
