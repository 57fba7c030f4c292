//! Identity folders that cannot be used, and what the message says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fixtures::{Authority, Leaf};
use shared::tls::{Identity, PkiPaths, Role, ServerTls};

use super::world::{LONG, VALID};

struct Folder {
    ca: Authority,
    dir: PathBuf,
}

fn folder() -> Folder {
    let ca = Authority::new("CA", LONG);
    let dir = ca.issue(&Leaf::camera("plaza-1", 7, VALID));
    Folder { ca, dir }
}

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The message, with the folder's path taken out.
    fn refused(&self) -> String {
        let message = Identity::load(&self.dir).unwrap_err().to_string();
        message.replace(&self.dir.display().to_string(), "DIR")
    }
}

#[test]
fn a_good_folder_loads_without_warnings() {
    let folder = folder();
    let identity = Identity::load(&folder.dir).unwrap();
    assert_eq!((identity.me().role, identity.me().camera.as_deref()), (Role::Camera, Some("plaza-1")));
    assert_eq!(identity.warnings(), [] as [String; 0]);
}

#[test]
fn a_missing_file_is_named() {
    for (file, what) in
        [("ca.pem", "CA certificate"), ("cert.pem", "certificate"), ("key.pem", "private key")]
    {
        let folder = folder();
        std::fs::remove_file(folder.file(file)).unwrap();
        assert_eq!(
            folder.refused(),
            format!(
                "cannot read the {what} DIR/{file}: No such file or directory (os error 2): \
                 the {what} comes from the folder that `dc-encoder pki issue` made"
            )
        );
    }
}

#[test]
fn a_file_that_is_not_pem_is_named() {
    for (file, begin) in [
        ("ca.pem", "-----BEGIN CERTIFICATE-----"),
        ("cert.pem", "-----BEGIN CERTIFICATE-----"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----"),
    ] {
        let cut = format!("{begin}\nMIIB");
        for text in ["", "hello", "-----BEGIN OTHER-----\nAAAA\n-----END OTHER-----\n", &cut] {
            let folder = folder();
            std::fs::write(folder.file(file), text).unwrap();
            let message = folder.refused();
            assert!(message.contains(&format!("DIR/{file} is not PEM (")), "{message}");
            assert!(message.contains(begin), "{message}");
        }
    }
}

#[test]
fn pem_that_is_no_certificate_is_named() {
    let folder = folder();
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.file("cert.pem"), text).unwrap();
    let message = folder.refused();
    assert!(message.starts_with("DIR/cert.pem: not an X.509 certificate"), "{message}");
}

#[test]
fn a_huge_file_is_refused_unread() {
    let folder = folder();
    std::fs::write(folder.file("cert.pem"), vec![b'A'; 300_000]).unwrap();
    let message = folder.refused();
    assert_eq!(message, "the certificate DIR/cert.pem is larger than 262144 bytes: this is some other file");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = folder();
    let other = folder.ca.issue(&Leaf::camera("plaza-2", 8, VALID));
    std::fs::copy(other.join("key.pem"), folder.file("key.pem")).unwrap();
    assert_eq!(
        folder.refused(),
        "the private key DIR/key.pem does not belong to the certificate DIR/cert.pem: copy both from one \
         `dc-encoder pki issue` folder"
    );
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let folder = folder();
    // Even one of the same name.
    let authority = Authority::new("CA", LONG);
    let other = authority.issue(&Leaf::camera("plaza-1", 7, VALID));
    std::fs::copy(other.join("ca.pem"), folder.file("ca.pem")).unwrap();
    assert_eq!(
        folder.refused(),
        "the certificate DIR/cert.pem was not signed by the CA in DIR/ca.pem: both must come from one \
         `dc-encoder pki`"
    );
}

#[test]
fn a_key_that_others_can_read_is_a_warning_with_the_command() {
    let folder = folder();
    let key = folder.file("key.pem");
    for (mode, warned) in [(0o644, true), (0o660, true), (0o640, false), (0o400, false)] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let identity = Identity::load(&folder.dir).unwrap();
        let path = key.display();
        let warning =
            format!("the private key {path} has mode {mode:o}: others can use it; run `chmod 600 {path}`");
        let expected: &[String] = if warned { &[warning] } else { &[] };
        assert_eq!(identity.warnings(), expected);
    }
}

#[test]
fn a_server_needs_its_role_and_a_list_of_its_own_authority() {
    let folder = folder();
    let refused = |paths: &PkiPaths| {
        let message = ServerTls::load(paths).unwrap_err().to_string();
        message
            .replace(&paths.cert.display().to_string(), "CERT")
            .replace(&paths.crl.display().to_string(), "CRL")
    };
    assert_eq!(
        refused(&PkiPaths::new(&folder.dir, &folder.ca.crl_path())),
        "the certificate CERT has role camera: an encoder needs one from `dc-encoder pki issue --server HOST`"
    );
    let server = folder.ca.issue(&Leaf::server(VALID));
    let other = Authority::new("CA", LONG);
    assert_eq!(
        refused(&PkiPaths::new(&server, &other.crl_path())),
        "the revocation list CRL was not signed by our CA: copy `crl.pem` from the same `dc-encoder pki`"
    );
    let missing = refused(&PkiPaths::new(&server, Path::new("/nowhere/crl.pem")));
    assert!(missing.starts_with("cannot read the revocation list CRL: No such file"), "{missing}");
    let key = server.join("key.pem");
    let malformed = refused(&PkiPaths::new(&server, &key));
    assert!(malformed.starts_with("CRL is not a revocation list in PEM ("), "{malformed}");
}

#[test]
fn a_pki_folder_and_a_copied_folder_both_serve() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    assert_eq!(PkiPaths::in_dir(dir), PkiPaths::new(dir, &dir.join("crl.pem")));
    let server = dir.join("server");
    std::fs::create_dir(&server).unwrap();
    std::fs::write(server.join("cert.pem"), "").unwrap();
    assert_eq!(PkiPaths::in_dir(dir), PkiPaths::new(&server, &dir.join("crl.pem")));
}
