//! What do MQTT ingresses and egresses have in common? The session: broker, client id, credentials, TLS.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::TypeName;
use crate::credentials::TlsFiles;
use crate::limits::VALUE_BYTES_MAX;
use crate::module::board::Board;
use crate::module::broker_url::BrokerUrl;
use crate::module::error::{Place, Report};
use crate::module::fields::{self, Fields};
use crate::module::specification::{FileUse, Loaded, NamedFile, Places};
use crate::module::yaml::Node;
use crate::mqtt::config::{Broker, Format, Protocol, Qos, Role, SessionConfig};

/// Reads the fields that both kinds share. A session is made even of broken fields, so that the checks between documents see it;
/// `None` if it has no id.
pub(super) fn session(fields: &mut Fields<'_>, role: Role, report: &mut Report) -> Option<Loaded> {
    let id_node = fields.required("id", "example/fridges");
    let id = id_node.and_then(|node| fields::type_name(node, report));
    let mut places = Places::new(id_node.map_or(fields.place(), |node| node.place));
    let broker = broker(fields, &mut places.files, report);
    let client_id_node = fields.optional("clientId");
    let client_id = client_id_node.and_then(|node| client_id(node, report));
    places.client_id = client_id_node.map(|node| node.place);
    let session_expiry = session_expiry(fields, broker.protocol, report);
    let user = login(fields, broker.protocol, &mut places.files, report);
    let (keep_alive, keep_alive_place) = keep_alive(fields, report);
    places.keep_alive = keep_alive_place;
    let board = Board::default();
    let receive_maximum =
        fields.optional("receiveMaximum").and_then(|node| fields::number(node, 1, u16::MAX, report));
    let packet_bytes_max = fields
        .optional("packetBytesMax")
        .and_then(|node| fields::number(node, PACKET_BYTES_MIN, PACKET_BYTES_MAX, report));
    places.receive_maximum_given = receive_maximum.is_some();
    places.packet_bytes_max_given = packet_bytes_max.is_some();
    let name = id?;
    let config = SessionConfig {
        client_id: client_id.unwrap_or_else(|| default_client_id(&name)),
        name,
        broker,
        session_expiry: session_expiry.unwrap_or(SESSION_EXPIRY),
        user,
        password: None,
        keep_alive,
        receive_maximum: receive_maximum.unwrap_or(board.receive_maximum),
        packet_bytes_max: packet_bytes_max.unwrap_or(board.packet_bytes_max),
        role,
    };
    Some(Loaded { config, places })
}

/// Reads `qos`, 2 unless given: exactly once is what FogFun is for.
pub(super) fn qos(fields: &mut Fields<'_>, report: &mut Report) -> Qos {
    let words = [("0", Qos::AtMostOnce), ("1", Qos::AtLeastOnce), ("2", Qos::ExactlyOnce)];
    fields.optional("qos").and_then(|node| fields::one_of(node, &words, report)).unwrap_or(Qos::ExactlyOnce)
}

/// Reads the name of a format.
pub(super) fn format(node: &Node, report: &mut Report) -> Option<Format> {
    let words =
        [("raw", Format::Raw), ("text", Format::Text), ("json", Format::Json), ("number", Format::Number)];
    fields::one_of(node, &words, report)
}

/// Reads the user's name, and which file has the password.
pub(super) fn login(
    fields: &mut Fields<'_>,
    protocol: Protocol,
    files: &mut Vec<NamedFile>,
    report: &mut Report,
) -> Option<String> {
    let user_node = fields.optional("user");
    let user = user_node.and_then(|node| fields::text(node, report)).map(str::to_owned);
    let password_node = fields.optional("passwordFile");
    if let Some(path) = file(password_node, FileUse::Password, files, report)
        && protocol == Protocol::V311
        && user_node.is_none()
    {
        let message = format!("a password ({}) without `user`", path.display());
        let place = password_node.map_or(fields.place(), |node| node.place);
        report.add(place, message, "MQTT 3.1.1 has passwords of users only".to_owned());
    }
    if let Some(node) = fields.optional("password") {
        let help =
            "write it into a file that only FogFun can read, and name it: `passwordFile: …`".to_owned();
        report.add(node.place, "a password does not belong here", help);
    }
    user
}

/// Reads the keep-alive, and where it says so.
pub(super) fn keep_alive(fields: &mut Fields<'_>, report: &mut Report) -> (Duration, Option<Place>) {
    let node = fields.optional("keepAlive");
    let given = node.and_then(|node| fields::duration(node, KEEP_ALIVE_MIN, KEEP_ALIVE_MAX, report));
    (given.unwrap_or(KEEP_ALIVE), node.map(|node| node.place))
}

