//! What ffmpeg says on its standard error: logged, redacted, and its last words kept for the error message.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

use crate::telemetry::redact_url;

/// Lines kept.
const KEPT: usize = 4;
/// A longer line is split.
const MAX_LINE_BYTES: u64 = 1024;

/// Removes credentials from a line.
pub(super) struct Redactor {
    /// The parts of the URL that nobody may see, longest first, and what stands in their place.
    secrets: Vec<(String, String)>,
}

impl Redactor {
    /// For the lines of a child that reads `url`; `None` if it reads a file.
    pub(super) fn new(url: Option<&str>) -> Self {
        let mut secrets = Vec::new();
        if let Some(url) = url {
            secrets.push((url.to_owned(), redact_url(url)));
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            if let Some((user, _)) = rest[..end].rsplit_once('@') {
                secrets.push((user.to_owned(), "***".to_owned()));
                if let Some((_, password)) = user.split_once(':') {
                    secrets.push((password.to_owned(), "***".to_owned()));
                }
            }
            if let Some((_, query)) = rest.split_once('?') {
                secrets.push((query.to_owned(), "***".to_owned()));
            }
        }
        secrets.retain(|(secret, _)| secret.len() > 2);
        secrets.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The line without its secrets; other URLs in it (segments, redirects) lose theirs too.
    pub(super) fn clean(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (secret, shown) in &self.secrets {
            line = line.replace(secret, shown);
        }
        let mut clean = String::with_capacity(line.len());
        let mut rest = line.as_str();
        while let Some(colon) = rest.find("://") {
            let scheme = rest[..colon].rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
            let scheme = (scheme..=colon).find(|at| rest.is_char_boundary(*at)).unwrap_or(colon);
            let length = rest[colon..]
                .find(|c: char| c.is_whitespace() || "'\"<>".contains(c))
                .unwrap_or(rest.len() - colon);
            let (before, from) = rest.split_at(scheme);
            let (url, after) = from.split_at(colon - scheme + length);
            clean.push_str(before);
            clean.push_str(&redact_url(url));
            rest = after;
        }
        clean + rest
    }
}

/// The newest lines.
#[derive(Default)]
pub(super) struct LastWords(Mutex<VecDeque<String>>);

impl LastWords {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.back() == Some(&line) {
            return;
        }
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines kept, as one; empty if it said nothing.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Reads lines until the pipe ends.
    pub(super) fn listen(&self, pipe: impl Read, redactor: &Redactor) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match pipe.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let line = redactor.clean(String::from_utf8_lossy(&line).trim());
                    if !line.is_empty() {
                        tracing::debug!(line, "ffmpeg");
                        self.push(without_address(&line));
                    }
                }
            }
        }
    }
}

/// `[hls @ 0x55d0c0] text` as `[hls] text`: the address says nothing and differs each time.
fn without_address(line: &str) -> String {
    match (line.split_once(" @ 0x"), line.find(']')) {
        (Some((name, _)), Some(end)) if name.starts_with('[') && end > name.len() => {
            format!("{name}{}", &line[end..])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_from_any_line() {
        let redactor = Redactor::new(Some("rtsp://admin:hunter2@10.0.0.9/cam?token=s3cret"));
        for line in [
            "Impossible to open 'rtsp://admin:hunter2@10.0.0.9/cam?token=s3cret'",
            "tcp://10.0.0.9?token=s3cret failed with admin:hunter2",
            "[hls] Error when loading 'https://other:hunter3@cdn/seg.ts?sig=abcdef' and http://x:hunter3@y/",
            "password was hunter2",
        ] {
            let clean = redactor.clean(line);
            for secret in ["hunter2", "hunter3", "s3cret", "abcdef"] {
                assert!(!clean.contains(secret), "{clean}");
            }
        }
        assert_eq!(redactor.clean("10.0.0.9: Connection refused"), "10.0.0.9: Connection refused");
        assert_eq!(redactor.clean("é://ü ://"), "é://ü ://");
    }

    #[test]
    fn the_last_words_are_few_and_short() {
        let words = LastWords::default();
        let said = "one\ntwo\n\nthree\nthree\n[hls @ 0x5581] four\nfive\n".to_owned() + &"x".repeat(5000);
        words.listen(said.as_bytes(), &Redactor::new(None));
        let text = words.text();
        assert!(text.starts_with("[hls] four; five; xxx"), "{text}");
        assert!(text.len() < 3000, "{}", text.len());
        let none = LastWords::default();
        none.listen(&b""[..], &Redactor::new(None));
        assert_eq!(none.text(), "");
    }
}
