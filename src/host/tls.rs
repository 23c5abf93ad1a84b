//! Whom do we trust, and who are we? rustls with ring, from PEM files.
//!
//! A private key may be encrypted (PKCS#8, PBES2: what `openssl pkcs8 -topk8` and `openssl req` write); it is decrypted in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64_MIME_PERMISSIVE;
use futures_rustls::rustls;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::credentials::{Secret, TlsFiles};

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
    let key = private_key(key, files.key_password.as_ref())?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::Rustls)
}

fn private_key(path: &Path, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |text: String| TlsError::File { path: path.display().to_string(), text };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let Some(encrypted) = encrypted_part(&text) else {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| wrong(error.to_string()));
    };
    let Some(password) = password else {
        return Err(wrong("the key is encrypted and no password is given".to_owned()));
    };
    let encrypted = BASE64_MIME_PERMISSIVE
        .decode(encrypted.trim().as_bytes())
        .map_err(|error| wrong(format!("no PEM: {error}")))?;
    let decrypted = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_slice())
        .map_err(|error| wrong(format!("encrypted in a way that is not known here: {error}")))?
        .decrypt(password.0.as_bytes())
        .map_err(|_| wrong("the password does not open the key".to_owned()))?;
    Ok(PrivatePkcs8KeyDer::from(decrypted.as_bytes().to_vec()).into())
}

/// What stands between the lines that frame an encrypted key.
fn encrypted_part(pem: &str) -> Option<&str> {
    let (_, rest) = pem.split_once("-----BEGIN ENCRYPTED PRIVATE KEY-----")?;
    rest.split_once("-----END").map(|(part, _)| part)
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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
