//! What does a client hear? Every answer of a port as bytes: status, the headers that belong to it, one body.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::request::{JSON, Refusal, TYPE_HEADER};
use crate::host::http::Whole;
use crate::http_config::Dialect;
use crate::mqtt::builtin::Builtin;
use crate::typed_value::TypedValue;

/// A record is its target's message, and that is committed; `wait` was granted, and nobody has replied.
pub(super) fn accepted(dialect: Dialect, wait: Option<Duration>) -> Response<Whole> {
    match dialect {
        Dialect::Fogfun => applied(json(StatusCode::ACCEPTED, "accepted"), wait),
        Dialect::Playground => whole(StatusCode::OK, None, Bytes::new()),
    }
}

/// A record's idempotency key has come before.
pub(super) fn repeated() -> Response<Whole> {
    json(StatusCode::ACCEPTED, "repeated")
}

/// A function has replied, and that is committed.
pub(super) fn replied(value: &TypedValue, wait: Option<Duration>) -> Response<Whole> {
    let (content_type, body) = body_of(value);
    let status = if value.value.is_none() { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let mut response = whole(status, content_type, body);
    // A type's name is a remote function's to choose: not every one can stand in a header.
    if let Ok(typename) = HeaderValue::from_str(&value.typename) {
        response.headers_mut().insert(HeaderName::from_static(TYPE_HEADER), typename);
    }
    applied(response, wait)
}

/// It is not taken, and why.
pub(super) fn refused(refusal: &Refusal) -> Response<Whole> {
    let mut response = text(refusal.status, &refusal.text);
    let extra = match refusal.status {
        StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, HeaderValue::from_static("POST"))),
        StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))),
        _ => None,
    };
    response.headers_mut().extend(extra);
    response
}

/// A record that was fetched.
pub(super) fn fetched(payload: String) -> Response<Whole> {
    whole(StatusCode::OK, Some(PLAIN_TEXT), payload.into())
}

/// What is no record's but the port's to say, a line of text.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Whole> {
    whole(status, Some(PLAIN_TEXT), format!("{text}\n").into())
}

/// A string as text, other built-ins as JSON, JSON as such, all else as bytes.
fn body_of(value: &TypedValue) -> (Option<&'static str>, Bytes) {
    let Some(payload) = &value.value else { return (None, Bytes::new()) };
    match Builtin::decode(&value.typename, payload) {
        Some(Ok(Builtin::Text(text))) => (Some(PLAIN_TEXT), Bytes::copy_from_slice(text.as_bytes())),
        Some(Ok(Builtin::Float(number))) if !number.is_finite() => (Some(OCTETS), payload.to_bytes()),
        Some(Ok(Builtin::Double(number))) if !number.is_finite() => (Some(OCTETS), payload.to_bytes()),
        Some(Ok(other)) => (Some(JSON), other.to_string().into()),
        _ if value.typename == JSON || is_json(payload) => (Some(JSON), payload.to_bytes()),
        _ => (Some(OCTETS), payload.to_bytes()),
    }
}

/// An object or an array: what is binary looks like that by no accident.
fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'{' | b'['))
        && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn json(status: StatusCode, word: &str) -> Response<Whole> {
    whole(status, Some(JSON), format!("{{\"status\":\"{word}\"}}\n").into())
}

fn applied(mut response: Response<Whole>, wait: Option<Duration>) -> Response<Whole> {
    let applied = wait.and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok());
    let name = HeaderName::from_static("preference-applied");
    response.headers_mut().extend(applied.map(|applied| (name, applied)));
    response
}

fn whole(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Response<Whole> {
    let mut response = Response::new(Whole((!body.is_empty()).then_some(body)));
    *response.status_mut() = status;
    let content_type = content_type.map(|name| (CONTENT_TYPE, HeaderValue::from_static(name)));
    response.headers_mut().extend(content_type);
    response
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const OCTETS: &str = "application/octet-stream";
/// What makes a node refuse (a full account, a stop) rarely lasts a second.
const RETRY_AFTER_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::serve::request::STRING;

    fn replied_as(value: &TypedValue) -> (u16, String, Vec<u8>) {
        let response = replied(value, None);
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().0.unwrap_or_default();
        (status, content_type.unwrap_or_default(), body.to_vec())
    }

    #[test]
    fn a_reply_is_as_readable_as_its_type_allows() {
        let cases: [(TypedValue, u16, &str, &[u8]); 8] = [
            ("hi".into(), 200, PLAIN_TEXT, b"hi"),
            ("".into(), 200, PLAIN_TEXT, b""),
            (0_i64.into(), 200, JSON, b"0"),
            (true.into(), 200, JSON, b"true"),
            (f64::NAN.into(), 200, OCTETS, &f64::NAN.to_le_bytes()),
            (TypedValue::new("a/b", &b"{\"x\":1}"[..]), 200, JSON, b"{\"x\":1}"),
            (TypedValue::new("a/b", &b"{\"x\":"[..]), 200, OCTETS, b"{\"x\":"),
            (TypedValue { typename: "a/b".into(), ..TypedValue::default() }, 204, "", b""),
        ];
        for (value, status, content_type, body) in cases {
            let (found_status, found_type, found_body) = replied_as(&value);
            assert_eq!((found_status, found_type.as_str()), (status, content_type), "{value:?}");
            assert!(
                found_body.ends_with(body) && (content_type == OCTETS || found_body == body),
                "{value:?}"
            );
        }
        assert_eq!(replied(&TypedValue::new(STRING, &b""[..]), None).headers()[TYPE_HEADER], STRING);
        assert!(replied(&TypedValue::new("a/\n", &b""[..]), None).headers().get(TYPE_HEADER).is_none());
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let refusal = |status| refused(&Refusal::new(status, "why"));
        assert_eq!(refusal(StatusCode::METHOD_NOT_ALLOWED).headers()[ALLOW], "POST");
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE).headers()[RETRY_AFTER], "1");
        let not_found = refusal(StatusCode::NOT_FOUND);
        assert_eq!(not_found.headers().len(), 1);
        assert_eq!(not_found.into_body().0.unwrap(), "why\n");
    }

    #[test]
    fn a_preference_that_was_applied_is_said() {
        let wait = Some(Duration::from_secs(7));
        assert_eq!(accepted(Dialect::Fogfun, wait).headers()["preference-applied"], "wait=7");
        assert!(accepted(Dialect::Fogfun, None).headers().get("preference-applied").is_none());
    }
}
