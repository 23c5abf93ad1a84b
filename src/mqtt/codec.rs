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
use rumqttc::mqttbytes::{QoS as QosV4, v4};
use rumqttc::v5::mqttbytes::{QoS as QosV5, v5};

use super::config::{Protocol, Qos};

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
        9 => reasons(body(frame), protocol, |id, reasons| Packet::SubAck {
            id,
            reasons,
        })?,
        11 => reasons(body(frame), protocol, |id, reasons| Packet::UnsubAck {
            id,
            reasons,
        })?,
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect {
            reason: body(frame).first().copied().unwrap_or(0),
        },
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
    let head = 1
        + stream
            .iter()
            .skip(1)
            .take(4)
            .take_while(|byte| 0x80 <= **byte)
            .count()
        + 1;
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
                return Err(CodecError::TooLarge {
                    bytes: length,
                    bytes_max,
                });
            }
            return Ok((length <= stream.len()).then_some(length));
        }
    }
    Err(malformed("a length of more than four bytes"))
}

/// How many bytes the length field of a packet of `length` bytes in all has.
fn length_bytes(length: usize) -> usize {
    (1..=4)
        .find(|bytes| length - 1 - bytes < 1 << (7 * bytes))
        .unwrap_or(4)
}

fn malformed(cause: impl ToString) -> CodecError {
    CodecError::Malformed(cause.to_string())
}

fn acknowledgement(body: &[u8], packet: impl FnOnce(u16, u8) -> Packet) -> Result<Packet, CodecError> {
    match body {
        [high, low, rest @ ..] => Ok(packet(
            u16::from_be_bytes([*high, *low]),
            rest.first().copied().unwrap_or(0),
        )),
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

fn from_v5(packet: v5::Packet) -> Result<Packet, CodecError> {
    Ok(match packet {
        v5::Packet::Connect(connect, _, login) => {
            let properties = connect.properties.unwrap_or_else(v5::ConnectProperties::new);
            Packet::Connect(Connect {
                protocol: Protocol::V5,
                client_id: connect.client_id,
                clean_start: connect.clean_start,
                keep_alive_seconds: connect.keep_alive,
                session_expiry_seconds: properties.session_expiry_interval.unwrap_or(0),
                receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
                packet_bytes_max: properties.max_packet_size,
                topic_alias_maximum: properties.topic_alias_max.unwrap_or(0),
                login: login.map(|login| (login.username, login.password)),
            })
        }
        v5::Packet::ConnAck(ack) => from_connack_v5(ack),
        v5::Packet::Publish(publish) => {
            let properties = publish.properties.unwrap_or_default();
            Packet::Publish(Publish {
                dup: publish.dup,
                qos: qos_from(publish.qos as u8),
                retain: publish.retain,
                id: publish.pkid,
                topic: publish.topic,
                alias: properties.topic_alias,
                payload: publish.payload,
                response_topic: properties.response_topic,
                correlation_data: properties.correlation_data,
                user_properties: properties.user_properties,
            })
        }
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(filter_from_v5).collect(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
            id: unsubscribe.pkid,
            filters: unsubscribe.filters,
        },
        other => return Err(malformed(format!("a packet that no one asked for: {other:?}"))),
    })
}

fn from_connack_v5(ack: v5::ConnAck) -> Packet {
    let reason = connack_reason(ack.code);
    let (properties, session_present) = (ack.properties, ack.session_present);
    let read = |find: fn(&v5::ConnAckProperties) -> Option<u32>| properties.as_ref().and_then(find);
    let short = |value: Option<u32>| value.and_then(|value| u16::try_from(value).ok());
    Packet::ConnAck(ConnAck {
        session_present,
        reason,
        receive_maximum: short(read(|found| found.receive_max.map(u32::from))),
        qos_max: read(|found| found.max_qos.map(u32::from))
            .map_or(Qos::ExactlyOnce, |qos| qos_from(u8::try_from(qos).unwrap_or(2))),
        retain_available: read(|found| found.retain_available.map(u32::from)) != Some(0),
        packet_bytes_max: read(|found| found.max_packet_size),
        session_expiry_seconds: read(|found| found.session_expiry_interval),
        keep_alive_seconds: short(read(|found| found.server_keep_alive.map(u32::from))),
    })
}

fn filter_from_v5(filter: v5::Filter) -> Filter {
    Filter {
        filter: filter.path,
        qos: qos_from(filter.qos as u8),
        retain_handling: match filter.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => RetainHandling::Always,
            v5::RetainForwardRule::OnNewSubscribe => RetainHandling::WhenNew,
            v5::RetainForwardRule::Never => RetainHandling::Never,
        },
    }
}

fn from_v4(packet: v4::Packet) -> Result<Packet, CodecError> {
    Ok(match packet {
        v4::Packet::Connect(connect) => Packet::Connect(Connect {
            protocol: Protocol::V311,
            client_id: connect.client_id,
            clean_start: connect.clean_session,
            keep_alive_seconds: connect.keep_alive,
            session_expiry_seconds: if connect.clean_session { 0 } else { u32::MAX },
            receive_maximum: RECEIVE_MAXIMUM_V311,
            packet_bytes_max: None,
            topic_alias_maximum: 0,
            login: connect.login.map(|login| (login.username, login.password)),
        }),
        v4::Packet::ConnAck(ack) => Packet::ConnAck(ConnAck {
            session_present: ack.session_present,
            reason: ack.code as u8,
            receive_maximum: Some(RECEIVE_MAXIMUM_V311),
            qos_max: Qos::ExactlyOnce,
            retain_available: true,
            packet_bytes_max: None,
            session_expiry_seconds: None,
            keep_alive_seconds: None,
        }),
        v4::Packet::Publish(publish) => Packet::Publish(Publish {
            dup: publish.dup,
            qos: qos_from(publish.qos as u8),
            retain: publish.retain,
            id: publish.pkid,
            topic: publish.topic.into(),
            alias: None,
            payload: publish.payload,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| Filter {
                    filter: filter.path,
                    qos: qos_from(filter.qos as u8),
                    retain_handling: RetainHandling::Always,
                })
                .collect(),
        },
        v4::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
            id: unsubscribe.pkid,
            filters: unsubscribe.topics,
        },
        other => return Err(malformed(format!("a packet that no one asked for: {other:?}"))),
    })
}

