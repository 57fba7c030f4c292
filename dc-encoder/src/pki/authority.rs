//! The authority's folder: made once, opened under a lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use shared::tls::Presented;

use super::record::Journal;
use super::{BACKDATE, CA_DAYS, PkiError, files, revoke};

/// Largest certificate or key file of the authority: about 1 kB each.
const MAX_PEM_BYTES: u64 = 256 * 1024;

/// Longest common name (X.520, upper bound `ub-common-name`).
pub(super) const MAX_COMMON_NAME: usize = 64;

/// An open authority. Holds the folder's lock, so that two commands cannot take the same list number.
pub struct Authority {
    pub(super) dir: PathBuf,
    pub(super) ca_pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What the CA certificate says of itself.
    pub(super) presented: Presented,
    pub(super) journal: Journal,
    _lock: File,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).field("name", &self.presented.name).finish()
    }
}

impl Authority {
    /// Makes a new authority in `dir`: `ca.key` (readable by its owner only), `ca.pem`, an empty `crl.pem` and an
    /// empty `issued.jsonl`. Overwrites nothing. Without a name it gets one of its own, so that certificates of
    /// two authorities are told apart.
    pub fn init(dir: &Path, name: Option<&str>, now: Timestamp) -> Result<Self, PkiError> {
        let name = name.map_or_else(unique_name, str::to_owned);
        if name.is_empty() || name.chars().count() > MAX_COMMON_NAME || name.chars().any(char::is_control) {
            return Err(PkiError::AuthorityName(name));
        }
        files::create_dir(dir)?;
        let lock = files::lock(dir)?;
        let journal = Journal::at(dir);
        for path in [dir.join("ca.pem"), dir.join("ca.key"), dir.join("crl.pem"), journal.path().into()] {
            if path.exists() {
                return Err(PkiError::AuthorityExists(path));
            }
        }
        let key = new_key()?;
        let params = ca_params(&name, now);
        let ca = params.self_signed(&key).map_err(PkiError::make("CA certificate"))?;
        files::create(&dir.join("ca.key"), files::SECRET, &key.serialize_pem())?;
        files::create(journal.path(), files::PUBLIC, "")?;
        files::create(&dir.join("ca.pem"), files::PUBLIC, &ca.pem())?;
        let authority = Self::assemble(dir, ca.pem(), key, lock)?;
        revoke::write_first(&authority, now)?;
        Ok(authority)
    }

    /// Opens the authority in `dir`, waiting for another command to finish.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        for name in ["ca.pem", "ca.key"] {
            let path = dir.join(name);
            if !path.exists() {
                return Err(PkiError::NoAuthority { path, dir: dir.into() });
            }
        }
        let lock = files::lock(dir)?;
        let ca_pem = files::read(&dir.join("ca.pem"), MAX_PEM_BYTES)?;
        let key_pem = files::read(&dir.join("ca.key"), MAX_PEM_BYTES)?;
        let key = KeyPair::from_pem(&key_pem).map_err(|e| unusable(dir, &format!("ca.key: {e}")))?;
        Self::assemble(dir, ca_pem, key, lock)
    }

    fn assemble(dir: &Path, ca_pem: String, key: KeyPair, lock: File) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|e| unusable(dir, &format!("ca.pem: {e}")))?;
        let presented = Presented::parse(&der).map_err(|e| unusable(dir, &format!("ca.pem: {e}")))?;
        if !owns(&key, &der) {
            return Err(unusable(dir, "ca.key is not the key of ca.pem"));
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|e| unusable(dir, &format!("ca.pem: {e}")))?;
        Ok(Self { dir: dir.into(), ca_pem, issuer, presented, journal: Journal::at(dir), _lock: lock })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its own certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
            .expect("it was parsed when the folder was opened")
    }

    /// Every certificate it ever made, oldest first.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn issued(&self) -> Result<Vec<super::record::Record>, PkiError> {
        self.journal.read()
    }

    /// Its common name.
    pub fn name(&self) -> &str {
        &self.presented.name
    }

    /// End of its validity, and so of every certificate's.
    pub fn not_after(&self) -> Timestamp {
        self.presented.not_after
    }
}

fn ca_params(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = base_params(name, now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)); // signs devices, and enrollers that sign cameras
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Common name, validity and a fresh serial number.
pub(super) fn base_params(name: &str, now: Timestamp, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen_time(backdated(now));
    params.not_after = rcgen_time(end(now, days));
    params.serial_number = Some(SerialNumber::from_slice(&new_serial()));
    params
}

/// Start of validity of what is made now.
pub(super) fn backdated(now: Timestamp) -> Timestamp {
    now.saturating_sub(BACKDATE).expect("an unsigned duration is always in range")
}

/// End of validity of what is made now.
pub(super) fn end(now: Timestamp, days: u32) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(24 * i64::from(days)))
        .expect("a signed duration is always in range")
}

/// The certificate library's time, in whole seconds as certificates have it.
pub(super) fn rcgen_time(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::make("key"))
}

/// 128 bits from the system's generator, of which two are fixed: the number is positive and never shorter.
pub(super) fn new_serial() -> [u8; 16] {
    let mut serial = [0; 16];
    rand::rng().fill_bytes(&mut serial);
    serial[0] = (serial[0] & 0x3f) | 0x40;
    serial
}

fn unique_name() -> String {
    let mut tag = [0; 4];
    rand::rng().fill_bytes(&mut tag);
    format!("Fine-Tuned Heads CA {}", shared::tls::serial_hex(&tag))
}

fn owns(key: &KeyPair, der: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(der)
        .is_ok_and(|(_, cert)| &*cert.public_key().subject_public_key.data == key.public_key_raw())
}

fn unusable(dir: &Path, detail: &str) -> PkiError {
    PkiError::Unusable { dir: dir.into(), detail: detail.to_owned() }
}
