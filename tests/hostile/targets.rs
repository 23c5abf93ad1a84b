//! What reads bytes that others wrote? One function for each reader; any bytes must be taken or refused, in bounded memory.
//!
//! The stable test `tests/hostile.rs` and the coverage-guided targets in `tests/fuzz` call the same functions. A panic is a failure, and so is
//! an answer that does not agree with itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use embassy_time::{Duration, Instant};
use fogfun::admin::{AdminReply, AdminRequest};
use fogfun::epoch::frame::FrameBuilder;
use fogfun::epoch::{Epoch, TimeStamp};
use fogfun::module::{Board, Specification};
use fogfun::mqtt::config::{Qos, Role, SessionConfig};
use fogfun::mqtt::session::{
    ConnectionNumber, MessageId, OutboxRecord, RecoveredSession, Session, SessionInput, SessionOutput,
    SessionStart,
};
use fogfun::remote::reply::{Reply, apply_reply};
use fogfun::remote::specs::{Spec, Specs, UNSET};
use fogfun::state::{key::Key, value};
use fogfun::store::{Base, BaseError, Disk, LogEntry, Mark, Store, StoreCommand, StoreEvent, StoreLimits};

use fogfun::testing::Harness;
use fogfun::{Address, Context, Expiration, FunctionError, StatefulFunction, TypeName, TypedValue};

/// A reader, and what it may hold at once: so many bytes and so many for each byte of input.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub bytes_max: usize,
    pub bytes_per_byte_max: usize,
}

pub const TARGETS: [Target; 6] = [
    // A start reads one segment as a whole and keeps its tail until it is written again.
    Target { name: "epoch_log", run: epoch_log, bytes_max: 8 << 20, bytes_per_byte_max: 64 },
    // The reserved intake: the Receive Maximum of the session below times its packets.
    Target { name: "mqtt_session", run: mqtt_session, bytes_max: 8 << 20, bytes_per_byte_max: 64 },
    // Nodes are bounded in number, not in proportion to the text: aliases multiply.
    Target { name: "module_yaml", run: module_yaml, bytes_max: 128 << 20, bytes_per_byte_max: 1024 },
    Target { name: "admin", run: admin, bytes_max: 1 << 20, bytes_per_byte_max: 256 },
    // The effects of one invocation, twice: as they are gathered, and as they grow.
    Target { name: "remote_reply", run: remote_reply, bytes_max: 8 << 20, bytes_per_byte_max: 64 },
    Target { name: "state", run: state, bytes_max: 1 << 20, bytes_per_byte_max: 64 },
];

/// The first byte says what the rest is: the log's bytes from somewhere on, or the payload of an entry whose checksum is right.
pub fn epoch_log(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut files = written();
    let Some((_, bytes)) = files.iter_mut().find(|(name, _)| name.starts_with("log-")) else {
        unreachable!("a store has a log")
    };
    let (end, random, last) = entries_end(bytes);
    match mode % 3 {
        0 => {
            let Some((at, rest)) = rest.split_first_chunk::<2>() else { return };
            let at = usize::from(u16::from_le_bytes(*at)) % end;
            let until = bytes.len().min(at + rest.len());
            bytes[at..until].copy_from_slice(&rest[..until - at]);
        }
        kind => {
            let entry = sealed(rest, random, last, kind);
            bytes.resize(bytes.len().max(end + entry.len()), 0);
            bytes[end..end + entry.len()].copy_from_slice(&entry);
        }
    }
    let mut replay = |key: &[u8], _: Option<&[u8]>| {
        let _ = Key::decode(key);
    };
    let opened = Store::open(Memory::of(files), Nothing, LIMITS, 9, &mut replay);
    if let Ok((mut store, _)) = opened {
        while let StoreEvent::Folded { complete: false, .. } = store.handle(StoreCommand::Fold) {}
    }
}

