//! How do bytes reach a broker and come back? One socket for each connection that a session asks for.
//!
//! A task for each connection opens the socket (TCP, then TLS), reads in large chunks and posts an [`Event::Network`]. Writes are
//! collected while thread 0 handles its events and go out together in [`Network::flush`], straight from there if the socket takes
//! them, else by the task. Each `Connect` is answered by at most one `Connected` and by exactly one `Disconnected`.
//!
//! Bounds: bytes read that the session's worker has not yet taken ([`RECEIVED_BYTES_UNDER_WAY_MAX`]) stop the reading; bytes
//! that the broker does not take ([`OUTGOING_BYTES_MAX`]) close the connection, and the session begins another.

mod connection;
mod stream;

pub(super) use self::connection::open;
pub(super) use self::stream::Stream;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smol::{LocalExecutor, Task};

use self::connection::Connection;
use super::inbox::Inbox;
use super::shell::Event;
use crate::mqtt::config::SessionConfig;
use crate::mqtt::session::{ConnectionNumber, SessionInput};
use crate::worker::io::SessionIndex;

/// Name resolution, TCP and TLS together may take so long. Shorter fails on slow links, longer keeps a session from trying again.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of one read; one such buffer serves all connections.
pub const READ_BYTES: usize = 64 * 1024;
/// Bytes of a connection that were read and not yet taken by the session's worker; beyond, the socket is not read.
pub const RECEIVED_BYTES_UNDER_WAY_MAX: usize = 4 * READ_BYTES;
/// Bytes waiting for a broker that does not read; beyond, the connection is closed and counted.
pub const OUTGOING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// All connections of a node.
pub struct Network {
    sessions: Vec<Arc<SessionConfig>>,
    executor: Rc<LocalExecutor<'static>>,
    inbox: Arc<Inbox<Event>>,
    scratch: connection::Scratch,
    entries: BTreeMap<(SessionIndex, ConnectionNumber), Entry>,
    /// Which entries [`flush`](Self::flush) has to look at.
    touched: Vec<(SessionIndex, ConnectionNumber)>,
    /// How often a broker left more than [`OUTGOING_BYTES_MAX`] lying.
    pub closed_for_not_reading: u64,
}

struct Entry {
    connection: Rc<Connection>,
    /// Dropping it ends the task.
    _task: Task<()>,
}

impl Network {
    /// No connection yet.
    #[must_use]
    pub fn new(
        sessions: Vec<Arc<SessionConfig>>,
        executor: Rc<LocalExecutor<'static>>,
        inbox: Arc<Inbox<Event>>,
    ) -> Self {
        let scratch = Rc::new(std::cell::RefCell::new(vec![0; READ_BYTES]));
        Self {
            sessions,
            executor,
            inbox,
            scratch,
            entries: BTreeMap::new(),
            touched: Vec::new(),
            closed_for_not_reading: 0,
        }
    }

    /// Begins to open a socket.
    pub fn connect(&mut self, session: SessionIndex, number: ConnectionNumber) {
        let Some(config) = self.sessions.get(session.0) else {
            unreachable!("a worker knows only sessions of the module")
        };
        let connection = Rc::new(Connection::default());
        let post = Poster { inbox: Arc::clone(&self.inbox), session, number };
        let drive =
            connection::drive(Rc::clone(&connection), config.broker.clone(), Rc::clone(&self.scratch), post);
        let task = self.executor.spawn(drive);
        self.entries.insert((session, number), Entry { connection, _task: task });
    }

    /// Adds bytes to what goes out; nothing if the connection is gone.
    pub fn transmit(&mut self, session: SessionIndex, number: ConnectionNumber, bytes: Bytes) {
        if let Some(entry) = self.entries.get(&(session, number)) {
            if entry.connection.queue(bytes) {
                self.touched.push((session, number));
            }
            if OUTGOING_BYTES_MAX < entry.connection.outgoing_bytes() && entry.connection.give_up() {
                self.closed_for_not_reading += 1;
            }
        }
    }

    /// Closes once all is written.
    pub fn close(&mut self, session: SessionIndex, number: ConnectionNumber) {
        if let Some(entry) = self.entries.get(&(session, number)) {
            entry.connection.close();
        }
    }

    /// The worker has taken so many bytes that came on this connection.
    pub fn taken(&mut self, session: SessionIndex, number: ConnectionNumber, bytes: usize) {
        if let Some(entry) = self.entries.get(&(session, number)) {
            entry.connection.taken(bytes);
        }
    }

    /// Reads a session's sockets, or does not.
    pub fn read(&mut self, session: SessionIndex, is_wanted: bool) {
        for ((_, _), entry) in self.entries.iter().filter(|((of, _), _)| *of == session) {
            entry.connection.hold(!is_wanted);
        }
    }

    /// The connection is over: `Disconnected` was posted.
    pub fn forget(&mut self, session: SessionIndex, number: ConnectionNumber) {
        self.entries.remove(&(session, number));
    }

    /// Writes what was collected, as far as the sockets take it.
    pub fn flush(&mut self) {
        for name in self.touched.drain(..) {
            if let Some(entry) = self.entries.get(&name) {
                entry.connection.flush();
            }
        }
    }

    /// Bytes that wait for brokers to read.
    #[must_use]
    pub fn outgoing_bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.connection.outgoing_bytes()).sum()
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("connections", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Posts what happens to one connection.
struct Poster {
    inbox: Arc<Inbox<Event>>,
    session: SessionIndex,
    number: ConnectionNumber,
}

impl Poster {
    fn post(&self, input: impl FnOnce(ConnectionNumber) -> SessionInput) {
        self.inbox.push(Event::Network {
            session: self.session,
            connection: self.number,
            input: input(self.number),
        });
    }
}

#[cfg(test)]
mod tests;
