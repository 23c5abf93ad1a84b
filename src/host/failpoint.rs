//! Where exactly did it die? Named points at which a test has the process kill itself.
//!
//! `FOGFUN_FAILPOINT=name[:n]` kills the process with SIGKILL at the `n`th passing (the first, if absent) of that point after
//! the node is ready; the name is first written to the file that `FOGFUN_FAILPOINT_LOG` names, so that the test knows it hit.
//!
//! Compiled in where `debug_assertions` are on, or with the feature `failpoints` (to test what ships); elsewhere a point is an
//! empty inline function, because a node in the field must not die by an environment variable.

use std::io;

use crate::store::{Base, BaseError, Disk, Mark};

/// A point in the life of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Point {
    /// Something is written to the log and not synced.
    AfterWrite,
    /// It is synced, and nobody told.
    AfterSync,
    /// A PUBREC is about to go to a socket.
    BeforePubrec,
    /// A PUBREC has gone to a socket.
    AfterPubrec,
    /// A transaction of a fold is about to be made.
    DuringFold,
    /// A segment of the log is about to be renamed or removed.
    AtSegmentRelease,
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    struct Armed {
        point: Point,
        name: String,
        passings_left: AtomicU64,
    }

    /// From now on points kill.
    pub fn arm() {
        ARMED.get_or_init(|| {
            let text = std::env::var("FOGFUN_FAILPOINT").ok()?;
            let (name, passings) = text.split_once(':').unwrap_or((text.as_str(), "1"));
            let Some(point) = named(name) else {
                log::error!("FOGFUN_FAILPOINT names no point: {name}");
                return None;
            };
            let passings_left = AtomicU64::new(passings.parse().unwrap_or(1));
            Some(Armed { point, name: name.to_owned(), passings_left })
        });
    }

    /// Dies here, if this is the point and the passing.
    pub fn pass(point: Point) {
        let Some(Some(armed)) = ARMED.get() else { return };
        if armed.point == point && armed.passings_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            die(&armed.name);
        }
    }

    /// Is this the point that kills?
    #[must_use]
    pub fn is_armed(point: Point) -> bool {
        matches!(ARMED.get(), Some(Some(armed)) if armed.point == point)
    }

    fn named(name: &str) -> Option<Point> {
        Some(match name {
            "after-write" => Point::AfterWrite,
            "after-sync" => Point::AfterSync,
            "before-pubrec" => Point::BeforePubrec,
            "after-pubrec" => Point::AfterPubrec,
            "during-fold" => Point::DuringFold,
            "at-segment-release" => Point::AtSegmentRelease,
            _ => return None,
        })
    }

    fn die(name: &str) {
        if let Some(path) = std::env::var_os("FOGFUN_FAILPOINT_LOG") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let written = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
            if let Err(error) = written {
                log::error!("FOGFUN_FAILPOINT_LOG cannot be written: {error}");
            }
        }
        let _never_returns =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(any(debug_assertions, feature = "failpoints")))]
mod armed {
    use super::Point;

    /// Nothing: failpoints are not compiled in.
    pub fn arm() {}
    /// Nothing: failpoints are not compiled in.
    #[inline(always)]
    pub fn pass(_: Point) {}
    /// Never: failpoints are not compiled in.
    #[inline(always)]
    #[must_use]
    pub fn is_armed(_: Point) -> bool {
        false
    }
}

pub use armed::{arm, is_armed, pass};

/// Does a run of whole MQTT packets hold a PUBREC?
#[must_use]
pub fn has_pubrec(mut packets: &[u8]) -> bool {
    while let Some((&first, rest)) = packets.split_first() {
        if first & 0xF0 == 0x50 {
            return true;
        }
        let (mut length, mut shift, mut at) = (0_usize, 0, 0);
        while let Some(&byte) = rest.get(at) {
            length |= usize::from(byte & 0x7F) << shift;
            (shift, at) = (shift + 7, at + 1);
            if byte & 0x80 == 0 || shift == 28 {
                break;
            }
        }
        packets = rest.get(at + length..).unwrap_or_default();
    }
    false
}

/// A disk or a base with points in front of and behind its operations.
#[derive(Debug)]
pub struct Watched<T>(pub T);

impl<D: Disk> Disk for Watched<D> {
    type File = D::File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&mut self, name: &str) -> io::Result<Self::File> {
        self.0.create(name)
    }
    fn open(&mut self, name: &str) -> io::Result<Self::File> {
        self.0.open(name)
    }
    fn length(&mut self, file: &mut Self::File) -> io::Result<u64> {
        self.0.length(file)
    }
    fn read(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(file, offset, buffer)
    }
    fn write(&mut self, file: &mut Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(file, offset, bytes)
    }
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()> {
        pass(Point::AfterWrite);
        self.0.sync(file)?;
        pass(Point::AfterSync);
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if from.starts_with("log-") {
            pass(Point::AtSegmentRelease);
        }
        self.0.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        pass(Point::AtSegmentRelease);
        self.0.remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.0.sync_directory()
    }
}

impl<B: Base> Base for Watched<B> {
    fn apply(
        &mut self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: Option<&Mark>,
    ) -> Result<(), BaseError> {
        pass(Point::DuringFold);
        self.0.apply(changes, mark)
    }
    fn mark(&self) -> Result<Option<Mark>, BaseError> {
        self.0.mark()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pubrec_is_found_behind_other_packets_and_only_as_a_packet() {
        let publish = [0x30, 5, 0, 1, b'a', 0x50, 0x50];
        assert!(!has_pubrec(&publish));
        assert!(has_pubrec(&[&publish[..], &[0x50, 2, 0, 7]].concat()));
        assert!(!has_pubrec(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x50]));
        assert!(!has_pubrec(&[]));
    }
}
