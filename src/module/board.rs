//! What may this board spend? Memory, storage, time and tries; one TOML file per board.
//!
//! The numbers of the four boards that come with FogFun, and where each is from, are in `boards/`. A file of one's own names only
//! what differs from `boards/generic.toml`. A table `[about]` in it is for people and is not read.

use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::error::{LoadErrors, Place, Report, Source};
use super::suggest;
use crate::limits::{VALUE_BYTES_MAX, WORKERS_MAX};

/// Declares the struct, its defaults and the table by which a file is read, so that they cannot differ.
macro_rules! board {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $least:literal ..= $most:literal;)+) => {
        /// The bounds that a board chooses. Relations between them are checked by [`Board::parse`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Board {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\nDefault ", stringify!($default), ", from ", stringify!($least), " to ", stringify!($most), ".")]
                pub $name: $type,
            )+
        }

        impl Default for Board {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        const FIELDS: &[Field] = &[$(
            Field {
                name: stringify!($name),
                least: $least,
                most: $most,
                set: |board, value| board.$name = value.try_into().unwrap_or($default),
            },
        )+];

        // What is in range fits its type.
        $(const _: () = assert!(is_ordered([$least, $default, $most, <$type>::MAX as u64]));)+
    };
}

struct Field {
    name: &'static str,
    least: u64,
    most: u64,
    set: fn(&mut Board, u64),
}

board! {
    /// Threads that own key groups. More than one helps only functions that compute much; each takes its share of the memory.
    /// Too small: functions wait for each other. Too large: more switching, smaller shares.
    workers: u16 = 1, 1 ..= 64;
    /// Milliseconds between two cuts at least. Too small: more syncs, more wear of an SD card. Too large: every record waits
    /// that much longer before it is acknowledged and published.
    epoch_pause_ms: u64 = 0, 0 ..= 10_000;
    /// Microseconds after which a cut no longer waits for the node to come to rest. Too small: a chain of messages is torn into
    /// several epochs. Too large: a busy node commits late.
    epoch_age_us: u64 = 1_000, 100 ..= 1_000_000;
    /// Bytes that one epoch may have dirty before it is cut; reserved once per worker. Too small: many cuts under load. Too
    /// large: less memory for all else.
    epoch_bytes: u64 = 4_194_304, 1_048_576 ..= 67_108_864;
    /// The memory account, in bytes: mailboxes, overlay, dirty pages, frame buffers, channels, MQTT windows. Too small: spills
    /// early, then closes the ingress. Too large: the kernel kills the process.
    memory_bytes: u64 = 67_108_864, 16_777_216 ..= 17_179_869_184;
    /// Bytes of log at which it is folded into the base. Too small: the same keys are folded again and again. Too large: a start
    /// reads it all, and the overlay needs as much memory.
    log_bytes_max: u64 = 33_554_432, 4_194_304 ..= 1_073_741_824;
    /// Bytes of one segment of the log. Too small: many files and directory syncs. Too large: space is freed late.
    segment_bytes: u64 = 4_194_304, 1_048_576 ..= 134_217_728;
    /// Bytes of the base's map, the most that state may take on storage. Too small: folds fail with a full map. Too large: needs
    /// address space only, but more than storage has is found out late.
    base_bytes: u64 = 17_179_869_184, 16_777_216 ..= 1_099_511_627_776;
    /// Keys of one transaction of a fold; every page it touches is on the heap. Too small: more syncs per fold. Too large: a
    /// fold of scattered keys takes 4 KiB each.
    fold_keys: u32 = 2_000, 100 ..= 100_000;
    /// PUBLISHes above QoS 0 that a broker may have outstanding towards a session that does not say its own, if half of a worker's
    /// share of the memory holds as many of `packet_bytes_max`, else what it holds. Too small: the broker waits for commits. Too
    /// large: that memory is reserved.
    receive_maximum: u16 = 1_000, 1 ..= 65_535;
    /// Largest MQTT packet, in bytes, of a session that does not say its own. Too small: the broker drops larger ones. Too
    /// large: reserves `receive_maximum` times this.
    packet_bytes_max: u32 = 16_384, 256 ..= 327_680;
    /// Milliseconds that one call of an embedded function may take before the process is ended. Too small: a slow card or a
    /// busy board looks like an endless loop. Too large: an endless loop stops its worker that long.
    invocation_max_ms: u64 = 5_000, 100 ..= 600_000;
    /// Messages that wait in all mailboxes of a worker, in memory and on storage, before its ingress is closed. Too small: closes
    /// in every burst, and a broker drops what it cannot queue. Too large: storage fills.
    waiting_messages_max: u32 = 1_000_000, 1_000 ..= 100_000_000;
    /// Bytes of messages under way on one channel between two workers; less if all channels to a worker would have more than 12 % of its
    /// account. Too small: workers wait for credit. Too large: barriers come late.
    channel_bytes: u32 = 262_144, 16_384 ..= 16_777_216;
    /// Times that a failing invocation is tried before its message is a dead letter. Too small: a passing trouble makes dead
    /// letters. Too large: its address waits long.
    attempts_max: u32 = 5, 1 ..= 100;
    /// Milliseconds before the second try; doubled for each further one. Too small: tries end before a passing trouble does. Too
    /// large: its address waits long.
    retry_first_ms: u64 = 100, 1 ..= 60_000;
    /// Milliseconds between two tries at most.
    retry_max_ms: u64 = 10_000, 1 ..= 3_600_000;
}

