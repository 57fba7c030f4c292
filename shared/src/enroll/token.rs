//! The one-time token.

use std::fmt;

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::base32;
use crate::tls::{PeerError, check_camera_name};

/// Before every token: what it is, and the version of its layout.
const PREFIX: &str = "FTH1";

/// What the checksum covers besides the token: it fits nothing else.
const DOMAIN: &[u8] = b"fine-tuned heads enrolment token 1\n";

/// A secret that nobody guesses: the server is asked a few times a second at most.
const SECRET_BYTES: usize = 16;

/// What catches a letter that was mistyped.
const CHECK_BYTES: usize = 4;

/// Longest host with its port: a DNS name of 253.
const MAX_SERVER_BYTES: usize = 255;

/// Longest token as text, spaces and line ends included: what is longer is some other file.
pub const MAX_TOKEN_TEXT: usize = 2048;

/// Whom a token lets in, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The camera, whose role its certificate will have: no token is for anything else.
    pub camera: String,
    /// Where the box enrols, `HOST:PORT`: the host is a name in the server's certificate.
    pub server: String,
    /// SHA-256 of the authority's certificate (DER): the box trusts no other.
    pub authority: [u8; 32],
    /// When it was made, in whole seconds: it is not earlier than that anywhere.
    pub created: Timestamp,
}

/// A token: whoever holds it may enrol one box. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    subject: Subject,
    /// All that it says, the secret first, without the checksum.
    bytes: Vec<u8>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// What a server knows of a token: its SHA-256. Who reads it cannot enrol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub [u8; 32]);

impl TokenId {
    /// Of the bytes that travel.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::new().chain_update(DOMAIN).chain_update(bytes).finalize().into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no token, or there can be no such token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("this is no enrolment token: one starts with {PREFIX} and comes from `dc-encoder enroll create`")]
    NotAToken,
    /// A letter is wrong or missing.
    #[error("the token is mistyped or incomplete: copy all of it, from {PREFIX} to its end")]
    Mistyped,
    /// The camera's name.
    #[error(transparent)]
    Camera(#[from] PeerError),
    /// The server's address.
    #[error("server {0:?} must be HOST:PORT of at most {MAX_SERVER_BYTES} letters")]
    Server(String),
    /// The system gives no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`TokenError`] for names that no token can carry.
    pub fn new(subject: Subject) -> Result<Self, TokenError> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| TokenError::Random)?;
        Self::with_secret(subject, secret)
    }

    fn with_secret(subject: Subject, secret: [u8; SECRET_BYTES]) -> Result<Self, TokenError> {
        check_camera_name(&subject.camera)?;
        let server = &subject.server;
        let good = server.len() <= MAX_SERVER_BYTES && server.bytes().all(|byte| byte.is_ascii_graphic());
        if !good || server.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(TokenError::Server(server.clone()));
        }
        let created = u32::try_from(subject.created.as_second()).unwrap_or(0);
        let mut bytes = secret.to_vec();
        bytes.extend(subject.authority);
        bytes.extend(created.to_le_bytes());
        for name in [&subject.camera, server] {
            // Both were measured above.
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name.as_bytes());
        }
        let created = Timestamp::from_second(created.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self { subject: Subject { created, ..subject }, bytes })
    }

    /// Reads one as a person typed or pasted it: spaces, line ends, hyphens and lower case do not matter.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let plain = |c: &char| !c.is_whitespace() && *c != '-';
        let text: String = text.chars().filter(plain).map(|c| c.to_ascii_uppercase()).collect();
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let bytes = base32::decode(body).ok_or(TokenError::Mistyped)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TokenError::Mistyped)?;
        if TokenId::of(bytes).0[..CHECK_BYTES] != *check {
            return Err(TokenError::Mistyped);
        }
        Self::from_bytes(bytes).ok_or(TokenError::NotAToken)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (secret, rest) = bytes.split_first_chunk::<SECRET_BYTES>()?;
        let (authority, rest) = rest.split_first_chunk::<32>()?;
        let (created, rest) = rest.split_first_chunk::<4>()?;
        let (camera, rest) = name(rest)?;
        let (server, rest) = name(rest)?;
        let created = Timestamp::from_second(u32::from_le_bytes(*created).into()).ok()?;
        let subject = Subject { camera, server, authority: *authority, created };
        rest.is_empty().then(|| Self::with_secret(subject, *secret).ok()).flatten()
    }

    /// What a person copies.
    #[must_use]
    pub fn text(&self) -> String {
        let check = TokenId::of(&self.bytes).0;
        format!("{PREFIX}{}", base32::encode(&[&self.bytes, &check[..CHECK_BYTES]].concat()))
    }

    /// What travels.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the server keeps.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId::of(&self.bytes)
    }

    /// Whom it lets in, and where.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}

fn name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(len.into())?;
    Some((String::from_utf8(name.to_vec()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            camera: "plaza-1".into(),
            server: "encoder.example:4434".into(),
            authority: [0xab; 32],
            created: Timestamp::from_second(1_780_000_000).unwrap(),
        }
    }

    #[test]
    fn comes_back_however_it_was_copied() {
        let token = Token::new(subject()).unwrap();
        assert_eq!((token.subject(), token.bytes().len()), (&subject(), 16 + 32 + 4 + 1 + 7 + 1 + 20));
        let text = token.text();
        assert_eq!(Token::parse(&text).unwrap(), token);
        let (first, second) = text.split_at(30);
        let typed = format!("  {}-{}\n {}\n", &first[..8].to_lowercase(), &first[8..], second);
        assert_eq!(Token::parse(&typed).unwrap().id(), token.id());
    }

    /// The layout is pinned: a token that was printed before an update still works after it.
    #[test]
    fn is_written_as_pinned() {
        let token = Token::with_secret(subject(), [1; 16]).unwrap();
        assert_eq!(token.text(), PINNED);
        assert_eq!(Token::parse(PINNED).unwrap(), token);
    }

    const PINNED: &str = "FTH1AEAQCAIBAEAQCAIBAEAQCAIBAGV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2WAFFDBVAO4DMMF5GCLJRCRSW4Y3PMRSXELTFPBQW24DMMU5DINBTGQZPJQEJ";

    #[test]
    fn every_mistyped_letter_is_caught() {
        let text = Token::new(subject()).unwrap().text();
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let typo = [&text[..at], other, &text[at + 1..]].concat();
            assert_eq!(Token::parse(&typo), Err(TokenError::Mistyped), "{at}");
            assert!(Token::parse(&text[..at]).is_err(), "{at}");
        }
        for other in ["", "hello", "FTH2AAAA", "-----BEGIN CERTIFICATE-----"] {
            assert_eq!(Token::parse(other), Err(TokenError::NotAToken), "{other}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let server = |server: &str| Token::new(Subject { server: server.into(), ..subject() });
        for bad in ["encoder", "encoder:", "encoder:70000", "a b:1", &format!("{}:1", "a".repeat(254))] {
            assert_eq!(server(bad), Err(TokenError::Server(bad.into())));
        }
        assert!(Token::new(Subject { camera: "A b".into(), ..subject() }).is_err());
    }

    #[test]
    fn is_not_shown() {
        let token = Token::with_secret(subject(), [201; 16]).unwrap();
        assert!(!format!("{token:?}").contains("201"));
    }
}
