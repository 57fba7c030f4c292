//! The web server for metrics, over real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fixtures::prometheus;
use shared::metrics::{Endpoint, Page, Serving, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reached only when something hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A server on a port of its own, whose page counts how often it was asked for.
fn counting() -> Serving {
    let asked = Arc::new(AtomicU64::new(0));
    let page = move || {
        let mut page = Page::default();
        page.counter("pages_total", "Pages.", asked.fetch_add(1, Ordering::Relaxed) + 1);
        page.finish()
    };
    serve(Endpoint(SocketAddr::from(([127, 0, 0, 1], 0))), page).unwrap()
}

/// Sends these bytes and reads to the end; nothing where the connection is closed or reset without a reply.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    };
    tokio::time::timeout(LIMIT, exchange).await.expect("no end")
}

#[tokio::test]
async fn a_scrape_gets_the_page_as_it_is_now() {
    let serving = counting();
    for count in 1..=3_u64 {
        let reply = ask(serving.address(), b"GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n").await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(prometheus::Page::read(body).sum("pages_total"), count as f64);
    }
}

#[tokio::test]
async fn what_is_no_request_for_the_page_gets_little() {
    let serving = counting();
    let address = serving.address();
    let large = [b"GET /metrics HTTP/1.1\r\nCookie: ".to_vec(), vec![b'x'; 20_000]].concat();
    assert!(ask(address, &large).await.starts_with("HTTP/1.1 431 "));
    let post =
        [b"POST /metrics HTTP/1.1\r\nContent-Length: 9000\r\n\r\n".to_vec(), vec![b'x'; 9000]].concat();
    let reply = ask(address, &post).await;
    assert!(reply.starts_with("HTTP/1.1 405 ") && reply.contains("\r\nAllow: GET, HEAD\r\n"), "{reply}");
    assert!(ask(address, b"\x16\x03\x01\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(
        ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await.contains("pages_total 1\n"),
        "asked for once"
    );
}

#[tokio::test]
async fn idle_connections_leave_no_room_until_they_end() {
    let serving = counting();
    let address = serving.address();
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await, "", "the ninth is closed");
    idle.clear();
    let again = async { while ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await.is_empty() {} };
    tokio::time::timeout(LIMIT, again).await.expect("still full");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let serving = counting();
    let error = serve(Endpoint(serving.address()), String::new).unwrap_err().to_string();
    assert!(error.contains(&serving.address().to_string()) && error.contains("choose another"), "{error}");
}
