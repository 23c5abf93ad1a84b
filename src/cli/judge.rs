//! Is what the doctor reads good, passable or bad, and what is to be done? Nothing is read here.

use serde::Serialize;

use crate::host::examine::{Broker, Storage};
use crate::metrics::THROTTLED_FLAGS;
use crate::module::Board;
use crate::mqtt::config::{Protocol, Qos, Role, SessionConfig};

/// One line of the doctor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: String,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) text: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It runs, with less than it could promise or give.
    Warn,
    /// It does not run, or not for long.
    Fail,
}

impl Finding {
    pub(super) fn ok(check: &str, text: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Ok, text: text.into(), advice: None }
    }

    pub(super) fn warn(check: &str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check: check.to_owned(), verdict: Verdict::Warn, text: text.into(), advice }
    }

    pub(super) fn fail(check: &str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, text, advice) }
    }
}

/// Longer than this in the middle, a sync makes a slow node; in microseconds. SD cards of class A1 take 5 to 30 ms.
const SYNC_MEDIAN_US_MAX: u64 = 50_000;
/// Longer than this, devices notice; in microseconds.
const SYNC_LONGEST_US_MAX: u64 = 1_000_000;
/// Above this the Pi is soon throttled, in thousandths of a degree: it is at 80 °C (85 °C for the Pi 4 and 5).
const WARM_MILLI: i64 = 70_000;
const HOT_MILLI: i64 = 80_000;
/// Under this many PUBLISHes under way a card's syncs bound the rate.
const RECEIVE_MAXIMUM_MIN: u16 = 100;
/// Descriptors that a node has for itself, with some to spare: log, base, sockets of its own, clients.
const DESCRIPTORS_OF_A_NODE: u64 = 128;

pub(super) fn clock(is_synchronised: bool) -> Finding {
    if is_synchronised {
        return Finding::ok("clock", "synchronised");
    }
    Finding::warn(
        "clock",
        "the kernel's clock is not synchronised: time that passes while the board is off does not count for delayed messages",
        "`timedatectl set-ntp true`, and see that the board reaches a time server",
    )
}

pub(super) fn memory_groups(has: Option<bool>, command_line_file: Option<&str>) -> Finding {
    let name = "memory-cgroup";
    match has {
        Some(true) => Finding::ok(name, "enabled"),
        None => Finding::ok(name, "not to be seen from here"),
        Some(false) => {
            let file = command_line_file.unwrap_or("/boot/firmware/cmdline.txt");
            let advice = format!(
                "append `cgroup_enable=memory cgroup_memory=1` to the one line of {file} and restart the board"
            );
            Finding::warn(name, "disabled: memory limits of containers and units have no effect", advice)
        }
    }
}

pub(super) fn storage(storage: &Storage) -> Finding {
    let name = "storage";
    let at = |percent: usize| {
        let place = (storage.syncs_us.len().saturating_sub(1)) * percent / 100;
        storage.syncs_us.get(place).copied().unwrap_or_default()
    };
    let (median, longest) = (at(50), at(100));
    let ms = |micros: u64| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
    let text = format!(
        "a sync takes {} ({} in 99 of 100, at most {}; {} tried), a long write {} MB/s",
        ms(median),
        ms(at(99)),
        ms(longest),
        storage.syncs_us.len(),
        storage.bytes_per_second / 1_000_000
    );
    if storage.is_memory {
        let advice = "put the data directory on a disk: what is in memory is gone with the power";
        return Finding::fail(name, format!("it is memory; {text}"), advice);
    }
    if SYNC_MEDIAN_US_MAX < median || SYNC_LONGEST_US_MAX < longest {
        let advice = "every answer waits for a sync: use a card of class A1 or better, or an SSD, and see that nothing else writes";
        return Finding::warn(name, text, advice);
    }
    Finding::ok(name, text)
}

