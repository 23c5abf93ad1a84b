//! Which bytes is a packet? One small [`Packet`] for MQTT 5 and 3.1.1, for client and server.
//!
//! rumqttc's codecs read and write what has structure: CONNECT, CONNACK, SUBSCRIBE, UNSUBSCRIBE, and read PUBLISH. What is sent
//! or read per record is written in place: PUBLISH, so that nothing is copied but into the socket's buffer; acknowledgements,
//! because their reason codes are an open set and one that a codec does not know must not end a session.
//!
//! Invariants:
//! - A frame is cut out here before anyone parses it: an error inside it is malformed, never "more bytes please".
//! - A packet above the maximum size is an error as soon as its length is read, before its bytes are.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::config::{Protocol, Qos};

mod translate;

use translate::{from_v4, from_v5, to_v4, to_v5, with_will_v4, with_will_v5};

/// A packet, as far as a session or the simulator's broker looks at it.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub enum Packet {
    Connect(Connect),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck { id: u16, reason: u8 },
    PubRec { id: u16, reason: u8 },
    PubRel { id: u16, reason: u8 },
    PubComp { id: u16, reason: u8 },
    Subscribe { id: u16, filters: Vec<Filter> },
    SubAck { id: u16, reasons: Vec<u8> },
    Unsubscribe { id: u16, filters: Vec<String> },
    UnsubAck { id: u16, reasons: Vec<u8> },
    PingReq,
    PingResp,
    Disconnect { reason: u8 },
}

impl Packet {
    /// As the specification writes it: what a packet holds may be long, or secret.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck { .. } => "PUBACK",
            Self::PubRec { .. } => "PUBREC",
            Self::PubRel { .. } => "PUBREL",
            Self::PubComp { .. } => "PUBCOMP",
            Self::Subscribe { .. } => "SUBSCRIBE",
            Self::SubAck { .. } => "SUBACK",
            Self::Unsubscribe { .. } => "UNSUBSCRIBE",
            Self::UnsubAck { .. } => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect { .. } => "DISCONNECT",
        }
    }
}

/// The first packet of a client.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub struct Connect {
    pub protocol: Protocol,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive_seconds: u16,
    pub session_expiry_seconds: u32,
    /// 65,535 if absent.
    pub receive_maximum: u16,
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_maximum: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// What a broker publishes for a client that went away without DISCONNECT: retained, with QoS 0.
#[derive(Debug, Clone, Copy)]
pub struct Will<'a> {
    /// Where.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
}

/// The first packet of a server; what is absent under 3.1.1 has MQTT 5's default.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub struct ConnAck {
    pub session_present: bool,
    /// 0 is success; else what the version of the protocol calls it.
    pub reason: u8,
    pub receive_maximum: Option<u16>,
    pub qos_max: Qos,
    pub retain_available: bool,
    pub packet_bytes_max: Option<u32>,
    pub session_expiry_seconds: Option<u32>,
    pub keep_alive_seconds: Option<u16>,
}

/// A record on the wire.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub struct Publish {
    pub dup: bool,
    pub qos: Qos,
    pub retain: bool,
    /// 0 with QoS 0.
    pub id: u16,
    /// Empty where an alias stands for it.
    pub topic: Bytes,
    pub alias: Option<u16>,
    pub payload: Bytes,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Bytes>,
    pub user_properties: Vec<(String, String)>,
}

/// What [`write_publish`] writes, borrowed.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub struct PublishRef<'a> {
    pub dup: bool,
    pub qos: Qos,
    pub retain: bool,
    pub id: u16,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub user_properties: &'a [(String, String)],
    /// One more user property, in front of the others.
    pub message_id: Option<&'a str>,
}

/// One subscription in a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of MQTT 5")]
pub struct Filter {
    pub filter: String,
    pub qos: Qos,
    pub retain_handling: RetainHandling,
}

