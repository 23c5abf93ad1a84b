//! What does a `module.yaml` say? Sessions, endpoints and ports, and the places to name when something turns out wrong later.
//!
//! Documents are read one by one by their kinds; what concerns several of them is checked here. Reading is pure: the environment
//! is a function, and files that a session names are read by [`Specification::with_files`] through another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::endpoint::{EndpointPlaces, LoadedEndpoint, share_bytes};
use super::error::{LoadError, LoadErrors, Place, Report, Source};
use super::fields::{self, Fields};
use super::kinds::{KINDS, LoadedHttp, LoadedMetrics, Loading, Unsupported, twice};
use super::yaml::{self, Node, Value};
use super::{legacy, suggest, translate};
use crate::address::TypeName;
use crate::credentials::Secret;
use crate::http_config::HttpConfig;
use crate::mqtt::config::{MetricsConfig, Role, SessionConfig};
use crate::remote::config::{EndpointConfig, Served};

/// A `module.yaml`, read and checked by itself. [`Application::link`](super::Application::link) checks it against the program.
#[derive(Debug, Clone)]
pub struct Specification {
    /// The sessions, in the order of the file.
    pub sessions: Vec<Arc<SessionConfig>>,
    /// The endpoints of remote functions, in the order of the file.
    pub endpoints: Vec<Arc<EndpointConfig>>,
    /// What is served over HTTP, in the order of the file.
    pub http: Vec<Arc<HttpConfig>>,
    /// Which broker hears what is measured.
    pub metrics: Option<Arc<MetricsConfig>>,
    /// What a person should know, though it keeps nothing from starting.
    pub warnings: Vec<LoadError>,
    /// As many as sessions, in the same order.
    pub(super) places: Vec<Places>,
    /// As many as endpoints, in the same order.
    pub(super) endpoint_places: Vec<EndpointPlaces>,
    /// As many as are served over HTTP, in the same order.
    pub(super) http_places: Vec<HttpPlaces>,
    /// There if `metrics` is.
    pub(super) metrics_places: Option<MetricsPlaces>,
    pub(super) source: Arc<Source>,
}

/// Where in the file a port says what.
#[derive(Debug, Clone)]
pub(super) struct HttpPlaces {
    pub(super) name: Place,
    pub(super) port: Place,
    pub(super) targets: Vec<(Served, Place)>,
}

/// Where in the file the metrics' broker says what.
#[derive(Debug, Clone)]
pub(super) struct MetricsPlaces {
    pub(super) spec: Place,
    pub(super) client_id: Option<Place>,
    pub(super) keep_alive: Option<Place>,
    pub(super) files: Vec<NamedFile>,
}

impl MetricsPlaces {
    pub(super) fn new(spec: Place) -> Self {
        Self { spec, client_id: None, keep_alive: None, files: Vec::new() }
    }
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
        let documents = yaml::read(text, Some(environment), &mut report);
        let mut loading = Loading {
            report: &mut report,
            sessions: Vec::new(),
            endpoints: Vec::new(),
            http: Vec::new(),
            metrics: Vec::new(),
        };
        read_documents(&documents, &mut loading);
        let Loading { sessions: loaded, endpoints, http, metrics, .. } = loading;
        if documents.is_empty() {
            let help = "for example a document of kind `fogfun.mqtt.v1/ingress`".to_owned();
            report.add_unless_any(Place::NOWHERE, "the file says nothing", help);
        }
        check_together(&loaded, &mut report);
        check_endpoints(&endpoints, &mut report);
        check_http(&http, &loaded, &mut report);
        check_metrics(&metrics, &loaded, &mut report);
        let directory = Path::new(file_name).parent().unwrap_or(Path::new(""));
        let (sessions, places) = loaded.into_iter().map(|loaded| loaded.relative_to(directory)).unzip();
        let (endpoints, endpoint_places) = (endpoints.into_iter())
            .map(|loaded| loaded.relative_to(directory))
            .map(|loaded| (Arc::new(loaded.config), loaded.places))
            .unzip();
        let (http, http_places) =
            http.into_iter().map(|loaded| (Arc::new(loaded.config), loaded.places)).unzip();
        let metrics = metrics.into_iter().next().map(|loaded| loaded.relative_to(directory));
        let (metrics, metrics_places) = metrics.unzip();
        let warnings = report.take_warnings();
        let mut specification = Self {
            sessions,
            endpoints,
            http,
            metrics,
            warnings,
            places,
            endpoint_places,
            http_places,
            metrics_places,
            source,
        };
        // Until a board says otherwise; who hands in none gets no warning of one.
        let unheard = &mut Report::new(Arc::clone(&specification.source));
        specification.fit_endpoints(&Board::default(), unheard);
        report.finish(specification)
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
            check_keep_alive(config.keep_alive, places.keep_alive.unwrap_or(places.id), board, &mut report);
            if matches!(config.role, Role::Egress(_)) {
                continue;
            }
            let reserve = u64::from(config.receive_maximum) * u64::from(config.packet_bytes_max);
            let share = board.worker_account_bytes() / 2;
            if share < reserve {
                let message = format!(
                    "`receiveMaximum` {} × `packetBytesMax` {} is more than half of a worker's account ({share} bytes)",
                    config.receive_maximum, config.packet_bytes_max
                );
                report.add(places.id, message, None);
            }
        }
        if let (Some(config), Some(places)) = (&self.metrics, &self.metrics_places) {
            check_keep_alive(config.keep_alive, places.keep_alive.unwrap_or(places.spec), board, &mut report);
        }
        self.fit_endpoints(board, &mut report);
        self.warnings.extend(report.take_warnings());
        report.finish(self)
    }

    /// Reads the passwords and makes sure that the files of TLS can be read.
    ///
    /// # Errors
    /// Files that cannot be read, are empty, or are no PEM.
    pub fn with_files(mut self, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Self, LoadErrors> {
        let mut report = Report::new(Arc::clone(&self.source));
        for (session, places) in self.sessions.iter_mut().zip(&self.places) {
            if let Some(password) = read_password(&places.files, read, &mut report) {
                Arc::make_mut(session).password = Some(password);
            }
        }
        if let (Some(config), Some(places)) = (&mut self.metrics, &self.metrics_places)
            && let Some(password) = read_password(&places.files, read, &mut report)
        {
            Arc::make_mut(config).password = Some(password);
        }
        for (endpoint, places) in self.endpoints.iter_mut().zip(&self.endpoint_places) {
            if !places.files.is_empty() {
                places.read_files(Arc::make_mut(endpoint), read, &mut report);
            }
        }
        report.finish(self)
    }

    fn fit_endpoints(&mut self, board: &Board, report: &mut Report) {
        let share = share_bytes(board, self.endpoints.len());
        for (endpoint, places) in self.endpoints.iter_mut().zip(&self.endpoint_places) {
            places.fit(Arc::make_mut(endpoint), board, share, report);
        }
    }
}

