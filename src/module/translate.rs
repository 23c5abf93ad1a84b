//! How does a module of Stateful Functions move in? The same module with MQTT where it had Kafka or Kinesis, to be looked through.
//!
//! - Documents that can be read here stay as they are, comments and all.
//! - A Kafka topic becomes the MQTT topic `<topic>/{id}`: the last level is the id of the targets, as the record's key was.
//! - What a person must fill in, and what is left out, is said in comments. Of a module that is right the result loads by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::{LoadErrors, Place, Report, Source};
use super::kinds::{Translation, Unsupported};
use super::legacy::{self, find};
use super::yaml::{self, Node, Value};
use super::yaml_text::{lines, scalar};

/// Translates a `module.yaml`. Variables in it stay as they are written.
///
/// # Errors
/// What is no YAML, or no module of the old form though it begins as one.
pub fn translate(file_name: &str, text: &str) -> Result<String, LoadErrors> {
    let mut report = Report::new(Arc::new(Source::new(file_name, text)));
    let read = yaml::read(text, None, &mut report);
    if let [only] = read.as_slice()
        && legacy::is_legacy(only)
    {
        let modern = legacy::modern_of_any(only, &mut report);
        return report.finish(documents(&modern));
    }
    if read.is_empty() {
        report.add_unless_any(
            Place::NOWHERE,
            "the file says nothing",
            "there is nothing to translate".to_owned(),
        );
    }
    let egresses = egress_ids(&read);
    let mut written = Vec::new();
    let mut comments = String::new();
    let mut nodes = read.iter().peekable();
    for chunk in chunks(text) {
        let Some(node) = nodes.next_if(|node| chunk.contains(node.place.line)) else {
            comments.push_str(&chunk.text);
            continue;
        };
        let comments = std::mem::take(&mut comments);
        let own = match unsupported(node) {
            Some(kind) => ours(kind, find(node, "spec"), &egresses),
            None => chunk.text,
        };
        written.push(format!("{comments}{own}"));
    }
    report.finish(written.join("---\n"))
}

/// The translated documents, one after the other.
pub(super) fn documents(modern: &[Node]) -> String {
    let egresses = egress_ids(modern);
    let written = modern.iter().map(|node| match unsupported(node) {
        Some(kind) => ours(kind, find(node, "spec"), &egresses),
        None => lines(node).join("\n") + "\n",
    });
    written.collect::<Vec<_>>().join("---\n")
}

/// One document of a kind that cannot be read, translated.
pub(super) fn document(kind: &str, spec: Option<&Node>) -> String {
    Unsupported::of(kind)
        .map(|kind| ours(kind, spec, &BTreeSet::new()))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// The part of a file between two `---`.
struct Chunk {
    /// The lines, from 1, from the marker to before the next one.
    first: usize,
    last: usize,
    text: String,
}

impl Chunk {
    fn contains(&self, line: usize) -> bool {
        (self.first..=self.last).contains(&line)
    }
}

/// A marker at a line's begin is one wherever it stands: YAML has none inside of a scalar.
fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = vec![Chunk { first: 1, last: 0, text: String::new() }];
    for (index, line) in text.lines().enumerate() {
        let marked = |marker: &str| {
            line.strip_prefix(marker).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        let mut line = line;
        if let Some(rest) = marked("---") {
            chunks.push(Chunk { first: index + 1, last: index, text: String::new() });
            line = rest.trim_start();
        } else if marked("...").is_some() || line.starts_with('%') {
            line = "";
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.last = index + 1;
            if !(line.is_empty() && chunk.text.is_empty()) {
                chunk.text.push_str(line);
                chunk.text.push('\n');
            }
        }
    }
    chunks
}

fn unsupported(document: &Node) -> Option<&'static Unsupported> {
    find(document, "kind").and_then(text).and_then(Unsupported::of)
}

/// StateFun lets an ingress have an egress's id; here they are sessions, and no two have one name.
fn egress_ids(documents: &[Node]) -> BTreeSet<&str> {
    let is_egress = |document: &&Node| {
        find(document, "kind").and_then(text).is_some_and(|kind| kind.ends_with("/egress"))
    };
    (documents.iter().filter(is_egress))
        .filter_map(|document| find(find(document, "spec")?, "id").and_then(text))
        .collect()
}

fn ours(kind: &Unsupported, spec: Option<&Node>, egresses: &BTreeSet<&str>) -> String {
    let nothing = Node { place: Place::NOWHERE, value: Value::Null };
    let spec = spec.unwrap_or(&nothing);
    let mut yaml = Lines::default();
    match kind.translation {
        Translation::Ingress { list, stream } => ingress(spec, list, stream, egresses, &mut yaml),
        Translation::Egress => egress(kind, spec, &mut yaml),
    }
    yaml.text
}

