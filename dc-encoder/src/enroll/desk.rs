//! The desk: answers one request after another. Waits for the disk, so it runs beside the runtime.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use protocol::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Grant};
use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use shared::enroll::TokenId;
use shared::tls::PeerIdentity;

use super::audit::{Attempt, Line};
use super::book::{Used, Verdict};
use super::error::EnrollError;
use super::folder::{Folder, short};

/// Where requests are answered.
#[derive(Debug)]
pub struct Desk {
    dir: PathBuf,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub from: String,
    /// Its certificate, if it has one: who it says, and the public key in it. The handshake has verified it.
    pub certificate: Option<(PeerIdentity, Vec<u8>)>,
}

/// What every box is told besides: head releases' root and ring; both may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The text of `root.pub`.
    pub root: String,
    /// The newest ring.
    pub ring: Vec<u8>,
}

/// A refusal, before it is written down.
struct No {
    code: EnrollCode,
    why: String,
    camera: Option<String>,
}

impl No {
    fn new(code: EnrollCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), camera: None }
    }
}

/// A certificate, before it is written down.
struct Yes {
    what: Attempt,
    camera: String,
    serial: String,
    certificate: CertificateDer<'static>,
}

impl Desk {
    /// Opens the desk of a server whose certificate this authority issued.
    ///
    /// # Errors
    /// A folder that cannot be used, or of another authority.
    pub fn open(dir: &Path, authority: &CertificateDer<'_>) -> Result<Self, EnrollError> {
        let folder = Folder::open(dir)?;
        if folder.root != *authority {
            return Err(EnrollError::OtherAuthority(dir.to_owned()));
        }
        folder.book()?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Answers, and writes down what it answered.
    #[must_use]
    pub fn answer(
        &self,
        request: &EnrollRequestMsg,
        peer: &Peer,
        told: Told,
        now: Timestamp,
    ) -> EnrollReplyMsg {
        match self.try_answer(request, peer, told, now) {
            Ok(reply) => reply,
            Err(error) => {
                tracing::error!("enrolment: {error}");
                EnrollReplyMsg::refused(EnrollCode::Internal, "its log says why; try again later")
            }
        }
    }

    fn try_answer(
        &self,
        request: &EnrollRequestMsg,
        peer: &Peer,
        told: Told,
        now: Timestamp,
    ) -> Result<EnrollReplyMsg, EnrollError> {
        // Under the folder's lock from here on.
        let folder = Folder::open(&self.dir)?;
        let token = match request {
            EnrollRequestMsg::Enroll { token, .. } => Some(TokenId::of(token).to_string()),
            EnrollRequestMsg::Renew { .. } => None,
        };
        let decided = match request {
            EnrollRequestMsg::Enroll { request, .. } => {
                enroll(&folder, token.as_deref().unwrap_or_default(), request, now)?
            }
            EnrollRequestMsg::Renew { request } => renew(&folder, request, peer, now)?,
        };
        let token = token.as_deref().map(short);
        match decided {
            Ok(Yes { what, camera, serial, certificate }) => {
                tracing::info!(camera, serial, from = peer.from, "enrolment: {what:?}");
                let line = Line::new(now, what, &peer.from);
                folder.audit(&Line { camera: Some(camera), serial: Some(serial), token, ..line })?;
                Ok(EnrollReplyMsg::Granted(grant(&folder, &certificate, told, now)))
            }
            Err(No { code, why, camera }) => {
                tracing::warn!(camera, from = peer.from, "enrolment refused: {code}: {why}");
                let line = Line::new(now, Attempt::Refused, &peer.from);
                folder.audit(&Line { camera, token, why: Some(code.to_string()), ..line })?;
                Ok(EnrollReplyMsg::refused(code, &why))
            }
        }
    }
}

fn enroll(folder: &Folder, id: &str, request: &[u8], now: Timestamp) -> Result<Result<Yes, No>, EnrollError> {
    let request = match read(request) {
        Ok(request) => request,
        Err(no) => return Ok(Err(no)),
    };
    let key = key_id(request.public_key.der_bytes());
    let mut book = folder.book()?;
    let (camera, what, pem) = match book.judge(id, &key, now) {
        Verdict::Refuse { camera, code, why } => return Ok(Err(No { code, why, camera })),
        Verdict::Again { camera, certificate } => (camera, Attempt::Again, certificate),
        Verdict::Make { camera } => {
            let (record, certificate) =
                folder.enroller.certify_camera(&camera, &request.public_key, days(folder, now), now)?;
            let certificate = certificate.pem();
            let used = Used { at: now, key, serial: record.serial, certificate: certificate.clone() };
            book.spend(id, used);
            // Spent before anybody has the certificate.
            folder.write(&book)?;
            (camera, Attempt::Granted, certificate)
        }
    };
    Ok(match CertificateDer::from_pem_slice(pem.as_bytes()) {
        Ok(certificate) => Ok(Yes { what, camera, serial: serial(&certificate), certificate }),
        Err(error) => {
            Err(No::new(EnrollCode::Internal, format!("the certificate that was kept is broken: {error}")))
        }
    })
}

fn renew(
    folder: &Folder,
    request: &[u8],
    peer: &Peer,
    now: Timestamp,
) -> Result<Result<Yes, No>, EnrollError> {
    let Some((identity, public_key)) = &peer.certificate else {
        return Ok(Err(No::new(EnrollCode::Certificate, "this box presented none")));
    };
    let Some(camera) = identity.camera.clone() else {
        return Ok(Err(No::new(EnrollCode::Certificate, format!("this one is of {identity}"))));
    };
    let refuse = |No { code, why, .. }| Ok(Err(No { code, why, camera: Some(camera.clone()) }));
    let request = match read(request) {
        Ok(request) if request.public_key.der_bytes() == public_key.as_slice() => request,
        Ok(_) => {
            return refuse(No::new(EnrollCode::Request, "a renewal keeps its key; enrol anew for another"));
        }
        Err(no) => return refuse(no),
    };
    if let Err((code, why)) =
        folder.book()?.may_renew(&camera, [identity.not_before, identity.not_after], now)
    {
        return refuse(No::new(code, why));
    }
    let (record, certificate) =
        folder.enroller.certify_camera(&camera, &request.public_key, days(folder, now), now)?;
    let certificate = certificate.der().clone();
    Ok(Ok(Yes { what: Attempt::Renewed, camera, serial: record.serial, certificate }))
}

/// Reads a request and checks that its key signed it. Names in it are not looked at: the token says who it is.
fn read(request: &[u8]) -> Result<CertificateSigningRequestParams, No> {
    let request = CertificateSigningRequestParams::from_der(&request.into())
        .map_err(|error| No::new(EnrollCode::Request, error.to_string()))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(No::new(EnrollCode::Request, "its key must be of the curve P-256"));
    }
    Ok(request)
}

/// As long as the settings say, and no longer than the enroller itself.
fn days(folder: &Folder, now: Timestamp) -> u32 {
    let most = (folder.enroller.not_after().as_second() - now.as_second()) / 86_400;
    folder.settings.days.min(u32::try_from(most).unwrap_or(0))
}

fn grant(folder: &Folder, certificate: &CertificateDer<'_>, told: Told, now: Timestamp) -> Grant {
    Grant {
        chain: vec![certificate.to_vec(), folder.enroller.der().to_vec()],
        authority: folder.root.to_vec(),
        servers: folder.settings.servers.clone(),
        release_root: told.root,
        key_ring: told.ring,
        now: u64::try_from(now.as_second()).unwrap_or(0),
    }
}

fn key_id(public_key: &[u8]) -> String {
    Sha256::digest(public_key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serial(certificate: &CertificateDer<'_>) -> String {
    shared::tls::Presented::parse(certificate).map(|presented| presented.serial).unwrap_or_default()
}
