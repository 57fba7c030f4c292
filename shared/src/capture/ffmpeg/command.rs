//! What ffmpeg is told. Pure: builds arguments and the script, starts nothing.
//!
//! A stream's URL may hold a password, and every user of the machine can read a process's arguments. So ffmpeg
//! gets the URL through its standard input, as an ffconcat script of one file
//! (<https://ffmpeg.org/ffmpeg-formats.html#concat-1>): `-f concat -i pipe:0`. Live HLS, HTTP and RTSP inputs
//! behave there as they do when named directly.

use std::ffi::OsString;
use std::path::Path;

use crate::capture::{Options, StreamKind, StreamUrl};

/// What this ffmpeg understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// `option` lines in ffconcat scripts (5.0).
    script_options: bool,
    /// `-fps_mode` in place of `-vsync` (5.1).
    fps_mode: bool,
}

impl Dialect {
    /// From the first line of `ffmpeg -version`. A build without a release number (from the source tree) counts
    /// as new.
    pub(super) fn of(banner: &str) -> Self {
        let version = banner.strip_prefix("ffmpeg version ").unwrap_or_default().trim_start_matches('n');
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        let release: (u32, u32) = match numbers.next() {
            Some(major) => (major, numbers.next().unwrap_or(0)),
            None => (u32::MAX, 0),
        };
        Self { script_options: release >= (5, 0), fps_mode: release >= (5, 1) }
    }
}

/// An ffmpeg run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    /// Visible to everyone on the machine: holds nothing secret.
    pub(super) args: Vec<OsString>,
    /// Written to its standard input: may hold credentials.
    pub(super) script: String,
}

/// Reads a video file at its own size, as fast as frames are taken.
pub(super) fn video(path: &Path, dialect: Dialect, options: &Options) -> Invocation {
    let mut args = first_args(options);
    // A file that turns out to be a playlist must not make the agent fetch what it names.
    push(&mut args, &["-protocol_whitelist", "file"]);
    if options.repeat {
        push(&mut args, &["-stream_loop", "-1"]);
    }
    args.push("-i".into());
    let mut input = OsString::from("file:");
    input.push(path);
    args.push(input);
    last_args(&mut args, dialect, options.fps.map(media_rate));
    Invocation { args, script: String::new() }
}

/// Reads a stream at its own size.
pub(super) fn stream(url: &StreamUrl, dialect: Dialect, options: &Options) -> Invocation {
    let kind = url.kind();
    let mut args = first_args(options);
    if kind == StreamKind::Hls {
        // Segments arrive in bursts of seconds: replayed at their own speed, they are frames of a camera again.
        args.push("-re".into());
    }
    if matches!(kind, StreamKind::Rtsp | StreamKind::Http) {
        // Frame threads would hold back one frame each.
        push(&mut args, &["-fflags", "nobuffer", "-thread_type", "slice"]);
    }
    // `file` is left out: a playlist from the network must not read the box's files.
    let protocols = match kind {
        StreamKind::Rtsp => "pipe,rtsp,rtsps,rtp,rtcp,srtp,udp,tcp,tls,crypto",
        _ => "pipe,http,https,httpproxy,tcp,tls,crypto,data",
    };
    push(&mut args, &["-protocol_whitelist", protocols, "-f", "concat", "-safe", "0", "-i", "pipe:0"]);
    let rate = match kind {
        StreamKind::Hls | StreamKind::File | StreamKind::Snapshot => media_rate,
        StreamKind::Rtsp | StreamKind::Http => clock_rate,
    };
    last_args(&mut args, dialect, options.fps.map(rate));
    Invocation { args, script: script(url, dialect) }
}

fn first_args(options: &Options) -> Vec<OsString> {
    let mut args = ["-nostdin", "-hide_banner", "-loglevel", "error"].map(Into::into).to_vec();
    // ffmpeg too takes no memory for a picture that is refused here.
    push(&mut args, &["-max_pixels", &options.limits.max_pixels.to_string()]);
    args
}

