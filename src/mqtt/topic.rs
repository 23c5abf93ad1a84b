//! Which topics does a pattern take, and what does it capture? MQTT topic filters with named levels.
//!
//! `fridge/{id}/temperature` subscribes to `fridge/+/temperature` and captures the second level as `id`.
//!
//! - A capture fills a whole level; names are unique within a pattern.
//! - A wildcard in the first level does not take a topic whose first level begins with `$` (MQTT 4.7.2).
//! - `a/#` takes `a` too.
//! - `$share/group/` in front makes a shared subscription; what is behind it is the pattern.
//! - Matching and overlap look at levels one by one, so both are linear in the number of levels; matching allocates nothing.

use std::fmt::Write as _;

use super::config::{Level, TopicPattern};
use smol_str::{SmolStr, SmolStrBuilder};

use crate::address::Address;
use crate::limits::TOPIC_BYTES_MAX;

impl TopicPattern {
    /// Takes a pattern apart.
    ///
    /// # Errors
    /// Says what makes it no pattern.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let (share, pattern) = split_share(text)?;
        if pattern.is_empty() {
            return Err(TopicError::Empty);
        }
        let mut levels: Vec<Level> = Vec::new();
        for part in pattern.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(TopicError::RestNotLast);
            }
            let level = parse_level(part)?;
            if let Level::Capture(name) = &level
                && levels.contains(&level)
            {
                return Err(TopicError::CaptureTwice { name: name.clone() });
            }
            levels.push(level);
        }
        let mut filter = share.to_owned();
        for (index, level) in levels.iter().enumerate() {
            if 0 < index {
                filter.push('/');
            }
            filter.push_str(match level {
                Level::Literal(literal) => literal,
                Level::Capture(_) | Level::Any => "+",
                Level::Rest => "#",
            });
        }
        check_bytes(&filter)?;
        Ok(Self { text: text.to_owned(), filter, levels })
    }

    /// Does it begin with `$share/`? Then the broker spreads the records over all that share the group, in no common order.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.filter.starts_with(SHARE)
    }

    /// The names of the captures, from left to right.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What the pattern captures of a topic name, from left to right; `None` if it does not take that topic.
    #[must_use]
    pub fn captures<'p, 't>(&'p self, topic: &'t str) -> Option<Captures<'p, 't>> {
        self.takes(topic).then(|| Captures { levels: self.levels.iter(), parts: Parts(Some(topic)) })
    }

    /// Is there a topic that both take? Then a broker may deliver its records twice to one session.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.levels.iter(), other.levels.iter());
        let mut first = true;
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                // A rest takes the level before it alone, too.
                (None, Some(level)) | (Some(level), None) => return *level == Level::Rest,
                (Some(Level::Literal(ours)), Some(Level::Literal(theirs))) => {
                    if ours != theirs {
                        return false;
                    }
                }
                (Some(Level::Literal(literal)), Some(wildcard))
                | (Some(wildcard), Some(Level::Literal(literal))) => {
                    if first && literal.starts_with('$') {
                        return false;
                    }
                    if *wildcard == Level::Rest {
                        return true;
                    }
                }
                (Some(ours), Some(theirs)) => {
                    if *ours == Level::Rest || *theirs == Level::Rest {
                        return true;
                    }
                }
            }
            first = false;
        }
    }

    fn takes(&self, topic: &str) -> bool {
        let mut parts = Parts(Some(topic));
        for (index, level) in self.levels.iter().enumerate() {
            let part = parts.next();
            let hidden = index == 0 && part.is_some_and(|part| part.starts_with('$'));
            match (level, part) {
                (Level::Rest, _) => return !hidden,
                (Level::Literal(literal), Some(part)) if literal == part => {}
                (Level::Capture(_) | Level::Any, Some(_)) if !hidden => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

/// Captured levels, as (name, text).
#[derive(Debug, Clone)]
pub struct Captures<'p, 't> {
    levels: std::slice::Iter<'p, Level>,
    parts: Parts<'t>,
}

/// The levels of a topic name, from left to right: `split('/')` without its search for any character.
#[derive(Debug, Clone)]
struct Parts<'t>(Option<&'t str>);

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let rest = self.0.take()?;
        let Some(at) = rest.bytes().position(|byte| byte == b'/') else {
            return Some(rest);
        };
        self.0 = rest.get(at + 1..);
        rest.get(..at)
    }
}

