//! Application error codes: why a connection was closed, or a stream reset or stopped.

use crate::GoodbyeReason;

/// Nothing is wrong: the peer is done.
pub const OK: u32 = 0;
/// The encoder refused the session; [`Refused`](crate::Refused) says why.
pub const REFUSED: u32 = 1;
/// The peer's certificate was revoked.
pub const REVOKED: u32 = 2;
/// A newer connection of the same camera took this one's place.
pub const REPLACED: u32 = 3;
/// The encoder is shutting down and takes no more frames.
pub const DRAINING: u32 = 4;
/// The peer broke the protocol.
pub const MALFORMED: u32 = 5;
/// A stream's frame is no longer wanted.
pub const STALE: u32 = 6;
/// The peer's certificate expired while it was connected.
pub const EXPIRED: u32 = 7;

/// What a code means, in plain words. `None`: no code of this protocol version.
#[must_use]
pub fn describe(code: u64) -> Option<&'static str> {
    Some(match u32::try_from(code).ok()? {
        OK => "the other side is done",
        REFUSED => "the encoder refused the session",
        REVOKED => "the certificate was revoked",
        REPLACED => "a newer connection of the same camera took its place",
        DRAINING => "the encoder is shutting down",
        MALFORMED => "the other side received bytes it could not read",
        STALE => "the frame is no longer wanted",
        EXPIRED => "the certificate has expired",
        _ => return None,
    })
}

impl GoodbyeReason {
    /// The code the connection is closed with after this goodbye.
    #[must_use]
    pub const fn close_code(self) -> u32 {
        match self {
            Self::Shutdown => OK,
            Self::Draining => DRAINING,
            Self::Revoked => REVOKED,
            Self::Replaced => REPLACED,
            Self::Malformed => MALFORMED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_pinned_and_explained() {
        let codes = [OK, REFUSED, REVOKED, REPLACED, DRAINING, MALFORMED, STALE, EXPIRED];
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!((0..=7).all(|code| describe(code).is_some()));
        assert_eq!(describe(8), None);
        assert_eq!(describe(1 << 40), None);
    }
}
