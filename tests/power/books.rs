//! What had the node promised at this instant, and does a data directory keep it?
//!
//! The log's entries are read from what was written, by the page docs/formats/epoch-log.md and none of the store's code. An entry is *owed*
//! once the write that brought it was synced under its name. What the epochs up to an entry make of keys and values is the model; a start
//! must find the model of an entry that was written, and of none before the last one that is owed.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use fogfun::epoch::frame::{FrameBuilder, read_records, read_sections};
use fogfun::epoch::{Epoch, TimeStamp};
use fogfun::host::base::{LmdbBase, LmdbReader};
use fogfun::host::files::FileDisk;
use fogfun::state::key::Key;
use fogfun::state::value::decode_state;
use fogfun::store::{BaseRead as _, LogEntry, Recovered, Store, StoreCommand, StoreEvent, StoreLimits};

use crate::disk::Disk;
use crate::trace::Event;

/// Keys and values; deletes are absent.
type Values = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// One entry of the log.
#[derive(Clone)]
struct Entry {
    /// A frame's; session records have none.
    epoch: Option<u64>,
    records: Vec<(Vec<u8>, Option<Arc<[u8]>>)>,
}

/// What is owed.
#[derive(Default)]
pub struct Books {
    entries: BTreeMap<u64, Entry>,
    /// Entries in each file of the log that may not be synced yet.
    unsynced: BTreeMap<String, u64>,
    /// The last entry that is owed, and what the epochs up to it make.
    owed: u64,
    epoch: u64,
    model: Values,
    /// What a client has begun to send on a socket; `None` if it is no client.
    streams: BTreeMap<String, Option<Vec<u8>>>,
    /// The highest count that went out for each id, and how many records were acknowledged.
    told: BTreeMap<String, u64>,
    acknowledged: u64,
}

impl Books {
    /// Takes one event, which `disk` has taken already.
    ///
    /// # Errors
    /// If something left that is not owed.
    pub fn note(&mut self, event: &Event, disk: &Disk) -> Result<(), String> {
        match event {
            Event::Write { path, offset, bytes } if path.starts_with("data/log/") => {
                self.read_entries(path, *offset, bytes)
            }
            Event::Rename { from, to } => {
                if let Some(last) = self.unsynced.remove(from) {
                    self.unsynced.insert(to.clone(), last);
                }
                Ok(())
            }
            Event::Sync(path) if path == "data/log" => self.settle(|name| disk.is_synced(name)),
            Event::Sync(path) => self.settle(|name| name == path && name.contains("/log-")),
            Event::Sent { socket, bytes } => self.sent(socket, bytes),
            _ => Ok(()),
        }
    }

    /// What went out, for a note in the test's output.
    pub fn told(&self) -> (u64, u64) {
        (self.told.values().sum(), self.acknowledged)
    }

    /// How often an id may at least have counted.
    pub fn counts_told(&self) -> &BTreeMap<String, u64> {
        &self.told
    }

    fn read_entries(&mut self, path: &str, offset: usize, bytes: &[u8]) -> Result<(), String> {
        if path.contains("manifest") {
            return Ok(());
        }
        let mut at = if offset == 0 { SEGMENT_HEADER_BYTES } else { 0 };
        // What a recycled file held before carries another random number.
        let random = bytes.get(at + 8..at + 16).map(<[u8]>::to_vec).unwrap_or_default();
        while let Some(header) = bytes.get(at..at + ENTRY_HEADER_BYTES) {
            let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
            let length = usize::try_from(number(0) & 0xFFFF_FFFF).unwrap();
            let payload = bytes.get(at + ENTRY_HEADER_BYTES..at + ENTRY_HEADER_BYTES + length);
            let is_entry = header[8..16] == random && header[16..24] != [0; 8];
            let (true, Some(payload)) = (is_entry, payload) else { break };
            let entry =
                Entry::read(header[32], payload).ok_or_else(|| format!("{path}: no entry at {at}"))?;
            self.entries.insert(number(16), entry);
            self.unsynced.insert(path.to_owned(), number(16));
            at += (ENTRY_HEADER_BYTES + length).next_multiple_of(8);
        }
        Ok(())
    }

    fn settle(&mut self, is_settled: impl Fn(&str) -> bool) -> Result<(), String> {
        let settled = self
            .unsynced
            .iter()
            .filter(|(name, _)| name.contains("/log-") && is_settled(name))
            .map(|it| *it.1);
        let owed = settled.max().unwrap_or(0).max(self.owed);
        self.unsynced.retain(|name, _| !(name.contains("/log-") && is_settled(name)));
        while self.owed < owed {
            self.owed += 1;
            let entry = self.entries.get(&self.owed).ok_or_else(|| format!("no entry {}", self.owed))?;
            self.epoch = entry.epoch.unwrap_or(self.epoch);
            entry.apply(&mut self.model);
        }
        Ok(())
    }

