//! What fails besides the board's power? The disk, the network's tail, the broker's process.

use std::io;

use bytes::Bytes;
use embassy_time::Instant;

use crate::node::NodeInput;
use crate::remote::call::{Call, CallFailure, CallOutcome};
use crate::sim::broker::{BrokerInput, BrokerSettings};
use crate::sim::disk::Fault;
use crate::sim::endpoint::answered;
use crate::store::{StoreCommand, StoreEvent};
use crate::worker::io::{ChannelItem, SessionIndex, WorkerIndex, WorkerInput};

use super::sabotage::Sabotage;
use super::{Event, Pipe, Simulation};

/// Faults of everything round the board, drawn from the seed; none by default.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How the broker behaves.
    pub broker: BrokerSettings,
    /// Does a connection that breaks lose what is under way on it? Else the broker still reads it.
    pub loses_tails: bool,
    /// One in so many packets from the broker restarts it: sessions are kept, connections are not; 0 is never.
    pub broker_restart_one_in: u32,
    /// One in so many commands to the store meets a failing operation; 0 is never.
    pub store_fails_one_in: u32,
    /// One in so many commands to the store finds the disk full, or read-only, for a while; 0 is never.
    pub disk_refuses_one_in: u32,
    /// One in so many calls of a remote function does not go well; 0 is never.
    pub endpoint_fails_one_in: u32,
    /// Does the kernel prove its clock at some starts, and does the clock jump between them?
    pub clock_jumps: bool,
    /// One in so many runs of a worker takes long; 0 is never.
    pub slow_one_in: u32,
    /// May a crash leave bytes that were being written as neither the old nor the new?
    pub garbles_sectors: bool,
}

impl Simulation {
    /// The board's connections end; what the broker knows stays.
    pub fn restart_broker(&mut self) {
        self.trace.remark(self.now, "the broker restarts");
        self.counts.broker_restarts += 1;
        let client_ids: Vec<String> =
            self.application.sessions.iter().map(|session| session.client_id.clone()).collect();
        for client_id in client_ids {
            self.broker.disconnect(self.now, &client_id, SERVER_SHUTTING_DOWN);
        }
    }

    /// The broker forgets a session of the board, by its place in the module.
    pub fn lose_session(&mut self, session: usize) {
        let client_id = self.application.sessions[session].client_id.clone();
        self.broker.lose_session(self.now, &client_id);
    }

    /// The kernel says what time it is, or does not; since the last start the clock may have jumped.
    pub(super) fn prove_clock(&mut self) {
        if !self.plan.faults.clock_jumps || self.is_healing {
            return;
        }
        match self.random.u8(0..4) {
            0 => self.wall_ms += self.random.u64(0..JUMP_MS_MAX),
            1 => self.wall_ms -= self.random.u64(0..JUMP_MS_MAX),
            _ => {}
        }
        for _ in 0..self.random.u8(0..3) {
            let after = embassy_time::Duration::from_millis(self.random.u64(0..100));
            // A second proof, with whatever jump, is to change nothing.
            let wall_ms = self.wall_ms + self.now.as_millis() + self.random.u64(0..JUMP_MS_MAX);
            let (start, input) = (self.start, NodeInput::ClockProven { wall_ms });
            self.schedule(after, Event::Node { start, input });
        }
    }

    pub(super) fn handle_store(&mut self, command: StoreCommand) {
        let dies = self.chance(self.plan.store_crash_one_in);
        self.plan_disk_faults(dies);
        self.disk.lie(self.plan.sabotage.lie());
        let entries = match &command {
            StoreCommand::Append(entries) => entries.clone(),
            StoreCommand::Rewrite | StoreCommand::Fold => Vec::new(),
        };
        self.watch.handed(entries);
        let Some(board) = &mut self.board else { return };
        let event = board.store.handle(command);
        if dies {
            // Whatever it answered, nobody heard it.
            self.counts.crashes_in_store += 1;
            self.crash();
            return;
        }
        match &event {
            StoreEvent::Appended { .. } => self.watch.appended(self.disk.is_last_write_durable()),
            StoreEvent::Failed { .. } => self.counts.store_failures += 1,
            StoreEvent::Folded { .. } => {}
        }
        if self.plan.sabotage == Sabotage::AnswersBeforeSync && matches!(event, StoreEvent::Appended { .. }) {
            return;
        }
        let at = self.arrival(Pipe::FromStore);
        let start = self.start;
        let input = NodeInput::Store(event);
        self.schedule_at(at, Event::Node { start, input });
    }

