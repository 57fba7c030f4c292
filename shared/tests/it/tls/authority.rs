//! A small certificate authority for tests: every date, role and purpose can be chosen, right or wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use shared::tls::{PkiPaths, Role, camera_uri};

/// What a test certificate says.
pub struct Leaf {
    pub name: &'static str,
    pub role: Role,
    pub camera: Option<&'static str>,
    pub hosts: Vec<&'static str>,
    pub usage: ExtendedKeyUsagePurpose,
    pub serial: u8,
    /// Unix seconds.
    pub valid: [i64; 2],
}

impl Leaf {
    pub fn server(valid: [i64; 2]) -> Self {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let hosts = vec!["localhost", "127.0.0.1"];
        Self { name: "localhost", role: Role::Server, camera: None, hosts, usage, serial: 0x51, valid }
    }

    pub fn camera(name: &'static str, serial: u8, valid: [i64; 2]) -> Self {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        Self { name, role: Role::Camera, camera: Some(name), hosts: vec![], usage, serial, valid }
    }
}

pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new(name: &str, valid: [i64; 2]) -> Self {
        let mut params = params(name, valid);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem };
        authority.revoke(1, &[]);
        authority
    }

    /// Writes a folder with `cert.pem`, `key.pem`, and a `ca.pem` that names this authority and `also`.
    pub fn issue_trusting(&self, leaf: &Leaf, also: &[&Self]) -> PathBuf {
        let mut params = params(leaf.name, leaf.valid);
        params.serial_number = Some(SerialNumber::from_slice(&[leaf.serial]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage.clone()];
        params.subject_alt_names = sans(leaf);
        let key = KeyPair::generate().unwrap();
        let dir = self.folder.path().join(format!("{}-{}", leaf.name, leaf.serial));
        std::fs::create_dir_all(&dir).unwrap();
        let cas: String =
            std::iter::once(self).chain(also.iter().copied()).map(|ca| ca.pem.as_str()).collect();
        std::fs::write(dir.join("ca.pem"), cas).unwrap();
        std::fs::write(dir.join("cert.pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(dir.join("key.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        dir
    }

    pub fn issue(&self, leaf: &Leaf) -> PathBuf {
        self.issue_trusting(leaf, &[])
    }

    pub fn server_paths(&self, leaf: &Leaf) -> PkiPaths {
        PkiPaths::new(&self.issue(leaf), &self.crl_path())
    }

    pub fn crl_path(&self) -> PathBuf {
        self.folder.path().join("crl.pem")
    }

    pub fn crl_pem(&self, number: u8, serials: &[u8]) -> String {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[serial]),
            revocation_time: date_time_ymd(2030, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2030, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from_slice(&[number]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Puts a new list in the old one's place, as `dc-encoder pki revoke` does.
    pub fn revoke(&self, number: u8, serials: &[u8]) {
        replace(&self.crl_path(), &self.crl_pem(number, serials));
    }
}

pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn params(name: &str, [from, until]: [i64; 2]) -> CertificateParams {
    let at = |unix: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.try_into().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

fn sans(leaf: &Leaf) -> Vec<SanType> {
    let host = |h: &&str| match h.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName((*h).try_into().unwrap()),
    };
    let uris = [Some(leaf.role.uri()), leaf.camera.map(camera_uri)];
    let uris = uris.into_iter().flatten().map(|uri| SanType::URI(uri.try_into().unwrap()));
    leaf.hosts.iter().map(host).chain(uris).collect()
}
