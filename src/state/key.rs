//! The key layout: which bytes name a state, a waiting message, an outbox entry?
//!
//! One layout for frames, overlay and base, so recovery, fold, spill and savepoint are one code path. Bytes sort as the things
//! they name: all of a key group together, in it all of a kind, in it all of an id.
//!
//! ```text
//! group u16 BE │ kind u8 │ rest
//!
//! kind            rest                                                             value
//!  1 Session       id                                                              incarnation, subscriptions …
//!  2 Progress      id │ incarnation u64 BE │ direction u8 (0 in, 1 out)            progress of a handshake
//!  3 Counter       (nothing)                                                       next arrival number of the group
//!  4 Mailbox       id │ type │ arrival number u64 BE                               a waiting message
//!  5 Unsent        number u64 BE                                                   a message that waits for its channel
//!  6 Delayed       due ms u64 BE │ id │ type │ number u64 BE                       a delayed message, under its sender
//!  7 Token         id │ token                                                      due and number of the message it cancels
//!  8 Outbox        id │ incarnation u64 BE │ s u64 BE                              an egress record
//!  9 Accepted      id │ incarnation u64 BE │ a u64 BE                              packet id and hash of a QoS 2 PUBLISH
//! 10 Seen          id │ scope                                                      the last message ids of that scope
//! 11 AsyncOperation id │ type │ number u64 BE                                      an operation that is not over
//! 12 DeadLetter    id │ type │ number u64 BE                                       a message or record that failed
//! 13 State         id │ type │ name │ subkey                                       a persisted value, entry or element
//! ```
//! `id`, `type` and `name` are a length byte and that many bytes; token, scope and subkey are the rest of the key. Kinds that act
//! by themselves come first, state last: a start seeks the heads and never scans state.

use crate::address::{Address, TypeName};
use crate::key_group::KeyGroup;

/// What a key names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A session's incarnation and subscriptions; written by session records only.
    Session = 1,
    /// How far a session's handshakes are; written by session records only.
    Progress = 2,
    /// The next arrival number of a key group.
    Counter = 3,
    /// A message that waits for its address.
    Mailbox = 4,
    /// A message that waits for room in a channel.
    Unsent = 5,
    /// A delayed message.
    Delayed = 6,
    /// A cancellation token.
    Token = 7,
    /// An egress record that its session has not finished.
    Outbox = 8,
    /// A QoS 2 PUBLISH that was accepted and not yet finished.
    Accepted = 9,
    /// The message ids remembered for one scope of an ingress.
    Seen = 10,
    /// An async operation.
    AsyncOperation = 11,
    /// A message or record that failed for good.
    DeadLetter = 12,
    /// A persisted value, table entry or buffer element.
    State = 13,
}

