//! Why a release, a ring or an assignment is not accepted.

use std::path::PathBuf;

/// Why something signed was refused, or could not be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ReleaseError {
    /// A file could not be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    Read { what: &'static str, path: PathBuf, source: std::io::Error },
    /// A file is larger than anything of its kind.
    #[error("the {what} is {got} bytes, at most {max} are accepted: this is some other file")]
    TooLarge { what: &'static str, got: u64, max: u64 },
    /// A key file holds no usable key.
    #[error(
        "{} is no Ed25519 private key in PKCS#8 PEM ({detail}): make one with `dc-encoder keys init` or `keys rotate`",
        path.display()
    )]
    Key { path: PathBuf, detail: String },
    /// A private key that others can read.
    #[error("the key {} has mode {mode:o}: others can use it; run `chmod 600 {}`", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// A text is no public key.
    #[error("{0:?} is no public key: it has 64 hexadecimal digits, as `dc-encoder keys show` prints them")]
    PublicKey(String),
    /// The first line of a signed document is not one.
    #[error("this is no signed {want} ({detail}): a signed one starts with `fth-{want} 1 `")]
    NotSigned { want: &'static str, detail: String },
    /// The signature was made by another key, for another kind of object, or over other bytes.
    #[error(
        "the signature of the {what} does not fit its bytes: it was changed or cut after key {key} signed it; fetch \
         or copy it again"
    )]
    BadSignature { what: &'static str, key: String },
    /// A head's signature belongs to another file.
    #[error(
        "the signature is for release {signed}, the head file is release {file}: copy both from one folder"
    )]
    OtherRelease { signed: String, file: String },
    /// A ring that another root signed.
    #[error(
        "the key ring is signed by root {got}, and root {want} is trusted here: whoever changed the root must bring \
         the new root.pub to every box"
    )]
    OtherRoot { got: String, want: String },
    /// A key that is in no ring.
    #[error(
        "key {key} is not in key ring version {version}: sign with a key of the ring, or bring the newer ring"
    )]
    UnknownKey { key: String, version: u64 },
    /// A key that was revoked.
    #[error("key {name} ({key}) was revoked, key ring version {version} says: sign again with a valid key")]
    RevokedKey { name: String, key: String, version: u64 },
    /// A key that may sign other things.
    #[error("key {name} ({key}) signs {role}, not {want}: use a key of the other role")]
    KeyRole { name: String, key: String, role: &'static str, want: &'static str },
    /// An older ring.
    #[error(
        "key ring version {got} is older than version {have}, which is here: it may bring back revoked keys"
    )]
    OlderRing { got: u64, have: u64 },
    /// Two rings of one version.
    #[error(
        "there are two different key rings of version {version}: the root signed twice; make a newer one with `dc-encoder keys rotate`"
    )]
    TwoRings { version: u64 },
    /// The JSON of a signed document does not parse.
    #[error("{what}: {reason}")]
    Json { what: &'static str, reason: String },
    /// A document of another format.
    #[error("{what} format {got} is not known here (this program reads format {want}): update this program")]
    Format { what: &'static str, got: u32, want: u32 },
    /// A field is out of range.
    #[error("{what}: `{field}` is {got}, want {want}")]
    Field { what: &'static str, field: &'static str, got: String, want: String },
    /// A text is no channel.
    #[error("{0:?} is no channel: write HEAD@TRACK, such as people-count@stable, of a-z 0-9 . _ -")]
    Channel(String),
    /// A text is no camera pattern.
    #[error("{0:?} is no camera pattern: 1 to 63 of a-z 0-9 . _ - and *, such as plaza-*")]
    Pattern(String),
    /// A text is no share.
    #[error("{0:?} is no share: write a percentage from 0% to 100% with at most one decimal, such as 10%")]
    Share(String),
    /// An assignment that was replayed.
    #[error(
        "{channel}: assignment {got} is older than {have}, which was accepted before: it is a replay; a rollback is a \
         new assignment (`dc-encoder head rollback`)"
    )]
    Replayed { channel: String, got: u64, have: u64 },
    /// Two assignments with one counter.
    #[error(
        "{channel}: there are two different assignments {counter}: sign the later one again with a higher counter"
    )]
    TwoAssignments { channel: String, counter: u64 },
    /// A release that was replaced before, without saying that it is a rollback.
    #[error(
        "{channel}: release {release} was replaced before: to go back to it, say so (`dc-encoder head rollback`)"
    )]
    Superseded { channel: String, release: String },
    /// More cameras than the operator allowed.
    #[error("{channel}: the server asks for {got} of the cameras, assignment {counter} allows {most}")]
    BeyondShare { channel: String, counter: u64, got: String, most: String },
    /// A head file under a channel of another head.
    #[error(
        "{channel} is for heads named {want}, release {release} is named {got}: publish it under {got}@{track}"
    )]
    OtherHead { channel: String, track: String, want: String, release: String, got: String },
    /// A rollout cannot take this step.
    #[error("the rollout is {phase}: {remedy}")]
    Rollout { phase: String, remedy: &'static str },
}

impl ReleaseError {
    pub(super) fn field(
        what: &'static str,
        field: &'static str,
        got: impl ToString,
        want: impl ToString,
    ) -> Self {
        Self::Field { what, field, got: got.to_string(), want: want.to_string() }
    }
}
