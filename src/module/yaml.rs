//! What does the text say? YAML documents as trees in which every key and value knows its place.
//!
//! - Read from the parser's events, one by one: no recursion, and at most [`MODULE_DEPTH_MAX`] deep and [`MODULE_NODES_MAX`] large.
//! - Scalars stay text; who asks for a number gets one or tells what was expected. `null`, `~` and nothing are null unless quoted.
//! - Aliases are copied (and counted), merge keys (`<<`) merged: what the mapping itself says wins.
//! - Duplicate keys, keys that are no text, tags that mean nothing here are errors; a tab that indents gets a word of its own.
//! - A syntax error ends the reading, for nothing behind it can be trusted; everything else is collected.

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::environment::substitute;
use super::error::{Place, Report};
use crate::limits::{MODULE_BYTES_MAX, MODULE_DEPTH_MAX, MODULE_NODES_MAX};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, variables replaced.
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// A value about which something was said already: say no more.
    Broken,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Value {
    /// What it is, for a person.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Text(text) => {
                let mut shown: String = text.chars().take(40).collect();
                if shown.len() < text.len() {
                    shown.push('…');
                }
                format!("`{}`", shown.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
            }
            Self::Sequence(_) => "a list".into(),
            Self::Mapping(_) => "a mapping".into(),
            Self::Broken => "something wrong".into(),
        }
    }
}

/// Reads all documents; those that are empty are left out. Without an environment variables stay as they are written.
pub(crate) fn read(
    text: &str,
    environment: Option<&dyn Fn(&str) -> Option<String>>,
    report: &mut Report,
) -> Vec<Node> {
    if MODULE_BYTES_MAX < text.len() {
        report.add(
            Place::NOWHERE,
            format!("the file has {} bytes, at most {MODULE_BYTES_MAX} are read", text.len()),
            None,
        );
        return Vec::new();
    }
    let mut builder = Builder {
        environment,
        report,
        documents: Vec::new(),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if builder.take(event, place_of(span)).is_err() {
                    return Vec::new();
                }
            }
            Err(error) => {
                syntax_error(text, &error, builder.report);
                return Vec::new();
            }
        }
    }
    builder.documents
}

/// Reading cannot go on; the report says why.
struct GiveUp;

struct Builder<'a> {
    environment: Option<&'a dyn Fn(&str) -> Option<String>>,
    report: &'a mut Report,
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Anchored values and how many nodes they are.
    anchors: BTreeMap<usize, Rc<(Node, usize)>>,
    nodes: usize,
}