pub(super) fn free_space(free: u64, board: &Board) -> Finding {
    let name = "free-space";
    let mib = |bytes: u64| bytes / (1024 * 1024);
    // The log, as much again for the base, and what a fold and a new segment need.
    let least = 2 * board.log_bytes_max + 2 * board.segment_bytes;
    let text = format!("{} MiB", mib(free));
    if free < least {
        let advice = format!("make room: the log alone may take {} MiB", mib(board.log_bytes_max));
        Finding::fail(name, text, advice)
    } else if free < 4 * least {
        Finding::warn(
            name,
            text,
            format!("state has little room to grow: {} MiB were better", mib(4 * least)),
        )
    } else {
        Finding::ok(name, text)
    }
}

pub(super) fn page_size(bytes: Option<u64>) -> Finding {
    match bytes {
        None => Finding::ok("page-size", "not to be seen from here"),
        Some(4096) => Finding::ok("page-size", "4096 bytes"),
        Some(bytes) => Finding::warn(
            "page-size",
            format!("{bytes} bytes: a fold writes and holds whole pages"),
            "on a Raspberry Pi 5, `kernel=kernel8.img` in /boot/firmware/config.txt gives pages of 4096 bytes; not with data already there",
        ),
    }
}

pub(super) fn temperature(milli: Option<i64>) -> Finding {
    let name = "temperature";
    let Some(milli) = milli else { return Finding::ok(name, "no sensor") };
    let text = format!("{} °C", milli / 1000);
    let advice = "give the board air or a heat sink: it slows down when it is hot";
    if HOT_MILLI <= milli {
        Finding::fail(name, text, advice)
    } else if WARM_MILLI <= milli {
        Finding::warn(name, text, advice)
    } else {
        Finding::ok(name, text)
    }
}

pub(super) fn power(throttled: Option<u32>) -> Finding {
    let name = "power";
    let Some(bits) = throttled else { return Finding::ok(name, "no flags: not a Raspberry Pi") };
    let named = |from: u32| {
        let set = THROTTLED_FLAGS.iter().filter(|(bit, _)| bits >> (bit + from) & 1 == 1);
        set.map(|(_, flag)| *flag).collect::<Vec<_>>().join(", ")
    };
    let (now, since) = (named(0), named(16));
    let advice =
        "use the board's own power supply and a short cable; under-voltage destroys what is on SD cards";
    match (now.is_empty(), since.is_empty()) {
        (true, true) => Finding::ok(name, "no under-voltage since power came on"),
        (true, false) => Finding::warn(name, format!("since power came on: {since}"), advice),
        (false, _) if bits & 1 == 1 => Finding::fail(name, format!("now: {now}"), advice),
        (false, _) => Finding::warn(name, format!("now: {now}"), advice),
    }
}

/// `connections` is what the module may open.
pub(super) fn descriptors(max: Option<u64>, connections: u64) -> Finding {
    let name = "file-descriptors";
    let needed = DESCRIPTORS_OF_A_NODE + connections;
    match max {
        Some(max) if max < needed => {
            let advice = "raise `LimitNOFILE=` in the unit, or `ulimit -n`";
            Finding::fail(name, format!("{max}, {needed} are needed"), advice)
        }
        Some(max) => Finding::ok(name, format!("{max}, {needed} are needed")),
        None => Finding::ok(name, "no limit"),
    }
}

