//! Can the checkers fail? Mistakes planted in the shell, one at a time: each must be found.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::epoch::frame::{FrameBuilder, read_sections};
use crate::mqtt::codec::{Packet, read, write};
use crate::mqtt::config::Protocol;
use crate::sim::disk::Lie;
use crate::state::key::{Key, Kind};
use crate::worker::io::WorkerIndex;

/// A planted mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Sabotage {
    /// None.
    #[default]
    None,
    /// No frame puts anything of this kind.
    Forgets(Kind),
    /// No frame deletes anything of this kind.
    Keeps(Kind),
    /// What a frame says of this kind is said by the next one: it is outside the cut.
    Defers(Kind),
    /// Of every frame, the sections of all workers but the first are in the next one.
    TearsFrame,
    /// Barriers overtake messages on their channel.
    BarrierOvertakes,
    /// Messages overtake barriers on their channel.
    BarrierLags,
    /// The store says that it has synced when it has not begun.
    AnswersBeforeSync,
    /// Sessions hear that a record is durable when it was handed out.
    TellsRecordsBeforeSync,
    /// PUBREC counts as PUBCOMP: the packet id is free before its time.
    FreesPacketId,
    /// Syncs of this kind do nothing.
    Skips(Lie),
    /// While a start recovers, no sync does anything.
    StartTrusts,
}

impl Sabotage {
    /// Which syncs do nothing while a start recovers.
    pub(super) fn lie_at_start(self) -> Lie {
        match self {
            Self::Skips(lie) => lie,
            Self::StartTrusts => Lie::Always,
            _ => Lie::Never,
        }
    }

    /// Which syncs do nothing while the board runs.
    pub(super) fn lie(self) -> Lie {
        match self {
            Self::Skips(lie) => lie,
            _ => Lie::Never,
        }
    }
}

/// What a planted mistake remembers; forgotten at a crash.
#[derive(Default)]
pub(super) struct Sabotaged {
    /// By worker.
    deferred: BTreeMap<WorkerIndex, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl Sabotaged {
    /// The sections of a worker as the node gets them.
    pub(super) fn sections(&mut self, sabotage: Sabotage, worker: WorkerIndex, sections: Vec<u8>) -> Vec<u8> {
        let is_touched = |kind: Kind, is_delete: bool| match sabotage {
            Sabotage::Forgets(forgotten) => kind == forgotten && !is_delete,
            Sabotage::Keeps(kept) => kind == kept && is_delete,
            Sabotage::Defers(deferred) => kind == deferred,
            Sabotage::TearsFrame => worker != WorkerIndex(0),
            _ => false,
        };
        if matches!(
            sabotage,
            Sabotage::None | Sabotage::Skips(_) | Sabotage::StartTrusts | Sabotage::FreesPacketId
        ) {
            return sections;
        }
        let is_deferring = matches!(sabotage, Sabotage::Defers(_) | Sabotage::TearsFrame);
        let mut said = self.deferred.remove(&worker).unwrap_or_default();
        let mut deferred = BTreeMap::new();
        let read = read_sections(&sections, |key, value| {
            let kind = KINDS_START
                .and_then(|at| Kind::ALL.into_iter().find(|kind| key.get(at) == Some(&(*kind as u8))));
            let value = value.map(<[u8]>::to_vec);
            if !kind.is_some_and(|kind| is_touched(kind, value.is_none())) {
                said.insert(key.to_vec(), value);
            } else if is_deferring {
                deferred.insert(key.to_vec(), value);
            }
        });
        assert!(read.is_ok(), "sections are sections");
        self.deferred.insert(worker, deferred);
        let mut frame = FrameBuilder::default();
        for (key, value) in &said {
            let Some(key) = Key::decode(key) else { unreachable!("a key came out of a frame") };
            match value {
                Some(value) => frame.put(&key, |out| out.extend_from_slice(value)),
                None => frame.delete(&key),
            }
        }
        let mut out = Vec::new();
        frame.finish(&mut out);
        out
    }

    /// What the board reads of what the broker sent.
    pub(super) fn alter_from_broker(&mut self, sabotage: Sabotage, bytes: Bytes) -> Bytes {
        if sabotage != Sabotage::FreesPacketId {
            return bytes;
        }
        let (mut stream, mut out) = (BytesMut::from(&bytes[..]), BytesMut::new());
        while let Ok(Some(packet)) = read(&mut stream, Protocol::V5, u32::MAX) {
            write(&packet, Protocol::V5, &mut out);
            if let Packet::PubRec { id, reason: 0 } = packet {
                write(&Packet::PubComp { id, reason: 0 }, Protocol::V5, &mut out);
            }
        }
        out.freeze()
    }

    pub(super) fn crash(&mut self) {
        self.deferred.clear();
    }
}

/// Where the kind stands in a key: behind the group.
const KINDS_START: Option<usize> = Some(2);
