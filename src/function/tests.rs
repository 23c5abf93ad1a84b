//! What an invocation sees and leaves behind, against models and through the public face.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::address::{Address, TypeName};
use crate::function::effects::{Change, DelayedEffect, Effects};
use crate::function::{
    Context, Directory, Expiration, FunctionError, PersistedAppendingBuffer, PersistedTable, PersistedValue,
};
use crate::limits::{EFFECTS_BYTES_MAX, TOKEN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::message::Message;
use crate::testing::{Harness, MemoryState};
use crate::typed_value::TypedValue;

const SELF: TypeName = TypeName::from_static("test/self");
const OTHER: TypeName = TypeName::from_static("test/a-type-name-longer-than-what-lies-in-place");
const OUT: TypeName = TypeName::from_static("test/out");

fn address(function_type: TypeName, id: &str) -> Address {
    Address::new(function_type, id).unwrap()
}

/// Runs one invocation of `body` by itself.
fn once(
    body: impl FnMut(&mut Context<'_>, &TypedValue) -> Result<(), FunctionError>,
) -> Result<Effects, FunctionError> {
    Harness::new(body).invoke(&address(SELF, "x"), 0_i64).cloned()
}

struct Only;

impl Directory for Only {
    fn binds_function(&self, function_type: &TypeName) -> bool {
        *function_type == OTHER
    }

    fn has_operation(&self, _: &TypeName) -> bool {
        false
    }

    fn has_egress(&self, egress: &TypeName) -> bool {
        *egress == OUT
    }

    fn nearest_egress(&self, _: &TypeName) -> Option<TypeName> {
        Some(OUT)
    }
}

fn with_only_other_and_out(
    mut body: impl FnMut(&mut Context<'_>) -> Result<(), FunctionError>,
) -> Result<Effects, FunctionError> {
    let (mut effects, mut state) = (Effects::default(), MemoryState::default());
    let target = address(SELF, "x");
    let context = Context::new(&target, None, None, 0, &mut effects, &mut state, &Only);
    let mut function = |context: &mut Context<'_>, _: &TypedValue| body(context);
    context.run(&mut function, &TypedValue::default())?;
    Ok(effects)
}

#[test]
fn effects_keep_the_order_in_which_they_were_asked_for() {
    let target = address(OTHER, "y");
    let effects = once(|context, _| {
        context.send(target.clone(), 1_i64)?;
        context.egress(&OUT, "a")?;
        context.send_after_with_token(Duration::from_secs(1), target.clone(), 2_i64, "t")?;
        context.cancel("t")?;
        context.send_after(Duration::ZERO, target.clone(), 3_i64)?;
        context.egress(&OUT, "b")?;
        context.send(target.clone(), 4_i64)
    })
    .unwrap();
    let message = |value: i64| Message {
        target: target.clone(),
        caller: Some(address(SELF, "x")),
        argument: value.into(),
        headers: None,
    };
    assert_eq!(effects.messages, [message(1), message(4)]);
    let delayed = |delay, value, token: Option<&str>| DelayedEffect::Send {
        delay,
        message: message(value),
        token: token.map(Into::into),
    };
    assert_eq!(
        effects.delayed,
        [
            delayed(Duration::from_secs(1), 2, Some("t")),
            DelayedEffect::Cancel { token: "t".into() },
            delayed(Duration::ZERO, 3, None),
        ]
    );
    let egress: Vec<String> = effects.egress.iter().map(|record| record.value.get().unwrap()).collect();
    assert_eq!(egress, ["a", "b"]);
    assert!(effects.mutations.is_empty());
}

#[test]
fn an_invocation_that_fails_has_no_effect() {
    const COUNT: PersistedValue<i64> = PersistedValue::new("count");
    let target = address(SELF, "x");
    let mut harness = Harness::new(|context: &mut Context<'_>, message: &TypedValue| {
        COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
        context.send(address(OTHER, "y"), 1_i64)?;
        if message.get::<bool>()? { Err("asked to".into()) } else { Ok(()) }
    });
    harness.invoke(&target, false).unwrap();
    assert_eq!(harness.invoke(&target, true).unwrap_err().to_string(), "asked to");
    assert_eq!(harness.value::<i64>(&target, "count").unwrap(), Some(1));
    // A wrong argument is an error of its own kind, with its cause.
    let error = harness.invoke(&target, 1_i64).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().is::<crate::typed_value::ValueError>());
    assert_eq!(harness.value::<i64>(&target, "count").unwrap(), Some(1));

    let (mut effects, mut state) = (Effects::default(), MemoryState::default());
    let context = Context::new(&target, None, None, 0, &mut effects, &mut state, &Only);
    let mut function = |context: &mut Context<'_>, _: &TypedValue| {
        context.egress(&OUT, 1_i64)?;
        Err("late".into())
    };
    assert!(context.run(&mut function, &TypedValue::default()).is_err());
    assert!(effects.is_empty());
}