    /// Takes what goes over a socket: nothing may leave that is not owed.
    fn sent(&mut self, socket: &str, bytes: &[u8]) -> Result<(), String> {
        const CONNECT: u8 = 0x10;
        let is_client = bytes.first() == Some(&CONNECT);
        let stream = self.streams.entry(socket.to_owned()).or_insert_with(|| is_client.then(Vec::new));
        // Others are the admin socket's.
        let Some(stream) = stream else { return Ok(()) };
        stream.extend_from_slice(bytes);
        let mut packets = Vec::new();
        while let Some((body, length)) = packet(stream) {
            packets.push((stream[0], stream[body].to_vec()));
            stream.drain(..length);
        }
        packets.iter().try_for_each(|(first, body)| self.left(first >> 4, body))
    }

    fn left(&mut self, kind: u8, body: &[u8]) -> Result<(), String> {
        if kind == PUBREC {
            let packet_id = u16::from_be_bytes([body[0], body[1]]);
            if !self.model.iter().any(|(key, value)| is_accepted(key, value, packet_id)) {
                return Err(format!("PUBREC {packet_id} left, and no durable frame has accepted it"));
            }
            self.acknowledged += 1;
        } else if kind == PUBLISH {
            let (id, count) = record_in(body).ok_or("a PUBLISH that is none of ours")?;
            let counted = count_of(&self.model, &id);
            if counted < count {
                return Err(format!("{count} left for {id}, which has durably counted {counted}"));
            }
            let told = self.told.entry(id).or_default();
            *told = count.max(*told);
        }
        Ok(())
    }

    /// Starts a store on the directory and compares what it finds with what is owed. With `goes_on` it then appends, folds all
    /// and starts again.
    ///
    /// # Errors
    /// What a person would have to hear.
    pub fn check(&self, data: &Path, goes_on: bool) -> Result<(), String> {
        let (mut opened, mut values) = Opened::start(data)?;
        self.compare(&opened.recovered, &values)?;
        if !goes_on {
            return Ok(());
        }
        let key = Key::State { id: "after", function_type: "after/cut", name: "it", subkey: b"" };
        let mut builder = FrameBuilder::default();
        builder.put(&key, |out| out.extend_from_slice(b"goes on"));
        let mut sections = Vec::new();
        builder.finish(&mut sections);
        values.insert(key.to_vec(), Arc::from(&b"goes on"[..]));
        opened.append(sections)?;
        opened.fold()?;
        drop(opened);
        let (again, found) = Opened::start(data)?;
        match again.recovered.degraded.is_some() || found != values {
            true => Err(format!("after an epoch and a fold more: {:?}", again.recovered)),
            false => Ok(()),
        }
    }

    fn compare(&self, recovered: &Recovered, values: &Values) -> Result<(), String> {
        if let Some(degraded) = &recovered.degraded {
            return Err(format!("degraded: {degraded:?}"));
        }
        if recovered.damaged_entries != 0 {
            return Err(format!("{} damaged entries", recovered.damaged_entries));
        }
        let (mut model, mut epoch, mut entry) = (self.model.clone(), self.epoch, self.owed);
        loop {
            if epoch == recovered.epoch.0 && model == *values {
                return Ok(());
            }
            entry += 1;
            let Some(next) = self.entries.get(&entry) else { break };
            epoch = next.epoch.unwrap_or(epoch);
            next.apply(&mut model);
        }
        let found = recovered.epoch;
        let Self { epoch, owed, .. } = self;
        let differing = values.iter().filter(|(key, value)| self.model.get(*key) != Some(value)).count();
        Err(format!(
            "started at epoch {found} with {} values, {differing} of them not those of epoch {epoch}, entry {owed}, \
             which is owed; nor is it a later one",
            values.len()
        ))
    }
}

impl Entry {
    fn read(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        let mut take = |key: &[u8], value: Option<&[u8]>| records.push((key.to_vec(), value.map(Arc::from)));
        let epoch = if kind == KIND_FRAME {
            type Head = (u64, u64, u64, Option<(u64, u64)>);
            let ((_, epoch, ..), sections) = postcard::take_from_bytes::<Head>(payload).ok()?;
            read_sections(sections, take).ok()?;
            Some(epoch)
        } else {
            let taken = read_records(payload, |key, value| {
                take(key, value);
                Ok(())
            });
            taken.ok()?;
            None
        };
        Some(Self { epoch, records })
    }

    fn apply(&self, values: &mut Values) {
        for (key, value) in &self.records {
            match value {
                Some(value) => values.insert(key.clone(), Arc::clone(value)),
                None => values.remove(key),
            };
        }
    }
}

