//! What does a worker hold, and does it go on when that is full?

use super::bench::*;
use crate::function::{FunctionError, PersistedTable, PersistedValue};
use crate::worker::WorkerLimits;
use crate::worker::io::TakenRecord;

fn tight() -> WorkerLimits {
    WorkerLimits { memory_bytes: 64 * 1024, effects_bytes_max: 16 * 1024, channel_bytes: 300, ..limits() }
}

fn is_open(bench: &mut Bench) -> bool {
    bench.status(0).sessions.iter().all(|session| session.intake_open)
}

#[test]
fn what_comes_in_while_an_epoch_is_in_flight_fills_one_frame_and_no_more() {
    let limits = WorkerLimits { epoch_bytes: 16 * 1024, ..limits() };
    let mut bench = Bench::new(1, limits, module(|_, _| Ok(())));
    let x = address("test/a", "x");
    bench.send(&x, "the first");
    bench.cut();
    while bench.counter(0, "epoch-full") == 0 {
        let value = "x".repeat(100).into();
        bench.take(TakenRecord {
            target: x.clone(),
            value,
            headers: None,
            idempotency: None,
            reply_to: None,
        });
    }
    assert_eq!(bench.counter(0, "intake-closed"), 0);
    assert!(!bench.run(0, 1), "nothing is invoked either");
    bench.gather();
    bench.tell_committed();
    assert!(bench.run(0, 1));
    let before = bench.log_bytes();
    bench.commit();
    let bytes = bench.log_bytes() - before;
    assert!((4 * 1024..=16 * 1024).contains(&bytes), "{bytes}");
}

#[test]
fn a_long_mailbox_is_spilled_and_comes_back_in_order_with_its_counts() {
    let ear = Ear::default();
    let heard = ear.clone();
    let mut bench = Bench::new(
        1,
        tight(),
        module(move |context, text| {
            heard.hear(context, text);
            Ok(())
        }),
    );
    let target = address("test/a", "x");
    for number in 0..300 {
        bench.send(&target, number.to_string());
    }
    bench.commit();
    assert!(bench.fold_wanted);
    bench.fold();
    let status = bench.status(0);
    assert!(100 < status.messages_spilled, "{status:?}");
    assert_eq!(status.messages_waiting, 300);
    for number in 300..320 {
        bench.send(&target, number.to_string());
    }
    assert_eq!(bench.status(0).messages_waiting, 320);
    for _ in 0..40 {
        bench.run(0, 4);
    }
    assert_eq!(bench.status(0).messages_waiting, 160);
    bench.commit();
    bench.restart(1);
    assert_eq!(bench.status(0).messages_waiting, 160);
    bench.live();
    let in_order: Vec<String> = (0..320).map(|number| format!("x {number}")).collect();
    assert_eq!(ear.take(), in_order);
    let status = bench.status(0);
    assert_eq!((status.messages_waiting, status.messages_spilled), (0, 0));
}

#[test]
fn a_spilled_mailbox_is_read_back_a_part_of_the_account_at_a_time() {
    let mut bench = Bench::new(1, tight(), module(|_, _| Ok(())));
    for _ in 0..5 {
        for _ in 0..20 {
            bench.send(&address("test/a", "x"), format!("{:1000}", ""));
        }
        bench.commit();
        bench.fold();
    }
    assert!(70 < bench.status(0).messages_spilled);
    while bench.run(0, 1) {
        let status = bench.status(0);
        let percent = status.memory_bytes * 100 / status.memory_bytes_max;
        assert!(percent <= 40, "{percent} % with {} letters left", status.messages_waiting);
    }
    assert_eq!(bench.status(0).messages_waiting, 0);
}

#[test]
fn a_start_whose_account_is_full_invites_nobody_until_a_fold() {
    let (full, other) = (id_of(0, 2), id_of(1, 2));
    let to_full = full.clone();
    let function = module(move |context, text| {
        if text == "tell" {
            context.send(address("test/a", &to_full), "told")?;
        }
        Ok(())
    });
    let mut bench = Bench::new(2, WorkerLimits { channel_bytes: 4 * 1024, ..tight() }, function);
    for _ in 0..30 {
        bench.send(&address("test/a", &full), format!("{:1000}", ""));
    }
    bench.commit();
    bench.restart(2);
    bench.send(&address("test/a", &other), "tell");
    bench.run(1, 1);
    assert_eq!((bench.status(1).messages_unsent, bench.under_way(1, 0)), (1, 0));
    bench.fold();
    bench.settle();
    assert_eq!(bench.status(1).messages_unsent, 0);
}

#[test]
fn letters_of_addresses_that_wait_do_not_keep_other_workers_waiting() {
    let (target, other) = (id_of(0, 2), id_of(1, 2));
    let function = module(move |context, text| match text {
        "tell" => {
            for _ in 0..3 {
                context.send(address("test/a", &target), "told")?;
            }
            Ok(())
        }
        "told" => Ok(()),
        _ => Err(FunctionError::new("not yet")),
    });
    let mut bench = Bench::new(2, tight(), function);
    // One letter each: none of them is one too many for its mailbox.
    for id in ids_of(0, 2).skip(1).take(40) {
        bench.send(&address("test/a", &id), format!("{:300}", ""));
    }
    bench.run(0, 40);
    bench.send(&address("test/a", &other), "tell");
    bench.run(1, 1);
    bench.commit();
    bench.settle();
    assert!(0 < bench.status(1).messages_unsent, "letters fill their share");
    assert!(bench.fold_wanted);
    bench.fold();
    bench.settle();
    assert_eq!(bench.status(1).messages_unsent, 0);
}

