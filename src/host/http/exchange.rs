//! What happens during a call? A connection, a request, a response; once more where a redirect says; and an end in time.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, Uri};
use smol::Timer;

use super::body::{self, Encoding};
use super::connection::{self, Connection, Whole};
use super::failure::Failure;
use super::pool::{Origin, Slot};
use super::socket::Traffic;
use super::{Counters, Endpoint, Headers, Shared, redirect};
use crate::remote::call::{Call, CallFailure, CallOutcome};
use crate::remote::config::Transport;
use crate::remote::url::Url;

/// Does a call, to its end.
pub(super) async fn perform(shared: &Rc<Shared>, call: &Call) -> CallOutcome {
    let Some(endpoint) = shared.endpoints.get(call.endpoint.0) else {
        unreachable!("a worker knows only endpoints of the module")
    };
    let exchange = Exchange { shared, endpoint, call, is_connected: Cell::new(false) };
    let answered = match &endpoint.headers {
        Ok(headers) => {
            let late = async {
                Timer::after(endpoint.config.transport.call).await;
                Err(exchange.late())
            };
            smol::future::or(exchange.follow(headers), late).await
        }
        Err(text) => Err(Failure::new(CallFailure::Unreachable, text.as_str())),
    };
    answered.unwrap_or_else(|Failure { kind, text }| CallOutcome::Failed { failure: kind, text })
}

struct Exchange<'a> {
    shared: &'a Rc<Shared>,
    endpoint: &'a Endpoint,
    call: &'a Call,
    /// Did a connection stand?
    is_connected: Cell<bool>,
}

/// A connection with a request under way on it.
struct Lease {
    slot: Slot,
    connection: Connection,
}

