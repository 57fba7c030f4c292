//! Logs to standard error, secrets redacted.
//!
//! Standard output belongs to answers. What is logged about a stream goes through [`redact_url`] first.

use std::fmt;
use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Overrides the configured level: `FTH_LOG=debug`, `FTH_LOG=info,shared::tls=trace`.
pub const LOG_VARIABLE: &str = "FTH_LOG";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{origin} {filter:?} is not a log filter ({source}): write a level (error, warn, info, debug, trace) or \
         levels by module, as in `info,shared::tls=debug`"
)]
pub struct FilterError {
    /// Where it was written.
    origin: &'static str,
    /// What was written.
    filter: String,
    /// What the parser said.
    source: ParseError,
}

/// Starts logging to standard error. `level` is a filter such as `info` or `info,shared::tls=debug`;
/// [`LOG_VARIABLE`] overrides it. A second call changes nothing.
pub fn init(level: &str, format: Format) -> Result<(), FilterError> {
    let filter = filter(std::env::var(LOG_VARIABLE).ok(), level)?;
    // The filter alone decides what is logged, not the builder's own level.
    let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
    // An error means that a test or an embedding program has set its own subscriber: that one stays.
    let _ = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().with(filter).try_init(),
        Format::Json => builder.with_ansi(false).event_format(JsonLines).finish().with(filter).try_init(),
    };
    Ok(())
}

/// Levels by module, not `EnvFilter`: that one also filters by span fields, for which it links a regex engine, a
/// twentieth of the agent.
fn filter(variable: Option<String>, level: &str) -> Result<Targets, FilterError> {
    let (origin, filter) = match variable {
        Some(value) if !value.is_empty() => (LOG_VARIABLE, value),
        _ => ("log level", level.to_owned()),
    };
    filter.parse().map_err(|source| FilterError { origin, filter, source })
}

/// `{"time":…,"level":…,"target":…,"message":…,"span":…,other fields}`.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line::default();
        line.put("time", jiff::Timestamp::now().to_string());
        line.put("level", event.metadata().level().to_string());
        line.put("target", event.metadata().target());
        event.record(&mut line);
        let spans: Vec<String> = ctx
            .event_scope()
            .into_iter()
            .flat_map(|s| s.from_root())
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>().map_or("", |f| f.fields.as_str());
                if fields.is_empty() {
                    span.name().to_owned()
                } else {
                    format!("{}{{{fields}}}", span.name())
                }
            })
            .collect();
        if !spans.is_empty() {
            line.put("span", spans.join(":"));
        }
        writeln!(to, "{}", serde_json::Value::Object(line.0))
    }
}

/// The fields of one event.
#[derive(Default)]
struct Line(serde_json::Map<String, serde_json::Value>);

impl Line {
    fn put(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

/// What stands for a secret.
const HIDDEN: &str = "***";

/// A URL without its secrets: user and password gone, query values and fragment hidden.
/// `rtsp://admin:pw@cam/live?token=x` becomes `rtsp://***@cam/live?token=***`. Text that is no URL comes back as
/// it is. Where a password with `/`, `?` or `#` in it makes the URL ambiguous, too much is hidden, never too little.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = split_user(rest);
    let hidden_user = if user { format!("{HIDDEN}@") } else { String::new() };
    let (rest, fragment) = rest.split_once('#').map_or((rest, ""), |(rest, _)| (rest, "#***"));
    let Some((path, query)) = rest.split_once('?') else {
        return format!("{scheme}://{hidden_user}{rest}{fragment}");
    };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or(HIDDEN.to_owned(), |(key, _)| format!("{key}={HIDDEN}")))
        .collect();
    format!("{scheme}://{hidden_user}{path}?{}{fragment}", query.join("&"))
}

/// Whether there is a user part, and what follows it.
fn split_user(rest: &str) -> (bool, &str) {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return (true, &rest[at + 1..]);
    }
    // `admin:pa/ss@cam`: the colon was not a port's. With an @ further on, all before it may be a password.
    let has_colon = authority.contains(':') && !authority.starts_with('[');
    match rest.rfind('@') {
        Some(at) if has_colon => (true, &rest[at + 1..]),
        _ => (false, rest),
    }
}

/// [`redact_url`] for every URL in a text, such as a line that a child process printed.
pub fn redact_text(text: &str) -> String {
    text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`'))
        .map(|word| {
            let url = word
                .trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`'));
            redact_url(url) + &word[url.len()..]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn urls_lose_their_secrets() {
        for (url, redacted) in [
            ("rtsp://admin:pw@cam.lan:554/live", "rtsp://***@cam.lan:554/live"),
            ("rtsp://admin@cam/live", "rtsp://***@cam/live"),
            ("http://cam/a.m3u8?token=s3cret&b=2", "http://cam/a.m3u8?token=***&b=***"),
            ("http://cam/x?s3cret", "http://cam/x?***"),
            ("http://cam/x#s3cret", "http://cam/x#***"),
            ("http://cam/x?a=b@c", "http://cam/x?a=***"),
            ("rtsp://admin:pa/ss@cam/live", "rtsp://***@cam/live"),
            ("rtsp://admin:pa#ss@cam/live", "rtsp://***@cam/live"),
            ("rtsp://admin:12#3@cam/live", "rtsp://***@cam/live"),
            ("rtsp://admin:p@ss@cam/live", "rtsp://***@cam/live"),
            ("rtsp://[::1]:554/live", "rtsp://[::1]:554/live"),
            ("https://tube/@channel/live", "https://tube/@channel/live"),
            ("/dev/video0", "/dev/video0"),
            ("folder@2x/frames?", "folder@2x/frames?"),
        ] {
            assert_eq!(redact_url(url), redacted, "{url}");
        }
    }

    #[test]
    fn urls_inside_text_lose_their_secrets() {
        let line = "[tcp @ 0x5] 'rtsp://u:p@cam/live': Connection refused, see http://x/?k=v\n";
        assert_eq!(
            redact_text(line),
            "[tcp @ 0x5] 'rtsp://***@cam/live': Connection refused, see http://x/?k=***\n"
        );
    }

    #[test]
    fn a_bad_filter_says_where_it_was_written() {
        let error = filter(Some("shared=loud".into()), "info").unwrap_err().to_string();
        assert!(error.starts_with("FTH_LOG \"shared=loud\" is not a log filter"), "{error}");
        let error = filter(None, "shared=loud").unwrap_err().to_string();
        assert!(error.starts_with("log level"), "{error}");
        let filter = filter(Some(String::new()), "info,shared::tls=debug").unwrap();
        assert!(filter.would_enable("shared::tls", &tracing::Level::DEBUG));
        assert!(filter.would_enable("quinn", &tracing::Level::INFO));
        assert!(!filter.would_enable("quinn", &tracing::Level::DEBUG));
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_are_json() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(JsonLines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("session", camera = "plaza-1").entered();
            tracing::warn!(frames = 3, "two \"lines\"\nof text");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "two \"lines\"\nof text");
        assert_eq!(line["frames"], 3);
        assert_eq!(line["span"], "session{camera=\"plaza-1\"}");
        assert_eq!(text.lines().count(), 1);
    }
}
