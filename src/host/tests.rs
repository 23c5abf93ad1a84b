//! The store on real files and LMDB: what the simulator promises, the operating system keeps.

use std::ops::ControlFlow;
use std::path::Path;

use super::base::{LmdbBase, LmdbReader};
use super::files::{DirectoryError, FileDisk};
use crate::epoch::frame::FrameBuilder;
use crate::epoch::{Epoch, TimeStamp};
use crate::state::key::Key;
use crate::store::{Base, BaseError, BaseRead, LogEntry, Mark, Recovered, Store, StoreLimits};
use crate::store::{StoreCommand, StoreEvent};

const LIMITS: StoreLimits =
    StoreLimits { segment_bytes: 256 * 1024, log_bytes_max: 1024 * 1024, fold_keys: 50 };

fn open(path: &Path) -> (Store<FileDisk, LmdbBase>, LmdbReader, Recovered, usize) {
    let disk = FileDisk::open(&path.join("log")).unwrap();
    let (base, reader) = LmdbBase::open(&path.join("base"), 16 << 20).unwrap();
    let mut records = 0;
    let (store, recovered) = Store::open(disk, base, LIMITS, 1, &mut |_, _| records += 1).unwrap();
    (store, reader, recovered, records)
}

fn frame(epoch: u64, bytes: usize) -> LogEntry {
    let mut builder = FrameBuilder::default();
    builder.put(&key(&format!("id-{}", epoch % 100)), |out| out.extend(std::iter::repeat_n(7, bytes)));
    let mut sections = Vec::new();
    builder.finish(&mut sections);
    LogEntry::Frame { view: 1, epoch: Epoch(epoch), time: TimeStamp::default(), sections: vec![sections] }
}

fn key(id: &str) -> Key<'_> {
    Key::State { id, function_type: "a/b", name: "n", subkey: &[] }
}

#[test]
fn the_store_survives_restarts_on_real_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for start in 0..4 {
        let (mut store, reader, recovered, records) = open(directory.path());
        assert_eq!(recovered.epoch, Epoch(last));
        assert_eq!(recovered.created, start == 0);
        assert_eq!(records, if start == 0 { 0 } else { 5 });
        for _ in 0..400 {
            last += 1;
            let event = store.handle(StoreCommand::Append(vec![frame(last, 3000)]));
            assert!(matches!(event, StoreEvent::Appended { .. }), "{event:?}");
        }
        let mut steps = 0;
        while !matches!(store.handle(StoreCommand::Fold), StoreEvent::Folded { complete: true, .. }) {
            steps += 1;
            assert!(steps < 200);
        }
        assert!(1 <= steps, "a hundred keys take two transactions");
        for _ in 0..5 {
            last += 1;
            store.handle(StoreCommand::Append(vec![frame(last, 3000)]));
        }
        let mut keys = 0;
        let mut count = |_: &[u8], value: &[u8]| {
            assert_eq!(value.len(), 3000);
            keys += 1;
            ControlFlow::Continue(())
        };
        reader.seek(&[], &mut count).unwrap();
        assert_eq!(keys, 100);
    }
}

#[test]
fn appends_into_a_filled_segment_do_not_grow_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(directory.path());
    let length = || -> u64 {
        let files = std::fs::read_dir(directory.path().join("log")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    store.handle(StoreCommand::Append(vec![frame(1, 100)]));
    let before = length();
    for epoch in 2..20 {
        store.handle(StoreCommand::Append(vec![frame(epoch, 4000)]));
    }
    assert_eq!(length(), before);
}

#[test]
fn a_directory_in_use_names_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let _held = FileDisk::open(directory.path()).unwrap();
    let error = FileDisk::open(directory.path()).unwrap_err();
    assert!(matches!(error, DirectoryError::InUse { pid, .. } if pid == Some(std::process::id())));
}

#[test]
fn a_transaction_that_does_not_fit_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut base, reader) = LmdbBase::open(directory.path(), 256 * 1024).unwrap();
    let mark = Mark { entry: 3, ..Mark::default() };
    base.apply(&mut std::iter::once((&b"k"[..], Some(&b"v"[..]))), Some(&mark)).unwrap();
    let large = vec![1; 400 * 1024];
    let later = Mark::default();
    let result = base.apply(&mut std::iter::once((&b"k"[..], Some(&large[..]))), Some(&later));
    assert!(matches!(result, Err(BaseError::Full(_))), "{result:?}");
    assert_eq!(base.mark().unwrap(), Some(mark));
    let mut value = Vec::new();
    assert!(reader.get(b"k", &mut value).unwrap());
    assert_eq!(value, b"v");
    base.apply(&mut std::iter::once((&b"k"[..], None)), None).unwrap();
    assert!(!reader.get(b"k", &mut value).unwrap());
}

#[test]
fn a_flipped_bit_in_a_value_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (mut base, reader) = LmdbBase::open(directory.path(), 256 * 1024).unwrap();
    let value = b"a value that is easily found";
    base.apply(&mut std::iter::once((&b"k"[..], Some(&value[..]))), None).unwrap();
    drop((base, reader));
    let file = directory.path().join("data.mdb");
    let mut bytes = std::fs::read(&file).unwrap();
    let places: Vec<usize> =
        bytes.windows(value.len()).enumerate().filter(|(_, w)| w == value).map(|(i, _)| i).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    std::fs::write(&file, bytes).unwrap();
    let (_base, reader) = LmdbBase::open(directory.path(), 256 * 1024).unwrap();
    let result = reader.get(b"k", &mut Vec::new());
    assert!(matches!(result, Err(BaseError::Damaged { .. })), "{result:?}");
}
