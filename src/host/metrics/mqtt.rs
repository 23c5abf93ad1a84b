//! How do values reach a broker? A task of its own on thread 0: one socket, and the machine that says what to do with it.
//!
//! Nothing waits for it: values are asked for as Prometheus asks, a write takes what the socket takes. When the node ends, whether it was
//! asked to or not, the socket closes without a word, and the broker publishes the will.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smol::{LocalExecutor, Timer};

use crate::host::clock::Clock;
use crate::host::inbox::Inbox;
use crate::host::network::{Stream, open};
use crate::host::shell::Event;
use crate::metrics;
use crate::module::Application;
use crate::mqtt::config::{MetricsConfig, SessionConfig};
use crate::mqtt::metrics::{MetricsInput, MetricsOutput, MetricsPublisher, client_id, is_node_name};

/// Bytes of one read; a broker says little to who subscribes to nothing.
const READ_BYTES: usize = 1024;

/// Connects to the broker and tells it, until the executor is dropped.
///
/// # Errors
/// If the node's name is no level of a topic, or a session has the same client id at the same broker.
pub(super) fn publish(
    config: &Arc<MetricsConfig>,
    application: &Application,
    seed: u64,
    clock: &Arc<Clock>,
    executor: &Rc<LocalExecutor<'static>>,
    inbox: &Arc<Inbox<Event>>,
) -> Result<(), String> {
    let node = node_name(config)?;
    let client_id = client_id(config, &node);
    let is_same = |session: &SessionConfig| {
        session.client_id == client_id
            && (&session.broker.host, session.broker.port) == (&config.broker.host, config.broker.port)
    };
    if let Some(session) = application.sessions.iter().find(|session| is_same(session)) {
        let name = &session.name;
        return Err(format!(
            "the metrics and `{name}` have the same client id `{client_id}` at the same broker"
        ));
    }
    log::info!("metrics at {}:{} under $fogfun/{node}/", config.broker.host, config.broker.port);
    let publisher = MetricsPublisher::new(Arc::clone(config), &node, seed, clock.now());
    let (config, clock, inbox) = (Arc::clone(config), Arc::clone(clock), Arc::clone(inbox));
    let task = Task {
        config,
        clock,
        inbox,
        publisher,
        stream: None,
        outgoing: VecDeque::new(),
        is_unwritten: false,
    };
    executor.spawn(task.run()).detach();
    Ok(())
}

fn node_name(config: &MetricsConfig) -> Result<String, String> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let name = config.node.clone().unwrap_or_else(host);
    if is_node_name(&name) {
        return Ok(name);
    }
    Err(format!(
        "the host's name `{name}` is no level of a topic: write `node: …` in `fogfun.metrics.v1/mqtt`"
    ))
}

struct Task {
    config: Arc<MetricsConfig>,
    clock: Arc<Clock>,
    inbox: Arc<Inbox<Event>>,
    publisher: MetricsPublisher,
    stream: Option<Stream>,
    outgoing: VecDeque<Bytes>,
    /// Has the machine not heard that all is written?
    is_unwritten: bool,
}

impl Task {
    async fn run(mut self) {
        while self.do_outputs().await {
            self.wait().await;
        }
    }

    /// False if the node no longer answers.
    async fn do_outputs(&mut self) -> bool {
        while let Some(output) = self.publisher.poll_output() {
            match output {
                MetricsOutput::Connect => {
                    let input = self.connect().await;
                    self.publisher.handle_input(self.clock.now(), input);
                }
                MetricsOutput::Transmit(bytes) => {
                    self.outgoing.push_back(bytes);
                    self.is_unwritten = true;
                }
                MetricsOutput::Close => self.forget(),
                MetricsOutput::Read => {
                    let Some(values) = self.read().await else { return false };
                    self.publisher.handle_input(self.clock.now(), MetricsInput::Values(values));
                }
                MetricsOutput::Event { kind, text } => self.inbox.push(Event::Happened { kind, text }),
            }
        }
        true
    }

    async fn connect(&mut self) -> MetricsInput {
        match open(&self.config.broker).await {
            Ok(stream) => {
                self.stream = Some(stream);
                MetricsInput::Connected
            }
            Err(error) => MetricsInput::Disconnected { cause: error.to_string() },
        }
    }

    async fn read(&self) -> Option<BTreeMap<String, f64>> {
        let (status, board) = super::measured(&self.inbox).await?;
        Some(metrics::values(&status, &board))
    }

    /// Until the socket has something to say or the machine's time has come.
    async fn wait(&mut self) {
        let due = self.publisher.poll_timeout();
        let now = self.clock.now();
        let timer = async {
            match due {
                Some(at) => {
                    let micros = at.as_micros().saturating_sub(now.as_micros());
                    Timer::after(Duration::from_micros(micros)).await;
                    None
                }
                None => pending().await,
            }
        };
        let (stream, outgoing, is_unwritten) = (&self.stream, &mut self.outgoing, &mut self.is_unwritten);
        let moved = async {
            match stream {
                Some(stream) => Some(move_bytes(stream, outgoing, is_unwritten).await),
                None => pending().await,
            }
        };
        // Time first: a broker that always has something to say must not keep the machine from what is due.
        let moved = smol::future::or(timer, moved).await;
        let now = self.clock.now();
        match moved {
            None => self.publisher.handle_timeout(now),
            Some(Ok(input)) => self.publisher.handle_input(now, input),
            Some(Err(error)) => {
                self.forget();
                self.publisher.handle_input(now, MetricsInput::Disconnected { cause: error.to_string() });
            }
        }
    }

    fn forget(&mut self) {
        self.stream = None;
        self.outgoing.clear();
        self.is_unwritten = false;
    }
}

/// Writes and reads what the socket takes and gives; until all is written or something came.
async fn move_bytes(
    stream: &Stream,
    outgoing: &mut VecDeque<Bytes>,
    is_unwritten: &mut bool,
) -> io::Result<MetricsInput> {
    let mut buffer = [0; READ_BYTES];
    loop {
        if *is_unwritten && stream.try_write(outgoing)? {
            *is_unwritten = false;
            return Ok(MetricsInput::Written);
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the broker")),
            Ok(count) => {
                let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
                return Ok(MetricsInput::Received(bytes));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if *is_unwritten {
            smol::future::or(stream.readable(), stream.writable()).await?;
        } else {
            stream.readable().await?;
        }
    }
}
