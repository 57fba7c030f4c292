//! Which heads may run here: those that a key of the ring signed, unless a person said otherwise.

use std::path::{Path, PathBuf};

use protocol::ReleaseId;
use shared::release::{HeadSignature, PublicKey, ReleaseError, Trust, signature_path};

use super::store::{Store, StoreError};
use crate::config::Settings;
use crate::heads::Loaded;

/// Why a head may not run here, or nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No root key was named.
    #[error(
        "head {}: there is no root key to check its signature with; name one (--release-root root.pub, with key-ring \
         beside it), or run heads that nobody signed: --allow-unsigned", .0.display()
    )]
    NoRoot(PathBuf),
    /// A head's signature is not accepted.
    #[error(
        "head {}: {source}. Sign it (`dc-encoder head sign`) and copy its .sig along, or run heads that nobody \
         signed: --allow-unsigned", path.display()
    )]
    Head {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<ReleaseError>,
    },
    /// A store that nothing could come into.
    #[error(
        "heads_dir is set, and there is no root key that says which heads may come into it: --release-root root.pub, \
         with key-ring beside it, or --allow-unsigned"
    )]
    StoreWithoutRoot,
    /// The root key or the ring cannot be used.
    #[error("release_root: {0}")]
    Trust(#[from] ReleaseError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a release comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The encoder's server.
    Wire,
    /// A person on the box.
    Local,
    /// It was accepted before, and is on the disk.
    Kept,
}

/// What is trusted.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The root and the newest ring.
    pub trust: Option<Trust>,
    /// Heads of this box's own (`--head`, `heads install`) need no signature. Releases that come over the wire do.
    pub allow_unsigned: bool,
}

impl Gate {
    /// Reads root and ring: the one beside the root, or the store's, which may be newer.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn open(settings: &Settings, store: Option<&Store>) -> Result<Self, GateError> {
        let allow_unsigned = settings.allow_unsigned;
        let Some(path) = &settings.release_root else {
            if store.is_some() && !allow_unsigned {
                return Err(GateError::StoreWithoutRoot);
            }
            return Ok(Self { trust: None, allow_unsigned });
        };
        let kept = store.map(Store::ring).transpose()?.flatten();
        let beside = path.with_file_name("key-ring");
        let trust = match kept {
            Some(kept) => {
                let mut trust = Trust::new(PublicKey::load(path)?, &kept)?;
                if let Ok(document) = std::fs::read(&beside) {
                    match trust.update(&document) {
                        // Older is what it becomes as soon as a newer one was pushed.
                        Ok(_) | Err(ReleaseError::OlderRing { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                trust
            }
            None => Trust::load(path, &beside)?,
        };
        if let Some(store) = store {
            store.keep_ring(trust.document())?;
        }
        Ok(Self { trust: Some(trust), allow_unsigned })
    }

    /// Checks a head file that a person named: its signature is beside it.
    ///
    /// # Errors
    /// [`GateError::NoRoot`], [`GateError::Head`].
    pub fn check_file(&self, path: &Path, loaded: &Loaded) -> Result<(), GateError> {
        if self.allow_unsigned {
            return Ok(());
        }
        let trust = self.trust.as_ref().ok_or_else(|| GateError::NoRoot(path.to_owned()))?;
        let signed = HeadSignature::load(&signature_path(path))
            .and_then(|signature| trust.verify_release(loaded.release, &signature).map(|_| ()));
        signed.map_err(|source| GateError::Head { path: path.to_owned(), source: Box::new(source) })
    }

    /// Checks the signature of a release. One that was accepted before its key was revoked may go on: a camera does
    /// not go blind by a new ring. It is not accepted anew.
    ///
    /// # Errors
    /// Why it may not run here, in words.
    pub fn check(&self, release: ReleaseId, signature: Option<&[u8]>, origin: Origin) -> Result<(), String> {
        if self.allow_unsigned && origin != Origin::Wire && (signature.is_none() || origin == Origin::Local) {
            return Ok(());
        }
        let trust = self.trust.as_ref().ok_or("there is no root key here: set release_root")?;
        let signature = signature.ok_or("it is not signed: `dc-encoder head sign` signs it")?;
        let verified = HeadSignature::parse(signature).and_then(|signature| {
            trust.verify_release(release, &signature)?;
            Ok(())
        });
        match verified {
            Err(error @ ReleaseError::RevokedKey { .. }) if origin == Origin::Kept => {
                tracing::warn!("release {} goes on until another is wanted: {error}", release.short());
                Ok(())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }
}
