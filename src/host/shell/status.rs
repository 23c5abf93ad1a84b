//! How is the node? What its `status` says beside what each worker says of itself.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Shell;
use crate::host::machine::{NodeMachine, WorkerMachine};
use crate::host::start::lost;
use crate::store::StoreStatus;

impl<W: WorkerMachine, N: NodeMachine> Shell<W, N> {
    pub(super) fn node_status(&self) -> serde_json::Value {
        let mut status = self.config.about.clone();
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
