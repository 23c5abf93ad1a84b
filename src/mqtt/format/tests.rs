use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::outbound::KafkaProducerRecord;
use super::*;
use crate::address::{Address, TypeName};
use crate::egress::MqttRecord;
use crate::limits::{ID_BYTES_MAX, VALUE_BYTES_MAX};
use crate::mqtt::builtin::Builtin;
use crate::mqtt::config::*;
use crate::mqtt::session::{MessageId, OutboxRecord, ReceivedPublish};
use crate::typed_value::TypedValue;

fn subscription(format: Format, value_type: Option<&str>) -> Subscription {
    Subscription {
        pattern: TopicPattern::parse("fridge/{id}/+").unwrap(),
        qos: Qos::ExactlyOnce,
        retained: Retained::Taken,
        format,
        value_type: value_type.map(Into::into),
        targets: Vec::new(),
        id: IdSource::Capture("id".into()),
        message_id: None,
    }
}

fn publish(payload: &[u8]) -> ReceivedPublish {
    ReceivedPublish {
        topic: Arc::from("fridge/7/t"),
        payload: Bytes::copy_from_slice(payload),
        qos: Qos::AtLeastOnce,
        retain: true,
        user_properties: vec![("n".into(), "5".into()), ("p".into(), "q".into()), ("p".into(), "r".into())],
        response_topic: Some("answer".into()),
        correlation_data: Some(Bytes::from_static(b"\xff")),
    }
}

fn decoded(subscription: &Subscription, payload: &[u8]) -> Result<Decoded, String> {
    let ingress = TypeName::from_static("example/in");
    record_of(subscription, &ingress, &publish(payload)).map_err(|error| error.to_string())
}

fn value(format: Format, value_type: Option<&str>, payload: &[u8]) -> Result<TypedValue, String> {
    decoded(&subscription(format, value_type), payload).map(|decoded| decoded.record.value)
}

