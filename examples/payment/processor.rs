//! What is outside? A card processor with a book of its own, which knows nothing of epochs: it charges when it is asked, and answers if it can.
//!
//! ```text
//! charge(key, cents) ─→ key in the book? ─ yes → the same receipt again
//!                            │ no
//!                            └→ one more line in the book → receipt        … or busy, or slow, or the answer is lost on the way
//! ```
//! - **Invariant.** A key is charged once, however often it is asked for. That is what makes asking again safe, and asking again is all
//!   that one can do about an answer that did not come.
//! - The book is a file, appended to line by line, each line in one write: what it says is true also after the process was killed.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fogfun::function::FunctionError;
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

/// How long the processor takes when it is slow, and else: long enough for a node to die in between.
const SLOW: Duration = Duration::from_millis(600);
const BRISK: Duration = Duration::from_millis(40);

/// What a function asks the processor for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    /// The same for every attempt at one charge, and for no other.
    pub(crate) idempotency_key: String,
    pub(crate) cents: i64,
}

impl JsonType for Charge {
    const TYPENAME: &'static str = "payment/charge";
}

/// The processor, as the node reaches it.
pub(crate) struct Processor {
    book: PathBuf,
    /// Forgets keys, and so charges as often as it is asked: shows that the example's check finds it out.
    is_forgetful: bool,
    /// One entry at a time.
    writing: Mutex<()>,
}

/// What is wrong with a call; the same call again may go well.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Slow,
    /// Nothing is charged.
    Busy,
    /// Everything is done, and nobody hears of it.
    AnswerLost,
}

impl Processor {
    /// `PAYMENT_BOOK` says where its book is, `PAYMENT_FORGETFUL=1` that it forgets keys.
    pub(crate) fn from_environment() -> Self {
        let book = std::env::var_os("PAYMENT_BOOK").map_or_else(|| "payment-book".into(), PathBuf::from);
        let is_forgetful = std::env::var("PAYMENT_FORGETFUL").is_ok_and(|value| value == "1");
        Self { book, is_forgetful, writing: Mutex::new(()) }
    }

    /// The operation: charges the key of a [`Charge`] and returns a receipt. Runs on a thread of its own, and may block it.
    pub(crate) fn run(&self, request: &TypedValue) -> Result<TypedValue, FunctionError> {
        let Json(charge) = request.get::<Json<Charge>>()?;
        let mood = self.take_call(&charge)?;
        std::thread::sleep(if mood == Mood::Slow { SLOW } else { BRISK });
        if mood == Mood::Busy {
            return Err(FunctionError::new("the processor is busy"));
        }
        self.charge_once(&charge)?;
        if mood == Mood::AnswerLost {
            return Err(FunctionError::new("the connection broke"));
        }
        Ok(format!("receipt-{}", charge.idempotency_key).into())
    }

    /// Notes the call; how it goes depends on the key and on how often it was asked for, never twice the same in a row.
    fn take_call(&self, charge: &Charge) -> Result<Mood, FunctionError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("called {}", charge.idempotency_key);
        let before = self.lines()?.iter().filter(|earlier| **earlier == line).count();
        self.append(&line)?;
        let key: usize = charge.idempotency_key.bytes().map(usize::from).sum();
        Ok(match (key + before) % 5 {
            0 => Mood::Busy,
            1 => Mood::Slow,
            3 => Mood::AnswerLost,
            _ => Mood::Well,
        })
    }

    fn charge_once(&self, charge: &Charge) -> Result<(), FunctionError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("charged {} {}", charge.idempotency_key, charge.cents);
        if !self.is_forgetful && self.lines()?.contains(&line) {
            return Ok(());
        }
        self.append(&line)
    }

    fn lines(&self) -> Result<Vec<String>, FunctionError> {
        match std::fs::read_to_string(&self.book) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(FunctionError::caused_by("the book", error)),
        }
    }

    fn append(&self, line: &str) -> Result<(), FunctionError> {
        let append = || {
            let mut book = File::options().create(true).append(true).open(&self.book)?;
            book.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(|error| FunctionError::caused_by("the book", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks until there is a receipt; how often the book says that it was charged.
    fn charged(is_forgetful: bool) -> Vec<usize> {
        let directory = tempfile::tempdir().unwrap();
        let book = directory.path().join("book");
        let processor = Processor { book, is_forgetful, writing: Mutex::new(()) };
        let keys = (0..5).map(|key| key.to_string());
        let mut counts = Vec::new();
        for idempotency_key in keys {
            let charge = Charge { idempotency_key, cents: 5 };
            while processor.run(&Json(charge.clone()).into()).is_err() {}
            processor.run(&Json(charge.clone()).into()).unwrap_or_default();
            let line = format!("charged {} 5", charge.idempotency_key);
            counts.push(processor.lines().unwrap().iter().filter(|other| **other == line).count());
        }
        counts
    }

    #[test]
    fn a_key_is_charged_once_unless_keys_are_forgotten() {
        assert_eq!(charged(false), [1; 5]);
        assert!(charged(true).iter().any(|count| 1 < *count));
    }
}