/// Reads what a connection to a broker needs: the password if it has one; of TLS, whether the files are any.
fn read_password(
    files: &[NamedFile],
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    report: &mut Report,
) -> Option<Secret> {
    let mut secret = None;
    for file in files {
        let Some(bytes) = file.read(read, report) else { continue };
        if file.used_as != FileUse::Password {
            file.check_pem(&bytes, report);
        } else if let Some(password) = file.secret(bytes, report) {
            if usize::from(u16::MAX) < password.len() {
                let what = "is too long for a password: MQTT has 65,535 bytes";
                report.add(file.place, format!("`{}` {what}", file.path.display()), None);
            }
            secret = Some(Secret(password));
        }
    }
    secret
}

/// An invocation stops what its thread does, and a broker must not take that for silence.
fn check_keep_alive(keep_alive: Duration, place: Place, board: &Board, report: &mut Report) {
    let least = board.invocation_max() * 2;
    if keep_alive < least {
        let message = format!(
            "a keep-alive of {keep_alive:?} is less than twice the longest invocation ({:?})",
            board.invocation_max()
        );
        let help = format!("at least {least:?}; the board file says `invocation_max_ms`");
        report.add(place, message, help);
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
    pub(super) files: Vec<NamedFile>,
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

/// A file that is to be read before anything runs.
#[derive(Debug, Clone)]
pub(super) struct NamedFile {
    pub(super) used_as: FileUse,
    pub(super) path: PathBuf,
    pub(super) place: Place,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileUse {
    Password,
    Ca,
    ClientCertificate,
    ClientKey,
    KeyPassword,
    /// The value of the header field at this place of the endpoint's list.
    Header(usize),
}

impl NamedFile {
    /// What is in it; that it cannot be read is reported.
    pub(super) fn read(
        &self,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
        report: &mut Report,
    ) -> Option<Vec<u8>> {
        let told = |error: io::Error| {
            report.add(self.place, format!("cannot read `{}`: {error}", self.path.display()), None)
        };
        read(&self.path).map_err(told).ok()
    }

    /// A secret is the file without its last line's end.
    pub(super) fn secret(&self, bytes: Vec<u8>, report: &mut Report) -> Option<String> {
        let Ok(text) = String::from_utf8(bytes) else {
            report.add(self.place, format!("`{}` is not UTF-8", self.path.display()), None);
            return None;
        };
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            report.add(self.place, format!("`{}` is empty", self.path.display()), None);
            return None;
        }
        Some(secret.to_owned())
    }

    pub(super) fn check_pem(&self, bytes: &[u8], report: &mut Report) {
        if !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            report.add(self.place, format!("`{}` is no PEM file", self.path.display()), None);
        }
    }
}

impl Loaded {
    fn relative_to(mut self, directory: &Path) -> (Arc<SessionConfig>, Places) {
        for file in &mut self.places.files {
            file.path = directory.join(&file.path);
        }
        if let Some(files) = &mut self.config.broker.tls {
            files.relative_to(directory);
        }
        (Arc::new(self.config), self.places)
    }
}

impl LoadedMetrics {
    fn relative_to(mut self, directory: &Path) -> (Arc<MetricsConfig>, MetricsPlaces) {
        for file in &mut self.places.files {
            file.path = directory.join(&file.path);
        }
        if let Some(files) = &mut self.config.broker.tls {
            files.relative_to(directory);
        }
        (Arc::new(self.config), self.places)
    }
}

/// Reads every document; a lone one with `version` is the old form of all.
fn read_documents(documents: &[Node], loading: &mut Loading<'_>) {
    if let [only] = documents
        && legacy::is_legacy(only)
    {
        for document in legacy::modern(only, loading.report) {
            read_document(&document, loading);
        }
        return;
    }
    for document in documents {
        read_document(document, loading);
    }
}

fn read_document(document: &Node, loading: &mut Loading<'_>) {
    let report = &mut *loading.report;
    let Some(mut fields) = Fields::of(document, "a document", report) else {
        return;
    };
    if let Some(place) = fields.key_place("version").filter(|_| fields.key_place("kind").is_none()) {
        let help = "one document with `version`, or documents with `kind` and `spec`".to_owned();
        report.add(place, "the old form of a module stands alone in its file", help);
        return;
    }
    let kind = fields.required("kind", "fogfun.mqtt.v1/ingress");
    let spec = fields.required("spec", "{…}");
    fields.finish(report);
    let Some(kind_node) = kind else { return };
    let Some(kind) = fields::type_name(kind_node, report) else {
        return;
    };
    if let Some(Unsupported { message, .. }) = Unsupported::of(kind.as_str()) {
        let help = format!(
            "use this instead; `fogfun check --translate` prints the whole file:\n{}",
            translate::document(kind.as_str(), spec)
        );
        report.add(kind_node.place, format!("`{kind}`: {message}"), help);
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

/// One broker is told, and under a client id that no session has: the broker would end that session's connection.
fn check_metrics(loaded: &[LoadedMetrics], sessions: &[Loaded], report: &mut Report) {
    let [first, further @ ..] = loaded else { return };
    for LoadedMetrics { places, .. } in further {
        let help = format!("the first is in line {}; a broker's bridge tells others", first.places.spec.line);
        report.add(places.spec, "one broker is told what is measured", help);
    }
    let (config, places) = (&first.config, &first.places);
    for Loaded { config: session, .. } in sessions {
        let same_broker =
            (&session.broker.host, session.broker.port) == (&config.broker.host, config.broker.port);
        if same_broker && config.client_id.as_ref() == Some(&session.client_id) {
            let message = format!(
                "the metrics and `{}` have the same client id `{}` at the same broker",
                session.name, session.client_id
            );
            let help = "the broker would disconnect one for the other, again and again";
            report.add(places.client_id.unwrap_or(places.spec), message, help.to_owned());
        }
    }
}

/// Who serves a function must be clear.
fn check_endpoints(loaded: &[LoadedEndpoint], report: &mut Report) {
    for (index, LoadedEndpoint { config, places }) in loaded.iter().enumerate() {
        let earlier = loaded.iter().take(index).find(|earlier| earlier.config.functions == config.functions);
        let Some(earlier) = earlier else { continue };
        let (what, name) = match &config.functions {
            Served::Function(function_type) => ("the function", function_type.as_str()),
            Served::Namespace(namespace) => ("the namespace", namespace.as_str()),
        };
        let message = format!("{what} `{name}` has a second endpoint");
        report.add(
            places.functions,
            message,
            format!("the first is in line {}", earlier.places.functions.line),
        );
    }
}

fn check_http(loaded: &[LoadedHttp], sessions: &[Loaded], report: &mut Report) {
    for (index, LoadedHttp { config, places }) in loaded.iter().enumerate() {
        let names = sessions.iter().map(|session| (&session.config.name, session.places.id));
        let names =
            names.chain(loaded.iter().take(index).map(|earlier| (&earlier.config.name, earlier.places.name)));
        for (name, first) in names {
            if *name == config.name {
                twice(places.name, "the id", config.name.as_str(), first, report);
            }
        }
        for LoadedHttp { config: earlier, places: first } in loaded.iter().take(index) {
            let (ours, theirs) = (config.listen, earlier.listen);
            let same_address =
                ours.ip() == theirs.ip() || ours.ip().is_unspecified() || theirs.ip().is_unspecified();
            if same_address && ours.port() == theirs.port() {
                let message = format!(
                    "`{}` and `{}` listen at the same port {}",
                    earlier.name,
                    config.name,
                    ours.port()
                );
                report.add(places.port, message, format!("the first is in line {}", first.port.line));
            }
        }
    }
}

/// With what every PEM section begins.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";
