//! The few system calls that the standard library does not wrap. All unsafe code of this crate is here.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use libc::{c_char, c_int, c_short, c_ulong, ifreq, sockaddr_in};

/// 256 hosts: room for an end to move.
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Gives the calling thread a new network namespace.
pub(super) fn unshare_net() -> io::Result<()> {
    // SAFETY: takes flags alone, and changes nothing but which network this thread sees.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the calling thread to a network namespace.
pub(super) fn enter(net: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `net` is borrowed.
    done(unsafe { libc::setns(net.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// A new device in the calling thread's namespace: IP packets, whole, without a header; reads do not wait.
pub(super) fn open_tun(name: &str) -> io::Result<File> {
    let tun =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as c_short;
    control(tun.as_raw_fd(), libc::TUNSETIFF as c_ulong, &mut request)?;
    Ok(tun)
}

/// Gives a device of the calling thread's namespace its one address; the system adds the route to the subnet.
pub(super) fn set_address(name: &str, address: Ipv4Addr) -> io::Result<()> {
    for (what, address) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, NETMASK)] {
        let mut request = named(name);
        // SAFETY: both are plain data, and an address of this family is no longer than the room for any.
        request.ifr_ifru.ifru_addr = unsafe { mem::transmute::<sockaddr_in, libc::sockaddr>(inet(address)) };
        control(socket()?.as_raw_fd(), what as c_ulong, &mut request)?;
    }
    Ok(())
}

/// Starts a device of the calling thread's namespace.
pub(super) fn set_up(name: &str) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as c_short;
    control(socket()?.as_raw_fd(), libc::SIOCSIFFLAGS as c_ulong, &mut request)
}

/// Waits until one of the files can be read or the time is over; to the microsecond, which `poll` cannot.
pub(super) fn wait_readable(files: [&File; 2], within: Duration) -> io::Result<()> {
    let mut polled =
        files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(within.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: within.subsec_nanos().into(),
    };
    // SAFETY: pointer and count are those of `polled`, `time` outlives the call, and no signal mask is given.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), 2, &raw const time, std::ptr::null()) };
    match done(ready.min(0)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        waited => waited,
    }
}

fn named(name: &str) -> ifreq {
    // SAFETY: integers, and a union of plain data: all zeros are values of theirs.
    let mut request: ifreq = unsafe { mem::zeroed() };
    // The last place stays zero, which ends the name.
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *place = byte as c_char;
    }
    request
}

fn inet(address: Ipv4Addr) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    }
}

/// Any socket: these requests are about devices of its namespace.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers alone.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    done(socket.min(0))?;
    // SAFETY: it was opened just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn control(fd: c_int, what: c_ulong, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: all requests made here read, and may write, one `ifreq`.
    done(unsafe { libc::ioctl(fd, what as _, std::ptr::from_mut(request)) })
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
