//! Where frames come from, as a person writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::telemetry::redact_url;
use serde::Deserialize;

const VIDEO: [&str; 10] = ["mp4", "mkv", "mov", "avi", "webm", "m4v", "mpg", "mpeg", "flv", "ts"];
const LIST: [&str; 3] = ["csv", "jsonl", "txt"];
const PICTURE: [&str; 3] = ["jpg", "jpeg", "png"];

/// A source of frames. Parsed from:
///
/// | written | is |
/// |---|---|
/// | a folder, `folder:PATH` | its pictures, recursively, in name order |
/// | `FILE.csv`, `.jsonl`, `.txt`, `list:PATH` | the pictures it lists |
/// | one picture | itself |
/// | a video file, `file:PATH` | its frames |
/// | `http://…`, `https://…` | HLS (`.m3u8`), MJPEG, MPEG-TS, a snapshot (`.jpg`) asked again and again, a video file |
/// | `rtsp://…`, `rtsps://…` | a camera's stream |
/// | `/dev/videoN`, `v4l2:/dev/videoN` | a V4L2 camera |
///
/// `Display` and `Debug` leave out user, password and query values.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SourceUri {
    /// A folder of pictures.
    Folder(PathBuf),
    /// A list of pictures, or one picture.
    List(PathBuf),
    /// A video file.
    Video(PathBuf),
    /// Something ffmpeg connects to.
    Stream(StreamUrl),
    /// A V4L2 device.
    Device(PathBuf),
}

/// Why a source could not be understood. Nothing secret is in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing was given.
    #[error("the source is empty; give a folder, a list, a video file, http(s)://…, rtsp://… or /dev/videoN")]
    Empty,
    /// A line break or other control character.
    #[error("the source has a control character at byte {at}; remove it (a pasted line break?)")]
    Control {
        /// Byte offset.
        at: usize,
    },
    /// A scheme nobody reads.
    #[error(
        "unknown scheme `{scheme}:`; known are folder:, list:, file:, v4l2:, http://, https://, rtsp://, rtsps://"
    )]
    Scheme {
        /// What stood before the colon.
        scheme: String,
    },
    /// An URL without a host.
    #[error("{url} names no host; write {scheme}://HOST/PATH")]
    NoHost {
        /// The URL, redacted.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// No such path.
    #[error("{} does not exist (seen from {})", path.display(), here())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// A file that is neither a list, a picture nor a known video.
    #[error(
        "cannot tell what {} is: not a folder, list (.csv, .jsonl, .txt), picture (.jpg, .png) or video; \
         write file:{} if ffmpeg can read it",
        path.display(),
        path.display()
    )]
    Kind {
        /// The path as given.
        path: PathBuf,
    },
    /// `folder:` of a file, or `list:`/`file:` of a folder.
    #[error("{} is {found}, not {wanted}", path.display())]
    Mismatch {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What the scheme asks for.
        wanted: &'static str,
    },
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| "an unknown folder".to_owned(), |path| path.display().to_string())
}

impl SourceUri {
    /// Whether it comes to an end by itself.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Folder(_) | Self::List(_) | Self::Video(_) => true,
            Self::Stream(url) => url.kind() == StreamKind::File,
            Self::Device(_) => false,
        }
    }
}

impl FromStr for SourceUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(UriError::Control { at });
        }
        match scheme(text) {
            None => by_path(Path::new(text)),
            Some(("folder", rest)) => folder(Path::new(rest)),
            Some(("list", rest)) => file(Path::new(rest)).map(Self::List),
            Some(("file", rest)) => file(Path::new(rest.strip_prefix("//").unwrap_or(rest))).map(Self::Video),
            Some(("v4l2", rest)) => Ok(Self::Device(PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)))),
            Some(("http" | "https" | "rtsp" | "rtsps", _)) => StreamUrl::new(text).map(Self::Stream),
            // A file may have a colon in its name.
            Some((scheme, _)) => match by_path(Path::new(text)) {
                Err(UriError::Missing { .. }) => Err(UriError::Scheme { scheme: scheme.to_owned() }),
                other => other,
            },
        }
    }
}

impl TryFrom<String> for SourceUri {
    type Error = UriError;

    fn try_from(text: String) -> Result<Self, UriError> {
        text.parse()
    }
}

/// Splits `scheme:rest` (RFC 3986, section 3.1; schemes are compared in lower case by their owners).
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut letters = scheme.chars();
    let starts = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    let goes_on = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
    (starts && goes_on).then_some((scheme, rest))
}

fn by_path(path: &Path) -> Result<SourceUri, UriError> {
    if path.to_str().is_some_and(|text| text.starts_with("/dev/video")) {
        return Ok(SourceUri::Device(path.to_owned()));
    }
    if path.is_dir() {
        return Ok(SourceUri::Folder(path.to_owned()));
    }
    let path = file(path)?;
    let extension = extension(path.to_str().unwrap_or_default());
    match extension.as_str() {
        e if LIST.contains(&e) || PICTURE.contains(&e) => Ok(SourceUri::List(path)),
        e if VIDEO.contains(&e) => Ok(SourceUri::Video(path)),
        _ => Err(UriError::Kind { path }),
    }
}

