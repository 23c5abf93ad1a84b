//! What may an endpoint cost on this board? An endpoint's document between reading and running: its places, and its share.
//!
//! - Connections to all endpoints, each with the largest body under way, hold at most a quarter of the board's memory; endpoints
//!   share it evenly. An endpoint keeps one connection and bodies of [`PAYLOAD_BYTES_FLOOR`] even if that is more.
//! - What the document does not say bends first, silently. Of what it says, first `payload_max_bytes` down to the floor, then
//!   `pool_size`, each with a warning.

use std::path::Path;

use super::board::Board;
use super::error::{Place, Report};
use super::specification::{FileUse, NamedFile};
use crate::credentials::Secret;
use crate::limits::VALUE_BYTES_MAX;
use crate::remote::config::EndpointConfig;

/// An endpoint that was read, and its places.
pub(super) struct LoadedEndpoint {
    pub(super) config: EndpointConfig,
    pub(super) places: EndpointPlaces,
}

/// Where in the file an endpoint says what, and what it says itself.
#[derive(Debug, Clone)]
pub(super) struct EndpointPlaces {
    /// Of `functions`.
    pub(super) functions: Place,
    pub(super) pool_size: Option<Asked>,
    pub(super) payload_bytes_max: Option<Asked>,
    pub(super) batch_bytes: Option<Asked>,
    pub(super) attempts_given: bool,
    pub(super) backoff_first_given: bool,
    pub(super) backoff_max_given: bool,
    pub(super) files: Vec<NamedFile>,
}

/// A number that the document asks for, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) place: Place,
}

/// What each of so many endpoints may hold in bodies under way, in bytes.
pub(super) fn share_bytes(board: &Board, endpoints: usize) -> u64 {
    board.memory_bytes / 4 / u64::try_from(endpoints.max(1)).unwrap_or(u64::MAX)
}

impl EndpointPlaces {
    pub(super) fn new(functions: Place) -> Self {
        Self {
            functions,
            pool_size: None,
            payload_bytes_max: None,
            batch_bytes: None,
            attempts_given: false,
            backoff_first_given: false,
            backoff_max_given: false,
            files: Vec::new(),
        }
    }

    /// Fits an endpoint into a share of the board's memory, and takes the board's retries where it says none of its own.
    pub(super) fn fit(&self, config: &mut EndpointConfig, board: &Board, share: u64, report: &mut Report) {
        let (payload, pool) = self.affordable(share);
        config.transport.payload_bytes_max = usize::try_from(payload).unwrap_or(usize::MAX);
        config.transport.pool_size = u16::try_from(pool).unwrap_or(u16::MAX);
        let help = format!(
            "connections times bodies are at most {share} bytes here: an endpoint's part of a quarter of the board's `memory_bytes`"
        );
        warn_if_less("payload_max_bytes", self.payload_bytes_max, payload, &help, report);
        warn_if_less("pool_size", self.pool_size, pool, &help, report);
        // The other half of a request is for its states.
        let half = payload / 2;
        let batch = self.batch_bytes.map_or(half, |asked| asked.number.min(half));
        config.batch.bytes_max = usize::try_from(batch).unwrap_or(usize::MAX);
        let help = format!("at most half of the largest body, which has {payload} bytes here");
        warn_if_less("bytes", self.batch_bytes, batch, &help, report);
        let retry = &mut config.retry;
        if !self.attempts_given {
            retry.attempts_max = board.attempts_max;
        }
        let (first, last) = (
            std::time::Duration::from_millis(board.retry_first_ms),
            std::time::Duration::from_millis(board.retry_max_ms),
        );
        match (self.backoff_first_given, self.backoff_max_given) {
            (true, true) => {}
            (true, false) => retry.backoff_max = last.max(retry.backoff_first),
            (false, true) => retry.backoff_first = first.min(retry.backoff_max),
            (false, false) => (retry.backoff_first, retry.backoff_max) = (first, last),
        }
    }

    /// The largest body in bytes, and the number of connections.
    fn affordable(&self, share: u64) -> (u64, u64) {
        let (mut payload, mut pool) = match (self.payload_bytes_max, self.pool_size) {
            (Some(payload), None) => (payload.number, (share / payload.number.max(1)).clamp(1, POOL_SIZE)),
            (payload, pool) => (
                payload.map_or(PAYLOAD_BYTES_MAX, |asked| asked.number),
                pool.map_or(POOL_SIZE, |asked| asked.number),
            ),
        };
        if share < payload.saturating_mul(pool) {
            payload = payload.min((share / pool.max(1)).max(PAYLOAD_BYTES_FLOOR));
        }
        if share < payload.saturating_mul(pool) {
            pool = (share / payload.max(1)).max(1);
        }
        (payload, pool.min(u64::from(u16::MAX)))
    }

    /// Reads the secrets of an endpoint and makes sure that the files of TLS can be read.
    pub(super) fn read_files(
        &self,
        config: &mut EndpointConfig,
        read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
        report: &mut Report,
    ) {
        for file in &self.files {
            let Some(bytes) = file.read(read, report) else { continue };
            match file.used_as {
                FileUse::KeyPassword => {
                    config.transport.tls.key_password = file.secret(bytes, report).map(Secret);
                }
                FileUse::Header(index) => {
                    let Some(value) = file.secret(bytes, report) else { continue };
                    if let Err(what) = check_header_value(&value) {
                        report.add(file.place, format!("`{}` {what}", file.path.display()), None);
                    } else if let Some((_, secret)) = config.transport.headers.get_mut(index) {
                        *secret = Secret(value);
                    }
                }
                FileUse::Password | FileUse::Ca | FileUse::ClientCertificate | FileUse::ClientKey => {
                    file.check_pem(&bytes, report);
                }
            }
        }
    }
}

impl LoadedEndpoint {
    /// Makes paths relative to the module's directory.
    pub(super) fn relative_to(mut self, directory: &Path) -> Self {
        for file in &mut self.places.files {
            file.path = directory.join(&file.path);
        }
        self.config.transport.tls.relative_to(directory);
        self
    }
}

/// Can this be the value of a header field? If not, what it does instead.
pub(super) fn check_header_value(value: &str) -> Result<(), &'static str> {
    if crate::limits::HEADER_BYTES_MAX < value.len() {
        return Err("is longer than the 4,096 bytes of a header field");
    }
    let is_visible = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if value.is_empty() || value.trim() != value || !value.bytes().all(is_visible) {
        return Err("is no value of a header field: visible ASCII, no blanks at its ends");
    }
    Ok(())
}

fn warn_if_less(name: &str, asked: Option<Asked>, used: u64, help: &str, report: &mut Report) {
    if let Some(asked) = asked.filter(|asked| used < asked.number) {
        let message = format!("`{name}` {} is more than this board affords: {used} is used", asked.number);
        report.warn(asked.place, message, help.to_owned());
    }
}

/// StateFun's largest body, in bytes, of endpoints that say none.
const PAYLOAD_BYTES_MAX: u64 = 33_554_432;
/// StateFun's connections, of endpoints that say none.
const POOL_SIZE: u64 = 1_024;
/// A body has room for the largest state and the largest message, in bytes.
const PAYLOAD_BYTES_FLOOR: u64 = 2 * VALUE_BYTES_MAX as u64;

const _: () = assert!(crate::limits::HEADER_BYTES_MAX == 4_096);