/// What a broker that was reached says; one finding for each thing that is not as it should be.
pub(super) fn broker(session: &SessionConfig, read: &Result<Broker, String>) -> Vec<Finding> {
    let name = format!("broker {}", session.name);
    let place = format!("{}:{}", session.broker.host, session.broker.port);
    let broker = match read {
        Ok(broker) => broker,
        Err(error) => {
            let advice = "is it running, and does it listen for other machines (`listener` in mosquitto.conf)? The node waits for it";
            return vec![Finding::fail(&name, format!("{place}: {error}"), advice)];
        }
    };
    let ack = &broker.ack;
    if ack.reason != 0 {
        let text = format!("{place} refuses: {}", refusal(session.broker.protocol, ack.reason));
        return vec![Finding::fail(&name, text, "see user, password and ACL of the broker, and its log")];
    }
    let mut found = Vec::new();
    if ack.qos_max < qos_wanted(&session.role) {
        let text = format!("{place} takes QoS {} at most", ack.qos_max as u8);
        let advice = "exactly once needs QoS 2: raise `max_qos`, or promise less in module.yaml";
        found.push(Finding::fail(&name, text, advice));
    }
    let receive_maximum = ack.receive_maximum.unwrap_or(u16::MAX);
    if receive_maximum < RECEIVE_MAXIMUM_MIN {
        let text = format!("{place} takes {receive_maximum} records under way");
        let advice = "`max_inflight_messages 1000` in mosquitto.conf: else so many per commit are the most";
        found.push(Finding::warn(&name, text, advice));
    }
    let (wanted, granted) = (session.session_expiry.as_secs(), ack.session_expiry_seconds);
    if let Some(granted) = granted.map(u64::from).filter(|granted| *granted < wanted) {
        let text = format!("{place} forgets the session after {granted} s, not {wanted} s");
        let advice = "raise `persistent_client_expiration`: records for a node that is off longer are lost";
        found.push(Finding::fail(&name, text, advice));
    }
    if !ack.retain_available && matches!(&session.role, Role::Egress(egress) if egress.retain) {
        let text = format!("{place} keeps no retained records");
        found.push(Finding::warn(&name, text, "`retain_available true` in mosquitto.conf"));
    }
    if let Some(dropped) = broker.dropped.filter(|dropped| 0 < *dropped) {
        let text = format!("{place} has dropped {dropped} records since its start");
        let advice = "raise `max_queued_messages`: exactly once ends where the broker drops (docs/operating/mosquitto.md)";
        found.push(Finding::warn(&name, text, advice));
    }
    if found.is_empty() {
        let version = broker.version.as_deref().unwrap_or("which does not tell its version");
        let dropped = if broker.dropped.is_some() { "nothing dropped" } else { "its $SYS is not readable" };
        found.push(Finding::ok(&name, format!("{place}, {version}; {dropped}")));
    }
    found
}

fn qos_wanted(role: &Role) -> Qos {
    match role {
        Role::Ingress { subscriptions } => {
            subscriptions.iter().map(|subscription| subscription.qos).max().unwrap_or(Qos::AtMostOnce)
        }
        Role::Egress(egress) => egress.qos,
    }
}

