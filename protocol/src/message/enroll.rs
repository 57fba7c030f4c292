//! Messages of enrolment: a box without a certificate gets one, and one that has it renews it. They travel under an
//! ALPN of their own, on an address of their own, and are no part of a session.

use std::fmt;

use bincode::{Decode, Encode};

use crate::{
    CodecError,
    limits::{
        MAX_CERTIFICATE_BYTES, MAX_CHAIN, MAX_DOCUMENT_BYTES, MAX_ENROLL_REPLY_BYTES,
        MAX_ENROLL_REQUEST_BYTES, MAX_ENROLL_SERVERS, MAX_ENROLL_TOKEN_BYTES, check_count, check_document,
        check_name, check_text, clip,
    },
    message::Message,
};

/// The box's one message on the one stream of its connection.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[repr(u32)]
pub enum EnrollRequestMsg {
    /// A box without a certificate asks for one.
    Enroll {
        /// The one-time token, at most [`MAX_ENROLL_TOKEN_BYTES`].
        token: Vec<u8>,
        /// PKCS #10 request in DER (RFC 2986), signed by the key that never leaves the box.
        request: Vec<u8>,
    } = 0,
    /// A box whose certificate the handshake has verified asks for the next one.
    Renew {
        /// PKCS #10 request in DER, by the certificate's key.
        request: Vec<u8>,
    } = 1,
}

/// A token is a secret: it is not shown.
impl fmt::Debug for EnrollRequestMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enroll { request, .. } => {
                f.debug_struct("Enroll").field("request", &request.len()).finish_non_exhaustive()
            }
            Self::Renew { request } => f.debug_struct("Renew").field("request", &request.len()).finish(),
        }
    }
}

/// What a box is given.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// Certificates in DER, the box's own first, each signed by the next; the last one by `authority`.
    pub chain: Vec<Vec<u8>>,
    /// The authority's certificate in DER: the one whose hash stands in the token.
    pub authority: Vec<u8>,
    /// Encoders to send frames to, as `HOST:PORT`, in this order.
    pub servers: Vec<String>,
    /// Public root key of head releases, the text of `root.pub`. Empty: this server has none.
    pub release_root: String,
    /// Key ring that the root signed. Empty: none.
    pub key_ring: Vec<u8>,
    /// The server's clock, seconds since the Unix epoch: a box without a battery has no better.
    pub now: u64,
}

/// Why there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum EnrollCode {
    /// The server never made this token, or it was altered.
    Token = 0,
    /// It was used, with another key.
    Used = 1,
    /// It was not used in time.
    Expired = 2,
    /// Someone withdrew it, or the camera.
    Withdrawn = 3,
    /// The certificate request cannot be accepted.
    Request = 4,
    /// A renewal without a camera's certificate.
    Certificate = 5,
    /// The certificate is too new to be renewed.
    Early = 6,
    /// Too many attempts; try again later.
    Busy = 7,
    /// The server failed; try again later.
    Internal = 8,
}

impl fmt::Display for EnrollCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "the server does not know this token",
            Self::Used => "the token was used already, by a box with another key",
            Self::Expired => "the token has expired",
            Self::Withdrawn => "the token, or the camera, was withdrawn",
            Self::Request => "the server does not accept the certificate request",
            Self::Certificate => "only a camera's certificate can be renewed",
            Self::Early => "the certificate is too new to be renewed",
            Self::Busy => "too many attempts",
            Self::Internal => "the server failed",
        })
    }
}

/// The server's one message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[repr(u32)]
pub enum EnrollReplyMsg {
    /// The box is enrolled, or its certificate renewed.
    Granted(Grant) = 0,
    /// It is not.
    Refused {
        /// Why.
        code: EnrollCode,
        /// The values behind the code, for a person.
        message: String,
    } = 1,
}

impl EnrollReplyMsg {
    /// A refusal whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn refused(code: EnrollCode, message: &str) -> Self {
        Self::Refused { code, message: clip(message) }
    }
}

impl Message for EnrollRequestMsg {
    const NAME: &'static str = "EnrollRequestMsg";
    const MAX_BYTES: usize = MAX_ENROLL_REQUEST_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        let request = match self {
            Self::Enroll { token, request } => {
                check_document("bytes of a token", token, MAX_ENROLL_TOKEN_BYTES)?;
                request
            }
            Self::Renew { request } => request,
        };
        check_document("bytes of a certificate request", request, MAX_CERTIFICATE_BYTES)
    }
}

impl Message for EnrollReplyMsg {
    const NAME: &'static str = "EnrollReplyMsg";
    const MAX_BYTES: usize = MAX_ENROLL_REPLY_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Granted(grant) => grant.validate(),
            Self::Refused { message, .. } => check_text("refusal message", message),
        }
    }
}

impl Grant {
    fn validate(&self) -> Result<(), CodecError> {
        check_count("certificates", self.chain.len(), MAX_CHAIN)?;
        for certificate in self.chain.iter().chain([&self.authority]) {
            check_document("bytes of a certificate", certificate, MAX_CERTIFICATE_BYTES)?;
        }
        check_count("servers", self.servers.len(), MAX_ENROLL_SERVERS)?;
        for server in &self.servers {
            check_name("server", server)?;
        }
        check_text("root key", &self.release_root)?;
        check_document("bytes of a key ring", &self.key_ring, MAX_DOCUMENT_BYTES)
    }
}
