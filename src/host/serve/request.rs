//! What does a request say? For whom it is, of which type its body is and what else; or why it cannot be taken, for a person.
//!
//! ```text
//! POST <path>/<namespace>/<name>/<id>      the id is the rest of the path: it may hold slashes, and it may be empty
//! content-type: text/plain                 a string (UTF-8)
//!               application/json           JSON, a value of the type `application/json`
//!               <namespace>/<name>         a value of that type, its bytes as they are
//! fogfun-type: <namespace>/<name>          the value's type, if the content type is to say something else
//! ```
//! All of it is pure: no socket, no clock. What the URL names is taken apart before it is decoded (`%2F` is no separator).

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use hyper::{Method, StatusCode, Uri};

use crate::address::{Address, TypeName};
use crate::http_config::{Dialect, HttpIngress};
use crate::limits::MESSAGE_ID_BYTES_MAX;
use crate::message::Headers;
use crate::module::{Application, suggest};
use crate::payload::Payload;
use crate::typed_value::TypedValue;
use crate::values;

/// What a request's head says.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) target: Address,
    pub(super) body: BodyType,
    pub(super) headers: Option<Headers>,
    /// The key, and how many of them the target remembers.
    pub(super) idempotency: Option<(Vec<u8>, u16)>,
    /// How long the client would wait for a reply, as far as it may.
    pub(super) wait: Option<Duration>,
}

/// Of which type a body is.
#[derive(Debug, PartialEq)]
pub(super) enum BodyType {
    /// UTF-8, to be a string.
    Text,
    /// JSON, which is checked, under the name of this type.
    Json(String),
    /// Bytes of this type.
    Bytes(String),
}

/// Why a request is not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For a person.
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

/// Reads a head.
pub(super) fn read(
    ingress: &HttpIngress,
    application: &Application,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Asked, Refusal> {
    let target = target(ingress, application, uri)?;
    if headers.contains_key(CONTENT_ENCODING) {
        let text = "the body is compressed, which is not understood: leave out `content-encoding`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if ingress.dialect == Dialect::Playground {
        let body = playground_type(headers);
        return Ok(Asked { target, body, headers: None, idempotency: None, wait: None });
    }
    if *method != Method::POST {
        let text = format!("`{method}` says nothing to a function: `POST`");
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        let text = "how long is the body? `content-length: 0` if there is none";
        return Err(Refusal::new(StatusCode::LENGTH_REQUIRED, text));
    }
    let body = body_type(headers)?;
    let idempotency = idempotency(ingress, headers)?;
    Ok(Asked { target, body, headers: passed_on(headers), idempotency, wait: wait(ingress, headers) })
}

fn target(ingress: &HttpIngress, application: &Application, uri: &Uri) -> Result<Address, Refusal> {
    let form = || format!("the form is `{}/<namespace>/<name>/<id>`", ingress.path);
    let nowhere = |text: String| {
        // StateFun's playground knows no better.
        let status = match ingress.dialect {
            Dialect::Fogfun => StatusCode::NOT_FOUND,
            Dialect::Playground => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, text)
    };
    let rest = uri.path().strip_prefix(ingress.path.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let mut parts = rest.unwrap_or_default().splitn(3, '/');
    let (Some(namespace), Some(name), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(nowhere(format!("nothing is at `{}`: {}", uri.path(), form())));
    };
    if uri.query().is_some() {
        let text = "a query says nothing here; a `?` in an id is written `%3F`";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    let undecodable = || {
        let text = format!("`{}` is no UTF-8 in percent encoding", uri.path());
        Refusal::new(StatusCode::BAD_REQUEST, text)
    };
    let decoded = |text: &str| percent_decoded(text).ok_or_else(undecodable);
    let function_type = format!("{}/{}", decoded(namespace)?, decoded(name)?);
    let function_type =
        TypeName::parse(&function_type).map_err(|error| nowhere(format!("{error}: {}", form())))?;
    if !application.binds(function_type.as_str()) || !ingress.targets.allow(&function_type) {
        let names = application.function_types().filter(|name| ingress.targets.allow(name));
        let names: Vec<&str> = names.map(TypeName::as_str).collect();
        let help = suggest::help(function_type.as_str(), names.iter().copied());
        let text = format!("no function `{function_type}` is reached from here; {help}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    Address::new(function_type, &decoded(id)?)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the id {error}")))
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = if byte == b'%' {
            let mut digit =
                || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            16 * digit()? + digit()?
        } else {
            byte
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).ok()
}

/// `application/vnd.<typename>` is a type; all else is a string.
fn playground_type(headers: &HeaderMap) -> BodyType {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    match essence.strip_prefix(VENDOR_PREFIX) {
        Some(typename) if !typename.is_empty() => BodyType::Bytes(typename.to_owned()),
        _ => BodyType::Text,
    }
}

fn body_type(headers: &HeaderMap) -> Result<BodyType, Refusal> {
    let unsupported = |text: String| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    let content_type = one(headers, CONTENT_TYPE.as_str())?.unwrap_or_default();
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim();
    let media = essence.to_ascii_lowercase();
    let named = match one(headers, TYPE_HEADER)? {
        None => None,
        Some(name) => match TypeName::parse(name.trim()) {
            Ok(name) => Some(name),
            Err(error) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("`{TYPE_HEADER}`: {error}")));
            }
        },
    };
    let is_string = named.as_ref().is_none_or(|name| name.as_str() == STRING);
    match media.as_str() {
        "text/plain" if is_string => {
            let parameters = parameters.to_ascii_lowercase().replace(['"', ' '], "");
            let charset = parameters.split(';').find_map(|parameter| parameter.strip_prefix("charset="));
            match charset {
                None | Some("utf-8" | "utf8" | "us-ascii") => Ok(BodyType::Text),
                Some(charset) => unsupported(format!("text in `{charset}` is not understood: UTF-8")),
            }
        }
        JSON => Ok(BodyType::Json(named.map_or_else(|| JSON.to_owned(), |name| name.to_string()))),
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" | "multipart/form-data" => {
            match named {
                Some(name) => Ok(BodyType::Bytes(name.to_string())),
                None if media.is_empty() => unsupported(format!("of which type is the body? {TYPE_HELP}")),
                None => unsupported(format!("`{media}` is no value's type: {TYPE_HELP}")),
            }
        }
        _ => {
            let typename = named.map(|name| name.to_string());
            let plain = essence.strip_prefix(VENDOR_PREFIX).unwrap_or(essence);
            match typename.or_else(|| {
                TypeName::parse(plain).or_else(|_| TypeName::parse(essence)).ok().map(|name| name.to_string())
            }) {
                Some(typename) => Ok(BodyType::Bytes(typename)),
                None => unsupported(format!("`{essence}` is no value's type: {TYPE_HELP}")),
            }
        }
    }
}