/// A log with three epochs, as a store leaves it.
fn written() -> BTreeMap<String, Vec<u8>> {
    static WRITTEN: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = WRITTEN.get_or_init(|| {
        let memory = Memory::default();
        let opened = Store::open(memory.clone(), Nothing, LIMITS, 7, &mut |_, _| ());
        let Ok((mut store, _)) = opened else { unreachable!("memory can be written") };
        for epoch in 1..=3 {
            let mut builder = FrameBuilder::default();
            let key = Key::State { id: "a", function_type: "b/c", name: "d", subkey: &[] };
            builder.put(&key, |out| out.extend_from_slice(b"value"));
            let mut sections = Vec::new();
            builder.finish(&mut sections);
            let time = TimeStamp { runtime_ms: epoch, proven: None };
            let frame = LogEntry::Frame { view: 1, epoch: Epoch(epoch), time, sections: vec![sections] };
            store.handle(StoreCommand::Append(vec![frame]));
        }
        let files = memory.0.lock().unwrap();
        files.iter().map(|(name, file)| (name.clone(), file.lock().unwrap().clone())).collect()
    });
    files.clone()
}

/// Where the entries of a segment end, its random number, and the last entry's number.
fn entries_end(bytes: &[u8]) -> (usize, u64, u64) {
    let number =
        |at: usize| bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes);
    let (mut at, mut last) = (SEGMENT_HEADER_BYTES, 0);
    let random = number(at + 8);
    while random != 0 && number(at + 8) == random {
        last = number(at + 16);
        let length = usize::try_from(number(at) & 0xFFFF_FFFF).unwrap_or(0);
        at += (ENTRY_HEADER_BYTES + length).next_multiple_of(8);
    }
    (at, random, last)
}

fn sealed(payload: &[u8], random: u64, last: u64, kind: u8) -> Vec<u8> {
    let mut entry = vec![0; ENTRY_HEADER_BYTES];
    entry[..4].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
    entry[8..16].copy_from_slice(&random.to_le_bytes());
    entry[16..24].copy_from_slice(&(last + 1).to_le_bytes());
    entry[24..32].copy_from_slice(&last.to_le_bytes());
    entry[32] = kind;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&entry[..4]), &entry[8..]);
    let checksum = crc32c::crc32c_append(checksum, payload);
    entry[4..8].copy_from_slice(&checksum.to_le_bytes());
    entry.extend_from_slice(payload);
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

/// What a broker sends, to an ingress or an egress of either version. The first byte says to whom and whether the connection is
/// already made, the second how long the pieces are in which the rest comes.
pub fn mqtt_session(data: &[u8]) {
    const PIECES_MAX: usize = 2_000;
    let [mode, length, rest @ ..] = data else { return };
    let configs = sessions();
    let config = Arc::clone(&configs[usize::from(*mode) % configs.len()]);
    let mut broker = Broker::new(config);
    if mode & 4 != 0 {
        broker.greet();
    }
    if mode & 8 != 0 {
        broker.publish_some();
    }
    for piece in rest.chunks(usize::from(*length).max(1)).take(PIECES_MAX) {
        broker.say(piece);
    }
}

/// Ingress and egress, in MQTT 5 and 3.1.1.
fn sessions() -> &'static [Arc<SessionConfig>] {
    static SESSIONS: OnceLock<Vec<Arc<SessionConfig>>> = OnceLock::new();
    SESSIONS.get_or_init(|| {
        let text: String =
            ["5", "3.1.1"].into_iter().map(|protocol| MODULE.replace("PROTOCOL", protocol)).collect();
        let read = Specification::parse("module.yaml", &text, &|_| None);
        read.unwrap_or_else(|errors| unreachable!("{errors}")).sessions
    })
}

const MODULE: &str = "kind: fogfun.mqtt.v1/ingress
spec:
  id: test/in-PROTOCOL
  address: mqtt://localhost
  protocol: PROTOCOL
  clientId: in-PROTOCOL
  receiveMaximum: 20
  topics:
    - topic: in/{id}
      qos: 2
      format: text
      targets: [test/count]