/// Under 3.1.1, where no window is announced: Mosquitto confirms and drops beyond this many.
pub const RECEIVE_MAXIMUM_V311: u16 = 20;

fn qos_from(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// Codes of a refusal that are used by the simulator's broker; others are read as 0x80.
fn connack_reason(code: v5::ConnectReturnCode) -> u8 {
    use v5::ConnectReturnCode as Code;
    match code {
        Code::Success => 0,
        Code::MalformedPacket => 0x81,
        Code::ProtocolError => 0x82,
        Code::ImplementationSpecificError => 0x83,
        Code::UnsupportedProtocolVersion => 0x84,
        Code::ClientIdentifierNotValid => 0x85,
        Code::BadUserNamePassword => 0x86,
        Code::NotAuthorized => 0x87,
        Code::ServerUnavailable => 0x88,
        Code::ServerBusy => 0x89,
        Code::Banned => 0x8A,
        Code::QuotaExceeded => 0x97,
        Code::ConnectionRateExceeded => 0x9F,
        _ => 0x80,
    }
}

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
        + publish
            .user_properties
            .iter()
            .map(|(name, value)| pair(name, value))
            .sum::<usize>()
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
        let others = publish
            .user_properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
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

fn to_v5(packet: &Packet) -> Option<v5::Packet> {
    Some(match packet {
        Packet::Connect(connect) => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(connect.session_expiry_seconds);
            properties.receive_maximum = Some(connect.receive_maximum);
            properties.max_packet_size = connect.packet_bytes_max;
            properties.topic_alias_max = Some(connect.topic_alias_maximum);
            let packet = v5::Connect {
                keep_alive: connect.keep_alive_seconds,
                client_id: connect.client_id.clone(),
                clean_start: connect.clean_start,
                properties: Some(properties),
            };
            let login = connect.login.as_ref().map(|(user, password)| v5::Login {
                username: user.clone(),
                password: password.clone(),
            });
            v5::Packet::Connect(packet, None, login)
        }
        Packet::ConnAck(ack) => v5::Packet::ConnAck(connack_to_v5(ack)),
        Packet::Subscribe { id, filters } => v5::Packet::Subscribe(v5::Subscribe {
            pkid: *id,
            filters: filters.iter().map(filter_to_v5).collect(),
            properties: None,
        }),
        Packet::Unsubscribe { id, filters } => v5::Packet::Unsubscribe(v5::Unsubscribe {
            pkid: *id,
            filters: filters.clone(),
            properties: None,
        }),
        _ => return None,
    })
}

