//! One named test for each rule of the machine, the test playing broker.

use super::bench::*;
use super::*;

#[test]
fn an_incarnation_is_durable_before_subscribe() {
    let mut bench = Bench::new(ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]));
    bench.connack(false);
    assert!(matches!(bench.said()[..], [Packet::Connect(_)]));
    bench.sync();
    assert!(matches!(bench.said()[..], [Packet::Subscribe { id: 65_535, .. }]));
}

#[test]
fn an_incarnation_is_durable_before_subscribe_on_the_next_connection_too() {
    let mut bench = Bench::new(ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]));
    bench.connack(false);
    bench.lose_connection();
    bench.connack(true);
    assert!(matches!(bench.said()[..], [Packet::Connect(_)]));
    bench.sync();
    assert!(matches!(bench.said()[..], [Packet::Subscribe { id: 65_535, .. }]));
}

#[test]
fn mqtt_5_subscribes_once_a_start_for_the_session_may_be_another() {
    let first = listener();
    let mut same = Bench::recover(
        ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]),
        SessionStart::Resume,
        first.log.clone(),
    );
    same.connack(true);
    assert!(matches!(same.said()[..], [Packet::Connect(_), Packet::Subscribe { id: 65_535, .. }]));
    same.receive(&Packet::SubAck { id: 65_535, reasons: vec![2] });
    same.lose_connection();
    same.connack(true);
    assert!(matches!(same.said()[..], [Packet::Connect(_)]));
}

#[test]
fn held_subscriptions_are_not_asked_for_again_over_3_1_1() {
    let config = || ingress(Protocol::V311, Qos::ExactlyOnce, &["in/+"]);
    let mut first = Bench::new(config());
    first.ready(false);
    let mut same = Bench::recover(config(), SessionStart::Resume, first.log);
    same.connack(true);
    assert!(matches!(same.said()[..], [Packet::Connect(_)]));
}

#[test]
fn a_release_that_the_broker_does_not_know_is_told_if_it_was_before_the_start() {
    let mut first = speaker_that_released();
    // On the same start a lost session is noticed, unless a CONNECT went unanswered: it was PUBCOMP that was lost.
    let mut same =
        Bench::recover(egress(Protocol::V5, Qos::ExactlyOnce), SessionStart::Resume, first.log.clone());
    first.lose_connection();
    first.connack(true);
    first.receive(&Packet::PubComp { id: 1, reason: 0x92 });
    assert!(!first.events.contains(&"release-unproven"));
    same.connack(true);
    assert!(matches!(same.said()[..], [Packet::Connect(_), Packet::PubRel { id: 1, .. }]));
    same.receive(&Packet::PubComp { id: 1, reason: 0x92 });
    assert_eq!(same.events, ["release-unproven"]);
    assert_eq!(same.session.status().outbox_entries, 0, "it is not sent again");
}

#[test]
fn behind_a_connect_that_nothing_answers_the_session_may_be_another() {
    let (mut egress, mut ingress) = (speaker_that_released(), listener());
    for bench in [&mut egress, &mut ingress] {
        bench.lose_connection();
        let connection = bench.connection;
        bench.input(SessionInput::Connected { connection });
        bench.lose_connection();
        bench.said();
        bench.connack(true);
    }
    egress.receive(&Packet::PubComp { id: 1, reason: 0x92 });
    assert!(egress.events.contains(&"release-unproven"));
    assert!(matches!(ingress.said()[..], [Packet::Connect(_), Packet::Subscribe { .. }]));
}

#[test]
fn dropped_subscriptions_are_unsubscribed() {
    let first = listener();
    let mut other =
        Bench::recover(ingress(Protocol::V5, Qos::ExactlyOnce, &["new"]), SessionStart::Resume, first.log);
    other.connack(true);
    let filters = vec!["in/+".to_owned()];
    assert_eq!(other.said()[1..], [Packet::Unsubscribe { id: 65_535, filters }]);
    other.receive(&Packet::UnsubAck { id: 65_535, reasons: vec![0] });
    assert!(matches!(&other.said()[..], [Packet::Subscribe { filters, .. }] if filters[0].filter == "new"));
}

