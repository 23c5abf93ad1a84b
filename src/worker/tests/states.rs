//! What does an address know after a restart?

use std::time::Duration;

use super::bench::*;
use crate::function::{Expiration, PersistedAppendingBuffer, PersistedTable, PersistedValue};

const LIFE: Duration = Duration::from_millis(1_000);
const WRITTEN: PersistedValue<String> =
    PersistedValue::with_expiration("written", Expiration::AfterWrite(LIFE));
const CALLED: PersistedValue<String> = PersistedValue::with_expiration("called", Expiration::AfterCall(LIFE));
const TABLE: PersistedTable<String, String> = PersistedTable::new("table");
const BUFFER: PersistedAppendingBuffer<String> = PersistedAppendingBuffer::new("buffer");

/// One function over all kinds of state; what it reads it says to the ear.
fn bench(ear: &Ear) -> Bench {
    let ear = ear.clone();
    Bench::new(
        1,
        limits(),
        module(move |context, text| {
            let words: Vec<&str> = text.split(' ').collect();
            match words[..] {
                ["write", value] => WRITTEN.set(context, value.to_owned()),
                ["call", value] => CALLED.set(context, value.to_owned()),
                ["read"] => {
                    let (written, called) = (WRITTEN.get(context)?, CALLED.get(context)?);
                    ear.hear(context, &format!("{written:?} {called:?}"));
                    Ok(())
                }
                ["put", key, value] => TABLE.set(context, key, value.to_owned()),
                ["remove", key] => TABLE.remove(context, key),
                ["clear"] => TABLE.clear(context),
                ["table"] => {
                    let entries = TABLE.entries(context)?;
                    let entries: Vec<String> =
                        entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    ear.hear(context, &entries.join(" "));
                    Ok(())
                }
                ["append", value] => BUFFER.append(context, value.to_owned()),
                ["empty"] => BUFFER.clear(context),
                ["buffer"] => {
                    let elements = BUFFER.view(context)?.join(" ");
                    ear.hear(context, &elements);
                    Ok(())
                }
                _ => unreachable!("{text}"),
            }
        }),
    )
}

fn tell(bench: &mut Bench, texts: &[&str]) {
    for text in texts {
        bench.send(&address("test/a", "x"), *text);
    }
    bench.settle();
}

#[test]
fn what_expires_after_write_is_gone_at_its_time_across_restarts() {
    for folds in [false, true] {
        let ear = Ear::default();
        let mut bench = bench(&ear);
        tell(&mut bench, &["write a"]);
        bench.commit();
        if folds {
            bench.fold();
        }
        bench.pass_time(Duration::from_millis(999));
        bench.restart(1);
        tell(&mut bench, &["read"]);
        bench.commit();
        bench.pass_time(Duration::from_millis(1));
        tell(&mut bench, &["read"]);
        bench.commit();
        bench.restart(1);
        tell(&mut bench, &["read"]);
        assert_eq!(ear.take(), ["x Some(\"a\") None", "x None None", "x None None"], "folded: {folds}");
    }
}

#[test]
fn a_read_prolongs_what_expires_after_call_across_restarts() {
    let ear = Ear::default();
    let mut bench = bench(&ear);
    tell(&mut bench, &["call a"]);
    bench.commit();
    for _ in 0..3 {
        bench.pass_time(Duration::from_millis(900));
        bench.restart(1);
        tell(&mut bench, &["read"]);
        bench.commit();
    }
    assert_eq!(ear.take(), ["x None Some(\"a\")"; 3]);
    bench.fold();
    bench.restart(1);
    bench.pass_time(LIFE);
    tell(&mut bench, &["read"]);
    assert_eq!(ear.take(), ["x None None"]);
}

#[test]
fn a_table_comes_back_from_several_frames_and_the_base() {
    for restarts in [false, true] {
        let ear = Ear::default();
        let mut bench = bench(&ear);
        let rounds: [(&[&str], &str); 6] = [
            (&["put a 1", "put b 2", "put c 3"], "x a=1 b=2 c=3"),
            (&["remove b", "put d 4"], "x a=1 c=3 d=4"),
            (&["put a 5", "put b 6"], "x a=5 b=6 c=3 d=4"),
            (&["clear", "put c 7"], "x c=7"),
            (&["put a 8", "remove c", "put c 9"], "x a=8 c=9"),
            (&["clear"], "x "),
        ];
        for (round, (texts, expected)) in rounds.into_iter().enumerate() {
            tell(&mut bench, texts);
            bench.commit();
            if round % 2 == 1 {
                bench.fold();
            }
            if restarts {
                bench.restart(1);
            }
            tell(&mut bench, &["table"]);
            assert_eq!(ear.take(), [expected], "round {round}");
            bench.commit();
        }
        bench.fold();
        bench.restart(1);
        tell(&mut bench, &["table"]);
        assert_eq!(ear.take(), ["x "]);
    }
}

#[test]
fn a_frame_carries_the_changed_entries_of_a_table_only() {
    let ear = Ear::default();
    let mut bench = bench(&ear);
    tell(&mut bench, &["put a 1", "put b 2", "put c 3"]);
    bench.commit();
    tell(&mut bench, &["put b 4", "remove c", "put e 1", "remove e"]);
    let (put, deleted) = of_kind(&bench.commit(), "state");
    assert_eq!(
        (put.len(), deleted.contains(&"state x table c".to_owned())),
        (1, true),
        "{put:?} {deleted:?}"
    );
}

#[test]
fn a_buffer_grows_across_restarts_in_order() {
    let ear = Ear::default();
    let mut bench = bench(&ear);
    for (round, text) in ["append a", "append b", "append c", "append d"].into_iter().enumerate() {
        tell(&mut bench, &[text]);
        assert_eq!(of_kind(&bench.commit(), "state").0.len(), 1, "the new element only");
        if round == 1 {
            bench.fold();
        }
        bench.restart(1);
    }
    tell(&mut bench, &["buffer", "empty", "append e"]);
    bench.commit();
    bench.restart(1);
    tell(&mut bench, &["append f", "buffer"]);
    assert_eq!(ear.take(), ["x a b c d", "x e f"]);
}
