//! `check`: is this module right? Everything that `run` would find wrong before it starts, and nothing else.

use std::path::PathBuf;

use argh::FromArgs;

use crate::module::{BOARD_NAMES, Module};
use crate::mqtt::config::Role;

use super::node::{load, load_board};
use super::table::Table;
use super::{Ending, node};

/// check a module and print what it says
#[derive(FromArgs)]
#[argh(subcommand, name = "check", example = "{command_name} module.yaml --board rpi3bplus")]
pub(crate) struct CheckCommand {
    /// the module (default: what the program carries, else module.yaml)
    #[argh(positional)]
    module: Option<PathBuf>,
    /// a board's name or a board file (default: generic)
    #[argh(option, default = "String::from(BOARD_NAMES[0])")]
    board: String,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Checks a module.
pub(crate) fn check(command: &CheckCommand, module: Module) -> Result<(), Ending> {
    let board = load_board(&command.board)?;
    let (application, name) = load(command.module.as_deref(), module, &board)?;
    let mut table = Table::new(&["SESSION", "BROKER", "TOPIC", "QOS", "TO"]);
    for session in &application.sessions {
        let broker = format!("{}:{}", session.broker.host, session.broker.port);
        match &session.role {
            Role::Ingress { subscriptions } => {
                for subscription in subscriptions {
                    let targets: Vec<&str> = subscription.targets.iter().map(|target| target.as_str()).collect();
                    let to = if targets.is_empty() { "(routers)".to_owned() } else { targets.join(" ") };
                    let qos = (subscription.qos as u8).to_string();
                    table.row(&[session.name.as_str(), &broker, &subscription.pattern.text, &qos, &to]);
                }
            }
            Role::Egress(egress) => {
                let topic = egress.topic.as_deref().unwrap_or("(the record's)");
                let qos = (egress.qos as u8).to_string();
                table.row(&[session.name.as_str(), &broker, topic, &qos, "(out)"]);
            }
        }
    }
    if command.json {
        let sessions: Vec<&str> = application.sessions.iter().map(|session| session.name.as_str()).collect();
        let functions = application.function_types();
        let functions: Vec<String> = functions.map(|function_type| function_type.to_string()).collect();
        return node::print_json(&serde_json::json!({
            "module": name, "ok": true, "sessions": sessions, "functions": functions,
        }));
    }
    print!("{table}");
    println!("{name}: ok");
    Ok(())
}
