//! What does the end of an attempt mean? A reply to apply, an endpoint that is down, or an answer that is an error.
//!
//! | the attempt ended with | verdict |
//! |---|---|
//! | 200–299 and content type `application/octet-stream` | reply |
//! | no connection, no whole answer in time, a broken connection | down |
//! | one of the endpoint's `down_statuses` | down |
//! | everything else: other statuses (3xx too), another content type or none, an answer too long or not HTTP | failed |
//!
//! *Down* says nothing about the message: its address waits, for ever if need be. *Failed* is the endpoint's answer to it.
//! The content type is compared whole, as StateFun does: with a parameter (`; charset=…`) or without a body it must be that one too, for
//! then what answers is likely no function but what stands before it.

use bytes::Bytes;

use super::call::{CallFailure, CallOutcome};
use super::config::RetryPolicy;

/// What an attempt came to. The texts are for a person: lower case, no full stop, neither function nor URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The function answered: a `FromFunction` message.
    Reply(Bytes),
    /// Nobody is there who could say anything about the message.
    Down(String),
    /// The message was answered with an error; asked again it may be again.
    Failed(String),
}

/// Judges how an attempt ended.
#[must_use]
pub fn judge(outcome: &CallOutcome, retry: &RetryPolicy) -> Verdict {
    match outcome {
        CallOutcome::Answered { status, content_type, body } => {
            judge_answer(*status, content_type.as_deref(), body, retry)
        }
        CallOutcome::Failed { failure, text } => match failure {
            CallFailure::Unreachable => Verdict::Down(format!("no connection: {text}")),
            CallFailure::TimedOut => Verdict::Down(format!("no answer in time: {text}")),
            CallFailure::Broken => Verdict::Down(format!("the connection broke: {text}")),
            CallFailure::TooLarge => Verdict::Failed(format!("the answer is too long: {text}")),
            CallFailure::Malformed => {
                Verdict::Failed(format!("the answer is not HTTP as it should be: {text}"))
            }
        },
    }
}

fn judge_answer(status: u16, content_type: Option<&str>, body: &Bytes, retry: &RetryPolicy) -> Verdict {
    if retry.down_statuses.contains(&status) {
        return Verdict::Down(format!("status {status}{}", excerpt(body)));
    }
    match (status, content_type) {
        (200..300, Some(content_type)) if content_type.eq_ignore_ascii_case(CONTENT_TYPE) => {
            Verdict::Reply(body.clone())
        }
        (200..300, Some(other)) => Verdict::Failed(format!(
            "status {status} with content type `{}`, not `{CONTENT_TYPE}`{}",
            printable(other.as_bytes()),
            excerpt(body)
        )),
        (200..300, None) => Verdict::Failed(format!(
            "status {status} without a content type, not with `{CONTENT_TYPE}`{}",
            excerpt(body)
        )),
        (300..400, _) => {
            Verdict::Failed(format!("status {status}, a redirection that is not followed{}", excerpt(body)))
        }
        _ => Verdict::Failed(format!("status {status}{}", excerpt(body))),
    }
}

/// How a body begins, behind a colon; nothing if it has nothing to read.
fn excerpt(body: &[u8]) -> String {
    let text = printable(body);
    if text.is_empty() { text } else { format!(": {text}") }
}

/// How some bytes begin, in one line: what can be read of them, blanks run together.
fn printable(bytes: &[u8]) -> String {
    // A character has four bytes at most; what is beyond is never looked at.
    let begin = bytes.get(..4 * EXCERPT_CHARS).unwrap_or(bytes);
    let text = String::from_utf8_lossy(begin);
    let readable = |c: &char| !c.is_control() && *c != char::REPLACEMENT_CHARACTER;
    let words = text.split_whitespace().map(|word| word.chars().filter(readable).collect::<String>());
    let mut line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(EXCERPT_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Of a request and of a reply.
pub const CONTENT_TYPE: &str = "application/octet-stream";

/// Characters of an error's body that are told.
const EXCERPT_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::remote::config::DOWN_STATUSES;

    fn retry() -> RetryPolicy {
        RetryPolicy {
            attempts_max: 3,
            backoff_first: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            down_statuses: DOWN_STATUSES.to_vec(),
        }
    }

    fn answered(status: u16, content_type: Option<&str>, body: &[u8]) -> Verdict {
        let outcome = CallOutcome::Answered {
            status,
            content_type: content_type.map(str::to_owned),
            body: Bytes::copy_from_slice(body),
        };
        judge(&outcome, &retry())
    }

    #[test]
    fn a_reply_is_2xx_with_the_content_type() {
        for (status, content_type) in
            [(200, CONTENT_TYPE), (201, CONTENT_TYPE), (299, "Application/OCTET-stream")]
        {
            assert_eq!(answered(status, Some(content_type), b"x"), Verdict::Reply(Bytes::from_static(b"x")));
        }
        assert_eq!(answered(200, Some(CONTENT_TYPE), b""), Verdict::Reply(Bytes::new()));
        for content_type in
            [None, Some("text/html"), Some("application/octet-stream; charset=utf-8"), Some("")]
        {
            for body in [&b""[..], b"hello"] {
                let Verdict::Failed(text) = answered(200, content_type, body) else {
                    panic!("{content_type:?}");
                };
                assert!(text.contains("content type") && text.contains(CONTENT_TYPE), "{text}");
            }
        }
    }

    #[test]
    fn down_and_failed_are_told_apart() {
        for status in DOWN_STATUSES {
            assert!(matches!(answered(status, Some(CONTENT_TYPE), b""), Verdict::Down(_)), "{status}");
        }
        for status in [100, 199, 300, 307, 400, 404, 409, 500, 501, 599, 999] {
            assert!(matches!(answered(status, Some(CONTENT_TYPE), b"x"), Verdict::Failed(_)), "{status}");
        }
        for (failure, is_down) in [
            (CallFailure::Unreachable, true),
            (CallFailure::TimedOut, true),
            (CallFailure::Broken, true),
            (CallFailure::TooLarge, false),
            (CallFailure::Malformed, false),
        ] {
            match judge(&CallOutcome::Failed { failure, text: "why".into() }, &retry()) {
                Verdict::Down(text) => assert!(is_down && text.ends_with(": why"), "{text}"),
                Verdict::Failed(text) => assert!(!is_down && text.ends_with(": why"), "{text}"),
                Verdict::Reply(_) => panic!("{failure:?}"),
            }
        }
    }

    #[test]
    fn an_error_is_told_in_one_line() {
        let body = b"Traceback (most recent call last):\n\r\n   \x1b[31mValueError\xff: \x00 no\n";
        let Verdict::Failed(text) = answered(500, Some("text/plain"), body) else { panic!() };
        assert_eq!(text, "status 500: Traceback (most recent call last): [31mValueError: no");
        let Verdict::Failed(text) = answered(500, None, b"") else { panic!() };
        assert_eq!(text, "status 500");
        let Verdict::Failed(text) = answered(500, None, "é ".repeat(10_000).as_bytes()) else { panic!() };
        assert_eq!(text.chars().count(), "status 500: ".len() + EXCERPT_CHARS + 1);
    }

    proptest! {
        #[test]
        fn what_is_told_is_short_and_printable(status in 100_u16..1000, content_type: Option<String>, body: Vec<u8>) {
            match answered(status, content_type.as_deref(), &body) {
                Verdict::Reply(_) => {}
                Verdict::Down(text) | Verdict::Failed(text) => {
                    prop_assert!(text.chars().count() <= 2 * EXCERPT_CHARS + 100);
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}
