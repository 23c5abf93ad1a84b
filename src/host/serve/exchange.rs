//! What becomes of one request? Its record goes to a worker; its answer is what comes back first, or that time is up.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use smol::Timer;
use smol::channel::{Receiver, Sender};

use super::request::{self, Asked, Refusal};
use super::{BODY_BYTES_MAX, REQUESTS_MAX, Shared, answer};
use crate::host::http::{Counters, Whole};
use crate::host::shell::Event;
use crate::http_config::{HttpConfig, HttpIngress, HttpRole};
use crate::module::suggest;
use crate::typed_value::TypedValue;
use crate::worker::io::{Taken, TakenRecord};

/// What comes back for a record.
pub(super) enum Answer {
    Taken(Taken),
    Replied(TypedValue),
}

/// A record that a worker has not answered, or whose client waits for a reply.
pub(super) struct UnderWay {
    /// Closed once the client has its answer, or is gone.
    answers: Sender<Answer>,
    is_taken: bool,
    is_replied: bool,
    /// Of its body, until it is its worker's.
    bytes: Option<Reserved>,
}

/// Answers a request of a port.
pub(super) async fn answer(
    shared: &Rc<Shared>,
    config: &HttpConfig,
    mut request: Request<Incoming>,
) -> Response<Whole> {
    Counters::add(&shared.counters.requests, 1);
    let answered = match &config.role {
        HttpRole::Ingress(ingress) => take(shared, ingress, &mut request).await,
        HttpRole::PlaygroundEgress { .. } => fetch(shared, &request),
    };
    answered.unwrap_or_else(|refusal| {
        let is_ours = refusal.status == StatusCode::SERVICE_UNAVAILABLE;
        let counters = &shared.counters;
        Counters::add(if is_ours { &counters.unavailable } else { &counters.refused }, 1);
        answer::refused(&refusal)
    })
}

/// A worker says what became of a record.
pub(super) fn taken(shared: &Shared, request: u64, taken: Taken) {
    let mut under_way = shared.under_way.borrow_mut();
    let Some(entry) = under_way.get_mut(&request) else { return };
    entry.is_taken = true;
    entry.bytes = None;
    // What waits has room for both answers.
    if entry.answers.try_send(Answer::Taken(taken)).is_err() {
        Counters::add(&shared.counters.answers_unheard, usize::from(!entry.is_replied));
        under_way.remove(&request);
    }
}

/// A function replies; does anybody still wait?
pub(super) fn replied(shared: &Shared, request: u64, value: TypedValue) -> bool {
    let mut under_way = shared.under_way.borrow_mut();
    let Some(entry) = under_way.get_mut(&request).filter(|entry| !entry.is_replied) else { return false };
    entry.is_replied = entry.answers.try_send(Answer::Replied(value)).is_ok();
    entry.is_replied
}

/// Gives out what waits to be fetched.
fn fetch(shared: &Shared, request: &Request<Incoming>) -> Result<Response<Whole>, Refusal> {
    if *request.method() != Method::GET {
        let text = "records are fetched with `GET /<topic>`";
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let path = request.uri().path();
    let topic = request::percent_decoded(path.strip_prefix('/').unwrap_or(path)).unwrap_or_default();
    let mut queues = shared.queues.borrow_mut();
    match queues.pop(&topic) {
        Ok(Some(payload)) => {
            Counters::add(&shared.counters.fetched, 1);
            Ok(answer::fetched(payload))
        }
        Ok(None) => Ok(answer::text(StatusCode::NOT_FOUND, &format!("nothing waits in `{topic}`"))),
        Err(topics) => {
            let help = suggest::help(&topic, topics.iter().copied());
            Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no topic `{topic}`; {help}")))
        }
    }
}

/// Takes a record in, and says what became of it.
async fn take(
    shared: &Rc<Shared>,
    ingress: &HttpIngress,
    request: &mut Request<Incoming>,
) -> Result<Response<Whole>, Refusal> {
    let begin = Instant::now();
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let asked = request::read(ingress, &shared.application, method, uri, headers)?;
    let bytes_max = ingress.payload_bytes_max;
    let body = within(shared, collect(shared, request.body_mut(), bytes_max)).await?;
    let wait = asked.wait;
    let (waiting, answers) = hand_over(shared, asked, body)?;
    let outcome = outcome(shared, &answers, begin, wait).await;
    drop(waiting);
    let counters = &shared.counters;
    match outcome {
        Answer::Taken(Taken::Accepted) => {
            Counters::add(&counters.accepted, 1);
            Ok(answer::accepted(ingress.dialect, wait))
        }
        Answer::Taken(Taken::Repeated) => {
            Counters::add(&counters.repeated, 1);
            Ok(answer::repeated())
        }
        Answer::Taken(Taken::Refused(text)) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)),
        Answer::Replied(value) => {
            Counters::add(&counters.replied, 1);
            Ok(answer::replied(&value, wait))
        }
    }
}

