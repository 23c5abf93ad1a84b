//! How does a test get a real broker? It starts one itself, on a free port, in a directory of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{program, say, scratch, wait_until};

/// How the broker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As a person who read our documentation would: windows and queues that do not drop, no Nagle delay, persistence.
    Tuned,
    /// As installed: 20 in flight, 1,000 queued and then dropped, Nagle's algorithm; persistence, which Debian turns on.
    Stock,
}

/// A running broker; ended when dropped.
pub struct Mosquitto {
    pub port: u16,
    program: PathBuf,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// How long a broker on this machine may take to listen, or to end when asked to.
const PATIENCE: Duration = Duration::from_secs(20);

impl Mosquitto {
    /// A broker; `None`, said loudly, where none is installed, unless `FOGFUN_REQUIRE_BROKER=1` makes that a failure.
    pub fn start(tuning: Tuning) -> Option<Self> {
        let Some(program) = program("mosquitto") else {
            let required = std::env::var("FOGFUN_REQUIRE_BROKER").is_ok_and(|value| value == "1");
            assert!(!required, "FOGFUN_REQUIRE_BROKER=1, but mosquitto is not installed");
            say(
                "SKIPPED: this test needs a real broker, and mosquitto is not installed (Debian: apt install mosquitto)",
            );
            return None;
        };
        let mut broker = Self { port: free_port(), program, directory: scratch("broker"), child: None };
        broker.write_configuration(tuning);
        broker.start_again();
        Some(broker)
    }

    /// Starts it on the same port and directory after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the broker runs");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("broker.log"))
            .unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.directory.path().join("broker.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let port = self.port;
        wait_until("the broker listens", PATIENCE, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the broker ended at once: {}", self.log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
    }

    /// Asks it to end (SIGTERM), so that it writes its sessions down, and waits until it has.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it at once (SIGKILL): it forgets what it had not written down.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// SIGSTOP: its sockets stay, and nobody answers on them.
    pub fn freeze(&self) {
        let child = self.child.as_ref().expect("the broker runs");
        kill_process(Pid::from_child(child), Signal::STOP).unwrap();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        let child = self.child.as_ref().expect("the broker runs");
        kill_process(Pid::from_child(child), Signal::CONT).unwrap();
    }

    /// Removes what it had written down: started again, it knows no session.
    pub fn forget(&self) {
        assert!(self.child.is_none(), "the broker runs");
        let _ = std::fs::remove_file(self.directory.path().join("mosquitto.db"));
    }

    /// Appends to the configuration; read at the next start.
    pub fn configure(&self, text: &str) {
        let path = self.directory.path().join("broker.conf");
        let configuration = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, configuration + text).unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("broker.log")).unwrap_or_default()
    }

    /// Has it said that this client subscribed to this filter?
    pub fn has_subscription(&self, client_id: &str, filter: &str) -> bool {
        self.log().lines().any(|line| line.contains(&format!(" {client_id} ")) && line.ends_with(filter))
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = kill_process(Pid::from_child(&child), signal);
        wait_until("the broker ends", PATIENCE, || child.try_wait().unwrap().is_some());
    }

    fn write_configuration(&self, tuning: Tuning) {
        let directory = self.directory.path().display();
        let mut text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {directory}/\n",
            self.port
        );
        // Started as root it would become the user `mosquitto`, who may not write to our directory.
        if rustix::process::geteuid().is_root() {
            text.push_str("user root\n");
        }
        if tuning == Tuning::Tuned {
            text.push_str("max_inflight_messages 1000\nmax_queued_messages 100000\nset_tcp_nodelay true\n");
        }
        writeln!(
            text,
            "log_type error\nlog_type warning\nlog_type notice\nlog_type subscribe\nlog_dest stderr"
        )
        .unwrap();
        std::fs::write(self.directory.path().join("broker.conf"), text).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that was free a moment ago; the system does not give it out again soon.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
