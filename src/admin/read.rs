//! How is a line of JSON read as a question or an answer? Field by field.
//!
//! What serde derives for an enum with a tag inside buffers every value and is instantiated for every variant: 130 KB of code for
//! ten questions. Here one object is taken apart by name. A field that no question has is an error, as is one of the wrong type.

use serde_json::{Map, Value};

use super::{AdminReply, AdminRequest, AdminValue, DeadLetterEntry, StateEntry};

impl AdminRequest {
    /// Reads a question.
    ///
    /// # Errors
    /// What is wrong with it, for a person: no JSON object, a field that is missing, of another type, or not of this question.
    pub fn decode(line: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::decode(line)?;
        let question = match fields.text("ask")?.as_str() {
            "status" => Self::Status,
            "state-list" => Self::StateList {
                function_type: fields.text_if_any("function_type")?,
                id: fields.text_if_any("id")?,
                after: fields.text_if_any("after")?,
                entries_max: fields.small_number("entries_max")?,
            },
            "state-get" => Self::StateGet {
                function_type: fields.text("function_type")?,
                id: fields.text("id")?,
                name: fields.text("name")?,
            },
            "state-set" => Self::StateSet {
                function_type: fields.text("function_type")?,
                id: fields.text("id")?,
                name: fields.text("name")?,
                value: fields.value("value")?,
            },
            "state-delete" => Self::StateDelete {
                function_type: fields.text("function_type")?,
                id: fields.text("id")?,
                name: fields.text("name")?,
            },
            "dead-letter-list" => Self::DeadLetterList {
                after: fields.text_if_any("after")?,
                entries_max: fields.small_number("entries_max")?,
            },
            "dead-letter-show" => Self::DeadLetterShow { key: fields.text("key")? },
            "dead-letter-retry" => Self::DeadLetterRetry { key: fields.text("key")? },
            "dead-letter-drop" => Self::DeadLetterDrop { key: fields.text("key")? },
            "accept-degraded" => Self::AcceptDegraded,
            other => return Err(format!("`{other}` cannot be asked")),
        };
        fields.end()?;
        Ok(question)
    }
}

impl AdminReply {
    /// Reads an answer to any question but the status, which a person's tools read as JSON.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn decode(line: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::decode(line)?;
        match fields.text("answer")?.as_str() {
            "state" => {
                let entries = fields.list("entries", StateEntry::take)?;
                Ok(Self::State { entries, more: fields.flag("more")? })
            }
            "dead-letters" => {
                let letters = fields.list("letters", DeadLetterEntry::take)?;
                Ok(Self::DeadLetters { letters, more: fields.flag("more")? })
            }
            "done" => Ok(Self::Done { count: fields.number("count")? }),
            "error" => Ok(Self::Error { text: fields.text("text")? }),
            other => Err(format!("unexpected answer `{other}`")),
        }
    }
}

impl StateEntry {
    fn take(fields: &mut Fields) -> Result<Self, String> {
        Ok(Self {
            key: fields.text("key")?,
            function_type: fields.text("function_type")?,
            id: fields.text("id")?,
            name: fields.text("name")?,
            subkey: fields.text("subkey")?,
            value: fields.value("value")?,
            expires_in_ms: fields.number_if_any("expires_in_ms")?,
        })
    }
}

impl DeadLetterEntry {
    fn take(fields: &mut Fields) -> Result<Self, String> {
        Ok(Self {
            key: fields.text("key")?,
            function_type: fields.text("function_type")?,
            id: fields.text("id")?,
            caller: fields.text_if_any("caller")?,
            reason: fields.text("reason")?,
            attempts: fields.small_number("attempts")?,
            at_ms: fields.number("at_ms")?,
            value: fields.value("value")?,
        })
    }
}

/// An object that is being taken apart.
struct Fields(Map<String, Value>);

impl Fields {
    fn decode(line: &[u8]) -> Result<Self, String> {
        Self::of(serde_json::from_slice(line).map_err(|error| error.to_string())?)
    }

