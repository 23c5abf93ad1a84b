//! How is a tree written as YAML? Block style, quoted only where it must be; what [`yaml`](super::yaml) reads back as the same tree.

use super::yaml::{Node, Value};

/// The lines of a value, from the first column. As deep as what was read, so recursion is bounded.
pub(super) fn lines(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Null | Value::Broken => vec!["null".to_owned()],
        Value::Text(text) => vec![scalar(text)],
        Value::Sequence(items) if items.is_empty() => vec!["[]".to_owned()],
        Value::Mapping(entries) if entries.is_empty() => vec!["{}".to_owned()],
        Value::Sequence(items) => items.iter().flat_map(|item| indented("- ", lines(item))).collect(),
        Value::Mapping(entries) => entries
            .iter()
            .flat_map(|entry| {
                let (key, inner) = (scalar(&entry.key), lines(&entry.value));
                match inner.as_slice() {
                    [only] if !is_block(&entry.value) => vec![format!("{key}: {only}")],
                    _ => {
                        let mut all = vec![format!("{key}:")];
                        all.extend(indented("  ", inner));
                        all
                    }
                }
            })
            .collect(),
    }
}

/// A text as a scalar that means itself.
pub(super) fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-{}$*:+@=".contains(&byte);
    let begins_plain =
        text.starts_with(|first: char| first.is_ascii_alphanumeric() || "./_$".contains(first));
    let means_nothing = matches!(text, "null" | "Null" | "NULL" | "...");
    if begins_plain && text.bytes().all(is_plain) && !text.ends_with(':') && !means_nothing {
        return text.to_owned();
    }
    if !text.chars().any(char::is_control) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.push_str(&format!("\\U{:08x}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn is_block(node: &Node) -> bool {
    match &node.value {
        Value::Sequence(items) => !items.is_empty(),
        Value::Mapping(entries) => !entries.is_empty(),
        Value::Null | Value::Text(_) | Value::Broken => false,
    }
}

/// The first line behind `first`, the others under it.
fn indented(first: &str, lines: Vec<String>) -> Vec<String> {
    let blanks = " ".repeat(first.len());
    let begin = |index: usize| if index == 0 { first } else { blanks.as_str() };
    lines.iter().enumerate().map(|(index, line)| format!("{}{line}", begin(index))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::module::error::{Place, Report, Source};
    use crate::module::yaml::{self, Entry};

    fn without_places(node: &Node) -> Node {
        let place = Place::NOWHERE;
        let value = match &node.value {
            Value::Sequence(items) => Value::Sequence(items.iter().map(without_places).collect()),
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        key_place: place,
                        value: without_places(&entry.value),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { place, value }
    }

    fn tree() -> impl Strategy<Value = Node> {
        let node = |value| Node { place: Place::NOWHERE, value };
        let text = prop_oneof!["[a-z0-9{}$:*#' \n\"\\\\,&!~-]{0,8}", "null|~|---|[.]{3}|\\PC{0,5}"];
        let leaf = prop_oneof![Just(Value::Null), text.clone().prop_map(Value::Text)].prop_map(node);
        leaf.prop_recursive(4, 20, 4, move |inner| {
            let entries = proptest::collection::btree_map(text.clone(), inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::Sequence),
                entries.prop_map(|entries| Value::Mapping(
                    entries
                        .into_iter()
                        .filter(|(key, _)| key != "<<")
                        .map(|(key, value)| Entry { key, key_place: Place::NOWHERE, value })
                        .collect()
                )),
            ]
            .prop_map(node)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_tree(tree in tree()) {
            prop_assume!(tree.value != Value::Null);
            let text = lines(&tree).join("\n");
            let mut report = Report::new(Arc::new(Source::new("m", &text)));
            let read: Vec<Node> = yaml::read(&text, None, &mut report).iter().map(without_places).collect();
            prop_assert_eq!(read, vec![tree], "{}", text);
        }
    }
}
