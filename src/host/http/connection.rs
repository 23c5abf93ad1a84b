//! How does a connection come to be? Name resolution, TCP or UNIX socket, TLS, hyper: all of it within `connect`.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_rustls::TlsConnector;
use futures_rustls::rustls::ClientConfig;
use futures_rustls::rustls::pki_types::ServerName;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{Builder, SendRequest};
use smol::{Async, Task, Timer};

use super::failure::Failure;
use super::socket::{Duplex, Socket, Traffic};
use super::{CONNECTION_BUFFER_BYTES, Endpoint, HEAD_BYTES_MAX, Shared, TLS_FILES_AGE_MAX};
use crate::credentials::TlsFiles;
use crate::host::tls;
use crate::remote::call::CallFailure;
use crate::remote::url::{Server, Url};

/// Speaks HTTP; dropping it closes the socket.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Whole>,
    pub(super) traffic: Rc<Traffic>,
    /// Reads and writes for the sender.
    driver: Task<hyper::Result<()>>,
}

impl Connection {
    /// Waits until a request may be sent. If the connection has ended meanwhile, the sender knows only that; the driver knows why, as when
    /// a server looks at a certificate after the handshake.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        if self.sender.ready().await.is_ok() {
            return Ok(());
        }
        (&mut self.driver).await?;
        Err(Failure::new(CallFailure::Broken, "the server closed the connection before the request was sent"))
    }
}

/// Opens a connection to where `url` says.
pub(super) async fn open(shared: &Shared, endpoint: &Endpoint, url: &Url) -> Result<Connection, Failure> {
    let connect = endpoint.config.transport.connect;
    let late = async {
        Timer::after(connect).await;
        let text = format!("no connection within {connect:?}");
        Err(io::Error::new(ErrorKind::TimedOut, text))
    };
    let opened = smol::future::or(stream(endpoint, url), late).await;
    let (stream, is_vectored) = opened.map_err(|error| Failure::unreachable(&error))?;
    let socket = Socket::new(stream, is_vectored, Rc::clone(&shared.scratch), Rc::clone(&shared.counters));
    let traffic = socket.traffic();
    let (sender, connection) = Builder::new()
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .max_header_size(HEAD_BYTES_MAX)
        .handshake(socket)
        .await?;
    let Some(executor) = shared.executor.upgrade() else {
        return Err(Failure::new(CallFailure::Broken, "the node ends"));
    };
    let driver = executor.spawn(connection);
    Ok(Connection { sender, traffic, driver })
}

async fn stream(endpoint: &Endpoint, url: &Url) -> io::Result<(Pin<Box<dyn Duplex>>, bool)> {
    let host = match &url.server {
        Server::Tcp { host, .. } => host.as_str(),
        Server::Unix { .. } => "localhost",
    };
    let tls = if url.tls { Some((tls_config(endpoint).await?, host)) } else { None };
    match &url.server {
        Server::Tcp { host, port } => secure(tcp(host, *port, endpoint).await?, tls).await,
        Server::Unix { path } => secure(unix(path).await?, tls).await,
    }
}

/// Tries one address after the other, each for its share of the time.
async fn tcp(host: &str, port: u16, endpoint: &Endpoint) -> io::Result<Async<TcpStream>> {
    let until = Instant::now() + endpoint.config.transport.connect;
    let addresses: Vec<SocketAddr> = match host.parse() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let name = host.to_owned();
            let resolved = smol::unblock(move || (name.as_str(), port).to_socket_addrs()).await;
            resolved
                .map_err(|error| io::Error::new(error.kind(), format!("host `{host}`: {error}")))?
                .collect()
        }
    };
    let mut failure = io::Error::new(ErrorKind::NotFound, format!("host `{host}` has no address"));
    for (untried, address) in (1..=addresses.len()).rev().zip(&addresses) {
        let left = until.saturating_duration_since(Instant::now());
        let late = async {
            let shares = u32::try_from(untried).unwrap_or(u32::MAX);
            Timer::after(left / shares).await;
            Err(io::Error::new(ErrorKind::TimedOut, "no connection in its share of the time"))
        };
        match smol::future::or(Async::<TcpStream>::connect(*address), late).await {
            Ok(socket) => {
                socket.get_ref().set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failure)
}

async fn unix(path: &Path) -> io::Result<Async<UnixStream>> {
    let opened = Async::<UnixStream>::connect(path).await;
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

async fn secure<S: Duplex + Unpin + 'static>(
    socket: S,
    tls: Option<(Arc<ClientConfig>, &str)>,
) -> io::Result<(Pin<Box<dyn Duplex>>, bool)> {
    let Some((config, host)) = tls else {
        return Ok((Box::pin(socket), true));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| tls::TlsError::Name(host.to_owned()))?;
    let secured = TlsConnector::from(config).connect(name, socket).await;
    let secured = secured.map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}")))?;
    Ok((Box::pin(secured), false))
}

/// What the files say, read beside thread 0: a key's password may cost it a second.
async fn tls_config(endpoint: &Endpoint) -> io::Result<Arc<ClientConfig>> {
    let known = endpoint.tls.borrow().clone();
    if let Some((read, config)) = known
        && read.elapsed() < TLS_FILES_AGE_MAX
    {
        return Ok(config);
    }
    let files: TlsFiles = endpoint.config.transport.tls.clone();
    let mut config = smol::unblock(move || tls::config(&files)).await?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    *endpoint.tls.borrow_mut() = Some((Instant::now(), Arc::clone(&config)));
    Ok(config)
}

/// A request's or an answer's body, in one piece.
pub(in crate::host) struct Whole(pub(in crate::host) Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
