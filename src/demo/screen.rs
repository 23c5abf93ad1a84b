//! Where is it shown? On a terminal as a live table, elsewhere as lines, for a script as one JSON object.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::DemoOptions;
use super::table::{self, Colour, View};

/// How often a table is drawn: often enough to live, seldom enough to be read.
const TABLE_PERIOD: Duration = Duration::from_millis(200);
/// How often a line is printed where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(2);

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A table in place.
    Table {
        /// Unless `NO_COLOR` is set.
        is_coloured: bool,
    },
    /// One line after the other.
    Lines,
    /// Nothing but the result.
    Json,
}

/// The standard output.
pub(super) struct Screen {
    style: Style,
    /// Lines of the table on the terminal.
    drawn: usize,
    due: Instant,
}

impl Style {
    /// As asked for, and as the standard output allows.
    pub(super) fn choose(options: &DemoOptions) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if options.is_json {
            Self::Json
        } else if options.is_plain || is_dumb || !io::stdout().is_terminal() {
            Self::Lines
        } else {
            Self::Table { is_coloured: !is_set("NO_COLOR") }
        }
    }
}

impl Screen {
    /// Nothing is shown yet.
    pub(super) fn new(style: Style) -> Self {
        if matches!(style, Style::Table { .. }) {
            // The cursor would flicker.
            put("\x1b[?25l");
        }
        Self { style, drawn: 0, due: Instant::now() }
    }

    /// Is it time to show how things are?
    pub(super) fn is_due(&self) -> bool {
        self.style != Style::Json && self.due <= Instant::now()
    }

    /// Shows how things are.
    pub(super) fn show(&mut self, view: &View<'_>) {
        match self.style {
            Style::Table { is_coloured } => {
                let colour = if is_coloured { Colour::On } else { Colour::Off };
                let lines = table::lines(view, colour);
                put(&table::redraw(&lines, self.drawn));
                self.drawn = lines.len();
                self.due = Instant::now() + TABLE_PERIOD;
            }
            Style::Lines => {
                put(&format!("{}\n", view.sums));
                self.due = Instant::now() + LINE_PERIOD;
            }
            Style::Json => {}
        }
    }

    /// Says what has just happened; a table shows it at its next drawing.
    pub(super) fn tell(&self, news: &str) {
        if self.style == Style::Lines {
            put(&format!("{news}\n"));
        }
    }

    /// The result, for a person or a script.
    pub(super) fn finish(self, words: &str, json: &serde_json::Value) {
        match self.style {
            Style::Json => put(&format!("{json}\n")),
            Style::Table { .. } | Style::Lines => put(&format!("\n{words}\n")),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if matches!(self.style, Style::Table { .. }) {
            put("\x1b[?25h");
        }
    }
}

/// Writes and flushes. A reader that has gone away (`fogfun demo | head`) is no reason to end: the exit code still counts.
fn put(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
