//! Connection failures in plain words: what is wrong, and what to do about it.
//!
//! In TLS 1.3 an agent's handshake can succeed before the encoder has looked at its certificate: the refusal
//! then arrives as a closed connection whose code is 0x100 plus the TLS alert (RFC 9001, section 4.8). So every
//! alert is explained twice: raised here (`TransportError`) and received from the peer (`ConnectionClosed`).

mod certificate;
mod words;

use std::fmt;

use jiff::Timestamp;
use quinn::{ConnectError, ConnectionError, TransportErrorCode};

use super::files::Identity;
use super::peer::PeerIdentity;
use super::transport::IDLE_TIMEOUT;
use words::{Sides, printable};

/// A connection failure to explain.
#[derive(Debug, Clone, Copy)]
pub enum Failure<'a> {
    /// `Endpoint::connect` refused to start.
    Connect(&'a ConnectError),
    /// The handshake failed or the connection ended.
    Connection(&'a ConnectionError),
    /// The handshake over TCP failed.
    Tls(&'a rustls::Error),
}

impl<'a> From<&'a ConnectError> for Failure<'a> {
    fn from(e: &'a ConnectError) -> Self {
        Self::Connect(e)
    }
}

impl<'a> From<&'a ConnectionError> for Failure<'a> {
    fn from(e: &'a ConnectionError) -> Self {
        Self::Connection(e)
    }
}

impl<'a> From<&'a rustls::Error> for Failure<'a> {
    fn from(e: &'a rustls::Error) -> Self {
        Self::Tls(e)
    }
}

/// The TLS error in what reading from or writing to TLS over TCP came to, if it is one.
pub fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What [`explain`] knows besides the error.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Us: the role tells which side we are on.
    pub identity: &'a Identity,
    /// The other side as a person would name it: `encoder.example:4433`.
    pub peer: &'a str,
    /// What this machine's clock says.
    pub now: Timestamp,
}

/// The kind of failure, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A certificate is not valid at this time, or a clock is wrong.
    Time,
    /// A CA that one side does not trust.
    Authority,
    /// A revoked certificate.
    Revoked,
    /// A certificate whose role does not allow this.
    Role,
    /// The server's certificate is for other host names.
    Name,
    /// Another protocol version.
    Version,
    /// Another certificate problem.
    Certificate,
    /// Nobody answered.
    Timeout,
    /// The peer takes no connections now.
    Refused,
    /// The peer closed the connection with an application code ([`protocol::close`]).
    Closed(u64),
    /// An address or name that cannot be connected to.
    Address,
    /// The peer restarted or was replaced.
    Reset,
    /// This side closed it.
    Local,
    /// None of the above.
    Other,
}

impl Cause {
    /// Whether trying again soon could help without anyone doing anything.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Timeout | Self::Refused | Self::Reset | Self::Local | Self::Other => true,
            Self::Closed(code) => {
                ![protocol::close::REVOKED, protocol::close::EXPIRED].map(u64::from).contains(&code)
            }
            _ => false,
        }
    }
}

/// What is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kind of failure.
    pub cause: Cause,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do, one sentence without a full stop; empty when there is nothing to do.
    pub remedy: String,
}

impl Diagnosis {
    fn new(cause: Cause, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause, message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, ". {}", words::sentence(&self.remedy))?;
        }
        Ok(())
    }
}

/// The failure in plain words, with the remedy.
pub fn explain<'a>(failure: impl Into<Failure<'a>>, context: &Context<'_>) -> String {
    diagnose(failure, context).to_string()
}

/// The failure as cause, message and remedy.
pub fn diagnose<'a>(failure: impl Into<Failure<'a>>, context: &Context<'_>) -> Diagnosis {
    match failure.into() {
        Failure::Connect(error) => connect(error, context),
        Failure::Connection(error) => connection(error, context),
        Failure::Tls(error) => tls(error, context),
    }
}

/// The certificate that `peer` connected with has expired meanwhile.
pub fn diagnose_expired(peer: &PeerIdentity, context: &Context<'_>) -> Diagnosis {
    certificate::expired_theirs(peer, context)
}

