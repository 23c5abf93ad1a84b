//! What a function in another process is asked, and what comes of its answer: against bytes of StateFun's own SDK, and against any.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::protobuf::{put_bytes, put_length};
use super::reply::{Reply, ReplyError, apply_reply};
use super::request::{encode_request, invocation_bytes};
use super::specs::{Spec, SpecError, Specs, UNSET};
use super::value::ValueToWrite;
use crate::address::{Address, TypeName};
use crate::function::effects::{Change, DelayedEffect, Effects, Mutation};
use crate::function::{Context, Directory, Expiration};
use crate::limits::{EFFECTS_BYTES_MAX, STATES_PER_FUNCTION_TYPE_MAX, VALUE_BYTES_MAX};
use crate::message::{EgressRecord, Message};
use crate::payload::Payload;
use crate::state::value::{Letter, StateValue};
use crate::testing::MemoryState;
use crate::typed_value::{TypedValue, UnknownFields, Value};

const GREETER: TypeName = TypeName::from_static("example/greeter");
const OTHER: TypeName = TypeName::from_static("example/other");
const OUT: TypeName = TypeName::from_static("example/out");
const NOW_MS: u64 = 1_000_000;

struct Known;

impl Directory for Known {
    fn binds_function(&self, function_type: &TypeName) -> bool {
        [GREETER, OTHER].contains(function_type)
    }

    fn has_operation(&self, _: &TypeName) -> bool {
        false
    }

    fn has_egress(&self, egress: &TypeName) -> bool {
        *egress == OUT
    }
}

