//! Where does each output go? Into a pipe, and out of it later, in order, unless what it travels on breaks.

use bytes::Bytes;

use crate::mqtt::session::{ConnectionNumber, SessionInput};
use crate::node::{NodeInput, NodeOutput};
use crate::sim::broker::{BrokerInput, BrokerOutput};
use crate::worker::io::{SessionIndex, WorkerIndex, WorkerInput, WorkerOutput};

use super::sabotage::Sabotage;
use super::{Event, Link, Pipe, Simulation};

impl Simulation {
    pub(super) fn route_node(&mut self, output: NodeOutput) {
        let start = self.start;
        let tell = |simulation: &mut Self, worker: WorkerIndex, input: WorkerInput| {
            let at = simulation.arrival(Pipe::FromNode(worker));
            simulation.schedule_at(at, Event::Worker { start, worker, input });
        };
        match output {
            NodeOutput::Cut { epoch } => tell(self, WorkerIndex(0), WorkerInput::Cut { epoch }),
            NodeOutput::Committed { epoch } => {
                for worker in 0..self.workers() {
                    tell(self, WorkerIndex(worker), WorkerInput::Committed { epoch });
                }
            }
            NodeOutput::Folded { epoch } => {
                for worker in 0..self.workers() {
                    tell(self, WorkerIndex(worker), WorkerInput::Folded { epoch });
                }
            }
            NodeOutput::Synced { worker, session, record } => {
                tell(self, worker, WorkerInput::Synced { session, record });
            }
            NodeOutput::Store(command) => {
                self.answer_before_sync(&command);
                let at = self.arrival(Pipe::Store);
                self.schedule_at(at, Event::Store { start, command });
            }
            NodeOutput::Advance { runtime } => {
                assert!(self.now <= runtime, "runtime goes back");
                self.now = runtime;
            }
        }
    }

    pub(super) fn route_worker(&mut self, worker: WorkerIndex, output: WorkerOutput) {
        let start = self.start;
        let to_node = |simulation: &mut Self, input: NodeInput| {
            let at = simulation.arrival(Pipe::Node(worker));
            simulation.schedule_at(at, Event::Node { start, input });
        };
        match output {
            WorkerOutput::Channel { to, items } => {
                let items = self.sabotage_channel(worker, to, items);
                let at = self.arrival_of_items(worker, to, &items);
                let input = WorkerInput::Channel { from: worker, items };
                self.schedule_at(at, Event::Worker { start, worker: to, input });
            }
            WorkerOutput::Activity(activity) => to_node(self, NodeInput::Activity { worker, activity }),
            WorkerOutput::Section { epoch, sections } => {
                let sections = self.sabotaged.sections(self.plan.sabotage, worker, sections);
                self.watch.section(epoch, self.workers(), sections.is_empty());
                to_node(self, NodeInput::Section { worker, epoch, sections });
            }
            WorkerOutput::Record { session, number, deadline, key, value } => {
                if self.plan.sabotage == Sabotage::TellsRecordsBeforeSync {
                    let at = self.arrival(Pipe::FromNode(worker));
                    let input = WorkerInput::Synced { session, record: number };
                    self.schedule_at(at, Event::Worker { start, worker, input });
                }
                to_node(self, NodeInput::Record { worker, session, number, deadline, key, value });
            }
            WorkerOutput::FoldWanted => to_node(self, NodeInput::FoldWanted),
            WorkerOutput::Connect { session, connection } => self.open_link(session, connection),
            WorkerOutput::Transmit { session, connection, bytes } => {
                if let Some(link) = self.link_of(session, connection) {
                    let config = &self.application.sessions[session.0];
                    let (name, protocol) = (config.name.as_str(), config.broker.protocol);
                    self.watch.transmitted(session, name, protocol, &bytes);
                    self.answer_from_old_session(link, session, &bytes);
                    let at = self.arrival(Pipe::ToBroker(link));
                    let input = BrokerInput::Received { connection: link, bytes };
                    self.schedule_at(at, Event::Broker(input));
                    if self.chance(self.plan.disconnect_one_in) {
                        self.counts.disconnects += 1;
                        self.close_link(link, "the network failed");
                    }
                }
            }
            WorkerOutput::Close { session, connection } => {
                if let Some(link) = self.link_of(session, connection) {
                    self.close_link(link, "closed");
                }
            }
            WorkerOutput::Call(call) => self.call_endpoint(worker, &call),
            WorkerOutput::Operate { number, operation, request } => {
                // It runs, whatever becomes of the board before it is told.
                let result = match self.application.operations.get(&operation) {
                    Some(operation) => operation.run(&request).map_err(|error| error.to_string()),
                    None => Err(format!("there is no operation `{operation}`")),
                };
                let after = embassy_time::Duration::from_micros(self.random.u64(0..OPERATION_US_MAX));
                let input = WorkerInput::Operated { number, result };
                self.schedule(after, Event::Worker { start, worker, input });
            }
            WorkerOutput::Admin { request, reply } => {
                // The answer to a question that is not waited for any more is nobody's.
                if request == self.next_request {
                    self.answers.push(reply);
                }
            }
            WorkerOutput::Event { kind: "release-unproven", .. }
                if self.plan.sabotage == Sabotage::HidesLosses => {}
            WorkerOutput::Event { kind, text } => self.told.entry(kind).or_default().push(text),
            WorkerOutput::Read { .. }
            | WorkerOutput::Stopped
            | WorkerOutput::Taken { .. }
            | WorkerOutput::Replied { .. }
            | WorkerOutput::Fetchable { .. } => {}
        }
    }

