//! Certificates, keys and lists on disk.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::authority::Authorities;
use super::peer::{PeerError, PeerIdentity, Presented};
use super::rejected::Rejected;

/// Largest certificate or key file: ours are about 1 kB; chains of other authorities stay far below this.
const MAX_IDENTITY_BYTES: u64 = 256 * 1024;

/// Identity files that cannot be used; every message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}{}", path.display(), remedy(source, what))]
    Read {
        /// `certificate`, `private key`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any such file.
    #[error("the {what} {} is larger than {limit} bytes: this is some other file", path.display())]
    TooLarge {
        /// `certificate`, `private key`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file has no PEM block of the right kind.
    #[error(
        "the {what} {} is not PEM ({detail}): it must hold a block that starts with `{begin}`",
        path.display()
    )]
    NotPem {
        /// `certificate`, `private key`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The line that must be there.
        begin: &'static str,
        /// What the reader said.
        detail: String,
    },
    /// The certificate is not one of ours.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PeerError,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key {} does not belong to the certificate {}: copy both from one `dc-encoder pki issue` folder",
        key.display(), cert.display()
    )]
    KeyMismatch {
        /// Key file.
        key: PathBuf,
        /// Certificate file.
        cert: PathBuf,
    },
    /// The key cannot be used.
    #[error("the private key {} cannot be used ({detail}): issue a new one with `dc-encoder pki issue`", path.display())]
    Key {
        /// Key file.
        path: PathBuf,
        /// What the TLS library said.
        detail: String,
    },
    /// The CA did not sign the certificate.
    #[error(
        "the certificate {} was not signed by the CA in {}: both must come from one `dc-encoder pki`",
        cert.display(), ca.display()
    )]
    OtherAuthority {
        /// Certificate file.
        cert: PathBuf,
        /// CA file.
        ca: PathBuf,
    },
}

fn remedy(source: &std::io::Error, what: &str) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            format!(": the {what} comes from the folder that `dc-encoder pki issue` made")
        }
        std::io::ErrorKind::PermissionDenied => {
            ": run as the user who owns it, or give that user the file with `chown`".to_owned()
        }
        _ => String::new(),
    }
}

/// The files a server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiPaths {
    /// CA certificate.
    pub ca: PathBuf,
    /// Server certificate.
    pub cert: PathBuf,
    /// Server key.
    pub key: PathBuf,
    /// Revocation list, watched while serving.
    pub crl: PathBuf,
}

impl PkiPaths {
    /// `DIR/server/{ca,cert,key}.pem` with `DIR/crl.pem` where `dc-encoder pki` works, or all four files in
    /// `DIR` itself, as copied to a server. The CA's private key is not needed and should not be there.
    pub fn in_dir(dir: &Path) -> Self {
        let server = dir.join("server");
        let identity = if server.join("cert.pem").exists() { &server } else { dir };
        Self::new(identity, &dir.join("crl.pem"))
    }

    /// An identity folder, and a revocation list that may be elsewhere.
    pub fn new(identity: &Path, crl: &Path) -> Self {
        Self {
            ca: identity.join("ca.pem"),
            cert: identity.join("cert.pem"),
            key: identity.join("key.pem"),
            crl: crl.to_owned(),
        }
    }
}

/// Our own certificate and key, and the CA we trust. Clones share one copy.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roots: Arc<RootCertStore>,
    authorities: Authorities,
    /// The authority that signed the chain.
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    me: PeerIdentity,
    warnings: Vec<String>,
    rejected: Rejected,
}