/// Reads a body, but not for longer than a client may take, and not beyond the node's stop.
async fn within<T>(shared: &Shared, reading: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let body_max = shared.times.body;
    let late = async {
        Timer::after(body_max).await;
        let text = format!("the body did not come within {body_max:?}");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
    };
    let stop = async {
        shared.until_stop().await;
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the node stops"))
    };
    smol::future::or(reading, smol::future::or(late, stop)).await
}

async fn collect(
    shared: &Shared,
    body: &mut Incoming,
    bytes_max: usize,
) -> Result<(Bytes, Reserved), Refusal> {
    let too_large = || {
        let text = format!("the body is longer than {bytes_max} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if bytes_max < announced {
        return Err(too_large());
    }
    let mut reserved = Reserved { total: Rc::clone(&shared.body_bytes), bytes: 0 };
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let broken = |error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"));
        // Trailers say nothing to us.
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes_max - bytes.len() < data.len() {
            return Err(too_large());
        }
        if !reserved.grow(data.len()) {
            let text = "too many bodies are under way";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), reserved))
}

/// Gives a record to its worker; what was dropped with the [`Waiting`] is not waited for.
fn hand_over(
    shared: &Rc<Shared>,
    asked: Asked,
    (body, reserved): (Bytes, Reserved),
) -> Result<(Waiting, Receiver<Answer>), Refusal> {
    let unavailable = |text: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
    let Asked { target, body: body_type, headers, idempotency, wait } = asked;
    let value = body_type.value(body)?;
    if shared.is_stopping() {
        return Err(unavailable("the node stops"));
    }
    if REQUESTS_MAX <= shared.under_way.borrow().len() {
        return Err(unavailable("too many requests are under way"));
    }
    let request = shared.records.get();
    shared.records.set(request + 1);
    let reply_to = wait.and_then(|_| shared.waiter_of(request));
    let (sender, answers) = smol::channel::bounded(2);
    let entry = UnderWay { answers: sender, is_taken: false, is_replied: false, bytes: Some(reserved) };
    let earlier = shared.under_way.borrow_mut().insert(request, entry);
    assert!(earlier.is_none(), "a request's number is its own");
    let record = TakenRecord { target, value, headers, idempotency, reply_to };
    shared.inbox.push(Event::Take { request, record });
    Ok((Waiting { shared: Rc::clone(shared), request }, answers))
}

/// What a client is to hear: the reply, or what the worker says once no reply can come in time.
async fn outcome(
    shared: &Shared,
    answers: &Receiver<Answer>,
    begin: Instant,
    wait: Option<Duration>,
) -> Answer {
    let mut is_accepted = false;
    loop {
        let until = if is_accepted { begin + wait.unwrap_or_default() } else { begin + shared.times.commit };
        let came = async { answers.recv().await.ok() };
        let late = async {
            Timer::at(until).await;
            None
        };
        let stop = async {
            if !is_accepted {
                // Workers commit before they stop.
                std::future::pending::<()>().await;
            }
            shared.until_stop().await;
            None
        };
        match smol::future::or(came, smol::future::or(late, stop)).await {
            Some(Answer::Taken(Taken::Accepted)) if wait.is_some() => is_accepted = true,
            Some(answer) => return answer,
            None if is_accepted => return Answer::Taken(Taken::Accepted),
            None => {
                let text = "not known to be durable in time; it may become so: send it again with the same \
                            `idempotency-key`";
                return Answer::Taken(Taken::Refused(text.to_owned()));
            }
        }
    }
}

/// A client that waits; dropped when it has its answer or is gone.
struct Waiting {
    shared: Rc<Shared>,
    request: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way.borrow_mut();
        match under_way.get(&self.request) {
            // Its worker still has to say so: until then it counts.
            Some(entry) if !entry.is_taken => drop(entry.answers.close()),
            _ => drop(under_way.remove(&self.request)),
        }
    }
}

/// Bytes of a body, as part of all that are under way.
struct Reserved {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Reserved {
    fn grow(&mut self, bytes: usize) -> bool {
        let fits = bytes <= BODY_BYTES_MAX - self.total.get();
        if fits {
            self.bytes += bytes;
            self.total.set(self.total.get() + bytes);
        }
        fits
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}