/// The vectors of `tests/golden/statefun/vectors.txt`, which `make.py` beside it explains.
fn vector(name: &str) -> Vec<u8> {
    let lines = include_str!("../../tests/golden/statefun/vectors.txt").lines();
    let mut named = lines.filter_map(|line| line.split_once(' ')).filter(|(found, _)| *found == name);
    let hex = named.next().unwrap_or_else(|| panic!("no vector {name}")).1;
    data_encoding::HEXLOWER.decode(hex.trim_start_matches('-').as_bytes()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn address(function_type: TypeName, id: &str) -> Address {
    Address::new(function_type, id).unwrap()
}

fn letter(caller: Option<Address>, argument: TypedValue) -> Letter {
    Letter { caller, argument, headers: None }
}

fn state_value(typename: &str, value: impl Into<Payload>, expires_at_ms: Option<u64>) -> StateValue {
    let unknown_fields = UnknownFields::NONE;
    StateValue { typename: typename.into(), value: value.into(), expires_at_ms, unknown_fields }
}

fn foreign() -> UnknownFields {
    UnknownFields::copy_from(b"\x22\x03abc")
}

/// The states of the greeter in `make.py`.
fn greeter_specs() -> Vec<Spec> {
    let spec = |name: &str, typename: &str, expiration| Spec {
        name: name.into(),
        typename: typename.into(),
        expiration,
    };
    vec![
        spec("seen", i64::TYPENAME, Expiration::None),
        spec("name", String::TYPENAME, Expiration::AfterWrite(Duration::from_secs(90))),
        spec("zero", i32::TYPENAME, Expiration::AfterCall(Duration::from_millis(1_500))),
        spec("kept", "example/note", Expiration::None),
    ]
}

fn registered(declared: Vec<Spec>) -> Specs {
    let mut specs = Specs::default();
    specs.register(declared).unwrap();
    specs
}

fn apply_to(state: &mut MemoryState, body: &[u8], specs: &Specs) -> (Result<Reply, ReplyError>, Effects) {
    let (target, mut effects) = (address(GREETER, "Bob"), Effects::default());
    let mut context = Context::new(&target, None, None, NOW_MS, &mut effects, state, &Known);
    let reply = apply_reply(body, specs, &mut context);
    (reply, effects)
}

fn applied(body: &[u8], specs: &Specs) -> (Result<Reply, ReplyError>, Effects) {
    apply_to(&mut MemoryState::default(), body, specs)
}

/// A field that is a message of these fields.
fn nested(number: u32, fields: &[Vec<u8>]) -> Vec<u8> {
    let (bytes, mut out) = (fields.concat(), Vec::new());
    put_length(number, bytes.len(), &mut out);
    out.extend(bytes);
    out
}

fn text(number: u32, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(number, text.as_bytes(), &mut out);
    out
}

fn result(fields: &[Vec<u8>]) -> Vec<u8> {
    nested(100, fields)
}

fn target(number: u32, function_type: &TypeName, id: &str) -> Vec<u8> {
    nested(number, &[text(1, function_type.namespace()), text(2, function_type.name()), text(3, id)])
}

fn argument(number: u32, value: &TypedValue) -> Vec<u8> {
    let mut out = Vec::new();
    ValueToWrite::from(value).put(&mut out);
    nested(number, &[out])
}

fn send(id: &str, value: impl Into<TypedValue>) -> Vec<u8> {
    nested(2, &[target(1, &OTHER, id), argument(2, &value.into())])
}

fn modify(name: &str, value: impl Into<TypedValue>) -> Vec<u8> {
    nested(1, &[vec![0x08, 1], text(2, name), argument(3, &value.into())])
}

#[test]
fn requests_are_byte_for_byte_those_of_protobuf() {
    let bob = address(GREETER, "Bob");
    let first = letter(None, "hi".into());
    assert_eq!(
        hex(&encode_request(&bob, std::iter::empty(), [&first].into_iter())),
        hex(&vector("request.first"))
    );

    let names = ["kept", "name", "seen", "zero"];
    let quiet = letter(None, "quiet".into());
    let states = names.into_iter().map(|name| (name, None));
    let request = encode_request(&address(GREETER, "Eve"), states, [&quiet].into_iter());
    assert_eq!(hex(&request), hex(&vector("request.quiet")));

    let kept =
        StateValue { unknown_fields: foreign(), ..state_value("example/note", &b"as it was"[..], Some(9)) };
    let seen = state_value(i64::TYPENAME, 7_i64.encode(), None);
    let zero = state_value(i32::TYPENAME, 0_i32.encode(), None);
    let states = [("kept", Some(&kept)), ("name", None), ("seen", Some(&seen)), ("zero", Some(&zero))];
    let letters = [
        letter(None, TypedValue { unknown_fields: foreign(), ..TypedValue::from("loud") }),
        letter(Some(address(OTHER, "y")), "quiet".into()),
        letter(
            Some(address(OTHER, "")),
            TypedValue { typename: "example/note".into(), ..TypedValue::default() },
        ),
    ];
    let request = encode_request(&bob, states.into_iter(), letters.iter());
    assert_eq!(hex(&request), hex(&vector("request.full")));
}

#[test]
fn a_letter_adds_as_many_bytes_as_it_says() {
    let bob = address(GREETER, "Bob");
    let length = |letters: &[Letter]| encode_request(&bob, std::iter::empty(), letters.iter()).len();
    let small = letter(None, "first".into());
    for bytes in [0, 1, 100, 20_000] {
        let next = letter(Some(address(OTHER, "x")), TypedValue::new("a/b", vec![7; bytes]));
        let added =
            length(&[small.clone(), small.clone(), next.clone()]) - length(&[small.clone(), small.clone()]);
        // The batch's own length may need more bytes.
        assert!((invocation_bytes(&next)..=invocation_bytes(&next) + 2).contains(&added));
    }
}

#[test]
fn what_the_sdk_declares_is_learnt() {
    let (reply, effects) = applied(&vector("reply.missing"), &Specs::default());
    let Ok(Reply::Missing(missing)) = reply else { panic!("{reply:?}") };
    let by_name = |specs: Vec<Spec>| {
        specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(by_name(missing), by_name(greeter_specs()));
    assert!(effects.is_empty());
}

#[test]
fn what_the_sdk_answers_becomes_effects() {
    let specs = registered(greeter_specs());
    let (reply, effects) = applied(&vector("reply.effects"), &specs);
    assert_eq!(reply.unwrap(), Reply::Done);
    let message = |target: Address, argument: TypedValue| Message {
        target,
        caller: Some(address(GREETER, "Bob")),
        argument,
        headers: None,
    };
    assert_eq!(
        effects.messages,
        [
            message(address(GREETER, "first"), (-1_i32).into()),
            message(address(OTHER, "second"), TypedValue::new("example/note", &b"note"[..])),
        ]
    );
    let delayed = |delay, message, token: Option<&str>| DelayedEffect::Send {
        delay,
        message,
        token: token.map(Into::into),
    };
    assert_eq!(
        effects.delayed,
        [
            delayed(Duration::from_secs(5), message(address(OTHER, "w"), "later".into()), Some("token-1")),
            DelayedEffect::Cancel { token: "token-0".into() },
            delayed(Duration::ZERO, message(address(OTHER, "x"), false.into()), None),
        ]
    );
    let record = TypedValue::new(
        "type.googleapis.com/io.statefun.sdk.egress.KafkaProducerRecord",
        &b"\x0a\x03Bob\x12\x02hi\x1a\x09greetings"[..],
    );
    let empty = TypedValue::new("a/b", Payload::EMPTY);
    assert_eq!(effects.egress, [record, empty].map(|value| EgressRecord { egress: OUT, value }));
    let mut state = MemoryState::default();
    state.apply(&[put("name", state_value(String::TYPENAME, &b"x"[..], None))]);
    state.apply(&effects.mutations);
    let mut left = MemoryState::default();
    left.apply(&[
        put("name", state_value(String::TYPENAME, &b"x"[..], None)),
        Mutation { name: "name".into(), change: Change::Delete { subkey: Payload::EMPTY } },
        put("seen", state_value(i64::TYPENAME, 8_i64.encode(), None)),
        put("zero", state_value(i32::TYPENAME, Payload::EMPTY, Some(NOW_MS + 1_500))),
    ]);
    assert_eq!(state, left);
}

fn put(name: &str, value: StateValue) -> Mutation {
    Mutation { name: name.into(), change: Change::Put { subkey: Payload::EMPTY, value } }
}

#[test]
fn no_bytes_and_neither_arm_are_a_function_that_did_nothing() {
    assert!(vector("reply.nothing").is_empty());
    for body in [&[][..], &result(&[]), b"\x0a\x01x"] {
        let (reply, effects) = applied(body, &Specs::default());
        assert_eq!(reply.unwrap(), Reply::Done);
        assert!(effects.is_empty());
    }
}

#[test]
fn every_call_lengthens_the_life_of_what_expires_after_calls() {
    let specs = registered(greeter_specs());
    let old =
        StateValue { unknown_fields: foreign(), ..state_value(i32::TYPENAME, &b"old"[..], Some(NOW_MS + 3)) };
    let mut state = MemoryState::default();
    state.apply(&[put("zero", old.clone()), put("name", old.clone()), put("seen", old.clone())]);
    let renewed = put("zero", StateValue { expires_at_ms: Some(NOW_MS + 1_500), ..old.clone() });
    for body in [Vec::new(), result(&[send("x", 1_i64)])] {
        let (_, effects) = apply_to(&mut state, &body, &specs);
        assert_eq!(effects.mutations, std::slice::from_ref(&renewed));
    }
    let (reply, effects) = apply_to(&mut state, &vector("reply.missing"), &specs);
    assert!(matches!(reply, Ok(Reply::Missing(_))) && effects.is_empty(), "it did not run");
    let (_, effects) = apply_to(&mut state, &result(&[nested(1, &[text(2, "zero")])]), &specs);
    state.apply(&effects.mutations);
    let mut left = MemoryState::default();
    left.apply(&[renewed, Mutation { name: "zero".into(), change: Change::Clear }]);
    left.apply(&[put("name", old.clone()), put("seen", old)]);
    assert_eq!(state, left, "deleted is deleted");
}

#[test]
fn parts_of_a_reply_are_all_of_it_and_the_last_arm_counts() {
    let specs = registered(greeter_specs());
    let (one, two) = (result(&[send("1", 1_i64)]), result(&[send("2", 2_i64)]));
    let missing = nested(101, &[nested(1, &[text(1, "more")])]);
    let ids = |body: &[u8]| {
        let (reply, effects) = applied(body, &specs);
        (
            reply.unwrap(),
            effects.messages.iter().map(|message| message.target.id().to_owned()).collect::<Vec<_>>(),
        )
    };
    let more = Spec { name: "more".into(), typename: UNSET.into(), expiration: Expiration::None };
    assert_eq!(ids(&[one.clone(), two.clone()].concat()), (Reply::Done, vec!["1".into(), "2".into()]));
    assert_eq!(ids(&[one.clone(), missing.clone(), two].concat()), (Reply::Done, vec!["2".into()]));
    assert_eq!(ids(&[one, missing].concat()), (Reply::Missing(vec![more]), vec![]));
    // A target in two parts, and its type given twice.
    let split = nested(
        2,
        &[nested(1, &[text(1, "no"), text(3, "x")]), target(1, &OTHER, ""), argument(2, &1_i64.into())],
    );
    assert_eq!(ids(&result(&[split])), (Reply::Done, vec!["x".into()]));
}

#[test]
fn effects_come_in_statefuns_order_whatever_the_wires() {
    let specs = registered(greeter_specs());
    let egress = nested(4, &[text(1, "example"), text(2, "out"), argument(3, &"e".into())]);
    let delayed = nested(3, &[target(2, &OTHER, "d"), argument(3, &1_i64.into()), vec![0x08, 5]]);
    let cancel = nested(3, &[vec![0x50, 1], text(11, "t")]);
    let mut fields = [
        modify("seen", 1_i64),
        egress,
        cancel,
        send("a", 1_i64),
        delayed,
        send("b", 2_i64),
        modify("seen", 2_i64),
    ];
    let (_, forward) = applied(&result(&fields), &specs);
    assert_eq!(forward.messages.len(), 2);
    assert!(matches!(&forward.delayed[..], [DelayedEffect::Cancel { .. }, DelayedEffect::Send { .. }]));
    fields.swap(0, 4);
    fields.swap(4, 6);
    let (_, shuffled) = applied(&result(&fields), &specs);
    assert_eq!(shuffled.messages, forward.messages);
    assert_eq!(shuffled.egress, forward.egress);
    let [Mutation { change: Change::Put { value, .. }, .. }] = &forward.mutations[..] else { panic!() };
    assert_eq!(value.value, 2_i64.encode(), "of several changes the last");
}

#[test]
fn a_fork_gets_back_what_it_put_there() {
    let specs = registered(greeter_specs());
    let note = TypedValue { unknown_fields: foreign(), ..TypedValue::new("example/note", &b"n"[..]) };
    let egress = nested(4, &[text(1, "example"), text(2, "out"), argument(3, &note)]);
    let (reply, effects) =
        applied(&result(&[send("x", note.clone()), egress, modify("kept", note.clone())]), &specs);
    assert_eq!(reply.unwrap(), Reply::Done);
    assert_eq!(effects.messages[0].argument, note);
    assert_eq!(effects.egress[0].value, note);
    let [Mutation { change: Change::Put { value, .. }, .. }] = &effects.mutations[..] else { panic!() };
    assert_eq!(value.unknown_fields, foreign());
}

#[test]
fn a_state_takes_bytes_that_say_they_are_none() {
    let specs = registered(greeter_specs());
    let value = nested(3, &[text(1, i64::TYPENAME), text(3, "bytes")]);
    let (reply, effects) = applied(&result(&[nested(1, &[vec![0x08, 1], text(2, "seen"), value])]), &specs);
    assert_eq!(reply.unwrap(), Reply::Done);
    assert_eq!(effects.mutations, [put("seen", state_value(i64::TYPENAME, &b"bytes"[..], None))]);
}

#[test]
fn a_reply_with_anything_wrong_has_no_effect_and_says_what() {
    let specs = registered(greeter_specs());
    let minus_one = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01].to_vec();
    let large = TypedValue::new("a/b", vec![0; VALUE_BYTES_MAX]);
    let many = UnknownFields::copy_from(&[0x20, 1].repeat(VALUE_BYTES_MAX / 2 + 1));
    let nowhere = TypeName::from_static("no/where");
    for (wrong, says) in [
        (
            nested(2, &[target(1, &nowhere, "x"), argument(2, &1_i64.into())]),
            &["no/where/x", "unknown function"][..],
        ),
        (nested(2, &[]), &["no address"]),
        (nested(2, &[target(1, &OTHER, &"i".repeat(1_000))]), &["no address", "longer"]),
        (send("x", large.clone()), &["example/other/x", "bytes"]),
        (nested(3, &[minus_one, target(2, &OTHER, "x")]), &["example/other/x", "-1 ms"]),
        (
            send("x", TypedValue { unknown_fields: many.clone(), ..TypedValue::default() }),
            &["example/other/x", "bytes"],
        ),
        (
            modify("kept", TypedValue { typename: "example/note".into(), value: None, unknown_fields: many }),
            &["`kept`", "bytes"],
        ),
        (nested(3, &[vec![0x50, 1]]), &["cancellation", "empty"]),
        (nested(3, &[target(2, &OTHER, "x"), text(11, &"t".repeat(1_000))]), &["example/other/x", "token"]),
        (nested(4, &[text(1, "no"), text(2, "where")]), &["unknown egress `no/where`"]),
        (nested(4, &[text(1, "no")]), &["no egress"]),
        (modify("other", 1_i64), &["`other`", "never declared"]),
        (nested(1, &[text(2, "other")]), &["`other`", "never declared"]),
        (modify("seen", 1_i32), &["`seen`", i64::TYPENAME, i32::TYPENAME]),
        (nested(1, &[vec![0x08, 2], text(2, "seen")]), &["`seen`", "unknown mutation type 2"]),
        (modify("kept", TypedValue { typename: "example/note".into(), ..large }), &["`kept`", "bytes"]),
        (nested(1, &[text(1, "MODIFY"), text(2, "seen")]), &["state_mutations", "field 1", "wire type"]),
        (vec![0x12, 0x7f], &["InvocationResponse", "field 2", "longer"]),
        (nested(2, &[nested(1, &[vec![0x0a, 1, 0xff]])]), &["outgoing_messages", "UTF-8"]),
    ] {
        let body = result(&[send("good", 1_i64), wrong, modify("seen", 1_i64)]);
        let (reply, effects) = applied(&body, &specs);
        let error = reply.unwrap_err().to_string();
        assert!(says.iter().all(|word| error.contains(word)), "{error} says not {says:?}");
        assert!(error.len() < 1_000, "{error}");
        assert!(effects.is_empty(), "{error}");
    }
    let endless = "n".repeat(1_000_000);
    let (reply, _) =
        applied(&result(&[modify(&endless, TypedValue::new(endless.clone(), Payload::EMPTY))]), &specs);
    assert!(reply.unwrap_err().to_string().len() < 1_000);
}

#[test]
fn a_reply_cannot_declare_without_end() {
    let declare = |count| {
        let specs: Vec<_> =
            (0..count).map(|number: usize| nested(1, &[text(1, &number.to_string())])).collect();
        applied(&nested(101, &specs), &Specs::default()).0
    };
    assert!(matches!(declare(STATES_PER_FUNCTION_TYPE_MAX), Ok(Reply::Missing(_))));
    let error = declare(STATES_PER_FUNCTION_TYPE_MAX + 1).unwrap_err();
    assert!(matches!(error, ReplyError::Spec(SpecError::TooMany)));
}

/// What applying a reply may hold at most, in bytes: a part of every list may be copied while it grows.
fn memory_max(body: &[u8]) -> u64 {
    u64::try_from(64 * body.len() + EFFECTS_BYTES_MAX).unwrap()
}

fn memory(body: &[u8], specs: &Specs) -> u64 {
    allocation_counter::measure(|| drop(applied(body, specs))).bytes_max
}

#[test]
fn many_small_effects_end_at_the_effects_bound() {
    let specs = registered(greeter_specs());
    let tiny = nested(2, &[target(1, &OTHER, ""), argument(2, &TypedValue::default())]);
    let long = TypedValue { typename: "t".repeat(200).into(), ..TypedValue::default() };
    let unknown = TypedValue {
        unknown_fields: UnknownFields::copy_from(&[0x20, 1].repeat(100)),
        ..TypedValue::default()
    };
    for field in [
        tiny,
        send("x", long),
        send("x", unknown),
        nested(3, &[vec![0x50, 1], text(11, "t")]),
        nested(4, &[text(1, "example"), text(2, "out")]),
    ] {
        let body = result(&[field.repeat(200_000)]);
        let (reply, _) = applied(&body, &specs);
        assert!(reply.unwrap_err().to_string().contains("effects"));
        // Twice the bound, and half of it again while a list is moved.
        let bound = u64::try_from(EFFECTS_BYTES_MAX).unwrap();
        assert!((bound / 2..3 * bound).contains(&memory(&body, &specs)));
    }
    let deletes = nested(1, &[text(2, "seen")]).repeat(200_000);
    assert!(memory(&result(&[deletes]), &specs) < 10_000, "of several changes of one state one is kept");
}

fn field_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(text(2, "seen")),
        Just(text(2, "zero")),
        Just(vec![0x08, 1]),
        Just(target(1, &OTHER, "x")),
        Just(target(2, &GREETER, "y")),
        Just(argument(2, &7_i64.into())),
        Just(argument(3, &7_i64.into())),
        Just(vec![0x50, 1]),
        Just(text(11, "t")),
        Just(text(1, "example")),
        Just(text(2, "out")),
        any::<Vec<u8>>(),
    ]
}

