//! How does a call reach an endpoint, and what comes back? HTTP/1.1 over TCP, TLS or a UNIX socket, on thread 0.
//!
//! ```text
//! Call ─→ task ─→ pool ──────→ connection ─→ POST ─→ response ─→ body, bounded ─→ `Event::Called`
//!                   └─ none idle: opened      └─ redirected: again    └─ connection back into the pool
//! ```
//! Invariants:
//! - Every call is answered by exactly one [`Event::Called`], within the transport's `call` time.
//! - Whatever a server sends or does not send, a call holds at most twice `payload_bytes_max`, one read buffer and one head.
//! - A connection belongs to one call or to the pool; who drops it closes its socket at once.
//! - A request is sent a second time only if it went out on a connection that had been idle and not one byte came back: such a
//!   server has most likely closed it. Should it have run the request all the same, so much is allowed: what counts is the
//!   effects of the one answer.
//!
//! What it deliberately does not do: it queues nothing (the worker has at most `pool_size` calls under way), repeats nothing
//! that failed (the worker decides), and speaks no HTTP/2. Redirects 301, 302, 307 and 308 are followed with method and body: a
//! GET says nothing to a function, and an empty answer to it would count as success. A 303 asks for a GET; it is an answer.

mod body;
mod connection;
mod exchange;
mod failure;
mod pool;
mod redirect;
mod socket;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_rustls::rustls::ClientConfig;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use smol::{LocalExecutor, Timer};

pub(super) use self::connection::Whole;
use self::pool::Pool;
pub(super) use self::socket::{READ_BYTES, Scratch, Socket, Traffic};
use super::inbox::Inbox;
use super::shell::Event;
use crate::remote::call::Call;
use crate::remote::config::EndpointConfig;
use crate::worker::io::WorkerIndex;

/// Bytes of a response's status line and headers at most (and of trailers); more is [`Malformed`]. hyper takes 100 headers.
///
/// [`Malformed`]: crate::remote::call::CallFailure::Malformed
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a connection reads ahead of what was taken, and buffers of a request. Fewer makes large bodies slow.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;
/// TLS files are read again after this time, so that a renewed certificate is taken; each reading costs a board milliseconds.
pub const TLS_FILES_AGE_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(HEAD_BYTES_MAX <= CONNECTION_BUFFER_BYTES);

/// Calls endpoints for all workers of a node.
pub struct HttpClient {
    shared: Rc<Shared>,
}

