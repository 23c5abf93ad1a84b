//! Where is an endpoint? A URL of one of four schemes, taken apart once.

use std::fmt;
use std::path::PathBuf;

/// A URL of an endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Url {
    /// Through TLS?
    pub tls: bool,
    /// Where the server listens.
    pub server: Server,
    /// Path and query, as the request line has them; `/` at least.
    pub path: String,
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Server {
    /// A TCP port.
    Tcp {
        /// Host name or address (IPv6 without brackets).
        host: String,
        /// 80 or 443 unless the URL says otherwise.
        port: u16,
    },
    /// A UNIX socket (`http+unix`, `https+unix`): the path up to and including the first element that ends in `.sock`.
    Unix {
        /// The socket file.
        path: PathBuf,
    },
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, for a person: an unknown scheme, no host, a port that is none, no `.sock` element, user
    /// information, a fragment, characters that no URL has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("a URL begins with `http://` or the like")?;
        let (tls, is_unix) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, false),
            "https" => (true, false),
            "http+unix" => (false, true),
            "https+unix" => (true, true),
            _ => return Err(format!("`{scheme}` is none of http, https, http+unix, https+unix")),
        };
        if let Some(odd) = rest.chars().find(|c| !c.is_ascii_graphic() || "<>\"\\^`{|}".contains(*c)) {
            return Err(format!("{odd:?} is no character of a URL"));
        }
        if rest.contains('#') {
            return Err("a fragment (`#…`) is never sent".to_owned());
        }
        if is_unix { Self::parse_unix(tls, rest) } else { Self::parse_tcp(tls, rest) }
    }

    fn parse_unix(tls: bool, rest: &str) -> Result<Self, String> {
        let path = format!("/{}", rest.trim_start_matches('/'));
        let end = path
            .match_indices(".sock")
            .map(|(at, found)| at + found.len())
            .find(|&end| path[end..].is_empty() || path[end..].starts_with(['/', '?']))
            .ok_or("no element of the path ends in `.sock`")?;
        let (socket, path) = path.split_at(end);
        Ok(Self { tls, server: Server::Unix { path: socket.into() }, path: absolute(path) })
    }

    fn parse_tcp(tls: bool, rest: &str) -> Result<Self, String> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("user and password do not belong into a URL; send a header instead".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("`]` ends the host")?)),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(format!("`{port}` is no port")),
                Ok(port) => port,
            },
        };
        Ok(Self { tls, server: Server::Tcp { host: host.to_owned(), port }, path: absolute(path) })
    }

    /// What the header `host` says: the port only if it is not the scheme's own, `localhost` for a UNIX socket.
    #[must_use]
    pub fn host_header(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        match &self.server {
            Server::Unix { .. } => "localhost".to_owned(),
            Server::Tcp { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if *port == own { host } else { format!("{host}:{port}") }
            }
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.server {
            Server::Tcp { .. } => write!(f, "{scheme}://{}{}", self.host_header(), self.path),
            Server::Unix { path } => write!(f, "{scheme}+unix://{}{}", path.display(), self.path),
        }
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(tls: bool, host: &str, port: u16, path: &str) -> Url {
        Url { tls, server: Server::Tcp { host: host.into(), port }, path: path.into() }
    }

    #[test]
    fn urls_are_taken_apart() {
        let unix = |tls, socket: &str, path: &str| Url {
            tls,
            server: Server::Unix { path: socket.into() },
            path: path.into(),
        };
        for (text, expected) in [
            ("http://functions:8000/statefun", tcp(false, "functions", 8000, "/statefun")),
            ("HTTPS://example.org", tcp(true, "example.org", 443, "/")),
            ("http://[::1]:8000?a=b", tcp(false, "::1", 8000, "/?a=b")),
            ("http+unix:///run/greeter.sock/statefun", unix(false, "/run/greeter.sock", "/statefun")),
            ("https+unix://run/a.sock", unix(true, "/run/a.sock", "/")),
        ] {
            assert_eq!(Url::parse(text).unwrap(), expected, "{text}");
            assert_eq!(Url::parse(&expected.to_string()).unwrap(), expected, "{text} again");
        }
    }

    #[test]
    fn what_is_no_url_is_told() {
        for text in [
            "functions:8000",
            "ftp://x/",
            "http://",
            "http://:80/",
            "http://x:0/",
            "http://x:y/",
            "http://a@x/",
            "http://x/#y",
            "http://x/a b",
            "http://x/{name}",
            "http+unix:///run/greeter/statefun",
            "http://[::1]8/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
