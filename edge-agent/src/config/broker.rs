//! A broker's address, and who a box is there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use shared::secret::Secret;

/// A name at a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// Where its password is; `None`: there is none.
    pub password: Option<Password>,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// The first line of this file, read for every connection: a new one needs no restart.
    File(PathBuf),
    /// Here, from the environment.
    Given(Secret),
}

/// A broker's address as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Over TLS (`mqtts`).
    pub tls: bool,
    /// Host name or address, without brackets; over TLS also the name its certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Broker {
    /// `host:port` or `[v6]:port`.
    #[must_use]
    pub fn socket(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether all that is sent stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt{}://{}", if self.tls { "s" } else { "" }, self.socket())
    }
}

impl FromStr for Broker {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        let (tls, usual) = match scheme {
            "mqtts" => (true, 8883),
            "mqtt" => (false, 1883),
            _ => return Err("is not an MQTT broker's address"),
        };
        if rest.contains('@') {
            return Err("holds a name or a password, which belong elsewhere");
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or("has an unclosed [")?;
                (host, after.strip_prefix(':').or((!after.is_empty()).then_some(after)))
            }
            None if rest.matches(':').count() > 1 => return Err("is an IPv6 address without brackets"),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => usual,
            Some(port) => port.parse().ok().filter(|&port: &u16| port > 0).ok_or("has no valid port")?,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#".contains(c)) {
            return Err("has no valid host");
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses() {
        for (text, wanted) in [
            ("mqtt://h", "mqtt://h:1883"),
            ("mqtts://h/", "mqtts://h:8883"),
            ("mqtt://10.0.0.1:11883", "mqtt://10.0.0.1:11883"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
            ("mqtts://[::1]:1", "mqtts://[::1]:1"),
        ] {
            assert_eq!(text.parse::<Broker>().map(|broker| broker.to_string()).as_deref(), Ok(wanted));
        }
        for text in [
            "h:1883",
            "http://h",
            "mqtt://",
            "mqtt://h:0",
            "mqtt://::1",
            "mqtt://[::1",
            "mqtt://[::1]1x",
            "mqtt://h/x",
        ] {
            assert!(text.parse::<Broker>().is_err(), "{text}");
        }
        assert!("mqtt://127.0.0.2".parse::<Broker>().unwrap().is_local());
    }
}
