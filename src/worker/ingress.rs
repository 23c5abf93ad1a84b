//! How do sessions live in a worker? Records they accept are routed at once; egress records that reach them go into their outbox.
//!
//! A record that cannot be decoded or routed is a dead letter of its ingress, acknowledged like any other when the epoch is
//! committed. A record whose message id is among those remembered for its scope is a repeat: acknowledged, counted, not routed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use embassy_time::Instant;

use crate::address::Address;
use crate::egress::MqttRecord;
use crate::function::FunctionError;
use crate::key_group::KeyGroup;
use crate::message::{Headers, IngressRecord, Message};
use crate::mqtt::config::{Qos, Retained, Role, SessionConfig, Subscription};
use crate::mqtt::format::{Decoded, outbox_of, record_of};
use crate::mqtt::session::{MessageId, OutboxRecord, ReceivedPublish, Session, SessionInput, SessionOutput};
use crate::payload::Payload;
use crate::router::{Downstream, Router};
use crate::state::key::Key;
use crate::state::value::Letter;
use crate::store::BaseRead;
use crate::typed_value::TypedValue;

use super::channel::{credit_of, join, split};
use super::invoke::panic_text;
use super::io::{SessionIndex, WorkerOutput};
use super::{Notes, Worker, owned_at};

/// A session that this worker owns.
pub(crate) struct OwnedSession {
    pub(crate) index: SessionIndex,
    pub(crate) address: Address,
    /// The address's.
    pub(crate) group: KeyGroup,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) session: Session,
    pub(crate) routers: Vec<Box<dyn Router>>,
    /// Something was sent to it since its outputs were drained.
    pub(crate) is_stirred: bool,
    pub(crate) is_stopped: bool,
    /// Are its sockets read?
    pub(crate) is_read: bool,
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    pub(crate) fn handle_session(&mut self, now: Instant, session: SessionIndex, input: SessionInput) {
        let Some(at) = owned_at(&self.sessions, session) else {
            unreachable!("the shell speaks of a session to its owner only")
        };
        self.sessions[at].session.handle_input(now, input);
        self.drain_session(now, at);
    }

    /// Drains the sessions to which something was sent.
    pub(crate) fn drain_sessions(&mut self, now: Instant) {
        for at in 0..self.sessions.len() {
            if std::mem::take(&mut self.sessions[at].is_stirred) {
                self.drain_session(now, at);
            }
        }
    }

    pub(crate) fn drain_session(&mut self, now: Instant, at: usize) {
        let session = self.sessions[at].index;
        while let Some(output) = self.sessions[at].session.poll_output() {
            let output = match output {
                SessionOutput::Connect { connection } => WorkerOutput::Connect { session, connection },
                SessionOutput::Transmit { connection, bytes } => {
                    WorkerOutput::Transmit { session, connection, bytes }
                }
                SessionOutput::Close { connection } => WorkerOutput::Close { session, connection },
                SessionOutput::Record { number, deadline, key, value } => {
                    WorkerOutput::Record { session, number, deadline, key, value }
                }
                SessionOutput::Event(event) => {
                    self.count(event.kind);
                    let text = format!("{}: {}", self.sessions[at].config.name, event.text);
                    WorkerOutput::Event { kind: event.kind, text }
                }
                SessionOutput::Publish(publish) => {
                    self.take_in(now, at, &publish);
                    continue;
                }
                SessionOutput::Refused { record, reason } => {
                    self.bury_refused(now, at, record, &reason);
                    continue;
                }
                SessionOutput::Stopped => {
                    self.sessions[at].is_stopped = true;
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
        let is_wanted = self.sessions[at].session.wants_bytes();
        if std::mem::replace(&mut self.sessions[at].is_read, is_wanted) != is_wanted {
            self.outputs.push_back(WorkerOutput::Read { session, is_wanted });
        }
        if self.sessions[at].session.is_dirty() {
            self.mark_dirty(now);
        }
    }

    /// Hands an egress record to its session. `arrival` is the number it was given when it came over a channel or from a mailbox.
    pub(crate) fn deliver_to_session(&mut self, now: Instant, message: Message, arrival: Option<u64>) {
        let group = message.target.key_group();
        let arrival = arrival.unwrap_or_else(|| self.next_arrival(group));
        self.arrivals_used.insert(group);
        let (target, letter) = split(message);
        match self.sessions.iter().position(|owned| owned.address == target) {
            Some(at) => self.put_into_outbox(now, at, arrival, letter),
            None => self.bury(now, &target, letter, "the module has no session of this name", 1),
        }
    }

    /// Hands an egress record to a session of this worker, without a message between them.
    pub(crate) fn egress(&mut self, now: Instant, at: usize, caller: Option<Address>, argument: TypedValue) {
        self.mark_dirty(now);
        let group = self.sessions[at].group;
        let arrival = self.next_arrival(group);
        self.arrivals_used.insert(group);
        self.put_into_outbox(now, at, arrival, Letter { caller, argument, headers: None });
    }

    fn put_into_outbox(&mut self, now: Instant, at: usize, arrival: u64, letter: Letter) {
        let owned = &mut self.sessions[at];
        let message_id = MessageId::new(self.identity, owned.group, arrival);
        let encoded = match &owned.config.role {
            Role::Egress(egress) => outbox_of(egress, letter.caller.as_ref(), &letter.argument, message_id)
                .map_err(|error| error.to_string()),
            Role::Ingress { .. } => Err("an ingress takes no records from functions".to_owned()),
        };
        match encoded {
            Ok(record) => {
                owned.session.handle_input(now, SessionInput::Send(record));
                owned.is_stirred = true;
            }
            Err(reason) => {
                let target = owned.address.clone();
                self.bury(now, &target, letter, &reason, 1);
            }
        }
    }

    /// Routes or sends a session's dead letter again.
    pub(crate) fn retry_record(
        &mut self,
        now: Instant,
        target: &Address,
        letter: Letter,
    ) -> Result<(), String> {
        let Some(at) = self.sessions.iter().position(|owned| owned.address == *target) else {
            return Err(format!("the module has no session `{}`", target.id()));
        };
        match self.sessions[at].config.role {
            Role::Ingress { .. } => {
                let publish = publish_of(&letter);
                self.take_in(now, at, &publish);
            }
            Role::Egress(_) => self.deliver_to_session(now, join(target.clone(), letter), None),
        }
        Ok(())
    }

    /// Routes a record that was accepted in the working epoch.
    fn take_in(&mut self, now: Instant, at: usize, publish: &ReceivedPublish) {
        self.mark_dirty(now);
        self.count("records-in");
        let config = self.sessions[at].config.clone();
        let routed = match subscription_of(&config, &publish.topic) {
            Some(subscription) => self.decode_and_route(now, at, subscription, publish),
            None => Err("no topic of the ingress matches".to_owned()),
        };
        if let Err(reason) = routed {
            let target = self.sessions[at].address.clone();
            self.bury(now, &target, letter_of(publish), &reason, 1);
        }
    }

    fn decode_and_route(
        &mut self,
        now: Instant,
        at: usize,
        subscription: &Subscription,
        publish: &ReceivedPublish,
    ) -> Result<(), String> {
        if publish.retain && subscription.retained == Retained::Ignored {
            self.count("records-retained-ignored");
            return Ok(());
        }
        let ingress = &self.sessions[at].config.name;
        let Decoded { record, message_id } =
            record_of(subscription, ingress, publish).map_err(|error| error.to_string())?;
        if let (Some((scope, id)), Some(source)) = (message_id, &subscription.message_id) {
            let seen = Key::Seen { id: ingress.as_str(), scope: &scope }.to_vec();
            if self.was_seen(&seen, &id, usize::from(source.remembered))? {
                self.count("records-repeated");
                return Ok(());
            }
        }
        let messages = self.route(at, subscription, &record)?;
        let from = self.sessions[at].address.key_group();
        self.account.add_dirty(ACCEPTED_BYTES);
        for message in messages {
            self.account.add_dirty(credit_of(&message) as usize);
            self.send(now, from, message);
        }
        Ok(())
    }

    /// The messages that targets and routers make of a record: all of them, or none and why.
    fn route(
        &mut self,
        at: usize,
        subscription: &Subscription,
        record: &IngressRecord,
    ) -> Result<Vec<Message>, String> {
        let mut messages = Vec::new();
        for target in &subscription.targets {
            let id = record.id.as_deref().ok_or("the record names no id")?;
            let target = Address::new(target.clone(), id).map_err(|error| error.to_string())?;
            messages.push(Message {
                target,
                caller: None,
                argument: record.value.clone(),
                headers: Some(Arc::clone(&record.headers)),
            });
        }
        let application = Arc::clone(&self.config.application);
        for router in &mut self.sessions[at].routers {
            let call = || Downstream::route(&mut **router, record, &*application, &mut messages);
            let routed = catch_unwind(AssertUnwindSafe(call))
                .unwrap_or_else(|panic| Err(FunctionError::new(panic_text(&*panic))));
            routed.map_err(|error| format!("a router failed: {error}"))?;
        }
        Ok(messages)
    }

    /// Is this id among those remembered for its scope? If not, it is from now on.
    pub(crate) fn was_seen(&mut self, key: &[u8], id: &[u8], remembered: usize) -> Result<bool, String> {
        let mut ids = std::mem::take(&mut self.scratch);
        let read = self.overlay.read(&self.base, key, &mut ids);
        let id = xxhash_rust::xxh3::xxh3_64(id).to_be_bytes();
        let result = match read {
            Err(error) => Err(error.to_string()),
            Ok(found) => {
                if !found {
                    ids.clear();
                }
                let is_repeat = ids.chunks_exact(id.len()).any(|seen| seen == id);
                if !is_repeat {
                    ids.extend_from_slice(&id);
                    let surplus = ids.len().saturating_sub(remembered.max(1) * id.len());
                    self.account.add_dirty(key.len() + ids.len());
                    self.overlay.write(key.to_vec(), Some(ids[surplus..].to_vec()), self.epochs.working);
                }
                Ok(is_repeat)
            }
        };
        self.scratch = ids;
        result
    }

    /// What the broker refused for good becomes a dead letter of its egress.
    fn bury_refused(&mut self, now: Instant, at: usize, record: OutboxRecord, reason: &str) {
        let target = self.sessions[at].address.clone();
        let mut again = MqttRecord::new(record.topic, &*record.payload).qos(record.qos).retain(record.retain);
        again.properties = record.properties;
        let letter = Letter { caller: None, argument: again.into(), headers: None };
        self.bury(now, &target, letter, reason, 1);
    }
}

/// A record as it came, to be kept where it could not be decoded.
fn letter_of(publish: &ReceivedPublish) -> Letter {
    let mut headers = Headers::new();
    headers.push("topic", publish.topic.as_bytes());
    for (name, value) in &publish.user_properties {
        headers.push(&format!("property.{name}"), value.as_bytes());
    }
    let argument = TypedValue::new(PUBLISHED_TYPENAME, Payload::from(publish.payload.clone()));
    Letter { caller: None, argument, headers: Some(Arc::new(headers)) }
}

/// The record of which [`letter_of`] made a letter, to be routed again.
fn publish_of(letter: &Letter) -> ReceivedPublish {
    let headers = letter.headers.as_deref();
    let properties = headers.into_iter().flat_map(Headers::iter).filter_map(|(name, value)| {
        let name = name.strip_prefix("property.")?;
        Some((name.to_owned(), String::from_utf8_lossy(value).into_owned()))
    });
    ReceivedPublish {
        topic: headers.and_then(|headers| headers.text("topic")).unwrap_or_default().into(),
        payload: letter.argument.value.as_ref().map(Payload::to_bytes).unwrap_or_default(),
        qos: Qos::AtLeastOnce,
        retain: false,
        user_properties: properties.collect(),
        response_topic: None,
        correlation_data: None,
    }
}

fn subscription_of<'a>(config: &'a SessionConfig, topic: &str) -> Option<&'a Subscription> {
    match &config.role {
        Role::Ingress { subscriptions } => {
            subscriptions.iter().find(|subscription| subscription.pattern.captures(topic).is_some())
        }
        Role::Egress(_) => None,
    }
}

/// The type name of a payload that no format has looked at.
const PUBLISHED_TYPENAME: &str = "fogfun.types/payload";
/// What an accepted record costs in frames, in bytes, about: its number is put and, once its handshake has ended, deleted.
const ACCEPTED_BYTES: usize = 128;
