//! An impaired link at IP level: whatever travels over IP, UDP and TCP alike, passes the very same one.
//!
//! ```text
//! namespace "near" ── TUN ─► Path (delay, jitter, loss, reordering, rate, queue, outages) ─► TUN ── namespace "far"
//!                      ◄──────────────── Path, the other way ────────────────────◄
//! ```
//! Each end is a network namespace that this process makes for itself, so nothing of the machine is touched and no root is
//! needed where user namespaces are allowed. Forwarding is one thread of this program, because not every kernel has netem.
//! Both ends are on one subnet; an end that gets another address is a box that changes networks.

mod link;
mod path;
mod sys;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

pub use link::{Counts, Link};
pub use path::{Path, Shape};

/// Set for the copy of a program that runs within namespaces of its own.
const INSIDE: &str = "FTH_TESTS_WITHIN_NAMESPACES";
/// The device's name, in each namespace.
const DEVICE: &str = "link0";

/// Where clients are.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where they are after they moved.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// Where the server is.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// A network namespace with one device. It is gone when this and all sockets and threads in it are.
#[derive(Debug)]
pub struct Namespace {
    net: File,
}

/// Two namespaces, and the link between them.
#[derive(Debug)]
pub struct Network {
    /// The client's end.
    pub near: Namespace,
    /// The server's end.
    pub far: Namespace,
    /// Forwards until it is dropped.
    pub link: Link,
}

impl Network {
    /// Makes both ends, at [`NEAR`] and [`FAR`]. `up` shapes what goes from near to far, `down` the other way; `seed` is
    /// that of all chance. Only within [`inside`] or [`isolated`].
    ///
    /// # Errors
    /// The system does not allow it; the message says what would.
    pub fn start(up: Shape, down: Shape, seed: u64) -> anyhow::Result<Self> {
        let (near, near_end) = Namespace::new(NEAR)?;
        let (far, far_end) = Namespace::new(FAR)?;
        let link = Link::start([near_end, far_end], [up, down], seed).context("cannot start the link")?;
        Ok(Self { near, far, link })
    }
}

impl Namespace {
    /// A namespace, and the end of its device that packets are read from and written to.
    fn new(address: Ipv4Addr) -> anyhow::Result<(Self, File)> {
        // A thread's namespace can be changed without the others'.
        let made = on_a_thread(|| {
            sys::unshare_net()?;
            let device = sys::open_tun(DEVICE)?;
            sys::set_address(DEVICE, address)?;
            sys::set_up(DEVICE)?;
            sys::set_up("lo")?;
            Ok((File::open("/proc/thread-self/ns/net")?, device))
        });
        let (net, device) = made.with_context(|| format!("cannot make a network namespace: {REMEDY}"))?;
        Ok((Self { net }, device))
    }

    /// Does something within the namespace. Sockets, threads and child processes that are made there stay there.
    ///
    /// # Errors
    /// The thread's namespace cannot be changed, or the work's own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread(|| {
            sys::enter(&self.net)?;
            work()
        })
    }

    /// A runtime whose tasks are within the namespace: what is *spawned* on it, not what it is blocked on.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn runtime(&self) -> io::Result<tokio::runtime::Runtime> {
        self.within(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build())
    }

    /// Gives the device another address; the old one is gone at once, as for a box that changes networks.
    ///
    /// # Errors
    /// The system refused.
    pub fn readdress(&self, address: Ipv4Addr) -> io::Result<()> {
        self.within(|| sys::set_address(DEVICE, address))
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

const REMEDY: &str = "user and network namespaces must be allowed (sysctl kernel.unprivileged_userns_clone=1, \
    user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0; in a container CAP_SYS_ADMIN), and \
    /dev/net/tun must be there (modprobe tun)";

/// Runs this program again, with the same arguments, within namespaces of its own; `true` within. The caller ends when it
/// gets `false`: the copy has done the work.
///
/// # Errors
/// Namespaces are not allowed, or the copy failed.
pub fn inside() -> anyhow::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let output = copy(std::env::args_os().skip(1))?.stdout(Stdio::inherit()).spawn();
    let output = output.context(NO_UNSHARE)?.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", failure(&output));
    }
    Ok(false)
}

