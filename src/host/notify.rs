//! What does the service manager hear of a node? Datagrams to the socket that `NOTIFY_SOCKET` names, as `sd_notify(3)` has them.
//!
//! ```text
//! recovering ─ EXTEND_TIMEOUT_USEC while the log is read ─→ READY ─┬─ WATCHDOG, while every worker turns ─→ STOPPING
//!                                                                  └─ SIGHUP: RELOADING ─→ READY
//! ```
//! - Nothing waits for the service manager: a datagram that cannot go at once is lost.
//! - Without `NOTIFY_SOCKET` nothing happens at all.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::clock::monotonic_micros;

/// While a start makes progress it asks for so much more time, several times as often. Longer hides a start that hangs.
pub const START_EXTENSION: Duration = Duration::from_secs(60);
/// Longest status line, in bytes; the rest is cut off.
pub const STATUS_BYTES_MAX: usize = 200;

/// The service manager, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that started this process, if any.
    #[must_use]
    pub fn from_environment() -> Self {
        let word = |name: &str| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| open(&name));
        let watchdog = watchdog_interval(word("WATCHDOG_USEC").as_deref(), word("WATCHDOG_PID").as_deref());
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// How often it wants to hear that the node is alive.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The node serves.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, line: &str) {
        let line = line.split('\n').next().unwrap_or_default();
        let end = line.floor_char_boundary(STATUS_BYTES_MAX);
        self.say(&format!("STATUS={}", line.get(..end).unwrap_or_default()));
    }

    /// Every worker turns.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Files are read again; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
    }

    /// The node is about to end.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping: what was taken in is being committed");
    }

    /// The start goes on and needs more time.
    pub fn extend_start(&self) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", START_EXTENSION.as_micros()));
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.socket {
            // Nobody is waited for, and nobody can be told that nobody listens.
            let _lost = socket.0.send_to_addr(words.as_bytes(), &socket.1);
        }
    }
}

/// Says now and then that a start goes on, as often as it is stepped.
#[derive(Debug)]
pub(super) struct StartProgress {
    supervisor: Supervisor,
    steps: u32,
    said: u64,
}

impl StartProgress {
    pub(super) fn new(supervisor: &Supervisor) -> Self {
        supervisor.status("recovering: reading the log");
        Self { supervisor: supervisor.clone(), steps: 0, said: monotonic_micros() }
    }

    /// One more record of the log was read.
    pub(super) fn step(&mut self) {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS_PER_LOOK) {
            let now = monotonic_micros();
            if self.said + EXTENSION_INTERVAL_US <= now {
                self.said = now;
                self.supervisor.extend_start();
            }
        }
    }
}

const STEPS_PER_LOOK: u32 = 1024;
const EXTENSION_INTERVAL_US: u64 = 10_000_000;

/// A path, or `@` and the name of an abstract socket. Others (`vsock:`) are for virtual machines.
fn open(name: &OsStr) -> Option<Arc<(UnixDatagram, SocketAddr)>> {
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(Arc::new((socket, address)))
}

/// The watchdog is meant for one process; without a `WATCHDOG_PID`, for whoever hears of it.
fn watchdog_interval(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let micros: u64 = micros?.parse().ok()?;
    (is_ours && 0 < micros).then_some(Duration::from_micros(micros))
}

/// A service manager of a test's own.
#[cfg(test)]
pub(crate) fn listen_in(directory: &std::path::Path) -> (UnixDatagram, Supervisor) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (socket, Supervisor { socket: open(path.as_os_str()), watchdog: None })
}

#[cfg(test)]
impl Supervisor {
    pub(crate) fn with_watchdog(self, interval: Duration) -> Self {
        Self { watchdog: Some(interval), ..self }
    }
}

/// The next datagram.
#[cfg(test)]
pub(crate) fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, supervisor) = listen_in(directory.path());
        supervisor.ready();
        assert_eq!(heard(&socket), "READY=1");
        supervisor.reloading();
        let reloading = heard(&socket);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(0 < micros.parse::<u64>().unwrap());

        let name = format!("fogfun-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor { socket: open(format!("@{name}").as_ref()), watchdog: None };
        supervisor.status(&format!("one\nREADY=1 {}", "ä".repeat(STATUS_BYTES_MAX)));
        assert_eq!(heard(&socket), "STATUS=one", "a status is one line and says nothing else");
        supervisor.status(&"ä".repeat(STATUS_BYTES_MAX));
        assert_eq!(heard(&socket).len(), "STATUS=".len() + STATUS_BYTES_MAX);
    }

    #[test]
    fn nobody_who_listens_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, supervisor) = listen_in(directory.path());
        (0..10_000).for_each(|_| supervisor.alive());
        drop(socket);
        supervisor.alive();
        assert!(open("relative".as_ref()).is_none());
        Supervisor::default().alive();
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let own = std::process::id().to_string();
        let half = Some(Duration::from_micros(500_000));
        assert_eq!(watchdog_interval(Some("500000"), None), half);
        assert_eq!(watchdog_interval(Some("500000"), Some(&own)), half);
        assert_eq!(watchdog_interval(Some("500000"), Some("1")), None);
        assert_eq!(watchdog_interval(Some("0"), None), None);
        assert_eq!(watchdog_interval(None, None), None);
    }
}
