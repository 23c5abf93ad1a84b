//! How do records come in over HTTP, and answers go back? HTTP/1.1 servers for the module's ports, on thread 0.
//!
//! ```text
//! socket ─→ head ─→ body, bounded ─→ `Event::Take` ─→ worker ─┬─ `Taken`, once committed ─→ 202, or 503
//!                                                             └─ `Replied`, once committed ─→ 200 to who prefers to wait
//! GET /<topic> ←─ queue of the playground's egress ←─ `Fetchable`, once committed
//! ```
//! Invariants:
//! - A record is answered 202 only when the worker says so, that is when it is durable. Whoever hears anything else, or nothing, may
//!   send it again; with the same idempotency key it still counts once.
//! - Connections, requests under way and the bytes of their bodies are bounded; what is beyond a bound is answered 503 and counted.
//! - No client keeps a connection by being slow: a head, a body and the taking of an answer each have their time.
//!
//! What it deliberately does not do: TLS and passwords (a proxy's work), HTTP/2, compression. What a request means is in
//! `request`, what an answer says in `answer`; neither knows a socket.

mod answer;
mod connection;
mod exchange;
mod queues;
mod request;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::{Async, LocalExecutor, Task, Timer};

use self::queues::Queues;
use super::http::{Counters, READ_BYTES, Scratch};
use super::inbox::Inbox;
use super::shell::Event;
use crate::address::Address;
use crate::http_config::{HTTP_TYPE, HttpConfig, HttpRole};
use crate::module::Application;
use crate::typed_value::TypedValue;
use crate::worker::io::Taken;

/// Connections open at once, over all ports; a further one is answered 503 and closed. Each costs some 20 KiB while a request is read.
pub const CONNECTIONS_MAX: u64 = if cfg!(test) { 4 } else { 64 };
/// Requests given to workers that they have not answered; beyond it, 503. More than connections: a client may go away.
pub const REQUESTS_MAX: usize = 256;
/// Bytes of bodies being read or given to workers and not yet answered; beyond it, 503. It is memory beside the board's account.
pub const BODY_BYTES_MAX: usize = if cfg!(test) { 10_000 } else { 4 * 1024 * 1024 };
/// Bytes of a request line and headers at most; more is answered 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a connection reads ahead of what was taken.
const CONNECTION_BUFFER_BYTES: usize = 32 * 1024;

const _: () = assert!(HEAD_BYTES_MAX <= CONNECTION_BUFFER_BYTES);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From a connection's begin or its last answer to the end of the next head: a slow or an idle client is closed.
    pub head: Duration,
    /// From the head's end to the body's; then 408.
    pub body: Duration,
    /// Without taking a byte of its answer; then it is closed.
    pub write: Duration,
    /// Until a worker has committed a record; then 503. A store that stands still is no reason to hold clients for ever.
    pub commit: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(10), body: seconds(10), write: seconds(10), commit: seconds(30) }
    }
}

/// Serves the module's ports.
pub struct HttpServer {
    shared: Rc<Shared>,
    listeners: Vec<Task<()>>,
}

impl HttpServer {
    /// Listens nowhere yet. `boot` tells the requests of this start from those of others.
    #[must_use]
    pub fn new(
        application: Arc<Application>,
        boot: u64,
        executor: &Rc<LocalExecutor<'static>>,
        inbox: Arc<Inbox<Event>>,
    ) -> Self {
        let topics = application.http.iter().find_map(|config| match &config.role {
            HttpRole::PlaygroundEgress { topics } => Some(topics.as_slice()),
            HttpRole::Ingress(_) => None,
        });
        let queues = Queues::new(topics.unwrap_or_default());
        let (stop, stopped) = smol::channel::bounded(1);
        let shared = Shared {
            application,
            boot,
            times: Times::default(),
            executor: Rc::downgrade(executor),
            inbox,
            scratch: Rc::new(RefCell::new(vec![0; READ_BYTES])),
            sockets: Rc::new(Counters::default()),
            counters: ServedCounters::default(),
            records: Cell::new(0),
            under_way: RefCell::new(BTreeMap::new()),
            body_bytes: Rc::new(Cell::new(0)),
            queues: RefCell::new(queues),
            stop,
            stopped,
        };
        Self { shared: Rc::new(shared), listeners: Vec::new() }
    }

    /// Listens at every port of the module.
    ///
    /// # Errors
    /// Which port cannot be had, why, and what to do about it.
    pub fn listen(&mut self) -> Result<(), String> {
        let configs = self.shared.application.http.clone();
        for config in configs {
            let (name, listen) = (config.name.clone(), config.listen);
            let listener = bind(listen).map_err(|error| refusal_to_listen(name.as_str(), listen, &error))?;
            self.serve(config, listener);
        }
        Ok(())
    }

    fn serve(&mut self, config: Arc<HttpConfig>, listener: Async<TcpListener>) {
        log::info!("{}: listens at {}", config.name, config.listen);
        if let Some(executor) = self.shared.executor.upgrade() {
            self.listeners.push(executor.spawn(accept(Rc::clone(&self.shared), config, listener)));
        }
    }

    /// A worker says what became of a record.
    pub fn taken(&mut self, request: u64, taken: Taken) {
        exchange::taken(&self.shared, request, taken);
    }

    /// A function has replied to somebody who waits, or waited.
    pub fn replied(&mut self, waiter: &str, value: TypedValue) {
        let request = self.shared.request_of(waiter);
        if !request.is_some_and(|request| exchange::replied(&self.shared, request, value)) {
            Counters::add(&self.shared.counters.replies_unclaimed, 1);
        }
    }

