//! Who a certificate says its holder is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Longest camera name: it becomes a folder name, a log field and a metric label.
pub const MAX_CAMERA_NAME: usize = 63;

/// SAN URIs `fth://camera/NAME` name a camera.
const CAMERA_URI: &str = "fth://camera/";
/// SAN URIs `fth://role/ROLE` say what the holder may do.
const ROLE_URI: &str = "fth://role/";

/// What a certificate's holder may do, from its SAN URI `fth://role/ROLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A camera box: sends frames.
    Camera,
    /// A person or program that administers.
    Operator,
    /// An encoder server.
    Server,
    /// Makes certificates for cameras, on an encoder server that enrols; never connects itself.
    Enroller,
}

impl Role {
    /// `camera`, `operator` or `server`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Operator => "operator",
            Self::Server => "server",
            Self::Enroller => "enroller",
        }
    }

    /// The SAN URI that gives this role.
    pub fn uri(self) -> String {
        format!("{ROLE_URI}{}", self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = PeerError;

    fn from_str(s: &str) -> Result<Self, PeerError> {
        match s {
            "camera" => Ok(Self::Camera),
            "operator" => Ok(Self::Operator),
            "server" => Ok(Self::Server),
            "enroller" => Ok(Self::Enroller),
            _ => Err(PeerError::UnknownRole(s.to_owned())),
        }
    }
}

/// The SAN URI that names a camera.
pub fn camera_uri(name: &str) -> String {
    format!("{CAMERA_URI}{name}")
}

/// Checks a camera name: `[a-z0-9][a-z0-9._-]{0,62}`.
pub fn check_camera_name(name: &str) -> Result<(), PeerError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(plain);
    if starts_well && name.len() <= MAX_CAMERA_NAME && bytes.all(|b| plain(b) || b"._-".contains(&b)) {
        Ok(())
    } else {
        Err(PeerError::CameraName(name.to_owned()))
    }
}

/// Why a certificate does not say who its holder is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not a certificate.
    #[error("not an X.509 certificate: {0}")]
    NotACertificate(String),
    /// No role URI: not made by `dc-encoder pki issue`.
    #[error("the certificate of {0:?} has no fth://role/… name; make one with `dc-encoder pki issue`")]
    NoRole(String),
    /// More than one role or camera URI.
    #[error("the certificate of {0:?} names more than one role or camera; issue a new one")]
    Ambiguous(String),
    /// A role this version does not know.
    #[error("unknown role {0:?}: known are camera, operator, server")]
    UnknownRole(String),
    /// A camera name outside the allowed letters.
    #[error("camera name {0:?} must be 1 to 63 of a-z 0-9 . _ - and start with a letter or digit")]
    CameraName(String),
    /// Role camera without a camera name, or a camera name with another role.
    #[error("the certificate of {name:?} has role {role} and camera name {camera:?}; issue a new one")]
    CameraMismatch {
        /// Common name.
        name: String,
        /// Its role.
        role: Role,
        /// Its camera name.
        camera: Option<String>,
    },
    /// The connection has no peer certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
}

