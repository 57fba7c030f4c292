//! The live revocation list.
//!
//! ```text
//! crl.pem ─(read every 200 ms)─► signature, number ─► watch channel ─┬─► new handshakes refused
//!                                       │                            └─► sessions of revoked peers closed
//!                                       └─ broken: the old list stays, an error is logged once
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::Authorities;
use super::files::{IdentityError, read_limited};
use super::peer::serial_hex;

/// How often the file is read: revocation must act within a second, and there must be time for a busy machine.
/// Size and times are not asked first: two writes within one tick of the file system's clock can leave both the
/// same, and reading a list of usual length costs no more.
const POLL: Duration = Duration::from_millis(200);
const _: () = assert!(POLL.as_millis() * 2 < 1000, "a revoked certificate must be out within a second");

/// Largest list: a revoked certificate takes about 50 bytes, so 300,000 of them.
const MAX_CRL_BYTES: u64 = 16 * 1024 * 1024;

/// Why a revocation list was refused.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// The file cannot be read.
    #[error("{0}; copy `crl.pem` from the folder where `dc-encoder pki` works")]
    Read(#[from] IdentityError),
    /// Not a revocation list.
    #[error("{} is not a revocation list in PEM ({detail}): copy `crl.pem` again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        detail: String,
    },
    /// Signed by someone else.
    #[error("the revocation list {} was not signed by our CA: copy `crl.pem` from the same `dc-encoder pki`", .0.display())]
    Signature(PathBuf),
    /// An older list, or another one with the same number.
    #[error(
        "the revocation list {} has number {number}, the one in use has {in_use}: an old list would let revoked \
         certificates back in; copy the newest `crl.pem`",
        path.display()
    )]
    Backwards {
        /// The file.
        path: PathBuf,
        /// Its number.
        number: u64,
        /// The number of the list in use.
        in_use: u64,
    },
}

/// One verified revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedSet {
    number: u64,
    serials: HashSet<String>,
}

impl RevokedSet {
    /// The list's number; each new list has a higher one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether it names this serial (lowercase hex without leading zero bytes).
    pub fn contains(&self, serial: &str) -> bool {
        self.serials.contains(serial)
    }

    /// How many certificates it names.
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    fn parse(path: &Path, pem: &[u8], authorities: &Authorities) -> Result<Self, CrlError> {
        let malformed = |detail: String| CrlError::Malformed { path: path.into(), detail };
        let der = CertificateRevocationListDer::from_pem_slice(pem).map_err(|e| malformed(e.to_string()))?;
        let (rest, crl) = CertificateRevocationList::from_der(&der).map_err(|e| malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes after its end".to_owned()));
        }
        let tbs = &crl.tbs_cert_list;
        if !authorities.verify(tbs.issuer.as_raw(), tbs.as_ref(), &crl.signature_value.data) {
            return Err(CrlError::Signature(path.into()));
        }
        let number = crl.crl_number().ok_or_else(|| malformed("it has no number".to_owned()))?;
        let number = u64::try_from(number).map_err(|_| malformed(format!("number {number} is too large")))?;
        let serials = crl.iter_revoked_certificates().map(|cert| serial_hex(cert.raw_serial())).collect();
        Ok(Self { number, serials })
    }
}

/// The live revocation list. Clones share it.
#[derive(Debug, Clone)]
pub struct Revocations(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    authorities: Authorities,
    current: watch::Sender<Arc<RevokedSet>>,
    /// The file's text when it was last looked at, good or bad: only a change is worth parsing.
    seen: Mutex<Vec<u8>>,
}

impl Revocations {
    pub(super) fn load(path: &Path, authorities: Authorities) -> Result<Self, CrlError> {
        let pem = read(path)?;
        let list = RevokedSet::parse(path, &pem, &authorities)?;
        let current = watch::Sender::new(Arc::new(list));
        Ok(Self(Arc::new(Shared { path: path.into(), authorities, current, seen: Mutex::new(pem) })))
    }

    /// Whether the serial (lowercase hex without leading zero bytes) is revoked now.
    pub fn is_revoked(&self, serial: &str) -> bool {
        self.0.current.borrow().contains(serial)
    }

    /// Returns when the serial is revoked; at once if it already is. Cancel-safe. A session awaits this beside
    /// its work and closes with [`protocol::close::REVOKED`].
    pub async fn revoked(&self, serial: &str) {
        let mut list = self.0.current.subscribe();
        let found = list.wait_for(|list| list.contains(serial)).await;
        found.expect("self holds the sender");
    }

    /// The list in use and, through [`watch::Receiver::changed`], every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<RevokedSet>> {
        self.0.current.subscribe()
    }

    /// Reads the file now. `Ok(true)` when a newer list is in use; a refused list leaves the old one in use and
    /// is an error once, until the file changes again.
    pub fn reload(&self) -> Result<bool, CrlError> {
        let shared = &*self.0;
        let pem = read(&shared.path)?;
        {
            let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == pem {
                return Ok(false);
            }
            seen.clone_from(&pem);
        }
        let list = RevokedSet::parse(&shared.path, &pem, &shared.authorities)?;
        let mut refused = None;
        let newer = shared.current.send_if_modified(|current| {
            if list == **current {
                return false; // the same list, written again
            }
            if list.number <= current.number {
                refused = Some((list.number, current.number));
                return false;
            }
            *current = Arc::new(list);
            true
        });
        match refused {
            Some((number, in_use)) => Err(CrlError::Backwards { path: shared.path.clone(), number, in_use }),
            None => Ok(newer),
        }
    }

    /// Follows the file until the guard is dropped. Call inside a tokio runtime.
    #[must_use = "the list is followed only while the guard lives"]
    pub fn watch(&self) -> WatchGuard {
        WatchGuard(tokio::spawn(follow(self.clone())))
    }
}

/// Stops following the revocation list when dropped.
#[derive(Debug)]
pub struct WatchGuard(tokio::task::JoinHandle<()>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(revocations: Revocations) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut missing = false;
    loop {
        ticks.tick().await;
        let reader = revocations.clone();
        // Off the runtime: a list on a network file system may take its time.
        let Ok(outcome) = tokio::task::spawn_blocking(move || reader.reload()).await else { continue };
        report(&revocations, outcome, &mut missing);
    }
}

/// Logs what happened, and a file that cannot be read only once.
fn report(revocations: &Revocations, outcome: Result<bool, CrlError>, missing: &mut bool) {
    let current = revocations.0.current.borrow().clone();
    match outcome {
        Ok(newer) => {
            *missing = false;
            if newer {
                let (number, revoked) = (current.number(), current.len());
                tracing::info!(number, revoked, "revocation list updated");
            }
        }
        Err(CrlError::Read(_)) if *missing => {}
        Err(error) => {
            *missing = matches!(error, CrlError::Read(_));
            let in_use = current.number();
            tracing::error!(in_use, "{error}; the list in use stays");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    read_limited("revocation list", path, MAX_CRL_BYTES)
}
