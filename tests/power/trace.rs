//! What did a process do to its files and sockets, in which order? Read from what strace wrote.
//!
//! Recorded is the real process on the real file system, LMDB included: nothing of it knows that it is watched. A call counts where it
//! returned, except that bytes count as sent where the call began. Files that no start trusts are left out: locks, the notes, which are
//! never synced, and the admin socket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One step of the process. Paths are relative to the directory in which the data directory lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    MakeDirectory(String),
    Create(String),
    Write {
        path: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// The write before, through a descriptor that writes synchronously, has returned.
    Settle {
        path: String,
    },
    Truncate {
        path: String,
        length: usize,
    },
    /// `fsync` or `fdatasync` of a file or a directory has returned.
    Sync(String),
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    Sent {
        socket: String,
        bytes: Vec<u8>,
    },
}

/// The calls by which files, names and sockets change. One that changes a file and is not understood is an error.
pub const CALLS: &str = "open,openat,openat2,creat,mkdir,mkdirat,lseek,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,\
                         sendfile,copy_file_range,splice,fsync,fdatasync,sync_file_range,msync,ftruncate,truncate,\
                         fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir";

/// Names in the data directory of which no start believes anything.
pub const UNTRUSTED: [&str; 5] = ["lock", "lock.mdb", "data.new-lock", "notes", "admin.sock"];

/// Reads a whole trace of `strace -f -y -xx`.
pub fn read(text: &[u8], root: &Path) -> Result<Vec<Event>, String> {
    let mut reader = Reader {
        root: root.to_str().ok_or("a path is not UTF-8")?.to_owned(),
        unfinished: BTreeMap::new(),
        synchronous: BTreeSet::new(),
        positions: BTreeMap::new(),
        events: Vec::new(),
    };
    for line in text.split(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(line).map_err(|_| "strace writes ASCII")?;
        reader.line(line).map_err(|text| format!("{text}: {}", &line[..line.len().min(300)]))?;
    }
    Ok(reader.events)
}

struct Reader {
    root: String,
    /// The beginning of a call that another thread interrupted, by thread.
    unfinished: BTreeMap<String, String>,
    /// Descriptors whose writes are durable when they return.
    synchronous: BTreeSet<u32>,
    /// Where a descriptor's next write without an offset goes, as far as it was said.
    positions: BTreeMap<u32, usize>,
    events: Vec<Event>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some((thread, rest)) = line.split_once(' ') else { return Ok(()) };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            self.sent(beginning)?;
            self.unfinished.insert(thread.to_owned(), beginning.to_owned());
            return Ok(());
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").ok_or("not understood")?;
            let beginning = self.unfinished.remove(thread).ok_or("resumed and never begun")?;
            return self.returned(&format!("{beginning}{end}"));
        }
        self.sent(rest)?;
        self.returned(rest)
    }

    /// Bytes that may have left with this call, as far as it is known.
    fn sent(&mut self, call: &str) -> Result<(), String> {
        let Some((name, arguments)) = call.split_once('(') else { return Ok(()) };
        if !["write", "writev", "sendto", "sendmsg"].contains(&name) {
            return Ok(());
        }
        let socket = descriptor(arguments)?.1;
        if socket.starts_with("socket:") {
            let bytes = strings(arguments)?.concat();
            self.events.push(Event::Sent { socket, bytes });
        }
        Ok(())
    }

    fn returned(&mut self, call: &str) -> Result<(), String> {
        let Some((name, rest)) = call.split_once('(') else { return Ok(()) };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return Ok(()) };
        let arguments = arguments.trim_end().strip_suffix(')').ok_or("not understood")?;
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(());
        }
        match name {
            "open" | "openat" | "openat2" | "creat" => self.opened(arguments, result),
            "mkdir" | "mkdirat" => {
                let path = self.tracked(&path_argument(arguments)?);
                self.events.extend(path.map(Event::MakeDirectory));
                Ok(())
            }
            "lseek" => {
                let (descriptor, _) = descriptor(arguments)?;
                self.positions.insert(descriptor, result.parse().map_err(|_| "no position")?);
                Ok(())
            }
            "pwrite64" | "pwritev" => {
                let offset = last_number(arguments)?;
                self.written(arguments, result, |_, _| Some(offset))
            }
            "write" | "writev" => self.written(arguments, result, |positions, (descriptor, count)| {
                let position = positions.get_mut(&descriptor)?;
                *position += count;
                Some(*position - count)
            }),
            "fsync" | "fdatasync" => {
                let path = self.tracked(&descriptor(arguments)?.1);
                self.events.extend(path.map(Event::Sync));
                Ok(())
            }
            "ftruncate" => {
                let length = last_number(arguments)?;
                let path = self.tracked(&descriptor(arguments)?.1);
                self.events.extend(path.map(|path| Event::Truncate { path, length }));
                Ok(())
            }
            "rename" | "renameat" | "renameat2" => {
                let names = strings(arguments)?;
                let [from, to] = names.as_slice() else { return Err("two names".to_owned()) };
                let path = |bytes: &[u8]| self.tracked(&String::from_utf8_lossy(bytes));
                match (path(from), path(to)) {
                    (Some(from), Some(to)) => self.events.push(Event::Rename { from, to }),
                    (None, None) => {}
                    _ => return Err("moved across what is recorded".to_owned()),
                }
                Ok(())
            }
            "unlink" | "unlinkat" => {
                let path = self.tracked(&path_argument(arguments)?);
                self.events.extend(path.map(Event::Remove));
                Ok(())
            }
            "sendto" | "sendmsg" => self.not_tracked(&descriptor(arguments)?.1),
            _ => {
                let named = strings(arguments).unwrap_or_default();
                let paths = named.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                paths.chain(descriptor(arguments).map(|it| it.1)).try_for_each(|path| self.not_tracked(&path))
            }
        }
    }

    fn opened(&mut self, arguments: &str, result: &str) -> Result<(), String> {
        let (descriptor, path) = descriptor(result)?;
        self.positions.remove(&descriptor);
        if arguments.contains("O_DSYNC") || arguments.contains("O_SYNC") {
            self.synchronous.insert(descriptor);
        } else {
            self.synchronous.remove(&descriptor);
        }
        let Some(path) = self.tracked(&path) else { return Ok(()) };
        if arguments.contains("O_TRUNC") || arguments.contains("O_APPEND") {
            return Err("a way to open that is not expected".to_owned());
        }
        if arguments.contains("O_CREAT") {
            self.events.push(Event::Create(path));
        }
        Ok(())
    }

    fn written(
        &mut self,
        arguments: &str,
        result: &str,
        offset: impl FnOnce(&mut BTreeMap<u32, usize>, (u32, usize)) -> Option<usize>,
    ) -> Result<(), String> {
        let (descriptor, path) = descriptor(arguments)?;
        let Some(path) = self.tracked(&path) else { return Ok(()) };
        let mut bytes = strings(arguments)?.concat();
        let count = result.split(' ').next().and_then(|text| text.parse().ok()).ok_or("no count")?;
        if bytes.len() < count {
            return Err("strace shortened what was written".to_owned());
        }
        bytes.truncate(count);
        let offset = offset(&mut self.positions, (descriptor, count)).ok_or("written at no known place")?;
        let is_synchronous = self.synchronous.contains(&descriptor);
        self.events.push(Event::Write { path: path.clone(), offset, bytes });
        if is_synchronous {
            self.events.push(Event::Settle { path });
        }
        Ok(())
    }

    /// The path as events name it; `None` if it is not recorded.
    fn tracked(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(&self.root)?;
        let below = below.strip_prefix('/').unwrap_or(below);
        let is_data = below.is_empty() || below == "data" || below.starts_with("data/");
        let name = below.rsplit('/').next()?;
        (is_data && !UNTRUSTED.contains(&name)).then(|| below.to_owned())
    }

    fn not_tracked(&self, path: &str) -> Result<(), String> {
        match self.tracked(path) {
            Some(path) => Err(format!("{path} changes in a way that is not expected")),
            None => Ok(()),
        }
    }
}

