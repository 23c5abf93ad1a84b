//! What does a `module.yaml` say? The sessions it declares, and the places to name when something turns out wrong later.
//!
//! Documents are read one by one by their kinds; what concerns several of them is checked here. Reading is pure: the environment
//! is a function, and files that a session names are read by [`Specification::with_files`] through another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::board::Board;
use super::error::{LoadErrors, Place, Report, Source};
use super::fields::{self, Fields};
use super::kinds::{KINDS, Loading, UNSUPPORTED, twice};
use super::suggest;
use super::yaml::{self, Node, Value};
use crate::address::TypeName;
use crate::credentials::{Secret, TlsFiles};
use crate::mqtt::config::{Role, SessionConfig};

/// A `module.yaml`, read and checked by itself. [`Application::link`](super::Application::link) checks it against the program.
#[derive(Debug, Clone)]
pub struct Specification {
    /// The sessions, in the order of the file.
    pub sessions: Vec<Arc<SessionConfig>>,
    /// As many, in the same order.
    pub(super) places: Vec<Places>,
    pub(super) source: Arc<Source>,
}

impl Specification {
    /// Reads a `module.yaml`. Paths in it are relative to the directory of `file_name`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file.
    pub fn parse(
        file_name: &str,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, LoadErrors> {
        let source = Arc::new(Source::new(file_name, text));
        let mut report = Report::new(Arc::clone(&source));
        let documents = yaml::read(text, environment, &mut report);
        let mut loading = Loading { report: &mut report, sessions: Vec::new() };
        for document in &documents {
            read_document(document, &mut loading);
        }
        let loaded = loading.sessions;
        if documents.is_empty() {
            let help = "for example a document of kind `fogfun.mqtt.v1/ingress`".to_owned();
            report.add_unless_any(Place::NOWHERE, "the file says nothing", help);
        }
        check_together(&loaded, &mut report);
        let directory = Path::new(file_name).parent().unwrap_or(Path::new(""));
        let (sessions, places) = loaded.into_iter().map(|loaded| loaded.relative_to(directory)).unzip();
        report.finish(Self { sessions, places, source })
    }

    /// Takes the board's bounds where the file says none of its own.
    ///
    /// # Errors
    /// If a session's keep-alive is so short that one invocation could outlast it.
    pub fn with_board(mut self, board: &Board) -> Result<Self, LoadErrors> {
        let mut report = Report::new(Arc::clone(&self.source));
        for (session, places) in self.sessions.iter_mut().zip(&self.places) {
            let config = Arc::make_mut(session);
            if !places.receive_maximum_given {
                config.receive_maximum = board.session_receive_maximum();
            }
            if !places.packet_bytes_max_given {
                config.packet_bytes_max = board.packet_bytes_max;
            }
            let least = board.invocation_max() * 2;
            if config.keep_alive < least {
                let message = format!(
                    "a keep-alive of {:?} is less than twice the longest invocation ({:?})",
                    config.keep_alive,
                    board.invocation_max()
                );
                let help = format!("at least {least:?}; the board file says `invocation_max_ms`");
                report.add(places.keep_alive.unwrap_or(places.id), message, help);
            }
            if matches!(config.role, Role::Egress(_)) {
                continue;
            }
            let reserve = u64::from(config.receive_maximum) * u64::from(config.packet_bytes_max);
            let share = board.worker_memory_bytes() / 2;
            if share < reserve {
                let message = format!(
                    "`receiveMaximum` {} × `packetBytesMax` {} is more than half of a worker's memory ({share} bytes)",
                    config.receive_maximum, config.packet_bytes_max
                );
                report.add(places.id, message, None);
            }
        }
        report.finish(self)
    }

    /// Reads the passwords and makes sure that the files of TLS can be read.
    ///
    /// # Errors
    /// Files that cannot be read, are empty, or are no PEM.
    pub fn with_files(mut self, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Self, LoadErrors> {
        let mut report = Report::new(Arc::clone(&self.source));
        for (session, places) in self.sessions.iter_mut().zip(&self.places) {
            for (used_as, path, place) in &places.files {
                let bytes = match read(path) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        report.add(*place, format!("cannot read `{}`: {error}", path.display()), None);
                        continue;
                    }
                };
                match used_as {
                    FileUse::Password => match password(bytes) {
                        Ok(password) => Arc::make_mut(session).password = Some(Secret(password)),
                        Err(what) => report.add(*place, format!("`{}` {what}", path.display()), None),
                    },
                    FileUse::Ca | FileUse::ClientCertificate | FileUse::ClientKey => {
                        if !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
                            report.add(*place, format!("`{}` is no PEM file", path.display()), None);
                        }
                    }
                }
            }
        }
        report.finish(self)
    }
}