impl<'p, 't> Iterator for Captures<'p, 't> {
    type Item = (&'p str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match (self.levels.next()?, self.parts.next()?) {
                (Level::Capture(name), part) => return Some((name, part)),
                (Level::Rest, _) => return None,
                _ => {}
            }
        }
    }
}

/// Can records be published to this topic?
///
/// # Errors
/// If it is empty, too long, or has a wildcard or a NUL character.
pub fn check_topic_name(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    if topic.bytes().any(|byte| byte == b'+' || byte == b'#') {
        return Err(TopicError::WildcardInName);
    }
    check_bytes(topic)
}

/// Is this a template for topics? Literal text with [`PLACEHOLDERS`] in it.
///
/// # Errors
/// If a placeholder is unknown or not closed, or if the text between them could not be in a topic.
pub fn check_template(template: &str) -> Result<(), TopicError> {
    fill(template, |_| Some("x")).map(|_| ())
}

/// Fills in a template. An id with a slash in it makes more than one level.
///
/// # Errors
/// As [`check_template`]; or there is no caller to fill in, or the caller's id makes the topic one that MQTT does not allow.
pub fn fill_template(template: &str, caller: Option<&Address>) -> Result<SmolStr, TopicError> {
    fill(template, |placeholder| {
        let caller = caller?;
        Some(match placeholder {
            Placeholder::Id => caller.id(),
            Placeholder::Type => caller.function_type().name(),
            Placeholder::Namespace => caller.function_type().namespace(),
        })
    })
}

/// A text that is no topic, no pattern or no template. The fault of who wrote it; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No text at all.
    #[error("a topic has at least one character")]
    Empty,
    /// More bytes than MQTT can count.
    #[error("a topic is at most {TOPIC_BYTES_MAX} bytes long, this one has {bytes}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// U+0000.
    #[error("a topic has no NUL character")]
    Nul,
    /// `+` or `#` where records are published.
    #[error("a topic to publish to has no wildcard (`+`, `#`)")]
    WildcardInName,
    /// `#` and something behind it.
    #[error("`#` is the last level or none")]
    RestNotLast,
    /// `a+`, `x#`.
    #[error("`{level}`: a wildcard fills a whole level")]
    WildcardInLevel {
        /// The level.
        level: String,
    },
    /// `fridge-{id}`, `{id`, `}`.
    #[error("`{level}`: a capture is a whole level of the form `{{name}}`")]
    CaptureInLevel {
        /// The level.
        level: String,
    },
    /// `{}`, `{a b}`.
    #[error("`{name}` is no name of a capture: letters, digits, `_` and `-`, a letter first")]
    CaptureName {
        /// What stands between the braces.
        name: String,
    },
    /// Two captures of one name.
    #[error("the capture `{name}` occurs twice")]
    CaptureTwice {
        /// Its name.
        name: String,
    },
    /// `$share` without a group or a filter.
    #[error("a shared subscription is `$share/group/filter`")]
    Share,
    /// A placeholder that there is not.
    #[error("there is no placeholder `{{{name}}}`; there are {}", placeholders())]
    UnknownPlaceholder {
        /// What stands between the braces.
        name: String,
    },
    /// `{` without `}`, or the other way round.
    #[error("a brace without its partner")]
    Unclosed,
    /// A placeholder, and nobody sent the record.
    #[error("the template names its caller, and there is none")]
    NoCaller,
}