#[test]
fn a_reply_goes_to_the_caller_and_to_nobody_else() {
    let mut harness = Harness::new(|context: &mut Context<'_>, _: &TypedValue| context.reply(1_i64));
    let caller = address(OTHER, "caller");
    let message = Message {
        target: address(SELF, "x"),
        caller: Some(caller.clone()),
        argument: 0_i64.into(),
        headers: None,
    };
    assert_eq!(harness.deliver(&message).unwrap().messages[0].target, caller);
    assert!(harness.invoke(&message.target, 0_i64).is_err());
}

#[test]
fn what_does_not_exist_cannot_be_sent_to() {
    let error = with_only_other_and_out(|context| context.send(address(SELF, "y"), 1_i64)).unwrap_err();
    assert_eq!(error.to_string(), "unknown function type `test/self`");
    let later = |context: &mut Context<'_>| context.send_after(Duration::ZERO, address(SELF, "y"), 1_i64);
    assert!(with_only_other_and_out(later).is_err());
    let error = with_only_other_and_out(|context| context.egress(&SELF, 1_i64)).unwrap_err();
    assert_eq!(error.to_string(), "unknown egress `test/self`; is `test/out` meant?");
    let both = with_only_other_and_out(|context| {
        context.send(address(OTHER, "y"), 1_i64)?;
        context.egress(&OUT, 1_i64)
    });
    assert!(both.is_ok());
}

#[test]
fn what_is_too_large_is_refused() {
    let big = |bytes: usize| TypedValue::new("t", vec![0; bytes - 1]);
    let target = || address(OTHER, "y");
    assert!(once(|context, _| context.send(target(), big(VALUE_BYTES_MAX))).is_ok());
    assert!(once(|context, _| context.send(target(), big(VALUE_BYTES_MAX + 1))).is_err());
    assert!(once(|context, _| context.egress(&OUT, big(VALUE_BYTES_MAX + 1))).is_err());
    let text = PersistedValue::<String>::new("text");
    assert!(once(|context, _| text.set(context, "x".repeat(VALUE_BYTES_MAX))).is_err());
    let table = PersistedTable::<String, bool>::new("table");
    assert!(once(|context, _| table.set(context, &"x".repeat(128), true)).is_ok());
    assert!(once(|context, _| table.set(context, &"x".repeat(129), true)).is_err());
    let token = "x".repeat(TOKEN_BYTES_MAX + 1);
    for token in ["", &token] {
        assert!(once(|context, _| context.cancel(token)).is_err());
        let send =
            |context: &mut Context<'_>| context.send_after_with_token(Duration::ZERO, target(), 1_i64, token);
        assert!(once(|context, _| send(context)).is_err());
    }
    assert!(once(|context, _| context.send_after(Duration::MAX, target(), 1_i64)).is_err());
}

#[test]
fn a_function_that_sends_without_end_is_stopped() {
    let mut sent = 0;
    let result = once(|context, _| {
        for _ in 0..EFFECTS_BYTES_MAX / size_of::<Message>() + 1 {
            context.send(address(OTHER, "y"), 1_i64)?;
            sent += 1;
        }
        Ok(())
    });
    assert!(result.unwrap_err().to_string().contains("effects"));
    assert!(0 < sent && sent * size_of::<Message>() <= EFFECTS_BYTES_MAX);
}

#[test]
fn a_state_written_in_a_loop_is_one_change() {
    let count = PersistedValue::<i64>::new("count");
    let effects = once(|context, _| {
        for _ in 0..100_000 {
            count.update(context, |count| count.unwrap_or(0) + 1)?;
        }
        Ok(())
    })
    .unwrap();
    let [mutation] = &effects.mutations[..] else { panic!("{} changes", effects.mutations.len()) };
    assert!(
        matches!(&mutation.change, Change::Put { value, .. } if *value.value == *TypedValue::of(&100_000_i64).bytes())
    );
}

#[test]
fn a_state_of_another_type_is_an_error_that_names_it() {
    let target = address(SELF, "x");
    let (long, text) = (PersistedValue::<i64>::new("s"), PersistedValue::<String>::new("s"));
    let mut harness =
        Harness::new(
            |context: &mut Context<'_>, write: &TypedValue| {
                if write.get()? { long.set(context, 1) } else { text.get(context).map(drop) }
            },
        );
    harness.invoke(&target, true).unwrap();
    let error = harness.invoke(&target, false).unwrap_err().to_string();
    assert!(error.starts_with("state `s`: expected a value of type `io.statefun.types/string`"), "{error}");
}

