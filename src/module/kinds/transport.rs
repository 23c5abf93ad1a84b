//! `transport` of an endpoint: how is it spoken to? StateFun's two, with their own fields and defaults.
//!
//! - `io.statefun.transports.v1/async` (the default): `call` and `connect`, a pool, TLS. Its `timeouts` is there for who comes from
//!   `okhttp`: it wins over `call` and `connect`, and what it leaves out has its own defaults.
//! - `io.statefun.transports.v1/okhttp`: four `timeouts`; follows redirects.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::TlsFiles;
use crate::module::endpoint::{Asked, EndpointPlaces};
use crate::module::error::Report;
use crate::module::fields::{self, Fields};
use crate::module::specification::{FileUse, NamedFile};
use crate::module::suggest;
use crate::module::yaml::Node;
use crate::remote::config::Transport;

/// Reads `transport`; what is not given, and what is wrong, has its default.
pub(super) fn read(node: Option<&Node>, places: &mut EndpointPlaces, report: &mut Report) -> Transport {
    let Some(mut fields) = node.and_then(|node| Fields::of(node, "`transport`", report)) else {
        return transport(Times { call: ASYNC_CALL, connect: ASYNC_CONNECT, read: None, write: None });
    };
    let type_node = fields.optional("type");
    let name = type_node.map_or(Some(ASYNC), |node| fields::text(node, report));
    match name {
        Some(ASYNC) => read_async(fields, places, report),
        Some(OKHTTP) => {
            let transport = okhttp(fields.optional("timeouts"), report);
            fields.finish(report);
            transport
        }
        other => {
            if let (Some(node), Some(other)) = (type_node, other) {
                let help = suggest::help(other, [ASYNC, OKHTTP]);
                report.add(node.place, format!("there is no transport `{other}`"), help);
            }
            okhttp(None, report)
        }
    }
}

/// The transport `okhttp`, from its `timeouts`.
pub(super) fn okhttp(timeouts: Option<&Node>, report: &mut Report) -> Transport {
    let mut times = Times { call: CALL, connect: CONNECT, read: Some(SILENCE), write: Some(SILENCE) };
    if let Some(mut fields) = timeouts.and_then(|node| Fields::of(node, "`timeouts`", report)) {
        times.call = duration(&mut fields, "call", report).unwrap_or(CALL);
        let call = times.call;
        let mut part = |key, default: Duration| {
            let node = fields.optional(key);
            let given = node.and_then(|node| fields::duration(node, TIME_MIN, TIME_MAX, report));
            if let (Some(node), Some(given)) = (node, given)
                && call < given
            {
                let message = format!("`{key}` is longer than the whole call ({call:?})");
                report.add(node.place, message, "raise `call`, or lower it".to_owned());
            }
            given.unwrap_or(default).min(call)
        };
        times.connect = part("connect", CONNECT);
        times.read = Some(part("read", SILENCE));
        times.write = Some(part("write", SILENCE));
        fields.finish(report);
    }
    Transport { redirects_max: OKHTTP_REDIRECTS_MAX, pool_ttl: OKHTTP_POOL_TTL, ..transport(times) }
}

fn read_async(mut fields: Fields<'_>, places: &mut EndpointPlaces, report: &mut Report) -> Transport {
    let (call_node, connect_node) = (fields.optional("call"), fields.optional("connect"));
    let mut time =
        |node: Option<&Node>| node.and_then(|node| fields::duration(node, TIME_MIN, TIME_MAX, report));
    let call = time(call_node).unwrap_or(ASYNC_CALL);
    let connect = time(connect_node).unwrap_or(ASYNC_CONNECT);
    let mut times = Times { call, connect, read: None, write: None };
    if let Some(mut timeouts) =
        fields.optional("timeouts").and_then(|node| Fields::of(node, "`timeouts`", report))
    {
        for (key, node) in [("call", call_node), ("connect", connect_node)] {
            if let Some(node) = node {
                let message = format!("`{key}` is not used: `timeouts` counts, as in Stateful Functions");
                report.warn(node.place, message, "keep one of the two".to_owned());
            }
        }
        times.call = duration(&mut timeouts, "call", report).unwrap_or(CALL);
        times.connect = duration(&mut timeouts, "connect", report).unwrap_or(CONNECT);
        for key in ["read", "write"] {
            if let Some(node) = timeouts.optional(key) {
                let message = format!("`{key}` is not used: only `{OKHTTP}` has it");
                report.warn(node.place, message, None);
            }
        }
        timeouts.finish(report);
    }
    times.connect = times.connect.min(times.call);
    let pool_ttl =
        fields.optional("pool_ttl").and_then(|node| fields::duration(node, Duration::ZERO, TIME_MAX, report));
    places.pool_size = asked(&mut fields, "pool_size", 1, report);
    places.payload_bytes_max = asked(&mut fields, "payload_max_bytes", PAYLOAD_BYTES_MIN, report);
    let tls = tls(&mut fields, places, report);
    fields.finish(report);
    Transport { pool_ttl: pool_ttl.unwrap_or(ASYNC_POOL_TTL), tls, ..transport(times) }
}