#[derive(Clone, Copy)]
enum Placeholder {
    Id,
    Type,
    Namespace,
}

fn split_share(text: &str) -> Result<(&str, &str), TopicError> {
    if text != "$share" && !text.starts_with(SHARE) {
        return Ok(("", text));
    }
    let (group, pattern) =
        text.strip_prefix(SHARE).and_then(|rest| rest.split_once('/')).ok_or(TopicError::Share)?;
    if group.is_empty() || group.contains(['+', '#', '{', '}']) || pattern.is_empty() {
        return Err(TopicError::Share);
    }
    let prefix_bytes = SHARE.len() + group.len() + 1;
    Ok(text.split_at_checked(prefix_bytes).unwrap_or(("", text)))
}

fn parse_level(part: &str) -> Result<Level, TopicError> {
    match part {
        "+" => return Ok(Level::Any),
        "#" => return Ok(Level::Rest),
        _ => {}
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
        && !name.contains(['{', '}'])
    {
        let mut characters = name.chars();
        let named = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && characters.all(|other| other.is_ascii_alphanumeric() || other == '_' || other == '-');
        return if named {
            Ok(Level::Capture(name.to_owned()))
        } else {
            Err(TopicError::CaptureName { name: name.to_owned() })
        };
    }
    if part.contains(['{', '}']) {
        return Err(TopicError::CaptureInLevel { level: part.to_owned() });
    }
    if part.contains(['+', '#']) {
        return Err(TopicError::WildcardInLevel { level: part.to_owned() });
    }
    Ok(Level::Literal(part.to_owned()))
}

fn fill<'a>(template: &str, value: impl Fn(Placeholder) -> Option<&'a str>) -> Result<SmolStr, TopicError> {
    let mut topic = SmolStrBuilder::new();
    let mut rest = template;
    while let Some((before, behind)) = split_at_byte(rest, b'{') {
        let (name, after) = split_at_byte(behind, b'}').ok_or(TopicError::Unclosed)?;
        let (_, placeholder) = PLACEHOLDERS_BY_NAME
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .ok_or_else(|| TopicError::UnknownPlaceholder { name: name.to_owned() })?;
        push_literal(&mut topic, before)?;
        topic.push_str(value(*placeholder).ok_or(TopicError::NoCaller)?);
        rest = after;
    }
    push_literal(&mut topic, rest)?;
    let topic = topic.finish();
    check_topic_name(&topic)?;
    Ok(topic)
}

/// As `split_once` does it for an ASCII character, without its search for long texts.
fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|candidate| candidate == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn push_literal(topic: &mut SmolStrBuilder, literal: &str) -> Result<(), TopicError> {
    if literal.bytes().any(|byte| byte == b'}') {
        return Err(TopicError::Unclosed);
    }
    topic.push_str(literal);
    Ok(())
}

fn check_bytes(topic: &str) -> Result<(), TopicError> {
    if TOPIC_BYTES_MAX < topic.len() {
        return Err(TopicError::TooLong { bytes: topic.len() });
    }
    if topic.bytes().any(|byte| byte == 0) {
        return Err(TopicError::Nul);
    }
    Ok(())
}

fn placeholders() -> String {
    let mut text = String::new();
    for (index, name) in PLACEHOLDERS.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}`{{{name}}}`");
    }
    text
}

/// What a template may name: the id of the function that sends the record, its type's name, its type's namespace.
pub const PLACEHOLDERS: [&str; 3] = ["caller.id", "caller.type", "caller.namespace"];

const PLACEHOLDERS_BY_NAME: [(&str, Placeholder); 3] = [
    (PLACEHOLDERS[0], Placeholder::Id),
    (PLACEHOLDERS[1], Placeholder::Type),
    (PLACEHOLDERS[2], Placeholder::Namespace),
];

const SHARE: &str = "$share/";

#[cfg(test)]
mod tests;