fn folder(path: &Path) -> Result<SourceUri, UriError> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Ok(SourceUri::Folder(path.to_owned())),
        Ok(_) => Err(UriError::Mismatch { path: path.to_owned(), found: "a file", wanted: "a folder" }),
        Err(_) => Err(UriError::Missing { path: path.to_owned() }),
    }
}

fn file(path: &Path) -> Result<PathBuf, UriError> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => {
            Err(UriError::Mismatch { path: path.to_owned(), found: "a folder", wanted: "a file" })
        }
        Ok(_) => Ok(path.to_owned()),
        Err(_) => Err(UriError::Missing { path: path.to_owned() }),
    }
}

fn extension(path: &str) -> String {
    Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// Whether the name is a picture's.
pub(super) fn is_picture(path: &Path) -> bool {
    path.to_str().is_some_and(|path| PICTURE.contains(&extension(path).as_str()))
}

impl fmt::Display for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::List(path) | Self::Video(path) | Self::Device(path) => {
                path.display().fmt(f)
            }
            Self::Stream(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUri({self})")
    }
}

/// What is behind a stream's URL, judged by its scheme and the extension of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// An HLS playlist: segments come in bursts, ffmpeg replays them at their own speed.
    Hls,
    /// A live stream over HTTP (MJPEG, MPEG-TS).
    Http,
    /// One picture over HTTP, fetched again for every frame.
    Snapshot,
    /// A video file over HTTP: ends.
    File,
    /// RTSP.
    Rtsp,
}

/// The URL of a stream. Only [`StreamUrl::secret`] shows user, password and query values.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl {
    secret: String,
    kind: StreamKind,
}

impl StreamUrl {
    fn new(url: &str) -> Result<Self, UriError> {
        let (scheme, rest) = scheme(url).unwrap_or_default();
        let after = rest.strip_prefix("//").unwrap_or_default();
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() || host.starts_with(':') {
            return Err(UriError::NoHost { url: redact_url(url), scheme: scheme.to_owned() });
        }
        let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
        let kind = match extension(path).as_str() {
            _ if scheme.starts_with("rtsp") => StreamKind::Rtsp,
            "m3u8" | "m3u" => StreamKind::Hls,
            "jpg" | "jpeg" | "png" => StreamKind::Snapshot,
            // MPEG-TS over HTTP is usually live.
            e if VIDEO.contains(&e) && e != "ts" => StreamKind::File,
            _ => StreamKind::Http,
        };
        Ok(Self { secret: url.to_owned(), kind })
    }

    /// The URL with its credentials. For the child's pipe only: never for a log, an error or an argument.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What is behind it.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.secret))
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SourceUri, UriError> {
        text.parse()
    }

    #[test]
    fn paths_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            path
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert_eq!(parse(&text(dir.path())), Ok(SourceUri::Folder(dir.path().to_owned())));
        assert_eq!(
            parse(&format!("folder:{}", text(dir.path()))),
            Ok(SourceUri::Folder(dir.path().to_owned()))
        );
        let list = at("a.csv");
        assert_eq!(parse(&text(&list)), Ok(SourceUri::List(list.clone())));
        assert!(matches!(parse(&format!("folder:{}", text(&list))), Err(UriError::Mismatch { .. })));
        let video = at("a.MP4");
        assert_eq!(parse(&text(&video)), Ok(SourceUri::Video(video.clone())));
        let odd = at("a.bin");
        assert_eq!(parse(&text(&odd)), Err(UriError::Kind { path: odd.clone() }));
        assert_eq!(parse(&format!("file:{}", text(&odd))), Ok(SourceUri::Video(odd)));
        assert!(matches!(parse("nowhere/at/all"), Err(UriError::Missing { .. })));
        assert_eq!(parse("/dev/video7"), Ok(SourceUri::Device("/dev/video7".into())));
        assert_eq!(parse("v4l2:/dev/video0"), Ok(SourceUri::Device("/dev/video0".into())));
    }

    #[test]
    fn streams_are_told_apart() {
        for (url, kind) in [
            ("http://host/live.m3u8?key=1.mp4", StreamKind::Hls),
            ("https://u:p@host:8443/video.mjpg", StreamKind::Http),
            ("http://host/snap.JPG?x=1", StreamKind::Snapshot),
            ("http://host/clip.mp4", StreamKind::File),
            ("http://host", StreamKind::Http),
            ("rtsp://u:p@[::1]:554/cam.mp4", StreamKind::Rtsp),
        ] {
            let Ok(SourceUri::Stream(stream)) = parse(url) else { panic!("{url}") };
            assert_eq!((stream.kind(), stream.secret()), (kind, url));
        }
    }

    #[test]
    fn mistakes_are_explained_without_secrets() {
        assert_eq!(parse("  "), Err(UriError::Empty));
        assert_eq!(parse("http://h/\nfile"), Err(UriError::Control { at: 9 }));
        assert_eq!(parse("srt://u:hunter2@h"), Err(UriError::Scheme { scheme: "srt".into() }));
        let message = parse("rtsp://user:hunter2@/cam").unwrap_err().to_string();
        assert!(message.contains("names no host") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn credentials_are_not_shown() {
        let uri = parse("rtsp://user:hunter2@10.0.0.9/cam?token=s3cret").unwrap();
        for shown in [format!("{uri}"), format!("{uri:?}")] {
            assert!(shown.contains("10.0.0.9"), "{shown}");
            for secret in ["user", "hunter2", "s3cret"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}
