use proptest::prelude::*;

use super::*;
use crate::address::TypeName;

fn pattern(text: &str) -> TopicPattern {
    TopicPattern::parse(text).unwrap()
}

fn captured(text: &str, topic: &str) -> Option<Vec<(String, String)>> {
    let pattern = pattern(text);
    let captures = pattern.captures(topic)?;
    Some(captures.map(|(name, part)| (name.to_owned(), part.to_owned())).collect())
}

#[test]
fn a_captured_level_is_subscribed_as_a_plus() {
    let parsed = pattern("$share/g/fridge/{id}/+/#");
    assert_eq!(parsed.filter, "$share/g/fridge/+/+/#");
    assert!(parsed.is_shared());
    assert_eq!(parsed.capture_names().collect::<Vec<_>>(), ["id"]);
    assert_eq!(
        captured("{house}/fridge/{id}/#", "h/fridge/7/a/b").unwrap(),
        [("house".into(), "h".into()), ("id".into(), "7".into())]
    );
    assert_eq!(captured("fridge/{id}", "fridge/").unwrap(), [("id".into(), String::new())]);
    assert_eq!(captured("fridge/{id}", "fridge"), None);
    assert_eq!(captured("fridge/{id}", "fridge/1/2"), None);
}

#[test]
fn what_is_no_pattern_is_told() {
    for (text, error) in [
        ("", "a topic has at least one character"),
        ("a/#/b", "`#` is the last level or none"),
        ("a/b+", "`b+`: a wildcard fills a whole level"),
        ("a/fridge-{id}", "`fridge-{id}`: a capture is a whole level of the form `{name}`"),
        ("a/{id", "`{id`: a capture is a whole level of the form `{name}`"),
        ("a/{}", "`` is no name of a capture: letters, digits, `_` and `-`, a letter first"),
        ("{a}/{a}", "the capture `a` occurs twice"),
        ("$share/g", "a shared subscription is `$share/group/filter`"),
        ("$share//a", "a shared subscription is `$share/group/filter`"),
        ("$share", "a shared subscription is `$share/group/filter`"),
        ("a\0", "a topic has no NUL character"),
    ] {
        assert_eq!(TopicPattern::parse(text).unwrap_err().to_string(), error, "{text}");
    }
    let long = "x".repeat(TOPIC_BYTES_MAX + 1);
    assert_eq!(TopicPattern::parse(&long), Err(TopicError::TooLong { bytes: long.len() }));
}

#[test]
fn a_template_is_filled_with_its_caller() {
    let caller = Address::new(TypeName::from_static("example/fridge"), "kitchen").unwrap();
    let fill = |template| fill_template(template, Some(&caller));
    assert_eq!(
        fill("out/{caller.namespace}/{caller.type}/{caller.id}").unwrap(),
        "out/example/fridge/kitchen"
    );
    assert_eq!(fill("alarm").unwrap(), "alarm");
    assert_eq!(fill_template("alarm", None).unwrap(), "alarm");
    assert_eq!(fill_template("{caller.id}", None), Err(TopicError::NoCaller));
    assert_eq!(fill("a/{caller.id"), Err(TopicError::Unclosed));
    assert_eq!(fill("a/caller.id}"), Err(TopicError::Unclosed));
    assert_eq!(fill("a/+"), Err(TopicError::WildcardInName));
    assert_eq!(
        check_template("{caller.ID}").unwrap_err().to_string(),
        "there is no placeholder `{caller.ID}`; there are `{caller.id}`, `{caller.type}`, `{caller.namespace}`"
    );
    let wild = Address::new(TypeName::from_static("a/b"), "#").unwrap();
    assert_eq!(fill_template("out/{caller.id}", Some(&wild)), Err(TopicError::WildcardInName));
    let nobody = Address::new(TypeName::from_static("a/b"), "").unwrap();
    assert_eq!(fill_template("{caller.id}", Some(&nobody)), Err(TopicError::Empty));
}

/// MQTT 4.7, straight from the text and recursively.
fn naive_match(filter: &[&str], topic: &[&str], first: bool) -> bool {
    let hidden = first && topic.first().is_some_and(|level| level.starts_with('$'));
    match (filter.split_first(), topic.split_first()) {
        (Some((&"#", [])), _) => !hidden,
        (Some((level, filter)), Some((part, topic))) => {
            (level == part || *level == "+" && !hidden) && naive_match(filter, topic, false)
        }
        (None, None) => true,
        _ => false,
    }
}

/// All topics of up to `levels` levels over an alphabet in which every rule shows.
fn topics(levels: usize) -> Vec<String> {
    let mut all: Vec<String> = ["", "a", "b", "$c"].map(String::from).to_vec();
    let mut last = all.clone();
    for _ in 1..levels {
        last = last
            .iter()
            .flat_map(|topic| ["", "a", "b", "$c"].map(|part| format!("{topic}/{part}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("a"), Just("b"), Just("$c"), Just("+"), Just("")];
    (prop::collection::vec(level, 0..4), any::<bool>()).prop_map(|(mut levels, rest)| {
        if rest || levels.join("/").is_empty() {
            levels.push("#");
        }
        levels.join("/")
    })
}

proptest! {
    #[test]
    fn matching_is_what_mqtt_says(filter in filters()) {
        let parsed = pattern(&filter);
        let levels: Vec<&str> = filter.split('/').collect();
        for topic in topics(4) {
            let parts: Vec<&str> = topic.split('/').collect();
            prop_assert_eq!(parsed.captures(&topic).is_some(), naive_match(&levels, &parts, true), "{} {}", filter, topic);
        }
    }

    #[test]
    fn overlap_is_a_topic_that_both_take(one in filters(), other in filters()) {
        let (one, other) = (pattern(&one), pattern(&other));
        let shared = topics(5).iter().any(|topic| one.captures(topic).is_some() && other.captures(topic).is_some());
        prop_assert_eq!(one.overlaps(&other), shared, "{} {}", one.text, other.text);
        prop_assert_eq!(other.overlaps(&one), shared);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "[a{}+#/$share\\PC\0]{0,40}") {
        if let Ok(parsed) = TopicPattern::parse(&text) {
            prop_assert_eq!(parsed.levels.len(), text.split('/').count() - if parsed.is_shared() { 2 } else { 0 });
            let _ = parsed.captures(&text).map(Iterator::count);
        }
        let _ = check_template(&text);
    }
}