fn ingress(spec: &Node, list: &str, stream: &str, egresses: &BTreeSet<&str>, yaml: &mut Lines) {
    yaml.line(0, "kind: fogfun.mqtt.v1/ingress");
    yaml.line(0, "spec:");
    let id = find(spec, "id").and_then(text).unwrap_or("example/in");
    if egresses.contains(id) {
        yaml.comment(2, &format!("An egress has the id `{id}`; no two sessions have one."));
        yaml.field(2, "id", &format!("{id}-in"));
    } else {
        yaml.field(2, "id", id);
    }
    session(spec, &["id", list], yaml);
    yaml.line(2, "topics:");
    yaml.comment(4, "The last level is the id of the targets, as the key was: devices publish to it.");
    let topics = last_of_each(items(spec, list), stream);
    if topics.is_empty() {
        yaml.comment(4, "Fill in: there was none.");
    }
    let nothing = Node { place: Place::NOWHERE, value: Value::Null };
    for topic in if topics.is_empty() { vec![&nothing] } else { topics } {
        let name = find(topic, stream).and_then(text).unwrap_or("example");
        yaml.field(4, "- topic", &format!("{name}/{{id}}"));
        yaml.comment(6, "Bytes as they come. For devices that send text, numbers or JSON say `format`.");
        match find(topic, "valueType").and_then(text) {
            Some(value_type) => yaml.field(6, "valueType", value_type),
            None => {
                yaml.comment(6, "Fill in: the type that the functions see.");
                yaml.field(6, "valueType", "example/value");
            }
        }
        let targets = items(topic, "targets");
        if targets.is_empty() {
            yaml.comment(6, "Fill in: the functions that get each record.");
        } else {
            yaml.line(6, "targets:");
            for target in distinct(targets) {
                yaml.line(8, &format!("- {}", scalar(target)));
            }
        }
    }
}

fn egress(kind: &Unsupported, spec: &Node, yaml: &mut Lines) {
    yaml.line(0, "kind: fogfun.mqtt.v1/egress");
    yaml.line(0, "spec:");
    yaml.field(2, "id", find(spec, "id").and_then(text).unwrap_or("example/out"));
    session(spec, &["id", "deliverySemantic"], yaml);
    if kind.name.contains("kafka") {
        yaml.comment(2, "A Kafka record is published to its own topic; its key is not used.");
    } else {
        yaml.comment(2, "Functions send Kafka records, or values to the `topic` and `format` said here; Kinesis records are refused.");
    }
    let semantic = find(spec, "deliverySemantic").and_then(|node| find(node, "type")).and_then(text);
    match semantic {
        Some("at-least-once") => {
            yaml.comment(2, "At least once, as it was; 2 is exactly once.");
            yaml.field(2, "qos", "1");
        }
        Some("none") => {
            yaml.comment(2, "Without promise, as it was; 2 is exactly once.");
            yaml.field(2, "qos", "0");
        }
        _ => yaml.field(2, "qos", "2"),
    }
}

/// What both have: where the broker is, and what of the old document is left out.
fn session(spec: &Node, translated: &[&str], yaml: &mut Lines) {
    let was = ["address", "awsRegion"].iter().find_map(|key| find(spec, key)).and_then(text);
    let was = was.map(|was| format!(" It was `{was}`.")).unwrap_or_default();
    yaml.comment(2, &format!("Fill in, or set BROKER: where the MQTT broker is.{was}"));
    yaml.line(2, "address: mqtt://${BROKER:-localhost}");
    if let Value::Mapping(entries) = &spec.value {
        let left_out: Vec<&str> = (entries.iter().map(|entry| entry.key.as_str()))
            .filter(|key| *key != "address" && !translated.contains(key))
            .collect();
        if !left_out.is_empty() {
            yaml.comment(2, &format!("Left out, for MQTT has no such thing: {}.", left_out.join(", ")));
        }
    }
}

/// In StateFun a topic that is named again replaces the earlier one.
fn last_of_each<'n>(topics: &'n [Node], stream: &str) -> Vec<&'n Node> {
    let name = |topic: &'n Node| find(topic, stream).and_then(text);
    let replaced =
        |index: usize, topic: &'n Node| topics.iter().skip(index + 1).any(|later| name(later) == name(topic));
    topics
        .iter()
        .enumerate()
        .filter(|(index, topic)| !replaced(*index, topic))
        .map(|(_, topic)| topic)
        .collect()
}

fn distinct(nodes: &[Node]) -> Vec<&str> {
    let mut names = Vec::new();
    for name in nodes.iter().filter_map(text) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    match find(node, key).map(|node| &node.value) {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// YAML that is being written.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&format!("{:indent$}{line}\n", ""));
    }

    fn field(&mut self, indent: usize, key: &str, value: &str) {
        self.line(indent, &format!("{key}: {}", scalar(value)));
    }

    /// A comment ends with its line, whatever it quotes.
    fn comment(&mut self, indent: usize, comment: &str) {
        self.line(indent, &format!("# {}", comment.replace(char::is_control, " ")));
    }
}
