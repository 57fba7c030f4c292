//! An encoder's address.

use std::fmt;
use std::str::FromStr;

/// An encoder's address as written: `host:port` or `[v6]:port`, over TCP with `tcp://` before it. The host is also the name
/// its certificate must carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddr {
    /// Over what it is asked.
    pub transport: Transport,
    /// Host name or address, without brackets.
    pub host: String,
    /// UDP or TCP port.
    pub port: u16,
}

/// What carries frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream for each frame.
    Quic,
    /// One message after another.
    Tcp,
}

/// Before an address that is asked over TCP.
const TCP: &str = "tcp://";

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, host, port } = self;
        let scheme = if *transport == Transport::Tcp { TCP } else { "" };
        if host.contains(':') {
            write!(f, "{scheme}[{host}]:{port}")
        } else {
            write!(f, "{scheme}{host}:{port}")
        }
    }
}

impl FromStr for ServerAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (transport, text) = match text.strip_prefix(TCP) {
            Some(rest) => (Transport::Tcp, rest),
            None => (Transport::Quic, text),
        };
        if text.contains("://") {
            return Err("is a URL");
        }
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or("has an unclosed [")?,
            None if host.contains(':') => return Err("is an IPv6 address without brackets"),
            None => host,
        };
        let port = port.parse().ok().filter(|&port: &u16| port > 0).ok_or("has no valid port")?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("has no valid host");
        }
        Ok(Self { transport, host: host.to_owned(), port })
    }
}
