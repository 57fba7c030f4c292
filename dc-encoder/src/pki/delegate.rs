//! An enroller: what an encoder server makes cameras' certificates with, so that the authority's key stays offline.
//!
//! ```text
//! pki/ca.key (offline) ─signs─► enroll/ca.pem: client authentication only ─signs─► cameras
//! ```
//! What it signs passes for a camera and for nothing else: TLS holds its purpose (no servers), the encoder its place
//! in the chain (no operators), and its serial number can be revoked like any other.

use std::path::Path;

use jiff::Timestamp;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use shared::tls::Role;

use super::authority::{Authority, base_params, end, new_key};
use super::issue::serial_of;
use super::record::Record;
use super::{PkiError, files};

/// The certificate of the authority above, in an enroller's folder.
pub(crate) const ROOT: &str = "root.pem";

impl Authority {
    /// Makes an enroller in a new folder, `days` valid. Its folder opens with [`Authority::open`].
    ///
    /// # Errors
    /// A folder that has an authority, a lifetime beyond this authority's, an authority that may have none below.
    pub fn delegate(&self, dir: &Path, days: u32, now: Timestamp) -> Result<Record, PkiError> {
        let days = self.check_days(days, now)?;
        if !self.may_delegate() {
            return Err(PkiError::NoEnrollers(self.dir.clone()));
        }
        files::create_dir(dir)?;
        let _lock = files::lock(dir)?;
        for name in ["ca.pem", "ca.key", "issued.jsonl"] {
            if dir.join(name).exists() {
                return Err(PkiError::AuthorityExists(dir.join(name)));
            }
        }
        let name = format!("enroller of {}", self.name());
        let name: String = name.chars().take(super::authority::MAX_COMMON_NAME).collect();
        let key = new_key()?;
        let mut params = base_params(&name, now, days);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let role =
            Role::Enroller.uri().try_into().map(SanType::URI).map_err(PkiError::make("certificate"))?;
        params.subject_alt_names = vec![role];
        let cert = params.signed_by(&key, &self.issuer).map_err(PkiError::make("certificate"))?;
        let record = Record {
            serial: serial_of(&params),
            role: Role::Enroller,
            name,
            hosts: vec![],
            issued_at: now,
            not_after: end(now, days),
        };
        self.journal.append(&record)?;
        files::create(&dir.join("ca.key"), files::SECRET, &key.serialize_pem())?;
        files::create(&dir.join("issued.jsonl"), files::PUBLIC, "")?;
        files::create(&dir.join(ROOT), files::PUBLIC, &self.ca_pem)?;
        files::create(&dir.join("ca.pem"), files::PUBLIC, &cert.pem())?;
        files::sync_dir(dir)?;
        Ok(record)
    }

    fn may_delegate(&self) -> bool {
        let allows = |pem: x509_parser::pem::Pem| {
            let cert = pem.parse_x509().ok()?;
            let constraints = cert.basic_constraints().ok()??.value.path_len_constraint;
            Some(constraints.is_none_or(|below| below > 0))
        };
        x509_parser::pem::parse_x509_pem(self.ca_pem.as_bytes())
            .is_ok_and(|(_, pem)| allows(pem) == Some(true))
    }
}
