//! A live HLS stream on loopback: ffmpeg cuts segments, a small HTTP server hands them out; both can be stopped and
//! started again on the same port, as a stream server that goes down and comes back.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;

use crate::process::Running;

/// A client that sends no request for this long is dropped.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// ffmpeg and the HTTP server; dropped, both are gone.
#[derive(Debug)]
pub struct Stream {
    _ffmpeg: Running,
    server: FileServer,
}

impl Stream {
    /// Streams `frames/%06d.jpg` of `footage` in a loop at `fps` from `127.0.0.1:port`.
    ///
    /// # Errors
    /// ffmpeg is missing or the port is taken.
    pub fn start(footage: &Path, work: &Path, fps: u32, port: u16) -> anyhow::Result<Self> {
        let segments = work.join("hls");
        let _ = fs::remove_dir_all(&segments);
        fs::create_dir_all(&segments)?;
        let server = FileServer::start(&segments, port)?;
        let rate = fps.to_string();
        let mut command = Command::new("ffmpeg");
        command
            .args(["-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-framerate", &rate, "-i"])
            .arg(footage.join("frames/%06d.jpg"))
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
            .args(["-g", &rate, "-f", "hls", "-hls_time", "1", "-hls_list_size", "6"])
            .args(["-hls_flags", "delete_segments"])
            .arg(segments.join("live.m3u8"));
        let mut ffmpeg = Running::start_in(&mut command, "ffmpeg", &work.join("hls-ffmpeg.log"))
            .context("the live stream needs ffmpeg: apt-get install ffmpeg")?;
        ffmpeg.wait_for_file(&segments.join("live.m3u8"), Duration::from_secs(30))?;
        Ok(Self { _ffmpeg: ffmpeg, server })
    }

    /// Where to watch.
    pub fn url(&self) -> String {
        format!("http://{}/live.m3u8", self.server.address)
    }
}

/// Hands out the files of one folder over HTTP/1.1, one request a connection.
#[derive(Debug)]
struct FileServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FileServer {
    fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || accept(&listener, &folder, &stopped));
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The accepting thread looks at `stop` after every connection: give it one.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, folder: &Path, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            // A client that leaves early is the client's business.
            let _ = answer(stream, folder);
        }
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_WITHIN))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let name = request.split_whitespace().nth(1).unwrap_or("/").trim_start_matches('/');
    let name = PathBuf::from(name.split('?').next().unwrap_or_default());
    let body = name.file_name().and_then(|name| fs::read(folder.join(name)).ok());
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