/// One steady invocation: get and set a number, send one, send one out.
#[test]
fn a_steady_invocation_allocates_nothing() {
    const COUNT: PersistedValue<i64> = PersistedValue::with_expiration(
        "a state name longer than 23 bytes",
        Expiration::AfterCall(Duration::from_secs(9)),
    );
    let (self_address, target) = (address(SELF, "x"), address(OTHER, "an id that is longer than 23 bytes"));
    let mut function = |context: &mut Context<'_>, message: &TypedValue| {
        let step: i64 = message.get()?;
        let count = COUNT.get(context)?.unwrap_or(0) + step;
        COUNT.set(context, count)?;
        context.send(target.clone(), count)?;
        context.egress(&OUT, count)
    };
    let (mut effects, mut state) = (Effects::default(), MemoryState::default());
    let message = TypedValue::of(&1_i64);
    let mut invoke = |now_ms| {
        effects.clear();
        let context = Context::new(&self_address, None, None, now_ms, &mut effects, &mut state, &Only);
        context.run(&mut function, &message).unwrap();
        state.apply(&effects.mutations);
    };
    invoke(0);
    invoke(1);
    let measured = allocation_counter::measure(|| (2..1000).for_each(&mut invoke));
    assert_eq!(measured.count_total, 0);
    let count: i64 =
        TypedValue::new(effects.egress[0].value.typename.clone(), effects.egress[0].value.bytes())
            .get()
            .unwrap();
    assert_eq!(count, 1000);
}

/// What a random test does to the three kinds of state, within invocations that may fail.
#[derive(Debug, Clone)]
enum Step {
    Get,
    Set(i64),
    Remove,
    TableGet(u8),
    TableSet(u8, i64),
    TableRemove(u8),
    TableEntries,
    TableClear,
    Append(Vec<i64>),
    Replace(Vec<i64>),
    View,
    BufferClear,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = || prop::collection::vec(any::<i64>(), 0..4);
    prop_oneof![
        Just(Step::Get),
        any::<i64>().prop_map(Step::Set),
        Just(Step::Remove),
        (0..12_u8).prop_map(Step::TableGet),
        (0..12_u8, any::<i64>()).prop_map(|(key, value)| Step::TableSet(key, value)),
        (0..12_u8).prop_map(Step::TableRemove),
        Just(Step::TableEntries),
        Just(Step::TableClear),
        numbers().prop_map(Step::Append),
        numbers().prop_map(Step::Replace),
        Just(Step::View),
        Just(Step::BufferClear),
    ]
}

