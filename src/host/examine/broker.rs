//! What does a broker say to a session of ours? A connection with the module's own settings, under a client id of its own.
//!
//! It connects as the session would, to hear what is granted, reads the broker's `$SYS` if it may, and connects once more with a clean
//! start, so that nothing of it stays behind.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_rustls::rustls::StreamOwned;

use crate::host::tls;
use crate::mqtt::codec::{self, ConnAck, Connect, Filter, Packet, RetainHandling};
use crate::mqtt::config::{Qos, SessionConfig};

/// To connect, and for each answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// What `$SYS` has to say is retained, so it comes at once or not at all.
const SYS_TIME_MAX: Duration = Duration::from_secs(2);
const PACKET_BYTES_MAX: u32 = 64 * 1024;
const DROPPED: &str = "$SYS/broker/publish/messages/dropped";
const VERSION: &str = "$SYS/broker/version";

/// What a broker says.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// Its answer to CONNECT; its reason may be a refusal.
    pub ack: ConnAck,
    /// Its name and version, if it tells.
    pub version: Option<String>,
    /// PUBLISHes it has dropped since its start, if it tells.
    pub dropped: Option<u64>,
}

/// Asks a broker.
///
/// # Errors
/// Why it cannot be reached or does not speak MQTT, for a person.
pub fn broker(session: &SessionConfig) -> Result<Broker, String> {
    let text = |error: io::Error| error.to_string();
    let mut link = Link::open(session)?;
    let ack = link.connect(session, session.session_expiry).map_err(text)?;
    if ack.reason != 0 {
        return Ok(Broker { ack, version: None, dropped: None });
    }
    let (version, dropped) = link.read_sys().unwrap_or_default();
    link.send(&Packet::Disconnect { reason: 0 }).map_err(text)?;
    let mut link = Link::open(session)?;
    link.connect(session, Duration::ZERO).map_err(text)?;
    link.send(&Packet::Disconnect { reason: 0 }).map_err(text)?;
    Ok(Broker { ack, version, dropped })
}

trait Socket: Read + Write {}
impl<S: Read + Write> Socket for S {}

struct Link<'a> {
    session: &'a SessionConfig,
    socket: Box<dyn Socket>,
    received: BytesMut,
}

impl<'a> Link<'a> {
    fn open(session: &'a SessionConfig) -> Result<Self, String> {
        let broker = &session.broker;
        let addresses = (broker.host.as_str(), broker.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("its name: {error}"))?;
        let mut connected = Err("its name has no address".to_owned());
        for address in addresses {
            connected =
                TcpStream::connect_timeout(&address, ANSWER_TIME_MAX).map_err(|error| error.to_string());
            if connected.is_ok() {
                break;
            }
        }
        let stream = connected?;
        let bounded = stream.set_read_timeout(Some(ANSWER_TIME_MAX));
        bounded
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME_MAX)))
            .map_err(|error| error.to_string())?;
        let socket: Box<dyn Socket> = match &broker.tls {
            None => Box::new(stream),
            Some(files) => {
                let tls = tls::connection(files, &broker.host).map_err(|error| error.to_string())?;
                Box::new(StreamOwned::new(tls, stream))
            }
        };
        Ok(Self { session, socket, received: BytesMut::new() })
    }

    fn connect(&mut self, session: &SessionConfig, expiry: Duration) -> io::Result<ConnAck> {
        let login = session.user.clone().map(|user| {
            (user, session.password.as_ref().map_or_else(String::new, |secret| secret.0.clone()))
        });
        self.send(&Packet::Connect(Connect {
            protocol: session.broker.protocol,
            client_id: format!("{}-doctor", session.client_id),
            clean_start: true,
            keep_alive_seconds: u16::try_from(session.keep_alive.as_secs()).unwrap_or(u16::MAX),
            session_expiry_seconds: u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX),
            receive_maximum: session.receive_maximum,
            packet_bytes_max: Some(PACKET_BYTES_MAX),
            topic_alias_maximum: 0,
            login,
        }))?;
        match self.read()? {
            Packet::ConnAck(ack) => Ok(ack),
            other => Err(io::Error::new(ErrorKind::InvalidData, format!("no CONNACK, but {}", other.name()))),
        }
    }

    fn read_sys(&mut self) -> io::Result<(Option<String>, Option<u64>)> {
        let filter = |name: &str| Filter {
            filter: name.to_owned(),
            qos: Qos::AtMostOnce,
            retain_handling: RetainHandling::Always,
        };
        self.send(&Packet::Subscribe { id: 1, filters: vec![filter(DROPPED), filter(VERSION)] })?;
        let (mut version, mut dropped) = (None, None);
        let begin = Instant::now();
        while (version.is_none() || dropped.is_none()) && begin.elapsed() < SYS_TIME_MAX {
            // What does not come is not told: an answer to a ping ends the waiting.
            self.send(&Packet::PingReq)?;
            loop {
                match self.read()? {
                    Packet::Publish(publish) => {
                        let text = String::from_utf8_lossy(&publish.payload).into_owned();
                        match &*publish.topic {
                            topic if topic == DROPPED.as_bytes() => dropped = text.trim().parse().ok(),
                            topic if topic == VERSION.as_bytes() => version = Some(text),
                            _ => {}
                        }
                    }
                    Packet::SubAck { reasons, .. } if reasons.iter().all(|reason| 0x80 <= *reason) => {
                        return Ok((None, None));
                    }
                    Packet::PingResp => break,
                    _ => {}
                }
            }
            std::thread::sleep(SYS_TIME_MAX / 10);
        }
        Ok((version, dropped))
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        codec::write(packet, self.session.broker.protocol, &mut bytes);
        self.socket.write_all(&bytes)?;
        self.socket.flush()
    }

    fn read(&mut self) -> io::Result<Packet> {
        loop {
            let packet = codec::read(&mut self.received, self.session.broker.protocol, PACKET_BYTES_MAX);
            let packet = packet.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
            if let Some(packet) = packet {
                return Ok(packet);
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "it closed the connection")),
                Ok(count) => self.received.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "it does not answer"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