fn refusal(protocol: Protocol, reason: u8) -> String {
    let words = match (protocol, reason) {
        (Protocol::V5, 0x84) | (Protocol::V311, 1) => "it does not speak this version of MQTT",
        (Protocol::V5, 0x85) | (Protocol::V311, 2) => "it does not take this client id",
        (Protocol::V5, 0x86) | (Protocol::V311, 4) => "wrong user or password",
        (Protocol::V5, 0x87) | (Protocol::V311, 5) => "not authorised",
        (Protocol::V5, 0x88) | (Protocol::V311, 3) => "it is not available",
        _ => "for a reason of its own",
    };
    format!("{words} (0x{reason:02X})")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Verdict::{Fail, Ok as Good, Warn};
    use super::*;
    use crate::mqtt::codec::ConnAck;

    #[test]
    fn a_card_is_judged_by_its_syncs() {
        let of = |median: u64, longest: u64, is_memory| {
            let syncs_us = vec![median, median, longest];
            storage(&Storage { is_memory, bytes_per_second: 12_000_000, syncs_us })
        };
        assert_eq!(of(8_000, 40_000, false).verdict, Good);
        assert!(of(8_250, 40_000, false).text.starts_with("a sync takes 8.2 ms"));
        assert_eq!(of(60_000, 80_000, false).verdict, Warn);
        assert_eq!(of(8_000, 1_500_000, false).verdict, Warn, "it stalls");
        assert_eq!(of(10, 20, true).verdict, Fail, "memory is fast, and gone");
    }

    #[test]
    fn power_and_heat_are_judged_now_and_since() {
        assert_eq!(power(Some(0)).verdict, Good);
        assert_eq!(power(None).verdict, Good);
        assert_eq!(power(Some(0x5_0000)).verdict, Warn);
        assert_eq!(power(Some(0x5_0005)).verdict, Fail);
        assert_eq!(power(Some(0x8_0008)).verdict, Warn, "hot now, but its power holds");
        assert!(power(Some(0x5_0000)).text.contains("under-voltage, throttled"));
        assert_eq!(
            [20_000, 75_000, 85_000].map(|milli| temperature(Some(milli)).verdict),
            [Good, Warn, Fail]
        );
    }

    #[test]
    fn room_is_judged_by_the_board() {
        let board = Board::default();
        assert_eq!(
            [0, 100 << 20, 100 << 30].map(|free| free_space(free, &board).verdict),
            [Fail, Warn, Good]
        );
        assert_eq!(page_size(Some(16_384)).verdict, Warn);
        assert_eq!(page_size(Some(4_096)).verdict, Good);
        assert_eq!(descriptors(Some(64), 0).verdict, Fail);
        assert_eq!(descriptors(Some(1024), 20).verdict, Good);
        assert_eq!(clock(false).verdict, Warn);
        let disabled = memory_groups(Some(false), Some("/boot/cmdline.txt"));
        assert_eq!(disabled.verdict, Warn);
        let advice = disabled.advice.unwrap();
        assert!(
            advice.contains("cgroup_enable=memory cgroup_memory=1") && advice.contains("/boot/cmdline.txt")
        );
    }

    #[test]
    fn a_broker_is_judged_by_what_it_grants() {
        let session = session();
        let good = Broker {
            ack: ConnAck {
                session_present: false,
                reason: 0,
                receive_maximum: Some(1000),
                qos_max: Qos::ExactlyOnce,
                retain_available: true,
                packet_bytes_max: None,
                session_expiry_seconds: None,
                keep_alive_seconds: None,
            },
            version: Some("mosquitto version 2.0.18".to_owned()),
            dropped: Some(0),
        };
        let of = |broker: Broker| {
            let found = super::broker(&session, &Ok(broker));
            found.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        let with = |change: fn(&mut ConnAck)| {
            let mut broker = good.clone();
            change(&mut broker.ack);
            broker
        };
        assert_eq!(of(good.clone()), [Good]);
        assert_eq!(of(Broker { dropped: Some(7), ..good.clone() }), [Warn]);
        assert_eq!(of(Broker { dropped: None, version: None, ..good.clone() }), [Good]);
        assert_eq!(of(with(|ack| ack.qos_max = Qos::AtLeastOnce)), [Fail]);
        assert_eq!(of(with(|ack| ack.receive_maximum = Some(20))), [Warn]);
        assert_eq!(of(with(|ack| ack.session_expiry_seconds = Some(60))), [Fail]);
        assert_eq!(of(with(|ack| ack.reason = 0x87)), [Fail]);
        let down = super::broker(&session, &Err("refused".to_owned()));
        assert_eq!(down[0].verdict, Fail);
        let refused = super::broker(&session, &Ok(with(|ack| ack.reason = 0x86)));
        assert!(refused[0].text.contains("wrong user or password"));
    }

    fn session() -> SessionConfig {
        use crate::mqtt::config::{Broker, EgressConfig, Format};
        SessionConfig {
            name: crate::TypeName::parse("shop/out").unwrap(),
            broker: Broker { host: "b".to_owned(), port: 1883, protocol: Protocol::V5, tls: None },
            client_id: "c".to_owned(),
            session_expiry: Duration::from_secs(3600),
            user: None,
            password: None,
            keep_alive: Duration::from_secs(60),
            receive_maximum: 100,
            packet_bytes_max: 1000,
            role: Role::Egress(EgressConfig {
                topic: None,
                qos: Qos::ExactlyOnce,
                retain: false,
                format: Format::Raw,
            }),
        }
    }
}
