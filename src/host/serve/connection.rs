//! How long does a connection live? Until its client ends it, is too slow, or the node stops.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Sleep;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use smol::{Async, Timer};

use super::{CONNECTION_BUFFER_BYTES, HEAD_BYTES_MAX, Shared, exchange};
use crate::host::http::{Counters, Socket, Traffic};
use crate::host::shell::Event;
use crate::http_config::HttpConfig;

/// Serves a client in a task of its own.
pub(super) fn begin(shared: &Rc<Shared>, config: &Arc<HttpConfig>, stream: Async<TcpStream>) {
    let (scratch, sockets) = (Rc::clone(&shared.scratch), Rc::clone(&shared.sockets));
    let socket = Socket::new(Box::pin(stream), true, scratch, sockets);
    if let Some(executor) = shared.executor.upgrade() {
        let (shared, config) = (Rc::clone(shared), Arc::clone(config));
        executor.spawn(serve(shared, config, socket)).detach();
    }
}

async fn serve(shared: Rc<Shared>, config: Arc<HttpConfig>, socket: Socket) {
    let traffic = socket.traffic();
    converse(&shared, &config, socket, &traffic).await;
    if shared.is_stopping() {
        shared.inbox.push(Event::Served);
    }
}

async fn converse(shared: &Rc<Shared>, config: &Arc<HttpConfig>, socket: Socket, traffic: &Traffic) {
    let is_answering = Rc::new(Cell::new(false));
    let service = service_fn(|request| {
        let (shared, config) = (Rc::clone(shared), Arc::clone(config));
        let is_answering = Rc::clone(&is_answering);
        async move {
            is_answering.set(true);
            traffic.begin();
            let response = exchange::answer(&shared, &config, request).await;
            is_answering.set(false);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = Builder::new()
        .timer(Timers)
        .header_read_timeout(shared.times.head)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .max_header_size(HEAD_BYTES_MAX)
        // A board's clock may be unproven, and nobody misses it.
        .auto_date_header(false)
        .serve_connection(socket, service);
    let mut connection = pin!(connection);
    let ended = async {
        // What a client does wrong is told to it, as far as HTTP can.
        let _ended = connection.as_mut().await;
        End::Conversation
    };
    let stop = async {
        shared.until_stop().await;
        End::Node
    };
    let end = smol::future::or(ended, smol::future::or(stop, stalled(shared, traffic))).await;
    if end == End::Node && is_answering.get() {
        connection.as_mut().graceful_shutdown();
        let rest = async {
            let _ended = connection.as_mut().await;
            End::Conversation
        };
        smol::future::or(rest, stalled(shared, traffic)).await;
    }
}

/// Returns when the client has not taken a byte of its answer for too long.
async fn stalled(shared: &Shared, traffic: &Traffic) -> End {
    let write = shared.times.write;
    loop {
        Timer::after(write).await;
        if traffic.is_blocked() && write <= traffic.quiet_since().elapsed() {
            Counters::add(&shared.counters.connections_stalled, 1);
            return End::Stalled;
        }
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Conversation,
    Node,
    Stalled,
}

/// smol's timers, for hyper.
struct Timers;

impl hyper::rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Timer::at(deadline)))
    }
}

struct Sleeping(Timer);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

impl Sleep for Sleeping {}