/// A session that was read, and its places.
pub(super) struct Loaded {
    pub(super) config: SessionConfig,
    pub(super) places: Places,
}

/// Where in the file a session says what, and what it says itself.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) id: Place,
    pub(super) client_id: Option<Place>,
    pub(super) keep_alive: Option<Place>,
    pub(super) receive_maximum_given: bool,
    pub(super) packet_bytes_max_given: bool,
    /// As many as there are subscriptions.
    pub(super) subscriptions: Vec<Place>,
    /// Of all subscriptions.
    pub(super) targets: Vec<(TypeName, Place)>,
    pub(super) files: Vec<(FileUse, PathBuf, Place)>,
}

impl Places {
    pub(super) fn new(id: Place) -> Self {
        Self {
            id,
            client_id: None,
            keep_alive: None,
            receive_maximum_given: false,
            packet_bytes_max_given: false,
            subscriptions: Vec::new(),
            targets: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileUse {
    Password,
    Ca,
    ClientCertificate,
    ClientKey,
}

impl Loaded {
    fn relative_to(mut self, directory: &Path) -> (Arc<SessionConfig>, Places) {
        for (_, path, _) in &mut self.places.files {
            *path = directory.join(&*path);
        }
        if let Some(TlsFiles { ca, client, .. }) = &mut self.config.broker.tls {
            let client = client.iter_mut().flat_map(|(certificate, key)| [certificate, key]);
            for path in ca.iter_mut().chain(client) {
                *path = directory.join(&*path);
            }
        }
        (Arc::new(self.config), self.places)
    }
}

fn read_document(document: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(document, "a document", report) else {
        return;
    };
    if let Some(place) = fields.key_place("version").filter(|_| fields.key_place("kind").is_none()) {
        report.add(place, "this is the old form of a module, with `version`", LEGACY.to_owned());
        return;
    }
    let kind = fields.required("kind", "fogfun.mqtt.v1/ingress");
    let spec = fields.required("spec", "{…}");
    fields.finish(report);
    let Some(kind_node) = kind else { return };
    let Some(kind) = fields::type_name(kind_node, report) else {
        return;
    };
    if let Some((_, instead)) = UNSUPPORTED.iter().find(|(name, _)| *name == kind.as_str()) {
        report.add(kind_node.place, format!("the kind `{kind}` is not supported"), (*instead).to_owned());
        return;
    }
    let Some(known) = KINDS.iter().find(|known| known.name == kind.as_str()) else {
        let names = KINDS.iter().map(|known| known.name);
        report.add(kind_node.place, format!("unknown kind `{kind}`"), suggest::help(kind.as_str(), names));
        return;
    };
    if let Some(spec) = spec.filter(|spec| spec.value != Value::Broken) {
        (known.read)(spec, loading);
    }
}

/// What is wrong only if one looks at all documents.
fn check_together(loaded: &[Loaded], report: &mut Report) {
    for (index, Loaded { config, places }) in loaded.iter().enumerate() {
        for earlier in loaded.iter().take(index) {
            if earlier.config.name == config.name {
                twice(places.id, "the id", config.name.as_str(), earlier.places.id, report);
            } else if earlier.config.client_id == config.client_id
                && (&earlier.config.broker.host, earlier.config.broker.port)
                    == (&config.broker.host, config.broker.port)
            {
                let message = format!(
                    "`{}` and `{}` have the same client id `{}` at the same broker",
                    earlier.config.name, config.name, config.client_id
                );
                let help = "the broker would disconnect one for the other, again and again";
                report.add(places.client_id.unwrap_or(places.id), message, help.to_owned());
            }
        }
    }
}

/// A password is the file without its last line's end.
fn password(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err("is empty");
    }
    if usize::from(u16::MAX) < password.len() {
        return Err("is too long for a password: MQTT has 65,535 bytes");
    }
    Ok(password.to_owned())
}

const LEGACY: &str =
    "write one document per ingress and egress, separated by `---`, each with `kind` and `spec`:
  kind: fogfun.mqtt.v1/ingress
  spec:
    id: example/in
    …
`meta.id` becomes `spec.id`, `typeUrl` becomes `valueType`";

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
