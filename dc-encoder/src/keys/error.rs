//! What can go wrong with the folder of keys.

use std::path::PathBuf;

use shared::release::ReleaseError;

use crate::pki::PkiError;

/// Why a `keys` command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// `init` where keys already are.
    #[error(
        "{} is there already: a second root would be strange to every box that trusts the first; use it, or choose \
         another --dir", .0.display()
    )]
    Exists(PathBuf),
    /// A command where no keys are.
    #[error(
        "{} is missing: make keys with `dc-encoder keys init --dir {}`, or name their folder with --dir or --keys",
        path.display(), dir.display()
    )]
    NoKeys {
        /// The missing file.
        path: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
    /// A ring is to be signed without the root.
    #[error(
        "{} is not here: bring the root key from where it is kept, or name it with --root-key", .0.display()
    )]
    NoRoot(PathBuf),
    /// The root key is another one than the boxes trust.
    #[error("{} is not the key of {}: take both from one backup", key.display(), public.display())]
    OtherRoot {
        /// The private key.
        key: PathBuf,
        /// The public one.
        public: PathBuf,
    },
    /// No key that may sign this is in the folder.
    #[error(
        "no valid key for {role} is in {}: name one with --key, or make one with `dc-encoder keys rotate --role {role}`",
        dir.display()
    )]
    NoSigningKey {
        /// What it should sign.
        role: &'static str,
        /// The folder.
        dir: PathBuf,
    },
    /// Nothing in the ring is called that.
    #[error(
        "no key {0:?} is in the ring: write its name, or its digits from the first on, as `dc-encoder keys show` does"
    )]
    UnknownKey(String),
    /// It is revoked already.
    #[error("key {0} is revoked already")]
    AlreadyRevoked(String),
    /// A ring or key that is not in order.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The system refused.
    #[error(transparent)]
    Files(#[from] PkiError),
    /// The certificate library could not make a key.
    #[error("cannot make a key: {0}")]
    Make(#[from] rcgen::Error),
}
