//! Asking a platform over HTTP: in time, within limits, and patient where asking again cannot send anything twice.
//!
//! ```text
//! Ask ─► once ─┬─► 2xx: JSON
//!              ├─► 429: it was not taken: wait as asked (Retry-After), again
//!              ├─► 5xx, no answer: maybe it was taken: again only where that is harmless (`again`)
//!              └─► else: an error that names the address and the remedy
//! ```

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::multipart::{self, Form};
use reqwest::{Method, Url};
use serde_json::Value;
use shared::capture::Backoff;
use shared::secret::Secret;

use crate::remote::{in_full, is_loopback};

/// Longest answer that is read, in bytes: a page of 100 tasks, each with some thousand boxes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Of what a platform says to an error, this much is shown, in characters.
const SHOWN: usize = 300;

/// How long a platform is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Times a question is asked, at most.
    pub tries: u32,
    /// Before the second try; twice as long before each further one.
    pub first: Duration,
    /// Longest wait between two tries; a platform that wants more is left for later.
    pub longest: Duration,
    /// For one answer.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { tries: 5, first: seconds(1), longest: seconds(60), answer: seconds(120) }
    }
}

impl Patience {
    /// How long to wait after `tried` tries when the platform asks for `asked`; `None`: it is of no use now.
    pub(super) fn wait(&self, tried: u32, asked: Option<Duration>) -> Option<Duration> {
        if tried >= self.tries || asked.is_some_and(|asked| asked > self.longest) {
            return None;
        }
        // One program asks: nobody else has to be kept from asking at the same moment.
        let own = Backoff { first: self.first, max: self.longest }.wait(tried, 1.0);
        Some(own.max(asked.unwrap_or_default()))
    }
}

/// Why a platform gave no answer that is of use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum WebError {
    #[error(
        "{0:?} is no address of a platform: want https://HOST, or http:// on this machine; tokens go elsewhere"
    )]
    Url(String),
    #[error("cannot reach {platform} at {url}: {why}; is it running, and is `url` right?")]
    Unreachable { platform: &'static str, url: String, why: String, connected: bool },
    #[error(
        "{platform} at {url} did not answer in {}: run the command again later, nothing is sent twice",
        humantime::format_duration(*waited)
    )]
    Late { platform: &'static str, url: String, waited: Duration },
    #[error("{platform} at {url} refuses the token (HTTP {status}: {said}): {remedy}")]
    Denied { platform: &'static str, url: String, status: u16, said: String, remedy: &'static str },
    #[error("{platform} at {url} is asked too often (HTTP 429){}: run the command again later, nothing is sent twice", .wait.map_or_else(String::new, |it| format!(", it wants {} of rest", humantime::format_duration(it))))]
    Busy { platform: &'static str, url: String, wait: Option<Duration> },
    #[error(
        "{platform} failed at {url} (HTTP {status}: {said}): run the command again later, nothing is sent twice"
    )]
    Broken { platform: &'static str, url: String, status: u16, said: String },
    #[error("{platform} refuses what was asked at {url} (HTTP {status}: {said})")]
    Refused { platform: &'static str, url: String, status: u16, said: String },
    #[error("{platform} answers at {url} with what it does not document: {why}")]
    Strange { platform: &'static str, url: String, why: String },
}

impl WebError {
    /// Whether what was asked may have been done all the same.
    pub(super) fn in_doubt(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Broken { .. } | Self::Unreachable { connected: true, .. })
    }

    /// Whether it may work a moment later.
    pub(super) fn may_pass(&self) -> bool {
        self.in_doubt() || matches!(self, Self::Unreachable { .. })
    }

    /// The status of an answer that refuses.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Denied { status, .. } | Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Of a form's files: all of them are frames.
const JPEG: [(HeaderName, HeaderValue); 1] = [(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))];

/// A part of a form.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) name: String,
    /// The file's name, for files.
    pub(super) file: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    fn add(&self, form: Form) -> Form {
        let part = multipart::Part::bytes(self.bytes.clone());
        let part = match &self.file {
            Some(file) => part.file_name(file.clone()).headers(JPEG.into_iter().collect()),
            None => part,
        };
        form.part(self.name.clone(), part)
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, {:?}, {} bytes)", self.name, self.file, self.bytes.len())
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Body {
    None,
    Json(Value),
    /// `multipart/form-data`.
    Form(Vec<Part>),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    Nobody,
    /// A scheme and a token.
    Token(&'static str, &'a Secret),
    /// A user without a password (RFC 7617).
    User(&'a Secret),
}

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Below the platform's address.
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Body,
    /// Whether asking twice does no more than asking once.
    pub(super) again: bool,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>, query: Vec<(&'static str, String)>) -> Self {
        Self { method: Method::GET, path: path.into(), query, body: Body::None, again: true }
    }

    pub(super) fn post(path: impl Into<String>, body: Body) -> Self {
        Self { method: Method::POST, path: path.into(), query: Vec::new(), body, again: false }
    }

    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }
}

/// Who is asked.
#[derive(Debug)]
pub(super) struct Web {
    platform: &'static str,
    base: Url,
    /// What helps when the token is refused.
    remedy: &'static str,
    patience: Patience,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// A client's parts, as a platform gives them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) platform: &'static str,
    pub(super) url: &'a str,
    pub(super) remedy: &'static str,
    /// Whether the token may go over plain HTTP to another machine.
    pub(super) plain: bool,
}

