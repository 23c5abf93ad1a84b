//! Where does a server send us? The URL that a `location` header means, if we go there.

use crate::remote::url::{Server, Url};

/// Takes a `location` that came from `base`.
///
/// # Errors
/// What is wrong with it: no URL, or a place that a server may not send a request to.
pub(super) fn target(base: &Url, location: &str) -> Result<Url, String> {
    let location = location.split('#').next().unwrap_or_default();
    let url = if let Some(rest) = location.strip_prefix("//") {
        let scheme = if base.tls { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{rest}"))?
    } else if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
        Url::parse(location)?
    } else {
        // As an absolute path it is checked like any other.
        let path = relative(&base.path, location);
        let checked = Url::parse(&format!("http://host{path}"))?;
        Url { path: checked.path, ..base.clone() }
    };
    if matches!(url.server, Server::Unix { .. }) && url.server != base.server {
        return Err("a server may not redirect to a UNIX socket".to_owned());
    }
    if base.tls && !url.tls {
        return Err("a redirect from https to http is not followed".to_owned());
    }
    Ok(url)
}

fn relative(base: &str, location: &str) -> String {
    let path = base.split('?').next().unwrap_or_default();
    let directory = path.rfind('/').map_or("/", |end| path.get(..=end).unwrap_or_default());
    match location.chars().next() {
        None => base.to_owned(),
        Some('/') => location.to_owned(),
        Some('?') => format!("{path}{location}"),
        Some(_) => format!("{directory}{location}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_against_where_they_came_from() {
        for (base, location, expected) in [
            ("http://a:1/b/c?d", "/e", "http://a:1/e"),
            ("http://a:1/b/c?d", "e?f#g", "http://a:1/b/e?f"),
            ("http://a:1/b/c?d", "?f", "http://a:1/b/c?f"),
            ("http://a:1/b/c?d", "", "http://a:1/b/c?d"),
            ("http://a:1/b", "//c/d", "http://c/d"),
            ("http://a:1/b", "https://c:2/d", "https://c:2/d"),
            ("http+unix:///a.sock/b", "/c", "http+unix:///a.sock/c"),
        ] {
            let base = Url::parse(base).unwrap();
            assert_eq!(target(&base, location), Ok(Url::parse(expected).unwrap()), "{location}");
        }
    }

    #[test]
    fn a_server_sends_nobody_to_a_weaker_place() {
        for (base, location) in [
            ("https://a/", "http://a/"),
            ("http://a/", "http+unix:///a.sock/"),
            ("http+unix:///a.sock/", "http+unix:///b.sock/"),
            ("http://a/", "file:///etc/passwd"),
            ("http://a/", "/a b"),
        ] {
            assert!(target(&Url::parse(base).unwrap(), location).is_err(), "{location}");
        }
    }
}
