//! How does a test hold a node? As a child process with a data directory, that it can kill at a named point and start again.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::scratch;

/// How long a node may take to start, end or answer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A named point of the program at which it can be made to kill itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failpoint {
    /// A frame is written to the log, not synced.
    AfterWrite,
    /// A frame is synced; nothing of it has been acknowledged.
    AfterSync,
    /// The bytes of a PUBREC are about to be written to the socket.
    BeforePubrec,
    /// They have been; PUBCOMP has not.
    AfterPubrec,
    /// One transaction of a fold is committed, more are to come.
    DuringFold,
    /// A log segment whose epochs are all in the base is about to be freed.
    AtSegmentRelease,
}

impl Failpoint {
    /// As the environment variable spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterWrite => "after-write",
            Self::AfterSync => "after-sync",
            Self::BeforePubrec => "before-pubrec",
            Self::AfterPubrec => "after-pubrec",
            Self::DuringFold => "during-fold",
            Self::AtSegmentRelease => "at-segment-release",
        }
    }
}

/// What `dlq list` says of a dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub function_type: String,
    pub id: String,
    pub key: String,
    pub reason: String,
}

/// An application binary, its module and its data directory. The process runs between [`start`](Self::start) and its end.
pub struct Node {
    binary: PathBuf,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    /// How many of its deaths must have been signed by a named point.
    deaths_asked_for: usize,
}

impl Node {
    /// A node that has not been started. `arguments` follow `run module.yaml --data DIR`.
    pub fn new(binary: &Path, module_yaml: &str, arguments: &[&str]) -> Self {
        let node = Self {
            binary: binary.to_owned(),
            directory: scratch("node"),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
            deaths_asked_for: 0,
        };
        node.set_module(module_yaml);
        node
    }

    /// Replaces module.yaml; read at the next start.
    pub fn set_module(&self, module_yaml: &str) {
        std::fs::write(self.module_path(), module_yaml).unwrap();
    }

    /// Where module.yaml is.
    pub fn module_path(&self) -> PathBuf {
        self.directory.path().join("module.yaml")
    }

    /// Replaces the arguments of the next start.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Writes a file beside the data directory, such as a board, and says where it is.
    pub fn write_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts it and waits until it takes questions.
    pub fn start(&mut self) {
        self.start_with(&[]);
        self.wait_ready();
    }

    /// Starts it so that it kills itself the `passing`th time it comes to `point`. It may die before it is ready.
    pub fn start_to_die(&mut self, point: Failpoint, passing: u64) {
        self.deaths_asked_for = self.failpoints().len() + 1;
        let specification = format!("{}:{passing}", point.name());
        let log = self.failpoint_log().to_str().unwrap().to_owned();
        self.start_with(&[("FOGFUN_FAILPOINT", &specification), ("FOGFUN_FAILPOINT_LOG", &log)]);
    }

    /// Starts it with these environment variables; does not wait.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the node runs");
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(&self.binary);
        command
            .arg("run")
            .arg(self.directory.path().join("module.yaml"))
            .arg("--data")
            .arg(self.data())
            .args(&self.arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until the admin socket answers.
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        while UnixStream::connect(self.data().join("admin.sock")).is_err() {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the node ended before it was ready: {status}\n{}", self.log_tail());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the node is not ready after {PATIENCE:?}\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, as a power cut that spares the page cache.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.wait_end(PATIENCE).expect("a killed process ends");
        assert_eq!(status.signal(), Some(9), "the node had ended by itself: {status}\n{}", self.log_tail());
    }

    /// SIGTERM; it must end with 0.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_end(PATIENCE);
        assert!(
            status.is_some_and(|status| status.success()),
            "the node did not stop as asked: {status:?}\n{}",
            self.log_tail()
        );
    }

    /// SIGTERM; does not wait.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the end of the process; `None` if it still runs after `within`.
    pub fn wait_end(&mut self, within: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let ended = self.child.as_mut().expect("the node was started").try_wait().unwrap();
            if ended.is_some() {
                self.child = None;
                return ended;
            }
            if within < start.elapsed() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the death asked for with [`start_to_die`](Self::start_to_die); false if it still runs after `within`.
    /// Any other end is the test's failure, and so is a death that the named point did not sign.
    pub fn wait_death(&mut self, point: Failpoint, within: Duration) -> bool {
        let Some(status) = self.wait_end(within) else {
            return false;
        };
        assert_eq!(status.signal(), Some(9), "the node ended otherwise: {status}\n{}", self.log_tail());
        let signed = self.failpoints();
        assert_eq!(signed.len(), self.deaths_asked_for, "a death was not signed by a named point");
        assert_eq!(signed.last().map(String::as_str), Some(point.name()));
        true
    }

    /// The named points at which it has died, in order.
    pub fn failpoints(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.failpoint_log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs another command of the same binary on the same data directory.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(&self.binary)
            .args(arguments)
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same, whose answer is JSON; panics if it fails.
    pub fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.command(&arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{text}{complaint}", output.status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// What `status` says, and how the command ended.
    pub fn status(&self) -> (serde_json::Value, Option<i32>) {
        let output = self.command(&["status", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let status = serde_json::from_str(&text).unwrap_or_else(|error| panic!("status: {error}: {text}"));
        (status, output.status.code())
    }

    /// The dead letters: function type, id, key and reason of each.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let answer = self.ask(&["dlq", "list"]);
        let letters = answer["letters"].as_array().cloned().unwrap_or_default();
        let text = |letter: &serde_json::Value, name: &str| letter[name].as_str().unwrap().to_owned();
        let letter = |letter: &serde_json::Value| DeadLetter {
            function_type: text(letter, "function_type"),
            id: text(letter, "id"),
            key: text(letter, "key"),
            reason: text(letter, "reason"),
        };
        letters.iter().map(letter).collect()
    }

    /// The process's id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// All that it has said, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The end of it, for a failed test.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- the node said:\n{tail}\n---")
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the node was started");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("node.log")
    }

    fn failpoint_log(&self) -> PathBuf {
        self.directory.path().join("failpoints")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Builds an example once per test run, so that it is never older than the sources, and says where it is. `FOGFUN_EXAMPLES` names a
/// directory of ready ones instead, such as programs of another processor behind an emulator.
pub fn example(name: &str) -> PathBuf {
    if let Some(ready) = std::env::var_os("FOGFUN_EXAMPLES") {
        return Path::new(&ready).join(name);
    }
    static BUILT: OnceLock<std::sync::Mutex<Vec<String>>> = OnceLock::new();
    // target/<profile>/deps/<this test>
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let mut built = BUILT.get_or_init(Default::default).lock().unwrap();
    if !built.iter().any(|known| known == name) {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--example", name, "--manifest-path"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        // What cargo tells a test, build scripts take for a change, and everything behind them would be built again.
        let is_of_the_test = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"].iter().any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| is_of_the_test(name)) {
            command.env_remove(name);
        }
        if profile.ends_with("release") {
            command.arg("--release");
        }
        command.arg("--target-dir").arg(profile.parent().unwrap());
        assert!(command.status().unwrap().success(), "the example {name} does not build");
        built.push(name.to_owned());
    }
    profile.join("examples").join(name)
}
