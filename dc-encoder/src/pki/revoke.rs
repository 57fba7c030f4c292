//! The revocation list: written whole, each time with the next number.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use shared::tls::{Role, serial_hex};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::{Authority, rcgen_time};
use super::record::{Journal, Record};
use super::{PkiError, files};

/// Largest list; as much as a server reads.
const MAX_CRL_BYTES: u64 = 16 * 1024 * 1024;

/// Which certificates to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of a camera.
    Camera(String),
    /// All of a server, by its first host name.
    Server(String),
    /// All of an operator.
    Operator(String),
    /// One, by serial number in hex.
    Serial(String),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera(name) => write!(f, "camera {name}"),
            Self::Server(name) => write!(f, "server {name}"),
            Self::Operator(name) => write!(f, "operator {name}"),
            Self::Serial(serial) => write!(f, "serial {serial}"),
        }
    }
}

impl Selector {
    fn matches(&self, record: &Record) -> bool {
        match self {
            Self::Camera(name) => record.role == Role::Camera && record.name == *name,
            Self::Server(name) => record.role == Role::Server && record.name == *name,
            Self::Operator(name) => record.role == Role::Operator && record.name == *name,
            Self::Serial(serial) => record.serial == *serial,
        }
    }

    /// The same selector with its serial number as this project writes it.
    fn canonical(&self) -> Result<Self, PkiError> {
        let Self::Serial(text) = self else { return Ok(self.clone()) };
        let hex = text.trim().replace(':', "").to_ascii_lowercase();
        let hex = hex.strip_prefix("0x").unwrap_or(&hex).trim_start_matches('0');
        if hex.is_empty() || hex.len() > 40 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PkiError::Serial(text.clone()));
        }
        let pad = if hex.len().is_multiple_of(2) { "" } else { "0" };
        Ok(Self::Serial(format!("{pad}{hex}")))
    }
}

/// Whether a certificate lets its holder in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Valid,
    /// No longer, by its date.
    Expired,
    /// No longer, by the list.
    Revoked,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// A certificate and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its line in the journal.
    pub record: Record,
    /// Whether it lets its holder in.
    pub state: State,
}

impl Authority {
    /// Where the list is.
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Revokes every certificate that matches and is neither expired nor revoked, and writes the new list in one
    /// step. Returns them.
    pub fn revoke(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Record>, PkiError> {
        self.revoke_among(selector, None, now)
    }

    /// [`revoke`](Self::revoke), also among the certificates of an enroller, by its journal.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke), and an `enrolled` that is no journal.
    pub fn revoke_among(
        &self,
        selector: &Selector,
        enrolled: Option<&Path>,
        now: Timestamp,
    ) -> Result<Vec<Record>, PkiError> {
        let selector = selector.canonical()?;
        let mut crl = Crl::read(self)?;
        let enrolled = enrolled.map(|path| Journal::file(path).read()).transpose()?.unwrap_or_default();
        let issued = self.journal.read()?.into_iter().chain(enrolled);
        let issued: Vec<Record> = issued.filter(|r| selector.matches(r)).collect();
        if issued.is_empty() {
            return Err(PkiError::NeverIssued(selector.to_string()));
        }
        let live: Vec<Record> =
            issued.into_iter().filter(|r| r.not_after > now && !crl.contains(&r.serial)).collect();
        if live.is_empty() {
            return Err(PkiError::NothingToRevoke(selector.to_string()));
        }
        crl.number += 1;
        crl.entries.extend(live.iter().map(|r| Entry { serial: unhex(&r.serial), at: now }));
        crl.write(self, now)?;
        Ok(live)
    }

    /// Everything ever issued, oldest first.
    pub fn list(&self, now: Timestamp) -> Result<Vec<Listed>, PkiError> {
        let crl = Crl::read(self)?;
        let state = |record: &Record| match record {
            r if crl.contains(&r.serial) => State::Revoked,
            r if r.not_after <= now => State::Expired,
            _ => State::Valid,
        };
        Ok(self.journal.read()?.into_iter().map(|r| Listed { state: state(&r), record: r }).collect())
    }
}

/// Writes the first, empty list of a new authority.
pub(super) fn write_first(authority: &Authority, now: Timestamp) -> Result<(), PkiError> {
    Crl { number: 1, entries: Vec::new() }.write(authority, now)
}

/// A revocation list, open for additions. Entries stay after their certificates expire: a server's clock may be
/// behind.
struct Crl {
    number: u64,
    entries: Vec<Entry>,
}

struct Entry {
    serial: Vec<u8>,
    at: Timestamp,
}

impl Crl {
    fn read(authority: &Authority) -> Result<Self, PkiError> {
        let path = authority.crl_path();
        let bad = |detail: String| PkiError::Crl { path: path.clone(), detail };
        let pem = files::read(&path, MAX_CRL_BYTES).map_err(|e| bad(e.to_string()))?;
        let der =
            CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, crl) = CertificateRevocationList::from_der(&der).map_err(|e| bad(e.to_string()))?;
        let number = crl.crl_number().and_then(|n| u64::try_from(n).ok());
        let number = number.ok_or_else(|| bad("it has no usable number".to_owned()))?;
        let entry = |cert: &x509_parser::revocation_list::RevokedCertificate<'_>| Entry {
            serial: cert.raw_serial().to_vec(),
            at: Timestamp::from_second(cert.revocation_date.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH),
        };
        Ok(Self { number, entries: crl.iter_revoked_certificates().map(entry).collect() })
    }

    fn contains(&self, serial: &str) -> bool {
        self.entries.iter().any(|entry| serial_hex(&entry.serial) == serial)
    }

    /// `next_update` is the authority's end: lists are made when something is revoked, not on a timetable, and a
    /// fleet must not stop because nothing was.
    fn write(&self, authority: &Authority, now: Timestamp) -> Result<(), PkiError> {
        let revoked = self.entries.iter().map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: rcgen_time(entry.at),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen_time(now),
            next_update: rcgen_time(authority.not_after()),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&authority.issuer).and_then(|crl| crl.pem());
        files::replace(&authority.crl_path(), &crl.map_err(PkiError::make("revocation list"))?)
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).filter_map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect()
}