impl Board {
    /// A board that comes with FogFun: one of [`BOARD_NAMES`].
    ///
    /// # Errors
    /// If there is none of that name; the error lists them.
    pub fn named(name: &str) -> Result<Self, LoadErrors> {
        match BOARDS.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => Self::parse(&format!("boards/{known}.toml"), text),
            None => Err(LoadErrors::of_file(
                name,
                format!("there is no board `{name}`"),
                Some(format!(
                    "{}; or give the path of a file that ends in `.toml`",
                    suggest::help(name, BOARD_NAMES)
                )),
            )),
        }
    }

    /// Reads a board file; what it does not name has the default.
    ///
    /// # Errors
    /// Syntax errors, unknown keys, values out of range, and bounds that do not go together; several at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadErrors> {
        let source = Arc::new(Source::new(file, text));
        let mut report = Report::new(Arc::clone(&source));
        if BOARD_BYTES_MAX < text.len() {
            let message = format!("the file has {} bytes, at most {BOARD_BYTES_MAX} are read", text.len());
            report.add(Place::NOWHERE, message, None);
            return report.finish(Self::default());
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = error.span().map_or(Place::NOWHERE, |span| source.place(span));
            report.add(place, format!("this is not TOML: {}", error.message()), None);
        }
        let mut board = Self::default();
        let mut places = Vec::new();
        if errors.is_empty() {
            for (key, value) in table.get_ref() {
                let key_place = source.place(key.span());
                if *key.get_ref() == ABOUT {
                    continue;
                }
                let name: &str = key.get_ref();
                let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
                    let help = suggest::help(name, FIELDS.iter().map(|field| field.name));
                    report.add(key_place, format!("unknown key `{name}` in a board file"), help);
                    continue;
                };
                places.push((field.name, key_place));
                match whole_number(value.get_ref())
                    .filter(|number| (field.least..=field.most).contains(number))
                {
                    Some(number) => (field.set)(&mut board, number),
                    None => {
                        let message =
                            format!("`{name}` is a whole number from {} to {}", field.least, field.most);
                        report.add(source.place(value.span()), message, None);
                    }
                }
            }
        }
        board.check(&places, &mut report);
        report.finish(board)
    }

    /// This board with another number of workers.
    ///
    /// # Errors
    /// If there are none or too many, or a worker's share of the memory would be too small.
    pub fn with_workers(self, workers: u16) -> Result<Self, LoadErrors> {
        if workers == 0 || crate::limits::WORKERS_MAX < usize::from(workers) {
            let most = crate::limits::WORKERS_MAX;
            return Err(LoadErrors::of_file(
                "--workers",
                format!("{workers} is not between 1 and {most}"),
                None,
            ));
        }
        let board = Self { workers, ..self };
        let mut report = Report::new(Arc::new(Source::new("--workers", "")));
        board.check(&[], &mut report);
        report.finish(board)
    }

    /// [`epoch_pause_ms`](Self::epoch_pause_ms) as a duration.
    #[must_use]
    pub fn epoch_pause(&self) -> Duration {
        Duration::from_millis(self.epoch_pause_ms)
    }

    /// [`epoch_age_us`](Self::epoch_age_us) as a duration.
    #[must_use]
    pub fn epoch_age(&self) -> Duration {
        Duration::from_micros(self.epoch_age_us)
    }

    /// [`invocation_max_ms`](Self::invocation_max_ms) as a duration.
    #[must_use]
    pub fn invocation_max(&self) -> Duration {
        Duration::from_millis(self.invocation_max_ms)
    }

    /// A worker's share of the memory account, in bytes.
    #[must_use]
    pub fn worker_memory_bytes(&self) -> u64 {
        self.memory_bytes / u64::from(self.workers)
    }

    /// What of it is for whatever waits or is cached; the rest is for the frames of epochs: one that grows, one that is being written, and
    /// its copy in the log's buffer.
    #[must_use]
    pub fn worker_account_bytes(&self) -> u64 {
        self.worker_memory_bytes().saturating_sub(FRAMES_AT_ONCE * self.epoch_bytes)
    }

    /// [`receive_maximum`](Self::receive_maximum), or what half of a worker's share of the memory holds if that is less.
    #[must_use]
    pub fn session_receive_maximum(&self) -> u16 {
        let fitting = self.worker_account_bytes() / 2 / u64::from(self.packet_bytes_max).max(1);
        self.receive_maximum.min(u16::try_from(fitting).unwrap_or(u16::MAX)).max(1)
    }

    /// How bounds relate. Shown at the key that the file names, the later of two if both.
    fn check(&self, places: &[(&str, Place)], report: &mut Report) {
        let relations: [(bool, &[&str], &str, &str); 4] = [
            (
                self.segment_bytes.saturating_mul(2) <= self.log_bytes_max,
                &["segment_bytes", "log_bytes_max"],
                "the log has room for two segments at least",
                "`log_bytes_max` ≥ 2 × `segment_bytes`",
            ),
            (
                self.log_bytes_max <= self.memory_bytes,
                &["log_bytes_max", "memory_bytes"],
                "what is in the log is in memory as well",
                "`log_bytes_max` ≤ `memory_bytes`",
            ),
            (
                self.epoch_bytes.saturating_mul(FRAMES_AT_ONCE + 1) <= self.worker_memory_bytes(),
                &["workers", "memory_bytes", "epoch_bytes"],
                "a worker's share of the memory is too small for its epochs",
                "4 × `epoch_bytes` ≤ `memory_bytes` / `workers`",
            ),
            (
                self.retry_first_ms <= self.retry_max_ms,
                &["retry_first_ms", "retry_max_ms"],
                "the first wait is longer than the longest",
                "`retry_first_ms` ≤ `retry_max_ms`",
            ),
        ];
        for (holds, names, message, help) in relations {
            if !holds {
                let named = places.iter().filter(|(name, _)| names.contains(name));
                let place = named.map(|(_, place)| *place).max().unwrap_or(Place::NOWHERE);
                report.add(place, message, help.to_owned());
            }
        }
    }
}

