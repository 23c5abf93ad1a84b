//! What storage may do beside losing power: fill up, refuse, lose, flip.

use super::*;

#[test]
fn a_full_disk_is_a_state() {
    let (disk, base, mut store) = written(5);
    disk.set_space(Some(disk.used()));
    let mut epoch = 5;
    let failure = loop {
        epoch += 1;
        match store.handle(StoreCommand::Append(vec![frame(epoch)])) {
            StoreEvent::Appended { .. } => {}
            StoreEvent::Failed { failure, .. } => break failure,
            StoreEvent::Folded { .. } => unreachable!(),
        }
    };
    assert_eq!(failure, StoreFailure::DiskFull);
    assert!(store.status().latched.is_some());
    let files = disk.names();
    for _ in 0..5 {
        assert!(matches!(store.handle(StoreCommand::Rewrite), StoreEvent::Failed { .. }));
    }
    assert_eq!(disk.names(), files, "no garbage");
    assert!(!append(&mut store, vec![frame(epoch + 1)]), "latched");
    disk.set_space(None);
    assert!(matches!(store.handle(StoreCommand::Rewrite), StoreEvent::Appended { .. }));
    assert!(store.status().latched.is_none());
    disk.crash(Crash::LosesUnsynced);
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(epoch + 1));
    check(&seen);
}

#[test]
fn a_read_only_disk_is_a_state() {
    let (disk, base, mut store) = written(5);
    disk.set_read_only(true);
    let event = store.handle(StoreCommand::Append(vec![frame(6)]));
    let StoreEvent::Failed { failure, .. } = event else { panic!("{event:?}") };
    assert_eq!(failure, StoreFailure::ReadOnly);
    disk.set_read_only(false);
    assert!(matches!(store.handle(StoreCommand::Rewrite), StoreEvent::Appended { .. }));
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(6));
}

#[test]
fn a_directory_that_lost_a_part_never_starts_as_empty() {
    let lose = |what: &str| {
        let (disk, base, mut store) = written(30);
        fold_whole(&mut store);
        assert!(append(&mut store, vec![frame(31)]));
        drop(store);
        // Every start begins a segment that follows what is proven.
        drop(open(&disk, &base, 9).unwrap());
        let (mut store, _) = open(&disk, &base, 10).unwrap();
        fold_whole(&mut store);
        assert!(append(&mut store, vec![frame(32)]));
        drop(store);
        for name in disk.names().into_iter().filter(|name| name.starts_with(what)) {
            disk.take_away(&name);
        }
        let base = if what == "base" { SimBase::new(&disk) } else { base };
        open(&disk, &base, 11).err()
    };
    assert!(matches!(lose("log-"), Some(OpenError::LogLost)));
    assert!(matches!(lose("manifest-"), Some(OpenError::ManifestLost)));
    assert!(matches!(lose("base"), Some(OpenError::BaseLost { .. })));
    assert!(lose("nothing").is_none());
}

#[test]
fn a_loss_is_on_record_until_accepted() {
    let (disk, base, store) = written(6);
    drop(store);
    let (name, offset, ..) = entries(&disk)[2].clone();
    assert!(disk.flip(&name, offset + ENTRY_HEADER_BYTES, 0));
    let (store, seen) = open(&disk, &base, 2).unwrap();
    let degraded = seen.recovered.degraded.clone().unwrap();
    assert_eq!((degraded.first(), degraded.last()), (Epoch(3), Epoch(6)));
    assert!(seen.recovered.not_successor);
    drop(store);
    let (mut store, seen) = open(&disk, &base, 3).unwrap();
    assert_eq!(seen.recovered.degraded, Some(degraded));
    assert_eq!(seen.recovered.epoch, Epoch(2));
    store.accept_degraded().unwrap();
    assert!(append(&mut store, vec![frame(3)]));
    drop(store);
    let (_, seen) = open(&disk, &base, 4).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(3));
    assert!(seen.recovered.degraded.is_none() && !seen.recovered.not_successor);
}

#[test]
fn session_records_behind_a_corruption_are_kept() {
    let (disk, base, mut store) = written(4);
    assert!(append(&mut store, vec![session_record(7)]));
    assert!(append(&mut store, vec![frame(5)]));
    drop(store);
    let (name, offset, ..) = entries(&disk)[1].clone();
    assert!(disk.flip(&name, offset, 0), "the length: where the next begins is not told");
    for entropy in 2..4 {
        let (_, seen) = open(&disk, &base, entropy).unwrap();
        assert_eq!(seen.recovered.epoch, Epoch(1));
        assert_eq!(check(&seen), Some(7));
        disk.crash(Crash::LosesUnsynced);
    }
}

#[test]
fn a_log_that_ends_before_the_mark_is_corrupt() {
    let (disk, base, mut store) = written(3);
    fold_whole(&mut store);
    drop(store);
    let (name, offset, ..) = entries(&disk).pop().unwrap();
    assert!(disk.flip(&name, offset + 9, 3));
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(3), "the base holds it");
    assert!(seen.recovered.degraded.is_some());
    check(&seen);
}

#[test]
fn damage_that_the_base_makes_good_costs_nothing() {
    let (disk, base, mut store) = written(3);
    fold_whole(&mut store);
    assert!(append(&mut store, vec![frame(4)]));
    drop(store);
    let (name, offset, ..) = entries(&disk)[1].clone();
    assert!(disk.flip(&name, offset + 1, 3));
    let (mut store, seen) = open(&disk, &base, 2).unwrap();
    assert_eq!(seen.recovered.epoch, Epoch(4));
    assert_eq!(seen.recovered.damaged_entries, 1);
    assert!(seen.recovered.degraded.is_none());
    check(&seen);
    fold_whole(&mut store);
    assert_eq!(base.values(), model(4));
}

#[test]
fn a_segment_that_was_released_before_an_older_one_is_no_damage() {
    // Power went before the directory was synced, and of several names only a middle one has changed.
    let (disk, base, mut store) = written(40);
    let before = disk.copied();
    fold_whole(&mut store);
    drop(store);
    let logs: Vec<String> = before.names().into_iter().filter(|name| name.starts_with("log-")).collect();
    assert!(3 <= logs.len(), "{logs:?}");
    for released in &logs[1..logs.len() - 1] {
        let disk = before.copied();
        disk.take_away(released);
        let base = base.copied(&disk);
        let (_, seen) = open(&disk, &base, 2).unwrap();
        assert_eq!(seen.recovered.epoch, Epoch(40));
        assert!(seen.recovered.degraded.is_none());
        assert_eq!(seen.recovered.damaged_entries, 0, "{released}");
    }
}

#[test]
fn an_unreadable_sector_is_never_a_torn_end() {
    let (disk, base, store) = written(4);
    drop(store);
    let (name, offset, ..) = entries(&disk).pop().unwrap();
    disk.damage_sector(&name, offset as u64);
    let (_, seen) = open(&disk, &base, 2).unwrap();
    assert!(seen.recovered.degraded.is_some());
    check(&seen);
}
