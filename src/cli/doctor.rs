//! `doctor`: what must a person know and decide after a degraded start?

use std::path::PathBuf;

use argh::FromArgs;

use crate::admin::AdminRequest;

use super::node::{ask, ask_workers};
use super::{DATA_DEFAULT, Ending, status};

/// say what is wrong with a data directory, and accept a loss
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "doctor",
    example = "{command_name} --accept --data /var/lib/fogfun",
    note = "After storage lost committed epochs the node starts at the last good one and stays degraded until the loss is accepted."
)]
pub(crate) struct DoctorCommand {
    /// accept what was lost; the status is no longer degraded
    #[argh(switch)]
    accept: bool,
    /// where state lives (default: fogfun-data)
    #[argh(option, default = "PathBuf::from(DATA_DEFAULT)")]
    data: PathBuf,
}

/// Says what is wrong.
pub(crate) fn doctor(command: &DoctorCommand) -> Result<(), Ending> {
    let answer = ask(&command.data, &AdminRequest::Status)?;
    match status::complaint(&answer["node"], &[]) {
        None => {
            println!("ok: nothing was lost");
            Ok(())
        }
        Some(complaint) if command.accept => {
            ask_workers(&command.data, &AdminRequest::AcceptDegraded)?;
            println!("accepted: {complaint}");
            Ok(())
        }
        Some(complaint) => Err(Ending::NeedsCare(complaint)),
    }
}
