//! What does a person see? A live table redrawn in place on a terminal; plain lines elsewhere.
//!
//! Pure: a view is turned into text. Columns line up because every cell is padded before it is coloured.

use std::fmt::Write as _;

/// Fridges shown; the others are counted in the sums.
pub(super) const ROWS_MAX: usize = 12;
/// Things that happened, shown under the table.
pub(super) const NEWS_MAX: usize = 5;

/// What is to be shown now.
pub(super) struct View<'a> {
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
    /// Fridges beyond the rows.
    pub(super) more: usize,
    pub(super) sums: String,
    pub(super) news: &'a [String],
}

/// One fridge.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) is_open: bool,
    pub(super) celsius: f64,
    pub(super) readings: u64,
    pub(super) minimum: f64,
    pub(super) mean: f64,
    pub(super) maximum: f64,
    pub(super) alarms: u64,
    pub(super) is_alarmed: bool,
}

/// How a terminal is drawn on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// With colours.
    On,
    /// Without: `NO_COLOR` is set.
    Off,
}

const BOLD: &str = "1";
const FAINT: &str = "2";
const RED: &str = "1;31";
const YELLOW: &str = "33";

/// The lines of the live table.
pub(super) fn lines(view: &View<'_>, colour: Colour) -> Vec<String> {
    let mut lines = vec![paint(&view.title, BOLD, colour), String::new()];
    let head = format!(
        "{:<12} {:<6} {:>6} {:>9} {:>7} {:>7} {:>7} {:>7}",
        "fridge", "door", "now", "readings", "lowest", "mean", "highest", "alarms"
    );
    lines.push(paint(&head, FAINT, colour));
    lines.extend(view.rows.iter().map(|row| line_of(row, colour)));
    if 0 < view.more {
        lines.push(paint(&format!("and {} more", view.more), FAINT, colour));
    }
    lines.push(String::new());
    lines.push(view.sums.clone());
    lines.push(String::new());
    let shown = view.news.len().saturating_sub(NEWS_MAX);
    let news = view.news.get(shown..).unwrap_or_default();
    lines.extend((0..NEWS_MAX).map(|index| news.get(index).cloned().unwrap_or_default()));
    lines
}

/// Bytes that draw `lines` over the `drawn` lines of the last time.
pub(super) fn redraw(lines: &[String], drawn: usize) -> String {
    let mut text = String::new();
    if 0 < drawn {
        let _ = write!(text, "\x1b[{drawn}A\r");
    }
    for line in lines {
        let _ = writeln!(text, "{line}\x1b[K");
    }
    // What is left of a longer table.
    text.push_str("\x1b[J");
    text
}

/// 12345 is `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn line_of(row: &Row, colour: Colour) -> String {
    let door = format!("{:<6}", if row.is_open { "open" } else { "closed" });
    let door = paint(&door, if row.is_open { YELLOW } else { FAINT }, colour);
    let numbers = format!(
        "{:>6.1} {:>9} {:>7.1} {:>7.2} {:>7.1} {:>7}",
        row.celsius,
        grouped(row.readings),
        row.minimum,
        row.mean,
        row.maximum,
        row.alarms
    );
    let alarm = if row.is_alarmed { paint("  TOO WARM", RED, colour) } else { String::new() };
    format!("{:<12} {door} {numbers}{alarm}", row.name)
}

fn paint(text: &str, style: &str, colour: Colour) -> String {
    match colour {
        Colour::On => format!("\x1b[{style}m{text}\x1b[0m"),
        Colour::Off => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, readings: u64, is_alarmed: bool) -> Row {
        Row {
            name: name.to_owned(),
            is_open: is_alarmed,
            celsius: 12.34,
            readings,
            minimum: 3.9,
            mean: 4.567,
            maximum: 12.3,
            alarms: 1,
            is_alarmed,
        }
    }

    #[test]
    fn columns_line_up_without_colours_and_fit_a_terminal() {
        let view = View {
            title: "title".to_owned(),
            rows: vec![row("bar", 7, false), row("kitchen", 12_345, true)],
            more: 0,
            sums: String::new(),
            news: &[],
        };
        let lines = lines(&view, Colour::Off);
        assert_eq!(lines[2], "fridge       door      now  readings  lowest    mean highest  alarms");
        assert_eq!(lines[3], "bar          closed   12.3         7     3.9    4.57    12.3       1");
        assert_eq!(
            lines[4],
            "kitchen      open     12.3    12,345     3.9    4.57    12.3       1  TOO WARM"
        );
        assert!(lines.iter().all(|line| line.len() < 80));
    }

    #[test]
    fn colours_change_no_letter() {
        let bare = line_of(&row("bar", 7, true), Colour::Off);
        let mut coloured = line_of(&row("bar", 7, true), Colour::On);
        for code in ["\x1b[1;31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(bare, coloured);
    }

    #[test]
    fn thousands_are_told_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
