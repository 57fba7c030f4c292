//! The box's key, and the certificate request that it signs.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::pem;

/// Largest key file: ours are 240 bytes.
const MAX_KEY_BYTES: u64 = 16 * 1024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("cannot {action} the key {}: {source}{}", path.display(), remedy(source))]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} is no key of this program ({detail}): move it away", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers, so there can be no key")]
    Random,
}

fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => "; run it as root: sudo edge-agent enroll",
        _ => "",
    }
}

/// An ECDSA key on P-256.
pub(super) struct BoxKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl BoxKey {
    /// The key of an attempt whose reply was lost, or a new one, which is on the disk when this returns.
    pub(super) fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        if path.exists() { Self::load(path) } else { Self::make(path) }
    }

    pub(super) fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { action: "read", path: path.to_owned(), source };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_KEY_BYTES).read_to_end(&mut text).map_err(failed)?;
        let other = |detail: String| KeyError::Other { path: path.to_owned(), detail };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|error| other(error.to_string()))?;
        Self::parse(der.secret_pkcs8_der()).map_err(|error| other(error.to_string()))
    }

    fn make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { action: "write", path: path.to_owned(), source };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Random)?;
        // Readable by its owner only, from the first byte on.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let text = pem::encode("PRIVATE KEY", pkcs8.as_ref());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Self::parse(pkcs8.as_ref()).map_err(|_| KeyError::Random)
    }

    fn parse(pkcs8: &[u8]) -> Result<Self, ring::error::KeyRejected> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)?;
        Ok(Self { pair, random })
    }

    /// A certificate request (PKCS #10, RFC 2986) in DER. It names nobody: the token, or the certificate that it renews,
    /// says who this is.
    pub(super) fn request(&self) -> Result<Vec<u8>, KeyError> {
        const VERSION_0: &[u8] = &[0x02, 1, 0];
        /// id-ecPublicKey with prime256v1 (RFC 5480).
        const P256: &[u8] =
            b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        /// ecdsa-with-SHA256 (RFC 5758).
        const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        let public = self.pair.public_key().as_ref();
        let key = der(SEQUENCE, &[P256, &der(BIT_STRING, &[&[0], public])]);
        let info = der(SEQUENCE, &[VERSION_0, &der(SEQUENCE, &[]), &key, &der(ATTRIBUTES, &[])]);
        let signature = self.pair.sign(&self.random, &info).map_err(|_| KeyError::Random)?;
        let signature = der(BIT_STRING, &[&[0], signature.as_ref()]);
        Ok(der(SEQUENCE, &[&info, ECDSA_SHA256, &signature]))
    }
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// Context-specific, constructed, number 0.
const ATTRIBUTES: u8 = 0xa0;

/// One value of X.690: tag, length, contents of less than 256 bytes.
fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let len = u8::try_from(contents.len()).expect("a request on P-256 has 190 bytes at most");
    let mut value = vec![tag];
    if len >= 0x80 {
        value.push(0x81);
    }
    value.push(len);
    value.extend(contents);
    value
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};

    use super::*;

    #[test]
    fn the_request_is_one_and_signed_by_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = BoxKey::load_or_make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        for _ in 0..20 {
            // Signatures differ in length from one to the next.
            let request = key.request().unwrap();
            let parsed = CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();
            assert_eq!(parsed.public_key.der_bytes(), key.pair.public_key().as_ref());
            let mut forged = request.clone();
            forged[60] ^= 1;
            assert!(CertificateSigningRequestParams::from_der(&forged.as_slice().into()).is_err());
        }
        let again = BoxKey::load_or_make(&path).unwrap();
        assert_eq!(again.pair.public_key().as_ref(), key.pair.public_key().as_ref());
        std::fs::write(&path, "something else").unwrap();
        let error = BoxKey::load_or_make(&path).err().unwrap().to_string();
        assert!(error.contains("key.pem") && error.contains("move it away"), "{error}");
    }
}