/// When a server sends retained records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every SUBSCRIBE (all that 3.1.1 knows).
    Always,
    /// If the subscription is new.
    WhenNew,
    /// Never.
    Never,
}

/// Why bytes are no packet. The peer's fault; the connection cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The packet is longer than was announced as acceptable.
    #[error("packet of {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: u32,
    },
    /// The bytes break the protocol.
    #[error("malformed packet: {0}")]
    Malformed(String),
}

/// The user property that carries a record's message id.
pub const MESSAGE_ID_PROPERTY: &str = "fogfun-message-id";

/// Takes the next whole packet off `stream`; `None` if it is not there yet.
///
/// # Errors
/// [`CodecError`]; the stream is of no further use then.
pub fn read(stream: &mut BytesMut, protocol: Protocol, bytes_max: u32) -> Result<Option<Packet>, CodecError> {
    let Some(length) = frame_length(stream, bytes_max)? else {
        return Ok(None);
    };
    let mut frame = stream.split_to(length);
    let kind = frame.first().copied().unwrap_or(0);
    let body = |frame: BytesMut| {
        let head = length_bytes(length) + 1;
        let mut bytes = frame.freeze();
        bytes.advance(head.min(bytes.len()));
        bytes
    };
    let packet = match kind >> 4 {
        4 => acknowledgement(&body(frame), |id, reason| Packet::PubAck { id, reason })?,
        5 => acknowledgement(&body(frame), |id, reason| Packet::PubRec { id, reason })?,
        6 => acknowledgement(&body(frame), |id, reason| Packet::PubRel { id, reason })?,
        7 => acknowledgement(&body(frame), |id, reason| Packet::PubComp { id, reason })?,
        9 => reasons(body(frame), protocol, |id, reasons| Packet::SubAck { id, reasons })?,
        11 => reasons(body(frame), protocol, |id, reasons| Packet::UnsubAck { id, reasons })?,
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect { reason: body(frame).first().copied().unwrap_or(0) },
        _ => match protocol {
            Protocol::V5 => from_v5(v5::Packet::read(&mut frame, None).map_err(malformed)?)?,
            Protocol::V311 => from_v4(v4::Packet::read(&mut frame, usize::MAX).map_err(malformed)?)?,
        },
    };
    Ok(Some(packet))
}

/// The protocol that a client's first bytes ask for; `None` until enough of them are there.
#[must_use]
pub fn protocol_of_connect(stream: &[u8]) -> Option<Protocol> {
    let head = 1 + stream.iter().skip(1).take(4).take_while(|byte| 0x80 <= **byte).count() + 1;
    // The length and text of `MQTT`, then the level.
    match stream.get(head + 6)? {
        5 => Some(Protocol::V5),
        _ => Some(Protocol::V311),
    }
}

/// The length of the packet at the start of `stream`, if all of it is there.
fn frame_length(stream: &[u8], bytes_max: u32) -> Result<Option<usize>, CodecError> {
    let mut remaining = 0_usize;
    for place in 0..4 {
        let Some(byte) = stream.get(1 + place) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let length = 2 + place + remaining;
            if usize::try_from(bytes_max).is_ok_and(|bytes_max| bytes_max < length) {
                return Err(CodecError::TooLarge { bytes: length, bytes_max });
            }
            return Ok((length <= stream.len()).then_some(length));
        }
    }
    Err(malformed("a length of more than four bytes"))
}

/// How many bytes the length field of a packet of `length` bytes in all has.
fn length_bytes(length: usize) -> usize {
    (1..=4).find(|bytes| length - 1 - bytes < 1 << (7 * bytes)).unwrap_or(4)
}

fn malformed(cause: impl ToString) -> CodecError {
    CodecError::Malformed(cause.to_string())
}

