//! What is a broker told, what does it want done, and how does it behave?

use bytes::Bytes;

use crate::mqtt::config::Qos;

/// What a broker is told.
#[derive(Debug)]
pub enum BrokerInput {
    /// A client has connected; numbers are never used again.
    Accepted {
        /// The connection.
        connection: u64,
    },
    /// Bytes came.
    Received {
        /// From this connection.
        connection: u64,
        /// Any piece of the stream.
        bytes: Bytes,
    },
    /// The socket is closed.
    Closed {
        /// That connection.
        connection: u64,
    },
    /// The broker's process ends and begins again: connections are closed.
    Restart {
        /// Are sessions and retained records kept?
        persistent: bool,
    },
}

/// What a broker wants done.
#[derive(Debug)]
pub enum BrokerOutput {
    /// Write these bytes.
    Transmit {
        /// To this connection.
        connection: u64,
        /// Whole packets.
        bytes: Bytes,
    },
    /// Close the socket once what was transmitted is written.
    Close {
        /// This connection.
        connection: u64,
    },
}

/// How a broker behaves; the default is Mosquitto 2.0's.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// PUBLISHes with QoS above 0 that a client may have outstanding (announced in CONNACK); 20.
    pub receive_maximum: u16,
    /// PUBLISHes with QoS above 0 outstanding towards one client, besides what the client allows; 20.
    pub in_flight_max: usize,
    /// Records queued for one session beyond those; what is more is dropped. 1,000.
    pub queue_max: usize,
    /// The largest packet taken, in bytes; 256 KiB + 64 KiB.
    pub packet_bytes_max: u32,
    /// The highest QoS taken from a publisher.
    pub qos_max: Qos,
    /// Are retained records kept?
    pub retain_available: bool,
    /// Mosquitto's mistake: on a resumed session, PUBLISH is sent again where only PUBCOMP is missing.
    pub publishes_after_pubrel: bool,
    /// Packet ids that it uses towards a client before it begins again, more than may be outstanding; 65,535.
    pub packet_ids_max: u16,
    /// Reason with which PUBLISHes to topics below `refused/` are refused (MQTT 5); SUBSCRIBEs to them get 0x87.
    pub refusal: u8,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            receive_maximum: 20,
            in_flight_max: 20,
            queue_max: 1000,
            packet_bytes_max: 320 * 1024,
            qos_max: Qos::ExactlyOnce,
            retain_available: true,
            publishes_after_pubrel: false,
            packet_ids_max: u16::MAX,
            refusal: 0x87,
        }
    }
}
