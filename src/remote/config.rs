//! What does an endpoint's document say? Which functions it serves, where, over what, and what becomes of failures.

use std::sync::Arc;
use std::time::Duration;

use crate::address::TypeName;
use crate::credentials::{Secret, TlsFiles};

use super::url::Url;

/// An endpoint: some function types behind one URL, or behind one each.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointConfig {
    /// What it serves.
    pub functions: Served,
    /// Where.
    pub url: UrlTemplate,
    /// How much one request asks for.
    pub batch: BatchLimits,
    /// How it is spoken to.
    pub transport: Transport,
    /// When an attempt is repeated.
    pub retry: RetryPolicy,
    /// What becomes of a message that fails for good.
    pub on_failure: OnFailure,
}

/// Which function types an endpoint serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// This one.
    Function(TypeName),
    /// Every type of this namespace that is not served or bound by itself.
    Namespace(String),
}

/// A URL in which `{function.name}` may stand for the name of the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    text: String,
}

impl UrlTemplate {
    /// Checks that the template makes a URL.
    ///
    /// # Errors
    /// As [`Url::parse`], and other placeholders than `{function.name}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Url::parse(&text.replace(PLACEHOLDER, "name"))?;
        Ok(Self { text: text.to_owned() })
    }

    /// The URL for this type; `None` if its name has characters that no URL has.
    #[must_use]
    pub fn url(&self, function_type: &TypeName) -> Option<Arc<Url>> {
        Url::parse(&self.text.replace(PLACEHOLDER, function_type.name())).ok().map(Arc::new)
    }
}

/// How much one request asks for. An SDK runs all of a batch, and all of it or nothing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Invocations at most. Too small: a round trip for each message. Too large: one failing message holds up many.
    pub invocations_max: u32,
    /// Bytes of their arguments at most; one invocation is always sent.
    pub bytes_max: usize,
}

/// How an endpoint is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct Transport {
    /// The longest that one attempt may take, all of it.
    pub call: Duration,
    /// Of it, until the connection stands.
    pub connect: Duration,
    /// The longest silence while a response is awaited or read; `None` leaves it to `call`.
    pub read: Option<Duration>,
    /// The longest that the server may take no byte of a request; `None` leaves it to `call`.
    pub write: Option<Duration>,
    /// Connections to one URL at most, of the whole node; as many requests are under way.
    pub pool_size: u16,
    /// How long an idle connection is kept; zero closes it after its request.
    pub pool_ttl: Duration,
    /// The longest request or response body, in bytes, compressed or not.
    pub payload_bytes_max: usize,
    /// Redirects that are followed (StateFun's `okhttp` does, its `async` does not).
    pub redirects_max: u8,
    /// Authorities, certificate and key for `https`.
    pub tls: TlsFiles,
    /// Sent with every request beside StateFun's own.
    pub headers: Vec<(String, Secret)>,
}

/// When an attempt is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at a message that the function answers with an error, before it is a dead letter.
    pub attempts_max: u32,
    /// The wait before the second; doubles, half of it jitter.
    pub backoff_first: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// Statuses that say that the endpoint is down, not that the message is bad: its addresses wait, for ever if need be.
    pub down_statuses: Vec<u16>,
}

/// What becomes of a message that fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It is a dead letter, and the address goes on.
    #[default]
    DeadLetter,
    /// Its address waits and tries again, for ever.
    Block,
}

/// Statuses that say that an endpoint is down: request timeout, too many requests, bad gateway, unavailable, gateway timeout.
pub const DOWN_STATUSES: [u16; 5] = [408, 429, 502, 503, 504];

/// StateFun's only placeholder.
pub const PLACEHOLDER: &str = "{function.name}";