#[test]
fn a_refused_subscription_is_told_and_asked_again_later() {
    let mut bench = Bench::new(ingress(Protocol::V5, Qos::ExactlyOnce, &["a", "b"]));
    bench.connack(false);
    bench.sync();
    bench.said();
    bench.receive(&Packet::SubAck { id: 65_535, reasons: vec![0x87, 1] });
    assert_eq!(bench.events, ["subscription-refused", "qos-granted-lower"]);
    assert_eq!(bench.said(), []);
    for _ in 0..20 {
        bench.receive(&Packet::PingResp);
        bench.timeout();
    }
    assert!(bench.said().iter().any(|packet| matches!(packet,
        Packet::Subscribe { filters, .. } if filters.len() == 1 && filters[0].filter == "a")));
}

#[test]
fn pubrec_waits_for_the_commit_and_pubcomp_for_the_sync() {
    let mut bench = listener();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    assert!(bench.session.is_dirty());
    bench.cut();
    assert_eq!(bench.said(), []);
    bench.input(SessionInput::Committed { epoch: Epoch(1) });
    assert_eq!(bench.said(), [PUBREC_7]);
    bench.receive(&PUBREL_7);
    assert_eq!(bench.said(), []);
    bench.sync();
    assert_eq!(bench.said(), [PUBCOMP_7]);
    assert!(!bench.session.is_dirty());
}

#[test]
fn pubrel_waits_50_ms_unless_half_the_window_is_owed() {
    let mut bench = listener();
    for id in 1..=5 {
        bench.publish_in(id, Qos::ExactlyOnce, false, "x");
    }
    bench.commit();
    for id in 1..=5 {
        bench.receive(&Packet::PubRel { id, reason: 0 });
        let wait = if id < 5 { Duration::from_millis(50) } else { Duration::from_ticks(0) };
        assert_eq!(bench.records.last().unwrap().1, bench.now + wait, "id {id}");
    }
}

#[test]
fn a_repeat_of_an_accepted_id_is_not_processed_again() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut bench = listener();
        bench.publish_in(7, qos, false, "x");
        bench.lose_connection();
        bench.commit();
        assert_eq!(bench.said(), [], "the PUBLISH has not come on this connection");
        bench.connack(true);
        bench.said();
        bench.publish_in(7, qos, true, "x");
        assert_eq!(bench.published.len(), 1);
        let expected = if qos == Qos::ExactlyOnce { PUBREC_7 } else { Packet::PubAck { id: 7, reason: 0 } };
        assert_eq!(bench.said(), [expected]);
    }
}

#[test]
fn an_unknown_pubrel_is_answered_not_found() {
    let mut bench = listener();
    bench.receive(&PUBREL_7);
    assert_eq!(bench.said(), [Packet::PubComp { id: 7, reason: 0x92 }]);
    assert!(!bench.closed);
}

#[test]
fn the_guard_swallows_a_repeat_until_the_broker_has_our_pubcomp() {
    let mut bench = listener();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    bench.commit();
    bench.receive(&PUBREL_7);
    bench.sync();
    bench.lose_connection();
    bench.connack(true);
    bench.publish_in(7, Qos::ExactlyOnce, true, "x");
    assert_eq!((bench.published.len(), bench.events.last()), (1, Some(&"guard-hit")));
    bench.receive(&PUBREL_7);
    bench.said();
    let completed = bench.now;
    while !bench.said().contains(&Packet::PingReq) {
        bench.timeout();
    }
    assert_eq!(bench.now, completed + Duration::from_millis(500));
    bench.receive(&Packet::PingResp);
    bench.publish_in(7, Qos::ExactlyOnce, true, "x");
    assert_eq!(bench.published.len(), 2, "an equal reading is not swallowed");
}

#[test]
fn an_equal_reading_under_a_reused_id_is_not_swallowed() {
    let mut bench = listener();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    bench.commit();
    bench.receive(&PUBREL_7);
    bench.sync();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    assert_eq!(bench.published.len(), 2);
}

