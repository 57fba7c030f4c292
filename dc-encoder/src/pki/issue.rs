//! Making a certificate and its folder.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{
    Certificate, CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::DnsName;
use shared::tls::{Role, camera_uri, check_camera_name, serial_hex};

use super::authority::{Authority, MAX_COMMON_NAME, base_params, end, new_key};
use super::record::Record;
use super::{CAMERA_DAYS, OPERATOR_DAYS, PkiError, SERVER_DAYS, files};

/// Who a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A camera box.
    Camera(String),
    /// An encoder server, by the host names and addresses that agents connect to.
    Server(Vec<String>),
    /// A person or program that administers.
    Operator(String),
}

/// A certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who it is for.
    pub subject: Subject,
    /// Lifetime in days; the role's default when `None`.
    pub days: Option<u32>,
    /// Folder to write; `DIR/server`, `DIR/cameras/NAME` or `DIR/operators/NAME` when `None`.
    pub out: Option<PathBuf>,
}

/// A certificate that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub dir: PathBuf,
    /// Its line in the journal.
    pub record: Record,
}

impl Authority {
    /// Makes key and certificate, records them, and writes the identity folder. A server's folder outside the
    /// authority's also gets the current `crl.pem`, so that it can be copied as it is.
    pub fn issue(&self, request: &Request, now: Timestamp) -> Result<Issued, PkiError> {
        let plan = Plan::of(request)?;
        let days = self.check_days(plan.days, now)?;
        let dir = request.out.clone().unwrap_or_else(|| self.dir.join(&plan.folder));
        for name in IDENTITY_FILES {
            if dir.join(name).exists() {
                return Err(PkiError::IdentityExists(dir.join(name)));
            }
        }
        let key = new_key()?;
        let (record, cert) = self.certify(&plan, &key, days, now)?;
        let crl = (plan.role == Role::Server && request.out.is_some()).then(|| self.crl_path());
        write_identity(&dir, [&self.ca_pem, &cert.pem(), &key.serialize_pem()], crl.as_deref())?;
        Ok(Issued { dir, record })
    }

    /// Makes a camera's certificate for a key that is somewhere else, and records it.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn certify_camera(
        &self,
        camera: &str,
        key: &impl PublicKeyData,
        days: u32,
        now: Timestamp,
    ) -> Result<(Record, Certificate), PkiError> {
        let request = Request { subject: Subject::Camera(camera.to_owned()), days: Some(days), out: None };
        let plan = Plan::of(&request)?;
        let days = self.check_days(plan.days, now)?;
        self.certify(&plan, key, days, now)
    }

    /// The record is on the disk before the certificate is anywhere.
    fn certify(
        &self,
        plan: &Plan,
        key: &impl PublicKeyData,
        days: u32,
        now: Timestamp,
    ) -> Result<(Record, Certificate), PkiError> {
        let mut params = base_params(&plan.common_name(), now, days);
        plan.describe(&mut params)?;
        let cert = params.signed_by(key, &self.issuer).map_err(PkiError::make("certificate"))?;
        let record = Record {
            serial: serial_of(&params),
            role: plan.role,
            name: plan.name.clone(),
            hosts: plan.hosts.clone(),
            issued_at: now,
            not_after: end(now, days),
        };
        self.journal.append(&record)?;
        Ok((record, cert))
    }

    pub(super) fn check_days(&self, days: u32, now: Timestamp) -> Result<u32, PkiError> {
        let until = self.not_after();
        let most = (until.as_second() - now.as_second()) / 86_400;
        if days == 0 || i64::from(days) > most {
            return Err(PkiError::Days { days, most, until });
        }
        Ok(days)
    }
}

/// As this project writes it.
pub(super) fn serial_of(params: &CertificateParams) -> String {
    params.serial_number.as_ref().map_or_else(String::new, |serial| serial_hex(&serial.to_bytes()))
}

/// What an identity folder holds; the key is written first and the certificate last.
const IDENTITY_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

fn write_identity(dir: &Path, [ca, cert, key]: [&str; 3], crl: Option<&Path>) -> Result<(), PkiError> {
    files::create_dir(dir)?;
    let mut written: Vec<PathBuf> = Vec::new();
    let all =
        [("key.pem", files::SECRET, key), ("ca.pem", files::PUBLIC, ca), ("cert.pem", files::PUBLIC, cert)]
            .into_iter()
            .try_for_each(|(name, mode, text)| {
                files::create(&dir.join(name), mode, text)?;
                written.push(dir.join(name));
                Ok(())
            })
            .and_then(|()| match crl {
                Some(crl) => {
                    std::fs::copy(crl, dir.join("crl.pem")).map(drop).map_err(PkiError::io("copy", crl))
                }
                None => Ok(()),
            })
            .and_then(|()| files::sync_dir(dir));
    if all.is_err() {
        // Half an identity is worse than none: the next attempt would refuse the folder.
        written.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
    all
}

/// A request, checked.
struct Plan {
    role: Role,
    name: String,
    hosts: Vec<String>,
    folder: PathBuf,
    days: u32,
}

impl Plan {
    fn of(request: &Request) -> Result<Self, PkiError> {
        let (role, name, hosts, folder, days) = match &request.subject {
            Subject::Camera(name) => {
                check_camera_name(name)?;
                (Role::Camera, name.clone(), vec![], Path::new("cameras").join(name), CAMERA_DAYS)
            }
            Subject::Operator(name) => {
                check_camera_name(name).map_err(|_| PkiError::OperatorName(name.clone()))?;
                (Role::Operator, name.clone(), vec![], Path::new("operators").join(name), OPERATOR_DAYS)
            }
            Subject::Server(hosts) => {
                let first = hosts.first().ok_or_else(|| PkiError::Host(String::new()))?;
                (Role::Server, first.clone(), hosts.clone(), "server".into(), SERVER_DAYS)
            }
        };
        Ok(Self { role, name, hosts, folder, days: request.days.unwrap_or(days) })
    }

    fn common_name(&self) -> String {
        self.name.chars().take(MAX_COMMON_NAME).collect()
    }

    /// Names, and what the key may be used for.
    fn describe(&self, params: &mut CertificateParams) -> Result<(), PkiError> {
        let uri = |uri: String| uri.try_into().map(SanType::URI).map_err(PkiError::make("certificate"));
        params.subject_alt_names = self.hosts.iter().map(|h| host(h)).collect::<Result<_, _>>()?;
        params.subject_alt_names.push(uri(self.role.uri())?);
        if self.role == Role::Camera {
            params.subject_alt_names.push(uri(camera_uri(&self.name))?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Camera | Role::Operator | Role::Enroller => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        Ok(())
    }
}

fn host(host: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let bad = || PkiError::Host(host.to_owned());
    DnsName::try_from(host).map_err(|_| bad())?;
    host.try_into().map(SanType::DnsName).map_err(|_| bad())
}
