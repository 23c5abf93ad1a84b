//! Against servers that misbehave in one way each, on loopback.

mod server;
mod tls;

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;

use self::server::Server;
use super::*;
use crate::credentials::{Secret, TlsFiles};
use crate::remote::call::{CallFailure, CallNumber, CallOutcome, EndpointIndex};
use crate::remote::config::{BatchLimits, OnFailure, RetryPolicy, Served, Transport, UrlTemplate};
use crate::remote::url::Url;

const PAYLOAD_BYTES_MAX: usize = 100_000;
/// Long enough that a test that should not meet it fails by it, and no machine is too slow.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

fn transport() -> Transport {
    Transport {
        call: LONG,
        connect: LONG,
        read: None,
        write: None,
        pool_size: 8,
        pool_ttl: LONG,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
        redirects_max: 3,
        tls: TlsFiles::default(),
        headers: vec![("authorization".to_owned(), Secret("Bearer x".to_owned()))],
    }
}

/// A client with one endpoint, and what it answers.
struct Client {
    executor: Rc<LocalExecutor<'static>>,
    inbox: Arc<Inbox<Event>>,
    http: HttpClient,
    calls: u64,
}

impl Client {
    fn new(transport: Transport) -> Self {
        let (executor, inbox) = (Rc::new(LocalExecutor::new()), Arc::new(Inbox::default()));
        let config = EndpointConfig {
            functions: Served::Namespace("test".to_owned()),
            url: UrlTemplate::parse("http://unused/").unwrap(),
            batch: BatchLimits { invocations_max: 1, bytes_max: 1 },
            transport,
            retry: RetryPolicy {
                attempts_max: 1,
                backoff_first: LONG,
                backoff_max: LONG,
                down_statuses: vec![],
            },
            on_failure: OnFailure::DeadLetter,
        };
        let http = HttpClient::new(vec![Arc::new(config)], &executor, Arc::clone(&inbox));
        Self { executor, inbox, http, calls: 0 }
    }

    /// Asks so many times at once; the answers come in the order of the questions.
    fn ask_all(&mut self, url: &str, bodies: &[Bytes]) -> Vec<CallOutcome> {
        let first = self.calls;
        let url = Arc::new(Url::parse(url).unwrap());
        for body in bodies {
            let (number, endpoint) = (CallNumber(self.calls), EndpointIndex(0));
            let call = Call { number, endpoint, url: Arc::clone(&url), body: body.clone() };
            self.http.call(WorkerIndex(3), call);
            self.calls += 1;
        }
        let mut outcomes: Vec<Option<CallOutcome>> = vec![None; bodies.len()];
        let mut events = VecDeque::new();
        smol::block_on(self.executor.run(async {
            while outcomes.iter().any(Option::is_none) {
                std::future::poll_fn(|context| match self.inbox.is_ready(context.waker()) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                })
                .await;
                self.inbox.take(&mut events);
                for event in events.drain(..) {
                    let Event::Called { worker: WorkerIndex(3), call, outcome } = event else {
                        unreachable!()
                    };
                    let place = &mut outcomes[usize::try_from(call.0 - first).unwrap()];
                    assert!(place.replace(outcome).is_none(), "answered twice");
                }
            }
        }));
        outcomes.into_iter().map(Option::unwrap).collect()
    }

    fn ask(&mut self, url: &str) -> CallOutcome {
        self.ask_all(url, &[Bytes::from_static(b"ping")]).remove(0)
    }

    /// Lets the client's tasks run until `is_so`.
    fn run_until(&mut self, is_so: impl Fn(&HttpClient) -> bool) {
        smol::block_on(self.executor.run(async {
            while !is_so(&self.http) {
                smol::future::yield_now().await;
            }
        }));
    }

    fn count(&self, name: &str) -> u64 {
        self.http.status()[name].as_u64().unwrap()
    }
}

fn answered(status: u16, content_type: &str, body: &[u8]) -> CallOutcome {
    let content_type = Some(content_type.to_owned()).filter(|it| !it.is_empty());
    CallOutcome::Answered { status, content_type, body: Bytes::copy_from_slice(body) }
}

const OCTETS: &str = "application/octet-stream";

fn pong() -> CallOutcome {
    answered(200, OCTETS, b"pong")
}

