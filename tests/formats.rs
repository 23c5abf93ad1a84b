//! Bytes that were written once can be read for ever: golden files of every format. `BLESS=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;

use fogfun::epoch::frame::FrameBuilder;
use fogfun::epoch::{Epoch, TimeStamp};
use fogfun::sim::base::SimBase;
use fogfun::sim::disk::SimDisk;
use fogfun::state::key::{Direction, Key};
use fogfun::store::{LogEntry, Store, StoreLimits};
use fogfun::store::{StoreCommand, StoreEvent};

const LIMITS: StoreLimits = StoreLimits { segment_bytes: 8192, log_bytes_max: 100_000, fold_keys: 10 };

fn entries() -> Vec<LogEntry> {
    let mut builder = FrameBuilder::default();
    let state = |id| Key::State { id, function_type: "shop/fridge", name: "sum", subkey: b"x" };
    builder.put(&state("kitchen"), |out| out.extend(b"21.5"));
    builder.delete(&state("cellar"));
    let mut sections = Vec::new();
    builder.finish(&mut sections);
    let progress = Key::Progress { id: "in", incarnation: 2, direction: Direction::In };
    vec![
        LogEntry::Frame {
            view: 1,
            epoch: Epoch(7),
            time: TimeStamp { runtime_ms: 1234, proven: Some((1200, 1_700_000_000_000)) },
            sections: vec![sections],
        },
        LogEntry::SessionRecords {
            records: vec![
                (progress.to_vec(), vec![1, 2, 3]),
                (Key::Session { id: "old" }.to_vec(), Vec::new()),
            ],
        },
    ]
}

fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    std::fs::read(path).unwrap()
}

#[test]
fn the_log_of_version_1_is_written_and_read_as_ever() {
    let disk = SimDisk::default();
    let ignore = &mut |_: &[u8], _: Option<&[u8]>| ();
    let (mut store, _) = Store::open(disk.clone(), SimBase::new(&disk), LIMITS, 42, ignore).unwrap();
    let event = store.handle(StoreCommand::Append(entries()));
    assert!(matches!(event, StoreEvent::Appended { fold_due: false }));
    let old = SimDisk::default();
    for name in disk.names() {
        let written = disk.bytes(&name).unwrap();
        let bytes = golden(&format!("v1-{name}"), &written);
        assert!(bytes == written, "{name} is written as before");
        old.put(&name, &bytes);
    }
    assert_eq!(old.names().len(), 2, "{:?}", old.names());
    let mut values = BTreeMap::new();
    let (_, recovered) = Store::open(old.clone(), SimBase::new(&old), LIMITS, 43, &mut |key, value| {
        values.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    })
    .unwrap();
    assert_eq!((recovered.epoch, recovered.view), (Epoch(7), 1));
    assert_eq!(recovered.time.proven, Some((1200, 1_700_000_000_000)));
    assert_eq!(values.len(), 4);
    assert_eq!(values[&Key::Session { id: "old" }.to_vec()], None);
}