#[test]
fn nothing_is_published_before_its_commit_and_pubrel_waits_for_the_sync() {
    let mut bench = speaker();
    bench.input(out(Qos::ExactlyOnce, "x"));
    bench.input(out(Qos::AtMostOnce, "y"));
    bench.cut();
    assert_eq!(bench.said(), []);
    bench.input(SessionInput::Committed { epoch: Epoch(1) });
    let said = bench.said();
    assert_eq!(publishes(&said), [(false, 1, "x".into()), (false, 0, "y".into())]);
    bench.receive(&Packet::PubRec { id: 1, reason: 0 });
    assert_eq!(bench.said(), []);
    assert_eq!(bench.records.last().unwrap().1, bench.now, "PUBREC is urgent");
    bench.sync();
    assert_eq!(bench.said(), [Packet::PubRel { id: 1, reason: 0 }]);
    bench.receive(&Packet::PubComp { id: 1, reason: 0 });
    assert_eq!(bench.session.status().outbox_entries, 0);
}

#[test]
fn a_restart_continues_each_entry_where_it_was() {
    let mut bench = speaker();
    for payload in ["a", "b", "c"] {
        bench.input(out(Qos::ExactlyOnce, payload));
    }
    bench.commit();
    bench.receive(&Packet::PubRec { id: 1, reason: 0 });
    bench.sync();
    bench.receive(&Packet::PubComp { id: 1, reason: 0 });
    bench.receive(&Packet::PubRec { id: 2, reason: 0 });
    let config = egress(Protocol::V5, Qos::ExactlyOnce);
    let mut again = Bench::recover(config, SessionStart::Resume, bench.log);
    again.connack(true);
    let said = again.said();
    assert_eq!(said[1], Packet::PubRel { id: 2, reason: 0 });
    assert_eq!(publishes(&said), [(true, 3, "c".into())]);
    assert_eq!(said.len(), 3);
}

#[test]
fn what_is_outstanding_spans_at_most_the_window() {
    let mut bench = speaker();
    for _ in 0..30 {
        bench.input(out(Qos::AtLeastOnce, "x"));
    }
    bench.commit();
    assert_eq!(publishes(&bench.said()).len(), 20);
    bench.receive(&Packet::PubAck { id: 2, reason: 0 });
    assert_eq!(bench.said(), [], "the first is unfinished");
    bench.receive(&Packet::PubAck { id: 1, reason: 0 });
    assert_eq!(publishes(&bench.said()).len(), 2);
}

#[test]
fn a_refused_entry_is_a_dead_letter_of_the_working_epoch_and_stalls_nothing() {
    let mut bench = speaker();
    bench.input(out(Qos::ExactlyOnce, "a"));
    bench.input(out(Qos::ExactlyOnce, "b"));
    bench.commit();
    bench.receive(&Packet::PubRec { id: 1, reason: 0x87 });
    assert_eq!(bench.refused, ["the broker says 0x87"]);
    assert!(bench.session.is_dirty());
    bench.said();
    bench.receive(&Packet::PubRec { id: 2, reason: 0 });
    bench.sync();
    assert_eq!(bench.said(), [Packet::PubRel { id: 2, reason: 0 }]);
    let log_before = bench.log.len();
    bench.cut();
    let deleted: Vec<_> = bench.log[log_before..].iter().filter(|(_, value)| value.is_none()).collect();
    assert_eq!(deleted.len(), 1);
    let config = egress(Protocol::V5, Qos::ExactlyOnce);
    let again = Bench::recover(config, SessionStart::Resume, bench.log);
    assert_eq!(again.session.status().outbox_entries, 1, "only b is left");
}

#[test]
fn what_the_broker_cannot_take_is_refused_unsent_or_lowered() {
    let mut bench = Bench::new(egress(Protocol::V5, Qos::ExactlyOnce));
    bench.connack_with(false, 20, Qos::AtLeastOnce, Some(60));
    bench.sync();
    bench.said();
    let long = "0123456789012345678901234567890123456789012345678901234567890123456789";
    bench.input(out(Qos::ExactlyOnce, long));
    bench.input(out(Qos::ExactlyOnce, "b"));
    bench.commit();
    assert_eq!(publishes(&bench.said()), [(false, 2, "b".into())]);
    assert_eq!(bench.refused.len(), 1);
    bench.receive(&Packet::PubAck { id: 2, reason: 0 });
    bench.commit();
    assert_eq!(bench.session.status().outbox_entries, 0);
}

