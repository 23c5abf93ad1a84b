//! How does hyper read and write a socket of smol's? Through this, which also notes what moves and when.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::ReadBufCursor;
use smol::io::{AsyncRead, AsyncWrite};

use super::Counters;

/// Bytes of one read; one such buffer serves all connections.
pub(in crate::host) const READ_BYTES: usize = 16 * 1024;

/// The read buffer that all connections share: nothing is kept in it across a wait.
pub(in crate::host) type Scratch = Rc<RefCell<Vec<u8>>>;

/// TCP, UNIX or TLS.
pub(in crate::host) trait Duplex: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Duplex for T {}

/// A connected socket; dropping it closes it.
pub(in crate::host) struct Socket {
    stream: Pin<Box<dyn Duplex>>,
    /// Several slices at once save a copy; through TLS they would be several records.
    is_vectored: bool,
    scratch: Scratch,
    counters: Rc<Counters>,
    traffic: Rc<Traffic>,
}

/// What went over one connection.
pub(in crate::host) struct Traffic {
    received: Cell<u64>,
    /// When a byte moved, or a request began.
    moved: Cell<Instant>,
    /// Does the server not take what we send?
    is_blocked: Cell<bool>,
}

impl Traffic {
    /// Bytes that came.
    pub(in crate::host) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Since when nothing has moved.
    pub(in crate::host) fn quiet_since(&self) -> Instant {
        self.moved.get()
    }

    /// Is it the server who does not read?
    pub(in crate::host) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// A request begins now.
    pub(in crate::host) fn begin(&self) {
        self.moved.set(Instant::now());
    }
}

impl Socket {
    pub(in crate::host) fn new(
        stream: Pin<Box<dyn Duplex>>,
        is_vectored: bool,
        scratch: Scratch,
        counters: Rc<Counters>,
    ) -> Self {
        Counters::add(&counters.opened, 1);
        let traffic = Traffic {
            received: Cell::new(0),
            moved: Cell::new(Instant::now()),
            is_blocked: Cell::new(false),
        };
        Self { stream, is_vectored, scratch, counters, traffic: Rc::new(traffic) }
    }

    pub(in crate::host) fn traffic(&self) -> Rc<Traffic> {
        Rc::clone(&self.traffic)
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.traffic.is_blocked.set(polled.is_pending());
        if let Poll::Ready(Ok(count)) = polled {
            self.traffic.moved.set(Instant::now());
            Counters::add(&self.counters.bytes_sent, count);
        }
        polled
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        Counters::add(&self.counters.closed, 1);
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let room = scratch.len().min(buffer.remaining());
        let Some(scratch) = scratch.get_mut(..room) else { unreachable!("it is the smaller of both") };
        let count = ready!(self.stream.as_mut().poll_read(context, scratch))?;
        if 0 < count {
            self.traffic.moved.set(Instant::now());
            self.traffic.received.set(self.traffic.received.get() + count as u64);
            Counters::add(&self.counters.bytes_received, count);
        }
        buffer.put_slice(scratch.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.as_mut().poll_write(context, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.as_mut().poll_write_vectored(context, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.as_mut().poll_flush(context);
        self.traffic.is_blocked.set(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_close(context)
    }
}
