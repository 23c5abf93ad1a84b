//! How is a question answered, and how is the node? What its `status` says beside what each worker says of itself.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::{Question, Shell};
use crate::admin::{AdminReply, AdminRequest};
use crate::host::admin;
use crate::host::machine::{NodeMachine, WorkerMachine};
use crate::host::start::lost;
use crate::host::threads::StoreJob;
use crate::store::StoreStatus;
use crate::worker::io::{WorkerIndex, WorkerInput};

impl<W: WorkerMachine, N: NodeMachine> Shell<W, N> {
    pub(super) fn on_question(&mut self, question: AdminRequest, answer: smol::channel::Sender<String>) {
        if question == AdminRequest::AcceptDegraded {
            self.store.jobs.push(StoreJob::AcceptDegraded { answer });
            return;
        }
        self.questions_asked += 1;
        let (request, workers) = (self.questions_asked, self.worker_count());
        let owner = admin::owner(&question, workers);
        let answers_due = owner.map_or(workers, |_| 1);
        for worker in owner.map_or(0..workers, |owner| owner..owner + 1) {
            self.tell_worker(WorkerIndex(worker), WorkerInput::Admin { request, question: question.clone() });
        }
        self.questions.insert(request, Question { question, answers: BTreeMap::new(), answers_due, answer });
    }

    pub(super) fn on_answer(&mut self, worker: WorkerIndex, request: u64, reply: AdminReply) {
        let Some(question) = self.questions.get_mut(&request) else {
            return;
        };
        question.answers.insert(worker.0, reply);
        if question.answers.len() < question.answers_due {
            return;
        }
        if let Some(question) = self.questions.remove(&request) {
            let line = admin::merge(
                &question.question,
                &self.node_status(),
                question.answers.into_values().collect(),
            );
            // A client that went away needs no answer.
            let _gone = question.answer.try_send(line);
        }
    }

    pub(super) fn node_status(&self) -> serde_json::Value {
        let mut status = self.config.about.clone();
        status.insert("serving".into(), (self.attempts.is_none() && self.stopping.is_none()).into());
        let counters: BTreeMap<_, _> =
            self.counters.iter().map(|(kind, (count, _))| (*kind, *count)).collect();
        status.insert("control".into(), serde_json::json!(self.node.status()));
        status.insert("runtime_ms".into(), self.clock.now().as_millis().into());
        status.insert("outgoing_bytes".into(), self.network.outgoing_bytes().into());
        status
            .insert("connections_closed_for_not_reading".into(), self.network.closed_for_not_reading.into());
        let mut http = self.http.status();
        if let Some(http) = http.as_object_mut() {
            http.insert("served".into(), self.server.status());
        }
        status.insert("http".into(), http);
        status.insert("events".into(), serde_json::json!(counters));
        let store = self.store.summary.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(summary);
        let degraded = store.as_ref().and_then(|store| store.get("degraded")).cloned();
        status.insert("degraded".into(), degraded.unwrap_or_default());
        status.insert("store".into(), store.into());
        status.into()
    }
}

fn summary(status: &StoreStatus) -> serde_json::Value {
    serde_json::json!({
        "bytes_written": status.bytes_written,
        "syncs": status.syncs,
        "segments": status.segments,
        "spares": status.spares,
        "log_bytes": status.log_bytes,
        "epoch": status.epoch.0,
        "folded": status.folded.0,
        "latched": status.latched.as_ref().map(|(_, text)| text),
        "degraded": status.degraded.as_ref().map(lost),
    })
}
