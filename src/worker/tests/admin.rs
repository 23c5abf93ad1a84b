//! What does a person see and do?

use std::time::Duration;

use data_encoding::BASE64;

use super::bench::*;
use crate::admin::{AdminReply, AdminRequest, AdminValue, DeadLetterEntry};
use crate::function::{FunctionError, PersistedValue};

const WORD: PersistedValue<String> = PersistedValue::new("word");

/// `bad…` fails until the ear is told that all is mended; everything else is remembered as the address's word.
fn bench(ear: &Ear, mended: &Ear) -> Bench {
    let (ear, mended) = (ear.clone(), mended.clone());
    let mut limits = limits();
    limits.attempts_max = 1;
    Bench::new(
        1,
        limits,
        module(move |context, text| {
            if text.starts_with("bad") && !mended.is_told() {
                return Err(FunctionError::new("as asked"));
            }
            if text == "forget" {
                return WORD.clear(context);
            }
            ear.hear(context, text);
            WORD.set(context, text.to_owned())
        }),
    )
}

fn get(bench: &mut Bench, id: &str) -> Option<Vec<String>> {
    let question =
        AdminRequest::StateGet { function_type: "test/a".into(), id: id.into(), name: "word".into() };
    bench.ask(id, question).map(bytes_of)
}