fn connect(error: &ConnectError, context: &Context<'_>) -> Diagnosis {
    let peer = context.peer;
    match error {
        ConnectError::InvalidServerName(name) => Diagnosis::new(
            Cause::Address,
            format!("{name:?} is neither a host name nor an IP address"),
            "write the encoder as HOST:PORT",
        ),
        ConnectError::InvalidRemoteAddress(address) => Diagnosis::new(
            Cause::Address,
            format!("cannot send to {address}, the address of {peer}"),
            "the port must not be 0, and an IPv6 address needs a socket that speaks IPv6",
        ),
        ConnectError::EndpointStopping => Diagnosis::new(Cause::Local, "this program is shutting down", ""),
        other => Diagnosis::new(Cause::Other, format!("cannot connect to {peer}: {other}"), ""),
    }
}

/// The alerts that QUIC carries in its error codes, from the library's own errors.
fn tls(error: &rustls::Error, context: &Context<'_>) -> Diagnosis {
    use rustls::{AlertDescription, Error};
    let raised = |alert: AlertDescription| certificate::raised(alert.into(), &error.to_string(), context);
    match error {
        Error::AlertReceived(alert) => {
            certificate::received((*alert).into(), &printable(error.to_string().as_bytes()), context)
        }
        Error::InvalidCertificate(why) => raised(why.clone().into()),
        Error::NoCertificatesPresented => raised(AlertDescription::CertificateRequired),
        Error::NoApplicationProtocol => raised(AlertDescription::NoApplicationProtocol),
        _ => Diagnosis::new(
            Cause::Other,
            format!("the TLS handshake with {} failed: {error}", context.peer),
            "check that the port belongs to this system's programs",
        ),
    }
}

fn connection(error: &ConnectionError, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let other = &sides.other;
    match error {
        ConnectionError::TransportError(e) => match alert(e.code) {
            Some(alert) => certificate::raised(alert, &e.reason, context),
            None => Diagnosis::new(
                Cause::Other,
                format!("{other} sent something QUIC does not allow: {e}"),
                "check that the port belongs to this system's programs",
            ),
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => certificate::received(alert, &printable(&close.reason), context),
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => Diagnosis::new(
                Cause::Refused,
                format!("{other} takes no new connections now"),
                "it is full or shutting down: try again, or name another encoder",
            ),
            None => Diagnosis::new(
                Cause::Other,
                format!("{other} gave up the connection: {} {}", close.error_code, printable(&close.reason)),
                "",
            ),
        },
        ConnectionError::ApplicationClosed(close) => {
            closed(close.error_code.into_inner(), &printable(&close.reason), context)
        }
        ConnectionError::TimedOut => Diagnosis::new(
            Cause::Timeout,
            format!("no answer from {other} for {} s", IDLE_TIMEOUT.as_secs()),
            format!(
                "check that the {} runs, that address and port are right, and that no firewall drops UDP",
                sides.kind
            ),
        ),
        ConnectionError::Reset => Diagnosis::new(
            Cause::Reset,
            format!("{other} does not know this connection any more: it was restarted"),
            "connect again",
        ),
        ConnectionError::VersionMismatch => Diagnosis::new(
            Cause::Version,
            format!("{other} does not speak QUIC version 1"),
            "check the address and port; update the older side",
        ),
        ConnectionError::LocallyClosed => Diagnosis::new(Cause::Local, "this side closed the connection", ""),
        ConnectionError::CidsExhausted => {
            Diagnosis::new(Cause::Other, "too many connections at once on this socket", "try again")
        }
    }
}

/// An application close, in the words of [`protocol::close`] and of the peer.
fn closed(code: u64, reason: &str, context: &Context<'_>) -> Diagnosis {
    let sides = Sides::of(context);
    let ours = match u32::try_from(code) {
        Ok(protocol::close::REVOKED) => Some(certificate::revoked_ours(context)),
        Ok(protocol::close::EXPIRED) => Some(certificate::expired_ours(context)),
        _ => None,
    };
    if let Some(diagnosis) = ours {
        return Diagnosis { cause: Cause::Closed(code), ..diagnosis };
    }
    let meaning = protocol::close::describe(code)
        .map_or_else(|| format!("for a reason this version does not know (code {code})"), str::to_owned);
    let detail = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let remedy = match u32::try_from(code) {
        Ok(protocol::close::REPLACED) => {
            "give every camera box its own certificate, and run one agent with it"
        }
        Ok(protocol::close::MALFORMED) => "update the older side",
        Ok(protocol::close::DRAINING) => "name another encoder, or wait until it is back",
        _ => "",
    };
    let message = format!("{} closed the connection: {meaning}{detail}", sides.other);
    Diagnosis::new(Cause::Closed(code), message, remedy)
}

/// The TLS alert in a QUIC error code (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    let low = u64::from(code).checked_sub(0x100)?;
    u8::try_from(low).ok()
}
