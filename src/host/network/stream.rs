//! How is a socket read and written without waiting? Plain or through TLS, the same two calls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;

use bytes::{Buf, Bytes};
use futures_rustls::rustls::ClientConnection;
use smol::Async;

/// Slices given to one `writev`.
const SLICES_MAX: usize = 64;

/// A connected socket.
pub(in crate::host) struct Stream {
    socket: Async<TcpStream>,
    tls: Option<RefCell<ClientConnection>>,
}

impl Stream {
    pub(super) fn new(socket: Async<TcpStream>, tls: Option<ClientConnection>) -> Self {
        Self { socket, tls: tls.map(RefCell::new) }
    }

    /// Does the TLS handshake, if there is one to do.
    pub(super) async fn handshake(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        while tls.borrow().is_handshaking() {
            self.write_records()?;
            if tls.borrow().wants_write() {
                self.socket.writable().await?;
                continue;
            }
            match self.read_records() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.socket.readable().await?,
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                other => drop(other?),
            }
        }
        self.write_records()
    }

    /// Reads what is there: `WouldBlock` if nothing is, zero at the end.
    pub(in crate::host) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.socket.get_ref().read(buffer);
        };
        loop {
            match tls.borrow_mut().reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.read_records()?;
            self.write_records()?;
        }
    }

    /// Writes from the front of `queue` what the socket takes; is all of it out?
    pub(in crate::host) fn try_write(&self, queue: &mut VecDeque<Bytes>) -> io::Result<bool> {
        if let Some(tls) = &self.tls {
            loop {
                let mut written = 0;
                while let Some(front) = queue.front_mut() {
                    let count = tls.borrow_mut().writer().write(front)?;
                    written += count;
                    consume(queue, count);
                    if count == 0 {
                        break;
                    }
                }
                self.write_records()?;
                let blocked = tls.borrow().wants_write();
                if blocked || queue.is_empty() || written == 0 {
                    return Ok(!blocked && queue.is_empty());
                }
            }
        }
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = slices
                .iter_mut()
                .zip(queue.iter())
                .map(|(slice, bytes)| *slice = IoSlice::new(bytes))
                .count();
            match self.socket.get_ref().write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => consume(queue, count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub(in crate::host) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(in crate::host) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Can a read that did not fill its buffer have left something behind in user space?
    pub(super) fn buffers_input(&self) -> bool {
        self.tls.is_some()
    }

    /// Lets the kernel acknowledge at once what comes next. A reply held until its epoch is committed carries no acknowledgement
    /// for 40 ms, and a broker whose Nagle algorithm is on waits for one. The kernel forgets the option, so: after every read.
    pub(super) fn acknowledge_quickly(&self) {
        // Without it everything is right, only slower.
        let _unsupported = rustix::net::sockopt::set_tcp_quickack(self.socket.get_ref(), true);
    }

    /// Says goodbye: TLS close_notify and FIN.
    pub(super) fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().send_close_notify();
            let _best_effort = self.write_records();
        }
        let _already_gone = self.socket.get_ref().shutdown(std::net::Shutdown::Write);
    }

    fn read_records(&self) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return Ok(0) };
        let mut tls = tls.borrow_mut();
        let count = tls.read_tls(&mut self.socket.get_ref())?;
        if let Err(error) = tls.process_new_packets() {
            // The alert that tells the broker why.
            let _best_effort = tls.write_tls(&mut self.socket.get_ref());
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    fn write_records(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let mut tls = tls.borrow_mut();
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket.get_ref()) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn consume(queue: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(front) = queue.front_mut() {
        let taken = count.min(front.len());
        front.advance(taken);
        count -= taken;
        if !front.is_empty() {
            break;
        }
        queue.pop_front();
    }
}
