//! `status`: how is the node? What it does, what it waits for, what it could not keep.

use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde_json::Value;

use crate::admin::{AdminReply, AdminRequest, WorkerStatus};
use crate::host::assembly;

use super::node::{ask, print_json};
use super::table::Table;
use super::{DATA_DEFAULT, Ending};

/// show how a node is
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "status",
    example = "{command_name} --data /var/lib/fogfun --json",
    note = "Exit code 4 if the node is degraded, its store is latched, or every address waits for memory; 1 if it does not run."
)]
pub(crate) struct StatusCommand {
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// Shows how the node is.
pub(crate) fn status(command: &StatusCommand) -> Result<(), Ending> {
    let (answer, runs) = ask_status(&command.data)?;
    let workers: Vec<WorkerStatus> = answer["workers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reply| match serde_json::from_value(reply.clone()) {
            Ok(AdminReply::Status(status)) => Some(status),
            _ => None,
        })
        .collect();
    if command.json {
        print_json(&answer)?;
    } else {
        print(&answer["node"], &workers);
    }
    match complaint(&answer["node"], &workers) {
        Some(complaint) => Err(Ending::NeedsCare(complaint)),
        None if runs => Ok(()),
        None => Err(Ending::Failed("no node runs on this data directory".to_owned())),
    }
}

fn ask_status(data: &Path) -> Result<(Value, bool), Ending> {
    match assembly::ask_running(data, &AdminRequest::Status) {
        Ok(Some(answer)) => Ok((answer, true)),
        _ => Ok((ask(data, &AdminRequest::Status)?, false)),
    }
}

/// What a person has to look at, if anything.
pub(crate) fn complaint(node: &Value, workers: &[WorkerStatus]) -> Option<String> {
    if let Some(degraded) = node.get("degraded").filter(|degraded| !degraded.is_null()) {
        let lost = degraded.as_str().map_or_else(|| degraded.to_string(), str::to_owned);
        return Some(format!("degraded: {lost}; see it with `doctor`, then `doctor --accept`"));
    }
    if let Some(latched) = node.get("latched").and_then(Value::as_str) {
        return Some(format!("the store does not write: {latched}"));
    }
    workers.iter().any(|worker| worker.saturated).then(|| "saturated: every address waits for memory".to_owned())
}

fn print(node: &Value, workers: &[WorkerStatus]) {
    let mut table = Table::new(&["NODE", ""]);
    if let Some(fields) = node.as_object() {
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            table.row(&[name, &value]);
        }
    }
    println!("{table}");
    let mut table =
        Table::new(&["WORKER", "MEMORY", "INSTANCES", "WAITING", "SPILLED", "DELAYED", "DEAD", "RETRYING"]);
    for worker in workers {
        table.row(&[
            &worker.worker.to_string(),
            &format!("{} of {} KiB", worker.memory_bytes / 1024, worker.memory_bytes_max / 1024),
            &worker.instances.to_string(),
            &worker.messages_waiting.to_string(),
            &worker.messages_spilled.to_string(),
            &worker.messages_delayed.to_string(),
            &worker.dead_letters.to_string(),
            &worker.addresses_retrying.to_string(),
        ]);
    }
    println!("{table}");
    let mut table = Table::new(&["SESSION", "CONNECTION", "IN", "QOS 0/1/2", "OUT", "OUTBOX", "LAST ERROR"]);
    for session in workers.iter().flat_map(|worker| &worker.sessions) {
        let [qos_0, qos_1, qos_2] = session.received_by_qos;
        table.row(&[
            &session.name,
            &session.connection,
            &session.received.to_string(),
            &format!("{qos_0}/{qos_1}/{qos_2}"),
            &session.published.to_string(),
            &session.outbox_entries.to_string(),
            session.last_error.as_deref().unwrap_or(""),
        ]);
    }
    println!("{table}");
    let mut table = Table::new(&["COUNTER", "COUNT"]);
    for (name, count) in workers.iter().flat_map(|worker| &worker.counters) {
        table.row(&[name, &count.to_string()]);
    }
    for (function_type, count) in workers.iter().flat_map(|worker| &worker.messages_unbound) {
        table.row(&[&format!("waiting for unbound {function_type}"), &count.to_string()]);
    }
    print!("{table}");
}
