//! How is the demo's node started, killed and started again? As a child process of the same program, with SIGKILL.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::NODE_COMMAND;

/// How long a node that was asked to end may take.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Of what the node has said, so many lines explain why it ended.
const LOG_LINES: usize = 12;

/// A directory for the node's data, gone when dropped.
pub(super) struct Scratch {
    path: PathBuf,
}

/// The node's process; killed when dropped.
pub(super) struct Node {
    directory: PathBuf,
    child: Option<Child>,
}

impl Scratch {
    /// A new directory under the system's temporary one, for this user alone.
    ///
    /// # Errors
    /// If none can be made.
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("fogfun-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Node {
    /// A node that has not been started, with this module.yaml.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn new(scratch: &Scratch, module_yaml: &str) -> io::Result<Self> {
        fs::write(scratch.path().join("module.yaml"), module_yaml)?;
        Ok(Self { directory: scratch.path().to_owned(), child: None })
    }

    /// Starts it on the data that it left.
    ///
    /// # Errors
    /// If the process cannot be made.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let child = Command::new(std::env::current_exe()?)
            .arg(NODE_COMMAND)
            .arg(self.directory.join("module.yaml"))
            .arg("--data")
            .arg(self.directory.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo, which ends its node itself.
            .process_group(0)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: no last word, no clean-up.
    ///
    /// # Errors
    /// If it had ended by itself, or cannot be killed.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; what it ended with, or `None` if it had to be killed.
    ///
    /// # Errors
    /// If it cannot be asked or waited for.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        match &self.child {
            Some(child) => Ok(kill_process(Pid::from_child(child), Signal::TERM)?),
            None => Ok(()),
        }
    }

    /// How long it may take to end after [`stop`](Self::stop).
    pub(super) fn end_deadline() -> Instant {
        Instant::now() + END_PATIENCE
    }

    /// What it ended with, if it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())?;
        self.child = None;
        Some(status)
    }

    /// Its process id while it runs.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The last lines of what it has said.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let start = lines.len().saturating_sub(LOG_LINES);
        lines.get(start..).unwrap_or_default().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("node.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
