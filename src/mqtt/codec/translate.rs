//! What is a packet in rumqttc's words?

use rumqttc::mqttbytes::{QoS as QosV4, v4};
use rumqttc::v5::mqttbytes::{QoS as QosV5, v5};

use super::*;

pub(super) fn from_v5(packet: v5::Packet) -> Result<Packet, CodecError> {
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
        v5::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
        }
        _ => return Err(malformed("a packet of a type that is not spoken here")),
    })
}

pub(super) fn from_connack_v5(ack: v5::ConnAck) -> Packet {
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

pub(super) fn filter_from_v5(filter: v5::Filter) -> Filter {
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

pub(super) fn from_v4(packet: v4::Packet) -> Result<Packet, CodecError> {
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
        v4::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
        }
        _ => return Err(malformed("a packet of a type that is not spoken here")),
    })
}

pub(super) fn qos_from(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// Codes of a refusal that are used by the simulator's broker; others are read as 0x80.
pub(super) fn connack_reason(code: v5::ConnectReturnCode) -> u8 {
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

pub(super) fn to_v5(packet: &Packet) -> Option<v5::Packet> {
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
            let login = connect
                .login
                .as_ref()
                .map(|(user, password)| v5::Login { username: user.clone(), password: password.clone() });
            v5::Packet::Connect(packet, None, login)
        }
        Packet::ConnAck(ack) => v5::Packet::ConnAck(connack_to_v5(ack)),
        Packet::Subscribe { id, filters } => v5::Packet::Subscribe(v5::Subscribe {
            pkid: *id,
            filters: filters.iter().map(filter_to_v5).collect(),
            properties: None,
        }),
        Packet::Unsubscribe { id, filters } => {
            v5::Packet::Unsubscribe(v5::Unsubscribe { pkid: *id, filters: filters.clone(), properties: None })
        }
        _ => return None,
    })
}

pub(super) fn connack_to_v5(ack: &ConnAck) -> v5::ConnAck {
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

pub(super) fn filter_to_v5(filter: &Filter) -> v5::Filter {
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

pub(super) fn to_v4(packet: &Packet) -> Option<v4::Packet> {
    use v4::ConnectReturnCode as Code;
    Some(match packet {
        Packet::Connect(connect) => v4::Packet::Connect(v4::Connect {
            protocol: rumqttc::Protocol::V4,
            keep_alive: connect.keep_alive_seconds,
            client_id: connect.client_id.clone(),
            clean_session: connect.clean_start,
            last_will: None,
            login: connect
                .login
                .as_ref()
                .map(|(user, password)| v4::Login { username: user.clone(), password: password.clone() }),
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
        Packet::Unsubscribe { id, filters } => {
            v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: *id, topics: filters.clone() })
        }
        _ => return None,
    })
}

pub(super) fn with_will_v5(packet: v5::Packet, will: Will<'_>) -> v5::Packet {
    match packet {
        v5::Packet::Connect(connect, _, login) => {
            let will = v5::LastWill::new(will.topic, will.payload, QosV5::AtMostOnce, true, None);
            v5::Packet::Connect(connect, Some(will), login)
        }
        other => other,
    }
}

pub(super) fn with_will_v4(packet: v4::Packet, will: Will<'_>) -> v4::Packet {
    match packet {
        v4::Packet::Connect(mut connect) => {
            let will = v4::LastWill::new(will.topic, will.payload, QosV4::AtMostOnce, true);
            connect.last_will = Some(will);
            v4::Packet::Connect(connect)
        }
        other => other,
    }
}