fn last_args(args: &mut Vec<OsString>, dialect: Dialect, filter: Option<String>) {
    push(args, &["-map", "0:v:0", "-an", "-sn", "-dn"]);
    if let Some(filter) = filter {
        push(args, &["-vf", &filter]);
    }
    // Without it ffmpeg fills gaps in a stream's clock with copies of the last frame.
    push(args, if dialect.fps_mode { &["-fps_mode", "passthrough"] } else { &["-vsync", "passthrough"] });
    push(args, &["-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);
}

fn push(args: &mut Vec<OsString>, more: &[&str]) {
    args.extend(more.iter().map(OsString::from));
}

/// At most `fps` frames per second of media time: the first of each slot of `1/fps` seconds. The `fps` filter
/// would repeat frames where the stream has fewer.
fn media_rate(fps: f64) -> String {
    format!("select='not(eq(floor(t*{fps}),floor(prev_selected_t*{fps})))'")
}

/// The same by the wall clock: cameras number their frames with invented times (MJPEG has none).
fn clock_rate(fps: f64) -> String {
    format!("setpts='(RTCTIME-RTCSTART)/(TB*1000000)',{}", media_rate(fps))
}

fn script(url: &StreamUrl, dialect: Dialect) -> String {
    // A quote ends the quoted part, stands escaped, and begins the next one.
    let mut script = format!("ffconcat version 1.0\nfile '{}'\n", url.secret().replace('\'', r"'\''"));
    if url.kind() == StreamKind::Rtsp && dialect.script_options {
        // Frames over TCP arrive whole; UDP loses packets and does not pass most firewalls.
        script.push_str("option rtsp_transport tcp\n");
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceUri;

    const NEW: Dialect = Dialect { script_options: true, fps_mode: true };

    fn url(text: &str) -> StreamUrl {
        match text.parse() {
            Ok(SourceUri::Stream(url)) => url,
            other => panic!("{other:?}"),
        }
    }

    fn words(invocation: &Invocation) -> String {
        invocation.args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn versions() {
        let old = Dialect { script_options: false, fps_mode: false };
        for (banner, dialect) in [
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright (c)", old),
            ("ffmpeg version 5.0 Copyright", Dialect { script_options: true, fps_mode: false }),
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright", NEW),
            ("ffmpeg version 7.1 Copyright", NEW),
            ("ffmpeg version n6.0-3 Copyright", NEW),
            ("ffmpeg version N-112233-gabcdef Copyright", NEW),
            ("", NEW),
        ] {
            assert_eq!(Dialect::of(banner), dialect, "{banner}");
        }
    }

    #[test]
    fn nothing_of_a_stream_is_in_the_arguments() {
        let options = Options { fps: Some(2.5), ..Options::default() };
        for text in [
            "rtsp://admin:hunter2@10.1.2.3/cam?token=s3cret",
            "http://admin:hunter2@10.1.2.3/live.m3u8?token=s3cret",
            "https://admin:hunter2@10.1.2.3/video.mjpg?token=s3cret",
            "https://admin:hunter2@10.1.2.3/clip.mp4?token=s3cret",
        ] {
            let invocation = stream(&url(text), NEW, &options);
            for part in ["admin", "hunter2", "s3cret", "10.1.2.3"] {
                assert!(!words(&invocation).contains(part), "{invocation:?}");
            }
            assert!(invocation.script.contains(&format!("file '{text}'\n")), "{}", invocation.script);
        }
    }

    #[test]
    fn each_kind_gets_its_options() {
        let rate = Options { fps: Some(2.0), ..Options::default() };
        let rtsp = stream(&url("rtsp://h/cam"), NEW, &rate);
        assert!(rtsp.script.ends_with("option rtsp_transport tcp\n"));
        assert!(words(&rtsp).contains("RTCTIME") && !words(&rtsp).contains("-re "));
        let hls = stream(&url("http://h/live.m3u8"), NEW, &rate);
        assert!(words(&hls).contains("-re ") && !words(&hls).contains("RTCTIME"), "{}", words(&hls));
        assert!(!words(&hls).contains("file"), "a playlist could read the box's files");
        let old = stream(&url("rtsp://h/cam"), Dialect::of("ffmpeg version 4.4.2"), &Options::default());
        assert!(words(&old).contains("-vsync passthrough") && !old.script.contains("option"));
        let file = video(Path::new("-x.mp4"), NEW, &Options::default());
        assert!(words(&file).contains("-i file:-x.mp4 ") && file.script.is_empty());
        let again = video(Path::new("x.mp4"), NEW, &Options { repeat: true, ..Options::default() });
        assert!(words(&again).contains("-stream_loop -1 -i ") && !words(&file).contains("-stream_loop"));
    }

    #[test]
    fn quotes_cannot_leave_the_script() {
        let invocation = stream(&url("http://h/a'b.m3u8"), NEW, &Options::default());
        assert!(invocation.script.contains(r"file 'http://h/a'\''b.m3u8'"), "{}", invocation.script);
    }
}
