//! Ports, and the buffers of UDP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use shared::report::Item;

use super::read;
use crate::serve::Config;

/// What all cameras may send while the program is busy for 20 ms: at Linux' usual 208 KiB, two hundred packets, they
/// are lost and come again.
const ENOUGH_BYTES: u64 = 1024 * 1024;

pub(super) fn examine(config: &Config) -> Vec<Item> {
    let mut items = vec![port("frames", "UDP", config.listen, UdpSocket::bind(config.listen).map(drop))];
    if let Some(tcp) = config.tcp {
        items.push(port("frames", "TCP", tcp, TcpListener::bind(tcp).map(drop)));
    }
    if config.enroll.dir.is_some() {
        let listen = config.enroll.listen;
        items.push(port("enrolment", "UDP", listen, UdpSocket::bind(listen).map(drop)));
    }
    for (what, key) in [("receive", "rmem_default"), ("send", "wmem_default")] {
        items.extend(buffer(what, key, &read(&format!("/proc/sys/net/core/{key}"))));
    }
    items
}

fn port(what: &str, protocol: &str, address: SocketAddr, bound: io::Result<()>) -> Item {
    let name = format!("port of {what}");
    let port = address.port();
    match bound {
        Ok(()) => Item::ok(
            &name,
            format!("{address} ({protocol}) is free; a firewall in front must let {protocol} {port} in"),
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let flag = if protocol == "TCP" { 't' } else { 'u' };
            let words = format!("{address} ({protocol}) is taken");
            Item::warn(
                &name,
                words,
                format!("fine if that is this server, running; `ss -{flag}lpn 'sport = :{port}'` names it"),
            )
        }
        Err(error) => {
            let words = format!("{address} ({protocol}): {error}");
            Item::fail(&name, words, "listen on 0.0.0.0 and a port above 1023")
        }
    }
}

fn buffer(what: &str, key: &str, text: &str) -> Option<Item> {
    let bytes: u64 = text.trim().parse().ok()?;
    let words = format!("{} KiB to {what}", bytes / 1024);
    let remedy = format!(
        "`echo net.core.{key}=4194304 | sudo tee -a /etc/sysctl.d/90-dc-encoder.conf && sudo sysctl --system`"
    );
    Some(if bytes < ENOUGH_BYTES {
        let words = format!("{words}: enough for tens of cameras, not for hundreds");
        Item::warn("UDP buffers", words, remedy)
    } else {
        Item::ok("UDP buffers", words)
    })
}

#[cfg(test)]
mod tests {
    use shared::report::Status;

    use super::*;

    #[test]
    fn a_port_that_is_taken_is_said_to_be() {
        let address = "127.0.0.1:4433".parse().unwrap();
        let item = |kind: io::ErrorKind| port("frames", "UDP", address, Err(kind.into()));
        assert_eq!(port("frames", "UDP", address, Ok(())).status, Status::Ok);
        let taken = item(io::ErrorKind::AddrInUse);
        assert!(taken.status == Status::Warn && taken.remedy.contains("ss -ulpn 'sport = :4433'"), "{taken}");
        assert_eq!(item(io::ErrorKind::PermissionDenied).status, Status::Fail);
    }

    #[test]
    fn small_buffers_come_with_the_command() {
        let small = buffer("receive", "rmem_default", "212992\n").unwrap();
        assert!(
            small.status == Status::Warn && small.remedy.contains("net.core.rmem_default=4194304"),
            "{small}"
        );
        assert_eq!(buffer("receive", "rmem_default", "4194304").unwrap().status, Status::Ok);
        assert_eq!(buffer("receive", "rmem_default", ""), None);
    }
}
