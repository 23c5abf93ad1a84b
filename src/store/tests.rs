//! Claims about the store, each on the simulated disk: what it says is durable is, whole, in order, whatever goes wrong.

mod damage;

use std::collections::BTreeMap;
use std::io::ErrorKind;

use proptest::prelude::*;

use super::entry::{ENTRY_HEADER_BYTES, Entry};
use super::io::{StoreCommand, StoreEvent, StoreFailure};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::*;
use crate::epoch::frame::FrameBuilder;
use crate::key_group::KeyGroup;
use crate::sim::base::SimBase;
use crate::sim::disk::{Crash, Fault, SimDisk};
use crate::state::key::{Direction, Key};

type Values = BTreeMap<Vec<u8>, Vec<u8>>;
type SimStore = Store<SimDisk, SimBase>;

const TINY: StoreLimits = StoreLimits { segment_bytes: 4096 + 1200, log_bytes_max: 2000, fold_keys: 3 };

/// What a node would see after a start: the base under the log.
struct Seen {
    values: Values,
    recovered: Recovered,
}

fn open(disk: &SimDisk, base: &SimBase, entropy: u64) -> Result<(SimStore, Seen), OpenError> {
    let mut values = base.values();
    let (store, recovered) = Store::open(disk.clone(), base.clone(), TINY, entropy, &mut |key, value| {
        match value {
            Some(value) => values.insert(key.to_vec(), value.to_vec()),
            None => values.remove(key),
        };
    })?;
    Ok((store, Seen { values, recovered }))
}

fn state_key(number: u64) -> Vec<u8> {
    let key = Key::State { id: &format!("id-{}", number % 11), function_type: "a/b", name: "n", subkey: &[] };
    key.to_vec()
}

fn progress_key() -> Vec<u8> {
    let key = Key::Progress { id: "session", incarnation: 1, direction: Direction::Out };
    key.to_vec()
}

/// The frame of an epoch: every epoch writes its number under `epoch`, and some state.
fn frame(epoch: u64) -> LogEntry {
    let mut builder = FrameBuilder::default();
    builder.put(&Key::Counter { group: group(0) }, |out| out.extend(epoch.to_be_bytes()));
    builder.put(&Key::Counter { group: group(127) }, |out| out.extend(epoch.to_be_bytes()));
    for number in [epoch, epoch + 3] {
        let key = state_key(number);
        let key = Key::decode(&key).unwrap();
        if epoch % 5 == 4 && number == epoch {
            builder.delete(&key);
        } else {
            let length = usize::try_from(epoch * 37 % 90).unwrap();
            builder.put(&key, |out| out.extend(vec![u8::try_from(epoch % 251).unwrap(); length]));
        }
    }
    let mut sections = Vec::new();
    builder.finish(&mut sections);
    LogEntry::Frame {
        view: 1,
        epoch: Epoch(epoch),
        time: TimeStamp { runtime_ms: epoch * 10, proven: None },
        sections: vec![sections],
    }
}

fn session_record(number: u64) -> LogEntry {
    LogEntry::SessionRecords { records: vec![(progress_key(), number.to_be_bytes().to_vec())] }
}

fn group(number: u16) -> KeyGroup {
    KeyGroup::from_number(number).unwrap()
}

/// What the values are when all up to `epoch` has been applied, without session records.
fn model(epoch: u64) -> Values {
    let mut values = Values::new();
    for epoch in 1..=epoch {
        let LogEntry::Frame { sections, .. } = frame(epoch) else { unreachable!() };
        let visit = |key: &[u8], value: Option<&[u8]>| {
            match value {
                Some(value) => values.insert(key.to_vec(), value.to_vec()),
                None => values.remove(key),
            };
        };
        crate::epoch::frame::read_sections(&sections[0], visit).unwrap();
    }
    values
}

/// The state is that of exactly one epoch. Returns the progress, which is beside them.
fn check(seen: &Seen) -> Option<u64> {
    let mut values = seen.values.clone();
    let progress = values.remove(&progress_key());
    assert_eq!(values, model(seen.recovered.epoch.0), "half an epoch {}", seen.recovered.epoch);
    assert_eq!(seen.recovered.time.runtime_ms, seen.recovered.epoch.0 * 10);
    progress.map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

fn append(store: &mut SimStore, entries: Vec<LogEntry>) -> bool {
    matches!(store.handle(StoreCommand::Append(entries)), StoreEvent::Appended { .. })
}

/// What a node knows to be durable.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    epoch: u64,
    progress: u64,
    /// Was asked for, answered or not.
    epoch_asked: u64,
}

