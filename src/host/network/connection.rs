//! What does the task of one connection do, and what does thread 0 share with it?

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use smol::{Async, Timer};

use super::stream::Stream;
use super::{CONNECT_TIME_MAX, Poster, RECEIVED_BYTES_UNDER_WAY_MAX};
use crate::host::failpoint::{self, Point};
use crate::host::tls;
use crate::mqtt::config::Broker;
use crate::mqtt::session::SessionInput;

/// The read buffer that all connections share: nothing is kept in it across a wait.
pub(super) type Scratch = Rc<RefCell<Vec<u8>>>;

/// What thread 0 and the connection's task share; both run on thread 0.
#[derive(Default)]
pub(super) struct Connection {
    stream: RefCell<Option<Rc<Stream>>>,
    outgoing: RefCell<VecDeque<Bytes>>,
    outgoing_bytes: Cell<usize>,
    touched: Cell<bool>,
    under_way: Cell<usize>,
    /// The session does not want to be read.
    held: Cell<bool>,
    ending: Cell<Ending>,
    write_wanted: Signal,
    room: Signal,
}

/// How a connection comes to its end.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ending {
    /// Not yet.
    #[default]
    Open,
    /// When all is written.
    WhenWritten,
    /// Now: the broker does not read.
    Now,
}

impl Connection {
    /// Adds bytes; is it the first since the last flush?
    pub(super) fn queue(&self, bytes: Bytes) -> bool {
        self.outgoing_bytes.set(self.outgoing_bytes.get() + bytes.len());
        self.outgoing.borrow_mut().push_back(bytes);
        !self.touched.replace(true)
    }

    pub(super) fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes.get()
    }

    /// Writes what the socket takes now; the task does the rest.
    pub(super) fn flush(&self) {
        self.touched.set(false);
        if !matches!(self.try_write(), Ok(true)) {
            // An error too: the task meets it again and tells it.
            self.write_wanted.set();
        }
    }

    pub(super) fn close(&self) {
        if self.ending.get() == Ending::Open {
            self.ending.set(Ending::WhenWritten);
        }
        self.write_wanted.set();
    }

    /// Ends the connection of a broker that does not read; was that news?
    pub(super) fn give_up(&self) -> bool {
        let news = self.ending.replace(Ending::Now) != Ending::Now;
        self.write_wanted.set();
        news
    }

    pub(super) fn taken(&self, bytes: usize) {
        self.under_way.set(self.under_way.get().saturating_sub(bytes));
        self.room.set();
    }

    pub(super) fn hold(&self, is_held: bool) {
        self.held.set(is_held);
        self.room.set();
    }

    fn try_write(&self) -> io::Result<bool> {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else {
            return Ok(true);
        };
        let mut outgoing = self.outgoing.borrow_mut();
        let pubrec = (failpoint::is_armed(Point::BeforePubrec) || failpoint::is_armed(Point::AfterPubrec))
            && outgoing.iter().any(|bytes| failpoint::has_pubrec(bytes));
        if pubrec {
            failpoint::pass(Point::BeforePubrec);
        }
        let result = stream.try_write(&mut outgoing);
        if pubrec {
            failpoint::pass(Point::AfterPubrec);
        }
        self.outgoing_bytes.set(outgoing.iter().map(Bytes::len).sum());
        result
    }
}

/// Opens the socket and moves bytes until either side ends it.
pub(super) async fn drive(connection: Rc<Connection>, broker: Broker, scratch: Scratch, post: Poster) {
    let cause = match open(&broker).await {
        Ok(stream) => {
            let stream = Rc::new(stream);
            *connection.stream.borrow_mut() = Some(Rc::clone(&stream));
            post.post(|connection| SessionInput::Connected { connection });
            let read = read(&connection, &stream, &scratch, &post);
            let write = write(&connection, &stream);
            smol::future::or(write, read).await
        }
        Err(error) => error,
    };
    connection.stream.borrow_mut().take();
    post.post(|connection| SessionInput::Disconnected { connection, cause: cause.to_string() });
}

/// Opens a socket to a broker, within [`CONNECT_TIME_MAX`].
pub(in crate::host) async fn open(broker: &Broker) -> io::Result<Stream> {
    let too_slow = async {
        Timer::after(CONNECT_TIME_MAX).await;
        Err(io::Error::new(ErrorKind::TimedOut, "no connection in time"))
    };
    smol::future::or(reach(broker), too_slow).await
}

/// Name, TCP, TLS.
async fn reach(broker: &Broker) -> io::Result<Stream> {
    let (host, port) = (broker.host.clone(), broker.port);
    let addresses: Vec<SocketAddr> = match host.parse() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => smol::unblock(move || (host.as_str(), port).to_socket_addrs()).await?.collect(),
    };
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match Async::<TcpStream>::connect(address).await {
            Ok(socket) => {
                socket.get_ref().set_nodelay(true)?;
                let tls =
                    broker.tls.as_ref().map(|files| tls::connection(files, &broker.host)).transpose()?;
                let stream = Stream::new(socket, tls);
                stream.handshake().await?;
                return Ok(stream);
            }
            Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failure)
}

async fn read(connection: &Connection, stream: &Stream, scratch: &Scratch, post: &Poster) -> io::Error {
    loop {
        while connection.held.get() || RECEIVED_BYTES_UNDER_WAY_MAX <= connection.under_way.get() {
            connection.room.wait().await;
        }
        let received = {
            let mut scratch = scratch.borrow_mut();
            stream.try_read(&mut scratch).map(|count| {
                (Bytes::copy_from_slice(scratch.get(..count).unwrap_or_default()), count == scratch.len())
            })
        };
        match received {
            Ok((bytes, _)) if bytes.is_empty() => {
                return io::Error::new(ErrorKind::UnexpectedEof, "closed by the broker");
            }
            Ok((bytes, filled)) => {
                stream.acknowledge_quickly();
                connection.under_way.set(connection.under_way.get() + bytes.len());
                post.post(|connection| SessionInput::Received { connection, bytes });
                if filled || stream.buffers_input() {
                    smol::future::yield_now().await;
                    continue;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return error,
        }
        if let Err(error) = stream.readable().await {
            return error;
        }
    }
}

/// Writes what [`Connection::flush`] could not, and closes.
async fn write(connection: &Connection, stream: &Stream) -> io::Error {
    loop {
        match (connection.ending.get(), connection.try_write()) {
            (_, Err(error)) => return error,
            (Ending::Now, _) => return io::Error::new(ErrorKind::TimedOut, "the broker does not read"),
            (Ending::WhenWritten, Ok(true)) => {
                stream.finish();
                return io::Error::new(ErrorKind::ConnectionAborted, "closed by us");
            }
            (Ending::Open, Ok(true)) => connection.write_wanted.wait().await,
            (_, Ok(false)) => {
                let writable = async { stream.writable().await.err() };
                // A close or the decision to give up ends the wait too.
                let wanted = async {
                    connection.write_wanted.wait().await;
                    None
                };
                if let Some(error) = smol::future::or(writable, wanted).await {
                    return error;
                }
            }
        }
    }
}

/// A flag that one task waits for.
#[derive(Default)]
struct Signal {
    set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Signal {
    fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until it is set, and clears it.
    async fn wait(&self) {
        poll_fn(|context| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