#[test]
fn a_lost_session_is_a_new_incarnation_and_unfinished_output_is_put_again() {
    let mut bench = speaker();
    for payload in ["a", "b"] {
        bench.input(out(Qos::ExactlyOnce, payload));
    }
    bench.commit();
    bench.receive(&Packet::PubRec { id: 1, reason: 0 });
    bench.sync();
    bench.receive(&Packet::PubComp { id: 1, reason: 0 });
    bench.lose_connection();
    bench.connack(false);
    bench.sync();
    assert!(bench.events.contains(&"session-lost"));
    assert_eq!(publishes(&bench.said()), [], "not before it is committed under the new number");
    // Both before and after that commit, a restart knows what is unfinished.
    let config = || egress(Protocol::V5, Qos::ExactlyOnce);
    let mut early = Bench::recover(config(), SessionStart::Resume, bench.log.clone());
    early.connack(true);
    early.commit();
    assert_eq!(publishes(&early.said()), [(false, 1, "b".into())]);
    bench.commit();
    assert_eq!(publishes(&bench.said()), [(false, 1, "b".into())]);
    let late = Bench::recover(config(), SessionStart::Resume, bench.log);
    assert_eq!(late.session.status().outbox_entries, 1);
}

#[test]
fn a_lost_session_forgets_what_was_accepted() {
    let mut bench = listener();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    bench.commit();
    bench.lose_connection();
    bench.ready(false);
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    assert_eq!(bench.published.len(), 2);
    bench.commit();
    let again =
        Bench::recover(ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]), SessionStart::Resume, bench.log);
    assert_eq!(again.session.status().accepted_unfinished, 1);
}

#[test]
fn a_clean_start_empties_what_the_broker_knows_of_an_egress() {
    let mut bench = speaker();
    bench.input(out(Qos::ExactlyOnce, "a"));
    bench.commit();
    let mut clean = Bench::recover(egress(Protocol::V5, Qos::ExactlyOnce), SessionStart::Clean, bench.log);
    clean.connack(false);
    assert!(matches!(&clean.said()[0], Packet::Connect(connect) if connect.clean_start));
    clean.sync();
    clean.commit();
    assert_eq!(publishes(&clean.said()), [(false, 1, "a".into())]);
    let mut old = Bench::new(egress(Protocol::V311, Qos::ExactlyOnce));
    old.connack(false);
    assert!(old.closed, "a clean session of 3.1.1 is thrown away first");
    old.connack(false);
    let said = old.said();
    assert!(matches!(said.last(), Some(Packet::Connect(connect)) if !connect.clean_start));
}

#[test]
fn a_pubrel_that_comes_again_before_the_release_is_durable_is_answered_in_the_end() {
    let mut bench = listener();
    bench.publish_in(1, Qos::ExactlyOnce, false, "x");
    bench.commit();
    bench.receive(&Packet::PubRel { id: 1, reason: 0 });
    bench.lose_connection();
    bench.connack(true);
    bench.receive(&Packet::PubRel { id: 1, reason: 0 });
    // The card takes its time, and the broker answers a PINGREQ meanwhile: that says nothing of a PUBCOMP that was not sent.
    bench.now += Duration::from_secs(2);
    bench.session.handle_timeout(bench.now);
    bench.receive(&Packet::PingResp);
    bench.said();
    bench.sync();
    assert_eq!(bench.said(), [Packet::PubComp { id: 1, reason: 0 }]);
    assert_eq!(bench.session.status().accepted_unfinished, 1, "nor is it finished before the next answer");
}

#[test]
fn a_closed_intake_holds_publishes_and_handles_the_rest() {
    let mut bench = listener();
    bench.publish_in(1, Qos::ExactlyOnce, false, "x");
    bench.commit();
    bench.input(SessionInput::Intake(Intake::Closed));
    bench.publish_in(2, Qos::ExactlyOnce, false, "y");
    bench.receive(&Packet::PubRel { id: 1, reason: 0 });
    bench.sync();
    assert_eq!(bench.said()[1..], [Packet::PubComp { id: 1, reason: 0 }]);
    assert_eq!((bench.published.len(), bench.session.is_dirty()), (1, false));
    for _ in 0..20 {
        bench.publish_in(0, Qos::AtMostOnce, false, "z");
    }
    assert!(bench.events.contains(&"qos-0-dropped"));
    bench.input(SessionInput::Intake(Intake::Open));
    assert_eq!(bench.published.len(), 1 + 10);
}

