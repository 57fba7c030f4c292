//! TLS alerts, raised here or received from the peer.

use jiff::Timestamp;

use super::words::{Sides, apart, clock, issue_again};
use super::{Cause, Context, Diagnosis};
use crate::tls::peer::{PeerIdentity, Presented};

/// TLS alerts (RFC 8446, section 6) as rustls uses them for certificates.
mod alert {
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_REVOKED: u8 = 44;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

const SET_CLOCK: &str = "`timedatectl set-ntp true`";

/// We refused the peer.
pub(super) fn raised(alert: u8, reason: &str, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let other = &sides.other;
    let presented = context.identity.rejected().last();
    let who = presented.as_ref().map_or_else(String::new, |p| format!(" ({})", p.describe()));
    match alert {
        alert::CERTIFICATE_EXPIRED => time_theirs(reason, presented.as_ref(), context),
        alert::UNKNOWN_CA | alert::DECRYPT_ERROR => Diagnosis::new(
            Cause::Authority,
            format!(
                "{other} presented a certificate{who} signed by a CA that this {} does not trust",
                sides.ours
            ),
            "both sides need certificates of one `dc-encoder pki`: compare their ca.pem, and check the address",
        ),
        alert::CERTIFICATE_REVOKED => Diagnosis::new(
            Cause::Revoked,
            format!("{other} presented a revoked certificate{who}{}", serial(presented.as_ref())),
            "if it should be let in, issue it a new certificate: a revoked one stays revoked",
        ),
        alert::UNSUPPORTED_CERTIFICATE | alert::ACCESS_DENIED => Diagnosis::new(
            Cause::Role,
            format!(
                "{other} presented a certificate{who} that does not allow it to act as an {}",
                sides.kind
            ),
            match sides.kind {
                "encoder" => {
                    "check the address; an encoder needs a certificate from `dc-encoder pki issue --server HOST`"
                }
                _ => "a camera box needs a certificate from `dc-encoder pki issue --camera NAME`",
            },
        ),
        alert::BAD_CERTIFICATE if reason.contains("not valid for name") => {
            name_mismatch(reason, presented.as_ref(), context)
        }
        alert::CERTIFICATE_REQUIRED => Diagnosis::new(
            Cause::Certificate,
            format!("{other} presented no certificate"),
            "only programs with a certificate of this system's CA may connect",
        ),
        alert::NO_APPLICATION_PROTOCOL => version(context),
        _ => {
            Diagnosis::new(Cause::Certificate, format!("the TLS handshake with {other} failed: {reason}"), "")
        }
    }
}

/// The peer refused us.
pub(super) fn received(alert: u8, reason: &str, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let (other, ours, me) = (&sides.other, sides.ours, context.identity.me());
    let again = issue_again(me);
    match alert {
        alert::CERTIFICATE_EXPIRED => time_ours(reason, context),
        alert::UNKNOWN_CA | alert::DECRYPT_ERROR => Diagnosis::new(
            Cause::Authority,
            format!("{other} does not trust the CA that signed this {ours}'s certificate"),
            format!("both sides need certificates of one `dc-encoder pki`: make this one with {again} there"),
        ),
        alert::CERTIFICATE_REVOKED => revoked_ours(context),
        alert::UNSUPPORTED_CERTIFICATE | alert::ACCESS_DENIED => Diagnosis::new(
            Cause::Role,
            format!("{other} does not accept this {ours}'s certificate in its role ({})", me.role),
            match ours {
                "encoder" => "an encoder needs a certificate from `dc-encoder pki issue --server HOST`",
                "operator" => "an operator needs a certificate from `dc-encoder pki issue --operator NAME`",
                _ => "a camera box needs a certificate from `dc-encoder pki issue --camera NAME`",
            },
        ),
        alert::BAD_CERTIFICATE if reason.contains("not valid for name") => Diagnosis::new(
            Cause::Name,
            format!("{other} reached this {ours} by a name that its certificate does not have: {reason}"),
            "let it connect by a name in the certificate, or issue one that has this name too",
        ),
        alert::CERTIFICATE_REQUIRED => Diagnosis::new(
            Cause::Certificate,
            format!("{other} wants a certificate and got none"),
            format!("make one with {again}"),
        ),
        alert::NO_APPLICATION_PROTOCOL => version(context),
        _ => Diagnosis::new(
            Cause::Certificate,
            format!("{other} broke off the TLS handshake (alert {alert}: {reason})"),
            "its log says more",
        ),
    }
}

/// Our certificate was revoked.
pub(super) fn revoked_ours(context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let me = context.identity.me();
    Diagnosis::new(
        Cause::Revoked,
        format!(
            "{} refused this {}'s certificate: it was revoked (serial {})",
            sides.other, sides.ours, me.serial
        ),
        format!(
            "if that was a mistake, make a new one with {}: a revoked one stays revoked",
            issue_again(me)
        ),
    )
}

/// Our certificate expired while we were connected.
pub(super) fn expired_ours(context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let me = context.identity.me();
    Diagnosis::new(
        Cause::Time,
        format!(
            "{} closed the connection: the certificate of this {} ({me}) was valid until {}, and this machine's \
             clock says {}",
            sides.other,
            sides.ours,
            clock(me.not_after),
            clock(context.now)
        ),
        format!(
            "make a new one with {} and put it here; if it should still be good, one of the two clocks is wrong: \
             set it with {SET_CLOCK}",
            issue_again(me)
        ),
    )
}

/// The peer's certificate expired while it was connected.
pub(super) fn expired_theirs(peer: &PeerIdentity, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    Diagnosis::new(
        Cause::Time,
        format!(
            "the certificate of {} ({peer}) has expired: it was valid until {}, and this machine's clock says {}",
            sides.other,
            clock(peer.not_after),
            clock(context.now)
        ),
        format!(
            "if this clock is wrong, set it with {SET_CLOCK}; if it is right, make a new one with {} and put it \
             there",
            issue_again(peer)
        ),
    )
}

fn version(context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let ours = String::from_utf8_lossy(protocol::ALPN);
    Diagnosis::new(
        Cause::Version,
        format!("{} speaks another protocol version: this {} speaks {ours}", sides.other, sides.ours),
        "update the older side",
    )
}

fn name_mismatch(reason: &str, presented: Option<&Presented>, context: &Context<'_>) -> Diagnosis {
    let wanted = reason.split('"').nth(1).unwrap_or(context.peer);
    let names = presented.map(|p| p.hosts.join(", ")).filter(|names| !names.is_empty());
    let names = names.unwrap_or_else(|| "no host at all".to_owned());
    Diagnosis::new(
        Cause::Name,
        format!("the certificate of {} is not for {wanted} but for {names}", Sides::of(context).other),
        format!(
            "connect by a name it has, or issue one that has this name too: \
             `dc-encoder pki issue --server {wanted},…`"
        ),
    )
}

/// The peer's certificate is not valid at the time our clock shows.
fn time_theirs(reason: &str, presented: Option<&Presented>, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let failed = TimeFailure::parse(reason);
    let now = failed.as_ref().map_or(context.now, |f| f.clock);
    // Believe the certificate that was refused last only if it has this bound.
    let same = presented
        .filter(|p| failed.as_ref().is_none_or(|f| f.bound == p.not_before || f.bound == p.not_after));
    let validity = match (same, &failed) {
        (Some(p), _) => format!("it is valid from {} until {}", clock(p.not_before), clock(p.not_after)),
        (None, Some(f)) if f.too_early => format!("it is valid from {}", clock(f.bound)),
        (None, Some(f)) => format!("it was valid until {}", clock(f.bound)),
        (None, None) => "its validity is unknown".to_owned(),
    };
    let too_early = failed.is_some_and(|f| f.too_early);
    let message = format!(
        "the certificate of {} {}: {validity}, and this machine's clock says {}",
        sides.other,
        if too_early { "is not valid yet" } else { "has expired" },
        clock(now)
    );
    Diagnosis::new(Cause::Time, message, remedy_theirs(&sides, too_early, now, context))
}

fn remedy_theirs(sides: &Sides, too_early: bool, now: Timestamp, context: &Context<'_>) -> String {
    let me = context.identity.me();
    if now < me.not_before {
        // Backdated by an hour when made: a clock that shows an earlier time has never been right since.
        return format!(
            "this machine's clock is wrong: our own certificate is newer than that; set it with {SET_CLOCK}"
        );
    }
    let else_ = match (too_early, sides.kind) {
        (true, _) => {
            "if it is right, the machine that issued the certificate was ahead: issue it again".to_owned()
        }
        (false, "encoder") => {
            "if it is right, give the encoder a new certificate with `dc-encoder pki issue --server HOST`"
                .to_owned()
        }
        (false, _) => {
            "if it is right, give the camera box a new certificate with `dc-encoder pki issue --camera NAME`"
                .to_owned()
        }
    };
    format!("if this clock is wrong, set it with {SET_CLOCK}; {else_}")
}

/// Our certificate is not valid at the time the peer's clock shows.
fn time_ours(reason: &str, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let (me, now, other) = (context.identity.me(), context.now, &sides.other);
    let theirs = TimeFailure::parse(reason).map(|f| f.clock);
    let their_clock = theirs.map_or_else(String::new, |t| format!("the clock there says {}, ", clock(t)));
    let message = format!(
        "{other} refused this {}'s certificate as out of date: it is valid from {} until {}, {their_clock}\
         and this machine's clock says {}",
        sides.ours,
        clock(me.not_before),
        clock(me.not_after),
        clock(now)
    );
    let valid_here = context.identity.is_valid_at(now);
    let remedy = match theirs {
        Some(theirs) if valid_here => {
            let apart = apart(theirs, now);
            format!("the two clocks are {apart} apart: set the wrong one with {SET_CLOCK}")
        }
        None if valid_here => format!("one of the two clocks is wrong: set it with {SET_CLOCK}"),
        _ if now < me.not_before => {
            format!("if a clock is wrong, set it with {SET_CLOCK}; else issue it again")
        }
        _ => format!("it has expired: make a new one with {} and put it here", issue_again(me)),
    };
    Diagnosis::new(Cause::Time, message, remedy)
}

fn serial(presented: Option<&Presented>) -> String {
    presented.map_or_else(String::new, |p| format!(", serial {}", p.serial))
}

/// What rustls says about a certificate outside its validity, whichever side said it.
#[derive(Debug, PartialEq, Eq)]
struct TimeFailure {
    /// Not valid yet, rather than expired.
    too_early: bool,
    /// The verifier's clock.
    clock: Timestamp,
    /// The end (or start) of validity that it ran into.
    bound: Timestamp,
}

impl TimeFailure {
    /// Reads the text of rustls' `CertificateError::{ExpiredContext, NotValidYetContext}`; `None` for other text.
    fn parse(reason: &str) -> Option<Self> {
        let number = |after: &str| -> Option<Timestamp> {
            let (_, rest) = reason.split_once(after)?;
            let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
            Timestamp::from_second(digits.parse().ok()?).ok()
        };
        let too_early = reason.contains("not valid yet");
        let bound = number(if too_early { "not valid before " } else { "not valid after " })?;
        Some(Self { too_early, clock: number("verification time ")?, bound })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::CertificateError;
    use rustls::pki_types::UnixTime;

    use super::*;

    #[test]
    fn the_tls_librarys_words_about_time_are_understood() {
        let unix = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
        let at = |s| Timestamp::from_second(s).unwrap();
        let expired = CertificateError::ExpiredContext { time: unix(2000), not_after: unix(1000) };
        let early = CertificateError::NotValidYetContext { time: unix(1000), not_before: unix(2000) };
        let parsed = TimeFailure::parse(&rustls::Error::from(expired).to_string());
        assert_eq!(parsed, Some(TimeFailure { too_early: false, clock: at(2000), bound: at(1000) }));
        let parsed = TimeFailure::parse(&rustls::Error::from(early).to_string());
        assert_eq!(parsed, Some(TimeFailure { too_early: true, clock: at(1000), bound: at(2000) }));
    }

    #[test]
    fn a_peers_invented_words_are_harmless() {
        let huge = "verification time 99999999999999999999 (UNIX), not valid after 1";
        for text in ["", "expired", "not valid after ", "verification time x not valid after y", huge] {
            assert_eq!(TimeFailure::parse(text), None, "{text:?}");
        }
    }
}
