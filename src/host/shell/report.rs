//! What does `status` say of the node itself, beside its workers?

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::super::machine::{NodeMachine, WorkerMachine};
use super::super::start::lost;
use super::Shell;
use crate::store::StoreStatus;

impl<W: WorkerMachine, N: NodeMachine> Shell<W, N> {
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
        status.insert("http".into(), self.http.status());
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
