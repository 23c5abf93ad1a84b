//! Which words does the command line know?

use std::path::PathBuf;

use argh::FromArgs;

/// Stateful Functions on small boards.
#[derive(FromArgs)]
pub(super) struct Top {
    #[argh(subcommand)]
    pub(super) command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(super) enum Command {
    Run(Run),
    Check(Check),
    Demo(Demo),
    State(State),
    Dlq(Dlq),
    Status(Status),
    Doctor(Doctor),
    Install(Install),
    Uninstall(Uninstall),
    #[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "without the feature it only says so"))]
    Sim(Sim),
}

/// Run a node until SIGTERM or SIGINT.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    example = "{command_name} module.yaml --data /var/lib/fogfun --board rpi3bplus"
)]
pub(super) struct Run {
    /// what to run; the program's own if it carries one, else module.yaml
    #[argh(positional)]
    pub(super) module: Option<PathBuf>,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// a board that comes with the program, or a TOML file (default: generic)
    #[argh(option, default = "String::from(\"generic\")")]
    pub(super) board: String,
    /// threads that own key groups, instead of the board's number
    #[argh(option)]
    pub(super) workers: Option<u16>,
    /// serve metrics for Prometheus: a port on this machine, or ADDRESS:PORT (default: none)
    #[argh(option)]
    pub(super) metrics: Option<String>,
}

/// Check a module.yaml and a board against this program; start nothing.
#[derive(FromArgs)]
#[argh(subcommand, name = "check", example = "{command_name} module.yaml --board rpi4")]
pub(super) struct Check {
    /// print the module with MQTT in place of Kafka and Kinesis, and check nothing
    #[argh(switch)]
    pub(super) translate: bool,
    /// what to check; the program's own if it carries one, else module.yaml
    #[argh(positional)]
    pub(super) module: Option<PathBuf>,
    /// a board that comes with the program, or a TOML file (default: generic)
    #[argh(option, default = "String::from(\"generic\")")]
    pub(super) board: String,
}

/// Show the promise with nothing installed: fridges, a broker, and a node that is killed under way.
#[derive(FromArgs)]
#[argh(subcommand, name = "demo", example = "{command_name} --seconds 30 --kills 10")]
pub(super) struct Demo {
    /// how long events are published, in seconds (default: 20)
    #[argh(option, default = "20")]
    pub(super) seconds: u64,
    /// how many fridges (default: 8)
    #[argh(option, default = "8")]
    pub(super) fridges: usize,
    /// how often the node is killed (default: once in four seconds)
    #[argh(option)]
    pub(super) kills: Option<u64>,
    /// the QoS in and out, 1 or 2 (default: 2)
    #[argh(option, default = "2")]
    pub(super) qos: u8,
    /// print plain lines, even on a terminal
    #[argh(switch)]
    pub(super) plain: bool,
    /// print one JSON object at the end, and nothing else
    #[argh(switch)]
    pub(super) json: bool,
}

/// How the node is.
#[derive(FromArgs)]
#[argh(subcommand, name = "status", example = "{command_name} --data /var/lib/fogfun")]
pub(super) struct Status {
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
    /// for health checks: exit code 0 if a node runs and serves, even if degraded, else 1
    #[argh(switch)]
    pub(super) healthy: bool,
}

/// Is this board fit for the module? After a degraded start: accept what was lost.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "doctor",
    example = "{command_name} module.yaml --data /var/lib/fogfun --board rpi3bplus"
)]
pub(super) struct Doctor {
    /// whose brokers and ports are looked at; the program's own if it carries one, else module.yaml
    #[argh(positional)]
    pub(super) module: Option<PathBuf>,
    /// a board that comes with the program, or a TOML file (default: generic)
    #[argh(option, default = "String::from(\"generic\")")]
    pub(super) board: String,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
    /// accept the loss: the status is no longer degraded
    #[argh(switch)]
    pub(super) accept: bool,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
}

/// Make a service of systemd: program, unit, user, directories. Needs root.
#[derive(FromArgs)]
#[argh(subcommand, name = "install", example = "sudo {command_name}")]
pub(super) struct Install {
    /// say what would be done, and do nothing
    #[argh(switch)]
    pub(super) dry_run: bool,
    /// a tree of files to install into, in place of this system; no command is run
    #[argh(option)]
    pub(super) root: Option<PathBuf>,
}

/// Undo `install`; data, module and user stay.
#[derive(FromArgs)]
#[argh(subcommand, name = "uninstall", example = "sudo {command_name} --dry-run")]
pub(super) struct Uninstall {
    /// say what would be done, and do nothing
    #[argh(switch)]
    pub(super) dry_run: bool,
    /// the tree of files that it was installed into
    #[argh(option)]
    pub(super) root: Option<PathBuf>,
}

