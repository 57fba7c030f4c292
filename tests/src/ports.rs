//! Ports that can be left and come back to.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below are the ports of well-known services.
const FIRST: u16 = 10_000;
/// Linux gives programs that ask for any port one from here on, unless it is set otherwise.
const USUAL_EPHEMERAL: u16 = 32_768;

/// A free port on loopback, for TCP and UDP, outside the range that the system hands out: a server that is stopped
/// and started again finds it free. Programs that ask at the same time get different ones.
///
/// # Panics
/// Not one of them is free.
pub fn lasting() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let ports = FIRST..ephemeral().max(FIRST + 1);
    // Neighbouring process ids start far apart: tests run as processes side by side.
    let start =
        u32::from(ASKED.fetch_add(1, Ordering::Relaxed)).wrapping_add(std::process::id().wrapping_mul(97));
    let count = u32::from(ports.end - ports.start);
    (0..count)
        .map(|step| ports.start + ((start.wrapping_add(step)) % count) as u16)
        .find(|port| is_free(*port))
        .expect("a machine with twenty thousand servers runs no tests")
}

fn ephemeral() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(USUAL_EPHEMERAL)
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}
