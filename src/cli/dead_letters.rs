//! `dlq`: what failed for good? List, show, retry and drop dead letters.

use std::path::PathBuf;

use argh::FromArgs;

use crate::admin::{AdminReply, AdminRequest, DeadLetterEntry};

use super::node::{ask_workers, print_json};
use super::table::Table;
use super::{DATA_DEFAULT, Ending, value};

/// see, retry and drop dead letters
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "dlq",
    example = "{command_name} retry example/fridge/kitchen",
    note = "KEY is a key as listed, or an address namespace/name/id for all of its dead letters in order."
)]
pub(crate) struct DlqCommand {
    #[argh(subcommand)]
    action: Action,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Action {
    List(List),
    Show(Show),
    Retry(Retry),
    Drop(Drop),
}

/// list dead letters
#[derive(FromArgs)]
#[argh(subcommand, name = "list", example = "{command_name} --limit 20")]
struct List {
    /// at most so many (default: 1000)
    #[argh(option, default = "1000")]
    limit: u32,
    /// go on behind this key
    #[argh(option)]
    after: Option<String>,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// show dead letters with their payloads
#[derive(FromArgs)]
#[argh(subcommand, name = "show", example = "{command_name} example/fridge/kitchen")]
struct Show {
    /// key, or namespace/name/id
    #[argh(positional)]
    key: String,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// send dead letters again, in the order in which they failed
#[derive(FromArgs)]
#[argh(subcommand, name = "retry", example = "{command_name} example/fridge/kitchen")]
struct Retry {
    /// key, or namespace/name/id
    #[argh(positional)]
    key: String,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// drop dead letters for good
#[derive(FromArgs)]
#[argh(subcommand, name = "drop", example = "{command_name} example/fridge/kitchen")]
struct Drop {
    /// key, or namespace/name/id
    #[argh(positional)]
    key: String,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Sees, retries or drops dead letters.
pub(crate) fn dead_letters(command: DlqCommand) -> Result<(), Ending> {
    match command.action {
        Action::List(List { limit, after, data, json }) => {
            let reply = ask_workers(&data, &AdminRequest::DeadLetterList { after, entries_max: limit })?;
            if json { print_json(&reply) } else { list(&reply) }
        }
        Action::Show(Show { key, data, json }) => {
            let reply = ask_workers(&data, &AdminRequest::DeadLetterShow { key: key.clone() })?;
            match &reply {
                AdminReply::DeadLetters { letters, .. } if letters.is_empty() => Err(nothing(&key)),
                _ if json => print_json(&reply),
                AdminReply::DeadLetters { letters, .. } => {
                    letters.iter().for_each(show);
                    Ok(())
                }
                _ => Err(Ending::Failed("the node answered something else".to_owned())),
            }
        }
        Action::Retry(Retry { key, data, json }) => {
            changed(&key, &ask_workers(&data, &AdminRequest::DeadLetterRetry { key: key.clone() })?, json, "sent again")
        }
        Action::Drop(Drop { key, data, json }) => {
            changed(&key, &ask_workers(&data, &AdminRequest::DeadLetterDrop { key: key.clone() })?, json, "dropped")
        }
    }
}

fn list(reply: &AdminReply) -> Result<(), Ending> {
    let AdminReply::DeadLetters { letters, more } = reply else {
        return Err(Ending::Failed("the node answered something else".to_owned()));
    };
    let mut table = Table::new(&["ADDRESS", "ATTEMPTS", "REASON", "KEY"]);
    for letter in letters {
        let address = format!("{}/{}", letter.function_type, letter.id);
        table.row(&[&address, &letter.attempts.to_string(), &letter.reason, &letter.key]);
    }
    print!("{table}");
    if *more {
        println!("… more: --after {}", letters.last().map_or("", |letter| letter.key.as_str()));
    }
    Ok(())
}

fn show(letter: &DeadLetterEntry) {
    println!("address   {}/{}", letter.function_type, letter.id);
    println!("key       {}", letter.key);
    println!("caller    {}", letter.caller.as_deref().unwrap_or("(an ingress)"));
    println!("reason    {}", letter.reason);
    println!("attempts  {}", letter.attempts);
    println!("type      {}", letter.value.typename);
    println!("value     {}\n", value::shown(&letter.value));
}

fn changed(key: &str, reply: &AdminReply, json: bool, what: &str) -> Result<(), Ending> {
    match reply {
        AdminReply::Done { count: 0 } => Err(nothing(key)),
        _ if json => print_json(reply),
        AdminReply::Done { count } => {
            println!("{count} {what}");
            Ok(())
        }
        _ => Err(Ending::Failed("the node answered something else".to_owned())),
    }
}

fn nothing(key: &str) -> Ending {
    Ending::NotFound(format!("{key}: no dead letter"))
}
