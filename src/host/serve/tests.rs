//! Against clients that misbehave in one way each, on loopback; the workers are played by hand.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::function::{Context, FunctionError, StatefulFunction};
use crate::module::{Module, Specification};
use crate::worker::io::TakenRecord;

struct Nothing;

impl StatefulFunction for Nothing {
    fn invoke(&mut self, _: &mut Context<'_>, _: &TypedValue) -> Result<(), FunctionError> {
        Ok(())
    }
}

const YAML: &str = "\
kind: fogfun.http.v1/ingress
spec: {id: test/records, port: 1, payloadBytesMax: 4000}
---
kind: io.statefun.playground.v1/egress
spec: {port: 2, topics: [greetings]}
";

/// Long enough that a test that should not meet it fails by it, and no machine is too slow.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

const PATIENT: Times = Times { head: LONG, body: LONG, write: LONG, commit: LONG };

/// A server, its inbox, and where it listens.
struct Rig {
    executor: Rc<LocalExecutor<'static>>,
    inbox: Arc<Inbox<Event>>,
    server: HttpServer,
    ports: Vec<u16>,
    events: VecDeque<Event>,
}

impl Rig {
    fn new(times: Times) -> Self {
        let specification = Specification::parse("module.yaml", YAML, &|_| None);
        let module = Module::new().function("test/fridge", || Nothing);
        let linked = specification.and_then(|specification| Application::link(module, specification));
        let application = Arc::new(linked.unwrap_or_else(|errors| panic!("{errors}")));
        let (executor, inbox) = (Rc::new(LocalExecutor::new()), Arc::new(Inbox::default()));
        let mut server = HttpServer::new(Arc::clone(&application), 7, &executor, Arc::clone(&inbox));
        let shared = Rc::get_mut(&mut server.shared).unwrap();
        shared.times = times;
        let mut ports = Vec::new();
        for config in &application.http {
            let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
            ports.push(listener.get_ref().local_addr().unwrap().port());
            server.serve(Arc::clone(config), listener);
        }
        Self { executor, inbox, server, ports, events: VecDeque::new() }
    }

    /// Runs the server until something holds.
    fn run_until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let begin = std::time::Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < LONG, "{:?}", self.server);
            let executor = Rc::clone(&self.executor);
            smol::block_on(executor.run(async { Timer::after(Duration::from_millis(1)).await }));
            self.inbox.take(&mut self.events);
        }
    }

    fn next_taken(&mut self) -> (u64, TakenRecord) {
        let mut found = None;
        self.run_until(|rig| {
            while let Some(event) = rig.events.pop_front() {
                if let Event::Take { request, record } = event {
                    found = Some((request, record));
                    return true;
                }
            }
            false
        });
        found.unwrap()
    }

    /// A client that writes this and reads to the end, or to the end of its answers.
    fn client(&self, port: usize, request: impl Into<Vec<u8>>) -> Client {
        let (port, request) = (self.ports[port], request.into());
        let (sender, came) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            // A server may have heard enough before all is sent.
            let _heard_enough = stream.write_all(&request);
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Client { came, heard: String::new(), thread: Some(thread) }
    }

    fn hears(&mut self, client: &mut Client, text: &str) {
        self.run_until(|_| {
            client.heard.extend(client.came.try_iter());
            client.heard.contains(text) || client.thread.as_ref().unwrap().is_finished()
        });
        client.heard.extend(client.came.try_iter());
        assert!(client.heard.contains(text), "`{text}` is not in: {}", client.heard);
    }

    fn sees_the_end(&mut self, client: &mut Client) {
        self.run_until(|_| client.thread.as_ref().unwrap().is_finished());
        client.heard.extend(client.came.try_iter());
    }

    fn count(&self, name: &str) -> u64 {
        self.server.status()[name].as_u64().unwrap()
    }
}

struct Client {
    came: mpsc::Receiver<String>,
    heard: String,
    thread: Option<JoinHandle<()>>,
}

const PATH: &str = "/test/fridge/1";

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

const TEXT: &str = "content-type: text/plain\r\n";
const WAIT: &str = "content-type: text/plain\r\nprefer: wait=20\r\n";

