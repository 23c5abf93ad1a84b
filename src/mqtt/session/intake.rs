//! What happens to a PUBLISH that comes in? Its topic is resolved; it is accepted, answered as a repeat, or held.

use super::*;

impl Session {
    pub(super) fn on_publish(&mut self, now: Instant, publish: Publish) {
        let Some(topic) = self.resolve_topic(now, &publish) else {
            return;
        };
        let publish = if *publish.topic == *topic.as_bytes() {
            publish
        } else {
            Publish { topic: Bytes::copy_from_slice(topic.as_bytes()), ..publish }
        };
        if self.stopping.is_some() {
            return;
        }
        let is_counted = is_counted(&publish);
        let waits = self.intake != Intake::Open || !self.held.is_empty();
        if !waits || self.inbound.is_repeat(&publish) {
            self.take_publish(now, publish, topic);
        } else if !is_counted && self.intake == Intake::Closed && self.held_max() <= self.held.len() {
            self.wire.event("qos-0-dropped", "the intake is closed");
        } else {
            self.held_bytes += bytes_of(&publish);
            self.held_uncounted += usize::from(!is_counted);
            self.held.push_back(publish);
        }
        let outstanding = self.inbound.outstanding() + self.held.len() - self.held_uncounted;
        let is_v5 = self.config.broker.protocol == Protocol::V5;
        if is_counted && is_v5 && outstanding == self.unread_beyond() + 1 {
            // A disconnect would be answered by the same backlog again, for ever.
            let text = format!("{outstanding} outstanding, {} were allowed", self.config.receive_maximum);
            self.wire.event("receive-maximum-exceeded", text);
        }
    }

    pub(super) fn take_publish(&mut self, now: Instant, publish: Publish, topic: Arc<str>) {
        if publish.qos != Qos::AtMostOnce
            && self.inbound.judge(now, &publish, &mut self.wire) == Verdict::Repeat
        {
            return;
        }
        self.inbound.accept(&publish, &self.wire);
        if let Some(count) = self.received_by_qos.get_mut(publish.qos as usize) {
            *count += 1;
        }
        self.wire.outputs.push_back(SessionOutput::Publish(ReceivedPublish {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            user_properties: publish.user_properties,
            response_topic: publish.response_topic,
            correlation_data: publish.correlation_data,
        }));
    }

    /// The topic name behind an alias or in the packet; `None` if the broker broke the protocol.
    pub(super) fn resolve_topic(&mut self, now: Instant, publish: &Publish) -> Option<Arc<str>> {
        let named = match std::str::from_utf8(&publish.topic) {
            Ok(name) if !name.is_empty() => Some(name),
            _ => None,
        };
        let known = match (named, &self.last_topic) {
            (Some(name), Some(last)) if **last == *name => Some(Arc::clone(last)),
            (Some(name), _) => Some(Arc::from(name)),
            (None, _) => None,
        };
        let topic = match publish.alias {
            None => known,
            Some(alias) => {
                let place = usize::from(alias).checked_sub(1);
                let slot = place.and_then(|place| self.aliases.get_mut(place));
                match (slot, known) {
                    (Some(slot), Some(name)) => {
                        *slot = Some(Arc::clone(&name));
                        Some(name)
                    }
                    (Some(slot), None) => slot.clone(),
                    (None, _) => None,
                }
            }
        };
        if topic.is_none() {
            self.give_up(now, 0x94, "broker-broke-protocol", "a PUBLISH without topic".to_owned());
        }
        self.last_topic.clone_from(&topic);
        topic
    }

    pub(super) fn on_intake(&mut self, now: Instant, intake: Intake) {
        self.intake = intake;
        if intake != Intake::Open {
            return;
        }
        if !self.wants_bytes() {
            // What the broker has answered meanwhile lies unread: its time begins now.
            self.ping_sent = self.ping_sent.map(|_| now);
        }
        while let Some(publish) = self.held.pop_front() {
            self.held_bytes -= bytes_of(&publish);
            self.held_uncounted -= usize::from(!is_counted(&publish));
            let topic: Arc<str> = Arc::from(String::from_utf8_lossy(&publish.topic));
            self.take_publish(now, publish, topic);
        }
        shrink(&mut self.held);
        self.read_packets(now);
    }

    /// The broker sends what is held again, but for QoS 0.
    pub(super) fn drop_held(&mut self) {
        let dropped = std::mem::take(&mut self.held_uncounted);
        if 0 < dropped {
            self.wire.event("qos-0-dropped", format!("{dropped} records that waited for the intake"));
        }
        self.held.clear();
        self.held_bytes = 0;
    }

    /// So many held PUBLISHes are the last that is read before the intake opens. All packets behind them wait too. A broker that keeps
    /// to our Receive Maximum gets there only with QoS 0, which that does not count.
    pub(super) fn unread_beyond(&self) -> usize {
        match self.config.broker.protocol {
            Protocol::V5 => self.held_max() * RECEIVE_MAXIMUM_TOLERANCE,
            Protocol::V311 => self.held_max(),
        }
    }

    /// PUBLISHes that a closed intake holds at most if the broker keeps to our Receive Maximum.
    pub(super) fn held_max(&self) -> usize {
        usize::from(match self.config.broker.protocol {
            Protocol::V5 => self.config.receive_maximum,
            Protocol::V311 => self.config.receive_maximum.max(RECEIVE_MAXIMUM_V311),
        })
    }
}

/// Does the Receive Maximum count it?
fn is_counted(publish: &Publish) -> bool {
    publish.qos != Qos::AtMostOnce
}

fn bytes_of(publish: &Publish) -> usize {
    publish.topic.len() + publish.payload.len()
}
