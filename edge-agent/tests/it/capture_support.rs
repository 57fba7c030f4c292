//! What the capture tests share: frames with a limit on waiting, child processes seen from outside, small servers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edge_agent::capture::{Backoff, Captured, Loss, LossReceiver, Options, Running, SourceUri, start};

/// Far more than anything here takes: reached only when something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Options that find trouble fast.
pub(crate) fn quick() -> Options {
    Options {
        stall: Duration::from_secs(1),
        connect: Duration::from_secs(8),
        backoff: Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) },
        ..Options::default()
    }
}

pub(crate) fn run(uri: &str, options: &Options) -> Running {
    let uri: SourceUri = uri.parse().unwrap();
    start(&uri, options).unwrap()
}

/// The next frame, or `None` at the end of the source.
pub(crate) async fn next(running: &mut Running) -> Option<Captured> {
    tokio::time::timeout(LIMIT, running.frames.take()).await.expect("no frame and no end within a minute")
}

/// Takes frames until `enough`.
pub(crate) async fn until(running: &mut Running, mut enough: impl FnMut(&Captured) -> bool) {
    loop {
        let frame = next(running).await.expect("the source ended early");
        if enough(&frame) {
            return;
        }
    }
}

/// How many frames were lost, with every reason as text.
pub(crate) async fn lost(losses: &mut LossReceiver) -> (u64, Vec<String>) {
    let (mut count, mut reasons) = (0, Vec::new());
    while let Some(loss) = losses.next().await {
        match loss {
            Loss::One(lost) => {
                count += 1;
                reasons.push(lost.reason.to_string());
            }
            Loss::Many { count: more, .. } => count += more,
        }
    }
    (count, reasons)
}

/// Waits for what another process does.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs ffmpeg to its end.
pub(crate) fn ffmpeg(args: &[&str]) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-y", "-loglevel", "error"])
        .args(args)
        .status()
        .expect("this test needs ffmpeg: apt-get install ffmpeg");
    assert!(status.success(), "ffmpeg {args:?}: {status}");
}

/// An ffmpeg under a name of its own, so that its processes can be told from those of other tests.
pub(crate) struct NamedFfmpeg(pub(crate) PathBuf);

impl NamedFfmpeg {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = std::env::var("PATH").unwrap();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join("ffmpeg"))
            .find(|program| program.exists())
            .expect("this test needs ffmpeg: apt-get install ffmpeg");
        // The folder's random name, in the 15 bytes that the kernel keeps of a program's name.
        let random = dir.file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp");
        let link = dir.join(format!("ffmpeg-{random}"));
        std::os::unix::fs::symlink(program, &link).unwrap();
        Self(link)
    }

    /// Its processes now, those included that ended and were not waited for.
    pub(crate) fn all(&self) -> Vec<u32> {
        self.with_state(|_| true)
    }

    /// Its processes that run.
    pub(crate) fn running(&self) -> Vec<u32> {
        self.with_state(|state| state != "Z")
    }

    fn with_state(&self, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let name = format!("({})", self.0.file_name().unwrap().to_str().unwrap());
        let pids = std::fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.split_once(&name)
                .is_some_and(|(_, rest)| wanted(rest.split_whitespace().next().unwrap_or_default()))
        })
        .collect()
    }

    /// Everything another user could see of its processes. On a busy machine a stream may seem silent, and the
    /// process be between its end and its next start.
    pub(crate) fn visible(&self) -> String {
        let read = |pid: u32, what| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let mut text = String::new();
        wait_for("a child's command line", || {
            let pids = self.running();
            let bytes: Vec<u8> = pids
                .into_iter()
                .flat_map(|pid| [read(pid, "cmdline"), read(pid, "environ")].concat())
                .collect();
            text = String::from_utf8_lossy(&bytes).into_owned();
            text.contains("pipe:0")
        });
        assert!(!text.contains("CARGO_MANIFEST_DIR"), "the agent's environment was handed on: {text}");
        text
    }
}

/// A helper process that ends with the test.
pub(crate) struct Helper(std::process::Child);

impl Helper {
    pub(crate) fn ffmpeg(args: &[&str]) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-y", "-loglevel", "error"]).args(args).stdin(Stdio::null());
        Self(command.spawn().expect("this test needs ffmpeg: apt-get install ffmpeg"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A request: its first line, and headers with names in lower case.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    /// Reads one; `None` at the end of the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        Some(Self { line: lines.first()?.clone(), headers })
    }

    /// The path asked for, without its query.
    pub(crate) fn path(&self) -> &str {
        let target = self.line.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }
}

type Serve = dyn Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server on loopback that can go away, connections included, and come back. It keeps its port meanwhile, so that
/// nobody else is given it, and hangs up on whoever calls.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    away: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves every request with `serve`, which writes the whole response (and may go on writing).
    pub(crate) fn start(
        serve: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (away, stopped, open, requests) =
            (Arc::<AtomicBool>::default(), Arc::default(), Arc::default(), Arc::default());
        let serve: Arc<Serve> = Arc::new(serve);
        let thread = {
            let (away, stopped) = (Arc::clone(&away), Arc::clone(&stopped));
            let (open, requests) = (Arc::clone(&open), Arc::clone(&requests));
            std::thread::spawn(move || accept(&listener, &serve, [&away, &stopped], &open, &requests))
        };
        Self { address, requests, away, stopped, open, thread: Some(thread) }
    }

    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
        self.hang_up();
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    fn hang_up(&self) {
        for connection in self.open.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.open.lock().unwrap().len()
    }
}

fn accept(
    listener: &TcpListener,
    serve: &Arc<Serve>,
    [away, stopped]: [&AtomicBool; 2],
    open: &Mutex<Vec<TcpStream>>,
    requests: &Arc<Mutex<Vec<String>>>,
) {
    for connection in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut connection) = connection else { continue };
        let mut open = open.lock().unwrap();
        // Looked at under the lock: a connection is either hung up on here or found by `hang_up`.
        if away.load(Ordering::SeqCst) {
            continue;
        }
        open.push(connection.try_clone().unwrap());
        drop(open);
        let (serve, requests) = (Arc::clone(serve), Arc::clone(requests));
        std::thread::spawn(move || {
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            while let Some(request) = Request::read(&mut reader) {
                requests.lock().unwrap().push(request.line.clone());
                if serve(&request, &mut connection).is_err() {
                    break;
                }
            }
            let _ = connection.shutdown(Shutdown::Both);
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
        self.hang_up();
    }
}

/// Writes a whole HTTP response.
pub(crate) fn respond(to: &mut TcpStream, status: &str, extra: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
    to.write_all(head.as_bytes())?;
    to.write_all(body)
}
