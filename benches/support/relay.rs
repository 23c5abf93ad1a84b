//! What stands between `in/` and `out/`? The echo or a node, each a process of its own whose CPU time can be read.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::rig::module_yaml::ModuleYaml;
use crate::rig::mosquitto::Mosquitto;
use crate::rig::node::{self, Node};
use crate::rig::wait_until;
use crate::rig::wire::{Qos, Version};

use super::echo;
use super::storage::Marks;

/// Which relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Echo,
    Node,
    /// A node whose function is behind this port.
    Remote(u16),
}

/// A relay that runs and is subscribed; ended when dropped.
pub enum Relay {
    Echo(Child),
    Node(Box<Node>),
}

impl Relay {
    pub fn start(kind: Kind, broker: &Mosquitto, qos: Qos) -> Self {
        Self::start_with(kind, broker, qos, None)
    }

    /// The same, a node with this board.
    pub fn start_with(kind: Kind, broker: &Mosquitto, qos: Qos, board: Option<&str>) -> Self {
        let (relay, client_id, filter) = match kind {
            Kind::Echo => {
                let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
                command.args(["echo", &broker.port.to_string(), &(qos as u8).to_string()]);
                command.stdin(Stdio::null());
                (Self::Echo(command.spawn().expect("this program can be run")), echo::CLIENT_ID, echo::FILTER)
            }
            Kind::Node => {
                let module = ModuleYaml {
                    port: broker.port,
                    version: Version::Mqtt5,
                    qos,
                    target: "counting/count",
                    message_ids: false,
                };
                let mut node = Node::new(&node::example("counting"), &module.text(), &[]);
                if let Some(board) = board {
                    let path = node.write_file("board.toml", board);
                    node.set_arguments(&["--board", path.to_str().expect("a path of ours is text")]);
                }
                node.start();
                (Self::Node(Box::new(node)), "counting-in", "in/+")
            }
            Kind::Remote(port) => {
                let mut node = Node::new(fogfun(), &remote_module(broker.port, port, qos), &[]);
                node.start();
                (Self::Node(Box::new(node)), "remote-in", "in/+")
            }
        };
        wait_until("the relay is subscribed", Duration::from_secs(20), || {
            broker.has_subscription(client_id, filter)
        });
        relay
    }

    /// Anonymous resident memory now, in kB.
    pub fn anonymous_kb(&self) -> u64 {
        of_process(self.pid(), "smaps_rollup", "Anonymous")
    }

    /// What it has cost the storage so far.
    pub fn marks(&self) -> Marks {
        match self {
            Self::Echo(child) => Marks::now(child.id(), &std::env::temp_dir(), 0),
            Self::Node(node) => {
                let syncs =
                    node.status().0["node"]["store"]["syncs"].as_u64().expect("status tells of syncs");
                Marks::now(self.pid(), &node.data(), syncs)
            }
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Echo(child) => child.id(),
            Self::Node(node) => node.pid().expect("the node runs"),
        }
    }

    /// On a CPU so far, over all threads.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the relay runs");
        tasks.map(|task| on_cpu(&task.expect("readable").path())).sum()
    }
}

/// The stock program.
fn fogfun() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fogfun"))
}

/// As the counting example's module, with its function behind a port.
fn remote_module(broker: u16, functions: u16, qos: Qos) -> String {
    let qos = qos as u8;
    format!(
        "kind: io.statefun.endpoints.v2/http
spec: {{functions: bench/*, urlPathTemplate: \"http://127.0.0.1:{functions}/\"}}
---
kind: fogfun.mqtt.v1/ingress
spec:
  id: bench/in
  address: mqtt://127.0.0.1:{broker}
  clientId: remote-in
  topics:
    - {{topic: \"in/{{id}}\", qos: {qos}, format: text, id: {{capture: id}}, targets: [bench/count]}}
---
kind: fogfun.mqtt.v1/egress
spec:
  id: bench/out
  address: mqtt://127.0.0.1:{broker}
  clientId: remote-out
  qos: {qos}
"
    )
}

/// The first number of a thread's `schedstat`: nanoseconds on a CPU.
fn on_cpu(task: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// A field of a file in a process's directory of `/proc`, in its unit.
pub fn of_process(pid: u32, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the relay runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the kernel tells it")
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Self::Echo(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