#[test]
fn a_paused_intake_drops_nothing() {
    let mut bench = listener();
    bench.input(SessionInput::Intake(Intake::Paused));
    for _ in 0..20 {
        bench.publish_in(0, Qos::AtMostOnce, false, "z");
    }
    assert_eq!((bench.published.len(), bench.session.wants_bytes()), (0, false));
    // It was on its way when the socket was left alone; of QoS 0 the Receive Maximum says nothing.
    bench.publish_in(1, Qos::ExactlyOnce, false, "x");
    bench.input(SessionInput::Intake(Intake::Open));
    assert_eq!((bench.published.len(), bench.session.wants_bytes()), (21, true));
    assert!(bench.events.is_empty());
}

#[test]
fn what_nobody_sends_again_is_not_forgotten_untold() {
    let forget: [fn(&mut Bench); 2] = [
        |bench| bench.lose_connection(),
        |bench| bench.input(SessionInput::Stop { deadline: bench.now + Duration::from_secs(10) }),
    ];
    for forget in forget {
        let mut bench = listener();
        bench.input(SessionInput::Intake(Intake::Paused));
        bench.publish_in(1, Qos::ExactlyOnce, false, "x");
        bench.publish_in(0, Qos::AtMostOnce, false, "z");
        forget(&mut bench);
        assert!(bench.events.contains(&"qos-0-dropped"));
    }
}

#[test]
fn an_answer_that_was_not_read_while_the_intake_was_paused_is_waited_for() {
    let mut bench = listener();
    while bench.session.poll_timeout().is_some() && !bench.sent.contains(&Packet::PingReq) {
        bench.timeout();
    }
    bench.input(SessionInput::Intake(Intake::Paused));
    for _ in 0..20 {
        bench.publish_in(0, Qos::AtMostOnce, false, "z");
    }
    assert!(!bench.session.wants_bytes());
    bench.now += Duration::from_secs(3600);
    bench.input(SessionInput::Intake(Intake::Open));
    bench.session.handle_timeout(bench.now);
    bench.receive(&Packet::PingResp);
    assert!(!bench.closed);
}

#[test]
fn a_3_1_1_broker_beyond_the_window_is_not_read() {
    let mut bench = Bench::new(ingress(Protocol::V311, Qos::ExactlyOnce, &["in/+"]));
    bench.ready(false);
    bench.input(SessionInput::Intake(Intake::Closed));
    for id in 1..=25 {
        assert_eq!(bench.session.wants_bytes(), id <= 20);
        bench.publish_in(id, Qos::AtLeastOnce, false, "x");
    }
    assert!(!bench.closed);
    bench.input(SessionInput::Intake(Intake::Open));
    assert_eq!((bench.published.len(), bench.session.wants_bytes()), (25, true));
}

#[test]
fn a_backlog_far_beyond_our_receive_maximum_is_taken() {
    let mut bench = listener();
    for id in 1..=100 {
        bench.publish_in(id, Qos::ExactlyOnce, false, "x");
    }
    assert_eq!((bench.published.len(), bench.closed, bench.session.wants_bytes()), (100, false, true));
    assert!(bench.events.contains(&"receive-maximum-exceeded"));
}

#[test]
fn a_backlog_far_beyond_our_receive_maximum_is_not_read_while_the_intake_is_closed() {
    let mut bench = listener();
    bench.input(SessionInput::Intake(Intake::Closed));
    for id in 1..=25 {
        assert_eq!(bench.session.wants_bytes(), id <= 20);
        bench.publish_in(id, Qos::ExactlyOnce, false, "x");
    }
    assert!(!bench.closed);
    bench.input(SessionInput::Intake(Intake::Open));
    assert_eq!((bench.published.len(), bench.session.wants_bytes()), (25, true));
}

#[test]
fn an_alias_stands_for_its_topic() {
    let mut bench = listener();
    let named = Publish { alias: Some(3), ..publish(1, Qos::AtLeastOnce, false, "in/x", "a") };
    let mut bytes = BytesMut::new();
    // Written by hand: topic, id, properties (alias 3).
    bytes.extend_from_slice(b"\x32\x0D\x00\x04in/x\x00\x01\x03\x23\x00\x03a");
    bytes.extend_from_slice(b"\x32\x09\x00\x00\x00\x02\x03\x23\x00\x03b");
    let connection = bench.connection;
    bench.input(SessionInput::Received { connection, bytes: bytes.freeze() });
    let topics: Vec<&str> = bench.published.iter().map(|publish| &*publish.topic).collect();
    assert_eq!(topics, [std::str::from_utf8(&named.topic).unwrap(); 2]);
}