impl Identity {
    /// Loads `ca.pem`, `cert.pem` and `key.pem` from a folder and checks that they belong together.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        Self::load_files(&PkiPaths::new(dir, Path::new("")))
    }

    /// [`load`](Self::load) for files at any place; the revocation list is not read.
    pub fn load_files(paths: &PkiPaths) -> Result<Self, IdentityError> {
        let (roots, authorities, cas) = load_ca(&paths.ca)?;
        let chain = read_certs("certificate", &paths.cert)?;
        let me = Presented::parse(&chain[0])
            .and_then(|presented| presented.identity())
            .map_err(|source| IdentityError::Certificate { path: paths.cert.clone(), source })?;
        let last = chain.last().expect("read_certs returns at least one");
        let Some(authority) = cas.into_iter().find(|ca| Authorities::signed_by(last, ca)) else {
            return Err(IdentityError::OtherAuthority { cert: paths.cert.clone(), ca: paths.ca.clone() });
        };
        let key = read_key(&paths.key)?;
        check_key(&chain, &key, paths)?;
        let warnings: Vec<String> = exposed(&paths.key).into_iter().collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let rejected = Rejected::default();
        let roots = Arc::new(roots);
        Ok(Self(Arc::new(Inner { roots, authorities, authority, chain, key, me, warnings, rejected })))
    }

    /// Who our own certificate says we are.
    pub fn me(&self) -> &PeerIdentity {
        &self.0.me
    }

    /// Things that work but should be put right, such as a key that others can read. Already logged.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Whether our own certificate is valid at this time.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.0.me.not_before..=self.0.me.not_after).contains(&now)
    }

    /// The authority that signed our certificate, or the one between.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.0.authority
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.0.roots.clone()
    }

    pub(super) fn authorities(&self) -> &Authorities {
        &self.0.authorities
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.0.key.clone_key()
    }

    /// The last certificate a handshake refused here, kept so that its error can be explained.
    pub(super) fn rejected(&self) -> &Rejected {
        &self.0.rejected
    }
}

fn load_ca(path: &Path) -> Result<(RootCertStore, Authorities, Vec<CertificateDer<'static>>), IdentityError> {
    let certs = read_certs("CA certificate", path)?;
    let bad = |detail: String| IdentityError::Certificate {
        path: path.into(),
        source: PeerError::NotACertificate(detail),
    };
    let authorities = Authorities::new(&certs).map_err(bad)?;
    let mut roots = RootCertStore::empty();
    for cert in &certs {
        roots.add(cert.clone()).map_err(|e| bad(e.to_string()))?;
    }
    Ok((roots, authorities, certs))
}

fn check_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    paths: &PkiPaths,
) -> Result<(), IdentityError> {
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(IdentityError::KeyMismatch { key: paths.key.clone(), cert: paths.cert.clone() })
        }
        Err(e) => Err(IdentityError::Key { path: paths.key.clone(), detail: e.to_string() }),
    }
}

/// A warning when anyone on the machine can read the key, or its group can change it.
fn exposed(key: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key).ok()?.permissions().mode() & 0o777;
    (mode & 0o027 != 0).then(|| {
        let path = key.display();
        format!("the private key {path} has mode {mode:o}: others can use it; run `chmod 600 {path}`")
    })
}

fn read_certs(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read_limited(what, path, MAX_IDENTITY_BYTES)?;
    let certs: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| not_pem(what, path, &e))?;
    if certs.is_empty() {
        return Err(not_pem(what, path, &rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certs)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let pem = read_limited("private key", path, MAX_IDENTITY_BYTES)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| not_pem("private key", path, &e))
}

fn not_pem(what: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> IdentityError {
    let begin =
        if what == "private key" { "-----BEGIN PRIVATE KEY-----" } else { "-----BEGIN CERTIFICATE-----" };
    IdentityError::NotPem { what, path: path.into(), begin, detail: error.to_string() }
}

/// Reads a file of at most `limit` bytes; a larger one is refused before it is in memory.
pub(super) fn read_limited(what: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { what, path: path.into(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(IdentityError::TooLarge { what, path: path.into(), limit });
    }
    Ok(bytes)
}

/// The cryptography both sides use; passed explicitly, so no process-wide default is needed.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