#[test]
fn a_record_is_accepted_when_its_worker_says_so_and_not_before() {
    let mut rig = Rig::new(PATIENT);
    let mut client = rig.client(0, post(PATH, TEXT, "hi"));
    let (request, record) = rig.next_taken();
    assert_eq!(record.target.to_string(), "test/fridge/1");
    assert_eq!((record.value, record.reply_to, record.headers), ("hi".into(), None, None));
    rig.run_until(|rig| rig.count("requests_under_way") == 1);
    assert!(client.came.try_recv().is_err(), "nobody has said anything");
    assert_eq!(rig.count("body_bytes_under_way"), 2);
    rig.server.taken(request, Taken::Accepted);
    rig.hears(&mut client, "HTTP/1.1 202 Accepted\r\n");
    assert!(client.heard.ends_with("\r\n\r\n{\"status\":\"accepted\"}\n"), "{}", client.heard);
    assert_eq!((rig.count("accepted"), rig.count("requests_under_way")), (1, 0));
    assert_eq!(rig.count("body_bytes_under_way"), 0);
}

#[test]
fn repeats_and_refusals_are_told() {
    let mut rig = Rig::new(PATIENT);
    let request = post(PATH, &format!("{TEXT}idempotency-key: k\r\n"), "");
    let mut client = rig.client(0, [request.as_str(), &request].concat());
    let (first, record) = rig.next_taken();
    assert_eq!(record.idempotency, Some((b"k".to_vec(), 32)));
    rig.server.taken(first, Taken::Repeated);
    rig.hears(&mut client, "{\"status\":\"repeated\"}");
    let (second, _) = rig.next_taken();
    rig.server.taken(second, Taken::Refused("the account is full".into()));
    rig.hears(&mut client, "503 Service Unavailable");
    rig.hears(&mut client, "the account is full");
    assert!(client.heard.contains("retry-after: 1\r\n"), "{}", client.heard);
    assert_eq!(rig.count("connections_opened"), 1, "it is kept alive");
}

#[test]
fn who_waits_hears_the_reply() {
    let mut rig = Rig::new(PATIENT);
    for reply_first in [false, true] {
        let mut client = rig.client(0, post(PATH, WAIT, "hi"));
        let (request, record) = rig.next_taken();
        let waiter = record.reply_to.unwrap();
        assert_eq!(waiter.function_type(), &HTTP_TYPE);
        if reply_first {
            // Its worker heard of the commit before the other one.
            rig.server.replied(waiter.id(), "hello".into());
            rig.hears(&mut client, "HTTP/1.1 200 OK\r\n");
            rig.server.taken(request, Taken::Accepted);
        } else {
            rig.server.taken(request, Taken::Accepted);
            rig.run_until(|rig| rig.count("requests_under_way") == 1);
            rig.server.replied(waiter.id(), "hello".into());
            rig.hears(&mut client, "HTTP/1.1 200 OK\r\n");
        }
        rig.hears(&mut client, "\r\n\r\nhello");
        assert!(client.heard.contains("preference-applied: wait=20\r\n"), "{}", client.heard);
        rig.run_until(|rig| rig.count("requests_under_way") == 0);
        rig.server.replied(waiter.id(), "again".into());
    }
    rig.server.replied("0000000000000008-0", "of another start".into());
    rig.server.replied("nonsense", "".into());
    assert_eq!((rig.count("replied"), rig.count("replies_unclaimed")), (2, 4));
    assert_eq!(rig.count("answers_unheard"), 0);
}

#[test]
fn who_waits_in_vain_hears_that_it_is_accepted() {
    let mut rig = Rig::new(PATIENT);
    let mut client = rig.client(0, post(PATH, &WAIT.replace("20", "1"), "hi"));
    let (request, _) = rig.next_taken();
    rig.server.taken(request, Taken::Accepted);
    rig.hears(&mut client, "HTTP/1.1 202 Accepted\r\n");
    assert!(client.heard.contains("preference-applied: wait=1\r\n"), "{}", client.heard);
    assert_eq!(rig.count("requests_under_way"), 0);
}