#[test]
fn a_record_says_all_that_its_publish_said() {
    let record = decoded(&subscription(Format::Raw, Some("a/b")), b"x").unwrap().record;
    assert_eq!(record.id.as_deref(), Some("7"));
    assert_eq!(record.value, TypedValue::new("a/b", b"x".as_slice()));
    let headers: Vec<_> = record.headers.iter().collect();
    let expected: [(&str, &[u8]); 9] = [
        ("topic", b"fridge/7/t"),
        ("retained", b"true"),
        ("qos", b"1"),
        ("response-topic", b"answer"),
        ("correlation-data", b"\xff"),
        ("capture.id", b"7"),
        ("property.n", b"5"),
        ("property.p", b"q"),
        ("property.p", b"r"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn payloads_become_statefun_values() {
    let double = |bytes: &[u8]| value(Format::Number, None, bytes).unwrap();
    assert_eq!(double(b"21.5"), TypedValue::new("io.statefun.types/double", Builtin::Double(21.5).encode()));
    assert_eq!(
        double(b" -1e3\n"),
        TypedValue::new("io.statefun.types/double", Builtin::Double(-1000.0).encode())
    );
    assert_eq!(double(b"0"), TypedValue::new("io.statefun.types/double", Vec::new()));
    assert_eq!(
        value(Format::Number, Some("io.statefun.types/int"), b"-7").unwrap(),
        TypedValue::new("io.statefun.types/int", Builtin::Int(-7).encode())
    );
    assert_eq!(
        value(Format::Number, Some("io.statefun.types/long"), b"9007199254740993").unwrap(),
        TypedValue::new("io.statefun.types/long", Builtin::Long(9_007_199_254_740_993).encode())
    );
    assert_eq!(
        value(Format::Number, Some("io.statefun.types/float"), b"0.1").unwrap(),
        TypedValue::new("io.statefun.types/float", Builtin::Float(0.1).encode())
    );
    assert_eq!(
        value(Format::Text, None, b"hi").unwrap(),
        TypedValue::new("io.statefun.types/string", vec![0x0a, 2, b'h', b'i'])
    );
    assert_eq!(value(Format::Text, Some("a/b"), b"hi").unwrap(), TypedValue::new("a/b", b"hi".as_slice()));
    assert_eq!(value(Format::Json, Some("a/b"), b"{}").unwrap(), TypedValue::new("a/b", b"{}".as_slice()));
}

#[test]
fn a_payload_that_is_not_its_format_is_told() {
    let long = "io.statefun.types/long";
    for (format, value_type, payload, error) in [
        (Format::Number, None, "warm", "`warm` is not a decimal number"),
        (Format::Number, None, "", "`` is not a decimal number"),
        (Format::Number, None, "inf", "`inf` is not a decimal number"),
        (Format::Number, None, "NaN", "`NaN` is not a decimal number"),
        (Format::Number, None, "1e999", "`1e999` does not fit io.statefun.types/double"),
        (Format::Number, Some(long), "1.5", "`1.5` does not fit io.statefun.types/long"),
        (Format::Number, Some(long), "--1", "`--1` is not a decimal number"),
        (
            Format::Number,
            Some("io.statefun.types/int"),
            "2147483648",
            "`2147483648` does not fit io.statefun.types/int",
        ),
        (
            Format::Number,
            Some("io.statefun.types/float"),
            "1e39",
            "`1e39` does not fit io.statefun.types/float",
        ),
        (
            Format::Json,
            Some("a/b"),
            "{",
            "the payload is not JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        assert_eq!(value(format, value_type, payload.as_bytes()).unwrap_err(), error);
    }
    assert_eq!(value(Format::Text, None, b"\xff").unwrap_err(), "the payload is not UTF-8");
    assert_eq!(
        value(Format::Raw, Some("a/b"), &vec![0; VALUE_BYTES_MAX + 1]).unwrap_err(),
        "the payload has 262145 bytes, at most 262144 are taken"
    );
}

#[test]
fn an_id_comes_from_where_the_topic_says() {
    let id = |source, payload: &str| {
        let subscription = Subscription { id: source, ..subscription(Format::Raw, Some("a/b")) };
        decoded(&subscription, payload.as_bytes()).map(|decoded| decoded.record.id)
    };
    let pointer = |pointer: &str| IdSource::JsonPointer(pointer.into());
    assert_eq!(id(pointer("/a/0"), r#"{"a":["x"]}"#), Ok(Some("x".into())));
    assert_eq!(id(pointer("/a"), r#"{"a":18446744073709551615}"#), Ok(Some("18446744073709551615".into())));
    assert_eq!(id(pointer("/a"), r#"{"a":true}"#), Ok(Some("true".into())));
    assert_eq!(id(pointer("/b"), r#"{"a":true}"#).unwrap_err(), "there is nothing at the JSON pointer `/b`");
    for odd in ["1.5", "null", "{}", "18446744073709551616"] {
        assert_eq!(
            id(pointer("/a"), &format!(r#"{{"a":{odd}}}"#)).unwrap_err(),
            "at the JSON pointer `/a` is no string, bool or integer of 64 bits"
        );
    }
    assert_eq!(id(IdSource::Property("p".into()), ""), Ok(Some("q".into())));
    assert_eq!(id(IdSource::Property("x".into()), "").unwrap_err(), "there is no user property `x`");
    assert_eq!(id(IdSource::Capture("x".into()), "").unwrap_err(), "the topic has no capture `x`");
    assert_eq!(id(IdSource::None, ""), Ok(None));
    assert_eq!(
        id(pointer(""), &format!("\"{}\"", "x".repeat(ID_BYTES_MAX + 1))).unwrap_err(),
        "the id has 161 bytes, at most 160 are taken"
    );
    let elsewhere = ReceivedPublish { topic: Arc::from("oven/7/t"), ..publish(b"") };
    let ingress = TypeName::from_static("example/in");
    assert_eq!(
        record_of(&subscription(Format::Raw, Some("a/b")), &ingress, &elsewhere).unwrap_err().to_string(),
        "the topic `oven/7/t` is none of `fridge/{id}/+`"
    );
}

#[test]
fn a_message_id_is_unique_within_its_scope() {
    let message_id = |scope, source| {
        let subscription = Subscription {
            message_id: Some(MessageIdSource { source, scope, remembered: 1 }),
            ..subscription(Format::Raw, Some("a/b"))
        };
        decoded(&subscription, b"{}").map(|decoded| decoded.message_id.unwrap())
    };
    let property = || IdSource::Property("n".into());
    assert_eq!(message_id(Scope::Ingress, property()), Ok((b"".to_vec(), b"5".to_vec())));
    assert_eq!(message_id(Scope::Topic, property()), Ok((b"fridge/7/t".to_vec(), b"5".to_vec())));
    assert_eq!(message_id(Scope::Capture("id".into()), property()), Ok((b"7".to_vec(), b"5".to_vec())));
    assert_eq!(
        message_id(Scope::Topic, IdSource::Property("gone".into())).unwrap_err(),
        "there is no user property `gone`"
    );
}

fn egress(topic: Option<&str>, format: Format) -> EgressConfig {
    EgressConfig { topic: topic.map(Into::into), qos: Qos::AtLeastOnce, retain: false, format }
}

fn sent(config: &EgressConfig, value: impl Into<TypedValue>) -> Result<OutboxRecord, String> {
    let caller = Address::new(TypeName::from_static("example/fridge"), "7").unwrap();
    outbox_of(config, Some(&caller), &value.into(), MessageId::from_text("m-1").unwrap())
        .map_err(|error| error.to_string())
}

fn typed(value: Builtin<'_>) -> TypedValue {
    TypedValue::new(value.typename(), value.encode())
}

#[test]
fn built_ins_go_out_as_plain_text() {
    for (format, value, text) in [
        (Format::Text, Builtin::Text("hi"), "hi"),
        (Format::Text, Builtin::Bool(false), "false"),
        (Format::Text, Builtin::Double(21.5), "21.5"),
        (Format::Number, Builtin::Double(21.5), "21.5"),
        (Format::Number, Builtin::Long(i64::MIN), "-9223372036854775808"),
        (Format::Number, Builtin::Int(0), "0"),
        (Format::Number, Builtin::Float(0.1), "0.1"),
        (Format::Json, Builtin::Text("a\"b"), r#""a\"b""#),
        (Format::Json, Builtin::Bool(true), "true"),
        (Format::Json, Builtin::Double(1e300), "1e300"),
    ] {
        let record = sent(&egress(Some("out/{caller.id}"), format), typed(value)).unwrap();
        assert_eq!(&*record.payload, text.as_bytes());
        assert_eq!((record.topic.as_str(), record.message_id.as_str()), ("out/7", "m-1"));
    }
    let absent = TypedValue { typename: "io.statefun.types/int".into(), ..TypedValue::default() };
    assert_eq!(&*sent(&egress(Some("a"), Format::Number), absent).unwrap().payload, b"");
}

#[test]
fn own_types_go_out_as_they_are_if_the_format_allows() {
    let own = |bytes: &[u8]| TypedValue::new("a/b", bytes);
    assert_eq!(&*sent(&egress(Some("a"), Format::Raw), own(b"\xff")).unwrap().payload, b"\xff");
    assert_eq!(&*sent(&egress(Some("a"), Format::Text), own(b"x")).unwrap().payload, b"x");
    assert_eq!(&*sent(&egress(Some("a"), Format::Json), own(b"[1]")).unwrap().payload, b"[1]");
    for (format, value, error) in [
        (Format::Text, own(b"\xff"), "the value of type a/b is not UTF-8 text"),
        (
            Format::Json,
            own(b"[1"),
            "the value of type a/b is not JSON: EOF while parsing a list at line 1 column 2",
        ),
        (Format::Number, own(b"1"), "a value of type a/b is not a finite number"),
        (
            Format::Number,
            typed(Builtin::Text("1")),
            "a value of type io.statefun.types/string is not a finite number",
        ),
        (
            Format::Json,
            typed(Builtin::Double(f64::NAN)),
            "a value of type io.statefun.types/double is not a finite number",
        ),
        (
            Format::Text,
            TypedValue::new("io.statefun.types/int", b"1".as_slice()),
            "the bytes are not of their type io.statefun.types/int",
        ),
    ] {
        assert_eq!(sent(&egress(Some("a"), format), value).unwrap_err(), error);
    }
    assert_eq!(
        sent(&egress(Some("a"), Format::Raw), own(&vec![0; VALUE_BYTES_MAX + 1])).unwrap_err(),
        "the payload has 262145 bytes, at most 262144 are taken"
    );
}

#[test]
fn records_choose_their_own_topic() {
    let kafka = |topic: &str| {
        let record = KafkaProducerRecord {
            key: vec![0xff],
            value_bytes: Bytes::from_static(b"v"),
            topic: topic.into(),
        };
        TypedValue::new(KAFKA_PRODUCER_RECORD, record.encode_to_vec())
    };
    let any = egress(None, Format::Number);
    let record = sent(&any, kafka("k/1")).unwrap();
    assert_eq!((record.topic.as_str(), &*record.payload, record.qos), ("k/1", &b"v"[..], Qos::AtLeastOnce));
    assert_eq!(sent(&any, kafka("")).unwrap_err(), "neither the egress nor the record names a topic");
    assert_eq!(sent(&any, kafka("a/#")).unwrap_err(), "a topic to publish to has no wildcard (`+`, `#`)");
    assert_eq!(sent(&egress(Some("t"), Format::Raw), kafka("")).unwrap().topic, "t");
    // Fields that a fork added are skipped.
    let mut forked = kafka("k").bytes().to_vec();
    forked.extend_from_slice(b"\x22\x01h");
    assert_eq!(sent(&any, TypedValue::new(KAFKA_PRODUCER_RECORD, forked)).unwrap().topic, "k");
    assert!(
        sent(&any, TypedValue::new(KAFKA_PRODUCER_RECORD, b"\x08".as_slice()))
            .unwrap_err()
            .starts_with("not a KafkaProducerRecord: ")
    );

    let own = MqttRecord::new("m", "p").qos(Qos::ExactlyOnce).retain(true).property("a", "b");
    let record = sent(&any, own).unwrap();
    assert_eq!((record.topic.as_str(), record.qos, record.retain), ("m", Qos::ExactlyOnce, true));
    assert_eq!(record.properties, [("a".to_string(), "b".to_string())]);
    assert_eq!(sent(&any, MqttRecord::new("m", "")).unwrap().qos, Qos::AtLeastOnce);
    assert!(
        sent(&any, TypedValue::new(MqttRecord::TYPENAME, b"x".as_slice()))
            .unwrap_err()
            .starts_with("not an MQTT record: ")
    );
    assert_eq!(
        sent(&any, typed(Builtin::Int(1))).unwrap_err(),
        "neither the egress nor the record names a topic"
    );
}
