//! As much HTTP/1.1 (RFC 9112) as a page and a platform's callbacks on this machine need: one request a connection, bodies with a length.
//!
//! ```text
//! accept ─► a place, or closed at once ─► request, in time and small ─► handler ─► response ─► close
//! ```
//! A server that may meet the world would be a library's; this one listens on loopback, for one browser or a proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A browser opens six at a time; this is it and a reload.
const MOST_CONNECTIONS: usize = 16;
/// A browser's request head is about a kilobyte.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// Ten thousand boxes.
const MOST_BODY_BYTES: usize = 1 << 20;
/// For a request to be here, and for a response to be taken.
const WITHIN: Duration = Duration::from_secs(20);
/// After a failed accept, such as for want of file descriptors: waiting is all that helps.
const PAUSE: Duration = Duration::from_millis(100);

/// What a browser or a platform asks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without what follows a `?`.
    pub(super) path: String,
    /// What follows it.
    query: String,
    /// By names in lower case.
    headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A value of the query, as written: tokens and ids need no decoding.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|it| it.1)
    }
}

/// What it gets.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    fn head(&self) -> String {
        let Self { status, kind, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            _ => "Internal Server Error",
        };
        // Nothing but the page's own script may run, and nobody may keep, frame or refer to it.
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self'; \
             connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\r\n",
            body.len()
        )
    }
}

/// Answers until `stop` is over. `handler` may wait for the disk: it runs beside the connections.
pub(super) async fn serve<H>(listener: TcpListener, handler: Arc<H>, stop: impl Future<Output = ()>)
where
    H: Fn(Request) -> Response + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Full: the browser tries again.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let handler = Arc::clone(&handler);
                    tokio::spawn(async move {
                        // Who is too slow, or gone, gets nothing.
                        let _ = timeout(WITHIN, answer(stream, handler)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection for the page");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    // What was asked before the end is still answered: a label that was sent is a label.
    let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(WITHIN, places.acquire_many(all)).await;
}

async fn answer<H>(mut stream: TcpStream, handler: Arc<H>) -> std::io::Result<()>
where
    H: Fn(Request) -> Response + Send + Sync + 'static,
{
    let response = match read(&mut stream).await? {
        Ok(request) => {
            let handled = tokio::task::spawn_blocking(move || handler(request)).await;
            handled.unwrap_or_else(|error| refusal(500, &error.to_string()))
        }
        Err(response) => response,
    };
    stream.write_all(response.head().as_bytes()).await?;
    stream.write_all(&response.body).await?;
    stream.shutdown().await?;
    // A connection that is closed with bytes unread is reset, and the response with it.
    let mut rest = stream.take(MOST_BODY_BYTES as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

/// In words, as the page shows them.
pub(super) fn refusal(status: u16, why: &str) -> Response {
    let body = serde_json::json!({ "error": why }).to_string().into_bytes();
    Response { status, kind: "application/json", body }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Result<Request, Response>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() >= MOST_HEAD_BYTES {
            return Ok(Err(refusal(431, "the request's head is too long")));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end + 4);
    let mut request = match head(&bytes[..end]) {
        Some(request) => request,
        None => return Ok(Err(refusal(400, "that is no request of HTTP/1.1"))),
    };
    let length = match request.header("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= MOST_BODY_BYTES => length,
        Some(Ok(_)) => return Ok(Err(refusal(413, "the label is too long"))),
        Some(Err(_)) => return Ok(Err(refusal(400, "the length of the request is no number"))),
    };
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(length);
    request.body = body;
    Ok(Ok(request))
}

/// Pure: the request line and the headers. A header that comes twice, and a body in chunks, are refused: nobody who
/// should be here sends them.
fn head(bytes: &[u8]) -> Option<Request> {
    let mut lines = std::str::from_utf8(bytes).ok()?.split("\r\n");
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return None };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HashMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()).is_some() {
            return None;
        }
    }
    let plain = path.starts_with('/') && !headers.contains_key("transfer-encoding");
    plain.then(|| Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_apart_or_refused() {
        let request =
            head(b"GET /frames/7?a=1&token=ab HTTP/1.1\r\nHost: 127.0.0.1:9\r\nX-Token:  t ").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/frames/7"));
        assert_eq!((request.query("token"), request.query("b")), (Some("ab"), None));
        assert_eq!((request.header("host"), request.header("x-token")), (Some("127.0.0.1:9"), Some("t")));
        for bad in [
            "",
            "GET /",
            "GET / HTTP/2",
            "GET http://elsewhere/ HTTP/1.1",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: b",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked",
        ] {
            assert!(head(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(head(b"GET /\xff HTTP/1.1").is_none());
    }
}