#[test]
fn a_store_that_stands_still_holds_nobody_for_ever() {
    let mut rig = Rig::new(Times { commit: SHORT, ..PATIENT });
    let mut client = rig.client(0, post(PATH, TEXT, "hi"));
    let (request, _) = rig.next_taken();
    rig.hears(&mut client, "503 Service Unavailable");
    rig.hears(&mut client, "idempotency-key");
    assert_eq!(rig.count("requests_under_way"), 1, "its worker still owes an answer");
    rig.server.taken(request, Taken::Accepted);
    assert_eq!((rig.count("requests_under_way"), rig.count("answers_unheard")), (0, 1));
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut rig = Rig::new(PATIENT);
    let stream = TcpStream::connect(("127.0.0.1", rig.ports[0])).unwrap();
    (&stream).write_all(post(PATH, WAIT, "hi").as_bytes()).unwrap();
    let (request, record) = rig.next_taken();
    drop(stream);
    rig.run_until(|rig| rig.count("connections_open") == 0);
    rig.server.taken(request, Taken::Accepted);
    rig.server.replied(record.reply_to.unwrap().id(), "hello".into());
    assert_eq!((rig.count("answers_unheard"), rig.count("replies_unclaimed")), (1, 1));
    assert_eq!((rig.count("requests_under_way"), rig.count("body_bytes_under_way")), (0, 0));
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let mut rig = Rig::new(PATIENT);
    let announced = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 4001\r\n{TEXT}\r\n");
    let mut client = rig.client(0, announced);
    rig.hears(&mut client, "413 Payload Too Large");
    rig.hears(&mut client, "longer than 4000 bytes");
    let chunk = format!("800\r\n{}\r\n", "x".repeat(0x800));
    let chunked =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{TEXT}\r\n{chunk}{chunk}");
    let mut client = rig.client(0, chunked);
    rig.hears(&mut client, "413 Payload Too Large");
    let mut client = rig.client(0, post(PATH, TEXT, &"x".repeat(4000)));
    let (request, record) = rig.next_taken();
    assert_eq!(record.value.get::<String>().unwrap().len(), 4000);
    rig.server.taken(request, Taken::Accepted);
    rig.hears(&mut client, "202 Accepted");
    assert_eq!(rig.count("refused"), 2);
}

#[test]
fn a_chunked_body_and_one_that_is_announced_are_read() {
    let mut rig = Rig::new(PATIENT);
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{TEXT}\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    );
    let _client = rig.client(0, chunked);
    assert_eq!(rig.next_taken().1.value, "hello".into());
    let expecting =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n{TEXT}\r\n");
    let mut client = rig.client(0, expecting);
    rig.hears(&mut client, "HTTP/1.1 100 Continue");
}

#[test]
fn bodies_under_way_are_bounded() {
    let mut rig = Rig::new(PATIENT);
    let body = "x".repeat(4000);
    let mut clients = [0, 1].map(|_| rig.client(0, post(PATH, TEXT, &body)));
    let taken = [rig.next_taken().0, rig.next_taken().0];
    let mut third = rig.client(0, post(PATH, TEXT, &body));
    rig.hears(&mut third, "503 Service Unavailable");
    rig.hears(&mut third, "too many bodies");
    for request in taken {
        rig.server.taken(request, Taken::Accepted);
    }
    for client in &mut clients {
        rig.hears(client, "202 Accepted");
    }
    let mut fourth = rig.client(0, post(PATH, TEXT, &body));
    let (request, _) = rig.next_taken();
    rig.server.taken(request, Taken::Accepted);
    rig.hears(&mut fourth, "202 Accepted");
    assert_eq!(rig.count("unavailable"), 1);
}

#[test]
fn connections_are_bounded_and_idle_ones_end() {
    let mut rig = Rig::new(Times { head: Duration::from_secs(2), ..PATIENT });
    let idle: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| rig.client(0, "")).collect();
    rig.run_until(|rig| rig.count("connections_open") == CONNECTIONS_MAX);
    let mut beyond = rig.client(0, "");
    rig.hears(&mut beyond, "HTTP/1.1 503 Service Unavailable\r\n");
    rig.sees_the_end(&mut beyond);
    assert!(beyond.heard.ends_with("\r\n\r\nall connections are in use\n"), "{}", beyond.heard);
    for mut client in idle {
        rig.sees_the_end(&mut client);
    }
    assert_eq!((rig.count("connections_open"), rig.count("connections_refused")), (0, 1));
}

#[test]
fn a_slow_loris_ends_at_the_head_and_at_the_body() {
    let mut rig = Rig::new(Times { head: SHORT, body: SHORT, ..PATIENT });
    let mut at_the_head = rig.client(0, "POST /test/fridge/1 HTTP/1.1\r\nhost:");
    rig.sees_the_end(&mut at_the_head);
    let begun = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n{TEXT}\r\nx");
    let mut at_the_body = rig.client(0, begun);
    rig.hears(&mut at_the_body, "408 Request Timeout");
    rig.sees_the_end(&mut at_the_body);
    assert_eq!((rig.count("connections_open"), rig.count("body_bytes_under_way")), (0, 0));
}