    fn of(value: Value) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(format!("`{other}` is no object")),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        self.text_if_any(name)?.ok_or_else(|| missing(name))
    }

    fn text_if_any(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("`{name}` is {other}, not a text")),
        }
    }

    fn number(&mut self, name: &str) -> Result<u64, String> {
        self.number_if_any(name)?.ok_or_else(|| missing(name))
    }

    fn number_if_any(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{name}` is {value}, not a count")),
            },
        }
    }

    fn small_number(&mut self, name: &str) -> Result<u32, String> {
        let number = self.number(name)?;
        u32::try_from(number).map_err(|_| format!("`{name}` is {number}, more than {}", u32::MAX))
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        self.0.remove(name).and_then(|value| value.as_bool()).ok_or_else(|| missing(name))
    }

    fn value(&mut self, name: &str) -> Result<AdminValue, String> {
        let mut fields = Self::of(self.0.remove(name).ok_or_else(|| missing(name))?)?;
        let value = AdminValue { typename: fields.text("typename")?, bytes: fields.text("bytes")? };
        fields.end()?;
        Ok(value)
    }

    fn list<T>(&mut self, name: &str, take: fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        match self.0.remove(name) {
            Some(Value::Array(items)) => items.into_iter().map(|item| take(&mut Self::of(item)?)).collect(),
            _ => Err(missing(name)),
        }
    }

    /// Nothing is left over.
    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("unknown field `{name}`")),
        }
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> String {
        word.to_owned()
    }

    fn value() -> AdminValue {
        AdminValue { typename: text("io.statefun.types/int"), bytes: text("CAE=") }
    }

    #[test]
    fn every_question_is_read_as_it_was_written() {
        let (function_type, id, name) = (text("a/b"), text("1"), text("n"));
        let all = [
            AdminRequest::Status,
            AdminRequest::StateList {
                function_type: Some(text("a/b")),
                id: None,
                after: None,
                entries_max: 7,
            },
            AdminRequest::StateGet { function_type: text("a/b"), id: text("1"), name: text("n") },
            AdminRequest::StateSet {
                function_type: text("a/b"),
                id: text("1"),
                name: text("n"),
                value: value(),
            },
            AdminRequest::StateDelete { function_type, id, name },
            AdminRequest::DeadLetterList { after: Some(text("k")), entries_max: u32::MAX },
            AdminRequest::DeadLetterShow { key: text("k") },
            AdminRequest::DeadLetterRetry { key: text("k") },
            AdminRequest::DeadLetterDrop { key: text("k") },
            AdminRequest::AcceptDegraded,
        ];
        for question in all {
            let line = serde_json::to_vec(&question).unwrap();
            assert_eq!(AdminRequest::decode(&line), Ok(question));
        }
    }

    #[test]
    fn every_answer_but_the_status_is_read_as_it_was_written() {
        let entry = StateEntry {
            key: text("k"),
            function_type: text("a/b"),
            id: text("1"),
            name: text("n"),
            subkey: String::new(),
            value: value(),
            expires_in_ms: Some(9),
        };
        let letter = DeadLetterEntry {
            key: text("k"),
            function_type: text("a/b"),
            id: text("1"),
            caller: None,
            reason: text("\"why\""),
            attempts: 3,
            at_ms: u64::MAX,
            value: value(),
        };
        let all = [
            AdminReply::State { entries: vec![entry], more: true },
            AdminReply::DeadLetters { letters: vec![letter], more: false },
            AdminReply::Done { count: 2 },
            AdminReply::Error { text: text("no") },
        ];
        for answer in all {
            let line = serde_json::to_vec(&answer).unwrap();
            assert_eq!(AdminReply::decode(&line), Ok(answer));
        }
    }

    #[test]
    fn a_question_with_a_mistake_is_refused_and_the_mistake_named() {
        for (line, named) in [
            (r#"{"ask":"stauts"}"#, "stauts"),
            (r#"{"ask":"status","id":"1"}"#, "`id`"),
            (r#"{"ask":"dead-letter-show"}"#, "`key`"),
            (r#"{"ask":"dead-letter-show","key":4}"#, "`key`"),
            (r#"{"ask":"dead-letter-list","entries_max":-1}"#, "`entries_max`"),
            (r#"{"ask":"dead-letter-list","entries_max":4294967296}"#, "`entries_max`"),
            (r#"{"id":"1"}"#, "`ask`"),
            ("[]", "no object"),
            ("{", "EOF"),
        ] {
            let error = AdminRequest::decode(line.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
