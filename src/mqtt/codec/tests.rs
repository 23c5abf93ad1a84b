use super::*;

fn publish(qos: Qos) -> Publish {
    Publish {
        dup: qos == Qos::ExactlyOnce,
        qos,
        retain: true,
        id: if qos == Qos::AtMostOnce { 0 } else { 513 },
        topic: Bytes::from_static("fridge/ä/temperature".as_bytes()),
        alias: None,
        payload: Bytes::from(vec![7; 300]),
        response_topic: Some("answer".into()),
        correlation_data: Some(Bytes::from_static(b"\x00\x01")),
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
    }
}

fn packets(protocol: Protocol) -> Vec<Packet> {
    let v5 = protocol == Protocol::V5;
    let reason = if v5 { 0x97 } else { 0 };
    let mut packets = vec![
        Packet::Connect(Connect {
            protocol,
            client_id: "node".into(),
            clean_start: false,
            keep_alive_seconds: 30,
            session_expiry_seconds: if v5 { 3600 } else { u32::MAX },
            receive_maximum: if v5 { 100 } else { RECEIVE_MAXIMUM_V311 },
            packet_bytes_max: v5.then_some(70_000),
            topic_alias_maximum: if v5 { 16 } else { 0 },
            login: Some(("user".into(), "secret".into())),
        }),
        Packet::ConnAck(ConnAck {
            session_present: true,
            reason: 0,
            receive_maximum: Some(20),
            qos_max: if v5 { Qos::AtLeastOnce } else { Qos::ExactlyOnce },
            retain_available: !v5,
            packet_bytes_max: v5.then_some(1000),
            session_expiry_seconds: v5.then_some(60),
            keep_alive_seconds: v5.then_some(10),
        }),
        Packet::PubAck { id: 1, reason },
        Packet::PubRec { id: 2, reason },
        Packet::PubRel { id: 3, reason },
        Packet::PubComp { id: 0xFFFF, reason },
        Packet::Subscribe {
            id: 65_535,
            filters: vec![Filter {
                filter: "a/+/#".into(),
                qos: Qos::ExactlyOnce,
                retain_handling: if v5 { RetainHandling::WhenNew } else { RetainHandling::Always },
            }],
        },
        Packet::SubAck { id: 65_535, reasons: vec![2, 0x80] },
        Packet::Unsubscribe { id: 65_535, filters: vec!["b".into()] },
        Packet::UnsubAck { id: 65_535, reasons: if v5 { vec![0] } else { vec![] } },
        Packet::PingReq,
        Packet::PingResp,
        Packet::Disconnect { reason: if v5 { 0x8E } else { 0 } },
        Packet::Disconnect { reason: 0 },
    ];
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut packet = publish(qos);
        if !v5 {
            packet.response_topic = None;
            packet.correlation_data = None;
            packet.user_properties.clear();
        }
        packets.push(Packet::Publish(packet));
    }
    packets
}

#[test]
fn what_is_written_is_read_at_every_cut_of_the_stream() {
    for protocol in [Protocol::V5, Protocol::V311] {
        for packet in packets(protocol) {
            let mut bytes = BytesMut::new();
            write(&packet, protocol, &mut bytes);
            for cut in 0..bytes.len() {
                let mut stream = BytesMut::from(&bytes[..cut]);
                assert_eq!(read(&mut stream, protocol, u32::MAX), Ok(None), "{packet:?} cut at {cut}");
                assert_eq!(stream.len(), cut);
            }
            let mut stream = bytes.clone();
            stream.extend_from_slice(&[0xD0]);
            assert_eq!(read(&mut stream, protocol, u32::MAX), Ok(Some(packet)));
            assert_eq!(&stream[..], [0xD0]);
        }
    }
}

#[test]
fn a_publish_is_as_long_as_said() {
    for protocol in [Protocol::V5, Protocol::V311] {
        for payload in [0, 100, 127, 128, 16_383, 20_000] {
            let mut packet = publish(Qos::AtLeastOnce);
            packet.payload = vec![1; payload].into();
            let mut bytes = BytesMut::new();
            write_publish(&packet.borrowed(), protocol, &mut bytes);
            assert_eq!(publish_bytes(&packet.borrowed(), protocol), bytes.len());
        }
    }
}

#[test]
fn the_message_id_is_the_first_user_property() {
    let packet = publish(Qos::ExactlyOnce);
    let mut bytes = BytesMut::new();
    let borrowed = PublishRef { message_id: Some("m1"), ..packet.borrowed() };
    write_publish(&borrowed, Protocol::V5, &mut bytes);
    let Ok(Some(Packet::Publish(read))) = read(&mut bytes, Protocol::V5, u32::MAX) else {
        panic!("no PUBLISH")
    };
    assert_eq!(read.user_properties[0], (MESSAGE_ID_PROPERTY.to_owned(), "m1".to_owned()));
    assert_eq!(read.user_properties[1..], packet.user_properties);
}

#[test]
fn a_packet_above_the_maximum_is_refused_before_it_is_there() {
    let mut stream = BytesMut::from(&[0x30, 0xFF, 0x7F][..]);
    assert_eq!(
        read(&mut stream, Protocol::V5, 1000),
        Err(CodecError::TooLarge { bytes: 16_386, bytes_max: 1000 })
    );
}

#[test]
fn the_protocol_of_a_connect_is_seen() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut bytes = BytesMut::new();
        write(&packets(protocol)[0], protocol, &mut bytes);
        assert_eq!(protocol_of_connect(&bytes), Some(protocol));
        assert_eq!(protocol_of_connect(&bytes[..8]), None);
    }
}

proptest::proptest! {
    #[test]
    fn garbage_is_an_error_or_a_packet(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
        for protocol in [Protocol::V5, Protocol::V311] {
            let mut stream = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = read(&mut stream, protocol, 1000) {}
        }
    }
}