fn acknowledgement(body: &[u8], packet: impl FnOnce(u16, u8) -> Packet) -> Result<Packet, CodecError> {
    match body {
        [high, low, rest @ ..] => {
            Ok(packet(u16::from_be_bytes([*high, *low]), rest.first().copied().unwrap_or(0)))
        }
        _ => Err(malformed("an acknowledgement without packet id")),
    }
}

fn reasons(
    mut body: Bytes,
    protocol: Protocol,
    packet: impl FnOnce(u16, Vec<u8>) -> Packet,
) -> Result<Packet, CodecError> {
    let id = body.try_get_u16().map_err(malformed)?;
    if protocol == Protocol::V5 {
        let mut length = 0_usize;
        for place in 0..4 {
            let byte = body.try_get_u8().map_err(malformed)?;
            length |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        if body.len() < length {
            return Err(malformed("properties beyond the packet"));
        }
        body.advance(length);
    }
    Ok(packet(id, body.to_vec()))
}

/// Under 3.1.1, where no window is announced: Mosquitto confirms and drops beyond this many.
pub const RECEIVE_MAXIMUM_V311: u16 = 20;

/// Appends a packet.
///
/// What rumqttc cannot write (names beyond 65,535 bytes) was refused where it came in; nothing is appended then.
pub fn write(packet: &Packet, protocol: Protocol, out: &mut BytesMut) {
    match packet {
        Packet::Publish(publish) => write_publish(&publish.borrowed(), protocol, out),
        Packet::PubAck { id, reason } => write_acknowledgement(0x40, *id, *reason, protocol, out),
        Packet::PubRec { id, reason } => write_acknowledgement(0x50, *id, *reason, protocol, out),
        Packet::PubRel { id, reason } => write_acknowledgement(0x62, *id, *reason, protocol, out),
        Packet::PubComp { id, reason } => write_acknowledgement(0x70, *id, *reason, protocol, out),
        Packet::SubAck { id, reasons } => write_reasons(0x90, *id, reasons, protocol, out),
        Packet::UnsubAck { id, reasons } => match protocol {
            Protocol::V5 => write_reasons(0xB0, *id, reasons, protocol, out),
            Protocol::V311 => write_reasons(0xB0, *id, &[], protocol, out),
        },
        Packet::PingReq => out.put_slice(&[0xC0, 0]),
        Packet::PingResp => out.put_slice(&[0xD0, 0]),
        Packet::Disconnect { reason: 0 } => out.put_slice(&[0xE0, 0]),
        Packet::Disconnect { reason } => match protocol {
            Protocol::V5 => out.put_slice(&[0xE0, 1, *reason]),
            Protocol::V311 => out.put_slice(&[0xE0, 0]),
        },
        Packet::Connect(_) | Packet::ConnAck(_) | Packet::Subscribe { .. } | Packet::Unsubscribe { .. } => {
            let start = out.len();
            let written = match protocol {
                Protocol::V5 => to_v5(packet).map(|packet| packet.write(out, None).is_ok()),
                Protocol::V311 => to_v4(packet).map(|packet| packet.write(out, usize::MAX).is_ok()),
            };
            if written != Some(true) {
                out.truncate(start);
            }
        }
    }
}

/// Appends a CONNECT with a will. As with [`write()`], nothing is appended if it cannot be written.
pub fn write_connect_with_will(connect: &Connect, will: Will<'_>, out: &mut BytesMut) {
    let (packet, start) = (Packet::Connect(connect.clone()), out.len());
    let written = match connect.protocol {
        Protocol::V5 => to_v5(&packet)
            .map(|packet| with_will_v5(packet, will))
            .map(|packet| packet.write(out, None).is_ok()),
        Protocol::V311 => to_v4(&packet)
            .map(|packet| with_will_v4(packet, will))
            .map(|packet| packet.write(out, usize::MAX).is_ok()),
    };
    if written != Some(true) {
        out.truncate(start);
    }
}

/// Appends an acknowledgement: four bytes, or five with a reason.
fn write_acknowledgement(kind: u8, id: u16, reason: u8, protocol: Protocol, out: &mut BytesMut) {
    let [high, low] = id.to_be_bytes();
    if reason == 0 || protocol == Protocol::V311 {
        out.put_slice(&[kind, 2, high, low]);
    } else {
        out.put_slice(&[kind, 3, high, low, reason]);
    }
}

fn write_reasons(kind: u8, id: u16, reasons: &[u8], protocol: Protocol, out: &mut BytesMut) {
    let properties = usize::from(protocol == Protocol::V5);
    out.put_u8(kind);
    put_length(out, 2 + properties + reasons.len());
    out.put_u16(id);
    if properties == 1 {
        out.put_u8(0);
    }
    out.put_slice(reasons);
}

/// How many bytes [`write_publish`] appends.
#[must_use]
pub fn publish_bytes(publish: &PublishRef<'_>, protocol: Protocol) -> usize {
    let remaining = publish_remaining(publish, protocol);
    1 + length_of_length(remaining) + remaining
}

fn publish_remaining(publish: &PublishRef<'_>, protocol: Protocol) -> usize {
    let properties = match protocol {
        Protocol::V5 => {
            let length = properties_length(publish);
            length_of_length(length) + length
        }
        Protocol::V311 => 0,
    };
    let id = if publish.qos == Qos::AtMostOnce { 0 } else { 2 };
    2 + publish.topic.len() + id + properties + publish.payload.len()
}

fn properties_length(publish: &PublishRef<'_>) -> usize {
    let pair = |name: &str, value: &str| 5 + name.len() + value.len();
    publish.response_topic.map_or(0, |topic| 3 + topic.len())
        + publish.correlation_data.map_or(0, |data| 3 + data.len())
        + publish.message_id.map_or(0, |id| pair(MESSAGE_ID_PROPERTY, id))
        + publish.user_properties.iter().map(|(name, value)| pair(name, value)).sum::<usize>()
}

/// Appends a PUBLISH.
pub fn write_publish(publish: &PublishRef<'_>, protocol: Protocol, out: &mut BytesMut) {
    out.reserve(publish_bytes(publish, protocol));
    out.put_u8(0x30 | u8::from(publish.retain) | (publish.qos as u8) << 1 | u8::from(publish.dup) << 3);
    put_length(out, publish_remaining(publish, protocol));
    put_text(out, publish.topic);
    if publish.qos != Qos::AtMostOnce {
        out.put_u16(publish.id);
    }
    if protocol == Protocol::V5 {
        put_length(out, properties_length(publish));
        if let Some(topic) = publish.response_topic {
            out.put_u8(8);
            put_text(out, topic.as_bytes());
        }
        if let Some(data) = publish.correlation_data {
            out.put_u8(9);
            put_text(out, data);
        }
        let message_id = publish.message_id.map(|id| (MESSAGE_ID_PROPERTY, id));
        let others = publish.user_properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in message_id.into_iter().chain(others) {
            out.put_u8(38);
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        }
    }
    out.put_slice(publish.payload);
}

fn length_of_length(length: usize) -> usize {
    (1..=4).find(|bytes| length < 1 << (7 * bytes)).unwrap_or(4)
}

fn put_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7F).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Bytes behind their length; at most 65,535, which whoever let them in has checked.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    let Ok(length) = u16::try_from(text.len()) else {
        unreachable!("a name of more than 65,535 bytes was refused where it came in")
    };
    out.put_u16(length);
    out.put_slice(text);
}

impl Publish {
    /// The same, borrowed, as [`write_publish`] takes it.
    #[must_use]
    pub fn borrowed(&self) -> PublishRef<'_> {
        PublishRef {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            id: self.id,
            topic: &self.topic,
            payload: &self.payload,
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            user_properties: &self.user_properties,
            message_id: None,
        }
    }
}

#[cfg(test)]
mod tests;
