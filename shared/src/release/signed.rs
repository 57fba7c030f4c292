//! What a signature is over, and how it is stored.
//!
//! ```text
//! message   = domain of the kind, a zero byte, SHA-256 of the content
//! document  = "fth-KIND 1 KEY SIGNATURE\n" content          (key ring, assignment: the content is JSON)
//! FILE.sig  = "fth-head 1 KEY SIGNATURE RELEASE\n"          (the content is the head file beside it)
//! ```
//! KEY, SIGNATURE and RELEASE are lower-case hexadecimal digits. The content is taken as it is stored, byte for byte:
//! it is never parsed and written again before it is verified. A head's signature is detached, so that the file
//! stays what every safetensors reader opens, and signing it again with another key leaves its identity alone; and
//! since it is over the digest, it can be checked before a byte of the head is fetched.

use std::path::{Path, PathBuf};

use protocol::ReleaseId;
use protocol::limits::{MAX_DOCUMENT_BYTES, MAX_SIGNATURE_BYTES};
use sha2::{Digest as _, Sha256};

use super::keys::{SIGNATURE_BYTES, hex, read_limited};
use super::{PublicKey, ReleaseError, SigningKey};

/// What is signed. Each kind has a domain of its own: no signature can pass for one of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A head file.
    Head,
    /// A key ring.
    KeyRing,
    /// A channel assignment.
    Assignment,
}

impl Kind {
    /// As in the first word of a document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::KeyRing => "key-ring",
            Self::Assignment => "assignment",
        }
    }

    /// What the signed message starts with. Changing one makes all its signatures void.
    #[must_use]
    pub const fn domain(self) -> &'static str {
        match self {
            Self::Head => "fine-tuned-heads: head release, version 1",
            Self::KeyRing => "fine-tuned-heads: key ring, version 1",
            Self::Assignment => "fine-tuned-heads: channel assignment, version 1",
        }
    }

    fn message(self, digest: &[u8; 32]) -> Vec<u8> {
        [self.domain().as_bytes(), &[0], digest].concat()
    }
}

/// Identity of a head file: SHA-256 of the whole.
#[must_use]
pub fn digest(file: &[u8]) -> ReleaseId {
    ReleaseId(Sha256::digest(file).into())
}

/// Where the signature of a head file is: `FILE.sig`.
#[must_use]
pub fn signature_path(head: &Path) -> PathBuf {
    let mut name = head.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Signs a head file: the content of its `FILE.sig`.
#[must_use]
pub fn sign_head(file: &[u8], key: &SigningKey) -> Vec<u8> {
    let release = digest(file);
    let stamp = Stamp::new(Kind::Head, &release.0, key);
    format!("{} {release}\n", stamp.line(Kind::Head)).into_bytes()
}

/// A head's signature as read, not verified yet: [`Trust::verify_head`](super::Trust::verify_head) does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSignature {
    /// The release it is for.
    pub release: ReleaseId,
    stamp: Stamp,
}

impl HeadSignature {
    /// Reads the content of a `FILE.sig`.
    ///
    /// # Errors
    /// [`ReleaseError::TooLarge`], [`ReleaseError::NotSigned`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        check_size("signature", bytes, MAX_SIGNATURE_BYTES)?;
        let (line, rest) = first_line(Kind::Head, bytes)?;
        let bad = |detail: &str| not_signed(Kind::Head, detail);
        let (stamp, release) = line.rsplit_once(' ').ok_or_else(|| bad("it has no release"))?;
        let release = hex(release).map(ReleaseId).ok_or_else(|| bad("its release is not 64 digits"))?;
        if !rest.is_empty() {
            return Err(bad("it goes on after the first line"));
        }
        Ok(Self { release, stamp: Stamp::parse(Kind::Head, stamp)? })
    }

    /// Reads a `FILE.sig`.
    ///
    /// # Errors
    /// [`ReleaseError::Read`] and those of [`parse`](Self::parse).
    pub fn load(path: &Path) -> Result<Self, ReleaseError> {
        Self::parse(&read_limited("signature", path, MAX_SIGNATURE_BYTES as u64)?)
    }

    /// The key that it says made it.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.stamp.key
    }

    /// Whether its key made it over its release. Whether that key may is the ring's business.
    pub(super) fn check(&self) -> Result<(), ReleaseError> {
        self.stamp.check(Kind::Head, &self.release.0)
    }
}

/// A document: the stamp's line, then the content.
pub(super) fn write(kind: Kind, content: &[u8], key: &SigningKey) -> Vec<u8> {
    let stamp = Stamp::new(kind, &Sha256::digest(content).into(), key);
    [stamp.line(kind).as_bytes(), b"\n", content].concat()
}

/// The key and the content of a document whose signature is that key's. The caller asks whether the key may.
pub(super) fn open(kind: Kind, document: &[u8]) -> Result<(PublicKey, &[u8]), ReleaseError> {
    check_size(kind.name(), document, MAX_DOCUMENT_BYTES)?;
    let (line, content) = first_line(kind, document)?;
    let stamp = Stamp::parse(kind, line)?;
    stamp.check(kind, &Sha256::digest(content).into())?;
    Ok((stamp.key, content))
}

/// Who signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    key: PublicKey,
    signature: [u8; SIGNATURE_BYTES],
}

impl Stamp {
    fn new(kind: Kind, digest: &[u8; 32], key: &SigningKey) -> Self {
        Self { key: key.public(), signature: key.sign(&kind.message(digest)) }
    }

    fn line(&self, kind: Kind) -> String {
        let signature: String = self.signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("fth-{} 1 {} {signature}", kind.name(), self.key)
    }

    fn parse(kind: Kind, line: &str) -> Result<Self, ReleaseError> {
        let bad = |detail: &str| not_signed(kind, detail);
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, key, signature] = words[..] else {
            return Err(bad("its first line has another number of words"));
        };
        if name.strip_prefix("fth-") != Some(kind.name()) || version != "1" {
            return Err(bad(&format!("it starts with `{name} {version}`")));
        }
        let signature = hex(signature).ok_or_else(|| bad("its signature is not 128 digits"))?;
        Ok(Self { key: key.parse()?, signature })
    }

    fn check(&self, kind: Kind, digest: &[u8; 32]) -> Result<(), ReleaseError> {
        if self.key.verifies(&kind.message(digest), &self.signature) {
            return Ok(());
        }
        Err(ReleaseError::BadSignature { what: kind.name(), key: self.key.short() })
    }
}

fn first_line(kind: Kind, bytes: &[u8]) -> Result<(&str, &[u8]), ReleaseError> {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (line, rest) = end
        .map(|end| (&bytes[..end], &bytes[end + 1..]))
        .ok_or_else(|| not_signed(kind, "it has no first line"))?;
    let line = std::str::from_utf8(line).map_err(|_| not_signed(kind, "its first line is no text"))?;
    Ok((line, rest))
}

fn not_signed(kind: Kind, detail: &str) -> ReleaseError {
    ReleaseError::NotSigned { want: kind.name(), detail: protocol::limits::clip(detail) }
}

fn check_size(what: &'static str, bytes: &[u8], max: usize) -> Result<(), ReleaseError> {
    let (got, max) = (bytes.len() as u64, max as u64);
    if got > max { Err(ReleaseError::TooLarge { what, got, max }) } else { Ok(()) }
}
