//! How do MQTT packets look on the wire? One set of packets for both versions, over rumqttc's codecs.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes as v4_common;
use rumqttc::mqttbytes::v4;
pub use rumqttc::v5::mqttbytes::QoS as Qos;
use rumqttc::v5::mqttbytes::v5;
pub use rumqttc::v5::mqttbytes::v5::Publish;
use rumqttc::v5::mqttbytes::{self as v5_common};

/// The version of MQTT spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Mqtt5,
    Mqtt311,
}

/// What a client receives. A reason of 0 is success; 3.1.1 has no other in acknowledgements.
#[derive(Debug, PartialEq)]
pub enum Received {
    Connected { session_present: bool, receive_maximum: u16 },
    Refused(String),
    Publish(Publish),
    PubAck { id: u16, failed: Option<String> },
    PubRec { id: u16, failed: Option<String> },
    PubRel { id: u16 },
    PubComp { id: u16 },
    SubAck { failed: Option<String> },
    PingResp,
    Disconnect(String),
}

/// Packets handed on unacknowledged by Mosquitto to a 3.1.1 client, and its announced Receive Maximum, by default.
pub const RECEIVE_MAXIMUM_STOCK: u16 = 20;

/// Takes the next whole packet from the front of `bytes`; `None` if more must come first.
pub fn take(version: Version, bytes: &mut BytesMut) -> Option<Received> {
    match version {
        Version::Mqtt5 => match v5::Packet::read(bytes, None) {
            Ok(packet) => Some(from_v5(packet)),
            Err(v5_common::Error::InsufficientBytes(_)) => None,
            Err(error) => panic!("the broker sent what MQTT 5 does not know: {error:?}"),
        },
        Version::Mqtt311 => match v4::Packet::read(bytes, usize::MAX) {
            Ok(packet) => Some(from_v4(packet)),
            Err(v4_common::Error::InsufficientBytes(_)) => None,
            Err(error) => panic!("the broker sent what MQTT 3.1.1 does not know: {error:?}"),
        },
    }
}

fn from_v5(packet: v5::Packet) -> Received {
    match packet {
        v5::Packet::ConnAck(ack) if ack.code == v5::ConnectReturnCode::Success => Received::Connected {
            session_present: ack.session_present,
            receive_maximum: ack.properties.and_then(|properties| properties.receive_max).unwrap_or(u16::MAX),
        },
        v5::Packet::ConnAck(ack) => Received::Refused(format!("{:?}", ack.code)),
        v5::Packet::Publish(publish) => Received::Publish(publish),
        v5::Packet::PubAck(ack) => Received::PubAck {
            id: ack.pkid,
            failed: match ack.reason {
                v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers => None,
                reason => Some(format!("{reason:?}")),
            },
        },
        v5::Packet::PubRec(ack) => Received::PubRec {
            id: ack.pkid,
            failed: match ack.reason {
                v5::PubRecReason::Success | v5::PubRecReason::NoMatchingSubscribers => None,
                reason => Some(format!("{reason:?}")),
            },
        },
        v5::Packet::PubRel(ack) => Received::PubRel { id: ack.pkid },
        v5::Packet::PubComp(ack) => Received::PubComp { id: ack.pkid },
        v5::Packet::SubAck(ack) => Received::SubAck {
            failed: ack
                .return_codes
                .iter()
                .find(|code| !matches!(code, v5::SubscribeReasonCode::Success(_)))
                .map(|code| format!("{code:?}")),
        },
        v5::Packet::PingResp(_) => Received::PingResp,
        v5::Packet::Disconnect(disconnect) => Received::Disconnect(format!("{:?}", disconnect.reason_code)),
        other => panic!("a broker does not send {other:?}"),
    }
}

