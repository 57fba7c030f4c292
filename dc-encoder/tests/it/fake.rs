//! A service that is played in this process: one request a connection, answered by a function of its state.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

/// What the client asks.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: HashMap<String, String>,
    /// By names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The parts of a form: name, file name, bytes.
    pub fn form(&self) -> Vec<(String, Option<String>, Vec<u8>)> {
        let kind = &self.headers["content-type"];
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").expect("a form");
        let delimiter = format!("--{boundary}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let attribute = |head: &str, name: &str| {
            let start = head.find(&format!("{name}=\""))? + name.len() + 2;
            Some(head[start..].split('"').next()?.to_owned())
        };
        split(&self.body, delimiter.as_bytes())
            .into_iter()
            .filter_map(|part| {
                let end = part.windows(4).position(|it| it == b"\r\n\r\n")?;
                let head = text(&part[..end]);
                let bytes = part[end + 4..].strip_suffix(b"\r\n")?.to_vec();
                Some((attribute(&head, " name")?, attribute(&head, "filename"), bytes))
            })
            .collect()
    }
}

fn split<'a>(mut bytes: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(delimiter.len()).position(|it| it == delimiter) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + delimiter.len()..];
    }
    parts
}

/// What it gets.
#[derive(Debug, Clone)]
pub enum Answer {
    Json(u16, Value),
    /// 429 with `Retry-After`.
    Wait(&'static str),
    /// Nothing, for as long as the service runs.
    Silence,
    /// The connection is closed.
    Gone,
}

/// What a test makes go wrong, once: with the first request that fits, after so many.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Empty: any.
    pub method: &'static str,
    /// Part of the path.
    pub path: &'static str,
    pub after: usize,
    /// Whether what was asked is done all the same.
    pub done: bool,
    pub answer: Answer,
}

/// A service whose requests can be made to fail.
pub trait Service {
    fn faults(&mut self) -> &mut Vec<Fault>;

    /// What it does when nothing goes wrong.
    fn done(&mut self, request: &Request) -> Answer;

    fn answer(&mut self, request: &Request) -> Answer {
        let fits = |it: &Fault| {
            (it.method.is_empty() || it.method == request.method) && request.path.contains(it.path)
        };
        let Some(i) = self.faults().iter().position(fits) else { return self.done(request) };
        if let Some(fewer) = self.faults()[i].after.checked_sub(1) {
            self.faults()[i].after = fewer;
            return self.done(request);
        }
        let Fault { done, answer, .. } = self.faults().remove(i);
        if done {
            self.done(request);
        }
        answer
    }
}

/// A service that runs until it is dropped.
pub struct Fake<S> {
    pub url: String,
    state: Arc<Mutex<S>>,
}

impl<S: Send + 'static> Fake<S> {
    pub fn serve(state: S, answer: fn(&mut S, &Request) -> Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            // Connections that are left unanswered stay open.
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let answer = answer(&mut shared.lock().unwrap(), &request);
                match answer {
                    Answer::Json(status, value) => write(&mut stream, status, "", &value.to_string()),
                    Answer::Wait(seconds) => {
                        write(
                            &mut stream,
                            429,
                            &format!("Retry-After: {seconds}\r\n"),
                            "{\"detail\":\"slow down\"}",
                        );
                    }
                    Answer::Silence => silent.push(stream),
                    Answer::Gone => drop(stream),
                }
            }
        });
        Self { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap()
    }
}

fn write(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    // A client that has gone takes nothing.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), decoded(value)));
    let query = query.split('&').filter_map(pair).collect();
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

/// `application/x-www-form-urlencoded`.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
