//! Where do the log's segments live? In one directory, flat, that one process at a time may use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::store::Disk;

/// How long a start waits for a directory's lock. A command that reads a directory at rest, or a process that is ending, gives it back
/// well within; longer tells a second start of the same node later that it is one.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The files of one directory. Holds the directory's lock until dropped.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    directory: File,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process has it; nothing was changed.
    #[error("{} is in use by {}", path.display(), holder(*pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// That process, if it left its number.
        pid: Option<u32>,
    },
    /// What the operating system says.
    #[error("{}: {source}", path.display())]
    Failed {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl FileDisk {
    /// Opens a directory, made durably if there is none, and locks it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        Self::open_waiting(path, Duration::ZERO)
    }

    /// The same; as long as another process has it, tries again for so long, and says so once.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open_waiting(path: &Path, wait_max: Duration) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Failed { path: path.to_owned(), source };
        create_directory(path).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(failed)?;
        lock_waiting(path, &mut lock, wait_max)?;
        note_process(&mut lock).map_err(failed)?;
        let directory = File::open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), directory, _lock: lock })
    }
}

fn lock_waiting(path: &Path, lock: &mut File, wait_max: Duration) -> Result<(), DirectoryError> {
    let begin = Instant::now();
    let mut is_told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => {
                return Err(DirectoryError::Failed { path: path.to_owned(), source });
            }
        }
        let waited = begin.elapsed();
        if !is_told || wait_max <= waited {
            let in_use = DirectoryError::InUse { path: path.to_owned(), pid: read_process(lock) };
            if wait_max <= waited {
                return Err(in_use);
            }
            log::info!("{in_use}: waiting for it, {} s at most", wait_max.as_secs());
            is_told = true;
        }
        std::thread::sleep(LOCK_POLL_INTERVAL);
    }
}

fn read_process(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// The lock is what counts; the number in it is for people, so a full disk does not matter.
fn note_process(lock: &mut File) -> io::Result<()> {
    lock.seek(SeekFrom::Start(0))?;
    lock.set_len(0)?;
    let _ = writeln!(lock, "{}", std::process::id());
    Ok(())
}

/// Makes a directory, and those above it that are missing, and makes their names durable. A name that is there may be one that a
/// start cut short never made durable, so its directory is synced all the same, as far as that is permitted.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        let _as_far_as_permitted = sync_directory(parent);
        return Ok(());
    }
    if !parent.is_dir() {
        create_directory(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent)
}

/// Returns when the names in the directory are durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk for FileDisk {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.open(self.path.join(name))
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(self.path.join(name))
    }

    fn length(&mut self, file: &mut File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read(&mut self, file: &mut File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    fn write(&mut self, file: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // Some file systems (NFS, overlays of old kernels) do not know the flag. The lock makes the check safe.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if to.try_exists()? {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&from, &to)
            }
            result => Ok(result?),
        }
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// The file that is locked.
const LOCK: &str = "lock";
