//! What is wrong with a file, where, and what would be right? Errors and warnings as a compiler prints them, several at once.
//!
//! ```text
//! module.yaml:4:3: unknown key `topcis`
//!   4 |   topcis:
//!     |   ^^^^^^
//!   help: did you mean `topics`?
//! ```
//!
//! One type for all of them and no enum: nobody branches on what is wrong with a file, a person reads it.

use std::fmt;
use std::sync::Arc;

use crate::limits::LOAD_ERRORS_MAX;

/// Everything that is wrong with what was loaded, in the order of the file; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadErrors {
    errors: Vec<LoadError>,
    omitted: usize,
}

impl LoadErrors {
    /// The errors; at most [`LOAD_ERRORS_MAX`].
    #[must_use]
    pub fn errors(&self) -> &[LoadError] {
        &self.errors
    }

    /// How many there are beyond those.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Adds the errors of another file.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.errors.extend(other.errors);
        self.omitted += other.omitted;
        self
    }

    /// One error that has no place in a file, for example of a file that cannot be read.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>, help: Option<String>) -> Self {
        let mut report = Report::new(Arc::new(Source::new(file, "")));
        report.add(Place::NOWHERE, message, help);
        report.into_errors()
    }
}

impl std::error::Error for LoadErrors {}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if 0 < index {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        if 0 < self.omitted {
            write!(f, "\n\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or, as a warning, that is not as the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    severity: Severity,
    file: String,
    place: Place,
    source_line: String,
    message: String,
    help: Option<String>,
}

impl LoadError {
    /// The file's name as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 if the error has no place in the file.
    #[must_use]
    pub fn line(&self) -> usize {
        self.place.line
    }

    /// The column in characters, from 1; 0 if the error has no place in the file.
    #[must_use]
    pub fn column(&self) -> usize {
        self.place.column
    }

    /// What is wrong; one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, if that is known; may have several lines.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Does it keep the program from starting?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, length } = self.place;
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        if line == 0 {
            write!(f, "{}: {severity}{}", self.file, self.message)?;
        } else {
            write!(f, "{}:{line}:{column}: {severity}{}", self.file, self.message)?;
            let width = line.to_string().len().max(3);
            write!(f, "\n{line:width$} | {}\n{:width$} | ", self.source_line, "")?;
            // A tab before the caret moves it as far as it moves the text above.
            for character in self.source_line.chars().take(column - 1) {
                f.write_str(if character == '\t' { "\t" } else { " " })?;
            }
            let rest = self.source_line.chars().count().saturating_sub(column - 1).max(1);
            f.write_str(&"^".repeat(length.clamp(1, rest)))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {}", help.replace('\n', "\n        "))?;
        }
        Ok(())
    }
}

/// A stretch of one line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// From 1; 0 is nowhere.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// In characters.
    pub(crate) length: usize,
}

impl Place {
    pub(crate) const NOWHERE: Self = Self { line: 0, column: 0, length: 0 };
}

/// A file's name and text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    file: String,
    text: String,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }

    /// The place of the byte range of the text.
    pub(crate) fn place(&self, range: std::ops::Range<usize>) -> Place {
        let before = self.text.get(..range.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let covered = self.text.get(range).unwrap_or_default();
        Place {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            length: covered.lines().next().unwrap_or_default().chars().count(),
        }
    }

    fn line(&self, line: usize) -> &str {
        line.checked_sub(1).and_then(|index| self.text.lines().nth(index)).unwrap_or_default()
    }
}

/// Gathers errors while a file is read.
#[derive(Debug)]
pub(crate) struct Report {
    source: Arc<Source>,
    errors: Vec<LoadError>,
    omitted: usize,
    /// No more of them than the file has values.
    warnings: Vec<LoadError>,
}

impl Report {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, errors: Vec::new(), omitted: 0, warnings: Vec::new() }
    }

    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        if LOAD_ERRORS_MAX <= self.errors.len() {
            self.omitted += 1;
            return;
        }
        let error = self.load_error(Severity::Error, place, message.into(), help.into());
        self.errors.push(error);
    }

    /// Adds what a person should know, though it keeps nothing from starting.
    pub(crate) fn warn(&mut self, place: Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        let warning = self.load_error(Severity::Warning, place, message.into(), help.into());
        self.warnings.push(warning);
    }

    /// The warnings so far, in the order of the file.
    pub(crate) fn take_warnings(&mut self) -> Vec<LoadError> {
        in_order(std::mem::take(&mut self.warnings))
    }

    /// Adds an error that only matters if nothing else is wrong.
    pub(crate) fn add_unless_any(&mut self, place: Place, message: &str, help: String) {
        if self.errors.is_empty() {
            self.add(place, message, help);
        }
    }

    /// `value`, unless something was added.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, LoadErrors> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.into_errors()) }
    }

    fn load_error(
        &self,
        severity: Severity,
        place: Place,
        message: String,
        help: Option<String>,
    ) -> LoadError {
        let source_line = self.source.line(place.line).chars().take(SOURCE_LINE_CHARACTERS_MAX).collect();
        LoadError { severity, file: self.source.file.clone(), place, source_line, message, help }
    }

    fn into_errors(self) -> LoadErrors {
        assert!(!self.errors.is_empty(), "errors are reported where there are some");
        LoadErrors { errors: in_order(self.errors), omitted: self.omitted }
    }
}

/// In the order of the file, each once.
fn in_order(mut found: Vec<LoadError>) -> Vec<LoadError> {
    found.sort_by_key(|error| (error.place.line, error.place.column));
    found.dedup();
    found
}

/// Beyond this a source line is cut off in the report.
const SOURCE_LINE_CHARACTERS_MAX: usize = 200;
