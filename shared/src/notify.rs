//! Telling systemd that a service is ready, lives, and ends (`sd_notify(3)`): datagrams to the socket that it names.
//! Without it, as on a terminal, nothing is told.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Signs of life in the time that a watchdog grants: one may come late.
const SIGNS: u32 = 3;

/// The service manager, if there is one. Signs of life end when it is dropped.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    signs: Option<JoinHandle<()>>,
}

impl Manager {
    /// Says that the service is ready, and from then on that it lives: the runtime that this is called in must get
    /// round to it, or systemd starts the service anew.
    #[must_use]
    pub fn ready() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name));
        let manager = Self { signs: socket.as_ref().and_then(signs), socket };
        manager.tell("READY=1");
        manager
    }

    fn tell(&self, words: &str) {
        if let Some(socket) = &self.socket {
            say(socket, words);
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(signs) = &self.signs {
            signs.abort();
        }
        self.tell("STOPPING=1");
    }
}

/// A path, or a name of Linux's own after an `@`.
fn connect(name: &OsStr) -> Option<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::SocketAddr;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(name),
    };
    let connected = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        Ok(socket)
    });
    connected.inspect_err(|error| tracing::warn!(?name, %error, "systemd is not told of this service")).ok()
}

fn say(socket: &UnixDatagram, words: &str) {
    if let Err(error) = socket.send(words.as_bytes()) {
        tracing::debug!(%error, words, "systemd was not told");
    }
}

fn signs(socket: &UnixDatagram) -> Option<JoinHandle<()>> {
    let granted = granted(
        std::env::var("WATCHDOG_USEC").ok().as_deref(),
        std::env::var("WATCHDOG_PID").ok().as_deref(),
        std::process::id(),
    )?;
    let socket = socket.try_clone().ok()?;
    Some(tokio::spawn(async move {
        let mut ticks = interval(granted / SIGNS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            say(&socket, "WATCHDOG=1");
        }
    }))
}

/// How long systemd waits for a sign of life; `None`: it does not, or not for one of ours.
fn granted(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let granted = Duration::from_micros(micros?.parse().ok()?);
    (ours && granted >= Duration::from_millis(10)).then_some(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        assert_eq!(granted(Some("30000000"), None, 7), Some(Duration::from_secs(30)));
        assert_eq!(granted(Some("30000000"), Some("7"), 7), Some(Duration::from_secs(30)));
        assert_eq!(granted(Some("30000000"), Some("8"), 7), None);
        for none in [None, Some(""), Some("0"), Some("soon")] {
            assert_eq!(granted(none, None, 7), None);
        }
    }

    #[test]
    fn both_kinds_of_sockets_are_found() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::SocketAddr;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("fth-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (listening, given) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            say(&connect(&given).unwrap(), "READY=1");
            let mut heard = [0; 16];
            assert_eq!(listening.recv(&mut heard).unwrap(), 7);
            assert_eq!(&heard[..7], b"READY=1");
        }
        assert!(connect(OsStr::new("/nowhere/at/all")).is_none());
    }
}