    fn open_link(&mut self, session: SessionIndex, connection: ConnectionNumber) {
        let link = self.new_link();
        let start = self.start;
        self.links.insert(link, Link { session, connection, start });
        let at = self.arrival(Pipe::ToBroker(link));
        self.schedule_at(at, Event::Broker(BrokerInput::Accepted { connection: link }));
        let worker = self.owner(session);
        let input = WorkerInput::Session { session, input: SessionInput::Connected { connection } };
        self.schedule_at(at, Event::Worker { start, worker, input });
    }

    /// Breaks a connection: the board hears of it at once, the broker when all that is under way to it has come or was lost.
    pub(super) fn close_link(&mut self, link: u64, cause: &str) {
        let Some(Link { session, connection, start }) = self.links.remove(&link) else {
            return;
        };
        self.lose_tail(link);
        let at = self.arrival(Pipe::ToBroker(link));
        self.schedule_at(at, Event::Broker(BrokerInput::Closed { connection: link }));
        let input = SessionInput::Disconnected { connection, cause: cause.to_owned() };
        let worker = self.owner(session);
        let input = WorkerInput::Session { session, input };
        let at = self.arrival(Pipe::FromBroker(link));
        self.schedule_at(at, Event::Worker { start, worker, input });
    }

    pub(super) fn take_from_broker(&mut self, link: u64, bytes: Bytes) {
        if let Some((_, client)) = self.clients.iter_mut().find(|(of_client, _)| *of_client == link) {
            client.handle_bytes(&bytes);
            return;
        }
        let Some(Link { session, connection, start }) = self.links.get(&link) else {
            return;
        };
        let (session, connection, start) = (*session, *connection, *start);
        let worker = self.owner(session);
        let bytes = self.sabotage_wire(link, session, bytes);
        if let Some(board) = &self.board {
            let protocol = self.application.sessions[session.0].broker.protocol;
            self.watch.received(session, board.workers[worker.0].working_epoch(), protocol, &bytes);
        }
        let input = SessionInput::Received { connection, bytes };
        self.handle(Event::Worker { start, worker, input: WorkerInput::Session { session, input } });
        if self.chance(self.plan.disconnect_one_in) {
            self.counts.disconnects += 1;
            self.close_link(link, "the network failed");
        }
        if self.chance(self.plan.faults.broker_restart_one_in) {
            self.restart_broker();
        }
    }

    pub(super) fn drain_broker(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                BrokerOutput::Transmit { connection, bytes } => {
                    let at = self.arrival(Pipe::FromBroker(connection));
                    self.schedule_at(at, Event::FromBroker { link: connection, bytes });
                }
                BrokerOutput::Close { connection } => {
                    let at = self.arrival(Pipe::FromBroker(connection));
                    self.schedule_at(at, Event::BrokerClosed { link: connection });
                }
            }
        }
    }

    pub(super) fn flush_clients(&mut self) {
        for at in 0..self.clients.len() {
            while let Some(bytes) = self.clients[at].1.poll_output() {
                let connection = self.clients[at].0;
                let arrives = self.arrival(Pipe::ToBroker(connection));
                self.schedule_at(arrives, Event::Broker(BrokerInput::Received { connection, bytes }));
            }
        }
    }
}

/// How long an operation takes at most.
const OPERATION_US_MAX: u64 = 200_000;