const fn is_ordered(numbers: [u64; 4]) -> bool {
    numbers[0] <= numbers[1] && numbers[1] <= numbers[2] && numbers[2] <= numbers[3]
}

fn whole_number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The boards that come with FogFun.
pub const BOARD_NAMES: [&str; 4] = ["generic", "rpi3bplus", "rpi4", "rpi5"];

const BOARDS: [(&str, &str); 4] = [
    (BOARD_NAMES[0], include_str!("../../boards/generic.toml")),
    (BOARD_NAMES[1], include_str!("../../boards/rpi3bplus.toml")),
    (BOARD_NAMES[2], include_str!("../../boards/rpi4.toml")),
    (BOARD_NAMES[3], include_str!("../../boards/rpi5.toml")),
];

/// Frames of a worker that are in memory at a time.
const FRAMES_AT_ONCE: u64 = 3;
/// The table of a board file that is for people.
const ABOUT: &str = "about";
/// Largest board file, in bytes.
const BOARD_BYTES_MAX: usize = 65_536;

// A session can carry the largest packet there is; every worker that a board may ask for exists.
const _: () = assert!(VALUE_BYTES_MAX + 65_536 == 327_680 && WORKERS_MAX == 64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_board_that_comes_with_us_is_sound() {
        for name in BOARD_NAMES {
            let board = Board::named(name).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(board.memory_bytes <= Board::default().memory_bytes * 4, "{name}");
        }
        assert_eq!(Board::named("generic").unwrap(), Board::default());
        let text = BOARDS[0].1;
        for field in FIELDS {
            assert!(text.contains(&format!("\n{} = ", field.name)), "generic.toml names {}", field.name);
        }
    }

    #[test]
    fn what_is_wrong_in_a_board_file_is_told() {
        for (text, error) in [
            (
                "worker = 1\n",
                "b.toml:1:1: unknown key `worker` in a board file\n  1 | worker = 1\n    | ^^^^^^\n  help: did you mean `workers`?",
            ),
            (
                "# x\nworkers = 65\nattempts_max = \"5\"\n",
                "b.toml:2:11: `workers` is a whole number from 1 to 64\n  2 | workers = 65\n    |           ^^\n\n\
                 b.toml:3:16: `attempts_max` is a whole number from 1 to 100\n  3 | attempts_max = \"5\"\n    |                ^^^",
            ),
            (
                "segment_bytes = 0x8000000\n",
                "b.toml:1:1: the log has room for two segments at least\n  1 | segment_bytes = 0x8000000\n    | ^^^^^^^^^^^^^\n  help: `log_bytes_max` ≥ 2 × `segment_bytes`",
            ),
            (
                "log_bytes_max = 134_217_728\n",
                "b.toml:1:1: what is in the log is in memory as well\n  1 | log_bytes_max = 134_217_728\n    | ^^^^^^^^^^^^^\n  help: `log_bytes_max` ≤ `memory_bytes`",
            ),
            (
                "workers = 4\nreceive_maximum = 100\nepoch_bytes = 8_388_608\n",
                "b.toml:3:1: a worker's share of the memory is too small for its epochs\n  3 | epoch_bytes = 8_388_608\n    | ^^^^^^^^^^^\n  help: 4 × `epoch_bytes` ≤ `memory_bytes` / `workers`",
            ),
            (
                "retry_max_ms = 50\n",
                "b.toml:1:1: the first wait is longer than the longest\n  1 | retry_max_ms = 50\n    | ^^^^^^^^^^^^\n  help: `retry_first_ms` ≤ `retry_max_ms`",
            ),
        ] {
            assert_eq!(Board::parse("b.toml", text).unwrap_err().to_string(), error, "{text}");
        }
        let syntax = Board::parse("b.toml", "workers = 1\nattempts_max = = 2\n").unwrap_err();
        assert!(
            syntax.to_string().starts_with("b.toml:2:16: this is not TOML: extra `=`, expected nothing\n"),
            "{syntax}"
        );
        let unknown = Board::named("rpi3").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "rpi3: there is no board `rpi3`\n  help: did you mean `rpi4`?; or give the path of a file that ends in `.toml`"
        );
        assert!(Board::parse("b", &" ".repeat(BOARD_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn what_a_file_leaves_out_has_its_default() {
        let board =
            Board::parse("b.toml", "epoch_pause_ms = 40\n[about]\ncores = 4\nanything = \"x\"\n").unwrap();
        assert_eq!(board, Board { epoch_pause_ms: 40, ..Board::default() });
        assert_eq!(board.epoch_pause(), Duration::from_millis(40));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z_=0-9\\[\\]\"\n. é-]{0,60}") {
            let _ = Board::parse("b.toml", &text).map_err(|errors| errors.to_string());
        }
    }
}
