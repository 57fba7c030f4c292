//! Ed25519 keys (RFC 8032), on disk as PKCS#8 PEM (RFC 8410).

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use super::ReleaseError;

/// Largest key file in bytes: ours are about 200.
const MAX_KEY_BYTES: u64 = 16 * 1024;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// Who signed: 32 bytes, written as 64 hexadecimal digits. It is its own name in signatures; the ring gives it
/// one for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// Reads a file with one public key in it, such as `root.pub`.
    ///
    /// # Errors
    /// [`ReleaseError::Read`], [`ReleaseError::TooLarge`], [`ReleaseError::PublicKey`].
    pub fn load(path: &Path) -> Result<Self, ReleaseError> {
        let bytes = read_limited("public key", path, MAX_KEY_BYTES)?;
        String::from_utf8_lossy(&bytes).trim().parse()
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

/// All 64 digits.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        hex(text).map(Self).ok_or_else(|| ReleaseError::PublicKey(text.chars().take(80).collect()))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

/// A private key. Never printed: its `Debug` is the public half.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public)
    }
}

impl SigningKey {
    /// A new key that only this process has. Keys on disk are made by `dc-encoder keys`.
    ///
    /// # Panics
    /// When the system has no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .expect("the system's random numbers never fail once the machine is up");
        Self::from_pkcs8(pkcs8.as_ref()).expect("what was just made is a key")
    }

    /// Reads a key file that nobody but its owner can read.
    ///
    /// # Errors
    /// [`ReleaseError::Read`], [`ReleaseError::TooLarge`], [`ReleaseError::Exposed`], [`ReleaseError::Key`].
    pub fn load(path: &Path) -> Result<Self, ReleaseError> {
        let pem = read_limited("private key", path, MAX_KEY_BYTES)?;
        let failed = |source| ReleaseError::Read { what: "private key", path: path.into(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ReleaseError::Exposed { path: path.into(), mode });
        }
        let unusable = |detail: String| ReleaseError::Key { path: path.into(), detail };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| unusable(e.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der()).map_err(unusable)
    }

    /// Keys of other programs may come without their public half (version 1 of PKCS#8).
    fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|e| e.to_string())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| "an odd public key".to_owned())?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// `N` bytes from twice as many lower-case digits: one text for one key.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.iter().all(is_digit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Reads a file of at most `max` bytes.
pub(super) fn read_limited(what: &'static str, path: &Path, max: u64) -> Result<Vec<u8>, ReleaseError> {
    let failed = |source| ReleaseError::Read { what, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    let got = bytes.len() as u64;
    if got > max { Err(ReleaseError::TooLarge { what, got, max }) } else { Ok(bytes) }
}