/// Runs the body of a test within namespaces of its own: in a copy of the test's program that runs this test alone. `test`
/// is the test's full name.
///
/// # Panics
/// Namespaces are not allowed, the body fails, or there is no test of that name.
pub fn isolated(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let command = copy([test, "--exact", "--nocapture"]).and_then(|mut it| Ok(it.output()?));
    let output = command.expect(NO_UNSHARE);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", failure(&output));
    assert!(text.contains("test result: ok. 1 passed"), "{test} is no test of this program:\n{text}");
}

const NO_UNSHARE: &str = "cannot run unshare: apt-get install util-linux";

fn copy(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot find the path of the running program")?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]).arg(own).args(args);
    command.env(INSIDE, "1").stdin(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

fn failure(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    match said.lines().find(|line| line.starts_with("unshare:")) {
        Some(line) => format!("cannot make namespaces ({line}): {REMEDY}"),
        None => format!("within namespaces ({}):\n{said}", output.status),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn udp_and_tcp_take_the_same_way() {
        isolated("netns::tests::udp_and_tcp_take_the_same_way", || {
            let shape = Shape { delay: Duration::from_millis(30), ..Shape::default() };
            let network = Network::start(shape.clone(), shape, 1).unwrap();
            let (near, far) = (network.near.runtime().unwrap(), network.far.runtime().unwrap());
            let main = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

            let echo = far.spawn(async { UdpSocket::bind((FAR, 7000)).await.unwrap() });
            let echo = main.block_on(echo).unwrap();
            far.spawn(async move {
                let mut buffer = [0; 64];
                while let Ok((len, from)) = echo.recv_from(&mut buffer).await {
                    echo.send_to(&buffer[..len], from).await.unwrap();
                }
            });
            let asked = near.spawn(async {
                let socket = UdpSocket::bind((NEAR, 0)).await.unwrap();
                let start = Instant::now();
                socket.send_to(b"ping", (FAR, 7000)).await.unwrap();
                let mut buffer = [0; 64];
                let (len, _) =
                    tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
                assert_eq!(&buffer[..len], b"ping");
                start.elapsed()
            });
            let took = main.block_on(asked).unwrap();
            assert!(took >= Duration::from_millis(60), "{took:?} for twice 30 ms");
            assert_eq!(network.link.counts(), Counts { passed: [1, 1], lost: [0, 0] });

            let listener =
                main.block_on(far.spawn(async { TcpListener::bind((FAR, 7000)).await.unwrap() })).unwrap();
            let accepted = far.spawn(async move { listener.accept().await.map(|(_, peer)| peer.ip()) });
            let start = Instant::now();
            let _stream = main.block_on(near.spawn(TcpStream::connect((FAR, 7000)))).unwrap().unwrap();
            assert!(start.elapsed() >= Duration::from_millis(60), "SYN and its answer take the same way");
            assert_eq!(main.block_on(accepted).unwrap().unwrap(), NEAR);
        });
    }

    #[test]
    fn an_end_that_moves_comes_from_elsewhere() {
        isolated("netns::tests::an_end_that_moves_comes_from_elsewhere", || {
            let network = Network::start(Shape::default(), Shape::default(), 1).unwrap();
            let (near, far) = (network.near.runtime().unwrap(), network.far.runtime().unwrap());
            let main = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let server = far.spawn(async { UdpSocket::bind((FAR, 7000)).await.unwrap() });
            let server = main.block_on(server).unwrap();
            let client = near.spawn(async { UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap() });
            let client = main.block_on(client).unwrap();
            let from = || {
                main.block_on(async {
                    client.send_to(b"x", (FAR, 7000)).await.unwrap();
                    let mut buffer = [0; 8];
                    let received = tokio::time::timeout(PATIENCE, server.recv_from(&mut buffer)).await;
                    received.unwrap().unwrap().1.ip()
                })
            };
            assert_eq!(from(), NEAR);
            network.near.readdress(ELSEWHERE).unwrap();
            assert_eq!(from(), ELSEWHERE, "the same socket, another address");
        });
    }
}
