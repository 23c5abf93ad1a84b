//! `io.statefun.endpoints.v2/http` and `.v1/http`: which functions are served where?
//!
//! StateFun's fields as StateFun reads them, and FogFun's own optional ones: `batch`, `retry`, `onFailure`, `headers`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Loading, transport};
use crate::address::TypeName;
use crate::credentials::Secret;
use crate::limits::{BATCH_INVOCATIONS_MAX, ENDPOINT_HEADERS_MAX, FUNCTION_TYPE_BYTES_MAX};
use crate::module::endpoint::{Asked, EndpointPlaces, LoadedEndpoint, check_header_value};
use crate::module::error::Report;
use crate::module::fields::{self, Fields};
use crate::module::specification::{FileUse, NamedFile};
use crate::module::yaml::{Node, Value};
use crate::remote::config::{
    BatchLimits, DOWN_STATUSES, EndpointConfig, OnFailure, RetryPolicy, Served, UrlTemplate,
};

pub(super) fn read_v2(spec: &Node, loading: &mut Loading<'_>) {
    read(spec, "`spec` of `io.statefun.endpoints.v2/http`", Version::V2, loading);
}

pub(super) fn read_v1(spec: &Node, loading: &mut Loading<'_>) {
    read(spec, "`spec` of `io.statefun.endpoints.v1/http`", Version::V1, loading);
}

/// Where the transport is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Always `okhttp`, `timeouts` beside the other fields.
    V1,
    /// Under `transport`.
    V2,
}

fn read(spec: &Node, what: &'static str, version: Version, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(spec, what, report) else {
        return;
    };
    let functions_node = fields.required("functions", "example/*");
    let functions = functions_node.and_then(|node| served(node, report));
    let mut places = EndpointPlaces::new(functions_node.map_or(fields.place(), |node| node.place));
    let url_node = fields.required("urlPathTemplate", "http://functions:8000/statefun");
    let url = url_node.and_then(|node| url(node, functions.as_ref(), report));
    let threshold = fields.optional("maxNumBatchRequests");
    let threshold = threshold.and_then(|node| threshold_of_batch(node, report)).unwrap_or(BATCH_INVOCATIONS);
    let batch = batch(fields.optional("batch"), threshold, &mut places, report);
    let mut transport = match version {
        Version::V1 => transport::okhttp(fields.optional("timeouts"), report),
        Version::V2 => transport::read(fields.optional("transport"), &mut places, report),
    };
    let retry = retry(fields.optional("retry"), &mut places, report);
    let words = [("dead-letter", OnFailure::DeadLetter), ("block", OnFailure::Block)];
    let on_failure = fields.optional("onFailure").and_then(|node| fields::one_of(node, &words, report));
    transport.headers = headers(fields.optional("headers"), &mut places, report);
    fields.finish(report);
    let (Some(functions), Some(url)) = (functions, url) else {
        return;
    };
    let is_tls = url.url(&TypeName::from_static("example/name")).is_some_and(|url| url.tls);
    if let (false, Some(file)) = (is_tls, places.files.iter().find(|file| is_of_tls(file.used_as))) {
        let message = "this file is for TLS, and the endpoint's URL has none: it is not used";
        report.warn(file.place, message, "did you mean `https://`?".to_owned());
    }
    let on_failure = on_failure.unwrap_or_default();
    let config = EndpointConfig { functions, url, batch, transport, retry, on_failure };
    loading.endpoints.push(LoadedEndpoint { config, places });
}

