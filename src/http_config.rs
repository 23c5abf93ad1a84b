//! What is served over HTTP? Ports at which records come in, and the playground's port at which they are fetched; plain data, made
//! from `module.yaml`.
//!
//! - `fogfun.http.v1/ingress`: `POST <path>/<namespace>/<name>/<id>` is a record to that function.
//! - `io.statefun.playground.v1/ingress` and `/egress`: the two ports of StateFun's playground, under the ids that its greeters use.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::TypeName;
use crate::remote::config::Served;

/// One port and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// The ingress's or egress's id, unique among all of them.
    pub name: TypeName,
    /// Where it listens; no two listen at the same place.
    pub listen: SocketAddr,
    /// What it is for.
    pub role: HttpRole,
}

/// What a port is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpRole {
    /// Records come in.
    Ingress(HttpIngress),
    /// What functions send to [`PLAYGROUND_EGRESS`] is fetched, each record once, by `GET /<topic>`.
    PlaygroundEgress {
        /// The topics that can be fetched, each once; others are unknown.
        topics: Vec<String>,
    },
}

/// How records come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpIngress {
    /// Whose requests are these?
    pub dialect: Dialect,
    /// What stands before `/<namespace>/<name>/<id>`: empty, or begins with a slash and ends with none.
    pub path: String,
    /// Which functions may be addressed.
    pub targets: Targets,
    /// The longest body, in bytes; a longer one is refused unread.
    pub payload_bytes_max: usize,
    /// How many idempotency keys are remembered per target; a repeat that comes later counts again. Zero remembers none.
    pub idempotency_keys: u16,
    /// The longest that `Prefer: wait=…` may hold a request open; zero never waits for a reply.
    pub wait_max: Duration,
}

/// Whose requests are these?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST` only; the content type is the value's type.
    Fogfun,
    /// StateFun's playground: any method; `application/vnd.<typename>` is the value's type, anything else a string.
    Playground,
}

/// Which functions may be addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every function that is bound.
    Every,
    /// These; at least one.
    Listed(Vec<Served>),
}

impl Targets {
    /// May this function be addressed? That it is bound is another question.
    #[must_use]
    pub fn allow(&self, function_type: &TypeName) -> bool {
        match self {
            Self::Every => true,
            Self::Listed(listed) => listed.iter().any(|served| match served {
                Served::Function(name) => name == function_type,
                Served::Namespace(namespace) => namespace == function_type.namespace(),
            }),
        }
    }
}

/// The function type of those who wait for a reply over HTTP: whoever waits is an address too.
pub const HTTP_TYPE: TypeName = TypeName::from_static("fogfun/http");
/// The id of the playground's ingress.
pub const PLAYGROUND_INGRESS: TypeName = TypeName::from_static("io.statefun.playground/ingress");
/// The id of the playground's egress.
pub const PLAYGROUND_EGRESS: TypeName = TypeName::from_static("io.statefun.playground/egress");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_namespace_allows_its_functions_only() {
        let fridge = TypeName::from_static("example/fridge");
        let oven = TypeName::from_static("other/oven");
        assert!(Targets::Every.allow(&fridge));
        let exact = Targets::Listed(vec![Served::Function(fridge.clone())]);
        assert!(exact.allow(&fridge) && !exact.allow(&oven));
        let namespace = Targets::Listed(vec![Served::Namespace("other".into())]);
        assert!(namespace.allow(&oven) && !namespace.allow(&fridge));
    }
}
