//! How does a person read and write a value? Built-ins as plain text, JSON and UTF-8 as they are, anything else as base64.

use data_encoding::BASE64;

use crate::admin::AdminValue;
use crate::mqtt::builtin::Builtin;
use crate::typed_value::Value;

use super::Ending;

/// A value as text: what [`parse`] takes back for the built-ins.
pub(crate) fn shown(value: &AdminValue) -> String {
    let Ok(bytes) = BASE64.decode(value.bytes.as_bytes()) else { return value.bytes.clone() };
    if let Some(Ok(builtin)) = Builtin::decode(&value.typename, &bytes) {
        return builtin.to_string();
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.chars().any(|character| character.is_control() && character != '\n') => text.to_owned(),
        _ => format!("base64:{}", value.bytes),
    }
}

/// Text as a value of a type, which may be named in short: `int` for `io.statefun.types/int`.
pub(crate) fn parse(typename: &str, text: &str) -> Result<AdminValue, Ending> {
    let short = typename.strip_prefix(BUILTIN_NAMESPACE).unwrap_or(typename);
    let wrong = || Ending::NotUnderstood(format!("`{text}` is no value of type `{typename}`"));
    let of = |typename: &str, bytes: &[u8]| {
        Ok(AdminValue { typename: typename.to_owned(), bytes: BASE64.encode(bytes) })
    };
    match short {
        "bool" => of(bool::TYPENAME, &text.parse::<bool>().map_err(|_| wrong())?.encode()),
        "int" => of(i32::TYPENAME, &text.parse::<i32>().map_err(|_| wrong())?.encode()),
        "long" => of(i64::TYPENAME, &text.parse::<i64>().map_err(|_| wrong())?.encode()),
        "float" => of(f32::TYPENAME, &text.parse::<f32>().map_err(|_| wrong())?.encode()),
        "double" => of(f64::TYPENAME, &text.parse::<f64>().map_err(|_| wrong())?.encode()),
        "string" => of(String::TYPENAME, &text.to_owned().encode()),
        _ if !typename.contains('/') => Err(Ending::NotUnderstood(format!(
            "no type `{typename}`: bool, int, long, float, double, string, or `namespace/name`"
        ))),
        _ => match text.strip_prefix("base64:") {
            Some(base64) => of(typename, &BASE64.decode(base64.as_bytes()).map_err(|_| wrong())?),
            None => of(typename, text.as_bytes()),
        },
    }
}

const BUILTIN_NAMESPACE: &str = "io.statefun.types/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_understood() {
        for (typename, text) in [
            ("bool", "true"),
            ("int", "-7"),
            ("io.statefun.types/long", "9007199254740993"),
            ("double", "21.5"),
            ("string", "hi there"),
            ("my/json", "{\"a\":1}"),
            ("my/bytes", "base64:AAH/"),
        ] {
            assert_eq!(shown(&parse(typename, text).unwrap()), text);
        }
        for (typename, text) in [("int", "x"), ("int", "3000000000"), ("nothing", "x"), ("my/bytes", "base64:!")] {
            assert!(matches!(parse(typename, text), Err(Ending::NotUnderstood(_))), "{typename} {text}");
        }
    }
}