/// Appends, folds and restarts as a node would, until `epochs` are committed or the power goes.
fn work(disk: &SimDisk, base: &SimBase, epochs: u64, known: &mut Known) {
    let Ok((mut store, seen)) = open(disk, base, disk.operations()) else {
        return;
    };
    let mut next = seen.recovered.epoch.0 + 1;
    known.epoch = known.epoch.max(next - 1);
    while next <= epochs && !disk.is_crashed() {
        let mut batch = vec![frame(next)];
        if next % 3 == 0 {
            batch.push(session_record(next));
        }
        known.epoch_asked = known.epoch_asked.max(next);
        let mut event = store.handle(StoreCommand::Append(batch));
        for _ in 0..3 {
            if matches!(event, StoreEvent::Failed { .. }) && !disk.is_crashed() {
                event = store.handle(StoreCommand::Rewrite);
            }
        }
        let StoreEvent::Appended { fold_due } = event else {
            return;
        };
        known.epoch = next;
        if next % 3 == 0 {
            known.progress = next;
        }
        next += 1;
        if fold_due || next % 6 == 0 {
            // One step now and then: appends come between the steps of a fold.
            store.handle(StoreCommand::Fold);
        }
    }
}

/// All that was answered is there after a restart, whole, and nothing that was never asked for. `Err` says what is wrong.
fn verify(disk: &SimDisk, base: &SimBase, known: Known) -> Result<(), String> {
    let (_, seen) = open(disk, base, 99).map_err(|error| error.to_string())?;
    let epoch = seen.recovered.epoch.0;
    if seen.recovered.degraded.is_some() {
        return Err(format!("{:?}", seen.recovered));
    }
    if seen.recovered.created && 0 < known.epoch {
        return Err("a directory in use is taken for a new one".to_owned());
    }
    if epoch < known.epoch || known.epoch_asked < epoch {
        return Err(format!("epoch {epoch}, known {known:?}"));
    }
    let mut values = seen.values;
    let progress = values.remove(&progress_key());
    let progress = progress.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    if progress < known.progress {
        return Err(format!("progress {progress}, known {known:?}"));
    }
    if values != model(epoch) {
        return Err(format!("half of epoch {epoch}"));
    }
    Ok(())
}

fn new_disk() -> (SimDisk, SimBase) {
    let disk = SimDisk::default();
    let base = SimBase::new(&disk);
    (disk, base)
}

/// A store with these epochs, each appended by itself.
fn written(epochs: u64) -> (SimDisk, SimBase, SimStore) {
    let (disk, base) = new_disk();
    let (mut store, _) = open(&disk, &base, 1).unwrap();
    for epoch in 1..=epochs {
        assert!(append(&mut store, vec![frame(epoch)]));
    }
    (disk, base, store)
}

fn fold_whole(store: &mut SimStore) {
    for _ in 0..1000 {
        match store.handle(StoreCommand::Fold) {
            StoreEvent::Folded { complete: true, .. } => return,
            StoreEvent::Folded { complete: false, .. } => {}
            event => panic!("{event:?}"),
        }
    }
    panic!("a fold ends");
}

/// Every whole entry that is on the disk: segment name, offset, bytes, number; superseded ones left out.
fn entries(disk: &SimDisk) -> Vec<(String, usize, usize, u64)> {
    let mut found: Vec<(String, usize, usize, u64)> = Vec::new();
    for name in disk.names().into_iter().filter(|name| name.starts_with("log-")) {
        let bytes = disk.bytes(&name).unwrap();
        let header = SegmentHeader::decode(&bytes).unwrap();
        found.retain(|(.., number)| *number <= header.follows);
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(entry) = bytes.get(offset..).and_then(|bytes| Entry::decode(bytes, header.random)) {
            let size = ENTRY_HEADER_BYTES + entry.payload.len();
            found.push((name.clone(), offset, size, entry.number));
            offset += entry.size();
        }
    }
    found
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    for crash in [Crash::KillsProcess, Crash::LosesUnsynced, Crash::Tears(7)] {
        let (disk, base, store) = written(40);
        drop(store);
        disk.crash(crash);
        let (_, seen) = open(&disk, &base, 2).unwrap();
        assert_eq!(seen.recovered.epoch, Epoch(40));
        assert!(!seen.recovered.created && seen.recovered.degraded.is_none());
        check(&seen);
    }
}

