//! What did they write under this key, and is it what belongs there? Typed reading of a mapping, every mistake reported.
//!
//! A reader asks for every key it knows and then calls [`Fields::finish`]: what was not asked for is unknown. A value about which
//! something was said is `None` for the reader, which goes on with a default so that one load reports as much as it can.

use std::str::FromStr;
use std::time::Duration;

use super::error::{Place, Report};
use super::suggest;
use super::yaml::{Entry, Node, Value};
use crate::address::TypeName;

/// A mapping that is being read.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    place: Place,
    what: &'static str,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`; `what` names the mapping in errors.
    pub(crate) fn of(node: &'n Node, what: &'static str, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) => Some(Self {
                entries,
                // Of a mapping its first key is shown, not all of it.
                place: entries.first().map_or(node.place, |entry| entry.key_place),
                what,
                known: Vec::new(),
                missing: Vec::new(),
            }),
            other => {
                expected(node.place, "a mapping", other, report);
                None
            }
        }
    }

    /// Where the mapping begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The value under `key`, if it is there and not null.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.value.value != Value::Null).then_some(&entry.value)
    }

    /// The value under `key`; if it is not there, `example` shows what belongs there.
    pub(crate) fn required(&mut self, key: &'static str, example: &'static str) -> Option<&'n Node> {
        let found = self.optional(key);
        if found.is_none() {
            self.missing.push((key, example));
        }
        found
    }

    /// Accepts these keys without looking at them.
    pub(crate) fn skip(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Has it keys that nobody asked for so far?
    pub(crate) fn has_others(&self) -> bool {
        self.entries.iter().any(|entry| !self.known.contains(&entry.key.as_str()))
    }

    /// Where the key itself stands.
    pub(crate) fn key_place(&self, key: &str) -> Option<Place> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.key_place)
    }

    /// Reports missing and unknown keys. A missing key that was only misspelt is reported as unknown alone.
    pub(crate) fn finish(self, report: &mut Report) {
        let mut misspelt = Vec::new();
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let unused = self
                .known
                .iter()
                .filter(|known| !self.entries.iter().any(|entry| entry.key == **known))
                .copied();
            misspelt.extend(suggest::nearest(&entry.key, unused));
            let message = format!("unknown key `{}` in {}", entry.key, self.what);
            report.add(entry.key_place, message, suggest::help(&entry.key, self.known.iter().copied()));
        }
        for (key, example) in &self.missing {
            if let Some(place) = self.key_place(key) {
                report.add(place, format!("`{key}` has no value"), format!("for example `{key}: {example}`"));
            } else if !misspelt.contains(key) {
                let message = format!("{} lacks `{key}`", self.what);
                report.add(self.place, message, format!("for example `{key}: {example}`"));
            }
        }
    }
}

/// The items of a list.
pub(crate) fn items<'n>(node: &'n Node, report: &mut Report) -> Option<&'n [Node]> {
    match &node.value {
        Value::Sequence(items) => Some(items),
        other => {
            expected(node.place, "a list", other, report);
            None
        }
    }
}

/// A text that is not empty.
pub(crate) fn text<'n>(node: &'n Node, report: &mut Report) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) if text.is_empty() => {
            report.add(node.place, "expected a text, found an empty one", None);
            None
        }
        Value::Text(text) if text.contains('\0') => {
            report.add(node.place, "a text here has no NUL character", None);
            None
        }
        Value::Text(text) => Some(text),
        other => {
            expected(node.place, "a text", other, report);
            None
        }
    }
}

/// `namespace/name`.
pub(crate) fn type_name(node: &Node, report: &mut Report) -> Option<TypeName> {
    let text = text(node, report)?;
    match TypeName::parse(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report.add(node.place, error.to_string(), "for example `example/fridge`".to_owned());
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn truth(node: &Node, report: &mut Report) -> Option<bool> {
    one_of(node, &[("true", true), ("false", false)], report)
}

/// One of these words.
pub(crate) fn one_of<T: Copy>(node: &Node, words: &[(&str, T)], report: &mut Report) -> Option<T> {
    let Value::Text(text) = &node.value else {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        expected(node.place, &all.join(" or "), &node.value, report);
        return None;
    };
    if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
        return Some(*meaning);
    }
    let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let near = suggest::nearest(text, words.iter().map(|(word, _)| *word));
    report.add(
        node.place,
        format!("expected {}, found {}", all.join(" or "), node.value.describe()),
        near.map(|near| format!("did you mean `{near}`?")),
    );
    None
}

/// A whole number from `least` to `most`.
pub(crate) fn number<T>(node: &Node, least: T, most: T, report: &mut Report) -> Option<T>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    if let Value::Text(text) = &node.value
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse::<T>()
        && least <= number
        && number <= most
    {
        return Some(number);
    }
    expected(node.place, &format!("a whole number from {least} to {most}"), &node.value, report);
    None
}

/// A duration as StateFun writes it, from `least` to `most`.
pub(crate) fn duration(
    node: &Node,
    least: Duration,
    most: Duration,
    report: &mut Report,
) -> Option<Duration> {
    let text = text(node, report)?;
    let Some(duration) = parse_duration(text) else {
        let message = format!("expected a duration, found {}", node.value.describe());
        let help =
            "a whole number and a unit: `100 ms`, `30 s`, `5 min`, `12 h`, `7 d`; without unit, milliseconds";
        report.add(node.place, message, help.to_owned());
        return None;
    };
    if duration < least || most < duration {
        let message =
            format!("expected a duration from {least:?} to {most:?}, found {}", node.value.describe());
        report.add(node.place, message, None);
        return None;
    }
    Some(duration)
}

/// Says that something else belongs here, unless something was said already.
pub(crate) fn expected(place: Place, wanted: &str, found: &Value, report: &mut Report) {
    if *found != Value::Broken {
        report.add(place, format!("expected {wanted}, found {}", found.describe()), None);
    }
}

/// Digits and an optional unit, in any case, blanks allowed between and around; no unit is milliseconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim().to_lowercase();
    let unit = unit.strip_suffix('s').filter(|rest| 1 < rest.len() && *rest != "m").unwrap_or(&unit);
    match unit {
        "d" | "day" => number.checked_mul(86_400).map(Duration::from_secs),
        "h" | "hour" => number.checked_mul(3_600).map(Duration::from_secs),
        "m" | "min" | "minute" => number.checked_mul(60).map(Duration::from_secs),
        "s" | "sec" | "second" => Some(Duration::from_secs(number)),
        "" | "ms" | "milli" | "millisecond" => Some(Duration::from_millis(number)),
        "µs" | "µ" | "micro" | "microsecond" => Some(Duration::from_micros(number)),
        "ns" | "nano" | "nanosecond" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_statefuns() {
        for (text, milliseconds) in [
            ("100", 100),
            ("100ms", 100),
            (" 2 min ", 120_000),
            ("2m", 120_000),
            ("2 Minutes", 120_000),
            ("1 s", 1_000),
            ("3 secs", 3_000),
            ("3 seconds", 3_000),
            ("1h", 3_600_000),
            ("2 hours", 7_200_000),
            ("7d", 604_800_000),
            ("7 days", 604_800_000),
            ("5000 µs", 5),
            ("5000 micros", 5),
            ("7000000ns", 7),
            ("4 millis", 4),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "1.5 s", "-1 s", "1 week", "1 s s", "99999999999999999999", "1 ss"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration(&format!("{} d", u64::MAX)), None);
    }
}