fn from_v4(packet: v4::Packet) -> Received {
    match packet {
        v4::Packet::ConnAck(ack) if ack.code == v4::ConnectReturnCode::Success => Received::Connected {
            session_present: ack.session_present,
            receive_maximum: RECEIVE_MAXIMUM_STOCK,
        },
        v4::Packet::ConnAck(ack) => Received::Refused(format!("{:?}", ack.code)),
        v4::Packet::Publish(publish) => Received::Publish(Publish {
            dup: publish.dup,
            qos: v5_common::qos(publish.qos as u8).unwrap(),
            retain: publish.retain,
            topic: Bytes::from(publish.topic),
            pkid: publish.pkid,
            payload: publish.payload,
            properties: None,
        }),
        v4::Packet::PubAck(ack) => Received::PubAck { id: ack.pkid, failed: None },
        v4::Packet::PubRec(ack) => Received::PubRec { id: ack.pkid, failed: None },
        v4::Packet::PubRel(ack) => Received::PubRel { id: ack.pkid },
        v4::Packet::PubComp(ack) => Received::PubComp { id: ack.pkid },
        v4::Packet::SubAck(ack) => Received::SubAck {
            failed: ack
                .return_codes
                .iter()
                .find(|code| **code == v4::SubscribeReasonCode::Failure)
                .map(|code| format!("{code:?}")),
        },
        v4::Packet::PingResp => Received::PingResp,
        other => panic!("a broker does not send {other:?}"),
    }
}

/// CONNECT to a session that the broker keeps for an hour, or to a new one if `clean`.
pub fn connect(version: Version, client_id: &str, clean: bool, receive_maximum: u16, out: &mut BytesMut) {
    // None: a test may stop its processes for as long as it likes.
    const KEEP_ALIVE_SECONDS: u16 = 0;
    match version {
        Version::Mqtt5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(if clean { 0 } else { 3600 });
            properties.receive_maximum = Some(receive_maximum);
            let connect = v5::Connect {
                keep_alive: KEEP_ALIVE_SECONDS,
                client_id: client_id.to_owned(),
                clean_start: clean,
                properties: Some(properties),
            };
            connect.write(&None, &None, out).unwrap();
        }
        Version::Mqtt311 => {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = KEEP_ALIVE_SECONDS;
            connect.clean_session = clean;
            connect.write(out).unwrap();
        }
    }
}

/// SUBSCRIBE to one filter, under the packet id that publishers here never use.
pub fn subscribe(version: Version, filter: &str, qos: Qos, out: &mut BytesMut) {
    match version {
        Version::Mqtt5 => {
            let mut subscribe = v5::Subscribe::new(v5::Filter::new(filter, qos), None);
            subscribe.pkid = u16::MAX;
            subscribe.write(out).unwrap();
        }
        Version::Mqtt311 => {
            let mut subscribe = v4::Subscribe::new(filter, v4_qos(qos));
            subscribe.pkid = u16::MAX;
            subscribe.write(out).unwrap();
        }
    }
}

pub fn publish(version: Version, publish: &Publish, out: &mut BytesMut) {
    match version {
        Version::Mqtt5 => {
            publish.write(out).unwrap();
        }
        Version::Mqtt311 => {
            let old = v4::Publish {
                dup: publish.dup,
                qos: v4_qos(publish.qos),
                retain: publish.retain,
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                pkid: publish.pkid,
                payload: publish.payload.clone(),
            };
            old.write(out).unwrap();
        }
    }
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP: with success, the same four bytes in both versions.
#[derive(Clone, Copy, Debug)]
pub enum Acknowledge {
    Ack = 0x40,
    Rec = 0x50,
    Rel = 0x62,
    Comp = 0x70,
}

pub fn acknowledge(kind: Acknowledge, id: u16, out: &mut BytesMut) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind as u8, 2, high, low]);
}

pub fn ping(out: &mut BytesMut) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// DISCONNECT, normal.
pub fn disconnect(out: &mut BytesMut) {
    out.extend_from_slice(&[0xe0, 0]);
}

fn v4_qos(qos: Qos) -> v4_common::QoS {
    v4_common::qos(qos as u8).unwrap()
}
