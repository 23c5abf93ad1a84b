//! Which epoch does a message belong to?

use super::bench::*;

/// `test/a` tells `test/b` of the id that its text names; `test/b` listens.
fn two_workers(ear: &Ear, channel_bytes: u32) -> Bench {
    let ear = ear.clone();
    let mut limits = limits();
    limits.channel_bytes = channel_bytes;
    Bench::new(
        2,
        limits,
        module(move |context, text| {
            match context.self_address().function_type().name() {
                "a" => context.send(address("test/b", text), "from a")?,
                "pair" => {
                    for number in 0..6 {
                        context.send(address("test/b", text), number.to_string())?;
                    }
                }
                "out" => context.egress(&OUT, crate::egress::MqttRecord::new("out", text.to_owned()))?,
                _ => ear.hear(context, text),
            }
            Ok(())
        }),
    )
}

#[test]
fn a_letter_that_comes_between_cut_and_barrier_is_in_the_frame_and_deleted_by_the_next() {
    let ear = Ear::default();
    let mut bench = two_workers(&ear, 64 * 1024);
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    bench.send(&address("test/a", &here), there.as_str());
    bench.run(1, 10);
    bench.cut();
    assert!(bench.pass(1, 0), "the letter comes after worker 0 has cut");
    bench.run(0, 10);
    assert_eq!(ear.take(), [format!("{there} from a")], "it is processed at once");
    let frame = bench.gather();
    let letter = format!("letter test/b/{there} 1");
    assert_eq!(of_kind(&frame, "letter"), (vec![letter.clone()], vec![]));
    assert_eq!(of_kind(&frame, "counter").0.len(), 1, "its arrival number is not given again");
    bench.tell_committed();
    assert_eq!(of_kind(&bench.commit(), "letter"), (vec![], vec![letter]));
    bench.restart(2);
    bench.settle();
    assert!(ear.take().is_empty());
}

#[test]
fn a_late_letter_whose_processing_is_lost_is_processed_once_more() {
    let ear = Ear::default();
    let mut bench = two_workers(&ear, 64 * 1024);
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    bench.send(&address("test/a", &here), there.as_str());
    bench.run(1, 10);
    bench.cut();
    assert!(bench.pass(1, 0));
    bench.run(0, 10);
    bench.gather();
    ear.take();
    bench.restart(2);
    bench.settle();
    assert_eq!(ear.take(), [format!("{there} from a")]);
}

#[test]
fn a_letter_after_a_late_one_gets_a_number_of_its_own() {
    let ear = Ear::default();
    let mut bench = two_workers(&ear, 64 * 1024);
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    bench.send(&address("test/a", &here), there.as_str());
    bench.run(1, 10);
    bench.cut();
    bench.pass(1, 0);
    bench.gather();
    // The power fails; after it another letter comes, and both are there.
    bench.restart(2);
    bench.send(&address("test/b", &there), "second");
    let frame = bench.commit();
    assert_eq!(of_kind(&frame, "letter").0, [format!("letter test/b/{there} 2")]);
    bench.restart(2);
    bench.settle();
    assert_eq!(ear.take(), [format!("{there} from a"), format!("{there} second")]);
}

#[test]
fn what_comes_and_goes_within_an_epoch_is_in_no_frame() {
    let ear = Ear::default();
    let mut bench = two_workers(&ear, 64 * 1024);
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    bench.send(&address("test/a", &here), there.as_str());
    bench.settle();
    assert_eq!(ear.take().len(), 1);
    assert_eq!(bench.commit(), Frame::new());
}

#[test]
fn what_waits_for_credit_is_put_by_its_sender_and_deleted_when_handed_over() {
    let ear = Ear::default();
    // Credit for a single message.
    let mut bench = two_workers(&ear, 1);
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    bench.send(&address("test/pair", &here), there.as_str());
    bench.run(1, 10);
    assert_eq!((bench.under_way(1, 0), bench.status(1).messages_unsent), (1, 5));
    let frame = bench.commit();
    let (put, deleted) = of_kind(&frame, "unsent");
    assert_eq!((put.len(), deleted.len()), (5, 0));
    bench.settle();
    assert_eq!(bench.status(1).messages_unsent, 0);
    assert_eq!(of_kind(&bench.commit(), "unsent"), (vec![], put));
    let in_order: Vec<String> = (0..6).map(|number| format!("{there} {number}")).collect();
    assert_eq!(ear.take(), in_order);
}

