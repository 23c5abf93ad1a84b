//! How do packets get to a broker and back? Over one socket, read and written in batches, with precise waits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::wire::{self, Received, Version};

/// Read from the socket in one call, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A connection to a broker on this machine. What is put into `out` is written by the next [`pump`](Self::pump).
pub struct Connection {
    pub version: Version,
    pub out: BytesMut,
    stream: TcpStream,
    incoming: BytesMut,
    chunk: Box<[u8]>,
}

/// The connection is gone: closed by the broker, or broken.
#[derive(Debug)]
pub struct Gone;

impl Connection {
    /// Connects the socket; no packet is sent yet.
    pub fn open(port: u16, version: Version) -> Result<Self, Gone> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|_| Gone)?;
        stream.set_nodelay(true).map_err(|_| Gone)?;
        stream.set_nonblocking(true).map_err(|_| Gone)?;
        Ok(Self {
            version,
            out: BytesMut::with_capacity(READ_BYTES),
            stream,
            incoming: BytesMut::with_capacity(2 * READ_BYTES),
            chunk: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// Connects the session; says whether the broker knew it, and how many packets it takes unacknowledged.
    pub fn session(
        port: u16,
        version: Version,
        client_id: &str,
        clean: bool,
        receive_maximum: u16,
    ) -> Result<(Self, bool, u16), Gone> {
        let mut connection = Self::open(port, version)?;
        wire::connect(version, client_id, clean, receive_maximum, &mut connection.out);
        match connection.wait_packet()? {
            Received::Connected { session_present, receive_maximum } => {
                Ok((connection, session_present, receive_maximum))
            }
            other => panic!("the broker answered CONNECT with {other:?}"),
        }
    }

    /// Writes what is to be written, waits at most `wait` for something to come, and reads once.
    pub fn pump(&mut self, wait: Duration) -> Result<(), Gone> {
        self.write()?;
        let mut interest = PollFlags::IN;
        if !self.out.is_empty() {
            interest |= PollFlags::OUT;
        }
        let timeout = Timespec::try_from(wait).unwrap();
        let readiness = {
            let mut descriptors = [PollFd::from_borrowed_fd(self.stream.as_fd(), interest)];
            match rustix::event::poll(&mut descriptors, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => descriptors[0].revents(),
                Err(error) => panic!("poll: {error}"),
            }
        };
        if readiness.contains(PollFlags::OUT) {
            self.write()?;
        }
        if readiness.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read()?;
        }
        Ok(())
    }

    /// The next packet of what has been read.
    pub fn packet(&mut self) -> Option<Received> {
        wire::take(self.version, &mut self.incoming)
    }

    /// Pumps until a packet comes.
    pub fn wait_packet(&mut self) -> Result<Received, Gone> {
        loop {
            if let Some(packet) = self.packet() {
                return Ok(packet);
            }
            self.pump(Duration::from_secs(1))?;
        }
    }

    fn write(&mut self) -> Result<(), Gone> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(0) => return Err(Gone),
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Gone> {
        let read = self.read_once();
        // A broker with Nagle's algorithm (Mosquitto's default) waits for our acknowledgement, the kernel holds it back for 40 ms, and
        // every reading arms that delay again.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        read
    }

    fn read_once(&mut self) -> Result<(), Gone> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                self.incoming.extend_from_slice(&self.chunk[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(Gone),
        }
    }
}