#[test]
fn a_session_taken_over_is_not_fought_for() {
    let mut bench = listener();
    bench.receive(&Packet::Disconnect { reason: 0x8E });
    assert!(bench.closed && bench.events.contains(&"session-taken-over"));
    assert_eq!(bench.session.status().connection, "taken-over");
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn a_broker_that_speaks_out_of_turn_is_left_and_what_it_said_is_not_repeated() {
    let mut early = Bench::new(ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]));
    let connection = early.connection;
    early.input(SessionInput::Connected { connection });
    early.publish_in(1, Qos::AtLeastOnce, false, "secret");
    let mut client = listener();
    client.receive(&Packet::PingReq);
    for (bench, text) in [(early, "PUBLISH before CONNACK"), (client, "PINGREQ from a broker")] {
        assert!(bench.closed && bench.events.contains(&"broker-broke-protocol"));
        assert_eq!(bench.session.status().last_error.as_deref(), Some(text));
    }
}

#[test]
fn a_silent_broker_is_left() {
    let mut bench = listener();
    while !bench.closed {
        assert!(bench.now < Instant::from_secs(300));
        bench.timeout();
    }
    assert!(bench.said().contains(&Packet::PingReq));
    assert_eq!(bench.session.status().connection, "waiting");
}

#[test]
fn stop_finishes_what_is_committed_and_disconnects() {
    let mut bench = speaker();
    bench.input(out(Qos::AtLeastOnce, "a"));
    let deadline = bench.now + Duration::from_secs(5);
    bench.input(SessionInput::Stop { deadline });
    assert!(!bench.stopped);
    bench.commit();
    assert!(!bench.stopped);
    bench.receive(&Packet::PubAck { id: 1, reason: 0 });
    assert!(bench.stopped);
    assert_eq!(bench.said().last(), Some(&Packet::Disconnect { reason: 0 }));
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn packet_ids_follow_entry_numbers() {
    use crate::mqtt::outbound::packet_id;
    assert_eq!([packet_id(0), packet_id(65_533), packet_id(65_534)], [1, 65_534, 1]);
}

#[test]
fn a_record_that_is_not_durable_releases_nothing() {
    let mut bench = speaker();
    bench.input(out(Qos::ExactlyOnce, "a"));
    bench.input(out(Qos::ExactlyOnce, "b"));
    bench.commit();
    bench.said();
    bench.receive(&Packet::PubRec { id: 1, reason: 0 });
    let first = bench.records.last().unwrap().0;
    bench.receive(&Packet::PubRec { id: 2, reason: 0 });
    bench.receive(&Packet::PubRec { id: 2, reason: 0 });
    bench.input(SessionInput::Synced { record: first });
    assert_eq!(bench.said(), [Packet::PubRel { id: 1, reason: 0 }]);

    let mut bench = listener();
    bench.publish_in(7, Qos::ExactlyOnce, false, "x");
    bench.publish_in(8, Qos::ExactlyOnce, false, "y");
    bench.commit();
    bench.said();
    bench.receive(&PUBREL_7);
    bench.receive(&PUBREL_7);
    let first = bench.records.last().unwrap().0;
    bench.receive(&Packet::PubRel { id: 8, reason: 0 });
    assert_eq!(bench.said(), []);
    bench.input(SessionInput::Synced { record: first });
    let said = bench.said();
    assert!(said.iter().all(|packet| *packet == PUBCOMP_7) && !said.is_empty(), "{said:?}");
}

#[test]
fn an_acknowledgement_waits_until_the_publish_comes_on_this_connection() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut bench = listener();
        bench.publish_in(7, qos, false, "x");
        bench.lose_connection();
        bench.connack(true);
        bench.said();
        bench.commit();
        assert_eq!(bench.said(), []);
        bench.publish_in(7, qos, true, "x");
        assert_eq!((bench.said().len(), bench.published.len()), (1, 1));
    }
}
