//! How does a node reach the demo's broker? Over a loopback socket, as it would any broker; the fridges and the subscriber are
//! connected to the broker in memory.
//!
//! The broker and both clients are pure; one thread accepts, one per connection reads, and all inputs meet in one channel.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::mqtt::codec::Publish;
use crate::mqtt::config::Qos;
use crate::sim::broker::{Broker, BrokerInput, BrokerOutput, BrokerSettings};
use crate::sim::client::Client;

const FRIDGES: u64 = 0;
const SUBSCRIBER: u64 = 1;
/// Sockets come after the clients in memory.
const FIRST_SOCKET: u64 = 2;
/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;
/// A node that takes no bytes for so long has its connection closed; it connects again.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);
/// Records kept for a node that is away: some minutes of the most fridges. Beyond, they are dropped, and the books show it.
const QUEUE_MAX: usize = 1_000_000;

/// What the world tells the demo.
pub(super) enum Event {
    /// The node has connected.
    Accepted(u64, TcpStream),
    /// Bytes came.
    Received(u64, Bytes),
    /// The connection is over.
    Closed(u64),
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

/// The broker with all its connections.
pub(super) struct Network {
    broker: Broker,
    sockets: BTreeMap<u64, TcpStream>,
    fridges: Client,
    subscriber: Client,
    begin: Instant,
    port: u16,
}

impl Network {
    /// Listens on a free loopback port; what comes there is sent to `events`.
    ///
    /// # Errors
    /// If the system gives no port or no thread.
    pub(super) fn listen(events: Sender<Event>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::Builder::new().spawn(move || accept(&listener, &events))?;
        let mut network = Self {
            broker: Broker::new(BrokerSettings {
                in_flight_max: 1000,
                receive_maximum: 1000,
                queue_max: QUEUE_MAX,
                ..BrokerSettings::default()
            }),
            sockets: BTreeMap::new(),
            fridges: Client::connect("demo-fridges"),
            subscriber: Client::connect("demo-subscriber"),
            begin: Instant::now(),
            port,
        };
        for connection in [FRIDGES, SUBSCRIBER] {
            network.tell(BrokerInput::Accepted { connection });
        }
        network.subscriber.subscribe("fridge/+/statistics");
        network.subscriber.subscribe("fridge/+/alarm");
        network.settle();
        Ok(network)
    }

    /// Where the node finds the broker.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Has the node subscribed? Before, records would go nowhere.
    pub(super) fn is_subscribed(&self) -> bool {
        self.broker.is_subscribed(NODE_CLIENT_ID)
    }

    /// Records that the broker had no room for.
    pub(super) fn dropped(&self) -> u64 {
        self.broker.dropped()
    }

    /// A fridge publishes.
    pub(super) fn publish(&mut self, topic: &str, payload: &str, qos: Qos, message_id: String) {
        let properties = vec![("message-id".to_owned(), message_id)];
        self.fridges.publish(topic, payload.as_bytes(), qos, properties);
        self.settle();
    }

    /// Takes what came from a socket.
    pub(super) fn handle(&mut self, event: Event) {
        let input = match event {
            Event::Accepted(connection, socket) => {
                self.sockets.insert(connection, socket);
                BrokerInput::Accepted { connection }
            }
            Event::Received(connection, bytes) => BrokerInput::Received { connection, bytes },
            Event::Closed(connection) => {
                self.sockets.remove(&connection);
                BrokerInput::Closed { connection }
            }
            Event::Interrupted => return,
        };
        self.tell(input);
        self.settle();
    }

    /// What the subscriber has received since the last call, repeats and all.
    pub(super) fn take_received(&mut self) -> Vec<Publish> {
        self.subscriber.take_received()
    }

    /// Carries bytes to and fro until nobody has any more to say.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(bytes) = self.fridges.poll_output() {
                is_quiet = false;
                self.tell(BrokerInput::Received { connection: FRIDGES, bytes });
            }
            while let Some(bytes) = self.subscriber.poll_output() {
                is_quiet = false;
                self.tell(BrokerInput::Received { connection: SUBSCRIBER, bytes });
            }
            while let Some(output) = self.broker.poll_output() {
                is_quiet = false;
                self.carry_out(output);
            }
            if is_quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: BrokerOutput) {
        match output {
            BrokerOutput::Transmit { connection: FRIDGES, bytes } => self.fridges.handle_bytes(&bytes),
            BrokerOutput::Transmit { connection: SUBSCRIBER, bytes } => self.subscriber.handle_bytes(&bytes),
            BrokerOutput::Transmit { connection, bytes } => {
                let is_gone = match self.sockets.get_mut(&connection) {
                    Some(socket) => socket.write_all(&bytes).is_err(),
                    None => false,
                };
                if is_gone {
                    self.close(connection);
                    self.tell(BrokerInput::Closed { connection });
                }
            }
            BrokerOutput::Close { connection } => self.close(connection),
        }
    }

    fn close(&mut self, connection: u64) {
        if let Some(socket) = self.sockets.remove(&connection) {
            // The reader's thread ends with it.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn tell(&mut self, input: BrokerInput) {
        let micros = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.broker.handle_input(embassy_time::Instant::from_micros(micros), input);
    }
}

/// The session in which the node receives, as its module.yaml says.
pub(super) const NODE_CLIENT_ID: &str = "demo-in";

fn accept(listener: &TcpListener, events: &Sender<Event>) {
    for (connection, socket) in (FIRST_SOCKET..).zip(listener.incoming()) {
        let Ok(socket) = socket else { continue };
        if let Err(error) = serve(connection, socket, events) {
            log::warn!("a connection could not be served: {error}");
        }
    }
}

fn serve(connection: u64, socket: TcpStream, events: &Sender<Event>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(WRITE_PATIENCE))?;
    let reader = socket.try_clone()?;
    // Accepted before anything received: one sender after the other.
    if events.send(Event::Accepted(connection, socket)).is_err() {
        return Ok(());
    }
    let events = events.clone();
    thread::Builder::new().spawn(move || read(connection, reader, &events))?;
    Ok(())
}

fn read(connection: u64, mut socket: TcpStream, events: &Sender<Event>) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length) = socket.read(&mut buffer) {
        let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        if bytes.is_empty() || events.send(Event::Received(connection, bytes)).is_err() {
            break;
        }
    }
    let _ = events.send(Event::Closed(connection));
}

/// Sends [`Event::Interrupted`] at Ctrl-C and SIGTERM.
///
/// # Errors
/// If the system gives no signal handler or no thread.
pub(super) fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    use smol::stream::StreamExt as _;
    let mut signals = async_signal::Signals::new([async_signal::Signal::Int, async_signal::Signal::Term])?;
    let watch = move || {
        while smol::block_on(signals.next()).is_some() {
            if events.send(Event::Interrupted).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(watch)?;
    Ok(())
}

/// Waits for the next event until `deadline`.
pub(super) fn next_event(events: &Receiver<Event>, deadline: Instant) -> Option<Event> {
    events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}
