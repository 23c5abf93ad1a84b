//! Promise: a record that was answered 202 counts, once, whatever kills the node; and no client can do harm.
//!
//! A real process of `examples/visitors`, spoken to over sockets; the HTTP spoken here shares no code with the server's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::node::{self, Failpoint, Node, PATIENCE};
use support::{Seeded, wait_until};

struct Visitors {
    node: Node,
    port: u16,
    playground_in: u16,
    playground_out: u16,
}

impl Visitors {
    fn new(workers: u8) -> Self {
        let [port, playground_in, playground_out] = free_ports();
        let text = include_str!("../examples/visitors/module.yaml")
            .replace("${PORT:-8090}", &port.to_string())
            .replace("${PLAYGROUND_IN:-8091}", &playground_in.to_string())
            .replace("${PLAYGROUND_OUT:-8092}", &playground_out.to_string());
        let mut node = Node::new(&node::example("visitors"), &text, &[]);
        let board = node.write_file("board.toml", &format!("workers = {workers}\n"));
        node.set_arguments(&["--board", board.to_str().unwrap()]);
        Self { node, port, playground_in, playground_out }
    }

    fn start(workers: u8) -> Self {
        let mut visitors = Self::new(workers);
        visitors.node.start();
        visitors
    }

    fn post(&self, path: &str, headers: &[&str], body: &str) -> Answer {
        post(self.port, path, headers, body).expect("it is answered")
    }

    fn served(&self) -> serde_json::Value {
        self.node.status().0["node"]["http"]["served"].clone()
    }
}

/// Free when asked for; nobody else takes them as quickly as that.
fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

/// Sends all of it and reads one answer; `None` if the connection ends before that is whole.
fn exchange(port: u16, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(char::from(byte[0]));
    }
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Answer { status, head: text, body: String::from_utf8(body).unwrap() })
}

fn request(method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn post(port: u16, path: &str, headers: &[&str], body: &str) -> Option<Answer> {
    exchange(port, &request("POST", path, headers, body))
}

const TEXT: &str = "content-type: text/plain";
const JSON: &str = "content-type: application/json";
const WAIT: &str = "prefer: wait=20";
const ACCEPTED: &str = "{\"status\":\"accepted\"}\n";
const REPEATED: &str = "{\"status\":\"repeated\"}\n";

#[test]
fn who_prefers_to_wait_hears_what_the_function_replies() {
    for workers in [1, 3] {
        let visitors = Visitors::start(workers);
        let reply = visitors.post("/visitors/greeter/Ada", &[TEXT, WAIT], "hi");
        assert_eq!((reply.status, reply.body.as_str()), (200, "Hello Ada, visit 1!"));
        assert!(reply.has("content-type: text/plain; charset=utf-8"), "{reply:?}");
        assert!(reply.has("preference-applied: wait=20"), "{reply:?}");
        let reply = visitors.post("/visitors/greeter/Ada", &[JSON, WAIT], "{}");
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"name":"Ada","visits":2}"#));
        assert!(reply.has("content-type: application/json"), "{reply:?}");
        assert!(reply.has("fogfun-type: visitors/visits"), "{reply:?}");
        for visitor in 0..20 {
            let reply = visitors.post(&format!("/visitors/greeter/{visitor}"), &[TEXT, WAIT], "");
            assert_eq!(reply.body, format!("Hello {visitor}, visit 1!"));
        }
        let reply = visitors.post("/visitors/greeter/Ada", &[TEXT], "hi");
        assert_eq!((reply.status, reply.body.as_str()), (202, ACCEPTED));
        let served = visitors.served();
        assert_eq!((&served["replied"], &served["accepted"]), (&22.into(), &1.into()), "{served}");
        assert_eq!(served["requests_under_way"], 0, "{served}");
    }
}

