//! Can the checkers fail? Mistakes planted in the shell, one at a time: each must be found.
//!
//! The machines are as they are; what passes between them is changed so that board and world behave as if the mistake were in them.
//! Mistakes on the wire are in `wire`, mistakes on channels in `channels`.

use std::collections::BTreeMap;

use crate::epoch::frame::{FrameBuilder, read_sections};
use crate::sim::disk::Lie;
use crate::state::key::{Key, Kind};
use crate::worker::io::WorkerIndex;

mod channels;
mod wire;

use channels::ChannelMistakes;
use wire::WireMistakes;

/// A planted mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sabotage {
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
    /// A frame does not carry what arrived between the worker's cut and the channel's barrier.
    ForgetsLate,
    /// Credit for a channel waits until a message goes the same way: two bounded queues wait for each other.
    CreditWaits,
    /// Messages of one batch arrive in reverse.
    ReversesBatch,
    /// Some messages come to a worker that does not own their address.
    Misroutes,
    /// A record like the last under its packet id counts as that one sent again, however long that has been finished.
    GuardOutlives,
    /// What the broker acknowledged in a session that it has lost counts for the records that have those packet ids in the next.
    HearsOldSession,
    /// Each worker takes the whole board's memory for its own.
    SharesNoMemory,
    /// The log does not name the records that a lost session may have taken along.
    HidesLosses,
}

impl Sabotage {
    /// Those that a person may plant, by name.
    pub const NAMED: [(&'static str, Self); 25] = [
        ("acknowledges-before-sync", Self::AnswersBeforeSync),
        ("believes-record-before-sync", Self::TellsRecordsBeforeSync),
        ("forgets-late-messages", Self::ForgetsLate),
        ("frees-packet-id-early", Self::FreesPacketId),
        ("accepted-outside-the-cut", Self::Defers(Kind::Accepted)),
        ("outbox-outside-the-cut", Self::Defers(Kind::Outbox)),
        ("tears-frame", Self::TearsFrame),
        ("start-trusts-without-sync", Self::StartTrusts),
        ("guard-outlives", Self::GuardOutlives),
        ("hears-old-session", Self::HearsOldSession),
        ("hides-losses", Self::HidesLosses),
        ("shares-no-memory", Self::SharesNoMemory),
        ("credit-waits", Self::CreditWaits),
        ("reverses-batch", Self::ReversesBatch),
        ("misroutes", Self::Misroutes),
        ("barrier-overtakes", Self::BarrierOvertakes),
        ("barrier-lags", Self::BarrierLags),
        ("never-syncs", Self::Skips(Lie::Always)),
        ("never-syncs-directory", Self::Skips(Lie::OfDirectory)),
        ("forgets-state", Self::Forgets(Kind::State)),
        ("forgets-mailbox", Self::Forgets(Kind::Mailbox)),
        ("forgets-outbox", Self::Forgets(Kind::Outbox)),
        ("forgets-delayed", Self::Forgets(Kind::Delayed)),
        ("keeps-mailbox", Self::Keeps(Kind::Mailbox)),
        ("keeps-delayed", Self::Keeps(Kind::Delayed)),
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(of, _)| *of == name).map(|(_, sabotage)| sabotage)
    }

    /// Its name, if a person may plant it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMED.into_iter().find(|(_, sabotage)| *sabotage == self).map(|(name, _)| name)
    }

    /// Does it change sections?
    fn is_of_frames(self) -> bool {
        matches!(
            self,
            Self::Forgets(_) | Self::Keeps(_) | Self::Defers(_) | Self::TearsFrame | Self::ForgetsLate
        )
    }

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
    pub(super) channels: ChannelMistakes,
    pub(super) wire: WireMistakes,
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
        if !sabotage.is_of_frames() {
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
        if sabotage == Sabotage::ForgetsLate {
            self.channels.forget_late(worker, &mut said);
        }
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

    pub(super) fn crash(&mut self) {
        self.deferred.clear();
        self.channels = ChannelMistakes::default();
        self.wire.crash();
    }
}

/// Where the kind stands in a key: behind the group.
const KINDS_START: Option<usize> = Some(2);