    fn plan_disk_faults(&mut self, dies: bool) {
        let operation = self.disk.operations();
        if dies {
            self.disk.plan(operation + self.random.u64(0..6), Fault::Crash);
        } else if self.chance(self.plan.faults.store_fails_one_in) {
            let kind = if self.random.bool() { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            self.disk.plan(operation + self.random.u64(0..4), Fault::Fails(kind));
        }
        // A full or read-only disk stays so until a later command finds it well again.
        if self.chance(self.plan.faults.disk_refuses_one_in) {
            if self.random.bool() {
                self.disk.set_space(Some(self.disk.used()));
            } else {
                self.disk.set_read_only(true);
            }
        } else if self.is_healing || self.random.u8(0..4) == 0 {
            self.disk.set_space(None);
            self.disk.set_read_only(false);
        }
    }

    /// A request goes to the endpoint and is answered, or something goes wrong on the way.
    pub(super) fn call_endpoint(&mut self, worker: WorkerIndex, call: &Call) {
        let failed = |failure, text: &str| CallOutcome::Failed { failure, text: text.to_owned() };
        let fails = self.chance(self.plan.faults.endpoint_fails_one_in);
        let kind = if fails { self.random.u8(0..9) } else { u8::MAX };
        let Some(endpoint) = &mut self.endpoint else {
            unreachable!("the simulation has no endpoint: see `with_endpoint`")
        };
        // Some of the failures come after the function has run.
        let outcome = match kind {
            0 => failed(CallFailure::Unreachable, "refused"),
            1 => failed(CallFailure::TimedOut, "no answer"),
            2 => answered(503, None, Vec::new()),
            3 => answered(500, Some("text/plain"), b"out of luck".to_vec()),
            4 => answered(200, Some("text/html"), b"<html>".to_vec()),
            5 => answered(200, Some("application/octet-stream"), vec![0xA2, 0x06, 0x7F, 1]),
            6 => {
                endpoint.answer(&call.body);
                failed(CallFailure::Broken, "closed")
            }
            7 => {
                endpoint.answer(&call.body);
                failed(CallFailure::TimedOut, "answered late")
            }
            8 => {
                endpoint.restart();
                failed(CallFailure::Unreachable, "redeployed")
            }
            _ => endpoint.answer(&call.body),
        };
        let after_ms = if kind == 1 || kind == 7 { CALL_TIME_MS } else { self.random.u64(0..20) };
        let after = embassy_time::Duration::from_millis(after_ms);
        let (start, number) = (self.start, call.number);
        self.schedule(
            after,
            Event::Worker { start, worker, input: WorkerInput::Called { call: number, outcome } },
        );
    }

    /// Takes from the way to the broker what had not arrived before some moment.
    pub(super) fn lose_tail(&mut self, link: u64) {
        if !self.plan.faults.loses_tails || self.is_healing {
            return;
        }
        let delay = self.random.u64(0..=self.plan.delay_max.as_ticks());
        let lost_from = self.now + embassy_time::Duration::from_ticks(delay);
        self.events.retain(|&(at, _), event| {
            let is_on_link = matches!(
                event,
                Event::Broker(BrokerInput::Received { connection, .. }) if *connection == link
            );
            !(is_on_link && lost_from <= at)
        });
    }

    /// When a batch from one worker to another arrives: in order.
    pub(super) fn arrival_of_items(
        &mut self,
        from: WorkerIndex,
        to: WorkerIndex,
        items: &[ChannelItem],
    ) -> Instant {
        if items.iter().any(|item| matches!(item, ChannelItem::Barrier(_))) {
            match self.plan.sabotage {
                Sabotage::BarrierOvertakes => return self.now,
                Sabotage::BarrierLags => return self.now + 4 * self.plan.delay_max,
                _ => {}
            }
        }
        self.arrival(Pipe::Worker(from, to))
    }

    /// A worker is told something: what some mistakes must know.
    pub(super) fn sabotage_delivery(&mut self, worker: WorkerIndex, input: &WorkerInput) {
        if let (Sabotage::ForgetsLate, WorkerInput::Channel { from, items }, Some(board)) =
            (self.plan.sabotage, input, &self.board)
        {
            let working = board.workers[worker.0].working_epoch();
            self.sabotaged.channels.note_late(worker, *from, working, items);
        }
    }

    /// What is on its way from one worker to another, as a mistake leaves it.
    pub(super) fn sabotage_channel(
        &mut self,
        from: WorkerIndex,
        to: WorkerIndex,
        mut items: Vec<ChannelItem>,
    ) -> Vec<ChannelItem> {
        if let Some(astray) = self.sabotaged.channels.alter(self.plan.sabotage, from, to, &mut items) {
            let elsewhere = (0..self.workers()).map(WorkerIndex).find(|other| ![from, to].contains(other));
            let worker = elsewhere.unwrap_or(to);
            let at = self.arrival(Pipe::Worker(from, worker));
            let input = WorkerInput::Channel { from, items: vec![astray] };
            self.schedule_at(at, Event::Worker { start: self.start, worker, input });
        }
        items
    }

    /// What a session hears of what the broker said; a mistake may answer in its stead.
    pub(super) fn sabotage_wire(&mut self, link: u64, session: SessionIndex, bytes: Bytes) -> Bytes {
        let (heard, answer) = self.sabotaged.wire.hear(self.plan.sabotage, session, bytes);
        if !answer.is_empty() {
            let at = self.arrival(Pipe::ToBroker(link));
            self.schedule_at(at, Event::Broker(BrokerInput::Received { connection: link, bytes: answer }));
        }
        heard
    }

    /// What a session sends; a mistake may hear an answer that was given long ago.
    pub(super) fn answer_from_old_session(&mut self, link: u64, session: SessionIndex, bytes: &[u8]) {
        if self.plan.sabotage != Sabotage::HearsOldSession {
            return;
        }
        let bytes = self.sabotaged.wire.stale_answers(session, bytes);
        if !bytes.is_empty() {
            self.schedule_at(self.now, Event::FromBroker { link, bytes });
        }
    }

    pub(super) fn answer_before_sync(&mut self, command: &StoreCommand) {
        if self.plan.sabotage == Sabotage::AnswersBeforeSync && matches!(command, StoreCommand::Append(_)) {
            let start = self.start;
            let input = NodeInput::Store(StoreEvent::Appended { fold_due: false });
            self.schedule_at(self.now, Event::Node { start, input });
        }
    }
}

/// How long a call may take.
const CALL_TIME_MS: u64 = 2_000;
/// MQTT 5: the server shuts down.
const SERVER_SHUTTING_DOWN: u8 = 0x8B;
/// How far the wall clock jumps; sessions live longer than that.
const JUMP_MS_MAX: u64 = 120_000;