#[test]
fn a_new_directory_says_that_it_is_new_and_keeps_its_identity() {
    let (disk, base) = new_disk();
    let (store, seen) = open(&disk, &base, 5).unwrap();
    assert!(seen.recovered.created);
    drop(store);
    let (_, again) = open(&disk, &base, 6).unwrap();
    assert!(!again.recovered.created);
    assert_eq!(again.recovered.identity, seen.recovered.identity);
}

#[test]
fn a_fold_equals_the_model_and_its_transactions_are_bounded() {
    let (disk, base, mut store) = written(60);
    assert!(append(&mut store, vec![session_record(9), session_record(10)]));
    fold_whole(&mut store);
    let mut values = base.values();
    assert_eq!(values.remove(&progress_key()), Some(10_u64.to_be_bytes().to_vec()));
    assert_eq!(values, model(60));
    assert!(base.transactions().1 <= TINY.fold_keys);
    assert!(base.transactions().0 > 3);
    assert_eq!(store.status().log_bytes, 0);
    assert_eq!(store.status().segments, 1);
    assert!(store.status().spares <= 2 + 1);
    let before = disk.operations();
    fold_whole(&mut store);
    assert_eq!(disk.operations(), before, "nothing to fold, nothing written");
    drop(store);
    let (mut store, seen) = open(&disk, &base, 3).unwrap();
    assert_eq!(check(&seen), Some(10));
    assert!(append(&mut store, vec![frame(61)]));
}

#[test]
fn a_session_record_with_an_empty_value_deletes() {
    let (disk, base, mut store) = written(1);
    assert!(append(&mut store, vec![session_record(3)]));
    fold_whole(&mut store);
    let records = vec![(progress_key(), Vec::new())];
    assert!(append(&mut store, vec![LogEntry::SessionRecords { records }]));
    let (mut store, seen) = open(&disk, &base, 3).unwrap();
    assert_eq!(check(&seen), None);
    fold_whole(&mut store);
    assert_eq!(base.values().get(&progress_key()), None);
}

#[test]
fn one_append_is_one_write_and_one_sync() {
    let (disk, _, mut store) = written(1);
    let (operations, syncs) = (disk.operations(), disk.syncs().len());
    assert!(append(&mut store, vec![frame(2), session_record(1), session_record(2)]));
    assert_eq!(disk.operations() - operations, 2);
    assert_eq!(disk.syncs().len() - syncs, 1);
}

#[test]
fn recycled_segments_are_used_and_their_old_entries_are_not_taken() {
    let (disk, base, mut store) = written(30);
    for epoch in 31..=200 {
        assert!(append(&mut store, vec![frame(epoch)]));
        if epoch % 20 == 0 {
            fold_whole(&mut store);
        }
        let copy = disk.copied();
        let base = base.copied(&copy);
        copy.crash(Crash::LosesUnsynced);
        let (_, seen) = open(&copy, &base, epoch).unwrap();
        assert_eq!(seen.recovered.epoch, Epoch(epoch));
        assert!(seen.recovered.degraded.is_none());
        check(&seen);
    }
    let files = disk.names().len();
    assert!(files < 12, "bounded, not {files}");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_answered() {
    let (disk, base) = new_disk();
    work(&disk, &base, 36, &mut Known::default());
    let operations = disk.operations();
    assert!(base.mark().unwrap().is_some_and(|mark| mark.epoch >= Epoch(6)), "a whole fold is among them");
    let first_segment = "log-0000000000000002";
    assert!(!disk.names().iter().any(|name| name == first_segment), "and a segment's release");
    for operation in 0..operations {
        for crash in
            [Crash::KillsProcess, Crash::LosesUnsynced, Crash::Tears(operation), Crash::Tears(!operation)]
        {
            let (disk, base) = new_disk();
            let mut known = Known::default();
            disk.plan(operation, Fault::Crash);
            work(&disk, &base, 36, &mut known);
            disk.crash(crash);
            verify(&disk, &base, known).unwrap_or_else(|text| panic!("{operation} {crash:?}: {text}"));
            // And once more, at each operation of the start itself.
            work(&disk, &base, 38, &mut known);
            disk.crash(Crash::Tears(operation * 3));
            verify(&disk, &base, known).unwrap_or_else(|text| panic!("{operation} {crash:?} again: {text}"));
        }
    }
}

#[test]
fn a_crash_during_a_start_after_a_crash_loses_nothing() {
    for first in (20..120).step_by(3) {
        for second in 0..12 {
            let (disk, base) = new_disk();
            let mut known = Known::default();
            disk.plan(first, Fault::Crash);
            work(&disk, &base, 24, &mut known);
            disk.crash(Crash::KillsProcess);
            disk.plan(disk.operations() + second, Fault::Crash);
            work(&disk, &base, 24, &mut known);
            disk.crash(Crash::Tears(first + second));
            verify(&disk, &base, known).unwrap_or_else(|text| panic!("{first} {second}: {text}"));
        }
    }
}

#[test]
fn a_failed_operation_latches_and_loses_nothing() {
    let (disk, base) = new_disk();
    work(&disk, &base, 24, &mut Known::default());
    for operation in 8..disk.operations() {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            for crash in [Crash::KillsProcess, Crash::LosesUnsynced, Crash::Tears(operation)] {
                let (disk, base) = new_disk();
                let mut known = Known::default();
                disk.plan(operation, Fault::Fails(kind));
                work(&disk, &base, 24, &mut known);
                disk.crash(crash);
                verify(&disk, &base, known)
                    .unwrap_or_else(|text| panic!("{operation} {kind:?} {crash:?}: {text}"));
                // The page cache may have shown what never came to the disk: a second crash finds out.
                disk.crash(Crash::LosesUnsynced);
                verify(&disk, &base, known)
                    .unwrap_or_else(|text| panic!("{operation} {kind:?} later: {text}"));
            }
        }
    }
}

