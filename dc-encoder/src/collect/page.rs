//! Pages with a video on them, through yt-dlp (<https://github.com/yt-dlp/yt-dlp>), where it is installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use shared::capture::{SourceUri, UriError};
use shared::telemetry::{redact_text, redact_url};

/// Hosts whose addresses are pages and never streams.
const HOSTS: [&str; 4] = ["youtube.com", "youtu.be", "vimeo.com", "twitch.tv"];

/// What is asked of a live page: one stream with a picture, full HD at most.
const FORMAT: &str = "best[height<=1080]/bestvideo[height<=1080]/best";

/// A page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its address: shown to everyone who looks at the processes, as pages are public.
    pub url: String,
    /// The yt-dlp program.
    pub program: PathBuf,
}

/// Why a page gives no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// yt-dlp is not installed.
    #[error(
        "{url} is a page, and {} was not found: install it (`pip install yt-dlp`), or give the stream's own address",
        program.display()
    )]
    NoProgram {
        /// The page.
        url: String,
        /// The program looked for.
        program: PathBuf,
    },
    /// It could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It found nothing.
    #[error("yt-dlp finds no video at {url}: {why}")]
    NoVideo {
        /// The page.
        url: String,
        /// Its last words.
        why: String,
    },
    /// What it found is no address of a stream.
    #[error("yt-dlp's answer for {url} is no stream: {source}")]
    Answer {
        /// The page.
        url: String,
        /// What is wrong with it.
        source: UriError,
    },
}

impl Page {
    /// Whether this address is a page's.
    pub fn is_page(url: &str) -> bool {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default();
        HOSTS.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")))
    }

    /// Its stream, now: such addresses expire.
    ///
    /// # Errors
    /// [`PageError`], without credentials.
    pub fn resolve(&self) -> Result<SourceUri, PageError> {
        let (url, program) = (redact_url(&self.url), self.program.clone());
        let mut command = Command::new(&self.program);
        command.args(["--no-warnings", "--no-playlist", "--get-url", "--format", FORMAT, "--", &self.url]);
        let output = command.stdin(Stdio::null()).output().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                PageError::NoProgram { url: url.clone(), program: program.clone() }
            }
            _ => PageError::Spawn { program: program.clone(), source },
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) if output.status.success() => {
                line.parse().map_err(|source| PageError::Answer { url, source })
            }
            _ => {
                let words = String::from_utf8_lossy(&output.stderr);
                let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
                Err(PageError::NoVideo { url, why: redact_text(last.trim()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_from_streams() {
        for page in ["https://www.youtube.com/watch?v=x", "https://youtu.be/x", "http://m.youtube.com/live/x"]
        {
            assert!(Page::is_page(page), "{page}");
        }
        for other in [
            "https://example.net/youtube.com/live.m3u8",
            "rtsp://youtube.com/x",
            "notyoutube.com",
            "/dev/video0",
        ] {
            assert!(!Page::is_page(other), "{other}");
        }
    }
}
