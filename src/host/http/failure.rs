//! Why did a call end without a response? Errors of the layers below in the call's own words.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::remote::call::CallFailure;

/// How a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: CallFailure,
    /// For a person.
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(kind: CallFailure, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(CallFailure::TooLarge, format!("the response is longer than {bytes_max} bytes"))
    }

    pub(super) fn unreachable(error: &io::Error) -> Self {
        Self::new(CallFailure::Unreachable, chain(error))
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let of_socket = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        // hyper says with these what is wrong with a chunk.
        let is_wrong = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) && !is_tls(error)
        };
        let kind = if error.is_parse() || of_socket.is_some_and(is_wrong) {
            CallFailure::Malformed
        } else {
            CallFailure::Broken
        };
        Self::new(kind, chain(&error))
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<futures_rustls::rustls::Error>())
}

/// An error and its causes, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}
