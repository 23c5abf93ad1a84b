//! What is the cheapest process with functions? One thread with all connections, and replies whose bytes are prepared.
//!
//! It reads a request as it must to be right: where its body ends, how many invocations are in it, and its state. The reply holds the
//! state, so many more, and an egress message for each invocation; only those 8 bytes differ from one reply to the next of its length.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fogfun::Value;
use fogfun::remote::protobuf::{Field, Reader};
use fogfun::sim::endpoint::wire;
use prost::Message as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// The thread, which runs until the process ends.
pub struct Endpoint {
    pub port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    thread: AtomicI32,
    calls: AtomicU64,
    invocations: AtomicU64,
}

/// The only state, with a value of 8 bytes.
pub const STATE: &str = "count";
const LISTENER: u64 = u64::MAX;
/// Stands where a reply has its state; no other 8 bytes of it are these.
const MARK: i64 = 0x1122_3344_5566_7788;

impl Endpoint {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        std::thread::spawn(move || serve(&listener, &counted));
        Self { port, counts }
    }

    /// Requests answered.
    pub fn calls(&self) -> u64 {
        self.counts.calls.load(Ordering::Acquire)
    }

    /// Invocations in them, without those that were asked again for want of states.
    pub fn invocations(&self) -> u64 {
        self.counts.invocations.load(Ordering::Acquire)
    }

    /// Time of its thread on a CPU.
    pub fn busy(&self) -> Duration {
        on_cpu(&format!("/proc/self/task/{}/schedstat", self.counts.thread.load(Ordering::Relaxed)))
    }
}

/// Time of this thread on a CPU.
pub fn own_busy() -> Duration {
    on_cpu("/proc/thread-self/schedstat")
}

fn on_cpu(path: &str) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn serve(listener: &TcpListener, counts: &Counts) {
    counts.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, listener.as_fd(), EventData::new_u64(LISTENER), EventFlags::IN).unwrap();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut replies = Replies::new();
    let mut events = Vec::with_capacity(64);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        for event in events.drain(..) {
            let at = event.data.u64();
            if at == LISTENER {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
                let data = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, stream.as_fd(), data, EventFlags::IN).unwrap();
                connections.push(Some(Connection { stream, request: vec![0; 64 * 1024], filled: 0 }));
                continue;
            }
            let place = &mut connections[usize::try_from(at).unwrap()];
            let is_open = place.as_mut().unwrap().answer(&mut replies, counts);
            if !is_open {
                *place = None;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Reads what there is and answers it once it is whole; is the connection still there?
    fn answer(&mut self, replies: &mut Replies, counts: &Counts) -> bool {
        match self.stream.read(&mut self.request[self.filled..]) {
            Ok(0) => return false,
            Ok(count) => self.filled += count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let request = &self.request[..self.filled];
        let Some(head) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return true };
        let (head, body) = request.split_at(head + 4);
        let length = content_length(head);
        if body.len() < length {
            self.request.resize(self.request.len().max(head.len() + length + 1), 0);
            return true;
        }
        assert_eq!(body.len(), length, "one request at a time");
        let (reply, invocations) = replies.to(body);
        counts.calls.fetch_add(1, Ordering::Release);
        counts.invocations.fetch_add(invocations, Ordering::Release);
        self.filled = 0;
        let mut rest = reply;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
        true
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    std::str::from_utf8(&line.unwrap()[NAME.len()..]).unwrap().trim().parse().unwrap()
}

/// What is answered, head and all.
struct Replies {
    missing: Vec<u8>,
    /// By the number of invocations, with the place of the state.
    done: Vec<Option<(Vec<u8>, usize)>>,
}

impl Replies {
    fn new() -> Self {
        let missing = wire::PersistedValueSpec {
            state_name: STATE.to_owned(),
            expiration_spec: None,
            type_typename: i64::TYPENAME.to_owned(),
        };
        let context = wire::IncompleteInvocationContext { missing_values: vec![missing] };
        let missing =
            wire::FromFunction { incomplete_invocation_context: Some(context), ..Default::default() };
        Self { missing: with_head(&missing), done: Vec::new() }
    }

    /// The answer to this request, and how many invocations are in it.
    fn to(&mut self, body: &[u8]) -> (&[u8], u64) {
        let batch = Reader::new(body).next().unwrap().unwrap().bytes().unwrap();
        let (mut state, mut invocations) = (None, 0);
        for field in Reader::new(batch).map(Result::unwrap) {
            match field.number {
                2 => state = Some(count_of(field)),
                3 => invocations += 1,
                _ => {}
            }
        }
        let Some(count) = state else { return (&self.missing, 0) };
        if self.done.len() <= invocations {
            self.done.resize_with(invocations + 1, || None);
        }
        let (reply, at) = self.done[invocations].get_or_insert_with(|| done(invocations));
        reply[*at..*at + 8].copy_from_slice(&(count + invocations as i64).to_le_bytes());
        (reply, invocations as u64)
    }
}

/// A `PersistedValue`'s number: none, or the last 8 bytes of all.
fn count_of(state: Field<'_>) -> i64 {
    let state = state.bytes().unwrap();
    let has_value = Reader::new(state).map(Result::unwrap).any(|field| field.number == 2);
    if has_value { i64::from_le_bytes(*state.last_chunk().unwrap()) } else { 0 }
}

/// The answer to so many invocations, and where its state is.
fn done(invocations: usize) -> (Vec<u8>, usize) {
    let value = |number: i64| wire::TypedValue {
        typename: i64::TYPENAME.to_owned(),
        has_value: true,
        value: Bytes::copy_from_slice(&Value::encode(&number)),
    };
    let mutation = wire::PersistedValueMutation {
        mutation_type: 1,
        state_name: STATE.to_owned(),
        state_value: Some(value(MARK)),
    };
    let egress = wire::EgressMessage {
        egress_namespace: "bench".to_owned(),
        egress_type: "out".to_owned(),
        argument: Some(value(1)),
    };
    let result = wire::InvocationResponse {
        state_mutations: vec![mutation],
        outgoing_egresses: vec![egress; invocations],
        ..Default::default()
    };
    let reply = with_head(&wire::FromFunction { invocation_result: Some(result), ..Default::default() });
    let at = reply.windows(8).position(|window| window == MARK.to_le_bytes()).unwrap();
    (reply, at)
}

fn with_head(message: &wire::FromFunction) -> Vec<u8> {
    crate::rig::http::response(200, "application/octet-stream", &message.encode_to_vec())
}