/// A store on a data directory, as a node opens it.
struct Opened {
    store: Store<FileDisk, LmdbBase>,
    recovered: Recovered,
}

impl Opened {
    /// Also says every key and value of base and log together.
    fn start(data: &Path) -> Result<(Self, Values), String> {
        let disk = FileDisk::open(&data.join("log")).map_err(|error| error.to_string())?;
        let opened = LmdbBase::open(&data.join("base"), MAP_BYTES);
        let (base, reader) = opened.map_err(|error| error.to_string())?;
        let mut replayed = Vec::new();
        let mut replay = |key: &[u8], value: Option<&[u8]>| {
            replayed.push((key.to_vec(), value.map(Arc::<[u8]>::from)));
        };
        let opened = Store::open(disk, base, LIMITS, 7, &mut replay);
        let (store, recovered) = opened.map_err(|error| error.to_string())?;
        let mut values = values_of(&reader)?;
        Entry { epoch: None, records: replayed }.apply(&mut values);
        Ok((Self { store, recovered }, values))
    }

    fn append(&mut self, sections: Vec<u8>) -> Result<(), String> {
        let Recovered { view, epoch, time, .. } = self.recovered;
        let time = TimeStamp { runtime_ms: time.runtime_ms, proven: time.proven };
        let frame =
            LogEntry::Frame { view: view.max(1), epoch: Epoch(epoch.0 + 1), time, sections: vec![sections] };
        match self.store.handle(StoreCommand::Append(vec![frame])) {
            StoreEvent::Appended { .. } => Ok(()),
            event => Err(format!("{event:?}")),
        }
    }

    fn fold(&mut self) -> Result<(), String> {
        loop {
            match self.store.handle(StoreCommand::Fold) {
                StoreEvent::Folded { complete: true, .. } => return Ok(()),
                StoreEvent::Folded { .. } => {}
                event => return Err(format!("{event:?}")),
            }
        }
    }
}

fn values_of(reader: &LmdbReader) -> Result<Values, String> {
    let mut values = Values::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        values.insert(key.to_vec(), Arc::from(value));
        ControlFlow::Continue(())
    };
    reader.seek(&[], &mut visit).map_err(|error| error.to_string())?;
    Ok(values)
}

/// Where the body of the first packet lies, and where the packet ends; `None` if more must come.
fn packet(bytes: &[u8]) -> Option<(Range<usize>, usize)> {
    let (mut length, mut shift, mut at) = (0, 0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << shift;
        (shift, at) = (shift + 7, at + 1);
        if byte & 0x80 == 0 {
            break;
        }
    }
    (at + length <= bytes.len()).then_some((at..at + length, at + length))
}

/// The id and the count of a record in the body of a PUBLISH of quality 2: `out/<id>` gets `<count> <text>`.
fn record_in(body: &[u8]) -> Option<(String, u64)> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let id = std::str::from_utf8(topic).ok()?.strip_prefix("out/")?;
    let (_packet_id, rest) = rest.split_first_chunk::<2>()?;
    let (&properties, rest) = rest.split_first()?;
    assert!(properties < 0x80, "our records have few properties");
    let text = std::str::from_utf8(rest.get(usize::from(properties)..)?).ok()?;
    Some((id.to_owned(), text.split(' ').next()?.parse().ok()?))
}

/// How often an id has counted, by the state of its function.
fn count_of(values: &Values, id: &str) -> u64 {
    let key = Key::State { id, function_type: "counting/count", name: "count", subkey: b"" }.to_vec();
    let count = || {
        let state = decode_state(values.get(&key)?)?;
        // A StateFun long: a tag, then eight bytes little-endian.
        Some(u64::from_le_bytes(state.value.get(1..9)?.try_into().ok()?))
    };
    count().unwrap_or(0)
}

/// Does the key name a PUBLISH with this packet id that was accepted and is not finished?
fn is_accepted(key: &[u8], value: &[u8], packet_id: u16) -> bool {
    let field = || {
        let mut decoder = minicbor::Decoder::new(value);
        decoder.map().ok()?;
        (decoder.u8().ok()? == 0).then(|| decoder.u16().ok())?
    };
    matches!(Key::decode(key), Some(Key::Accepted { .. })) && field() == Some(packet_id)
}

/// The board of the recorded node, which the test writes.
const LIMITS: StoreLimits =
    StoreLimits { segment_bytes: 1_048_576, log_bytes_max: 4_194_304, fold_keys: 100 };
const MAP_BYTES: usize = 64 * 1024 * 1024;

const SEGMENT_HEADER_BYTES: usize = 4096;
const ENTRY_HEADER_BYTES: usize = 40;
const KIND_FRAME: u8 = 1;
const PUBLISH: u8 = 3;
const PUBREC: u8 = 5;