#[test]
fn what_waits_for_credit_survives_in_order_whatever_the_number_of_workers() {
    let ear = Ear::default();
    let (here, there) = (id_of(1, 2), id_of(0, 2));
    for workers in [1, 2, 4] {
        let mut bench = two_workers(&ear, 1);
        bench.send(&address("test/pair", &here), there.as_str());
        bench.run(1, 10);
        bench.commit();
        ear.take();
        bench.restart(workers);
        bench.settle();
        let in_order: Vec<String> = (0..6).map(|number| format!("{there} {number}")).collect();
        assert_eq!(ear.take(), in_order, "{workers} workers");
        bench.live();
        bench.restart(2);
        bench.settle();
        assert!(ear.take().is_empty());
    }
}

#[test]
fn a_record_for_a_session_elsewhere_comes_late_and_survives() {
    let ear = Ear::default();
    let session_worker = crate::worker::session_owner(&OUT, 2).0;
    let other = 1 - session_worker;
    // Worker 0 cuts first; what worker 1 has sent is late there.
    if session_worker != 0 {
        return lives_with_its_session(&ear);
    }
    let mut bench = two_workers(&ear, 64 * 1024);
    bench.send(&address("test/out", &id_of(other, 2)), "x");
    bench.run(other, 10);
    bench.cut();
    assert!(bench.pass(other, session_worker));
    let frame = bench.gather();
    assert_eq!(of_kind(&frame, "letter fogfun/session/").0.len(), 1);
    bench.restart(2);
    let frame = bench.commit();
    assert_eq!(of_kind(&frame, "letter fogfun/session/").1.len(), 1);
    assert_eq!(of_kind(&frame, "outbox").0.len(), 1);
}

/// The session is worker 1's: its records from worker 0 come before the barrier that makes it cut.
fn lives_with_its_session(ear: &Ear) {
    let mut bench = two_workers(ear, 64 * 1024);
    bench.send(&address("test/out", &id_of(0, 2)), "x");
    bench.run(0, 10);
    let frame = bench.commit();
    assert_eq!(of_kind(&frame, "letter"), (vec![], vec![]));
    assert_eq!(of_kind(&frame, "outbox").0.len(), 1);
}

#[test]
fn order_of_a_pair_outlives_three_workers_then_one_then_four() {
    let ear = Ear::default();
    let heard = ear.clone();
    let mut limits = limits();
    limits.channel_bytes = 300;
    // `test/a` passes every number on to three addresses, which listen.
    let mut bench = Bench::new(
        3,
        limits,
        module(move |context, text| {
            if context.self_address().function_type().name() == "a" {
                for target in ["5", "6", "7"] {
                    let from = context.self_address().id().to_owned();
                    context.send(address("test/b", target), format!("{from}:{text}"))?;
                }
            } else {
                heard.hear(context, text);
            }
            Ok(())
        }),
    );
    let senders: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    let mut last = std::collections::BTreeMap::<String, i64>::new();
    for (round, workers) in [3, 1, 4, 2].into_iter().enumerate() {
        for number in 0..20 {
            for sender in &senders {
                bench.send(&address("test/a", sender), (round as i64 * 20 + number).to_string());
            }
        }
        for worker in 0..bench.workers.len() {
            bench.run(worker, 60);
        }
        bench.commit();
        for line in ear.take() {
            note(&mut last, &line);
        }
        bench.restart(workers);
    }
    bench.live();
    for line in ear.take() {
        note(&mut last, &line);
    }
    assert_eq!(last.len(), 15);
    assert!(last.values().all(|&last| last == 79), "{last:?}");
}

/// A pair's numbers are 0, 1, 2 … without a gap: what was invoked before a commit is not invoked again.
fn note(last: &mut std::collections::BTreeMap<String, i64>, line: &str) {
    let (pair, number) = line.rsplit_once(':').unwrap();
    let number: i64 = number.parse().unwrap();
    let expected = last.get(pair).map_or(0, |last| last + 1);
    assert_eq!(number, expected, "{pair}");
    last.insert(pair.to_owned(), number);
}