---
kind: fogfun.mqtt.v1/egress
spec:
  id: test/out-PROTOCOL
  address: mqtt://localhost
  protocol: PROTOCOL
  clientId: out-PROTOCOL
  topic: out/{caller.id}
  qos: 2
  format: raw
---
";

/// A session, and who speaks to it.
struct Broker {
    session: Session,
    now: Instant,
    connection: ConnectionNumber,
    epoch: u64,
    is_v5: bool,
    is_ingress: bool,
}

impl Broker {
    fn new(config: Arc<SessionConfig>) -> Self {
        let is_v5 = config.client_id.ends_with("-5");
        let is_ingress = matches!(config.role, Role::Ingress { .. });
        let session = Session::new(config, RecoveredSession::default(), SessionStart::Resume, 1);
        let now = Instant::from_secs(100);
        let mut broker = Self { session, now, connection: ConnectionNumber(0), epoch: 0, is_v5, is_ingress };
        broker.session.start(now);
        broker.drain();
        broker
    }

    fn greet(&mut self) {
        self.say(if self.is_v5 { b"\x20\x03\0\0\0" } else { b"\x20\x02\0\0" });
        if self.is_ingress {
            self.say(if self.is_v5 { b"\x90\x04\xFF\xFF\0\x02" } else { b"\x90\x03\xFF\xFF\x02" });
        }
    }

    fn publish_some(&mut self) {
        for number in 0..if self.is_ingress { 0 } else { 3 } {
            let record = OutboxRecord {
                topic: format!("out/{number}").into(),
                payload: Bytes::from_static(b"payload").into(),
                qos: Qos::ExactlyOnce,
                retain: false,
                message_id: MessageId::NONE,
                properties: Vec::new(),
            };
            self.session.handle_input(self.now, SessionInput::Send(record));
        }
        self.drain();
        self.commit();
    }

    fn say(&mut self, bytes: &[u8]) {
        let (connection, bytes) = (self.connection, Bytes::copy_from_slice(bytes));
        self.session.handle_input(self.now, SessionInput::Received { connection, bytes });
        self.drain();
        self.commit();
        self.now += Duration::from_millis(10);
        if self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            self.session.handle_timeout(self.now);
            self.drain();
        }
    }

    fn commit(&mut self) {
        if self.session.is_dirty() {
            self.epoch += 1;
            let epoch = Epoch(self.epoch);
            self.session.cut(epoch, &mut FrameBuilder::default());
            self.drain();
            self.session.handle_input(self.now, SessionInput::Committed { epoch });
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            let answer = match output {
                SessionOutput::Connect { connection } => {
                    self.connection = connection;
                    SessionInput::Connected { connection }
                }
                SessionOutput::Close { connection } => {
                    SessionInput::Disconnected { connection, cause: "closed".to_owned() }
                }
                SessionOutput::Record { number, .. } => SessionInput::Synced { record: number },
                _ => continue,
            };
            self.session.handle_input(self.now, answer);
        }
    }
}

/// A `module.yaml` and a board file, with an environment in which everything is set.
pub fn module_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let environment = |name: &str| Some(format!("{name}: [*a, *a]"));
    if let Ok(specification) = Specification::parse("module.yaml", &text, &environment) {
        let _ = specification.with_board(&Board::default());
    }
    let _ = Board::parse("board.toml", &text);
}

/// A line to the admin socket, and one from it. What was understood is said again and understood as the same.
pub fn admin(data: &[u8]) {
    if let Ok(question) = AdminRequest::decode(data) {
        let again = serde_json::to_vec(&question).map(|line| AdminRequest::decode(&line));
        assert!(matches!(again, Ok(Ok(again)) if again == question), "{question:?}");
    }
    if let Ok(answer) = AdminReply::decode(data) {
        let again = serde_json::to_vec(&answer).map(|line| AdminReply::decode(&line));
        assert!(matches!(again, Ok(Ok(again)) if again == answer), "{answer:?}");
    }
}

