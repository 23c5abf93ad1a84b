//! TLS against a real broker's TLS, and the bound on what a broker does not read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::credentials::TlsFiles;
use crate::host::shell::test_session;

const CONNECTION: (SessionIndex, ConnectionNumber) = (SessionIndex(0), ConnectionNumber(1));

/// A Mosquitto that wants client certificates of a fresh authority, ended with this value.
struct Mosquitto {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Mosquitto {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let directory = tempfile::tempdir().unwrap();
        certificates(directory.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = directory.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\ncafile {path}/ca.pem\ncertfile {path}/server.pem\n\
             keyfile {path}/server.key\nrequire_certificate true\nuser root\n"
        );
        std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(directory.path().join("mosquitto.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Some(Self { child, directory, port })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn certificates(directory: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2
        openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -subj /CN=other -days 2
        for name in server client; do
          openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
          printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > extensions
          openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem -days 2 -extfile extensions
        done";
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Connects, sends, and gives all that is posted until the connection is over or `enough` says so.
fn talk(
    session: Arc<SessionConfig>,
    send: &[u8],
    enough: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Option<String>) {
    let (inbox, executor) = (Arc::new(Inbox::default()), Rc::new(LocalExecutor::new()));
    let mut network = Network::new(vec![session], Rc::clone(&executor), Arc::clone(&inbox));
    network.connect(CONNECTION.0, CONNECTION.1);
    let mut got = Vec::new();
    let mut events = VecDeque::new();
    smol::block_on(executor.run(async {
        loop {
            std::future::poll_fn(|context| match inbox.is_ready(context.waker()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            })
            .await;
            inbox.take(&mut events);
            for event in events.drain(..) {
                let Event::Network { input, .. } = event else { unreachable!() };
                match input {
                    SessionInput::Connected { .. } => {
                        network.transmit(CONNECTION.0, CONNECTION.1, Bytes::copy_from_slice(send));
                    }
                    SessionInput::Received { bytes, .. } => {
                        network.taken(CONNECTION.0, CONNECTION.1, bytes.len());
                        got.extend_from_slice(&bytes);
                    }
                    SessionInput::Disconnected { cause, .. } => return (got, Some(cause)),
                    _ => unreachable!(),
                }
            }
            if enough(&got) {
                return (got, None);
            }
            network.flush();
        }
    }))
}

const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01t";

#[test]
fn tls_with_a_client_certificate_reaches_a_real_broker() {
    let Some(broker) = Mosquitto::start() else {
        eprintln!("SKIPPED: no mosquitto is installed");
        return;
    };
    let client = Some((broker.file("client.pem"), broker.file("client.key")));
    let right = TlsFiles { ca: Some(broker.file("ca.pem")), client: client.clone(), key_password: None };
    let (got, cause) = talk(test_session(broker.port, Some(right)), CONNECT, |got| 4 <= got.len());
    assert_eq!((&got[..], cause), (&b"\x20\x02\x00\x00"[..], None), "CONNACK, accepted");

    let stranger = TlsFiles { ca: Some(broker.file("other.pem")), client, key_password: None };
    let (_, cause) = talk(test_session(broker.port, Some(stranger)), CONNECT, |_| false);
    assert!(cause.unwrap().contains("invalid peer certificate"), "an authority that we do not trust");

    let nameless = TlsFiles { ca: Some(broker.file("ca.pem")), client: None, key_password: None };
    let (_, cause) = talk(test_session(broker.port, Some(nameless)), CONNECT, |_| false);
    assert!(cause.unwrap().to_lowercase().contains("certificate"), "the broker wants ours");
}

#[test]
fn a_broker_that_does_not_read_is_left() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flood = vec![0; 2 * OUTGOING_BYTES_MAX];
    let (_, cause) = talk(test_session(port, None), &flood, |_| false);
    assert_eq!(cause.unwrap(), "the broker does not read");
}

#[test]
fn a_refused_connection_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, cause) = talk(test_session(port, None), b"", |_| false);
    assert!(cause.unwrap().contains("refused"));
}
