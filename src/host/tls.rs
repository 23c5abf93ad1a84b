//! Whom do we trust, and who are we? rustls with ring, from PEM files.

use std::io;
use std::sync::Arc;

use futures_rustls::rustls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::credentials::TlsFiles;

/// Begins the client side of a TLS connection to `host`. The files are read each time, so that a renewed certificate is taken.
///
/// # Errors
/// A file that cannot be read or is no PEM, a certificate that does not fit its key, a host that cannot be a server's name.
pub fn connection(files: &TlsFiles, host: &str) -> Result<ClientConnection, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
    ClientConnection::new(Arc::new(config(files)?), name).map_err(TlsError::Rustls)
}

/// The configuration of connections that trust and show what `files` say.
///
/// # Errors
/// As [`connection`].
pub fn config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Rustls)?
        .with_root_certificates(roots(files)?);
    let Some((certificate, key)) = &files.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::File { path: key.display().to_string(), text: error.to_string() })?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::Rustls)
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(TlsError::Rustls)?;
            }
        }
        None => {
            // Systems carry certificates that rustls cannot read; the others do.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::File { path: path.display().to_string(), text: error.to_string() })
}

/// TLS cannot begin. The configuration's fault; trying again after the file is mended may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing, unreadable or no PEM.
    #[error("{path}: {text}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        text: String,
    },
    /// Neither a CA file nor the system names an authority to trust.
    #[error("no certificate authority to trust: name one with `ca`")]
    NoRoots,
    /// The host is neither a DNS name nor an address.
    #[error("`{0}` cannot be the name of a TLS server")]
    Name(String),
    /// A certificate or key that rustls does not take.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}
