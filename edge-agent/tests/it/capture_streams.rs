//! Streams over HTTP, HLS and RTSP, from small servers on loopback that fail as real ones do.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_agent::capture::{Image, Options, SourceUri, Stop, open};
use shared::image::{Chroma, Rgb, jpeg};

use super::capture_support::{
    Helper, LIMIT, NamedFfmpeg, Request, Server, ffmpeg, lost, next, quick, respond, run, until, wait_for,
};

const SECRETS: [&str; 3] = ["operator", "hunter2", "s3cret"];

/// The address of a stream, with everything that must not be seen.
fn secret_url(scheme: &str, server: &Server, path: &str) -> String {
    format!("{scheme}://operator:hunter2@{}/{path}?token=s3cret", server.address)
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} can be seen in {text}");
    }
}

/// A server that streams motion JPEG as long as `flowing`.
fn mjpeg_server(flowing: Arc<AtomicBool>) -> Server {
    let frame = jpeg::encode(&Rgb::filled(64, 48, [200, 30, 30]), 80, Chroma::C420);
    Server::start(move |_, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")?;
        loop {
            if flowing.load(Ordering::SeqCst) {
                let head =
                    format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", frame.len());
                to.write_all(&[head.as_bytes(), &frame, b"\r\n"].concat())?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

#[tokio::test]
async fn a_killed_child_is_replaced_and_stop_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let program = NamedFfmpeg::new(dir.path());
    let server = mjpeg_server(Arc::new(AtomicBool::new(true)));
    let options = Options { ffmpeg: program.0.clone(), ..quick() };
    let mut running = run(&secret_url("http", &server, "video.mjpg"), &options);
    let frame = next(&mut running).await.unwrap();
    assert!(
        matches!(&frame.image, Image::Rgb(image) if (image.width, image.height) == (64, 48)),
        "{frame:?}"
    );
    let [first] = program.running()[..] else { panic!("{:?}", program.running()) };
    assert_no_secret(&program.visible());
    let kill = std::process::Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap();
    assert!(kill.success());
    until(&mut running, |_| program.running().iter().any(|pid| *pid != first)).await;
    next(&mut running).await.unwrap();
    running.pump.stop();
    while next(&mut running).await.is_some() {}
    let captured = running.pump.finish(LIMIT).unwrap();
    assert!(program.all().is_empty());
    let counts = running.frames.counts();
    assert_eq!(counts.taken + lost(&mut running.losses).await.0, captured);
}

#[tokio::test]
async fn a_silent_stream_is_connected_anew() {
    let flowing = Arc::new(AtomicBool::new(true));
    let server = mjpeg_server(flowing.clone());
    let mut running = run(&format!("http://{}/video.mjpg", server.address), &quick());
    next(&mut running).await.unwrap();
    let before = server.connections();
    flowing.store(false, Ordering::SeqCst);
    wait_for("a new connection", || server.connections() > before);
    flowing.store(true, Ordering::SeqCst);
    // A frame of the new connection, whatever was still in the slot.
    let now = Instant::now();
    until(&mut running, |frame| frame.started > now).await;
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_given_up_when_asked_to() {
    let server = Server::start(|_, to| respond(to, "404 Not Found", "", b""));
    let options = Options { attempts: Some(2), ..quick() };
    let mut running = run(&secret_url("http", &server, "live.m3u8"), &options);
    assert!(next(&mut running).await.is_none());
    let error = running.pump.finish(LIMIT).unwrap_err().to_string();
    assert!(error.contains("2 times in a row") && error.contains("404"), "{error}");
    assert_no_secret(&error);
}

#[tokio::test]
async fn a_snapshot_is_fetched_again_and_again() {
    let picture = jpeg::encode(&Rgb::filled(64, 48, [9, 200, 9]), 80, Chroma::C420);
    let server = Server::start(move |_, to| {
        respond(to, "200 OK", "Content-Type: image/jpeg\r\nConnection: close\r\n", &picture)?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let options = Options { fps: Some(20.0), ..quick() };
    let mut running = run(&format!("http://{}/snap.jpg", server.address), &options);
    for _ in 0..3 {
        let frame = next(&mut running).await.unwrap();
        assert!(matches!(&frame.image, Image::Rgb(image) if image.pixel(5, 5)[1] > 180), "{frame:?}");
    }
    assert!(server.requests.lock().unwrap().len() >= 3);
}

/// Live HLS: segments of a second made beforehand, a playlist that moves on by the clock.
struct Hls {
    dir: PathBuf,
    since: Instant,
}

impl Hls {
    const SEGMENTS: u64 = 60;

    fn new(dir: &Path) -> Self {
        let source = format!("testsrc=size=160x90:rate=10:duration={}", Self::SEGMENTS);
        let playlist = dir.join("all.m3u8");
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            &source,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "10",
            "-pix_fmt",
            "yuv420p",
            "-f",
            "hls",
            "-hls_time",
            "1",
            "-hls_list_size",
            "0",
            playlist.to_str().unwrap(),
        ]);
        Self { dir: dir.to_owned(), since: Instant::now() }
    }

    fn playlist(&self) -> String {
        let first = self.since.elapsed().as_secs().min(Self::SEGMENTS - 5);
        let segments: String = (first..first + 5).map(|n| format!("#EXTINF:1.0,\nall{n}.ts\n")).collect();
        format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}"
        )
    }

    fn serve(&self, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
        match request.path() {
            // "operator:hunter2"
            "/live.m3u8"
                if request
                    .headers
                    .get("authorization")
                    .is_none_or(|a| a != "Basic b3BlcmF0b3I6aHVudGVyMg==") =>
            {
                respond(to, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"cam\"\r\n", b"")
            }
            "/live.m3u8" => {
                let kind = "Content-Type: application/vnd.apple.mpegurl\r\n";
                respond(to, "200 OK", kind, self.playlist().as_bytes())
            }
            segment => match std::fs::read(self.dir.join(segment.trim_start_matches('/'))) {
                Ok(bytes) => respond(to, "200 OK", "Content-Type: video/mp2t\r\n", &bytes),
                Err(_) => respond(to, "404 Not Found", "", b""),
            },
        }
    }
}

#[tokio::test]
async fn live_hls_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let program = NamedFfmpeg::new(dir.path());
    let hls = Hls::new(dir.path());
    let server = Server::start(move |request, to| hls.serve(request, to));
    let options = Options { ffmpeg: program.0.clone(), ..quick() };
    let mut running = run(&secret_url("http", &server, "live.m3u8"), &options);
    let first = next(&mut running).await.unwrap();
    assert!(matches!(&first.image, Image::Rgb(image) if (image.width, image.height) == (160, 90)));
    assert_no_secret(&program.visible());
    // Replayed at their own speed, not in bursts: ten frames take about a second.
    until(&mut running, |frame| frame.seq >= 10).await;
    assert!(first.started.elapsed() > Duration::from_millis(500), "{:?}", first.started.elapsed());
    server.go_away();
    let children = program.running();
    wait_for("a restart", || program.running().iter().any(|pid| !children.contains(pid)));
    server.come_back();
    let now = Instant::now();
    until(&mut running, |frame| frame.started > now).await;
    running.pump.finish(LIMIT).unwrap();
    assert!(program.all().is_empty());
}

/// The least RTSP server that works: passes on the packets that `source` receives, over the TCP connection.
fn rtsp_server(sdp: String, source: UdpSocket) -> Server {
    let source = Arc::new(source);
    Server::start(move |request, to| {
        let (method, sequence) =
            (request.line.split(' ').next().unwrap_or_default(), &request.headers["cseq"]);
        let transport = request.headers.get("transport").cloned().unwrap_or_default();
        let allowed = method == "OPTIONS" || request.headers.contains_key("authorization");
        let (status, extra, body) = match method {
            _ if !allowed => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"cam\"\r\n".to_owned(), ""),
            "OPTIONS" => ("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".to_owned(), ""),
            "DESCRIBE" => ("200 OK", "Content-Type: application/sdp\r\n".to_owned(), sdp.as_str()),
            "SETUP" if !transport.contains("TCP") => ("461 Unsupported transport", String::new(), ""),
            "SETUP" => ("200 OK", format!("Transport: {transport}\r\nSession: 1\r\n"), ""),
            _ => ("200 OK", "Session: 1\r\n".to_owned(), ""),
        };
        write!(
            to,
            "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        if method == "PLAY" {
            let (source, mut to) = (source.clone(), to.try_clone()?);
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut packet = [0; 65536];
                loop {
                    let length = source.recv(&mut packet)?;
                    let mut framed = vec![b'$', 0];
                    framed.extend((length as u16).to_be_bytes());
                    framed.extend(&packet[..length]);
                    to.write_all(&framed)?;
                }
            });
        }
        Ok(())
    })
}