/// Does it hold? Runs FogFun's own machines in a simulated world where everything fails, seed by seed.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "sim",
    example = "{command_name} --minutes 5\n{command_name} --plant acknowledges-before-sync"
)]
#[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "without the feature it only says so"))]
pub(super) struct Sim {
    /// how many seeds (default: 1000, or as many as there is time for)
    #[argh(option)]
    pub(super) seeds: Option<u64>,
    /// the first seed; alone, the only one (default: 0)
    #[argh(option)]
    pub(super) seed: Option<u64>,
    /// end after so many minutes
    #[argh(option)]
    pub(super) minutes: Option<u32>,
    /// only this workload: counting or trees
    #[argh(option)]
    pub(super) workload: Option<String>,
    /// records per run, instead of the workload's number
    #[argh(option)]
    pub(super) records: Option<u64>,
    /// kinds of faults to leave out, with commas between them
    #[argh(option)]
    pub(super) without: Option<String>,
    /// plant a mistake, to see that it is found; a wrong name lists them
    #[argh(option)]
    pub(super) plant: Option<String>,
    /// print one JSON object at the end, and nothing else
    #[argh(switch)]
    pub(super) json: bool,
}

/// Look at state, and change it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "state",
    example = "{command_name} get example/fridge kitchen --data /var/lib/fogfun"
)]
pub(super) struct State {
    #[argh(subcommand)]
    pub(super) command: StateCommand,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(super) enum StateCommand {
    List(StateList),
    Get(StateGet),
    Set(StateSet),
    Delete(StateDelete),
}

/// List states in key order.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", example = "{command_name} example/fridge --max 20")]
pub(super) struct StateList {
    /// only of this function type, namespace/name
    #[argh(positional)]
    pub(super) function_type: Option<String>,
    /// only of this id
    #[argh(option)]
    pub(super) id: Option<String>,
    /// go on behind this key, the last of the list before
    #[argh(option)]
    pub(super) after: Option<String>,
    /// entries at most (default: 100)
    #[argh(option, default = "100")]
    pub(super) max: u32,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Show the states of one address, or one of them.
#[derive(FromArgs)]
#[argh(subcommand, name = "get", example = "{command_name} example/fridge kitchen statistics --json")]
pub(super) struct StateGet {
    /// function type, namespace/name
    #[argh(positional)]
    pub(super) function_type: String,
    /// id
    #[argh(positional)]
    pub(super) id: String,
    /// name of the state; all if absent
    #[argh(positional)]
    pub(super) name: Option<String>,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Set one persisted value.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "set",
    example = "{command_name} example/fridge kitchen count 42 --type io.statefun.types/long"
)]
pub(super) struct StateSet {
    /// function type, namespace/name
    #[argh(positional)]
    pub(super) function_type: String,
    /// id
    #[argh(positional)]
    pub(super) id: String,
    /// name of the state
    #[argh(positional)]
    pub(super) name: String,
    /// the value as text; of a type that is not built in, its bytes as they are
    #[argh(positional)]
    pub(super) value: String,
    /// the value's type (default: io.statefun.types/string)
    #[argh(option, long = "type", default = "String::from(\"io.statefun.types/string\")")]
    pub(super) value_type: String,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
}

/// Delete all entries of one state.
#[derive(FromArgs)]
#[argh(subcommand, name = "delete", example = "{command_name} example/fridge kitchen statistics")]
pub(super) struct StateDelete {
    /// function type, namespace/name
    #[argh(positional)]
    pub(super) function_type: String,
    /// id
    #[argh(positional)]
    pub(super) id: String,
    /// name of the state
    #[argh(positional)]
    pub(super) name: String,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
}

/// Dead letters: messages and records that could not be handled.
#[derive(FromArgs)]
#[argh(subcommand, name = "dlq", example = "{command_name} list --data /var/lib/fogfun")]
pub(super) struct Dlq {
    #[argh(subcommand)]
    pub(super) command: DlqCommand,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(super) enum DlqCommand {
    List(DlqList),
    Show(DlqShow),
    Retry(DlqRetry),
    Drop(DlqDrop),
}

/// List dead letters, the oldest of an id first.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", example = "{command_name} --max 20")]
pub(super) struct DlqList {
    /// go on behind this key, the last of the list before
    #[argh(option)]
    pub(super) after: Option<String>,
    /// letters at most (default: 100)
    #[argh(option, default = "100")]
    pub(super) max: u32,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Show one dead letter.
#[derive(FromArgs)]
#[argh(subcommand, name = "show", example = "{command_name} KEY --data /var/lib/fogfun")]
pub(super) struct DlqShow {
    /// the letter's key, as `dlq list` shows it
    #[argh(positional)]
    pub(super) key: String,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Send a dead letter again.
#[derive(FromArgs)]
#[argh(subcommand, name = "retry", example = "{command_name} KEY --data /var/lib/fogfun")]
pub(super) struct DlqRetry {
    /// the letter's key, as `dlq list` shows it
    #[argh(positional)]
    pub(super) key: String,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
}

/// Drop a dead letter for good.
#[derive(FromArgs)]
#[argh(subcommand, name = "drop", example = "{command_name} KEY --data /var/lib/fogfun")]
pub(super) struct DlqDrop {
    /// the letter's key, as `dlq list` shows it
    #[argh(positional)]
    pub(super) key: String,
    /// the data directory (default: data)
    #[argh(option, default = "PathBuf::from(\"data\")")]
    pub(super) data: PathBuf,
}