impl HttpClient {
    /// No connection yet.
    #[must_use]
    pub fn new(
        endpoints: Vec<Arc<EndpointConfig>>,
        executor: &Rc<LocalExecutor<'static>>,
        inbox: Arc<Inbox<Event>>,
    ) -> Self {
        let shared = Shared {
            endpoints: endpoints.into_iter().map(Endpoint::new).collect(),
            executor: Rc::downgrade(executor),
            inbox,
            pool: Rc::new(Pool::default()),
            scratch: Rc::new(RefCell::new(vec![0; socket::READ_BYTES])),
            counters: Rc::new(Counters::default()),
            is_sweeping: Cell::new(false),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Begins a call of this worker's.
    pub fn call(&mut self, worker: WorkerIndex, call: Call) {
        let shared = Rc::clone(&self.shared);
        Counters::add(&shared.counters.requests, 1);
        self.shared.spawn(async move {
            let outcome = exchange::perform(&shared, &call).await;
            shared.inbox.push(Event::Called { worker, call: call.number, outcome });
        });
    }

    /// What `status` says of it.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let counters = &self.shared.counters;
        serde_json::json!({
            "calls": counters.requests.get(),
            "calls_repeated_on_a_fresh_connection": counters.repeated.get(),
            "calls_beyond_the_pool": counters.beyond_pool.get(),
            "redirects": counters.redirects.get(),
            "connections_opened": counters.opened.get(),
            "connections_reused": counters.reused.get(),
            "connections_open": counters.opened.get() - counters.closed.get(),
            "bytes_sent": counters.bytes_sent.get(),
            "bytes_received": counters.bytes_received.get(),
        })
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What the client and its tasks share; all of them run on thread 0.
struct Shared {
    endpoints: Vec<Endpoint>,
    /// Weak, for the executor owns the tasks that hold this.
    executor: Weak<LocalExecutor<'static>>,
    inbox: Arc<Inbox<Event>>,
    pool: Rc<Pool>,
    scratch: socket::Scratch,
    counters: Rc<Counters>,
    /// Does a task close what is idle for too long?
    is_sweeping: Cell<bool>,
}

impl Shared {
    /// Runs a task until it ends or the executor does.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }

    /// Something idle is in the pool: it is closed in time, by one task for all.
    fn sweep(self: &Rc<Self>) {
        if self.is_sweeping.replace(true) {
            return;
        }
        let shared = Rc::clone(self);
        self.spawn(async move {
            while let Some(next) = shared.pool.close_expired(Instant::now()) {
                Timer::at(next).await;
            }
            shared.is_sweeping.set(false);
        });
    }
}

/// An endpoint, with what is prepared for it.
struct Endpoint {
    config: Arc<EndpointConfig>,
    /// Of every request but `host` and `content-length`; else, why none can be sent.
    headers: Result<Headers, String>,
    /// When the files were read, and what they say.
    tls: RefCell<Option<(Instant, Arc<ClientConfig>)>>,
}

/// What requests to an endpoint carry.
struct Headers {
    /// With the user's own, which may be secrets.
    own: HeaderMap,
    /// StateFun's alone, for whom a server redirects us to.
    strangers: HeaderMap,
}

impl Endpoint {
    fn new(config: Arc<EndpointConfig>) -> Self {
        Self { headers: headers(&config), config, tls: RefCell::new(None) }
    }
}

/// StateFun's headers, where the user has no own of that name.
fn headers(config: &EndpointConfig) -> Result<Headers, String> {
    let mut own = HeaderMap::with_capacity(config.transport.headers.len() + HEADERS_ROOM);
    for (name, value) in &config.transport.headers {
        let wrong = || format!("the header `{name}` cannot be sent");
        let mut value = HeaderValue::from_str(&value.0).map_err(|_| wrong())?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if FRAMING_HEADERS.contains(&name.as_str()) {
            return Err(wrong());
        }
        own.append(name, value);
    }
    let mut strangers = HeaderMap::with_capacity(HEADERS_ROOM);
    let keep = if config.transport.pool_ttl.is_zero() { "close" } else { "keep-alive" };
    for (name, value) in STATEFUN_HEADERS.into_iter().chain([("connection", keep)]) {
        strangers.insert(name, HeaderValue::from_static(value));
        own.entry(name).or_insert(HeaderValue::from_static(value));
    }
    Ok(Headers { own, strangers })
}

/// What StateFun's `async` transport sends.
const STATEFUN_HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/octet-stream"),
    ("accept", "application/octet-stream"),
    ("accept-encoding", "gzip,deflate"),
    ("user-agent", "statefun"),
];

/// StateFun's headers, `connection`, `host` and `content-length`, so that a request need not make its map larger.
const HEADERS_ROOM: usize = STATEFUN_HEADERS.len() + 3;

/// What says where a message ends is ours to say.
const FRAMING_HEADERS: [&str; 6] =
    ["connection", "content-length", "expect", "te", "transfer-encoding", "upgrade"];

/// Since the start.
#[derive(Default)]
pub(super) struct Counters {
    requests: Cell<u64>,
    /// Sent again because an idle connection had been closed.
    repeated: Cell<u64>,
    /// Begun while `pool_size` others were under way to the same place.
    beyond_pool: Cell<u64>,
    redirects: Cell<u64>,
    pub(super) opened: Cell<u64>,
    reused: Cell<u64>,
    pub(super) closed: Cell<u64>,
    /// As HTTP has them, before TLS.
    pub(super) bytes_sent: Cell<u64>,
    pub(super) bytes_received: Cell<u64>,
}

impl Counters {
    pub(super) fn add(counter: &Cell<u64>, count: usize) {
        counter.set(counter.get() + count as u64);
    }
}

#[cfg(test)]
mod tests;
