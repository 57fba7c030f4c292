//! What everybody needs who asks other machines over HTTP: `archive` a bucket, `annotate` a platform.

use std::error::Error;
use std::net::IpAddr;

use reqwest::Url;

/// Whether an address is one of this machine alone.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// An error with its causes, as far as they say something new.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        let text = it.to_string();
        if !text.is_empty() && !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = it.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_elsewhere() {
        let of = |url: &str| is_loopback(&url.parse().unwrap());
        for url in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:1/x", "http://localhost:80"] {
            assert!(of(url), "{url}");
        }
        for url in ["http://192.0.2.1:9000", "http://minio.example", "http://localhost.example:1"] {
            assert!(!of(url), "{url}");
        }
    }
}