/// Runs the schedule with one sync that does nothing, cutting the power after each later operation: does the checker see it?
fn is_missed(sync: u64, last: u64) -> bool {
    (sync + 1..last + 2).any(|operation| {
        let tears = (0..12).map(|seed| Crash::Tears(operation + seed * 1000));
        std::iter::once(Crash::LosesUnsynced).chain(tears).any(|crash| {
            let (disk, base) = new_disk();
            let mut known = Known::default();
            disk.plan(sync, Fault::SkipsSync);
            disk.plan(operation, Fault::Crash);
            work(&disk, &base, 12, &mut known);
            disk.crash(crash);
            verify(&disk, &base, known).is_err()
        })
    })
}

#[test]
fn removing_any_sync_is_noticed() {
    let (disk, base) = new_disk();
    work(&disk, &base, 12, &mut Known::default());
    let last = disk.operations();
    let unnoticed: Vec<u64> = disk.syncs().into_iter().filter(|sync| !is_missed(*sync, last)).collect();
    assert_eq!(unnoticed, Vec::<u64>::new(), "of {:?}", disk.syncs());
}

#[test]
fn removing_a_sync_of_recovery_is_noticed() {
    // Killed after the write and before the sync of an epoch: the next start sees it, and nothing else has made it durable.
    let prepare = || {
        let (disk, base, mut store) = written(3);
        disk.plan(disk.operations() + 1, Fault::Crash);
        assert!(!append(&mut store, vec![frame(4)]));
        disk.crash(Crash::KillsProcess);
        (disk, base)
    };
    let (disk, base) = prepare();
    let syncs = disk.syncs().len();
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(4));
    let of_recovery = disk.syncs().split_off(syncs);
    assert_eq!(of_recovery.len(), 2, "the new segment and the directory");
    disk.crash(Crash::LosesUnsynced);
    let (_, seen) = open(&disk, &base, 3).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(4));
    for sync in of_recovery {
        let (disk, base) = prepare();
        disk.plan(sync, Fault::SkipsSync);
        open(&disk, &base, 2).unwrap();
        disk.crash(Crash::LosesUnsynced);
        let is_kept = open(&disk, &base, 3).is_ok_and(|(_, seen)| seen.recovered.epoch == Epoch(4));
        assert!(!is_kept, "sync {sync}");
    }
}