fn tls(fields: &mut Fields<'_>, places: &mut EndpointPlaces, report: &mut Report) -> TlsFiles {
    let ca = file(fields.optional("trust_cacerts"), FileUse::Ca, places, report);
    let certificate_node = fields.optional("client_cert");
    let key_node = fields.optional("client_key");
    let password_node = fields.optional("client_key_password");
    let certificate = file(certificate_node, FileUse::ClientCertificate, places, report);
    let key = file(key_node, FileUse::ClientKey, places, report);
    file(password_node, FileUse::KeyPassword, places, report);
    match (certificate_node, key_node) {
        (Some(node), None) => report.add(node.place, "`client_cert` without `client_key`", None),
        (None, Some(node)) => report.add(node.place, "`client_key` without `client_cert`", None),
        (None, None) => {
            if let Some(node) = password_node {
                report.add(node.place, "`client_key_password` without `client_key`", None);
            }
        }
        (Some(_), Some(_)) => {}
    }
    TlsFiles { ca, client: certificate.zip(key), key_password: None }
}

/// A path, or a URL with `file:`.
fn file(
    node: Option<&Node>,
    used_as: FileUse,
    places: &mut EndpointPlaces,
    report: &mut Report,
) -> Option<PathBuf> {
    let node = node?;
    let text = fields::text(node, report)?;
    if let Some(name) = text.strip_prefix("classpath:") {
        let help = format!("write the path of the file, relative to the module's directory: `{name}`");
        report.add(node.place, "there is no class path here", help);
        return None;
    }
    let path = match text.strip_prefix("file:") {
        // `file:///a` and `file:/a` are `/a`; no other host has files of ours.
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None => text,
    };
    let path = PathBuf::from(path);
    places.files.push(NamedFile { used_as, path: path.clone(), place: node.place });
    Some(path)
}

fn duration(fields: &mut Fields<'_>, key: &'static str, report: &mut Report) -> Option<Duration> {
    fields.optional(key).and_then(|node| fields::duration(node, TIME_MIN, TIME_MAX, report))
}

fn asked(fields: &mut Fields<'_>, key: &'static str, least: u64, report: &mut Report) -> Option<Asked> {
    let node = fields.optional(key)?;
    let number = fields::number(node, least, u64::from(u32::MAX), report)?;
    Some(Asked { number, place: node.place })
}

struct Times {
    call: Duration,
    connect: Duration,
    read: Option<Duration>,
    write: Option<Duration>,
}

/// A transport of these times. What the board decides is filled in later.
fn transport(times: Times) -> Transport {
    Transport {
        call: times.call,
        connect: times.connect,
        read: times.read,
        write: times.write,
        pool_size: 1,
        pool_ttl: ASYNC_POOL_TTL,
        payload_bytes_max: 0,
        redirects_max: 0,
        tls: TlsFiles::default(),
        headers: Vec::new(),
    }
}

const ASYNC: &str = "io.statefun.transports.v1/async";
const OKHTTP: &str = "io.statefun.transports.v1/okhttp";

const ASYNC_CALL: Duration = Duration::from_secs(120);
const ASYNC_CONNECT: Duration = Duration::from_secs(20);
const ASYNC_POOL_TTL: Duration = Duration::from_secs(15);
/// Of `okhttp`, and of `timeouts` wherever it stands.
const CALL: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(10);
/// As StateFun makes its `okhttp` pool.
const OKHTTP_POOL_TTL: Duration = Duration::from_secs(60);
/// OkHttp's own bound.
const OKHTTP_REDIRECTS_MAX: u8 = 20;
/// No time at all is no call at all.
const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(86_400);
/// Less holds hardly a request without states.
const PAYLOAD_BYTES_MIN: u64 = 1_024;