/// The body of an answer of a function in another process; what it says it misses is declared, and the answer read again.
pub fn remote_reply(data: &[u8]) {
    let declared = ["seen", "count"].map(|name| Spec {
        name: name.into(),
        typename: UNSET.into(),
        expiration: Expiration::None,
    });
    let mut specs = Specs::default();
    let registered = specs.register(declared.to_vec());
    assert_eq!(registered.ok(), Some(2));
    let function = TypeName::from_static("example/greeter");
    let Ok(address) = Address::new(function, "anna") else { unreachable!("a short id") };
    let _ = Harness::new(Answered { body: data.to_vec(), specs }).invoke(&address, "hello".to_owned());
}

/// A function that was called elsewhere.
struct Answered {
    body: Vec<u8>,
    specs: Specs,
}

impl StatefulFunction for Answered {
    fn invoke(&mut self, context: &mut Context<'_>, _: &TypedValue) -> Result<(), FunctionError> {
        if let Ok(Reply::Missing(specs)) = apply_reply(&self.body, &self.specs, context) {
            let _ = self.specs.register(specs);
            let _ = apply_reply(&self.body, &self.specs, context);
        }
        Ok(())
    }
}

/// A key and its value, behind a byte that says how long the key is: as a start finds them in log and base.
pub fn state(data: &[u8]) {
    let Some((&length, rest)) = data.split_first() else { return };
    let (key, bytes) = rest.split_at(usize::from(length).min(rest.len()));
    let _ = value::decode_state(bytes);
    let _ = value::decode_letter(bytes);
    let _ = value::decode_unsent(bytes);
    let _ = value::decode_delayed(bytes);
    let _ = value::decode_dead_letter(bytes);
    let _ = value::decode_counter(bytes);
    let Some(key) = Key::decode(key) else { return };
    assert_eq!(Key::decode(&key.to_vec()), Some(key), "a key that is said again is the same");
    for config in sessions() {
        let mut recovered = RecoveredSession::default();
        recovered.take(&key, Some(bytes));
        let mut session = Session::new(Arc::clone(config), recovered, SessionStart::Resume, 1);
        session.start(Instant::from_secs(100));
        while session.poll_output().is_some() {}
    }
}

const LIMITS: StoreLimits =
    StoreLimits { segment_bytes: 1_048_576, log_bytes_max: 4_194_304, fold_keys: 100 };
const SEGMENT_HEADER_BYTES: usize = 4096;
const ENTRY_HEADER_BYTES: usize = 40;

type Content = Arc<Mutex<Vec<u8>>>;

/// Files in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Content>>>);

impl Memory {
    fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let files = files.into_iter().map(|(name, bytes)| (name, Arc::new(Mutex::new(bytes))));
        Self(Arc::new(Mutex::new(files.collect())))
    }
}

impl Disk for Memory {
    type File = Content;

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
    fn create(&mut self, name: &str) -> io::Result<Content> {
        let file = Content::default();
        self.0.lock().unwrap().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }
    fn open(&mut self, name: &str) -> io::Result<Content> {
        self.0.lock().unwrap().get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
    fn length(&mut self, file: &mut Content) -> io::Result<u64> {
        Ok(file.lock().unwrap().len() as u64)
    }
    fn read(&mut self, file: &mut Content, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = file.lock().unwrap();
        let bytes = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn write(&mut self, file: &mut Content, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = file.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let end = offset + bytes.len();
        let length = file.len().max(end);
        file.resize(length, 0);
        file[offset..end].copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self, _: &mut Content) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A base that takes everything and had nothing.
struct Nothing;

impl Base for Nothing {
    fn apply(
        &mut self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        _: Option<&Mark>,
    ) -> Result<(), BaseError> {
        changes.for_each(drop);
        Ok(())
    }
    fn mark(&self) -> Result<Option<Mark>, BaseError> {
        Ok(None)
    }
}
