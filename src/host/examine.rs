//! What can be seen of the machine and its brokers before anything runs? Readings for `fogfun doctor`, which judges them.
//!
//! Each reading is bounded in time and leaves nothing behind: the file for the storage test is removed, the session at the broker
//! ended. Nothing here touches the log or the base.

mod broker;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use broker::{Broker, broker};

/// How long storage is synced.
pub const SYNC_TIME: Duration = Duration::from_secs(2);
/// Bytes of the file that storage is tested with.
pub const FILE_BYTES: usize = 8 * 1024 * 1024;
/// Syncs at most, whatever the time: a fast disk is known by then.
pub const SYNCS_MAX: usize = 2_000;
/// One write of the test: a page, as a small epoch is.
const WRITE_BYTES: usize = 4096;
const FILE_NAME: &str = "doctor.tmp";

/// What storage does.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Is it memory, so that data is gone with the power?
    pub is_memory: bool,
    /// Bytes per second of one long write with one sync at its end.
    pub bytes_per_second: u64,
    /// How long each write of a page with its sync took, in microseconds, in ascending order; one at least.
    pub syncs_us: Vec<u64>,
}

/// Writes and syncs a file of [`FILE_BYTES`] in the directory for [`SYNC_TIME`], and removes it.
///
/// # Errors
/// What the operating system says.
pub fn storage(directory: &Path) -> io::Result<Storage> {
    let path = directory.join(FILE_NAME);
    let read = test_storage(&path);
    let removed = std::fs::remove_file(&path);
    let (bytes_per_second, syncs_us) = read?;
    removed?;
    Ok(Storage { is_memory: is_memory(directory), bytes_per_second, syncs_us })
}

fn test_storage(path: &Path) -> io::Result<(u64, Vec<u64>)> {
    let mut file = File::create(path)?;
    let begin = Instant::now();
    // Not zeros: some cards and file systems have a shorter way for them.
    let chunk: Vec<u8> = (0..=u8::MAX).cycle().take(WRITE_BYTES * 16).collect();
    for _ in 0..FILE_BYTES / chunk.len() {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    let bytes_per_second = FILE_BYTES as u64 * 1_000_000 / micros;
    let (begin, mut syncs_us) = (Instant::now(), Vec::new());
    while syncs_us.is_empty() || (begin.elapsed() < SYNC_TIME && syncs_us.len() < SYNCS_MAX) {
        let one = Instant::now();
        let offset = (syncs_us.len() * WRITE_BYTES % FILE_BYTES) as u64;
        file.write_all_at(chunk.get(..WRITE_BYTES).unwrap_or_default(), offset)?;
        file.sync_data()?;
        syncs_us.push(u64::try_from(one.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    syncs_us.sort_unstable();
    Ok((bytes_per_second, syncs_us))
}

fn is_memory(directory: &Path) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58F6;
    // The field has another type, and another sign, on almost every board.
    let kind = rustix::fs::statfs(directory).ok().map(|status| i128::from(status.f_type) & 0xFFFF_FFFF);
    kind.is_some_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

/// The directory itself, or the nearest above it that is there.
#[must_use]
pub fn nearest(directory: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(directory).ok()?;
    absolute.ancestors().find(|above| above.is_dir()).map(Path::to_path_buf)
}

/// Bytes that an ordinary user may still write.
///
/// # Errors
/// What the operating system says.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(directory)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Bytes of one page of memory.
#[must_use]
pub fn page_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("KernelPageSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Open files that the process may have; `None` is any number.
#[must_use]
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Does the kernel limit the memory of groups of processes? `None` if it does not say.
#[must_use]
pub fn has_memory_groups() -> Option<bool> {
    let second = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
    let first = std::fs::read_to_string("/proc/cgroups").ok();
    memory_groups(second.as_deref(), first.as_deref())
}

fn memory_groups(controllers: Option<&str>, cgroups: Option<&str>) -> Option<bool> {
    if controllers.is_some_and(|controllers| controllers.split_whitespace().any(|word| word == "memory")) {
        return Some(true);
    }
    let of_memory = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("memory")).then(|| words.next_back() == Some("1"))
    };
    match cgroups {
        Some(cgroups) => Some(cgroups.lines().find_map(of_memory).unwrap_or(false)),
        None => controllers.map(|_| false),
    }
}

/// Where a Raspberry Pi keeps the kernel's words, if this is one.
#[must_use]
pub fn command_line_file() -> Option<&'static str> {
    ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"].into_iter().find(|path| Path::new(path).exists())
}

/// Is nobody listening there, and may we?
///
/// # Errors
/// What the operating system says.
pub fn bind(address: std::net::SocketAddr) -> io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_measured_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path()).unwrap();
        assert!(0 < storage.bytes_per_second);
        assert!(storage.syncs_us.is_sorted() && (1..=SYNCS_MAX).contains(&storage.syncs_us.len()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(super::storage(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn the_machine_says_something() {
        assert!(page_bytes().is_some_and(|bytes| bytes.is_power_of_two() && 4096 <= bytes));
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(directory.path()).is_ok());
        assert_eq!(nearest(&directory.path().join("a/b")).as_deref(), Some(directory.path()));
    }

    #[test]
    fn memory_groups_are_found_in_both_versions() {
        assert_eq!(memory_groups(Some("cpuset cpu io memory pids\n"), None), Some(true));
        assert_eq!(memory_groups(Some("cpuset cpu io pids\n"), None), Some(false));
        let first = "#subsys_name hierarchy num_cgroups enabled\ncpuset 0 1 1\nmemory 0 60 0\n";
        assert_eq!(memory_groups(None, Some(first)), Some(false));
        assert_eq!(memory_groups(None, Some(&first.replace("60 0", "60 1"))), Some(true));
        assert_eq!(memory_groups(None, None), None);
    }
}
