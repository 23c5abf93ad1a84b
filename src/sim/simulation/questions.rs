//! What does a person hear who asks a board that may die before it answers?

use embassy_time::Duration;

use super::{Event, Simulation};
use crate::admin::{AdminReply, AdminRequest};
use crate::worker::io::{WorkerIndex, WorkerInput};

impl Simulation {
    /// Asks the board and waits for as many answers as it has workers that answer; `None` if none came in a virtual minute.
    pub fn ask(&mut self, question: &AdminRequest, worker: WorkerIndex) -> Option<AdminReply> {
        self.answers.clear();
        let until = self.now + Duration::from_secs(60);
        while self.now < until && self.answers.is_empty() {
            if self.board.is_some() {
                self.next_request += 1;
                let request = self.next_request;
                let input = WorkerInput::Admin { request, question: question.clone() };
                let start = self.start;
                self.schedule(Duration::from_ticks(0), Event::Worker { start, worker, input });
            }
            let next = self.now + Duration::from_secs(5);
            while self.answers.is_empty() && self.step(next) {}
            self.now = if self.answers.is_empty() { self.now.max(next) } else { self.now };
        }
        self.answers.pop()
    }

    /// As [`ask`](Self::ask), of the worker that owns an id; which that is may change from start to start.
    pub fn ask_owner(&mut self, id: &str, question: &AdminRequest) -> Option<AdminReply> {
        for _ in 0..ASKS_MAX {
            let until = self.now + Duration::from_secs(60);
            while self.board.is_none() && self.step(until) {}
            let (start, workers) = (self.start, self.workers().max(1));
            let worker = WorkerIndex(crate::key_group::KeyGroup::of(id).worker(workers));
            let answer = self.ask_once(question, worker);
            if answer.is_some() || start == self.start {
                return answer;
            }
        }
        None
    }

    /// Asks, and waits while the board lives.
    fn ask_once(&mut self, question: &AdminRequest, worker: WorkerIndex) -> Option<AdminReply> {
        self.answers.clear();
        self.next_request += 1;
        let input = WorkerInput::Admin { request: self.next_request, question: question.clone() };
        let (start, until) = (self.start, self.now + Duration::from_secs(60));
        self.schedule(Duration::from_ticks(0), Event::Worker { start, worker, input });
        while self.answers.is_empty() && self.start == start && self.step(until) {}
        self.answers.pop()
    }
}

/// How many starts an answer is waited for.
const ASKS_MAX: u32 = 20;