#[test]
fn a_client_that_takes_no_answer_is_closed() {
    let mut rig = Rig::new(Times { write: SHORT, ..PATIENT });
    let stream = TcpStream::connect(("127.0.0.1", rig.ports[0])).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    let text = "x".repeat(8 << 20);
    (&stream).write_all(post(PATH, WAIT, "hi").as_bytes()).unwrap();
    let (request, record) = rig.next_taken();
    rig.server.taken(request, Taken::Accepted);
    rig.server.replied(record.reply_to.unwrap().id(), text.as_str().into());
    rig.run_until(|rig| rig.count("connections_open") == 0);
    assert_eq!(rig.count("connections_closed_for_not_reading"), 1);
    drop(stream);
}

#[test]
fn what_is_no_request_is_told_so() {
    let mut rig = Rig::new(PATIENT);
    for (request, answer) in [
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("POST {PATH} HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX)), "431"),
        (format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(101)), "431"),
        (format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n"), "allow: POST\r\n"),
        (format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n\r\n"), "411 Length Required"),
        (post("/test/frigde/1", TEXT, "hi"), "did you mean `test/fridge`?"),
    ] {
        let mut client = rig.client(0, request);
        rig.hears(&mut client, answer);
    }
    assert_eq!(rig.count("requests_under_way"), 0);
    assert!(rig.events.is_empty(), "no worker hears of it");
}

#[test]
fn a_playground_fetches_each_record_once() {
    let mut rig = Rig::new(PATIENT);
    let record = br#"{"topic":"greetings","payload":"hello"}"#;
    let value = TypedValue::new("io.statefun.playground/EgressRecord", &record[..]);
    rig.server.fetchable(&value).unwrap();
    assert!(rig.server.fetchable(&"hello".into()).is_err());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut client = rig.client(1, [get("/greetings"), get("/greetings"), get("/greeting")].concat());
    rig.hears(&mut client, "\r\n\r\nhello");
    rig.hears(&mut client, "nothing waits in `greetings`");
    rig.hears(&mut client, "did you mean `greetings`?");
    assert!(client.heard.starts_with("HTTP/1.1 200 OK\r\n"), "{}", client.heard);
    assert_eq!(client.heard.matches("HTTP/1.1 404 Not Found\r\n").count(), 2, "{}", client.heard);
    let mut client = rig.client(1, post("/greetings", TEXT, ""));
    rig.hears(&mut client, "404 Not Found");
    assert_eq!((rig.count("fetched"), rig.count("fetchable_dropped")), (1, 1));
}

#[test]
fn a_stop_answers_what_is_under_way_and_closes_the_rest() {
    let mut rig = Rig::new(PATIENT);
    let mut idle = rig.client(0, "");
    let begun = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n{TEXT}\r\nx");
    let mut reading = rig.client(0, begun);
    let mut waiting = rig.client(0, post(PATH, WAIT, "hi"));
    let (accepted, _) = rig.next_taken();
    rig.server.taken(accepted, Taken::Accepted);
    let mut uncommitted = rig.client(0, post(PATH, TEXT, "hi"));
    let (request, _) = rig.next_taken();
    rig.run_until(|rig| rig.count("connections_open") == 4 && rig.count("body_bytes_under_way") == 3);
    rig.server.stop();
    rig.hears(&mut reading, "503 Service Unavailable");
    rig.hears(&mut waiting, "202 Accepted");
    for client in [&mut idle, &mut reading, &mut waiting] {
        rig.sees_the_end(client);
    }
    assert!(rig.server.is_busy() && idle.heard.is_empty());
    rig.server.taken(request, Taken::Accepted);
    rig.hears(&mut uncommitted, "202 Accepted");
    rig.sees_the_end(&mut uncommitted);
    rig.run_until(|rig| !rig.server.is_busy());
    let ends = |event: &Event| matches!(event, Event::Served);
    rig.run_until(|rig| rig.events.iter().any(ends));
    assert!(TcpStream::connect(("127.0.0.1", rig.ports[0])).is_err(), "nobody listens");
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let error = bind(listen).unwrap_err();
    let text = refusal_to_listen("test/records", listen, &error);
    for part in ["`test/records`", &listen.to_string(), "in use", "choose another `port`"] {
        assert!(text.contains(part), "{text}");
    }
}
