//! What does an event cost the storage? Bytes given to `write(2)`, bytes that the block device wrote, and syncs.
//!
//! The device's counter is of the whole device: whatever else writes meanwhile is in it, so the echo's run, which writes nothing,
//! is printed beside. Where the data directory lies on no block device, that is said instead of a figure.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::relay::of_process;

/// Counters at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    pub written: u64,
    pub device: Option<u64>,
    pub syncs: u64,
}

impl Marks {
    /// The counters of a process, of the device under `directory`, and `syncs` as the node tells it.
    pub fn now(pid: u32, directory: &Path, syncs: u64) -> Self {
        let device = counters_of_device(directory).and_then(|counters| {
            let text = std::fs::read_to_string(counters).ok()?;
            let sectors: u64 = text.split_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
            Some(sectors * SECTOR_BYTES)
        });
        Self { written: of_process(pid, "io", "wchar"), device, syncs }
    }

    /// What came since `before`, for each of so many events.
    pub fn since(self, before: Self, events: u32) -> String {
        let each = |now: u64, before: u64| (now - before) as f64 / f64::from(events);
        let device = match (self.device, before.device) {
            (Some(now), Some(before)) => format!("{:.0} B to the device", each(now, before)),
            _ => "NO BLOCK DEVICE under the data directory: device bytes unknown".to_owned(),
        };
        format!(
            "{:.0} B to write(2), {device}, {:.3} syncs",
            each(self.written, before.written),
            each(self.syncs, before.syncs)
        )
    }
}

/// The counters of the block device that a directory lies on, if it lies on one.
fn counters_of_device(directory: &Path) -> Option<PathBuf> {
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let counters = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    counters.exists().then_some(counters)
}

/// The place of the sectors written in a device's `stat` (Documentation/block/stat.rst), and how long one is there.
const SECTORS_WRITTEN: usize = 6;
const SECTOR_BYTES: u64 = 512;