impl Exchange<'_> {
    fn transport(&self) -> &Transport {
        &self.endpoint.config.transport
    }

    fn late(&self) -> Failure {
        let time = self.transport().call;
        if self.is_connected.get() {
            Failure::new(CallFailure::TimedOut, format!("no whole answer within {time:?}"))
        } else {
            Failure::new(CallFailure::Unreachable, format!("no connection within {time:?}"))
        }
    }

    /// Asks, and asks again where redirects say.
    async fn follow(&self, headers: &Headers) -> Result<CallOutcome, Failure> {
        let mut url = Arc::clone(&self.call.url);
        let mut redirects = 0;
        loop {
            let (response, lease) = self.ask(&url, headers).await?;
            let redirects_max = self.transport().redirects_max;
            let location = response.headers().get(LOCATION);
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 307 | 308);
            let Some(location) = location.filter(|_| is_redirect && 0 < redirects_max) else {
                return self.answer(response, lease).await;
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            let next = redirect::target(&url, &location);
            let next = next.map_err(|text| {
                Failure::new(CallFailure::Malformed, format!("redirected to `{location}`: {text}"))
            })?;
            if redirects == redirects_max {
                let text = format!("redirected more than {redirects_max} times, at last to {next}");
                return Err(Failure::new(CallFailure::Unreachable, text));
            }
            redirects += 1;
            Counters::add(&self.shared.counters.redirects, 1);
            if response.body().is_end_stream() {
                self.keep(lease);
            }
            url = Arc::new(next);
        }
    }

    /// Sends the request, on an idle connection if there is one, and awaits the head of the response.
    async fn ask(&self, url: &Url, headers: &Headers) -> Result<(Response<Incoming>, Lease), Failure> {
        let counters = &self.shared.counters;
        let origin = Origin::new(self.call.endpoint, url);
        let slot = self.shared.pool.enter(origin, usize::from(self.transport().pool_size));
        if slot.is_beyond {
            Counters::add(&counters.beyond_pool, 1);
        }
        if let Some(mut connection) = slot.reuse(Instant::now()) {
            self.is_connected.set(true);
            Counters::add(&counters.reused, 1);
            let received = connection.traffic.received();
            match self.send(&mut connection, url, headers).await {
                Ok(response) => return Ok((response, Lease { slot, connection })),
                Err(failure) => {
                    let was_closed =
                        failure.kind == CallFailure::Broken && connection.traffic.received() == received;
                    if !was_closed {
                        return Err(failure);
                    }
                    Counters::add(&counters.repeated, 1);
                }
            }
        }
        self.is_connected.set(false);
        let mut connection = connection::open(self.shared, self.endpoint, url).await?;
        self.is_connected.set(true);
        let response = self.send(&mut connection, url, headers).await?;
        Ok((response, Lease { slot, connection }))
    }

    async fn send(
        &self,
        connection: &mut Connection,
        url: &Url,
        headers: &Headers,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(url, headers)?;
        let traffic = Rc::clone(&connection.traffic);
        traffic.begin();
        unless_quiet(self.transport(), &traffic, async {
            connection.ready().await?;
            Ok(connection.sender.send_request(request).await?)
        })
        .await
    }

    fn request(&self, url: &Url, headers: &Headers) -> Result<Request<Whole>, Failure> {
        let unfit = |what: &str| {
            let text = format!("`{what}` cannot be asked for over HTTP");
            Failure::new(CallFailure::Unreachable, text)
        };
        let host = url.host_header();
        let is_own = url.tls == self.call.url.tls && url.server == self.call.url.server;
        let mut request = Request::new(Whole(Some(Bytes::clone(&self.call.body))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(url.path.as_str()).map_err(|_| unfit(&url.path))?;
        *request.headers_mut() = if is_own { headers.own.clone() } else { headers.strangers.clone() };
        let host = HeaderValue::try_from(host.as_str()).map_err(|_| unfit(&host))?;
        request.headers_mut().entry(HOST).or_insert(host);
        Ok(request)
    }

    /// Reads the rest of the response.
    async fn answer(&self, response: Response<Incoming>, lease: Lease) -> Result<CallOutcome, Failure> {
        let (head, mut incoming) = response.into_parts();
        let encoding = Encoding::of(&head.headers)?;
        let bytes_max = self.transport().payload_bytes_max;
        let read = body::collect(&mut incoming, encoding, bytes_max);
        let body = unless_quiet(self.transport(), &lease.connection.traffic, read).await?;
        drop(incoming);
        self.keep(lease);
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(CallOutcome::Answered {
            status: head.status.as_u16(),
            content_type: content_type.map(str::to_owned),
            body,
        })
    }

    fn keep(&self, lease: Lease) {
        let time_max = self.transport().pool_ttl;
        if !time_max.is_zero() && !lease.connection.sender.is_closed() {
            // Connections that were opened together are not to be closed together.
            let jitter = time_max.mul_f64(fastrand::f64() * TTL_JITTER);
            lease.slot.keep(lease.connection, time_max + jitter);
            self.shared.sweep();
        }
    }
}

/// Of the time that a connection is kept, so much is added at random.
const TTL_JITTER: f64 = 0.2;

/// Does `work`, unless nothing moves on its connection for longer than the transport has patience.
async fn unless_quiet<T>(
    transport: &Transport,
    traffic: &Traffic,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(look) = [transport.read, transport.write].into_iter().flatten().min() else {
        return work.await;
    };
    let quiet = async {
        loop {
            let patience = if traffic.is_blocked() { transport.write } else { transport.read };
            let since = traffic.quiet_since().elapsed();
            match patience {
                Some(patience) if patience <= since => return Err(impatient(traffic, patience)),
                Some(patience) => Timer::after((patience - since).min(look)).await,
                None => Timer::after(look).await,
            };
        }
    };
    smol::future::or(work, quiet).await
}

fn impatient(traffic: &Traffic, patience: Duration) -> Failure {
    let text = if traffic.is_blocked() {
        format!("the server took no byte of the request for {patience:?}")
    } else {
        format!("not a byte came for {patience:?}")
    };
    Failure::new(CallFailure::TimedOut, text)
}