/// Bytes that are nearly a reply.
fn nearly_a_reply() -> impl Strategy<Value = Vec<u8>> {
    let effect = (0_u32..6, proptest::collection::vec(field_value(), 0..5))
        .prop_map(|(number, fields)| nested(number + 1, &fields));
    let arm = (99_u32..103, proptest::collection::vec(effect, 0..5))
        .prop_map(|(number, effects)| nested(number, &effects));
    proptest::collection::vec(arm, 0..4).prop_map(|arms| arms.concat())
}

fn check(body: &[u8]) -> Result<(), TestCaseError> {
    let specs = registered(greeter_specs());
    let (reply, effects) = applied(body, &specs);
    if !matches!(reply, Ok(Reply::Done)) {
        prop_assert!(effects.is_empty());
    }
    if let Err(error) = reply {
        prop_assert!(error.to_string().len() < 2_000);
    }
    prop_assert!(memory(body, &specs) <= memory_max(body));
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_effects_or_an_error(body: Vec<u8>) {
        check(&body)?;
    }

    #[test]
    fn what_is_nearly_a_reply_is_effects_or_an_error(body in nearly_a_reply()) {
        check(&body)?;
    }

    #[test]
    fn a_damaged_reply_is_effects_or_an_error(at in any::<proptest::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        for name in ["reply.effects", "reply.missing", "request.full"] {
            let mut body = vector(name);
            let at = at.index(body.len());
            if cut { body.truncate(at) } else { body[at] ^= 1 << bit }
            check(&body)?;
        }
    }
}