/// A collection whose end has not come.
struct Open {
    place: Place,
    anchor: usize,
    /// How many nodes had been read when it began.
    nodes_before: usize,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, merges: Vec<Node>, key: Option<(Option<String>, Place)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), GiveUp> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, place)?;
                let is_key = self.awaits_key();
                let quoted = style != ScalarStyle::Plain || self.check_tag(tag.as_deref(), place);
                let value = self.scalar(&text, quoted, is_key, place);
                self.add(Node { place, value }, anchor, 1);
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), place);
                self.begin(Collection::Sequence(Vec::new()), anchor, place)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), place);
                let collection = Collection::Mapping { entries: Vec::new(), merges: Vec::new(), key: None };
                self.begin(collection, anchor, place)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor).cloned() else {
                    self.report.add(place, "this alias stands for what it is a part of", None);
                    return Err(GiveUp);
                };
                let (node, nodes) = &*anchored;
                self.count(*nodes, place)?;
                let node = Node { place: node.place, value: node.value.clone() };
                self.add(node, 0, *nodes);
            }
            Event::DocumentEnd => self.anchors.clear(),
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), GiveUp> {
        self.nodes += nodes;
        if MODULE_NODES_MAX < self.nodes {
            let message =
                format!("the file has more than {MODULE_NODES_MAX} values, aliases counted as often as used");
            self.report.add(place, message, None);
            return Err(GiveUp);
        }
        Ok(())
    }

    fn begin(&mut self, collection: Collection, anchor: usize, place: Place) -> Result<(), GiveUp> {
        if MODULE_DEPTH_MAX <= self.open.len() {
            self.report.add(place, format!("nested more than {MODULE_DEPTH_MAX} levels deep"), None);
            return Err(GiveUp);
        }
        let nodes_before = self.nodes;
        self.count(1, place)?;
        self.open.push(Open { place, anchor, nodes_before, collection });
        Ok(())
    }

    fn end(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let value = match open.collection {
            Collection::Sequence(items) => Value::Sequence(items),
            Collection::Mapping { entries, merges, .. } => Value::Mapping(self.merged(entries, merges)),
        };
        let node = Node { place: open.place, value };
        let nodes = self.nodes - open.nodes_before;
        self.add(node, open.anchor, nodes);
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize, nodes: usize) {
        if 0 < anchor {
            self.anchors.insert(anchor, Rc::new((node.clone(), nodes)));
        }
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => {
                if node.value != Value::Null {
                    self.documents.push(node);
                }
            }
            Some(Collection::Sequence(items)) => items.push(node),
            Some(Collection::Mapping { entries, merges, key }) => match key.take() {
                None => *key = Some(key_of(node, self.report)),
                Some((None, _)) => {}
                Some((Some(name), _)) if name == MERGE_KEY => merges.push(node),
                Some((Some(name), key_place)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                        let message = format!("`{name}` is here for the second time");
                        let help = format!("the first is in line {}", first.key_place.line);
                        self.report.add(key_place, message, help);
                        return;
                    }
                    entries.push(Entry { key: name, key_place, value: node });
                }
            },
        }
    }

    fn merged(&mut self, mut entries: Vec<Entry>, merges: Vec<Node>) -> Vec<Entry> {
        for merge in merges {
            let sources = match merge.value {
                Value::Sequence(items) => items,
                _ => vec![merge],
            };
            for source in sources {
                match source.value {
                    Value::Mapping(others) => {
                        for other in others {
                            if !entries.iter().any(|entry| entry.key == other.key) {
                                entries.push(other);
                            }
                        }
                    }
                    Value::Broken => {}
                    other => {
                        let message = format!("`<<` merges mappings, not {}", other.describe());
                        self.report.add(source.place, message, None);
                    }
                }
            }
        }
        entries
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { collection: Collection::Mapping { key: None, .. }, .. }))
    }

    fn scalar(&mut self, text: &str, quoted: bool, is_key: bool, place: Place) -> Value {
        if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        if is_key {
            return Value::Text(text.to_owned());
        }
        let Some(environment) = self.environment else {
            return Value::Text(text.to_owned());
        };
        match substitute(text, environment) {
            Ok(text) => Value::Text(text),
            Err((message, help)) => {
                self.report.add(place, message, help);
                Value::Broken
            }
        }
    }

    /// Does the tag make a text of the scalar? The other tags of the core schema say what the reader finds out anyway.
    fn check_tag(&mut self, tag: Option<&Tag>, place: Place) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() {
            let message = format!("the tag `{tag}` means nothing here");
            self.report.add(place, message, "leave it out".to_owned());
        }
        tag.is_yaml_core_schema() && tag.suffix == "str"
    }
}

fn key_of(node: Node, report: &mut Report) -> (Option<String>, Place) {
    let place = node.place;
    match node.value {
        Value::Text(text) => (Some(text), place),
        other => {
            report.add(place, format!("a key is a text, not {}", other.describe()), None);
            (None, place)
        }
    }
}

fn syntax_error(text: &str, error: &ScanError, report: &mut Report) {
    let marker = error.marker();
    let place = Place { line: marker.line(), column: marker.col() + 1, length: 1 };
    let indented_by_tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    let tab = text
        .lines()
        .enumerate()
        .take(place.line + 1)
        .skip(place.line.saturating_sub(2))
        .find(|(_, line)| indented_by_tab(line));
    match tab {
        Some((index, line)) => {
            let place = Place {
                line: index + 1,
                column: line.chars().take_while(|character| *character == ' ').count() + 1,
                length: 1,
            };
            report.add(place, "a tab indents this line", "YAML indents with spaces only".to_owned());
        }
        None => report.add(place, format!("this is not YAML: {}", error.info()), None),
    }
}

fn place_of(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    Place {
        line: start.line(),
        column: start.col() + 1,
        length: if start.line() == end.line() {
            end.col().saturating_sub(start.col())
        } else {
            // To the end of the line; the report knows where that is.
            usize::MAX
        },
    }
}

const MERGE_KEY: &str = "<<";
