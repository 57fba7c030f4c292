//! What both sides of an enrolment agree on: the token, and what it binds.
//!
//! ```text
//! server: Token::new ─► text (paper, QR code, chat) ─► box: Token::parse ─► address, authority, camera
//!   └─ keeps its digest alone          over TLS, to the pinned authority: token + certificate request ─► certificate
//! ```

mod base32;
mod token;

pub use token::{MAX_TOKEN_TEXT, Subject, Token, TokenError, TokenId};

/// UDP port of enrolment unless said otherwise: the one after the frames'.
pub const DEFAULT_PORT: u16 = 4434;
