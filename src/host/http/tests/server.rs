//! Who misbehaves? A server whose every connection is a closure on a thread of its own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Condvar, Mutex};

/// One request as it came.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// Listens until the test process ends: a thread that waits costs nothing.
pub(super) struct Server {
    base: String,
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    ended: Arc<(Mutex<bool>, Condvar)>,
    _directory: Option<tempfile::TempDir>,
}

/// The server's side of one connection; dropping it closes it.
pub(super) struct Peer {
    stream: Box<dyn Stream>,
    /// Its place among the server's connections, from 0.
    pub(super) number: usize,
    seen: Arc<Mutex<Vec<Request>>>,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Server {
    /// Serves every connection with `serve`.
    pub(super) fn start(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = move || listener.accept().ok().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>);
        Self { port, ..Self::serve(format!("http://127.0.0.1:{port}"), accept, serve) }
    }

    /// Answers every request.
    pub(super) fn echo() -> Self {
        Self::start(Peer::pongs)
    }

    /// The same on a UNIX socket.
    pub(super) fn unix() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let accept = move || listener.accept().ok().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>);
        let server = Self::serve(format!("http+unix://{}", path.display()), accept, Peer::pongs);
        Self { _directory: Some(directory), ..server }
    }

    /// Serves what `accept` gives.
    pub(super) fn serve(
        base: String,
        accept: impl Fn() -> Option<Box<dyn Stream>> + Send + 'static,
        serve: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Self {
        let (seen, ended) = (Arc::default(), Arc::default());
        let server =
            Self { base, port: 0, seen: Arc::clone(&seen), ended: Arc::clone(&ended), _directory: None };
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            let mut number = 0;
            while let Some(stream) = accept() {
                let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
                let peer = Peer { stream, number, seen, ended };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(peer));
                number += 1;
            }
        });
        server
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What came so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Lets go who waits in [`Peer::wait_for_end`].
    pub(super) fn end(&self) {
        *self.ended.0.lock().unwrap() = true;
        self.ended.1.notify_all();
    }
}

impl Peer {
    /// Reads one whole request; `None` at the end of the stream.
    pub(super) fn request(&mut self) -> Option<Request> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().trim_end().to_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).ok()?;
        let request = Request { head, body };
        self.seen.lock().unwrap().push(request.clone());
        Some(request)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes);
    }

    /// Is somebody there?
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    pub(super) fn pong(&mut self) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 4\r\n\r\n";
        self.send(format!("{head}pong").as_bytes());
    }

    pub(super) fn pongs(mut self) {
        while self.request().is_some() {
            self.pong();
        }
    }

    /// Waits until a request begins to come.
    pub(super) fn begin(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 1);
    }

    /// Reads what comes until the client closes.
    pub(super) fn wait_for_close(&mut self) {
        while self.stream.read(&mut [0; 4096]).is_ok_and(|count| 0 < count) {}
    }

    /// Reads nothing until the test says so.
    pub(super) fn wait_for_end(&mut self) {
        let mut ended = self.ended.0.lock().unwrap();
        while !*ended {
            ended = self.ended.1.wait(ended).unwrap();
        }
    }
}
