//! The shell round small machines: bytes go the whole way through real sockets, on thread 0 and on another thread.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::epoch::TimeStamp;
use crate::host::threads;
use crate::mqtt::config::{Broker, Protocol, Role};
use crate::worker::io::ChannelItem;

/// Connects its sessions, sends back what comes, tells worker 0 of every piece over the channel.
struct Echo {
    index: WorkerIndex,
    outputs: VecDeque<WorkerOutput>,
    credits: u64,
}

impl Echo {
    fn new(index: usize, sessions: &[usize]) -> Self {
        let connect = |session: &usize| WorkerOutput::Connect {
            session: SessionIndex(*session),
            connection: ConnectionNumber(1),
        };
        Self { index: WorkerIndex(index), outputs: sessions.iter().map(connect).collect(), credits: 0 }
    }
}

impl WorkerMachine for Echo {
    fn handle_input(&mut self, _: Instant, input: WorkerInput) {
        match input {
            WorkerInput::Session { session, input: SessionInput::Received { connection, bytes } } => {
                self.outputs.push_back(WorkerOutput::Transmit { session, connection, bytes });
                let items = vec![ChannelItem::Credit(1)];
                self.outputs.push_back(WorkerOutput::Channel { to: WorkerIndex(0), items });
            }
            WorkerInput::Channel { items, .. } => self.credits += items.len() as u64,
            WorkerInput::Admin { request, .. } => {
                let reply = AdminReply::Done { count: self.credits };
                self.outputs.push_back(WorkerOutput::Admin { request, reply });
            }
            WorkerInput::Stop { .. } => {
                for session in [0, 1] {
                    let (session, connection) = (SessionIndex(session), ConnectionNumber(1));
                    if session.0 == self.index.0 {
                        self.outputs.push_back(WorkerOutput::Close { session, connection });
                    }
                }
                self.outputs.push_back(WorkerOutput::Stopped);
            }
            _ => {}
        }
    }
    fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.outputs.pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn run(&mut self, _: Instant, _: usize) -> bool {
        false
    }
}

struct Idle;

impl NodeMachine for Idle {
    fn handle_input(&mut self, _: Instant, _: NodeInput) {}
    fn poll_output(&mut self) -> Option<NodeOutput> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn status(&self) -> crate::admin::NodeStatus {
        crate::admin::NodeStatus::default()
    }
}

pub(crate) fn session(port: u16, tls: Option<crate::credentials::TlsFiles>) -> Arc<SessionConfig> {
    Arc::new(SessionConfig {
        name: crate::address::TypeName::from_static("test/session"),
        broker: Broker { host: "localhost".into(), port, protocol: Protocol::V5, tls },
        client_id: "test".into(),
        session_expiry: Duration::from_secs(60),
        user: None,
        password: None,
        keep_alive: Duration::from_secs(60),
        receive_maximum: 100,
        packet_bytes_max: 65_536,
        role: Role::Ingress { subscriptions: vec![] },
    })
}

fn shell(config: ShellConfig, paths: &Paths) -> Shell<Echo, Idle> {
    let clock = Arc::new(Clock::start(TimeStamp::default()));
    threads::spawn_worker(WorkerIndex(1), paths.clone(), Arc::clone(&clock), |_| Ok(Echo::new(1, &[1])))
        .unwrap();
    Shell::new(config, clock, Echo::new(0, &[0]), Idle, paths.clone(), StorePath::default())
}

/// Sends a megabyte and wants it back.
fn talk(listener: &TcpListener) -> std::net::TcpStream {
    let (stream, _) = listener.accept().unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut writer, bytes) = (stream.try_clone().unwrap(), sent.clone());
    let thread = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    let mut got = vec![0; sent.len()];
    (&stream).read_exact(&mut got).unwrap();
    thread.join().unwrap();
    assert!(got == sent);
    stream
}

#[test]
fn bytes_go_round_on_both_threads_and_stop_closes_all() {
    let data = tempfile::tempdir().unwrap();
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let sessions = listeners.each_ref().map(|listener| session(listener.local_addr().unwrap().port(), None));
    let paths = Paths::new(2);
    let main = Arc::clone(&paths.main);
    let config = ShellConfig {
        sessions: sessions.to_vec(),
        session_workers: vec![WorkerIndex(0), WorkerIndex(1)],
        operations: Operations::default(),
        endpoints: vec![],
        application: Arc::new(Application::at_rest()),
        boot: 0,
        data: Some(data.path().to_owned()),
        about: serde_json::Map::new(),
        supervisor: Supervisor::default(),
        reload: None,
        metrics: None,
    };
    let thread = std::thread::spawn(move || shell(config, &paths).run());
    let mut streams: Vec<_> = listeners.iter().map(talk).collect();
    let answer = admin::ask(data.path(), &AdminRequest::Status).unwrap().unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let credits = |worker: usize| answer["workers"][worker]["count"].as_u64().unwrap();
    assert!(2 <= credits(0), "worker 1's items reached worker 0");
    assert_eq!(credits(1), 0);
    assert!(answer["node"]["runtime_ms"].is_u64());
    main.push(Event::Stop);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed");
    }
    thread.join().unwrap().unwrap();
    assert!(admin::ask(data.path(), &AdminRequest::Status).unwrap().is_none(), "nobody listens");
}

#[test]
fn at_rest_no_socket_is_opened_and_a_question_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let paths = Paths::new(2);
    let config = ShellConfig {
        sessions: vec![session(port, None), session(port, None)],
        session_workers: vec![WorkerIndex(0), WorkerIndex(1)],
        operations: Operations::default(),
        endpoints: vec![],
        application: Arc::new(Application::at_rest()),
        boot: 0,
        data: None,
        about: serde_json::Map::new(),
        supervisor: Supervisor::default(),
        reload: None,
        metrics: None,
    };
    let (answer, answered) = smol::channel::bounded(1);
    paths.main.push(Event::Admin { question: AdminRequest::DeadLetterRetry { key: "x".into() }, answer });
    paths.main.push(Event::Stop);
    shell(config, &paths).run().unwrap();
    assert_eq!(answered.try_recv().unwrap(), r#"{"answer":"done","count":0}"#);
    assert!(listener.accept().is_err());
}
