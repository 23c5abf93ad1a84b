//! A session and a test that plays its broker.

use super::*;

/// A session and what it said.
pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) session: Session,
    pub(super) connection: ConnectionNumber,
    pub(super) protocol: Protocol,
    pub(super) sent: Vec<Packet>,
    pub(super) published: Vec<ReceivedPublish>,
    pub(super) records: Vec<(u64, Instant, Vec<u8>, Vec<u8>)>,
    pub(super) refused: Vec<String>,
    pub(super) events: Vec<&'static str>,
    pub(super) log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) closed: bool,
    pub(super) stopped: bool,
    pub(super) epoch: u64,
}

impl Bench {
    pub(super) fn new(config: SessionConfig) -> Self {
        Self::recover(config, SessionStart::Resume, Vec::new())
    }

    pub(super) fn recover(
        config: SessionConfig,
        start: SessionStart,
        log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Self {
        let mut recovered = RecoveredSession::default();
        for (key, value) in &log {
            recovered.take(&Key::decode(key).unwrap(), value.as_deref());
        }
        let protocol = config.broker.protocol;
        let mut bench = Self {
            now: Instant::from_secs(100),
            session: Session::new(Arc::new(config), recovered, start, 1),
            connection: ConnectionNumber(0),
            protocol,
            sent: vec![],
            published: vec![],
            records: vec![],
            refused: vec![],
            events: vec![],
            log,
            closed: false,
            stopped: false,
            epoch: 0,
        };
        bench.session.start(bench.now);
        bench.drain();
        bench
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                SessionOutput::Connect { connection } => self.connection = connection,
                SessionOutput::Transmit { bytes, .. } => {
                    let mut bytes = BytesMut::from(&bytes[..]);
                    while let Some(packet) = codec::read(&mut bytes, self.protocol, u32::MAX).unwrap() {
                        self.sent.push(packet);
                    }
                }
                SessionOutput::Close { .. } => self.closed = true,
                SessionOutput::Publish(publish) => self.published.push(publish),
                SessionOutput::Record { number, deadline, key, value } => {
                    self.log.push((key.clone(), Some(value.clone())));
                    self.records.push((number, deadline, key, value));
                }
                SessionOutput::Refused { reason, .. } => self.refused.push(reason),
                SessionOutput::Event(event) => self.events.push(event.kind),
                SessionOutput::Stopped => self.stopped = true,
            }
        }
    }

    pub(super) fn input(&mut self, input: SessionInput) {
        self.session.handle_input(self.now, input);
        self.drain();
    }

    pub(super) fn receive(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        codec::write(packet, self.protocol, &mut bytes);
        let connection = self.connection;
        self.input(SessionInput::Received { connection, bytes: bytes.freeze() });
    }

    pub(super) fn sync(&mut self) {
        let record = self.records.last().map_or(0, |record| record.0);
        self.input(SessionInput::Synced { record });
    }

    pub(super) fn connack(&mut self, session_present: bool) {
        self.connack_with(session_present, 20, Qos::ExactlyOnce, None);
    }

    pub(super) fn connack_with(
        &mut self,
        session_present: bool,
        window: u16,
        qos_max: Qos,
        packet_bytes_max: Option<u32>,
    ) {
        let connection = self.connection;
        self.input(SessionInput::Connected { connection });
        self.receive(&Packet::ConnAck(ConnAck {
            session_present,
            reason: 0,
            receive_maximum: Some(window),
            qos_max,
            retain_available: true,
            packet_bytes_max,
            session_expiry_seconds: None,
            keep_alive_seconds: None,
        }));
    }

    /// Connected with a durable incarnation and granted subscriptions; nothing said yet.
    pub(super) fn ready(&mut self, session_present: bool) {
        self.connack(session_present);
        self.sync();
        if let Some(Packet::Subscribe { filters, .. }) = self.sent.last() {
            let reasons = filters.iter().map(|filter| filter.qos as u8).collect();
            self.receive(&Packet::SubAck { id: 65_535, reasons });
            self.sync();
        }
        self.sent.clear();
    }

    pub(super) fn cut(&mut self) {
        self.epoch += 1;
        let mut frame = FrameBuilder::default();
        self.session.cut(Epoch(self.epoch), &mut frame);
        let mut sections = Vec::new();
        frame.finish(&mut sections);
        crate::epoch::frame::read_sections(&sections, |key, value| {
            self.log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        })
        .unwrap();
        self.drain();
    }

    pub(super) fn commit(&mut self) {
        self.cut();
        self.input(SessionInput::Committed { epoch: Epoch(self.epoch) });
    }

    pub(super) fn lose_connection(&mut self) {
        let connection = self.connection;
        self.input(SessionInput::Disconnected { connection, cause: "gone".into() });
        self.sent.clear();
        self.now = self.session.poll_timeout().unwrap();
        self.session.handle_timeout(self.now);
        self.drain();
        assert_ne!(self.connection, connection);
    }

    pub(super) fn timeout(&mut self) {
        self.now = self.session.poll_timeout().unwrap();
        self.session.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn said(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.sent)
    }

    pub(super) fn publish_in(&mut self, id: u16, qos: Qos, dup: bool, payload: &'static str) {
        self.receive(&Packet::Publish(publish(id, qos, dup, "in/x", payload)));
    }
}

pub(super) fn publish(id: u16, qos: Qos, dup: bool, topic: &'static str, payload: &'static str) -> Publish {
    Publish {
        dup,
        qos,
        retain: false,
        id,
        topic: Bytes::from_static(topic.as_bytes()),
        alias: None,
        payload: Bytes::from_static(payload.as_bytes()),
        response_topic: None,
        correlation_data: None,
        user_properties: vec![],
    }
}

pub(super) fn out(qos: Qos, payload: &'static str) -> SessionInput {
    let id = format!("id-{}", payload.get(..8).unwrap_or(payload));
    SessionInput::Send(OutboxRecord {
        topic: "out".into(),
        payload: payload.as_bytes().into(),
        qos,
        retain: false,
        message_id: MessageId::from_text(&id).unwrap(),
        properties: vec![],
    })
}

pub(super) fn listener() -> Bench {
    let mut bench = Bench::new(ingress(Protocol::V5, Qos::ExactlyOnce, &["in/+"]));
    bench.ready(false);
    bench
}

pub(super) fn speaker() -> Bench {
    let mut bench = Bench::new(egress(Protocol::V5, Qos::ExactlyOnce));
    bench.ready(false);
    bench
}

/// One record, released: PUBREL is out, PUBCOMP has not come.
pub(super) fn speaker_that_released() -> Bench {
    let mut bench = speaker();
    bench.input(out(Qos::ExactlyOnce, "x"));
    bench.commit();
    bench.receive(&Packet::PubRec { id: 1, reason: 0 });
    bench.sync();
    bench
}

/// (dup, id, payload) of the PUBLISHes said.
pub(super) fn publishes(packets: &[Packet]) -> Vec<(bool, u16, String)> {
    let text = |publish: &Publish| String::from_utf8_lossy(&publish.payload).into_owned();
    let one = |packet: &Packet| match packet {
        Packet::Publish(publish) => Some((publish.dup, publish.id, text(publish))),
        _ => None,
    };
    packets.iter().filter_map(one).collect()
}

pub(super) const PUBREC_7: Packet = Packet::PubRec { id: 7, reason: 0 };
pub(super) const PUBCOMP_7: Packet = Packet::PubComp { id: 7, reason: 0 };
pub(super) const PUBREL_7: Packet = Packet::PubRel { id: 7, reason: 0 };