#[track_caller]
fn check_failed(outcome: CallOutcome, expected: CallFailure, words: &str) {
    let CallOutcome::Failed { failure, text } = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure, expected, "{text}");
    assert!(text.contains(words), "{text}");
}

/// The outcome of one call to a server that answers every request with these bytes and closes.
fn say(response: &[u8]) -> CallOutcome {
    let response = response.to_vec();
    let server = Server::start(move |mut peer| {
        peer.request();
        peer.send(&response);
    });
    let mut client = Client::new(transport());
    let outcome = client.ask(&server.url("/"));
    client.run_until(|http| http.status()["connections_open"] == 0);
    outcome
}

fn compressed(encoding: &str, body: &[u8]) -> CallOutcome {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {OCTETS}\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    say(&[head.as_bytes(), body].concat())
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_request_is_what_statefun_sends() {
    let server = Server::echo();
    let mut client = Client::new(transport());
    assert_eq!(client.ask(&server.url("/a?b=c")), pong());
    let request = server.requests().remove(0);
    let mut lines: Vec<String> = request.head.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /a?b=c HTTP/1.1");
    lines.sort();
    let host = format!("host: 127.0.0.1:{}", server.port);
    assert_eq!(
        lines,
        [
            "accept-encoding: gzip,deflate",
            "accept: application/octet-stream",
            "authorization: Bearer x",
            "connection: keep-alive",
            "content-length: 4",
            "content-type: application/octet-stream",
            &host,
            "user-agent: statefun",
        ]
    );
    assert_eq!(request.body, b"ping");
}

#[test]
fn headers_that_frame_a_message_cannot_be_configured() {
    let mut transport = transport();
    transport.headers = vec![("Content-Length".to_owned(), Secret("7".to_owned()))];
    let outcome = Client::new(transport).ask("http://127.0.0.1:1/");
    check_failed(outcome, CallFailure::Unreachable, "`Content-Length` cannot be sent");
}

#[test]
fn whatever_a_server_says_is_its_answer() {
    assert_eq!(say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"), answered(404, "", b"no"));
    let text = b"HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    assert_eq!(say(text), answered(500, "text/plain", b"abc"));
    assert_eq!(say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), answered(200, "", b""));
    assert_eq!(say(b"HTTP/1.1 204 OK\r\n\r\n"), answered(204, "", b""));
    assert_eq!(say(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"), answered(200, "", b"until the end"));
    assert_eq!(
        say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"),
        answered(200, "", b"x")
    );
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut client = Client::new(transport());
    check_failed(client.ask(&format!("http://127.0.0.1:{port}/")), CallFailure::Unreachable, "refused");
    let outcome = client.ask(&format!("http://localhost:{port}/"));
    check_failed(outcome, CallFailure::Unreachable, "refused");
    check_failed(
        client.ask("http://no.such.host.invalid/"),
        CallFailure::Unreachable,
        "no.such.host.invalid",
    );
    check_failed(client.ask("http+unix:///no/such.sock/"), CallFailure::Unreachable, "/no/such.sock");
    assert_eq!(client.count("connections_opened"), 0);
}

#[test]
fn what_is_no_response_is_malformed() {
    check_failed(say(b"SSH-2.0-OpenSSH\r\n\r\n"), CallFailure::Malformed, "HTTP");
    check_failed(say(b"HTTP/1.1 abc\r\n\r\n"), CallFailure::Malformed, "HTTP");
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n";
    check_failed(say(chunked), CallFailure::Malformed, "");
    let many: String = (0..101).map(|number| format!("x-{number}: y\r\n")).collect();
    check_failed(say(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()), CallFailure::Malformed, "");
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    check_failed(say(long.as_bytes()), CallFailure::Malformed, "");
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(10 * CONNECTION_BUFFER_BYTES));
    check_failed(say(endless.as_bytes()), CallFailure::Malformed, "");
}

#[test]
fn a_response_that_breaks_off_is_broken() {
    check_failed(say(b""), CallFailure::Broken, "");
    check_failed(say(b"HTTP/1.1 200"), CallFailure::Broken, "");
    check_failed(say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"), CallFailure::Broken, "");
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc";
    check_failed(say(chunked), CallFailure::Broken, "");
}

#[test]
fn a_response_beyond_the_bound_is_too_large() {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let most = vec![b'x'; PAYLOAD_BYTES_MAX];
    let whole = [head(PAYLOAD_BYTES_MAX).as_bytes(), &most].concat();
    assert_eq!(say(&whole), answered(200, "", &most), "as much as is allowed");
    let too_large = |outcome| check_failed(outcome, CallFailure::TooLarge, "100000 bytes");
    too_large(say(head(PAYLOAD_BYTES_MAX + 1).as_bytes()));
    let chunk = [b"3e8\r\n", &vec![b'x'; 1000][..], b"\r\n"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    too_large(say(&[&chunked[..], &chunk.repeat(101)].concat()));
    too_large(say(&[&b"HTTP/1.0 200 OK\r\n\r\n"[..], &most, b"x"].concat()));
    let bomb = vec![0; 50 * PAYLOAD_BYTES_MAX];
    too_large(compressed("gzip", &gzip(&bomb)));
    too_large(compressed("deflate", &zlib(&bomb)));
}

#[test]
fn compressed_bodies_are_read() {
    let plain: Vec<u8> =
        (0..90_000_u32).map(|number| (number.wrapping_mul(number) / 7).to_le_bytes()[0]).collect();
    assert_eq!(compressed("gzip", &gzip(&plain)), answered(200, OCTETS, &plain));
    assert_eq!(compressed("X-GZIP", &gzip(b"")), answered(200, OCTETS, b""));
    assert_eq!(compressed("deflate", &zlib(&plain)), answered(200, OCTETS, &plain));
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    assert_eq!(compressed("deflate", &encoder.finish().unwrap()), answered(200, OCTETS, &plain), "bare");
    assert_eq!(compressed("identity", b"x"), answered(200, OCTETS, b"x"));
    assert_eq!(compressed("gzip", b""), answered(200, OCTETS, b""), "nothing at all is nothing");
}

#[test]
fn bodies_that_are_not_compressed_as_they_say_are_malformed() {
    let malformed = |outcome| check_failed(outcome, CallFailure::Malformed, "compressed");
    let plain = b"plain text that is no stream of any kind";
    for (encoding, whole) in [("gzip", gzip(plain)), ("deflate", zlib(plain))] {
        malformed(compressed(encoding, plain));
        for cut in [1, 5, whole.len() / 2, whole.len() - 5] {
            malformed(compressed(encoding, &whole[..cut]));
        }
        malformed(compressed(encoding, &[&whole[..], b"more"].concat()));
    }
    malformed(compressed("br", plain));
    malformed(compressed("gzip, deflate", plain));
}

#[test]
fn a_server_that_hangs_ends_by_the_call_time() {
    let server = Server::start(|mut peer| {
        peer.request();
        peer.wait_for_close();
    });
    let mut client = Client::new(Transport { call: SHORT, ..transport() });
    check_failed(client.ask(&server.url("/")), CallFailure::TimedOut, "no whole answer within 100ms");
    client.run_until(|http| http.status()["connections_open"] == 0);
}

#[test]
fn a_slow_loris_ends_by_the_call_time() {
    let server = Server::start(|mut peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        while peer.try_send(b"x") {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut client = Client::new(Transport { call: 2 * SHORT, read: Some(SHORT), ..transport() });
    check_failed(client.ask(&server.url("/")), CallFailure::TimedOut, "no whole answer");
}

#[test]
fn silence_ends_by_the_read_time() {
    let server = Server::start(|mut peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
        peer.wait_for_close();
    });
    let mut client = Client::new(Transport { read: Some(SHORT), write: Some(LONG), ..transport() });
    check_failed(client.ask(&server.url("/")), CallFailure::TimedOut, "not a byte came for 100ms");
}

#[test]
fn a_server_that_does_not_read_ends_by_the_write_time() {
    let server = Server::start(|mut peer| peer.wait_for_end());
    let mut client = Client::new(Transport { read: Some(LONG), write: Some(SHORT), ..transport() });
    let outcome = client.ask_all(&server.url("/"), &[vec![0; 32 << 20].into()]).remove(0);
    check_failed(outcome, CallFailure::TimedOut, "took no byte of the request for 100ms");
    client.run_until(|http| http.status()["connections_open"] == 0);
    server.end();
}

#[test]
fn a_server_that_answers_before_it_has_read_is_heard() {
    let server = Server::start(|mut peer| {
        peer.begin();
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        peer.wait_for_close();
    });
    let outcome = Client::new(transport()).ask_all(&server.url("/"), &[vec![0; 1 << 20].into()]).remove(0);
    assert_eq!(outcome, answered(413, "", b""));
}

#[test]
fn redirects_keep_method_and_body() {
    for status in [301, 302, 307, 308] {
        let server = Server::start(move |mut peer| {
            while let Some(request) = peer.request() {
                if request.head.starts_with("POST /first/") {
                    let head = format!("HTTP/1.1 {status} X\r\nlocation: /then\r\ncontent-length: 0\r\n\r\n");
                    peer.send(head.as_bytes());
                } else {
                    peer.pong();
                }
            }
        });
        let mut client = Client::new(transport());
        assert_eq!(client.ask(&server.url("/first/")), pong());
        let requests = server.requests();
        assert!(requests[1].head.starts_with("POST /then HTTP/1.1"), "{status}");
        assert!(requests[1].head.contains("Bearer x"), "the same server");
        assert_eq!(requests[1].body, b"ping");
        assert_eq!(client.count("connections_opened"), 1);
    }
}

#[test]
fn a_redirect_takes_no_secret_elsewhere() {
    let other = Server::echo();
    let location = other.url("/there");
    let server = Server::start(move |mut peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 307 X\r\nlocation: {location}\r\n\r\n").as_bytes());
    });
    assert_eq!(Client::new(transport()).ask(&server.url("/")), pong());
    let request = other.requests().remove(0);
    assert!(!request.head.contains("authorization"), "{}", request.head);
    assert!(request.head.contains("user-agent: statefun"), "{}", request.head);
    assert!(request.head.contains(&format!("host: 127.0.0.1:{}", other.port)), "{}", request.head);
}

#[test]
fn endless_redirects_end() {
    let server = Server::start(|mut peer| {
        while peer.request().is_some() {
            peer.send(b"HTTP/1.1 307 X\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut client = Client::new(transport());
    let outcome = client.ask(&server.url("/"));
    check_failed(
        outcome,
        CallFailure::Unreachable,
        "redirected more than 3 times, at last to http://127.0.0.1",
    );
    assert_eq!(server.requests().len(), 4);
    check_failed(say(b"HTTP/1.1 307 X\r\nlocation: gopher://x/\r\n\r\n"), CallFailure::Malformed, "gopher");
    assert_eq!(say(b"HTTP/1.1 302 X\r\n\r\n"), answered(302, "", b""), "it says nowhere to go");
}

#[test]
fn redirects_that_are_not_followed_are_answers() {
    assert_eq!(say(b"HTTP/1.1 303 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"), answered(303, "", b""));
    let server = Server::start(|mut peer| {
        peer.request();
        peer.send(b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n");
    });
    let mut client = Client::new(Transport { redirects_max: 0, ..transport() });
    assert_eq!(client.ask(&server.url("/")), answered(307, "", b""));
}

#[test]
fn eight_connections_serve_two_hundred_requests() {
    let server = Server::echo();
    let mut client = Client::new(transport());
    for _ in 0..25 {
        let bodies = vec![Bytes::from_static(b"ping"); 8];
        assert_eq!(client.ask_all(&server.url("/"), &bodies), vec![pong(); 8]);
    }
    assert_eq!(client.count("calls"), 200);
    assert_eq!(client.count("connections_opened"), 8);
    assert_eq!(client.count("connections_reused"), 192);
    assert_eq!(client.count("connections_open"), 8);
    assert_eq!(client.count("calls_beyond_the_pool"), 0);
    assert_eq!(server.requests().len(), 200);
}

#[test]
fn what_exceeds_the_pool_is_served_and_counted() {
    let server = Server::echo();
    let mut client = Client::new(Transport { pool_size: 2, ..transport() });
    let bodies = vec![Bytes::from_static(b"ping"); 5];
    assert_eq!(client.ask_all(&server.url("/"), &bodies), vec![pong(); 5]);
    assert_eq!(client.count("calls_beyond_the_pool"), 3);
    client.run_until(|http| http.status()["connections_open"].as_u64() <= Some(2));
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_noticed() {
    // Answers once a connection, and closes it only when the next request has come.
    let server = Server::start(|mut peer| {
        peer.request();
        peer.pong();
        peer.request();
    });
    let mut client = Client::new(transport());
    for _ in 0..3 {
        assert_eq!(client.ask(&server.url("/")), pong());
    }
    assert_eq!(client.count("calls_repeated_on_a_fresh_connection"), 2);
    assert_eq!(client.count("connections_opened"), 3);
}

#[test]
fn a_connection_seen_to_be_closed_is_not_used() {
    let server = Server::start(|mut peer| {
        peer.request();
        peer.pong();
    });
    let mut client = Client::new(transport());
    for opened in 1..4 {
        assert_eq!(client.ask(&server.url("/")), pong());
        client.run_until(|http| http.status()["connections_open"] == 0);
        assert_eq!(client.count("connections_opened"), opened);
    }
    assert_eq!(client.count("connections_reused"), 0);
}

#[test]
fn a_request_is_repeated_once_and_only_if_nothing_came() {
    let server = Server::start(|mut peer| {
        peer.request();
        if peer.number == 0 {
            peer.pong();
            peer.request();
            peer.send(b"HTTP/1.1 2");
        }
    });
    let mut client = Client::new(transport());
    assert_eq!(client.ask(&server.url("/")), pong());
    check_failed(client.ask(&server.url("/")), CallFailure::Broken, "");
    check_failed(client.ask(&server.url("/")), CallFailure::Broken, "");
    assert_eq!(client.count("calls_repeated_on_a_fresh_connection"), 0);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn idle_connections_are_closed_in_time() {
    let server = Server::echo();
    let mut client = Client::new(Transport { pool_ttl: SHORT, ..transport() });
    assert_eq!(client.ask(&server.url("/")), pong());
    assert_eq!(client.count("connections_open"), 1);
    client.run_until(|http| http.status()["connections_open"] == 0);

    let mut client = Client::new(Transport { pool_ttl: Duration::ZERO, ..transport() });
    assert_eq!(client.ask(&server.url("/")), pong());
    client.run_until(|http| http.status()["connections_open"] == 0);
    assert!(server.requests()[1].head.contains("connection: close"));
}

#[test]
fn a_unix_socket_is_as_good() {
    let server = Server::unix();
    let mut client = Client::new(transport());
    for _ in 0..2 {
        assert_eq!(client.ask(&server.url("/path?query")), pong());
    }
    let request = server.requests().remove(0);
    assert!(request.head.starts_with("POST /path?query HTTP/1.1"), "{}", request.head);
    assert!(request.head.contains("host: localhost"), "{}", request.head);
    assert_eq!(client.count("connections_opened"), 1);
}

#[test]
fn a_large_body_goes_both_ways() {
    let server = Server::start(|mut peer| {
        while let Some(request) = peer.request() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
            peer.send(&[head.as_bytes(), &request.body].concat());
        }
    });
    let bytes_max = 8 << 20;
    let mut client = Client::new(Transport { payload_bytes_max: bytes_max, ..transport() });
    let bodies: Vec<Bytes> =
        (0..4_u8).map(|number| vec![number; bytes_max - usize::from(number)].into()).collect();
    let outcomes = client.ask_all(&server.url("/"), &bodies);
    for (body, outcome) in bodies.iter().zip(outcomes) {
        assert!(outcome == answered(200, "", body));
    }
}

#[test]
fn a_connection_that_ends_before_the_request_says_why() {
    let server = Server::start(|mut peer| peer.send(b"SSH-2.0-OpenSSH_9.2\r\n"));
    let client = Client::new(transport());
    let (shared, url) = (&client.http.shared, Url::parse(&server.url("/")).unwrap());
    let failure = smol::block_on(client.executor.run(async {
        let mut connection = connection::open(shared, &shared.endpoints[0], &url).await.unwrap();
        while !connection.sender.is_closed() {
            smol::future::yield_now().await;
        }
        connection.ready().await.unwrap_err()
    }));
    assert!(failure.text.contains("message"), "{failure:?}");
}
