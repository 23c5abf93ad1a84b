//! What does the promise look like? Fridges, a broker and a node that is killed under way, on one machine with nothing installed.
//!
//! ```text
//!  this process: fridges ──┐                    ┌──► subscriber ── books ── table
//!                          └─ broker (pure) ────┘
//!                              ▲ loopback socket, QoS 2
//!  its child:                  └─ node with the functions of examples/fridge: SIGKILLed and started again
//! ```
//! The functions publish their running counts; the [`books`](self) hold them against what was sent, and do not deduplicate.
//!
//! - The demo ends by itself; its exit code says whether the books balance.
//! - Nothing outlives it: node and data end with it, at Ctrl-C too.

use std::time::Duration;

use crate::module::Module;
use crate::mqtt::config::Qos;

mod books;
#[path = "../../examples/fridge/fridge.rs"]
mod fridge;
mod fridges;
mod network;
mod node;
mod screen;
mod stage;
mod table;

/// The hidden command by which the demo starts its node: `demo-node FILE --data DIRECTORY`, which is `run` with the
/// functions of the demo.
pub const NODE_COMMAND: &str = "demo-node";

/// How long a fridge of the demo may be warm before there is an alarm; short, so that a short demo has some.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the events are published, in seconds: at least this.
pub const SECONDS_MIN: u64 = 3;
/// Fridges at most; each publishes twenty events a second.
pub const FRIDGES_MAX: usize = 200;
/// Kills at most, per second of the demo: a node needs some time to be killed at something.
pub const KILLS_PER_SECOND_MAX: u64 = 2;

/// What is to be shown.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How long events are published, in seconds; at least [`SECONDS_MIN`]. 20.
    pub seconds: u64,
    /// How many fridges; 1 to [`FRIDGES_MAX`]. 8.
    pub fridges: usize,
    /// How often the node is killed; at most [`KILLS_PER_SECOND_MAX`] times the seconds. Without, one in four seconds.
    pub kills: Option<u64>,
    /// 1 or 2, in and out. 2.
    pub qos: u8,
    /// Plain lines, even on a terminal.
    pub is_plain: bool,
    /// One JSON object at the end, and nothing else.
    pub is_json: bool,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { seconds: 20, fridges: 8, kills: None, qos: 2, is_plain: false, is_json: false }
    }
}

/// How a demo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnd {
    /// Every event was counted exactly once, in order, and the node ended as it should.
    Balanced,
    /// Not so; what is wrong has been said.
    Unbalanced,
    /// It could not be shown; why is on stderr.
    Failed,
    /// The options make no sense; why is on stderr.
    Refused,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

/// Shows it on the standard output, and takes as long as the options say and a little more.
#[must_use]
pub fn run(options: &DemoOptions) -> DemoEnd {
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(complaint) => {
            eprintln!("fogfun demo: {complaint}");
            return DemoEnd::Refused;
        }
    };
    stage::play(&plan).unwrap_or_else(|error| {
        eprintln!("fogfun demo: {error}");
        DemoEnd::Failed
    })
}

/// The functions of the demo's node, which are those of `examples/fridge`.
#[must_use]
pub fn module() -> Module {
    Module::new().function("example/fridge", || fridge::Fridge::new(PATIENCE))
}

/// Makes this process, the demo's node, end when the demo does, however that ends.
pub fn end_with_parent() {
    // A kernel that cannot do so leaves a node behind only if the demo itself is killed.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
}

/// Options that make sense.
#[derive(Debug, Clone)]
struct Plan {
    time: Duration,
    fridges: usize,
    kills: u64,
    qos: Qos,
    style: screen::Style,
}

impl Plan {
    fn new(options: &DemoOptions) -> Result<Self, String> {
        let seconds = options.seconds;
        if seconds < SECONDS_MIN {
            return Err(format!("--seconds {seconds}: at least {SECONDS_MIN}"));
        }
        if options.fridges == 0 || FRIDGES_MAX < options.fridges {
            return Err(format!("--fridges {}: 1 to {FRIDGES_MAX}", options.fridges));
        }
        let kills_max = seconds.saturating_mul(KILLS_PER_SECOND_MAX);
        let kills = options.kills.unwrap_or_else(|| seconds.div_ceil(4));
        if kills_max < kills {
            return Err(format!("--kills {kills}: at most {kills_max} in {seconds} seconds"));
        }
        let qos = match options.qos {
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            other => return Err(format!("--qos {other}: 1 or 2")),
        };
        Ok(Self {
            time: Duration::from_secs(seconds),
            fridges: options.fridges,
            kills,
            qos,
            style: screen::Style::choose(options),
        })
    }

    /// The node's module.yaml, towards the broker at this port.
    fn module_yaml(&self, port: u16) -> String {
        let qos = self.qos as u8;
        // With QoS 1 the broker may deliver an event twice; its message id tells.
        let message_id = match self.qos {
            Qos::ExactlyOnce => "",
            _ => "\n      messageId: {property: message-id}",
        };
        let client_id = network::NODE_CLIENT_ID;
        format!(
            "kind: fogfun.mqtt.v1/ingress
spec:
  id: example/fridges
  address: mqtt://127.0.0.1:{port}
  clientId: {client_id}
  topics:
    - topic: fridge/{{id}}/temperature
      qos: {qos}
      format: number
      targets: [example/fridge]{message_id}
---
kind: fogfun.mqtt.v1/egress
spec:
  id: example/statistics
  address: mqtt://127.0.0.1:{port}
  clientId: demo-statistics
  topic: fridge/{{caller.id}}/statistics
  qos: {qos}
  format: json
---
kind: fogfun.mqtt.v1/egress
spec:
  id: example/alarms
  address: mqtt://127.0.0.1:{port}
  clientId: demo-alarms
  topic: fridge/{{caller.id}}/alarm
  qos: {qos}
  format: text
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let refused = |change: fn(&mut DemoOptions)| {
            let mut options = DemoOptions::default();
            change(&mut options);
            Plan::new(&options).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|options| options.seconds = 2));
        assert!(refused(|options| options.fridges = 0));
        assert!(refused(|options| options.fridges = FRIDGES_MAX + 1));
        assert!(refused(|options| options.kills = Some(41)));
        assert!(refused(|options| options.qos = 0));
    }
}
