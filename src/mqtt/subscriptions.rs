//! Which subscriptions does the broker hold, and which shall it hold? UNSUBSCRIBE what is no longer named; SUBSCRIBE to what is new
//! and, in MQTT 5, once a start to everything.

use embassy_time::{Duration, Instant};

use super::codec::{Filter, Packet, RetainHandling};
use super::config::{Protocol, Retained, Role, SessionConfig};
use super::values::Held;
use super::wire::Wire;

/// The subscriptions of one session.
#[derive(Debug)]
pub(super) struct Subscriptions {
    wanted: Vec<Filter>,
    pub(super) held: Vec<Held>,
    /// On the first connection since the start, and behind a CONNECT that nothing answered: a broker that lost the session may have made a
    /// new one of which nobody here has heard. In MQTT 5 it costs nothing to subscribe again, so it is done.
    is_unproven: bool,
    protocol: Protocol,
    /// One request is under way at a time: they share a packet id.
    request: Option<Request>,
    /// Filters that the broker refused: asked again at that time.
    refused: Vec<(String, Instant)>,
}

#[derive(Debug)]
enum Request {
    Subscribe(Vec<Filter>),
    Unsubscribe(Vec<String>),
}

impl Subscriptions {
    pub(super) fn new(config: &SessionConfig, held: Vec<Held>) -> Self {
        let wanted = match &config.role {
            Role::Egress(_) => Vec::new(),
            Role::Ingress { subscriptions } => subscriptions
                .iter()
                .map(|subscription| Filter {
                    filter: subscription.pattern.filter.clone(),
                    qos: subscription.qos,
                    retain_handling: match subscription.retained {
                        Retained::Taken => RetainHandling::WhenNew,
                        Retained::Ignored => RetainHandling::Never,
                    },
                })
                .collect(),
        };
        let protocol = config.broker.protocol;
        let mut new = Self { wanted, held, is_unproven: false, protocol, request: None, refused: Vec::new() };
        new.doubt();
        new
    }

    /// The broker's session may be another than is known here.
    pub(super) fn doubt(&mut self) {
        // A 3.1.1 broker would send its retained records again.
        self.is_unproven = self.protocol == Protocol::V5;
    }

    /// A new connection: what was asked on the old one is asked again.
    pub(super) fn connected(&mut self) {
        self.request = None;
        if std::mem::take(&mut self.is_unproven) {
            let wanted = &self.wanted;
            self.held.retain(|held| !wanted.iter().any(|wanted| wanted.filter == held.filter));
        }
    }

    /// Asks for what is missing, if nothing is under way.
    pub(super) fn pump(&mut self, now: Instant, wire: &mut Wire) {
        if self.request.is_some() {
            return;
        }
        let unwanted: Vec<String> = self
            .held
            .iter()
            .filter(|held| !self.wanted.iter().any(|wanted| wanted.filter == held.filter))
            .map(|held| held.filter.clone())
            .take(FILTERS_PER_PACKET_MAX)
            .collect();
        if !unwanted.is_empty() {
            wire.send(&Packet::Unsubscribe { id: REQUEST_PACKET_ID, filters: unwanted.clone() });
            self.request = Some(Request::Unsubscribe(unwanted));
            return;
        }
        self.refused.retain(|(_, until)| now < *until);
        let missing: Vec<Filter> = self
            .wanted
            .iter()
            .filter(|wanted| {
                !self.holds(wanted) && !self.refused.iter().any(|(refused, _)| *refused == wanted.filter)
            })
            .take(FILTERS_PER_PACKET_MAX)
            .cloned()
            .collect();
        if !missing.is_empty() {
            wire.send(&Packet::Subscribe { id: REQUEST_PACKET_ID, filters: missing.clone() });
            self.request = Some(Request::Subscribe(missing));
        }
    }

    fn holds(&self, wanted: &Filter) -> bool {
        self.held.iter().any(|held| held.filter == wanted.filter && held.asked == wanted.qos as u8)
    }

    /// Says whether what is held has changed.
    pub(super) fn on_suback(&mut self, now: Instant, reasons: &[u8], wire: &mut Wire) -> bool {
        let Some(Request::Subscribe(asked)) =
            self.request.take_if(|request| matches!(request, Request::Subscribe(_)))
        else {
            wire.event("unknown-suback", "nothing was asked");
            return false;
        };
        for (filter, reason) in asked.into_iter().zip(reasons.iter().copied().chain(std::iter::repeat(0x80)))
        {
            self.held.retain(|held| held.filter != filter.filter);
            if 0x80 <= reason {
                wire.error(
                    "subscription-refused",
                    format!("{}: the broker says 0x{reason:02X}", filter.filter),
                );
                self.refused.push((filter.filter, now + REFUSED_PAUSE));
                continue;
            }
            let asked = filter.qos as u8;
            if reason < asked {
                wire.error(
                    "qos-granted-lower",
                    format!("{}: QoS {reason} instead of {asked}", filter.filter),
                );
            }
            self.held.push(Held { filter: filter.filter, asked, granted: reason });
        }
        true
    }

    /// Says whether what is held has changed.
    pub(super) fn on_unsuback(&mut self, wire: &mut Wire) -> bool {
        let Some(Request::Unsubscribe(gone)) =
            self.request.take_if(|request| matches!(request, Request::Unsubscribe(_)))
        else {
            wire.event("unknown-unsuback", "nothing was asked");
            return false;
        };
        self.held.retain(|held| !gone.contains(&held.filter));
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.refused.iter().map(|(_, until)| *until).min();
        retry.filter(|_| self.request.is_none())
    }
}

/// Above those of records.
pub(super) const REQUEST_PACKET_ID: u16 = 65_535;
/// A refused subscription is asked for again after this (chosen: somebody must change the broker first).
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Filters of one SUBSCRIBE (Mosquitto and others bound a packet's length).
const FILTERS_PER_PACKET_MAX: usize = 32;
