//! How does Prometheus ask? `GET /metrics` on a port of its own, answered on thread 0. (A broker is told by `mqtt`.)
//!
//! The least of HTTP: one request a connection, at most [`CLIENTS_MAX`] at a time, a bounded head, a bounded time. Whoever reaches the
//! port may read and change nothing; it is closed unless asked for, and on the loopback interface unless an address is named.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};

use super::clients::serve_clients;
use super::clock::Clock;
use super::inbox::Inbox;
use super::sensors;
use super::shell::{Event, ShellConfig};
use crate::admin::AdminRequest;
use crate::metrics::{self, Board};

mod mqtt;

/// Clients at a time; a further one is closed at once.
pub const CLIENTS_MAX: usize = 4;
/// Longest head of a request, in bytes; a longer one is not answered.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// From the connection to the end of the answer. Scrapers wait 10 s.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Listens where Prometheus may ask, and tells the broker that is to hear, if there are such.
///
/// # Errors
/// If the address cannot be bound, or the broker cannot be told.
pub(super) fn start(
    config: &ShellConfig,
    clock: &Arc<Clock>,
    executor: &Rc<LocalExecutor<'static>>,
    inbox: &Arc<Inbox<Event>>,
) -> Result<(), String> {
    if let Some(address) = config.metrics {
        listen(address, executor, inbox).map_err(|error| format!("metrics at {address}: {error}"))?;
    }
    let application = &config.application;
    application
        .metrics
        .as_ref()
        .map_or(Ok(()), |broker| mqtt::publish(broker, application, config.boot, clock, executor, inbox))
}

/// The status and what the operating system says; `None` if the node is about to end.
async fn measured(inbox: &Inbox<Event>) -> Option<(serde_json::Value, Board)> {
    let (answer, answered) = smol::channel::bounded(1);
    inbox.push(Event::Admin { question: AdminRequest::Status, answer });
    let line = answered.recv().await.ok()?;
    let board = smol::unblock(sensors::read).await;
    Some((serde_json::from_str(&line).unwrap_or_default(), board))
}

/// Listens, and answers with the node's status.
fn listen(
    address: SocketAddr,
    executor: &Rc<LocalExecutor<'static>>,
    inbox: &Arc<Inbox<Event>>,
) -> io::Result<()> {
    let listener = Async::<TcpListener>::bind(address)?;
    log::info!("metrics at http://{}/metrics", listener.get_ref().local_addr()?);
    let inbox = Arc::clone(inbox);
    let serve = move |stream| {
        let inbox = Arc::clone(&inbox);
        async move {
            let too_slow = async {
                smol::Timer::after(ANSWER_TIME_MAX).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            smol::future::or(serve(&stream, &inbox), too_slow).await
        }
    };
    let accept = async move || listener.accept().await.map(|(stream, _)| stream);
    serve_clients("metrics", CLIENTS_MAX, executor, accept, serve, || {});
    Ok(())
}

async fn serve(mut stream: &Async<TcpStream>, inbox: &Inbox<Event>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if count == 0 || HEAD_BYTES_MAX < head.len() {
            return Ok(());
        }
    }
    let (status, body) = match asked_for(&head) {
        Asked::Metrics => {
            let (status, board) = measured(inbox).await.unwrap_or_default();
            ("200 OK", metrics::page(&status, &board))
        }
        Asked::Other => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        Asked::Otherwise => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.close().await
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Other,
    Otherwise,
}

fn asked_for(head: &[u8]) -> Asked {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(path)) if path == b"/metrics" || path.starts_with(b"/metrics?") => Asked::Metrics,
        (Some(b"GET"), Some(_)) => Asked::Other,
        _ => Asked::Otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_by_its_first_line() {
        assert_eq!(asked_for(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"), Asked::Metrics);
        assert_eq!(asked_for(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Asked::Metrics);
        assert_eq!(asked_for(b"GET /metricsx HTTP/1.1\r\n\r\n"), Asked::Other);
        assert_eq!(asked_for(b"POST /metrics HTTP/1.1\r\n\r\n"), Asked::Otherwise);
        assert_eq!(asked_for(b"\xff"), Asked::Otherwise);
    }
}