fn connack_to_v5(ack: &ConnAck) -> v5::ConnAck {
    use v5::ConnectReturnCode as Code;
    v5::ConnAck {
        session_present: ack.session_present,
        code: match ack.reason {
            0 => Code::Success,
            0x86 => Code::BadUserNamePassword,
            0x87 => Code::NotAuthorized,
            0x89 => Code::ServerBusy,
            _ => Code::UnspecifiedError,
        },
        properties: Some(v5::ConnAckProperties {
            session_expiry_interval: ack.session_expiry_seconds,
            receive_max: ack.receive_maximum,
            max_qos: (ack.qos_max != Qos::ExactlyOnce).then_some(ack.qos_max as u8),
            retain_available: (!ack.retain_available).then_some(0),
            max_packet_size: ack.packet_bytes_max,
            assigned_client_identifier: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: ack.keep_alive_seconds,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }),
    }
}

fn filter_to_v5(filter: &Filter) -> v5::Filter {
    let mut packet = v5::Filter::new(
        filter.filter.clone(),
        match filter.qos {
            Qos::AtMostOnce => QosV5::AtMostOnce,
            Qos::AtLeastOnce => QosV5::AtLeastOnce,
            Qos::ExactlyOnce => QosV5::ExactlyOnce,
        },
    );
    packet.retain_forward_rule = match filter.retain_handling {
        RetainHandling::Always => v5::RetainForwardRule::OnEverySubscribe,
        RetainHandling::WhenNew => v5::RetainForwardRule::OnNewSubscribe,
        RetainHandling::Never => v5::RetainForwardRule::Never,
    };
    packet
}

fn to_v4(packet: &Packet) -> Option<v4::Packet> {
    use v4::ConnectReturnCode as Code;
    Some(match packet {
        Packet::Connect(connect) => v4::Packet::Connect(v4::Connect {
            protocol: rumqttc::Protocol::V4,
            keep_alive: connect.keep_alive_seconds,
            client_id: connect.client_id.clone(),
            clean_session: connect.clean_start,
            last_will: None,
            login: connect.login.as_ref().map(|(user, password)| v4::Login {
                username: user.clone(),
                password: password.clone(),
            }),
        }),
        Packet::ConnAck(ack) => v4::Packet::ConnAck(v4::ConnAck {
            session_present: ack.session_present,
            code: match ack.reason {
                0 => Code::Success,
                4 => Code::BadUserNamePassword,
                5 => Code::NotAuthorized,
                _ => Code::ServiceUnavailable,
            },
        }),
        Packet::Subscribe { id, filters } => v4::Packet::Subscribe(v4::Subscribe {
            pkid: *id,
            filters: filters
                .iter()
                .map(|filter| {
                    v4::SubscribeFilter::new(
                        filter.filter.clone(),
                        match filter.qos {
                            Qos::AtMostOnce => QosV4::AtMostOnce,
                            Qos::AtLeastOnce => QosV4::AtLeastOnce,
                            Qos::ExactlyOnce => QosV4::ExactlyOnce,
                        },
                    )
                })
                .collect(),
        }),
        Packet::Unsubscribe { id, filters } => v4::Packet::Unsubscribe(v4::Unsubscribe {
            pkid: *id,
            topics: filters.clone(),
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
