//! Where is the broker? `mqtt://host`, `mqtts://host:port`, `mqtt://[::1]:1883`.

/// What a broker's URL says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl BrokerUrl {
    /// Takes a URL apart; an error is a message and help.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, String)> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err((
                format!("`{text}` is no URL of a broker"),
                format!(
                    "for example `mqtt://{}`",
                    if text.contains(['/', ' ']) { "localhost" } else { text }
                ),
            ));
        };
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            "tcp" => return Err(scheme_error(scheme, &format!("did you mean `mqtt://{rest}`?"))),
            "ssl" | "tls" => return Err(scheme_error(scheme, &format!("did you mean `mqtts://{rest}`?"))),
            "ws" | "wss" => {
                return Err(scheme_error(
                    scheme,
                    "MQTT over WebSocket is not supported; use `mqtt://` or `mqtts://`",
                ));
            }
            _ => return Err(scheme_error(scheme, "there are `mqtt://` and `mqtts://`")),
        };
        if rest.contains('@') {
            return Err((
                "a broker's URL has no user".into(),
                "write `user: …` and `passwordFile: …` beside it".into(),
            ));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err((
                "a broker's URL ends with its host and port".into(),
                "leave out what is behind them".into(),
            ));
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if tls => PORT_TLS,
            None => PORT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| 0 < *port && text.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| {
                    (format!("`{text}` is no port"), "a port is a number from 1 to 65535".to_owned())
                })?,
        };
        let named = !host.is_empty()
            && !host.contains(|character: char| character.is_whitespace() || character.is_control());
        if !named {
            return Err((format!("`{host}` is no host"), "a name or an address".into()));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), (String, String)> {
    let bad_address = || {
        (
            format!("`{authority}` is no host and port"),
            "an IPv6 address stands in brackets: `mqtt://[::1]:1883`".to_owned(),
        )
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or_else(bad_address)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| bad_address())?;
        return match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(bad_address()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(bad_address()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn scheme_error(scheme: &str, help: &str) -> (String, String) {
    (format!("unknown scheme `{scheme}://`"), help.to_owned())
}

/// The port that IANA gave to MQTT.
const PORT: u16 = 1883;
/// The port that IANA gave to MQTT over TLS.
const PORT_TLS: u16 = 8883;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_says_host_port_and_whether_tls() {
        for (text, host, port, tls) in [
            ("mqtt://broker", "broker", 1883, false),
            ("mqtts://broker/", "broker", 8883, true),
            ("mqtt://10.0.0.1:18830", "10.0.0.1", 18830, false),
            ("mqtts://[::1]", "::1", 8883, true),
            ("mqtt://[fe80::1]:1", "fe80::1", 1, false),
        ] {
            let host = host.to_owned();
            assert_eq!(BrokerUrl::parse(text), Ok(BrokerUrl { host, port, tls }), "{text}");
        }
        for (text, message) in [
            ("localhost", "`localhost` is no URL of a broker"),
            ("http://a", "unknown scheme `http://`"),
            ("tcp://a", "unknown scheme `tcp://`"),
            ("ssl://a", "unknown scheme `ssl://`"),
            ("ws://a", "unknown scheme `ws://`"),
            ("mqtt://u:p@a", "a broker's URL has no user"),
            ("mqtt://a/b", "a broker's URL ends with its host and port"),
            ("mqtt://a:0", "`0` is no port"),
            ("mqtt://a:+1", "`+1` is no port"),
            ("mqtt://a:65536", "`65536` is no port"),
            ("mqtt://a:", "`` is no port"),
            ("mqtt://", "`` is no host"),
            ("mqtt://a b", "`a b` is no host"),
            ("mqtt://::1", "`::1` is no host and port"),
            ("mqtt://[::1", "`[::1` is no host and port"),
            ("mqtt://[a]", "`[a]` is no host and port"),
            ("mqtt://[::1]x", "`[::1]x` is no host and port"),
        ] {
            assert_eq!(BrokerUrl::parse(text).unwrap_err().0, message, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}", rest in "[a:@/\\[\\]0-9]{0,20}") {
            let _ = BrokerUrl::parse(&text);
            let _ = BrokerUrl::parse(&format!("mqtt://{rest}"));
        }
    }
}