/// `namespace/name` or `namespace/*`.
pub(super) fn served(node: &Node, report: &mut Report) -> Option<Served> {
    let text = fields::text(node, report)?;
    let served = match text.strip_suffix("/*") {
        Some(namespace) if !namespace.is_empty() && !namespace.contains(['*', '/']) => {
            if FUNCTION_TYPE_BYTES_MAX < text.len() {
                report.add(node.place, format!("`{namespace}` is too long a namespace"), None);
                return None;
            }
            Served::Namespace(namespace.to_owned())
        }
        None if !text.contains('*') => Served::Function(fields::type_name(node, report)?),
        _ => {
            let message = format!("`{text}` names no function and no namespace");
            let help = "`namespace/name` is one function, `namespace/*` all of a namespace; a star stands for a whole name";
            report.add(node.place, message, help.to_owned());
            return None;
        }
    };
    let namespace = match &served {
        Served::Function(function_type) => function_type.namespace(),
        Served::Namespace(namespace) => namespace,
    };
    if namespace == RESERVED_NAMESPACE {
        report.add(node.place, format!("the namespace `{RESERVED_NAMESPACE}` is FogFun's own"), None);
        return None;
    }
    Some(served)
}

fn url(node: &Node, functions: Option<&Served>, report: &mut Report) -> Option<UrlTemplate> {
    let text = fields::text(node, report)?;
    let help =
        "for example `http://functions:8000/statefun`; `{function.name}` stands for the function's name";
    let told = |message| {
        report.add(node.place, format!("`{text}` is no URL of an endpoint: {message}"), help.to_owned())
    };
    let template = UrlTemplate::parse(text).map_err(told).ok()?;
    if let Some(Served::Function(function_type)) = functions
        && template.url(function_type).is_none()
    {
        let message = format!("the name of `{function_type}` makes no URL in `{text}`");
        report.add(node.place, message, "leave `{function.name}` out".to_owned());
        return None;
    }
    Some(template)
}

/// StateFun's back-pressure threshold is our cap of a batch; nothing and less is no bound but ours.
fn threshold_of_batch(node: &Node, report: &mut Report) -> Option<u32> {
    let number = match &node.value {
        Value::Text(text) => text.parse::<i64>().ok(),
        _ => None,
    };
    let Some(number) = number else {
        fields::expected(node.place, "a whole number", &node.value, report);
        return None;
    };
    if number <= 0 {
        return Some(BATCH_INVOCATIONS_MAX);
    }
    let capped = u32::try_from(number).unwrap_or(u32::MAX).min(BATCH_INVOCATIONS_MAX);
    if i64::from(capped) < number {
        let message = format!("a batch has at most {BATCH_INVOCATIONS_MAX} invocations: {number} is more");
        report.warn(node.place, message, None);
    }
    Some(capped)
}

fn batch(
    node: Option<&Node>,
    threshold: u32,
    places: &mut EndpointPlaces,
    report: &mut Report,
) -> BatchLimits {
    let mut limits = BatchLimits { invocations_max: threshold, bytes_max: 0 };
    let Some(mut fields) = node.and_then(|node| Fields::of(node, "`batch`", report)) else {
        return limits;
    };
    if let Some(invocations) =
        fields.optional("invocations").and_then(|node| fields::number(node, 1, BATCH_INVOCATIONS_MAX, report))
    {
        limits.invocations_max = invocations;
    }
    places.batch_bytes = fields.optional("bytes").and_then(|node| {
        let number = fields::number(node, 1, u64::from(u32::MAX), report)?;
        Some(Asked { number, place: node.place })
    });
    fields.finish(report);
    limits
}