/// Reads where the broker is and how to speak to it.
pub(super) fn broker(fields: &mut Fields<'_>, files: &mut Vec<NamedFile>, report: &mut Report) -> Broker {
    let address_node = fields.required("address", "mqtt://localhost");
    let url = address_node.and_then(|node| {
        BrokerUrl::parse(fields::text(node, report)?)
            .map_err(|(message, help)| report.add(node.place, message, help))
            .ok()
    });
    let protocols = [("5", Protocol::V5), ("3.1.1", Protocol::V311)];
    let protocol = fields
        .optional("protocol")
        .and_then(|node| fields::one_of(node, &protocols, report))
        .unwrap_or(Protocol::V5);
    let ca_node = fields.optional("caFile");
    let certificate_node = fields.optional("clientCertificateFile");
    let key_node = fields.optional("clientKeyFile");
    let given = [ca_node, certificate_node, key_node];
    let ca = file(ca_node, FileUse::Ca, files, report);
    let certificate = file(certificate_node, FileUse::ClientCertificate, files, report);
    let key = file(key_node, FileUse::ClientKey, files, report);
    let tls = url.as_ref().is_some_and(|url| url.tls);
    if let (false, Some(_), Some(node)) = (tls, &url, given.iter().flatten().next()) {
        report.add(
            node.place,
            "this file is for TLS, and `mqtt://` has none",
            "did you mean `mqtts://`?".to_owned(),
        );
    }
    match (certificate_node, key_node) {
        (Some(node), None) => report.add(node.place, "a client certificate without `clientKeyFile`", None),
        (None, Some(node)) => report.add(node.place, "a client key without `clientCertificateFile`", None),
        _ => {}
    }
    let (host, port) = url.map_or_else(|| (String::new(), 0), |url| (url.host, url.port));
    Broker {
        host,
        port,
        protocol,
        tls: tls.then(|| TlsFiles { ca, client: certificate.zip(key), key_password: None }),
    }
}

fn file(
    node: Option<&Node>,
    used_as: FileUse,
    files: &mut Vec<NamedFile>,
    report: &mut Report,
) -> Option<PathBuf> {
    let node = node?;
    let path = PathBuf::from(fields::text(node, report)?);
    files.push(NamedFile { used_as, path: path.clone(), place: node.place });
    Some(path)
}

/// Reads a client id.
pub(super) fn client_id(node: &Node, report: &mut Report) -> Option<String> {
    let text = fields::text(node, report)?;
    if CLIENT_ID_BYTES_MAX < text.len() {
        let message =
            format!("a client id has at most {CLIENT_ID_BYTES_MAX} bytes, this one has {}", text.len());
        report.add(node.place, message, None);
        return None;
    }
    Some(text.to_owned())
}

fn session_expiry(fields: &mut Fields<'_>, protocol: Protocol, report: &mut Report) -> Option<Duration> {
    let node = fields.optional("sessionExpiry")?;
    if protocol == Protocol::V311 {
        let message = "MQTT 3.1.1 has no session expiry";
        report.add(node.place, message, "leave it out: the broker's own setting counts".to_owned());
        return None;
    }
    let expiry = fields::duration(node, SESSION_EXPIRY_MIN, SESSION_EXPIRY_MAX, report)?;
    if 0 < expiry.subsec_nanos() {
        report.add(node.place, "MQTT counts session expiry in whole seconds", None);
        return None;
    }
    Some(expiry)
}

/// `fogfun-example-fridges` for `example/fridges`.
fn default_client_id(name: &TypeName) -> String {
    format!("fogfun-{}-{}", name.namespace(), name.name())
}

/// A week: longer than a board is off for repair, shorter than a broker minds.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 86_400);
const SESSION_EXPIRY_MIN: Duration = Duration::from_secs(1);
/// MQTT counts seconds with 32 bits, and the last value means for ever.
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A second is the least that a loaded board and a slow network keep up with.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);
/// MQTT counts seconds with 16 bits.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(u16::MAX as u64);
/// Long enough for any name, short enough for any broker.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// Room for a topic, some properties and a reading.
const PACKET_BYTES_MIN: u32 = 256;
/// The largest value, and 64 KiB for topic and properties.
#[expect(clippy::cast_possible_truncation, reason = "asserted below")]
const PACKET_BYTES_MAX: u32 = VALUE_BYTES_MAX as u32 + 65_536;
const _: () = assert!(VALUE_BYTES_MAX < 1 << 28);