/// A value and when it ends.
type Timed = (i64, Option<u64>);

/// The plainest possible implementation: everything in place, expired things swept before every invocation.
#[derive(Clone, Default)]
struct Model {
    value: Option<Timed>,
    table: BTreeMap<u8, Timed>,
    buffer: Vec<Timed>,
}

impl Model {
    fn sweep(&mut self, now_ms: u64) {
        let lives = |timed: &Timed| timed.1.is_none_or(|end| now_ms < end);
        self.value = self.value.filter(lives);
        self.table.retain(|_, timed| lives(timed));
        self.buffer.retain(lives);
    }

    /// Does the step and says what it reads.
    fn step(&mut self, step: &Step, expiration: Expiration, now_ms: u64) -> Vec<(u8, i64)> {
        let life = |life: Duration| Some(now_ms + u64::try_from(life.as_millis()).unwrap());
        let (end, refreshes) = match expiration {
            Expiration::None => (None, false),
            Expiration::AfterWrite(time) => (life(time), false),
            Expiration::AfterCall(time) => (life(time), true),
        };
        let read = |timed: &mut Timed| {
            if refreshes {
                timed.1 = end;
            }
            timed.0
        };
        match step {
            Step::Get => return self.value.iter_mut().map(|timed| (0, read(timed))).collect(),
            Step::Set(number) => self.value = Some((*number, end)),
            Step::Remove => self.value = None,
            Step::TableGet(key) => {
                return self.table.get_mut(key).map(|timed| (*key, read(timed))).into_iter().collect();
            }
            Step::TableSet(key, number) => drop(self.table.insert(*key, (*number, end))),
            Step::TableRemove(key) => drop(self.table.remove(key)),
            Step::TableEntries => {
                return self.table.iter_mut().map(|(key, timed)| (*key, read(timed))).collect();
            }
            Step::TableClear => self.table.clear(),
            Step::Append(numbers) => self.buffer.extend(numbers.iter().map(|number| (*number, end))),
            Step::Replace(numbers) => self.buffer = numbers.iter().map(|number| (*number, end)).collect(),
            Step::View => return self.buffer.iter_mut().map(|timed| (0, read(timed))).collect(),
            Step::BufferClear => self.buffer.clear(),
        }
        Vec::new()
    }
}

struct Real {
    value: PersistedValue<i64>,
    table: PersistedTable<u8, i64>,
    buffer: PersistedAppendingBuffer<i64>,
}

impl Real {
    fn new(expiration: Expiration) -> Self {
        Self {
            value: PersistedValue::with_expiration("value", expiration),
            table: PersistedTable::with_expiration("table", expiration),
            buffer: PersistedAppendingBuffer::with_expiration("buffer", expiration),
        }
    }

    fn step(&self, context: &mut Context<'_>, step: &Step) -> Result<Vec<(u8, i64)>, FunctionError> {
        match step {
            Step::Get => {
                return Ok(self.value.get(context)?.into_iter().map(|number| (0, number)).collect());
            }
            Step::Set(number) => self.value.set(context, *number)?,
            Step::Remove => self.value.clear(context)?,
            Step::TableGet(key) => {
                return Ok(self.table.get(context, key)?.into_iter().map(|number| (*key, number)).collect());
            }
            Step::TableSet(key, number) => self.table.set(context, key, *number)?,
            Step::TableRemove(key) => self.table.remove(context, key)?,
            Step::TableEntries => return self.table.entries(context),
            Step::TableClear => self.table.clear(context)?,
            Step::Append(numbers) => self.buffer.append_all(context, numbers.iter().copied())?,
            Step::Replace(numbers) => self.buffer.replace_with(context, numbers.iter().copied())?,
            Step::View => {
                return Ok(self.buffer.view(context)?.into_iter().map(|number| (0, number)).collect());
            }
            Step::BufferClear => self.buffer.clear(context)?,
        }
        Ok(Vec::new())
    }
}

/// Milliseconds that pass, whether the invocation fails, and what it does.
type Invocation = (u64, bool, Vec<Step>);