#[test]
fn removing_the_sync_before_a_spare_is_filled_is_noticed() {
    // A superseded segment became a spare; the directory does not know it yet when its bytes change.
    let is_healthy = |skipped: bool, seed: u64| {
        let (disk, base, store) = written(3);
        drop(store);
        drop(open(&disk, &base, 2).unwrap());
        let (mut store, _) = open(&disk, &base, 3).unwrap();
        assert!(1 <= store.status().spares);
        let mut epoch = 4;
        loop {
            let (before, is_last) = (disk.operations(), epoch == 30);
            assert!(!is_last, "a segment is full at some time");
            assert!(append(&mut store, vec![frame(epoch)]));
            if 2 < disk.operations() - before {
                break;
            }
            epoch += 1;
        }
        let (disk, base, store) = written(3);
        drop(store);
        drop(open(&disk, &base, 2).unwrap());
        let (mut store, _) = open(&disk, &base, 3).unwrap();
        for epoch in 4..epoch {
            assert!(append(&mut store, vec![frame(epoch)]));
        }
        if skipped {
            disk.plan(disk.operations(), Fault::SkipsSync);
        }
        // Directory sync, write, sync, and then the rename.
        disk.plan(disk.operations() + 3, Fault::Crash);
        assert!(!append(&mut store, vec![frame(epoch)]));
        disk.crash(Crash::Tears(seed));
        open(&disk, &base, 4).is_ok_and(|(_, seen)| seen.recovered.degraded.is_none())
    };
    assert!((0..40).all(|seed| is_healthy(false, seed)));
    assert!(!(0..40).all(|seed| is_healthy(true, seed)));
}

#[test]
fn a_header_survives_a_damaged_copy() {
    let (disk, base, store) = written(20);
    drop(store);
    for name in disk.names().into_iter().filter(|name| name.starts_with("log-")) {
        assert!(disk.flip(&name, 20, 1));
    }
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(20));
    assert!(seen.recovered.degraded.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bit_is_told_from_a_torn_end(epochs in 2_u64..20, entry: prop::sample::Index, byte: prop::sample::Index, bit in 0_u8..8) {
        let (disk, base, store) = written(epochs);
        drop(store);
        let entries = entries(&disk);
        prop_assert_eq!(entries.len() as u64, epochs);
        let (name, offset, size, number) = entry.get(&entries).clone();
        prop_assert!(disk.flip(&name, offset + byte.index(size), bit));
        let (_, seen) = open(&disk, &base, 2).unwrap();
        prop_assert_eq!(seen.recovered.epoch, Epoch(number - 1));
        prop_assert_eq!(seen.recovered.degraded.is_some(), number < epochs);
        check(&seen);
    }

    #[test]
    fn any_prefix_of_the_log_is_the_last_epoch_in_it(epochs in 1_u64..5, cut: prop::sample::Index, garbage: Vec<u8>) {
        let (disk, base, store) = written(epochs);
        drop(store);
        let whole = entries(&disk);
        let name = whole[0].0.clone();
        prop_assert!(whole.iter().all(|entry| entry.0 == name));
        let mut bytes = disk.bytes(&name).unwrap();
        let cut = SEGMENT_HEADER_BYTES + cut.index(bytes.len() - SEGMENT_HEADER_BYTES);
        bytes.truncate(cut);
        bytes.extend(garbage);
        disk.put(&name, &bytes);
        let expected = whole.iter().filter(|(_, offset, size, _)| offset + size <= cut).count() as u64;
        let (_, seen) = open(&disk, &base, 2).unwrap();
        prop_assert!(expected <= seen.recovered.epoch.0 && seen.recovered.epoch.0 <= expected + 1);
        prop_assert!(seen.recovered.degraded.is_none());
        check(&seen);
    }

    #[test]
    fn any_loss_of_unsynced_entries_is_a_normal_start(epochs in 1_u64..4, batch in 1_u64..5, seed: u64, operation in 0_u64..2) {
        let (disk, base, mut store) = written(epochs);
        disk.plan(disk.operations() + operation, Fault::Crash);
        let batch: Vec<LogEntry> = (epochs + 1..=epochs + batch).map(frame).collect();
        let asked = epochs + batch.len() as u64;
        prop_assert!(!append(&mut store, batch));
        disk.crash(Crash::Tears(seed));
        let (_, seen) = open(&disk, &base, 2).unwrap();
        prop_assert!((epochs..=asked).contains(&seen.recovered.epoch.0));
        prop_assert!(seen.recovered.degraded.is_none());
        check(&seen);
    }

    #[test]
    fn any_bytes_are_a_log_or_an_error(bytes: Vec<u8>, at: prop::sample::Index, seed: u64) {
        let (disk, base, mut store) = written(12);
        fold_whole(&mut store);
        assert!(append(&mut store, vec![frame(13)]));
        drop(store);
        let names = disk.names();
        let name = &names[usize::try_from(seed % names.len() as u64).unwrap()];
        let mut old = disk.bytes(name).unwrap();
        let at = at.index(old.len());
        old.truncate(at);
        old.extend(bytes);
        disk.put(name, &old);
        let _ = open(&disk, &base, 3);
    }
}