impl Web {
    pub(super) fn new(server: Server<'_>, patience: Patience) -> Result<Self, WebError> {
        let Server { platform, url, remedy, plain } = server;
        let base = address(url, plain).ok_or_else(|| WebError::Url(url.chars().take(200).collect()))?;
        let failed =
            |why: String| WebError::Unreachable { platform, url: base.to_string(), why, connected: false };
        // The client takes the process's provider, and there is none unless somebody says so; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .timeout(patience.answer)
            // A redirection would carry tasks and pictures to wherever it says.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("dc-encoder/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| failed(in_full(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { platform, base, remedy, patience, client, runtime })
    }

    /// The address, without a slash at its end.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The path of what is below the address, as a page of the platform names it.
    pub(super) fn path_of(&self, below: &str) -> String {
        format!("{}{below}", self.base.path())
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn strange(&self, path: &str, why: impl Into<String>) -> WebError {
        WebError::Strange { platform: self.platform, url: self.url_of(path), why: why.into() }
    }

    fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks until there is an answer or no use in it.
    ///
    /// # Errors
    /// [`WebError`].
    pub(super) fn ask(&self, ask: &Ask, by: By<'_>) -> Result<Value, WebError> {
        let (mut tried, mut doubt) = (0, None);
        loop {
            tried += 1;
            let error = match self.runtime.block_on(self.once(ask, by)) {
                Ok(value) => return Ok(value),
                // An earlier try may have arrived, and that is what matters.
                Err(error @ (WebError::Denied { .. } | WebError::Busy { .. })) if doubt.is_some() => {
                    return Err(doubt.unwrap_or(error));
                }
                Err(error) => error,
            };
            let wait = match &error {
                WebError::Busy { wait, .. } => self.patience.wait(tried, *wait),
                error if error.may_pass() && ask.again => self.patience.wait(tried, None),
                _ => None,
            };
            let Some(wait) = wait else { return Err(error) };
            tracing::info!(wait = %humantime::format_duration(wait), "{error}");
            std::thread::sleep(wait);
            doubt = Some(error).filter(WebError::in_doubt).or(doubt);
        }
    }

    async fn once(&self, ask: &Ask, by: By<'_>) -> Result<Value, WebError> {
        let (platform, url) = (self.platform, self.url_of(&ask.path));
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => WebError::Late { platform, url: url.clone(), waited: self.patience.answer },
            false => {
                let connected = !error.is_connect();
                WebError::Unreachable {
                    platform,
                    url: url.clone(),
                    why: in_full(&error.without_url()),
                    connected,
                }
            }
        };
        let mut target = self.base.join(&ask.path).map_err(|_| WebError::Url(url.clone()))?;
        if !ask.query.is_empty() {
            target.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut request = self.client.request(ask.method.clone(), target);
        request = match by {
            By::Nobody => request,
            By::User(key) => request.basic_auth(key.reveal(), Some("")),
            By::Token(scheme, token) => {
                let value = HeaderValue::from_str(&format!("{scheme} {}", token.reveal()));
                let mut value =
                    value.map_err(|_| self.strange(&ask.path, "a token that no header can carry"))?;
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
        };
        request = match &ask.body {
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Form(parts) => {
                request.multipart(parts.iter().fold(Form::new(), |form, part| part.add(form)))
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let wait = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()).and_then(seconds);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.strange(&ask.path, format!("more than {MAX_ANSWER_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let said = || shown(&bytes);
        match status {
            200..300 if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Value::Null),
            200..300 => serde_json::from_slice(&bytes)
                .map_err(|_| self.strange(&ask.path, format!("no JSON: {}", said()))),
            401 | 403 => Err(WebError::Denied { platform, url, status, said: said(), remedy: self.remedy }),
            429 => Err(WebError::Busy { platform, url, wait }),
            500.. => Err(WebError::Broken { platform, url, status, said: said() }),
            _ => Err(WebError::Refused { platform, url, status, said: said() }),
        }
    }
}

/// Pure: the address with a slash at its end, if a token may be sent there.
fn address(text: &str, plain: bool) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    let fits = url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && (plain || is_loopback(&url)));
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    (fits && safe).then_some(url)
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); a date is not read, and the own wait holds.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The start of an answer, on one line, for a message.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_give_way_to_what_the_platform_asks() {
        let s = Duration::from_secs;
        let patience = Patience { tries: 4, first: s(1), longest: s(3), answer: s(9) };
        assert_eq!(
            [1, 2, 3, 4].map(|tried| patience.wait(tried, None)),
            [Some(s(1)), Some(s(2)), Some(s(3)), None]
        );
        assert_eq!(patience.wait(1, Some(s(3))), Some(s(3)), "as asked");
        assert_eq!(patience.wait(2, Some(s(0))), Some(s(2)), "never less than of itself");
        assert_eq!(patience.wait(1, Some(s(3600))), None, "an hour is not waited for");
        assert_eq!((seconds(" 7 "), seconds("Wed, 21 Oct 2026 07:28:00 GMT")), (Some(s(7)), None));
    }

    #[test]
    fn a_token_goes_out_in_the_clear_only_on_this_machine_or_when_told() {
        let path = |text, plain| address(text, plain).map(|url| url.to_string());
        assert_eq!(path("https://studio.example/ls", false).unwrap(), "https://studio.example/ls/");
        for local in ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:80"] {
            assert!(path(local, false).is_some(), "{local}");
        }
        assert!(path("http://studio.example", false).is_none());
        assert!(path("http://studio.example", true).is_some());
        for bad in ["", "studio", "ftp://a", "https://ann:pw@a", "https://a/?token=1", "file:///etc"] {
            assert!(path(bad, true).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_a_platform_says_is_shown_on_one_short_line() {
        assert_eq!(shown(b"{\n  \"a\":\x1b[31m 1}\n"), "{ \"a\":[31m 1}");
        assert_eq!(shown(&[b'x'; 9000]).len(), SHOWN);
    }
}
