//! A web server for one page: enough HTTP/1.1 (RFC 9112) for Prometheus and a browser, and for nobody else.
//!
//! ```text
//! accept ─► a place, or closed at once ─► request head, in time and small ─► GET /metrics ─► page ─► close
//! ```

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A scraper and a curious person, twice over.
const MOST_CONNECTIONS: usize = 8;
/// A scraper's request is some hundred bytes.
const MOST_HEAD_BYTES: usize = 8 * 1024;
/// Bytes after the head that are thrown away, so that the reply arrives before the connection is reset.
const MOST_BODY_BYTES: u64 = 64 * 1024;
/// Prometheus itself gives up after ten seconds.
const WITHIN: Duration = Duration::from_secs(5);
/// After a failed accept, such as for want of file descriptors: waiting is all that helps.
const PAUSE: Duration = Duration::from_millis(100);
/// What readers are told to expect.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where metrics are served: `9464` is a port of this machine alone, `10.0.0.7:9464` says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint(pub SocketAddr);

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Not an address.
    #[error("{0:?} is no port and no address; write 9464 for this machine alone, or 10.0.0.7:9464")]
    Address(String),
    /// The system does not give the address.
    #[error("metrics = {address}: cannot listen there: {source}; choose another address or port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl FromStr for Endpoint {
    type Err = MetricsError;

    fn from_str(text: &str) -> Result<Self, MetricsError> {
        let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        port.or_else(|_| text.parse()).map(Self).map_err(|_| MetricsError::Address(text.to_owned()))
    }
}

/// A port as a number, or text as in [`FromStr`].
impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 9464, or an address such as \"10.0.0.7:9464\"")
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<Endpoint, E> {
                self.visit_str(&port.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The running server. Dropped, it ends.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// The bound address: the real port where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves what `page` gives, anew for each request. To be called within a tokio runtime.
///
/// # Errors
/// [`MetricsError::Bind`].
pub fn serve(
    Endpoint(address): Endpoint,
    page: impl Fn() -> String + Send + Sync + 'static,
) -> Result<Serving, MetricsError> {
    let failed = |source| MetricsError::Bind { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    if !bound.ip().is_loopback() {
        tracing::warn!("metrics are served on {bound}: whoever reaches that address can read them");
    }
    tracing::info!("metrics on http://{bound}/metrics");
    Ok(Serving { address: bound, task: tokio::spawn(accept(listener, Arc::new(page))) })
}

type Render = dyn Fn() -> String + Send + Sync;

async fn accept(listener: TcpListener, page: Arc<Render>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                // Full: the connection is closed, and a scraper tries again at its next turn.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let page = Arc::clone(&page);
                tokio::spawn(async move {
                    // Who is too slow, or gone, gets nothing.
                    let _ = timeout(WITHIN, answer(stream, &*page)).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Said once, until it works again.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        "no connection for metrics: {error}; raise the limit of open files (ulimit -n)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, page: &Render) -> std::io::Result<()> {
    let reply = match read_head(&mut stream).await? {
        Some(head) => reply(&head, page),
        None => Reply::refusal("431 Request Header Fields Too Large"),
    };
    stream.write_all(reply.head().as_bytes()).await?;
    if reply.with_body {
        stream.write_all(reply.body.as_bytes()).await?;
    }
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MOST_BODY_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Everything up to the empty line; `None` if that is too much.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() >= MOST_HEAD_BYTES {
            return Ok(None);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(head))
}

struct Reply {
    status: &'static str,
    body: String,
    with_body: bool,
}

impl Reply {
    fn refusal(status: &'static str) -> Self {
        Self { status, body: format!("{status}: GET /metrics is all there is here\n"), with_body: true }
    }

    fn head(&self) -> String {
        let Self { status, body, .. } = self;
        let length = body.len();
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n{allow}Connection: \
             close\r\n\r\n"
        )
    }
}

/// Pure but for the page: what a request head gets.
fn reply(head: &[u8], page: &Render) -> Reply {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&str> = std::str::from_utf8(line).unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Reply::refusal("400 Bad Request") };
    if !version.starts_with("HTTP/1.") {
        return Reply::refusal("400 Bad Request");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Reply::refusal("405 Method Not Allowed");
    }
    let with_body = method == "GET";
    match target.split('?').next() {
        Some("/metrics") => Reply { status: "200 OK", body: page(), with_body },
        _ => Reply { with_body, ..Reply::refusal("404 Not Found") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_this_machine() {
        let parse = |text: &str| {
            text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(parse("9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(parse("[::1]:1").as_deref(), Ok("[::1]:1"));
        assert_eq!(parse("0.0.0.0:9464").as_deref(), Ok("0.0.0.0:9464"));
        for text in ["", "localhost", "70000", "http://h:1/"] {
            assert!(parse(text).unwrap_err().starts_with(&format!("{text:?} is no port")));
        }
    }

    #[test]
    fn a_file_may_hold_a_number_or_text() {
        let read = |text: &str| toml::from_str::<std::collections::BTreeMap<String, Endpoint>>(text);
        for text in ["metrics = 9464", "metrics = \"9464\"", "metrics = \"127.0.0.1:9464\""] {
            assert_eq!(read(text).unwrap()["metrics"].to_string(), "127.0.0.1:9464");
        }
        assert!(read("metrics = 70000").unwrap_err().to_string().contains("\"70000\" is no port"));
        assert!(read("metrics = true").unwrap_err().to_string().contains("a port such as 9464"));
    }

    #[test]
    fn only_the_page_is_there_and_only_to_read() {
        let status = |head: &str| reply(head.as_bytes(), &|| "x 1\n".to_owned()).status;
        for (head, wanted) in [
            ("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK"),
            ("HEAD /metrics HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET /metrics?a=b HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            ("GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request"),
        ] {
            assert_eq!(status(head), wanted, "{head:?}");
        }
        let reply = reply(b"HEAD /metrics HTTP/1.1\r\n\r\n", &|| "x 1\n".to_owned());
        assert!(!reply.with_body && reply.head().contains("Content-Length: 4\r\n"), "{}", reply.head());
    }
}
