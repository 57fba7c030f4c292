//! A list of what was looked at: one line each, with what to do about it.

use std::fmt;
use std::io::Write;

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but a person should know.
    Warn,
    /// It would not work.
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
    /// As it should be.
    pub fn ok(name: &str, words: impl Into<String>) -> Self {
        Self { status: Status::Ok, name: name.into(), words: words.into(), remedy: String::new() }
    }

    /// It works, but a person should know.
    pub fn warn(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Warn, name: name.into(), words: words.into(), remedy: remedy.into() }
    }

    /// It would not work.
    pub fn fail(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
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
pub struct Report<'a> {
    out: &'a mut dyn Write,
    failed: bool,
}

impl<'a> Report<'a> {
    /// Onto `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, failed: false }
    }

    /// One line.
    pub fn add(&mut self, item: &Item) {
        self.failed |= item.status == Status::Fail;
        // A reader that went away does not change the result.
        let _ = writeln!(self.out, "{item}");
    }

    /// Some lines.
    pub fn add_all(&mut self, items: impl IntoIterator<Item = Item>) {
        items.into_iter().for_each(|item| self.add(&item));
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.failed
    }
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

    #[test]
    fn one_failure_is_remembered() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.add_all([Item::ok("a", "b"), Item::warn("a", "b", "c")]);
        assert!(report.is_good());
        report.add(&Item::fail("a", "b", "c"));
        report.add(&Item::ok("a", "b"));
        assert!(!report.is_good());
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 4);
    }
}
