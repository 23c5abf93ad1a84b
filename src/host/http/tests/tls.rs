//! Who is trusted, and who trusts us? TLS with certificates of a fresh authority.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::server::WebPkiClientVerifier;
use futures_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto};

use super::server::{Peer, Stream};
use super::*;

fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2
        openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -subj /CN=other -days 2
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > extensions
        for name in server client; do
          openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
          openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem -days 2 -extfile extensions
        done
        openssl pkcs8 -topk8 -in client.key -out encrypted.key -passout pass:secret
        openssl pkcs8 -topk8 -in client.key -out scrypt.key -passout pass:secret -scrypt";
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server that wants client certificates and speaks `protocols` (ALPN).
fn serve(directory: &Path, protocols: &[&str]) -> Server {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = vec![CertificateDer::from_pem_file(directory.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let accept = move || {
        let (socket, _) = listener.accept().ok()?;
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        Some(Box::new(StreamOwned::new(tls, socket)) as Box<dyn Stream>)
    };
    Server::serve(base, accept, Peer::pongs)
}

#[test]
fn tls_shows_and_checks_certificates() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| -> PathBuf { directory.path().join(name) };
    let server = serve(directory.path(), &["h2", "http/1.1"]);
    let ask = |ca: &str, key: Option<&str>, password: Option<&str>| {
        let tls = TlsFiles {
            ca: Some(file(ca)),
            client: key.map(|key| (file("client.pem"), file(key))),
            key_password: password.map(|it| Secret(it.to_owned())),
        };
        let mut client = Client::new(Transport { tls, ..transport() });
        let first = client.ask(&server.url("/"));
        if first == pong() {
            assert_eq!(client.ask(&server.url("/")), pong());
            assert_eq!(client.count("connections_opened"), 1, "kept alive through TLS too");
        }
        first
    };
    assert_eq!(ask("ca.pem", Some("client.key"), None), pong());
    assert_eq!(ask("ca.pem", Some("encrypted.key"), Some("secret")), pong());
    assert_eq!(ask("ca.pem", Some("scrypt.key"), Some("secret")), pong());
    let unreachable = |outcome, words| check_failed(outcome, CallFailure::Unreachable, words);
    unreachable(ask("ca.pem", Some("encrypted.key"), Some("guess")), "encrypted.key: the password does not");
    unreachable(ask("ca.pem", Some("encrypted.key"), None), "encrypted.key: the key is encrypted");
    unreachable(ask("ca.pem", Some("missing.key"), None), "missing.key");
    unreachable(ask("other.pem", Some("client.key"), None), "invalid peer certificate");
    // Under TLS 1.3 a client is refused after its handshake.
    let CallOutcome::Failed { text, .. } = ask("ca.pem", None, None) else { panic!("it has no certificate") };
    assert!(text.to_lowercase().contains("certificate"), "{text}");

    let modern = serve(directory.path(), &["h2"]);
    let tls = TlsFiles {
        ca: Some(file("ca.pem")),
        client: Some((file("client.pem"), file("client.key"))),
        key_password: None,
    };
    let outcome = Client::new(Transport { tls, ..transport() }).ask(&modern.url("/"));
    check_failed(outcome, CallFailure::Unreachable, "TLS");
}

#[test]
fn a_server_that_does_not_shake_hands_ends_by_the_connect_time() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let server = Server::start(|mut peer| peer.wait_for_close());
    let tls = TlsFiles { ca: Some(directory.path().join("ca.pem")), client: None, key_password: None };
    let mut client = Client::new(Transport { tls, connect: SHORT, ..transport() });
    let outcome = client.ask(&server.url("/").replace("http:", "https:"));
    check_failed(outcome, CallFailure::Unreachable, "no connection within 100ms");
    assert_eq!(client.count("connections_open"), 0);
}