fn bytes_of(reply: AdminReply) -> Vec<String> {
    let AdminReply::State { entries, .. } = reply else { panic!("{reply:?}") };
    let bytes = entries.iter().map(|entry| BASE64.decode(entry.value.bytes.as_bytes()).unwrap());
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

fn list(bench: &mut Bench, after: Option<String>, entries_max: u32) -> (Vec<String>, Option<String>) {
    let question = AdminRequest::StateList { function_type: None, id: None, after, entries_max };
    let reply = bench.ask_worker(0, question).expect("nothing is uncommitted");
    let AdminReply::State { entries, more } = reply else { panic!("{reply:?}") };
    let after = entries.last().map(|entry| entry.key.clone()).filter(|_| more);
    (entries.into_iter().map(|entry| entry.id).collect(), after)
}

fn dead(bench: &mut Bench) -> Vec<DeadLetterEntry> {
    let question = AdminRequest::DeadLetterList { after: None, entries_max: 100 };
    match bench.ask_worker(0, question) {
        Some(AdminReply::DeadLetters { letters, .. }) => letters,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_committed_is_answered_when_it_is() {
    let (ear, mended) = (Ear::default(), Ear::default());
    let mut bench = bench(&ear, &mended);
    bench.send(&address("test/a", "x"), "hello");
    bench.settle();
    assert_eq!(get(&mut bench, "x"), None);
    bench.cut();
    assert!(bench.answer().is_none());
    bench.gather();
    assert!(bench.answer().is_none(), "durable, but nobody was told");
    bench.tell_committed();
    let answer = bytes_of(bench.answer().unwrap());
    assert_eq!(answer.len(), 1);
    assert!(answer[0].ends_with("hello"));
    assert!(get(&mut bench, "x").is_some(), "with nothing under way it is answered at once");
}

#[test]
fn a_state_set_by_a_person_goes_through_an_epoch_and_survives() {
    let (ear, mended) = (Ear::default(), Ear::default());
    let mut bench = bench(&ear, &mended);
    bench.send(&address("test/a", "x"), "first");
    bench.settle();
    bench.commit();
    let state = get(&mut bench, "x").unwrap()[0].clone();
    let value = AdminValue {
        typename: "io.statefun.types/string".into(),
        bytes: BASE64.encode(state.replace("first", "other").as_bytes()),
    };
    let (function_type, id, name) = ("test/a".to_owned(), "x".to_owned(), "word".to_owned());
    let set = AdminRequest::StateSet {
        function_type: function_type.clone(),
        id: id.clone(),
        name: name.clone(),
        value,
    };
    assert!(bench.ask("x", set).is_none());
    assert_eq!(of_kind(&bench.commit(), "state").0.len(), 1);
    assert_eq!(bench.answer(), Some(AdminReply::Done { count: 1 }));
    bench.restart(1);
    assert!(get(&mut bench, "x").unwrap()[0].ends_with("other"));
    assert!(bench.ask("x", AdminRequest::StateDelete { function_type, id, name }).is_none());
    bench.commit();
    assert_eq!(bench.answer(), Some(AdminReply::Done { count: 1 }));
    bench.fold();
    bench.restart(1);
    assert_eq!(get(&mut bench, "x"), Some(vec![]));
}

#[test]
fn a_list_in_pages_shows_every_state_once() {
    let (ear, mended) = (Ear::default(), Ear::default());
    let mut bench = bench(&ear, &mended);
    for number in 0..30 {
        bench.send(&address("test/a", &format!("id{number}")), "word");
    }
    bench.settle();
    bench.commit();
    bench.fold();
    bench.restart(1);
    // In memory most of what the base still lists is gone, and a few are new.
    for number in 0..25 {
        bench.send(&address("test/a", &format!("id{number}")), "forget");
    }
    bench.send(&address("test/a", "new"), "word");
    bench.settle();
    bench.commit();
    let (mut found, mut after) = list(&mut bench, None, 2);
    while after.is_some() {
        let (page, next) = list(&mut bench, after, 2);
        found.extend(page);
        after = next;
    }
    found.sort();
    assert_eq!(found, ["id25", "id26", "id27", "id28", "id29", "new"]);
}

#[test]
fn dead_letters_are_sent_again_in_the_order_in_which_they_failed() {
    for (folds, restarts) in [(false, false), (true, false), (true, true)] {
        let (ear, mended) = (Ear::default(), Ear::default());
        let mut bench = bench(&ear, &mended);
        for text in ["bad 1", "good", "bad 2", "bad 3"] {
            bench.send(&address("test/a", "x"), text);
        }
        bench.settle();
        bench.commit();
        if folds {
            bench.fold();
        }
        if restarts {
            bench.restart(1);
        }
        assert_eq!(ear.take(), ["x good"]);
        assert_eq!(dead(&mut bench).len(), 3);
        mended.tell();
        let retry = AdminRequest::DeadLetterRetry { key: "test/a/x".into() };
        assert!(bench.ask("x", retry).is_none());
        bench.settle();
        bench.commit();
        assert_eq!(bench.answer(), Some(AdminReply::Done { count: 3 }));
        assert_eq!(ear.take(), ["x bad 1", "x bad 2", "x bad 3"]);
        bench.restart(1);
        bench.settle();
        assert!(dead(&mut bench).is_empty() && ear.take().is_empty());
    }
}

#[test]
fn a_dead_letter_is_shown_and_dropped_by_its_key() {
    let (ear, mended) = (Ear::default(), Ear::default());
    let mut bench = bench(&ear, &mended);
    for text in ["bad 1", "bad 2"] {
        bench.send(&address("test/a", "x"), text);
    }
    bench.settle();
    bench.commit();
    let letters = dead(&mut bench);
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["as asked"; 2]);
    let key = letters[0].key.clone();
    let shown = bench.ask("x", AdminRequest::DeadLetterShow { key: key.clone() });
    assert_eq!(shown, Some(AdminReply::DeadLetters { letters: letters[..1].to_vec(), more: false }));
    assert!(bench.ask("x", AdminRequest::DeadLetterDrop { key: key.clone() }).is_none());
    bench.commit();
    assert_eq!(bench.answer(), Some(AdminReply::Done { count: 1 }));
    bench.restart(1);
    assert_eq!(dead(&mut bench), letters[1..]);
    assert_eq!(bench.ask("x", AdminRequest::DeadLetterDrop { key }), Some(AdminReply::Done { count: 0 }));
}

#[test]
fn a_retry_that_fails_again_is_a_dead_letter_again() {
    let (ear, mended) = (Ear::default(), Ear::default());
    let mut bench = bench(&ear, &mended);
    bench.send(&address("test/a", "x"), "bad");
    bench.settle();
    bench.commit();
    let first = dead(&mut bench);
    assert!(bench.ask("x", AdminRequest::DeadLetterRetry { key: first[0].key.clone() }).is_none());
    bench.pass_time(Duration::from_secs(1));
    bench.settle();
    bench.commit();
    bench.restart(1);
    let second = dead(&mut bench);
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].key, second[0].key);
}