/// What a certificate says, whether or not anyone should believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Common name.
    pub name: String,
    /// DNS names and IP addresses it is valid for.
    pub hosts: Vec<String>,
    /// URI names.
    pub uris: Vec<String>,
    /// Serial number, lowercase hex without leading zero bytes.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl Presented {
    /// Reads one DER certificate.
    pub fn parse(der: &[u8]) -> Result<Self, PeerError> {
        let bad = |e: String| PeerError::NotACertificate(e);
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
        let time = |t: i64| Timestamp::from_second(t).map_err(|e| bad(e.to_string()));
        let name = cert.subject().iter_common_name().find_map(|cn| cn.as_str().ok()).unwrap_or_default();
        let mut presented = Self {
            name: name.to_owned(),
            hosts: Vec::new(),
            uris: Vec::new(),
            serial: serial_hex(cert.raw_serial()),
            not_before: time(cert.validity().not_before.timestamp())?,
            not_after: time(cert.validity().not_after.timestamp())?,
        };
        let sans = cert.subject_alternative_name().map_err(|e| bad(e.to_string()))?;
        for san in sans.iter().flat_map(|san| &san.value.general_names) {
            match san {
                GeneralName::DNSName(dns) => presented.hosts.push((*dns).to_owned()),
                GeneralName::IPAddress(ip) => presented.hosts.extend(ip_text(ip)),
                GeneralName::URI(uri) => presented.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Ok(presented)
    }

    /// The role and camera it claims.
    pub fn identity(&self) -> Result<PeerIdentity, PeerError> {
        let role = self.single(ROLE_URI)?.ok_or_else(|| PeerError::NoRole(self.name.clone()))?.parse()?;
        let camera = self.single(CAMERA_URI)?.map(str::to_owned);
        if (role == Role::Camera) != camera.is_some() {
            return Err(PeerError::CameraMismatch { name: self.name.clone(), role, camera });
        }
        camera.as_deref().map_or(Ok(()), check_camera_name)?;
        Ok(PeerIdentity {
            camera,
            role,
            name: self.name.clone(),
            serial: self.serial.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
        })
    }

    /// Who it claims to be, for messages: `camera plaza-1`, `server "encoder"`.
    pub(super) fn describe(&self) -> String {
        match self.identity() {
            Ok(PeerIdentity { camera: Some(camera), .. }) => format!("camera {camera}"),
            Ok(identity) => format!("{} {:?}", identity.role, identity.name),
            Err(_) => format!("{:?} (no role)", self.name),
        }
    }

    fn single(&self, prefix: &str) -> Result<Option<&str>, PeerError> {
        let mut values = self.uris.iter().filter_map(|uri| uri.strip_prefix(prefix));
        let first = values.next();
        match values.next() {
            Some(_) => Err(PeerError::Ambiguous(self.name.clone())),
            None => Ok(first),
        }
    }
}

/// Who a verified certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Camera name, for [`Role::Camera`] only.
    pub camera: Option<String>,
    /// Role.
    pub role: Role,
    /// Common name, for logs.
    pub name: String,
    /// Serial number, lowercase hex without leading zero bytes.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl PeerIdentity {
    /// The peer of an established connection, whose certificate the handshake has verified.
    pub fn of(connection: &quinn::Connection) -> Result<Self, PeerError> {
        let chain = connection
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
            .ok_or(PeerError::NoCertificate)?;
        Self::from_der(chain.first().ok_or(PeerError::NoCertificate)?)
    }

    /// The peer of an established connection over TCP, whose certificate the handshake has verified.
    pub fn of_tls(connection: &rustls::CommonState) -> Result<Self, PeerError> {
        let chain = connection.peer_certificates().unwrap_or_default();
        Self::from_der(chain.first().ok_or(PeerError::NoCertificate)?)
    }

    /// Reads one DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, PeerError> {
        Presented::parse(der)?.identity()
    }
}

/// `camera plaza-1, serial 07`
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.camera {
            Some(camera) => write!(f, "camera {camera}, serial {}", self.serial),
            None => write!(f, "{} {:?}, serial {}", self.role, self.name, self.serial),
        }
    }
}

/// A serial number as this project writes it: lowercase hex without leading zero bytes.
pub fn serial_hex(bytes: &[u8]) -> String {
    let significant = bytes.iter().position(|&b| b != 0).unwrap_or(bytes.len());
    bytes[significant..].iter().map(|b| format!("{b:02x}")).collect()
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_names_are_safe_as_folders_and_labels() {
        let longest = "a".repeat(MAX_CAMERA_NAME);
        for good in ["plaza-1", "0", "a.b_c-d", &longest] {
            check_camera_name(good).unwrap();
        }
        let too_long = "a".repeat(MAX_CAMERA_NAME + 1);
        for bad in ["", "-a", ".hidden", "..", "Plaza", "a/b", "a b", "é", "a\n", &too_long] {
            assert_eq!(check_camera_name(bad), Err(PeerError::CameraName(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn serials_lose_their_padding_only() {
        assert_eq!(serial_hex(&[0, 0x8f, 0x01]), "8f01");
        assert_eq!(serial_hex(&[0x0f, 0x00]), "0f00");
        assert_eq!(serial_hex(&[0]), "");
    }

    fn presented(uris: &[&str]) -> Presented {
        Presented {
            name: "someone".into(),
            hosts: vec![],
            uris: uris.iter().map(|&u| u.to_owned()).collect(),
            serial: "01".into(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn roles_and_cameras_must_agree() {
        let camera = presented(&["fth://role/camera", "fth://camera/plaza-1"]).identity().unwrap();
        assert_eq!((camera.role, camera.camera.as_deref()), (Role::Camera, Some("plaza-1")));
        let server = presented(&["fth://role/server", "https://elsewhere"]).identity().unwrap();
        assert_eq!((server.role, server.camera), (Role::Server, None));
        for bad in [
            &["fth://camera/plaza-1"][..],
            &["fth://role/camera"],
            &["fth://role/server", "fth://camera/plaza-1"],
            &["fth://role/camera", "fth://role/operator", "fth://camera/a"],
            &["fth://role/camera", "fth://camera/a", "fth://camera/b"],
            &["fth://role/root"],
            &["fth://role/camera", "fth://camera/../etc"],
        ] {
            presented(bad).identity().unwrap_err();
        }
    }
}