fn idempotency(ingress: &HttpIngress, headers: &HeaderMap) -> Result<Option<(Vec<u8>, u16)>, Refusal> {
    let wrong = |text: String| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    let mut values = headers.get_all(IDEMPOTENCY_HEADER).iter();
    let Some(key) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return wrong(format!("more than one `{IDEMPOTENCY_HEADER}`"));
    }
    if key.is_empty() || MESSAGE_ID_BYTES_MAX < key.len() {
        return wrong(format!("an `{IDEMPOTENCY_HEADER}` has 1 to {MESSAGE_ID_BYTES_MAX} bytes"));
    }
    if ingress.idempotency_keys == 0 {
        return wrong(format!("no `{IDEMPOTENCY_HEADER}` is remembered here: `idempotencyKeys` is 0"));
    }
    Ok(Some((key.as_bytes().to_vec(), ingress.idempotency_keys)))
}

/// `Prefer: wait=N`, in seconds. A preference that is not understood is ignored (RFC 7240).
fn wait(ingress: &HttpIngress, headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let seconds = lines.flat_map(|line| line.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').parse::<u32>().ok()).flatten()
    })?;
    let wait = Duration::from_secs(seconds.into()).min(ingress.wait_max);
    (!wait.is_zero()).then_some(wait)
}

/// The few headers that a function is told: none that may hold a secret.
fn passed_on(headers: &HeaderMap) -> Option<Headers> {
    let mut passed = Headers::new();
    for (name, value) in headers {
        let name = name.as_str();
        if let Some(property) = name.strip_prefix(PROPERTY_PREFIX).filter(|property| !property.is_empty()) {
            passed.push(&format!("property.{property}"), value.as_bytes());
        } else if HEADERS_PASSED_ON.contains(&name) {
            passed.push(&format!("header.{name}"), value.as_bytes());
        }
    }
    let is_empty = passed.iter().next().is_none();
    (!is_empty).then_some(passed)
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        (Some(_), _) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, format!("`{name}` is not one line of plain text")))
        }
    }
}

impl BodyType {
    /// The value that a body is.
    pub(super) fn value(self, body: Bytes) -> Result<TypedValue, Refusal> {
        let wrong = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
        match self {
            Self::Text => match std::str::from_utf8(&body) {
                Ok(text) => Ok(values::string(text)),
                Err(error) => Err(wrong(format!("the body is no UTF-8: {error}"))),
            },
            Self::Json(typename) => match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
                Ok(_) => Ok(TypedValue::new(typename, Payload::from(body))),
                Err(error) => Err(wrong(format!("the body is no JSON: {error}"))),
            },
            Self::Bytes(typename) => Ok(TypedValue::new(typename, Payload::from(body))),
        }
    }
}

pub(super) const STRING: &str = "io.statefun.types/string";
pub(super) const JSON: &str = "application/json";
/// Says a value's type where the content type does not, both ways.
pub(super) const TYPE_HEADER: &str = "fogfun-type";
const IDEMPOTENCY_HEADER: &str = "idempotency-key";
const PROPERTY_PREFIX: &str = "fogfun-property-";
const VENDOR_PREFIX: &str = "application/vnd.";
const HEADERS_PASSED_ON: [&str; 4] = [IDEMPOTENCY_HEADER, "traceparent", "tracestate", "x-request-id"];
const TYPE_HELP: &str = "say `content-type: text/plain`, `application/json`, or the name of the value's type";

#[cfg(test)]
mod tests;
