//! Certificates for the agent's tests.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use shared::tls::{PkiPaths, Role, camera_uri};

/// A certificate authority in a folder of its own, with one encoder and any number of cameras.
pub struct Pki {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = params("test CA", (2020, 2090));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), ca }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Identity folder of a camera.
    pub fn camera(&self, name: &str) -> PathBuf {
        self.camera_valid(name, (2020, 2090))
    }

    /// The same for a certificate of other years.
    pub fn camera_valid(&self, name: &str, years: (i32, i32)) -> PathBuf {
        let mut params = params(name, years);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(Role::Camera.uri()), uri(camera_uri(name))];
        self.issue(name, params)
    }

    /// What an encoder on this machine needs.
    pub fn encoder(&self) -> PkiPaths {
        let mut params = params("localhost", (2020, 2090));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let host = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let loopback = SanType::IpAddress("127.0.0.1".parse().unwrap());
        params.subject_alt_names = vec![uri(Role::Server.uri()), host("localhost"), loopback];
        let identity = self.issue("encoder", params);
        let crl = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl_path = self.path().join("crl.pem");
        std::fs::write(&crl_path, crl.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        PkiPaths::new(&identity, &crl_path)
    }

    fn issue(&self, folder: &str, mut params: CertificateParams) -> PathBuf {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let dir = self.path().join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("ca.pem"), &self.ca).unwrap();
        std::fs::write(dir.join("cert.pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(dir.join("key.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        dir
    }
}

fn params(name: &str, (from, until): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    params
}

fn uri(text: String) -> SanType {
    SanType::URI(text.try_into().unwrap())
}
