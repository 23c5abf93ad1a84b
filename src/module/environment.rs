//! What does `${VAR}` stand for? The environment's variables, in values of a `module.yaml`.
//!
//! `${VAR}` is the variable's value and an error if it is not set; `${VAR:-default}` takes the default if it is not set or
//! empty; `$${` is `${` itself. Any other `$` is a dollar sign, so that `$share/…` needs no care. It is done to scalars once the
//! YAML is read: a value can add no keys, and places stay those of the file.

/// Replaces every variable; the second of an error is help.
pub(crate) fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, (String, String)> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let behind = from.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = behind;
            continue;
        }
        result.push_str(before);
        let Some((inside, after)) = behind.split_once('}') else {
            return Err((
                "`${` without `}`".into(),
                "write `${VAR}` or `${VAR:-default}`; `$${` is a plain `${`".into(),
            ));
        };
        result.push_str(&value(inside, environment)?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

fn value(inside: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let mut characters = name.chars();
    let named = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_');
    if !named {
        return Err((
            format!("`{name}` is no name of an environment variable"),
            "a name has letters, digits and `_`, and no digit first".into(),
        ));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_other_dollars_are_not() {
        let environment = |name: &str| match name {
            "HOST" => Some("broker".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let replaced = |text| substitute(text, &environment).map_err(|(message, _)| message);
        for (text, result) in [
            ("mqtt://${HOST}:1883", "mqtt://broker:1883"),
            ("${HOST}${HOST}", "brokerbroker"),
            ("${PORT:-1883}", "1883"),
            ("${EMPTY:-x}${EMPTY}", "x"),
            ("${PORT:-}", ""),
            ("$share/g/a $HOST $ $$", "$share/g/a $HOST $ $$"),
            ("$${HOST}", "${HOST}"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(result), "{text}");
        }
        for (text, message) in [
            ("${PORT}", "the environment variable `PORT` is not set"),
            ("${", "`${` without `}`"),
            ("${}", "`` is no name of an environment variable"),
            ("${a b}", "`a b` is no name of an environment variable"),
            ("${1A:-x}", "`1A` is no name of an environment variable"),
        ] {
            assert_eq!(replaced(text).unwrap_err(), message);
        }
    }
}