    /// A function has sent a record to the playground's egress.
    ///
    /// # Errors
    /// Why it is dropped, which is counted.
    pub fn fetchable(&mut self, value: &TypedValue) -> Result<(), String> {
        self.shared.queues.borrow_mut().push(value)
    }

    /// Takes no connection and no request any more. What is under way is answered.
    pub fn stop(&mut self) {
        self.listeners.clear();
        self.shared.stop.close();
    }

    /// After [`stop`](Self::stop): is an answer still to be written? An [`Event::Served`] says when that changes.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        0 < self.shared.connections_open()
    }

    /// What `status` says of it.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let Shared { counters, sockets, under_way, body_bytes, queues, .. } = &*self.shared;
        let (fetchable, fetchable_bytes, fetchable_dropped) = queues.borrow().status();
        serde_json::json!({
            "connections_open": self.shared.connections_open(),
            "connections_opened": sockets.opened.get(),
            "connections_refused": counters.connections_refused.get(),
            "connections_closed_for_not_reading": counters.connections_stalled.get(),
            "requests": counters.requests.get(),
            "requests_under_way": under_way.borrow().len(),
            "body_bytes_under_way": body_bytes.get(),
            "accepted": counters.accepted.get(),
            "repeated": counters.repeated.get(),
            "replied": counters.replied.get(),
            "fetched": counters.fetched.get(),
            "refused": counters.refused.get(),
            "unavailable": counters.unavailable.get(),
            "answers_unheard": counters.answers_unheard.get(),
            "replies_unclaimed": counters.replies_unclaimed.get(),
            "fetchable": fetchable,
            "fetchable_bytes": fetchable_bytes,
            "fetchable_dropped": fetchable_dropped,
            "bytes_sent": sockets.bytes_sent.get(),
            "bytes_received": sockets.bytes_received.get(),
        })
    }
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpServer").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What the server and its tasks share; all of them run on thread 0.
struct Shared {
    application: Arc<Application>,
    boot: u64,
    times: Times,
    /// Weak, for the executor owns the tasks that hold this.
    executor: Weak<LocalExecutor<'static>>,
    inbox: Arc<Inbox<Event>>,
    scratch: Scratch,
    sockets: Rc<Counters>,
    counters: ServedCounters,
    /// Handed to workers since the start; numbers them.
    records: Cell<u64>,
    /// By that number.
    under_way: RefCell<BTreeMap<u64, exchange::UnderWay>>,
    body_bytes: Rc<Cell<usize>>,
    queues: RefCell<Queues>,
    /// Closed when the node stops; nothing is ever sent.
    stop: Sender<Infallible>,
    stopped: Receiver<Infallible>,
}

impl Shared {
    fn connections_open(&self) -> u64 {
        self.sockets.opened.get() - self.sockets.closed.get()
    }

    fn is_stopping(&self) -> bool {
        self.stopped.is_closed()
    }

    /// Returns when the node stops.
    async fn until_stop(&self) {
        let _closed = self.stopped.recv().await;
    }

    /// The address that stands for a request; `None` only if it were too long.
    fn waiter_of(&self, request: u64) -> Option<Address> {
        Address::new(HTTP_TYPE, &format!("{:016x}-{request}", self.boot)).ok()
    }

    /// The request that an address stands for, if it is of this start.
    fn request_of(&self, waiter: &str) -> Option<u64> {
        let (boot, request) = waiter.split_once('-')?;
        (boot == format!("{:016x}", self.boot)).then(|| request.parse().ok()).flatten()
    }
}

/// Since the start.
#[derive(Default)]
struct ServedCounters {
    requests: Cell<u64>,
    accepted: Cell<u64>,
    repeated: Cell<u64>,
    replied: Cell<u64>,
    fetched: Cell<u64>,
    /// Of the client's fault.
    refused: Cell<u64>,
    /// 503.
    unavailable: Cell<u64>,
    /// The client was gone when it was committed.
    answers_unheard: Cell<u64>,
    /// Nobody waited any more, or ever.
    replies_unclaimed: Cell<u64>,
    connections_refused: Cell<u64>,
    connections_stalled: Cell<u64>,
}

fn bind(listen: SocketAddr) -> io::Result<Async<TcpListener>> {
    Async::new(TcpListener::bind(listen)?)
}

fn refusal_to_listen(name: &str, listen: SocketAddr, error: &io::Error) -> String {
    let help = match error.kind() {
        ErrorKind::AddrInUse => "choose another `port`, or stop who has it (`ss -ltnp` says who)",
        ErrorKind::AddrNotAvailable => "`address` is none of this board's",
        ErrorKind::PermissionDenied => "ports below 1024 take a privilege: choose another `port`",
        _ => "choose another `address` or `port`",
    };
    format!("`{name}` cannot listen at {listen}: {error}; {help}")
}

async fn accept(shared: Rc<Shared>, config: Arc<HttpConfig>, listener: Async<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if CONNECTIONS_MAX <= shared.connections_open() => {
                Counters::add(&shared.counters.connections_refused, 1);
                turn_away(stream.get_ref());
            }
            Ok((stream, _)) => {
                // Only the last answer of a connection could be late.
                let _late_at_worst = stream.get_ref().set_nodelay(true);
                connection::begin(&shared, &config, stream);
            }
            Err(error) => {
                log::warn!("{}: {error}", config.name);
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One try: a client that does not hear it sees the end.
fn turn_away(mut stream: &TcpStream) {
    let _unheard = stream.write(TURNED_AWAY).and_then(|_| stream.shutdown(Shutdown::Write));
}

/// Before the next try, when the operating system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\ncontent-length: 27\r\n\r\nall connections are in use\n";

#[cfg(test)]
mod tests;
