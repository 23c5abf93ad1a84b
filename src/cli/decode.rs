//! How does a value look to a person? The StateFun built-ins and JSON as text, anything else as its size.

use data_encoding::BASE64;

use crate::admin::AdminValue;
use crate::typed_value::Value;

/// A value for a person.
pub(super) fn show(value: &AdminValue) -> String {
    let Ok(bytes) = BASE64.decode(value.bytes.as_bytes()) else {
        return format!("not base64: {}", value.bytes);
    };
    let text = match value.typename.as_str() {
        bool::TYPENAME => bool::decode(&bytes).ok().map(|value| value.to_string()),
        i32::TYPENAME => i32::decode(&bytes).ok().map(|value| value.to_string()),
        i64::TYPENAME => i64::decode(&bytes).ok().map(|value| value.to_string()),
        f32::TYPENAME => f32::decode(&bytes).ok().map(|value| value.to_string()),
        f64::TYPENAME => f64::decode(&bytes).ok().map(|value| value.to_string()),
        String::TYPENAME => String::decode(&bytes).ok().map(|value| format!("{value:?}")),
        _ => serde_json::from_slice::<serde_json::Value>(&bytes).ok().map(|value| value.to_string()),
    };
    text.unwrap_or_else(|| format!("{} bytes", bytes.len()))
}

/// Text as a value of a type.
pub(super) fn read(text: &str, typename: &str) -> Result<AdminValue, String> {
    let wrong = || format!("`{text}` is no {typename}");
    let payload = match typename {
        bool::TYPENAME => text.parse::<bool>().map_err(|_| wrong())?.encode(),
        i32::TYPENAME => text.parse::<i32>().map_err(|_| wrong())?.encode(),
        i64::TYPENAME => text.parse::<i64>().map_err(|_| wrong())?.encode(),
        f32::TYPENAME => text.parse::<f32>().map_err(|_| wrong())?.encode(),
        f64::TYPENAME => text.parse::<f64>().map_err(|_| wrong())?.encode(),
        String::TYPENAME => text.to_owned().encode(),
        _ => text.as_bytes().to_vec().into(),
    };
    Ok(AdminValue { typename: typename.to_owned(), bytes: BASE64.encode(&payload) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown() {
        for (text, typename) in [
            ("42", "io.statefun.types/long"),
            ("-7", "io.statefun.types/int"),
            ("21.5", "io.statefun.types/double"),
            ("true", "io.statefun.types/bool"),
            ("{\"a\":1}", "example/json"),
        ] {
            assert_eq!(show(&read(text, typename).unwrap()), text);
        }
        assert_eq!(show(&read("a b", "io.statefun.types/string").unwrap()), "\"a b\"");
        assert!(read("4x", "io.statefun.types/long").is_err());
    }
}
