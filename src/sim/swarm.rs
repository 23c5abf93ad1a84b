//! Which faults does a seed draw? Each is off or on, and on how hard: a run with few kinds of faults goes further than one with all.
//!
//! The whole plan is drawn first, and what is to be left out is switched off then: so a run without one of its faults is else the same,
//! which is how a failing run is made smaller.

use std::collections::BTreeSet;
use std::time::Duration as StdDuration;

use embassy_time::Duration;

use super::broker::BrokerSettings;
use super::simulation::sabotage::Sabotage;
use super::simulation::{Faults, Plan};
use crate::store::StoreLimits;
use crate::worker::{WorkerLimits, channel_bytes_max};

/// A kind of fault, or of unkindness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trouble {
    /// The board dies at one of its outputs.
    Crash,
    /// The board dies in the middle of a write, a sync or a rename.
    StoreCrash,
    /// A connection breaks.
    Disconnect,
    /// A connection that breaks takes with it what was under way.
    LostTail,
    /// The broker restarts and keeps its sessions.
    BrokerRestart,
    /// A write or sync fails once.
    StoreFailure,
    /// The disk is full or read-only for a while.
    DiskRefusal,
    /// The clock jumps from start to start.
    ClockJump,
    /// The broker sends PUBLISH again where only PUBCOMP is missing, as Mosquitto does.
    BrokerRepeat,
    /// A function takes its time.
    SlowFunction,
    /// What was being written when the power went is not the old, not the new.
    GarbledSector,
    /// Memory, epochs, channels, segments and the log are tiny.
    TinyLimits,
    /// More than one worker, another number at each start.
    ManyWorkers,
    /// Functions fail and panic.
    FailingFunction,
    /// Functions are in another process, over HTTP.
    RemoteFunction,
    /// Calls of that process fail, are late, or are answered with nonsense.
    EndpointFailure,
    /// The broker loses the egress session.
    LostSession,
    /// The broker's queues are so short that it drops records, which it counts.
    FullQueue,
    /// Many records for little memory.
    Flood,
    /// A person sets states and retries dead letters; the subscriber stops reading.
    Meddler,
}

impl Trouble {
    /// All of them, in the order in which they are tried to be left out.
    pub const ALL: [Self; 20] = [
        Self::Meddler,
        Self::Flood,
        Self::FullQueue,
        Self::LostSession,
        Self::FailingFunction,
        Self::EndpointFailure,
        Self::RemoteFunction,
        Self::ClockJump,
        Self::SlowFunction,
        Self::GarbledSector,
        Self::DiskRefusal,
        Self::StoreFailure,
        Self::BrokerRestart,
        Self::BrokerRepeat,
        Self::LostTail,
        Self::Disconnect,
        Self::ManyWorkers,
        Self::TinyLimits,
        Self::StoreCrash,
        Self::Crash,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::StoreCrash => "store-crash",
            Self::Disconnect => "disconnect",
            Self::LostTail => "lost-tail",
            Self::BrokerRestart => "broker-restart",
            Self::StoreFailure => "store-failure",
            Self::DiskRefusal => "disk-refusal",
            Self::ClockJump => "clock-jump",
            Self::BrokerRepeat => "broker-repeat",
            Self::SlowFunction => "slow-function",
            Self::GarbledSector => "garbled-sector",
            Self::TinyLimits => "tiny-limits",
            Self::ManyWorkers => "many-workers",
            Self::FailingFunction => "failing-function",
            Self::RemoteFunction => "remote-function",
            Self::EndpointFailure => "endpoint-failure",
            Self::LostSession => "lost-session",
            Self::FullQueue => "full-queue",
            Self::Flood => "flood",
            Self::Meddler => "meddler",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.name() == name)
    }
}

/// What a seed draws, without some of it.
#[must_use]
pub fn plan(seed: u64, without: &BTreeSet<Trouble>) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    let workers_max = [1, 2, 3, 4][below(&mut random, 4)];
    let mut plan = Plan {
        seed,
        workers: 1..=workers_max,
        limits: WorkerLimits {
            memory_bytes: [MEMORY_BYTES_LITTLE, 1024 * 1024, LARGE_BYTES][below(&mut random, 3)],
            epoch_bytes: [2 * 1024, 64 * 1024, 1024 * 1024][below(&mut random, 3)],
            effects_bytes_max: 16 * 1024,
            channel_bytes: [300, 4 * 1024, 64 * 1024][below(&mut random, 3)],
            letters_max: 100_000,
            dead_letters_max: 10_000,
            dead_letter_bytes_max: 16 * 1024 * 1024,
            attempts_max: 3,
            backoff_min: StdDuration::from_millis(1),
            backoff_max: StdDuration::from_millis(50),
        },
        store: StoreLimits {
            segment_bytes: [4 * 1024, 64 * 1024][below(&mut random, 2)],
            log_bytes_max: [8 * 1024, 256 * 1024][below(&mut random, 2)],
            fold_keys: [3, 2000][below(&mut random, 2)],
        },
        pause: Duration::from_millis([0, 0, 20][below(&mut random, 3)]),
        crash_one_in: [0, 300, 3_000][below(&mut random, 3)],
        store_crash_one_in: [0, 20, 200][below(&mut random, 3)],
        disconnect_one_in: [0, 0, 200][below(&mut random, 3)],
        delay_max: Duration::from_micros([20, 500, 20_000][below(&mut random, 3)]),
        faults: faults(&mut random),
        sabotage: Sabotage::None,
    };
    for &trouble in without {
        leave_out(&mut plan, trouble);
    }
    plan.fit_memory();
    plan
}