impl Kind {
    /// Every kind, in key order.
    pub const ALL: [Self; 13] = [
        Self::Session,
        Self::Progress,
        Self::Counter,
        Self::Mailbox,
        Self::Unsent,
        Self::Delayed,
        Self::Token,
        Self::Outbox,
        Self::Accepted,
        Self::Seen,
        Self::AsyncOperation,
        Self::DeadLetter,
        Self::State,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A key taken apart; borrows from the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the table above says what each field is")]
pub enum Key<'a> {
    Session { id: &'a str },
    Progress { id: &'a str, incarnation: u64, direction: Direction },
    Counter { group: KeyGroup },
    Mailbox { id: &'a str, function_type: &'a str, arrival: u64 },
    Unsent { group: KeyGroup, number: u64 },
    Delayed { due_ms: u64, id: &'a str, function_type: &'a str, number: u64 },
    Token { id: &'a str, token: &'a str },
    Outbox { id: &'a str, incarnation: u64, number: u64 },
    Accepted { id: &'a str, incarnation: u64, number: u64 },
    Seen { id: &'a str, scope: &'a [u8] },
    AsyncOperation { id: &'a str, function_type: &'a str, number: u64 },
    DeadLetter { id: &'a str, function_type: &'a str, number: u64 },
    State { id: &'a str, function_type: &'a str, name: &'a str, subkey: &'a [u8] },
}

/// Which way a session's handshakes go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the broker to us.
    In = 0,
    /// From us to the broker.
    Out = 1,
}

impl<'a> Key<'a> {
    /// Appends the key's bytes to `out`.
    ///
    /// Lengths were checked where names came in ([`limits`](crate::limits)).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match *self {
            Key::Session { id } => {
                head(out, KeyGroup::of(id), Kind::Session);
                short(out, id);
            }
            Key::Progress { id, incarnation, direction } => {
                head(out, KeyGroup::of(id), Kind::Progress);
                short(out, id);
                out.extend_from_slice(&incarnation.to_be_bytes());
                out.push(direction as u8);
            }
            Key::Counter { group } => head(out, group, Kind::Counter),
            Key::Mailbox { id, function_type, arrival } => {
                addressed(out, Kind::Mailbox, id, function_type, arrival)
            }
            Key::Unsent { group, number } => {
                head(out, group, Kind::Unsent);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Key::Delayed { due_ms, id, function_type, number } => {
                head(out, KeyGroup::of(id), Kind::Delayed);
                out.extend_from_slice(&due_ms.to_be_bytes());
                short(out, id);
                short(out, function_type);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Key::Token { id, token } => {
                head(out, KeyGroup::of(id), Kind::Token);
                short(out, id);
                out.extend_from_slice(token.as_bytes());
            }
            Key::Outbox { id, incarnation, number } => numbered(out, Kind::Outbox, id, incarnation, number),
            Key::Accepted { id, incarnation, number } => {
                numbered(out, Kind::Accepted, id, incarnation, number)
            }
            Key::Seen { id, scope } => {
                head(out, KeyGroup::of(id), Kind::Seen);
                short(out, id);
                out.extend_from_slice(scope);
            }
            Key::AsyncOperation { id, function_type, number } => {
                addressed(out, Kind::AsyncOperation, id, function_type, number);
            }
            Key::DeadLetter { id, function_type, number } => {
                addressed(out, Kind::DeadLetter, id, function_type, number);
            }
            Key::State { id, function_type, name, subkey } => {
                head(out, KeyGroup::of(id), Kind::State);
                short(out, id);
                short(out, function_type);
                short(out, name);
                out.extend_from_slice(subkey);
            }
        }
        assert!(out.len() - start <= crate::limits::BASE_KEY_BYTES_MAX, "a key longer than the base takes");
    }

    /// The key's bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out);
        out
    }

    /// Takes a key apart; `None` if these bytes are no key of this layout.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let group = group_of(bytes)?;
        let kind = Kind::from_byte(*bytes.get(2)?)?;
        let mut rest = Reader(&bytes[PREFIX_BYTES..]);
        let key = match kind {
            Kind::Session => Key::Session { id: rest.short()? },
            Kind::Progress => {
                Key::Progress { id: rest.short()?, incarnation: rest.number()?, direction: rest.direction()? }
            }
            Kind::Counter => Key::Counter { group },
            Kind::Mailbox => {
                Key::Mailbox { id: rest.short()?, function_type: rest.short()?, arrival: rest.number()? }
            }
            Kind::Unsent => Key::Unsent { group, number: rest.number()? },
            Kind::Delayed => Key::Delayed {
                due_ms: rest.number()?,
                id: rest.short()?,
                function_type: rest.short()?,
                number: rest.number()?,
            },
            Kind::Token => {
                Key::Token { id: rest.short()?, token: std::str::from_utf8(rest.take_all()).ok()? }
            }
            Kind::Outbox => {
                Key::Outbox { id: rest.short()?, incarnation: rest.number()?, number: rest.number()? }
            }
            Kind::Accepted => {
                Key::Accepted { id: rest.short()?, incarnation: rest.number()?, number: rest.number()? }
            }
            Kind::Seen => Key::Seen { id: rest.short()?, scope: rest.take_all() },
            Kind::AsyncOperation => Key::AsyncOperation {
                id: rest.short()?,
                function_type: rest.short()?,
                number: rest.number()?,
            },
            Kind::DeadLetter => {
                Key::DeadLetter { id: rest.short()?, function_type: rest.short()?, number: rest.number()? }
            }
            Kind::State => Key::State {
                id: rest.short()?,
                function_type: rest.short()?,
                name: rest.short()?,
                subkey: rest.take_all(),
            },
        };
        (rest.0.is_empty() && key.group() == group).then_some(key)
    }

    /// The key group that these bytes belong to.
    #[must_use]
    pub fn group(&self) -> KeyGroup {
        match *self {
            Key::Counter { group } | Key::Unsent { group, .. } => group,
            Key::Session { id }
            | Key::Progress { id, .. }
            | Key::Mailbox { id, .. }
            | Key::Delayed { id, .. }
            | Key::Token { id, .. }
            | Key::Outbox { id, .. }
            | Key::Accepted { id, .. }
            | Key::Seen { id, .. }
            | Key::AsyncOperation { id, .. }
            | Key::DeadLetter { id, .. }
            | Key::State { id, .. } => KeyGroup::of(id),
        }
    }
}

/// The group in a key's first two bytes.
#[must_use]
pub fn group_of(key: &[u8]) -> Option<KeyGroup> {
    KeyGroup::from_number(u16::from_be_bytes(*key.first_chunk()?))
}

/// The common prefix of all keys of one kind in one group.
#[must_use]
pub fn kind_prefix(group: KeyGroup, kind: Kind) -> [u8; PREFIX_BYTES] {
    let [high, low] = group.number().to_be_bytes();
    [high, low, kind as u8]
}

/// The common prefix of all keys of one kind, one id and one function type: its mailbox, dead letters, async operations, or
/// with `name` the entries of one state.
#[must_use]
pub fn address_prefix(kind: Kind, address: &Address, name: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    head(&mut out, address.key_group(), kind);
    short(&mut out, address.id());
    short(&mut out, address.function_type().as_str());
    if let Some(name) = name {
        short(&mut out, name);
    }
    out
}

/// The common prefix of all keys of one kind and one id: a session's accepted ids, outbox, seen ids; with `incarnation` those of
/// that incarnation only.
#[must_use]
pub fn id_prefix(kind: Kind, id: &str, incarnation: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    head(&mut out, KeyGroup::of(id), kind);
    short(&mut out, id);
    if let Some(incarnation) = incarnation {
        out.extend_from_slice(&incarnation.to_be_bytes());
    }
    out
}

/// Rebuilds the address of a decoded key; `None` if the names are no names.
#[must_use]
pub fn address_of(function_type: &str, id: &str) -> Option<Address> {
    Address::new(TypeName::parse(function_type).ok()?, id).ok()
}

fn head(out: &mut Vec<u8>, group: KeyGroup, kind: Kind) {
    out.extend_from_slice(&kind_prefix(group, kind));
}

fn short(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= 255, "names are bounded where they come in");
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn addressed(out: &mut Vec<u8>, kind: Kind, id: &str, function_type: &str, number: u64) {
    head(out, KeyGroup::of(id), kind);
    short(out, id);
    short(out, function_type);
    out.extend_from_slice(&number.to_be_bytes());
}

fn numbered(out: &mut Vec<u8>, kind: Kind, id: &str, incarnation: u64, number: u64) {
    head(out, KeyGroup::of(id), kind);
    short(out, id);
    out.extend_from_slice(&incarnation.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn short(&mut self) -> Option<&'a str> {
        let (&length, rest) = self.0.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn direction(&mut self) -> Option<Direction> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        match byte {
            0 => Some(Direction::In),
            1 => Some(Direction::Out),
            _ => None,
        }
    }

    fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Group and kind.
const PREFIX_BYTES: usize = 3;