/// What is not given is the board's, later.
fn retry(node: Option<&Node>, places: &mut EndpointPlaces, report: &mut Report) -> RetryPolicy {
    let mut policy = RetryPolicy {
        attempts_max: 1,
        backoff_first: BACKOFF_MIN,
        backoff_max: BACKOFF_MIN,
        down_statuses: DOWN_STATUSES.to_vec(),
    };
    let Some(mut fields) = node.and_then(|node| Fields::of(node, "`retry`", report)) else {
        return policy;
    };
    if let Some(attempts) =
        fields.optional("attempts").and_then(|node| fields::number(node, 1, ATTEMPTS_MAX, report))
    {
        policy.attempts_max = attempts;
        places.attempts_given = true;
    }
    let mut backoff = |key| {
        let node = fields.optional(key)?;
        Some((fields::duration(node, BACKOFF_MIN, BACKOFF_MAX, report)?, node.place))
    };
    let (first, most) = (backoff("backoff"), backoff("backoffMax"));
    if let (Some((first, _)), Some((most, place))) = (first, most)
        && most < first
    {
        report.add(place, format!("the longest wait {most:?} is shorter than the first {first:?}"), None);
    }
    if let Some((first, _)) = first {
        policy.backoff_first = first;
        places.backoff_first_given = true;
    }
    if let Some((most, _)) = most {
        policy.backoff_max = most;
        places.backoff_max_given = true;
    }
    if let Some(nodes) = fields.optional("downStatuses").and_then(|node| fields::items(node, report)) {
        let statuses = nodes.iter().filter_map(|node| fields::number(node, 400, 599, report));
        policy.down_statuses = statuses.collect();
        policy.down_statuses.sort_unstable();
        policy.down_statuses.dedup();
    }
    fields.finish(report);
    policy
}

fn headers(node: Option<&Node>, places: &mut EndpointPlaces, report: &mut Report) -> Vec<(String, Secret)> {
    let Some((node, nodes)) = node.and_then(|node| Some((node, fields::items(node, report)?))) else {
        return Vec::new();
    };
    if ENDPOINT_HEADERS_MAX < nodes.len() {
        let message = format!("at most {ENDPOINT_HEADERS_MAX} header fields, these are {}", nodes.len());
        report.add(node.place, message, None);
        return Vec::new();
    }
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for node in nodes {
        let Some(mut fields) = Fields::of(node, "a header field", report) else {
            continue;
        };
        let name =
            fields.required("name", "authorization").and_then(|node| header_name(node, &headers, report));
        let (value_node, file_node) = (fields.optional("value"), fields.optional("valueFile"));
        let value = value_node.and_then(|node| {
            let text = fields::text(node, report)?;
            let told = |what| report.add(node.place, format!("this text {what}"), None);
            check_header_value(text).map_err(told).ok()?;
            Some(text.to_owned())
        });
        if value_node.is_some() == file_node.is_some() && !fields.has_others() {
            report.add(fields.place(), "a header field has one of `value` and `valueFile`", None);
        }
        if let Some(file) = file_node
            && let Some(path) = fields::text(file, report)
        {
            let used_as = FileUse::Header(headers.len());
            places.files.push(NamedFile { used_as, path: PathBuf::from(path), place: file.place });
        }
        fields.finish(report);
        headers.push((name.unwrap_or_default(), Secret(value.unwrap_or_default())));
    }
    headers
}

fn header_name(node: &Node, earlier: &[(String, Secret)], report: &mut Report) -> Option<String> {
    let text = fields::text(node, report)?;
    let name = text.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        report.add(node.place, format!("`{text}` is no name of a header field"), None);
        return None;
    }
    if PROTOCOL_HEADERS.contains(&name.as_str()) {
        report.add(node.place, format!("`{text}` is set by the protocol"), None);
        return None;
    }
    if earlier.iter().any(|(earlier, _)| *earlier == name) {
        report.add(node.place, format!("the header field `{text}` is here for the second time"), None);
        return None;
    }
    Some(name)
}

fn is_of_tls(used_as: FileUse) -> bool {
    !matches!(used_as, FileUse::Header(_) | FileUse::Password)
}

/// What requests carry anyway, or what belongs to the connection.
const PROTOCOL_HEADERS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sessions are addresses of `fogfun/session`.
const RESERVED_NAMESPACE: &str = "fogfun";
/// StateFun's `maxNumBatchRequests`.
const BATCH_INVOCATIONS: u32 = 1_000;
/// As on a board.
const ATTEMPTS_MAX: u32 = 100;
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_secs(3_600);
