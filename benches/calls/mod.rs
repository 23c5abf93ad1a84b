//! How many invocations a second does a board make of a remote function, and how many its HTTP client alone, of the same requests?
//!
//! ```text
//! node   ticks → source → 1,000 ids → [worker, epochs, store] ⇄ HTTP client ⇄ endpoint    and an egress record each
//! bare                         requests of such a run, again ⇄ HTTP client ⇄ endpoint
//! ```
//! Client, pool, window, endpoint and bytes of bodies are the same; what is measured on top is all that makes a call exactly once. One
//! thread has everything but the endpoint and the store, as thread 0 of a node with one worker.

#![allow(dead_code, unreachable_pub, reason = "as the bed")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on says so"
)]

pub mod bare;
pub mod endpoint;
pub mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fogfun::host::http::HttpClient;
use fogfun::module::{Board, Specification};
use fogfun::remote::config::EndpointConfig;

use self::endpoint::{Endpoint, own_busy};

/// One load.
#[derive(Clone, Copy)]
pub struct Load {
    /// Invocations in a request at most, and waiting per id.
    pub batch: u32,
    /// Calls measured, after a quarter as many.
    pub calls: u64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub calls_per_second: f64,
    pub invocations_per_second: f64,
    pub invocations_per_call: f64,
    /// Heads included.
    pub bytes_sent: f64,
    /// Per invocation, as those sent.
    pub bytes_received: f64,
    /// Microseconds of the client's thread on a CPU, per invocation.
    pub own_micros: f64,
    /// Of one CPU, the client's thread.
    pub own_share: f64,
    /// Of one CPU, the endpoint's.
    pub endpoint_share: f64,
}

/// Where everything stands at one time.
struct Mark {
    at: Instant,
    calls: u64,
    invocations: u64,
    bytes_sent: u64,
    bytes_received: u64,
    own_busy: Duration,
    endpoint_busy: Duration,
}

impl Mark {
    fn now(endpoint: &Endpoint, client: &HttpClient) -> Self {
        let status = client.status();
        Self {
            at: Instant::now(),
            calls: endpoint.calls(),
            invocations: endpoint.invocations(),
            bytes_sent: status["bytes_sent"].as_u64().unwrap(),
            bytes_received: status["bytes_received"].as_u64().unwrap(),
            own_busy: own_busy(),
            endpoint_busy: endpoint.busy(),
        }
    }

    /// From there to here.
    fn since(&self, begin: &Self) -> Figures {
        let seconds = (self.at - begin.at).as_secs_f64();
        let calls = (self.calls - begin.calls) as f64;
        let invocations = (self.invocations - begin.invocations) as f64;
        Figures {
            calls_per_second: calls / seconds,
            invocations_per_second: invocations / seconds,
            invocations_per_call: invocations / calls,
            bytes_sent: (self.bytes_sent - begin.bytes_sent) as f64 / invocations,
            bytes_received: (self.bytes_received - begin.bytes_received) as f64 / invocations,
            own_micros: (self.own_busy - begin.own_busy).as_secs_f64() * 1e6 / invocations,
            own_share: (self.own_busy - begin.own_busy).as_secs_f64() / seconds,
            endpoint_share: (self.endpoint_busy - begin.endpoint_busy).as_secs_f64() / seconds,
        }
    }
}

/// A module document that binds `bench/count` to a port.
pub fn document(port: u16, batch: u32) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: bench/count\n  urlPathTemplate: \"http://127.0.0.1:{port}/\"\n  \
         maxNumBatchRequests: {batch}\n"
    )
}

/// As the default board fits them.
pub fn endpoints(document: &str) -> Vec<Arc<EndpointConfig>> {
    let specification = Specification::parse("module.yaml", document, &|_| None).unwrap();
    specification.with_board(&Board::default()).unwrap().endpoints
}