impl Plan {
    /// Makes bounds fit the memory as a node does: a start reads the log into memory, and other workers may send what their channels hold.
    pub(super) fn fit_memory(&mut self) {
        let limits = &mut self.limits;
        let memory_bytes = (limits.memory_bytes * self.workers.end()) as u64;
        self.store.log_bytes_max = self.store.log_bytes_max.min(memory_bytes);
        let channel_bytes_max = channel_bytes_max(limits.memory_bytes, *self.workers.end());
        limits.channel_bytes = limits.channel_bytes.min(channel_bytes_max);
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    Faults {
        broker: BrokerSettings { publishes_after_pubrel: random.bool(), ..BrokerSettings::default() },
        loses_tails: random.bool(),
        broker_restart_one_in: [0, 0, 200][below(random, 3)],
        store_fails_one_in: [0, 0, 30][below(random, 3)],
        disk_refuses_one_in: [0, 0, 100][below(random, 3)],
        clock_jumps: random.bool(),
        slow_one_in: [0, 0, 50][below(random, 3)],
        garbles_sectors: random.bool(),
        endpoint_fails_one_in: [0, 20, 3][below(random, 3)],
    }
}

fn leave_out(plan: &mut Plan, trouble: Trouble) {
    let faults = &mut plan.faults;
    match trouble {
        Trouble::Crash => plan.crash_one_in = 0,
        Trouble::StoreCrash => plan.store_crash_one_in = 0,
        Trouble::Disconnect => plan.disconnect_one_in = 0,
        Trouble::LostTail => faults.loses_tails = false,
        Trouble::BrokerRestart => faults.broker_restart_one_in = 0,
        Trouble::StoreFailure => faults.store_fails_one_in = 0,
        Trouble::DiskRefusal => faults.disk_refuses_one_in = 0,
        Trouble::ClockJump => faults.clock_jumps = false,
        Trouble::BrokerRepeat => faults.broker.publishes_after_pubrel = false,
        Trouble::SlowFunction => faults.slow_one_in = 0,
        Trouble::EndpointFailure => faults.endpoint_fails_one_in = 0,
        Trouble::GarbledSector => faults.garbles_sectors = false,
        Trouble::TinyLimits => {
            plan.limits.memory_bytes = LARGE_BYTES;
            plan.limits.epoch_bytes = 1024 * 1024;
            plan.limits.channel_bytes = 64 * 1024;
            plan.store = StoreLimits { segment_bytes: 64 * 1024, log_bytes_max: 256 * 1024, fold_keys: 2000 };
        }
        Trouble::ManyWorkers => plan.workers = 1..=1,
        // What a workload does, not the board's surroundings.
        Trouble::FailingFunction
        | Trouble::RemoteFunction
        | Trouble::LostSession
        | Trouble::FullQueue
        | Trouble::Flood
        | Trouble::Meddler => {}
    }
}

/// A number below `count`, drawn alike on machines of every word length.
pub(super) fn below(random: &mut fastrand::Rng, count: u64) -> usize {
    usize::try_from(random.u64(0..count)).unwrap_or(0)
}

const LARGE_BYTES: usize = 16 * 1024 * 1024;
/// Memory of a worker that has little: a quarter of it is what one invocation's effects may take.
pub(super) const MEMORY_BYTES_LITTLE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_changes_nothing_else() {
        for seed in 0..50 {
            let whole = plan(seed, &BTreeSet::new());
            let calm = plan(seed, &BTreeSet::from([Trouble::Crash]));
            assert_eq!(calm.crash_one_in, 0);
            let put_back = Plan { crash_one_in: whole.crash_one_in, ..calm };
            assert_eq!(format!("{put_back:?}"), format!("{whole:?}"));
        }
    }

    #[test]
    fn every_trouble_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Trouble::ALL.iter().map(|trouble| trouble.name()).collect();
        assert_eq!(names.len(), Trouble::ALL.len());
        assert!(Trouble::ALL.into_iter().all(|trouble| Trouble::named(trouble.name()) == Some(trouble)));
    }
}
