//! Where do words for people go? To stderr, with a priority systemd understands if it listens.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Installs the logger; `FOGFUN_LOG` is `off`, `error`, `warn`, `info` (the default), `debug` or `trace`.
pub fn install() {
    let level = std::env::var("FOGFUN_LOG").ok().and_then(|text| text.parse().ok());
    let logger = Logger { journal: std::env::var_os("JOURNAL_STREAM").is_some() };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
    }
}

struct Logger {
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = match (self.journal, record.level()) {
            (true, level) => format!("<{}>{}\n", priority(level), record.args()),
            (false, Level::Info) => format!("{}\n", record.args()),
            (false, level) => format!("{}: {}\n", level.as_str().to_lowercase(), record.args()),
        };
        // Nobody is left to hear that stderr is gone.
        let _gone = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// The syslog priority that `sd-daemon(3)` reads in front of a line.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