const GONE: PersistedValue<i64> = PersistedValue::new("gone");

#[test]
fn two_addresses_that_flood_each_other_over_tiny_channels_come_to_the_end() {
    let (left, right) = (id_of(0, 2), id_of(1, 2));
    let other = {
        let (left, right) = (left.clone(), right.clone());
        move |id: &str| if id == left { right.clone() } else { left.clone() }
    };
    // A message `n` makes two of `n - 1` to the other side, each of half a kilobyte.
    let mut bench = Bench::new(
        2,
        tight(),
        module(move |context, text| {
            let depth: u32 = text.trim().parse().unwrap();
            let count = GONE.get(context)?.unwrap_or(0);
            GONE.set(context, count + 1)?;
            for _ in 0..if depth == 0 { 0 } else { 2 } {
                context.send(
                    address("test/a", &other(context.self_address().id())),
                    format!("{:500}", depth - 1),
                )?;
            }
            Ok(())
        }),
    );
    for _ in 0..2 {
        bench.send(&address("test/a", &left), "9");
        bench.send(&address("test/a", &right), "9");
    }
    bench.live();
    let invocations: u64 = (0..2).map(|worker| bench.counter(worker, "invocations")).sum();
    assert_eq!(invocations, 4 * (1024 - 1), "{:?}", bench.statuses());
    for status in bench.statuses() {
        assert_eq!((status.messages_waiting, status.messages_unsent), (0, 0));
    }
}

#[test]
fn a_tree_of_messages_wider_than_memory_comes_to_its_end() {
    // Message `n` goes to addresses of their own, two for each.
    let mut bench = Bench::new(
        1,
        tight(),
        module(|context, text| {
            let node: u32 = text.trim().parse().unwrap();
            for child in [2 * node, 2 * node + 1] {
                if child < 1024 {
                    context.send(address("test/a", &(child % 100).to_string()), format!("{child:300}"))?;
                }
            }
            Ok(())
        }),
    );
    bench.send(&address("test/a", "1"), "1");
    bench.live();
    assert_eq!(bench.counter(0, "invocations"), 1023);
    assert_eq!(bench.status(0).messages_waiting, 0);
    assert!(0 < bench.counter(0, "waited-for-memory"), "nothing had to wait: nothing was shown");
}

const BIG: PersistedTable<u32, String> = PersistedTable::new("big");

#[test]
fn states_read_by_many_addresses_stay_within_the_account() {
    // Each address knows 10 KiB; the account holds six of them.
    let mut bench = Bench::new(
        1,
        tight(),
        module(|context, text| {
            if text == "fill" {
                for key in 0..10 {
                    BIG.set(context, &key, "z".repeat(1024))?;
                }
                return Ok(());
            }
            let entries = BIG.entries(context)?.len();
            assert_eq!(entries, 10);
            BIG.set(context, &0, "y".repeat(1024))
        }),
    );
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for id in &ids {
        bench.send(&address("test/a", id), "fill");
        bench.live();
    }
    bench.commit();
    bench.fold();
    bench.restart(1);
    for _ in 0..3 {
        for id in &ids {
            bench.send(&address("test/a", id), "read");
        }
    }
    let mut most = 0;
    for _ in 0..2_000 {
        let more = bench.run(0, 1);
        let status = bench.status(0);
        most = most.max(status.memory_bytes);
        if !more {
            bench.commit();
            if bench.fold_wanted {
                bench.fold();
            }
        }
    }
    let status = bench.status(0);
    assert_eq!(status.messages_waiting, 0, "{status:?}");
    assert!(most <= status.memory_bytes_max, "{most} of {}", status.memory_bytes_max);
}

#[test]
fn the_intake_closes_and_opens_with_a_gap_between() {
    let mut limits = limits();
    limits.letters_max = 10;
    let mut bench = Bench::new(1, limits, module(|_, _| Ok(())));
    for number in 0..10 {
        assert!(is_open(&mut bench), "after {number}");
        bench.send(&address("test/a", "x"), "letter");
    }
    assert!(!is_open(&mut bench));
    bench.run(0, 1);
    assert!(is_open(&mut bench), "below the bound of letters");
    let mut bench = Bench::new(1, tight(), module(|_, _| Ok(())));
    let mut used = 0;
    while is_open(&mut bench) {
        used = bench.status(0).memory_bytes;
        bench.send(&address("test/a", "x"), "z".repeat(1024));
    }
    let limit = bench.status(0).memory_bytes_max;
    assert!(
        limit * 60 / 100 < used && used <= limit * 65 / 100,
        "closed above 65 %, not at {used} of {limit}"
    );
    while !is_open(&mut bench) {
        used = bench.status(0).memory_bytes;
        bench.run(0, 1);
    }
    let opened = bench.status(0).memory_bytes;
    assert!(opened <= limit / 2 && limit / 2 < used + 1024, "opened below 50 %, not at {opened}");
    assert_eq!((bench.counter(0, "intake-closed"), bench.counter(0, "intake-opened")), (1, 1));
}