#[tokio::test]
async fn rtsp_comes_over_tcp_with_its_password_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let program = NamedFfmpeg::new(dir.path());
    let source = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sdp = dir.path().join("sdp");
    let to = format!("rtp://{}?pkt_size=1200", source.local_addr().unwrap());
    let _camera = Helper::ffmpeg(&[
        "-re",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=160x90:rate=10",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "5",
        "-pix_fmt",
        "yuv420p",
        "-f",
        "rtp",
        "-sdp_file",
        sdp.to_str().unwrap(),
        &to,
    ]);
    wait_for("the stream's description", || {
        std::fs::read_to_string(&sdp).is_ok_and(|sdp| sdp.contains("fmtp"))
    });
    let server = rtsp_server(std::fs::read_to_string(&sdp).unwrap(), source);
    let options = Options { ffmpeg: program.0.clone(), ..quick() };
    let mut running = run(&secret_url("rtsp", &server, "cam"), &options);
    until(&mut running, |frame| frame.seq == 3).await;
    assert_no_secret(&program.visible());
    let requests = server.requests.lock().unwrap().clone();
    let setups = requests.iter().filter(|line| line.starts_with("SETUP")).count();
    assert_eq!(setups, 1, "UDP was tried first: {requests:?}");
    running.pump.finish(LIMIT).unwrap();
    assert!(program.all().is_empty());
}

/// A source that is never dropped, on a thread that ends: as after a crash of the agent.
#[test]
fn a_child_does_not_outlive_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let program = NamedFfmpeg::new(dir.path());
    let server = mjpeg_server(Arc::new(AtomicBool::new(true)));
    let uri: SourceUri = format!("http://{}/video.mjpg", server.address).parse().unwrap();
    let options = Options { ffmpeg: program.0.clone(), ..quick() };
    let alive = std::thread::spawn({
        let program = NamedFfmpeg(program.0.clone());
        move || {
            let mut source = open(&uri, &options).unwrap();
            source.next(&Stop::new()).unwrap().unwrap();
            std::mem::forget(source);
            program.running().len()
        }
    });
    assert_eq!(alive.join().unwrap(), 1);
    // It stays a zombie: the one who would wait for it is gone.
    wait_for("the child's end", || program.running().is_empty());
}
