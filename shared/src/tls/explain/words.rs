//! How sides, times and strangers' text are written.

use jiff::Timestamp;

use super::Context;
use crate::tls::peer::{PeerIdentity, Role};

/// Longest text of a peer that is repeated in a message.
const MAX_QUOTED: usize = 200;

/// Who is who in a message.
pub(super) struct Sides {
    /// `the encoder at HOST:PORT`.
    pub(super) other: String,
    /// What the other side is: `encoder` or `agent`.
    pub(super) kind: &'static str,
    /// What we are: `encoder`, `agent` or `operator`.
    pub(super) ours: &'static str,
}

impl Sides {
    pub(super) fn of(context: &Context<'_>) -> Self {
        let (kind, ours) = match context.identity.me().role {
            Role::Server => ("agent", "encoder"),
            Role::Camera => ("encoder", "agent"),
            Role::Operator | Role::Enroller => ("encoder", "operator"),
        };
        Self { other: format!("the {kind} at {}", context.peer), kind, ours }
    }
}

/// The command that makes a certificate like this one.
pub(super) fn issue_again(who: &PeerIdentity) -> String {
    match (&who.camera, who.role) {
        (Some(camera), _) => format!("`dc-encoder pki issue --camera {camera}`"),
        (None, Role::Operator) => format!("`dc-encoder pki issue --operator {}`", who.name),
        (None, _) => format!("`dc-encoder pki issue --server {}`", who.name),
    }
}

/// `2025-11-23 12:26:00 UTC`.
pub(super) fn clock(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How far two clocks are apart, in the largest unit that still says something.
pub(super) fn apart(a: Timestamp, b: Timestamp) -> String {
    let seconds = (a.as_second() - b.as_second()).unsigned_abs();
    let (n, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

/// A peer's text, fit for a terminal and a log: no control characters, not endless.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The first letter in upper case, unless it is a quoted command.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_in_units_a_person_would_use() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        assert_eq!(apart(at(0), at(1)), "1 second");
        assert_eq!(apart(at(600), at(0)), "10 minutes");
        assert_eq!(apart(at(0), at(3 * 3600)), "3 hours");
        assert_eq!(apart(at(366 * 86_400), at(0)), "366 days");
    }

    #[test]
    fn a_peers_text_cannot_drive_the_terminal() {
        assert_eq!(printable(b"a\x1b[31mb\n"), "a?[31mb?");
        assert_eq!(printable(&[b'x'; 1000]).len(), MAX_QUOTED);
    }
}
