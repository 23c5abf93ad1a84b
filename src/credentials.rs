//! Whom do we trust, and what do we show? The files and secrets of connections, as `module.yaml` names them.

use std::path::{Path, PathBuf};

/// What TLS reads; PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Trust these authorities instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What an encrypted private key (PKCS#8) is decrypted with; never printed.
    pub key_password: Option<Secret>,
}

impl TlsFiles {
    /// Makes relative paths start from this directory.
    pub(crate) fn relative_to(&mut self, directory: &Path) {
        let client = self.client.iter_mut().flat_map(|(certificate, key)| [certificate, key]);
        for path in self.ca.iter_mut().chain(client) {
            *path = directory.join(&*path);
        }
    }
}

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