/// Records of one visitor, each sent until it is answered; the node dies meanwhile. How many were accepted and repeated.
fn visit(port: u16, visitor: u64, is_over: &AtomicBool) -> (u64, u64) {
    let (mut accepted, mut repeated) = (0_u64, 0_u64);
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("idempotency-key: {}", accepted + repeated);
        let begin = Instant::now();
        loop {
            let answer = post(port, &format!("/visitors/greeter/{visitor}"), &[TEXT, &key], "hi");
            match answer.map(|answer| (answer.status, answer.body)) {
                Some((202, body)) if body == ACCEPTED => accepted += 1,
                Some((202, body)) if body == REPEATED => repeated += 1,
                None | Some((503, _)) => {
                    assert!(begin.elapsed() < 2 * PATIENCE, "visitor {visitor} is not heard");
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                other => panic!("{other:?}"),
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (accepted, repeated)
}

#[test]
fn what_was_answered_202_counts_once_whatever_kills_the_node() {
    const VISITORS: u64 = 4;
    let mut seeded = Seeded::from_environment(0x0F06_F00D);
    for workers in [1, 3] {
        let mut visitors = Visitors::start(workers);
        let (port, is_over) = (visitors.port, Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..VISITORS)
            .map(|visitor| {
                let is_over = Arc::clone(&is_over);
                std::thread::spawn(move || visit(port, visitor, &is_over))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        for point in [Failpoint::AfterWrite, Failpoint::AfterSync, Failpoint::AfterSync] {
            visitors.node.kill();
            visitors.node.start_to_die(point, seeded.within(3, 30));
            assert!(visitors.node.wait_death(point, PATIENCE), "{}", visitors.node.log_tail());
            visitors.node.start();
            std::thread::sleep(Duration::from_millis(seeded.within(10, 100)));
        }
        is_over.store(true, Ordering::Relaxed);
        let heard: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let repeats: u64 = heard.iter().map(|(_, repeated)| repeated).sum();
        for (visitor, (accepted, repeated)) in heard.iter().enumerate() {
            assert!(20 < *accepted, "visitor {visitor} was heard {accepted} times");
            let reply = visitors.post(&format!("/visitors/greeter/{visitor}"), &[TEXT, WAIT], "last");
            let expected = format!("Hello {visitor}, visit {}!", accepted + repeated + 1);
            assert_eq!(reply.body, expected, "{repeats} repeats");
        }
        assert!(0 < repeats, "a death after the sync leaves somebody without an answer");
    }
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let visitors = Visitors::start(1);
    let greeter = "/visitors/greeter/Ada";
    let long = "x".repeat(262_145);
    let cases: [(String, u16, &str); 9] = [
        (request("POST", "/visitors/greater/Ada", &[TEXT], ""), 404, "did you mean `visitors/greeter`?"),
        (request("POST", "/fogfun/session/x", &[TEXT], ""), 404, "no function"),
        (request("GET", greeter, &[], ""), 405, "POST"),
        (format!("POST {greeter} HTTP/1.1\r\nhost: x\r\n{TEXT}\r\n\r\n"), 411, "content-length"),
        (request("POST", greeter, &[TEXT], &long), 413, "262144 bytes"),
        (request("POST", greeter, &[], "hi"), 415, "content-type"),
        (request("POST", greeter, &[JSON], "{"), 400, "JSON"),
        (request("POST", greeter, &[TEXT, "idempotency-key: "], ""), 400, "128 bytes"),
        (request("POST", "/visitors/greeter/%zz", &[TEXT], ""), 400, "percent"),
    ];
    for (request, status, text) in cases {
        // A body that is refused unread may meet a closed connection; its sender does not always hear why.
        let Some(answer) = exchange(visitors.port, &request) else {
            assert_eq!(status, 413, "{text}");
            continue;
        };
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(text), "{answer:?}");
    }
    let reply = visitors.post(greeter, &[TEXT, WAIT], "");
    assert_eq!(reply.body, "Hello Ada, visit 1!", "nothing of it was a visit");
    let served = visitors.served();
    assert!(8 <= served["refused"].as_u64().unwrap(), "{served}");
}

#[test]
fn slow_clients_keep_nobody_out_for_long() {
    let visitors = Visitors::start(1);
    let slow: Vec<TcpStream> = (0..80)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", visitors.port)).ok()?;
            stream.write_all(b"POST /visitors/greeter/Eve HTTP/1.1\r\nx: ").ok()?;
            Some(stream)
        })
        .collect();
    let served = || visitors.served();
    wait_until("the bound is reached", PATIENCE, || 0 < served()["connections_refused"].as_u64().unwrap());
    assert!(served()["connections_open"].as_u64().unwrap() <= 64);
    wait_until("somebody else is heard", PATIENCE, || {
        post(visitors.port, "/visitors/greeter/Ada", &[TEXT], "").is_some_and(|answer| answer.status == 202)
    });
    drop(slow);
}

#[test]
fn a_playground_goes_round() {
    let visitors = Visitors::start(1);
    let fetch = || exchange(visitors.playground_out, "GET /greetings HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(fetch().status, 404);
    for method in ["PUT", "POST"] {
        let answer = exchange(visitors.playground_in, &request(method, "/visitors/board/Ada", &[], "hi"));
        assert_eq!(answer.unwrap().status, 200);
    }
    for visit in 1..3 {
        let mut fetched = fetch();
        wait_until("the greeting waits", PATIENCE, || {
            if fetched.status == 404 {
                fetched = fetch();
            }
            fetched.status == 200
        });
        assert_eq!(fetched.body, format!("Hello Ada, visit {visit}!"));
    }
    assert_eq!(fetch().status, 404);
    assert_eq!(exchange(visitors.playground_out, "GET /x HTTP/1.1\r\nhost: x\r\n\r\n").unwrap().status, 404);
}

#[test]
fn a_stop_answers_whom_it_has_taken_in() {
    let mut visitors = Visitors::start(3);
    let port = visitors.port;
    let clients: Vec<_> = (0..8_u64)
        .map(|visitor| {
            std::thread::spawn(move || {
                let mut accepted = 0;
                while let Some(answer) = post(port, &format!("/visitors/greeter/{visitor}"), &[TEXT], "hi") {
                    if answer.status != 202 {
                        break;
                    }
                    accepted += 1;
                }
                accepted
            })
        })
        .collect();
    wait_until("records flow", PATIENCE, || 100 < visitors.served()["accepted"].as_u64().unwrap());
    let begin = Instant::now();
    visitors.node.stop();
    assert!(!visitors.node.log().contains("stopped without"), "{}", visitors.node.log_tail());
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    let accepted: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    visitors.node.start();
    for (visitor, accepted) in accepted.iter().enumerate() {
        let reply = visitors.post(&format!("/visitors/greeter/{visitor}"), &[TEXT, WAIT], "");
        let visits: u64 = reply.body.trim_end_matches('!').rsplit(' ').next().unwrap().parse().unwrap();
        // Without a key: the last may have counted unheard.
        assert!((accepted + 1..=accepted + 2).contains(&visits), "{accepted} were accepted: {reply:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_at_start() {
    let mut visitors = Visitors::new(1);
    let _taken = TcpListener::bind(("127.0.0.1", visitors.port)).unwrap();
    visitors.node.start_with(&[]);
    let ended = visitors.node.wait_end(PATIENCE).expect("it does not start");
    assert!(!ended.success());
    let log = visitors.node.log();
    for part in ["`visitors/in`", &format!("127.0.0.1:{}", visitors.port), "choose another `port`"] {
        assert!(log.contains(part), "{log}");
    }
}