fn check(expiration: Expiration, invocations: &[Invocation]) {
    let real = Real::new(expiration);
    let mut model = Model::default();
    let mut now_ms = 0;
    let target = address(SELF, "x");
    let next = std::cell::Cell::new(0);
    let read = std::cell::RefCell::new(Vec::new());
    let mut harness = Harness::new(|context: &mut Context<'_>, _: &TypedValue| {
        let (_, fails, steps) = &invocations[next.get()];
        for step in steps {
            read.borrow_mut().push(real.step(context, step)?);
        }
        if *fails { Err("asked to".into()) } else { Ok(()) }
    });
    for (index, (pause_ms, fails, steps)) in invocations.iter().enumerate() {
        next.set(index);
        read.borrow_mut().clear();
        now_ms += pause_ms;
        harness.advance(Duration::from_millis(*pause_ms));
        model.sweep(now_ms);
        let before = model.clone();
        let expected: Vec<_> = steps.iter().map(|step| model.step(step, expiration, now_ms)).collect();
        assert_eq!(harness.invoke(&target, 0_i64).is_err(), *fails);
        assert_eq!(*read.borrow(), expected, "invocation {index}");
        if *fails {
            model = before;
        }
    }
}

proptest! {
    #[test]
    fn state_is_what_a_plain_map_would_hold(
        expiration in prop_oneof![
            Just(Expiration::None),
            (1..20_u64).prop_map(|life| Expiration::AfterWrite(Duration::from_millis(life))),
            (1..20_u64).prop_map(|life| Expiration::AfterCall(Duration::from_millis(life))),
        ],
        invocations in prop::collection::vec(
            (0..12_u64, prop::bool::weighted(0.1), prop::collection::vec(step(), 0..24)),
            1..16,
        ),
    ) {
        check(expiration, &invocations);
    }
}

#[test]
fn an_append_goes_behind_what_a_view_did_not_refresh() {
    let append = |number| vec![Step::Append(vec![number])];
    // The second element is as fresh as it can be when the view refreshes the first.
    check(
        Expiration::AfterCall(Duration::from_millis(50)),
        &[
            (0, false, append(1)),
            (1, false, append(2)),
            (0, false, vec![Step::View, Step::Append(vec![3]), Step::View]),
        ],
    );
}

#[test]
fn a_refused_effect_is_none_even_if_its_error_is_caught() {
    let text = PersistedValue::<String>::new("text");
    let effects = once(|context, _| {
        for key in 0.. {
            let value = vec![0; VALUE_BYTES_MAX / 2];
            if context.send(address(OTHER, "y"), TypedValue::new("t", value)).is_err() {
                break;
            }
            assert!(key < EFFECTS_BYTES_MAX, "never refused");
        }
        text.set(context, "small".into())?;
        assert!(text.set(context, "x".repeat(VALUE_BYTES_MAX / 2)).is_err());
        assert_eq!(text.get(context)?.as_deref(), Some("small"));
        Ok(())
    })
    .unwrap();
    assert_eq!((effects.messages.len(), effects.mutations.len()), (31, 1));
}

#[test]
fn only_after_call_does_a_read_write() {
    let life = Duration::from_millis(10);
    for (expiration, changes) in [(Expiration::AfterWrite(life), 0), (Expiration::AfterCall(life), 1)] {
        let state = PersistedValue::<i64>::with_expiration("s", expiration);
        let target = address(SELF, "x");
        let mut harness =
            Harness::new(
                |context: &mut Context<'_>, write: &TypedValue| {
                    if write.get()? { state.set(context, 5) } else { state.get(context).map(drop) }
                },
            );
        harness.invoke(&target, true).unwrap();
        harness.advance(Duration::from_millis(9));
        assert_eq!(harness.invoke(&target, false).unwrap().mutations.len(), changes);
        harness.advance(Duration::from_millis(1));
        let lives = harness.value::<i64>(&target, "s").unwrap().is_some();
        assert_eq!(lives, changes == 1);
    }
}