/// The descriptor at the beginning, and what it is: `8<path>`.
fn descriptor(text: &str) -> Result<(u32, String), String> {
    let (number, rest) = text.split_once('<').ok_or("no descriptor")?;
    let number = number.parse().map_err(|_| "no descriptor")?;
    let (path, _) = rest.split_once('>').ok_or("no descriptor")?;
    Ok((number, String::from_utf8(hexadecimal(path)?).map_err(|_| "not UTF-8")?))
}

fn path_argument(arguments: &str) -> Result<String, String> {
    let names = strings(arguments)?;
    let name = names.first().ok_or("no name")?;
    String::from_utf8(name.clone()).map_err(|_| "not UTF-8".to_owned())
}

/// Every quoted string.
fn strings(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut pieces = text.split('"');
    let mut found = Vec::new();
    pieces.next();
    while let (Some(inside), Some(behind)) = (pieces.next(), pieces.next()) {
        if behind.starts_with("...") {
            return Err("strace shortened a string".to_owned());
        }
        found.push(hexadecimal(inside)?);
    }
    Ok(found)
}

/// `\x2f\x74` and so on; what is not escaped stands for itself.
fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' && bytes.get(at + 1) == Some(&b'x') {
            let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(at + 2), digit(at + 3)) else {
                return Err("not hexadecimal".to_owned());
            };
            out.push(u8::try_from(high << 4 | low).map_err(|_| "not a byte")?);
            at += 4;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    Ok(out)
}

/// The last argument: an offset or a length.
fn last_number(arguments: &str) -> Result<usize, String> {
    let number = arguments.rsplit(", ").next().unwrap_or_default();
    number.parse().map_err(|_| "no number at the end".to_owned())
}

#[test]
fn calls_are_read_where_they_return_and_sent_bytes_where_they_begin() {
    let text = r#"7 openat(AT_FDCWD</>, "\x2f\x72\x2f\x64\x61\x74\x61", O_RDWR|O_CREAT, 0666) = 8<\x2f\x72\x2f\x64\x61\x74\x61>
7 pwrite64(8<\x2f\x72\x2f\x64\x61\x74\x61>, "\x61\x62", 2, 4096 <unfinished ...>
9 write(5<\x73\x6f\x63\x6b\x65\x74\x3a\x5b\x31\x5d>, "\x01", 1 <unfinished ...>
7 <... pwrite64 resumed>) = 2
7 fdatasync(8<\x2f\x72\x2f\x64\x61\x74\x61>) = -1 EIO (Input/output error)
7 fdatasync(8<\x2f\x72\x2f\x64\x61\x74\x61>) = 0
9 <... write resumed>) = 1
9 +++ killed by SIGKILL +++"#;
    let path = "data".to_owned();
    let expected = vec![
        Event::Create(path.clone()),
        Event::Sent { socket: "socket:[1]".to_owned(), bytes: vec![1] },
        Event::Write { path: path.clone(), offset: 4096, bytes: b"ab".to_vec() },
        Event::Sync(path),
    ];
    assert_eq!(read(text.as_bytes(), Path::new("/r")), Ok(expected));
    let append = r#"7 write(8<\x2f\x72\x2f\x64\x61\x74\x61>, "\x61", 1) = 1"#;
    assert!(read(append.as_bytes(), Path::new("/r")).is_err());
}
