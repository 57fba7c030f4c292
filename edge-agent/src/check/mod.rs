//! `edge-agent check`: everything a run needs, one line each, with what to do about it.
//!
//! ```text
//! config ─► identity ─► heads ─► source (one frame) ─► each encoder: link, model, heads' space
//! ```

mod encoder;
mod local;

use std::fmt;
use std::io::Write;

use shared::config::ConfigError;

use crate::config::{Invalid, Settings};

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but a person should know.
    Warn,
    /// A run would not work.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// How it stands.
    pub status: Status,
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub words: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
}

impl Item {
    fn ok(name: &str, words: impl Into<String>) -> Self {
        Self { status: Status::Ok, name: name.into(), words: words.into(), remedy: String::new() }
    }

    fn warn(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Warn, name: name.into(), words: words.into(), remedy: remedy.into() }
    }

    fn fail(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, name: name.into(), words: words.into(), remedy: remedy.into() }
    }
}

/// `warn heads: … — what to do`
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        write!(f, "{status} {}: {}", self.name, self.words)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " — {}", self.remedy) }
    }
}

/// Prints items as they come, and remembers the worst.
struct Report<'a> {
    out: &'a mut dyn Write,
    failed: bool,
}

impl Report<'_> {
    fn add(&mut self, item: &Item) {
        self.failed |= item.status == Status::Fail;
        // A reader that went away does not change the result.
        let _ = writeln!(self.out, "{item}");
    }

    fn add_all(&mut self, items: impl IntoIterator<Item = Item>) {
        items.into_iter().for_each(|item| self.add(&item));
    }
}

/// A configuration no run could start with.
#[derive(Debug)]
pub enum Unusable {
    /// The file.
    File(ConfigError),
    /// Values in it, in the environment or in flags.
    Values(Invalid),
}

/// Checks everything and prints one line per item to `out`; `true` if a run would work.
pub async fn check(settings: Result<Settings, Unusable>, out: &mut dyn Write) -> bool {
    let mut report = Report { out, failed: false };
    let settings = match settings {
        Ok(settings) => settings,
        Err(Unusable::File(error)) => {
            report.add(&Item::fail(
                "config",
                error.to_string(),
                "`edge-agent example-config` shows every key",
            ));
            return false;
        }
        Err(Unusable::Values(Invalid(problems))) => {
            for problem in problems {
                let words = format!("{} = {}: {}", problem.key, problem.value, problem.problem);
                report.add(&Item::fail("config", words, problem.remedy));
            }
            return false;
        }
    };
    report.add(&Item::ok("config", "every key is understood"));
    let (identity, items) = local::identity(&settings);
    report.add_all(items);
    let (heads, items) = local::heads(&settings);
    report.add_all(items);
    report.add(&local::source(&settings).await);
    match identity {
        Some(identity) => encoder::check(&settings, &identity, &heads, &mut report).await,
        None => report.add(&Item::fail(
            "encoder",
            "not asked, because the identity cannot be used",
            "put the identity right first",
        )),
    }
    !report.failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_to_do() {
        assert_eq!(Item::ok("config", "fine").to_string(), "ok   config: fine");
        let item = Item::fail("source", "no frame", "plug the camera in");
        assert_eq!(item.to_string(), "FAIL source: no frame — plug the camera in");
    }
}
