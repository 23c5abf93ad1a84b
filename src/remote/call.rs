//! What goes to an endpoint, and what comes of it? The words between worker and shell.

use std::sync::Arc;

use bytes::Bytes;

use super::url::Url;

/// The place of an endpoint among the module's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointIndex(pub usize);

/// Names a call among those of its worker since the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallNumber(pub u64);

/// One attempt at one request. Answered exactly once, within the endpoint's `call` time.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names the answer.
    pub number: CallNumber,
    /// With whose transport.
    pub endpoint: EndpointIndex,
    /// Where to.
    pub url: Arc<Url>,
    /// A `ToFunction` message.
    pub body: Bytes,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallOutcome {
    /// With an HTTP response, whatever it says. Redirects were followed as far as the transport follows them.
    Answered {
        /// The status code.
        status: u16,
        /// The header `content-type`, if it is there and text.
        content_type: Option<String>,
        /// The body, decompressed; never longer than the transport's `payload_bytes_max`.
        body: Bytes,
    },
    /// Without one.
    Failed {
        /// In which way.
        failure: CallFailure,
        /// What to tell a person: the cause without URL and function.
        text: String,
    },
}

/// How an attempt ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// No connection: no such host, refused, no socket file, TLS refused, no time.
    Unreachable,
    /// Connected, but no whole answer in time.
    TimedOut,
    /// The connection broke before the answer was whole.
    Broken,
    /// The answer is longer than `payload_bytes_max`, compressed or not.
    TooLarge,
    /// What came is not HTTP, or says that it is compressed in a way that it is not.
    Malformed,
}
