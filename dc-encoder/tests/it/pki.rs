//! The authority through its folder, and what it issues over real QUIC connections.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use dc_encoder::pki::{Authority, PkiError, Request, Selector, State, Subject};
use jiff::{SignedDuration, Timestamp};
use quinn::{Connection, ConnectionError, Endpoint};
use shared::tls::{
    Context, Identity, PeerIdentity, PkiPaths, Presented, Role, ServerTls, client_config, explain,
};

fn camera(name: &str) -> Request {
    Request { subject: Subject::Camera(name.into()), days: None, out: None }
}

fn server(hosts: &[&str]) -> Request {
    let hosts = hosts.iter().map(|&h| h.to_owned()).collect();
    Request { subject: Subject::Server(hosts), days: None, out: None }
}

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

/// A new authority in `DIR/pki`, whose folder does not exist before.
fn authority(dir: &Path) -> Authority {
    Authority::init(&dir.join("pki"), None, Timestamp::now()).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_four_files_and_keeps_the_key_to_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let at = |name: &str| authority.dir().join(name);
    assert_eq!(mode(&at("ca.key")), 0o600);
    assert_eq!(mode(&at("crl.pem")), 0o644);
    assert_eq!(std::fs::read_to_string(at("issued.jsonl")).unwrap(), "");
    assert!(authority.name().starts_with("Fine-Tuned Heads CA "), "{}", authority.name());
    assert!(authority.list(Timestamp::now()).unwrap().is_empty());
}

#[test]
fn init_overwrites_nothing() {
    for file in ["ca.pem", "ca.key", "crl.pem", "issued.jsonl"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), "precious").unwrap();
        let error = Authority::init(dir.path(), None, Timestamp::now()).unwrap_err();
        assert!(matches!(error, PkiError::AuthorityExists(_)), "{error}");
        assert!(error.to_string().contains(file), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join(file)).unwrap(), "precious");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == file || name == ".lock"), "{left:?}");
    }
}

#[test]
fn issued_folders_load_and_say_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    let operator = Request { subject: Subject::Operator("ada".into()), days: Some(7), out: None };
    for (request, folder, role, lifetime) in [
        (camera("plaza-1"), "cameras/plaza-1", Role::Camera, 365),
        (server(&["localhost", "127.0.0.1", "::1"]), "server", Role::Server, 365),
        (operator, "operators/ada", Role::Operator, 7),
    ] {
        let issued = authority.issue(&request, now).unwrap();
        assert_eq!(issued.dir, authority.dir().join(folder));
        assert_eq!(mode(&issued.dir.join("key.pem")), 0o600);
        let identity = Identity::load(&issued.dir).unwrap();
        let me = identity.me();
        assert_eq!((me.role, &me.name), (role, &issued.record.name));
        assert_eq!((&me.serial, me.serial.len()), (&issued.record.serial, 32));
        assert_eq!(me.not_after.as_second(), (now + days(lifetime)).as_second());
        assert_eq!(me.not_before.as_second(), (now - SignedDuration::from_hours(1)).as_second());
        assert_eq!(identity.warnings(), [] as [String; 0]);
    }
    let pem = std::fs::read(authority.dir().join("server/cert.pem")).unwrap();
    let der = x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents;
    assert_eq!(Presented::parse(&der).unwrap().hosts, ["localhost", "127.0.0.1", "::1"]);
    let listed = authority.list(now).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|l| l.state == State::Valid));
}

#[test]
fn certificates_say_what_their_keys_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    for (request, for_server) in [(server(&["localhost"]), true), (camera("plaza-1"), false)] {
        let issued = authority.issue(&request, Timestamp::now()).unwrap();
        let pem = std::fs::read(issued.dir.join("cert.pem")).unwrap();
        let der = x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents;
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        let purposes = cert.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((purposes.server_auth, purposes.client_auth), (for_server, !for_server));
        let usage = cert.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
        assert!(!cert.is_ca());
    }
}

#[test]
fn an_identity_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    let first = authority.issue(&camera("plaza-1"), now).unwrap();
    let key = std::fs::read(first.dir.join("key.pem")).unwrap();
    let error = authority.issue(&camera("plaza-1"), now).unwrap_err();
    assert!(error.to_string().contains("cameras/plaza-1/ca.pem is there already"), "{error}");
    assert_eq!(std::fs::read(first.dir.join("key.pem")).unwrap(), key);
    assert_eq!(authority.list(now).unwrap().len(), 1, "a certificate nobody has was recorded");
    let elsewhere = Request { out: Some(dir.path().join("box")), ..camera("plaza-1") };
    let second = authority.issue(&elsewhere, now).unwrap();
    assert_ne!(first.record.serial, second.record.serial);
}

#[test]
fn a_servers_folder_elsewhere_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let out = dir.path().join("to-copy");
    let request = Request { out: Some(out.clone()), ..server(&["localhost"]) };
    authority.issue(&request, Timestamp::now()).unwrap();
    assert_eq!(PkiPaths::in_dir(&out), PkiPaths::new(&out, &out.join("crl.pem")));
    ServerTls::load(&PkiPaths::in_dir(&out)).unwrap();
}

#[test]
fn bad_names_hosts_and_lifetimes_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    let refused = |request: &Request| authority.issue(request, now).unwrap_err().to_string();
    assert!(refused(&camera("../etc")).contains("camera name \"../etc\" must be"));
    let operator = Request { subject: Subject::Operator("Ada L".into()), days: None, out: None };
    assert!(refused(&operator).contains("operator name \"Ada L\" must be"));
    for bad in ["", "a b", "*.example", "-x-", "http://x", "host:4433"] {
        assert!(refused(&server(&["localhost", bad])).contains("neither a host name"), "{bad}");
    }
    assert!(refused(&server(&[])).contains("neither a host name"));
    let too_long = refused(&Request { days: Some(3651), ..camera("plaza-1") });
    assert!(too_long.contains("--days can be 1 to 36"), "{too_long}");
    assert!(refused(&Request { days: Some(0), ..camera("plaza-1") }).contains("--days can be 1 to 36"));
    assert!(!authority.dir().join("cameras").exists());
    assert!(authority.list(now).unwrap().is_empty());
    let name = "x".repeat(65);
    let error = Authority::init(&dir.path().join("b"), Some(&name), now).unwrap_err();
    assert!(matches!(error, PkiError::AuthorityName(_)));
}

#[test]
fn a_full_or_forbidden_disk_leaves_no_half_identity() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    // cert.pem cannot be made: something is in its way that is not there for `exists`.
    let out = dir.path().join("box");
    std::fs::create_dir(&out).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", out.join("cert.pem")).unwrap();
    let request = Request { out: Some(out.clone()), ..camera("plaza-1") };
    let error = authority.issue(&request, Timestamp::now()).unwrap_err();
    assert!(error.to_string().contains("box/cert.pem"), "{error}");
    assert!(!out.join("key.pem").exists() && !out.join("ca.pem").exists());
}

#[test]
fn revoking_a_camera_revokes_all_it_has_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    let first = authority.issue(&camera("plaza-1"), now).unwrap().record;
    let elsewhere = Request { out: Some(dir.path().join("box")), ..camera("plaza-1") };
    let second = authority.issue(&elsewhere, now).unwrap().record;
    let other = authority.issue(&camera("plaza-2"), now).unwrap().record;
    authority.issue(&server(&["localhost"]), now).unwrap();
    let tls = ServerTls::load(&PkiPaths::in_dir(authority.dir())).unwrap();

    let selector = Selector::Camera("plaza-1".into());
    assert_eq!(authority.revoke(&selector, now).unwrap(), [first.clone(), second.clone()]);
    assert!(tls.revocations().reload().unwrap());
    assert!(tls.revocations().is_revoked(&first.serial) && tls.revocations().is_revoked(&second.serial));
    assert!(!tls.revocations().is_revoked(&other.serial));
    assert_eq!(tls.revocations().subscribe().borrow().number(), 2);
    assert!(matches!(authority.revoke(&selector, now), Err(PkiError::NothingToRevoke(_))));
    assert!(matches!(authority.revoke(&Selector::Camera("x".into()), now), Err(PkiError::NeverIssued(_))));

    // By serial, as other tools write it.
    let written = format!("0x{}", other.serial.to_uppercase());
    assert_eq!(authority.revoke(&Selector::Serial(written), now).unwrap(), std::slice::from_ref(&other));
    assert!(tls.revocations().reload().unwrap());
    assert!(tls.revocations().is_revoked(&first.serial) && tls.revocations().is_revoked(&other.serial));
    assert_eq!(tls.revocations().subscribe().borrow().number(), 3);
    let states: Vec<State> = authority.list(now).unwrap().into_iter().map(|l| l.state).collect();
    assert_eq!(states, [State::Revoked, State::Revoked, State::Revoked, State::Valid]);
    let bad = authority.revoke(&Selector::Serial("xyz".into()), now);
    assert!(matches!(bad, Err(PkiError::Serial(_))));
}

#[test]
fn expired_certificates_are_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    authority.issue(&camera("plaza-1"), now).unwrap();
    let later = now + days(366);
    assert_eq!(authority.list(later).unwrap()[0].state, State::Expired);
    let nothing = authority.revoke(&Selector::Camera("plaza-1".into()), later);
    assert!(matches!(nothing, Err(PkiError::NothingToRevoke(_))));
}

#[test]
fn a_lost_or_broken_list_is_never_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    authority.issue(&camera("plaza-1"), now).unwrap();
    for damage in [Some("half a li"), None] {
        match damage {
            Some(text) => std::fs::write(authority.crl_path(), text).unwrap(),
            None => std::fs::remove_file(authority.crl_path()).unwrap(),
        }
        let error = authority.revoke(&Selector::Camera("plaza-1".into()), now).unwrap_err();
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
    }
    assert!(!authority.crl_path().exists());
}

#[test]
fn a_record_cut_short_by_a_crash_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let now = Timestamp::now();
    authority.issue(&camera("plaza-1"), now).unwrap();
    let journal = authority.dir().join("issued.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, format!("{whole}{}", &whole[..40])).unwrap();
    assert_eq!(authority.list(now).unwrap().len(), 1);
    authority.issue(&camera("plaza-2"), now).unwrap();
    let names: Vec<String> = authority.list(now).unwrap().into_iter().map(|l| l.record.name).collect();
    assert_eq!(names, ["plaza-1", "plaza-2"]);
    std::fs::write(&journal, format!("{{}}\n{whole}")).unwrap();
    let error = authority.list(now).unwrap_err().to_string();
    assert!(error.contains("issued.jsonl:1 is not a record"), "{error}");
}

#[test]
fn an_authority_that_is_missing_or_mixed_up_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let error = Authority::open(&dir.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none/ca.pem is missing") && error.contains("pki init --dir"), "{error}");
    let ours = authority(dir.path()).dir().to_owned();
    let other = Authority::init(&dir.path().join("other"), None, Timestamp::now()).unwrap();
    std::fs::copy(other.dir().join("ca.key"), ours.join("ca.key")).unwrap();
    let error = Authority::open(&ours).unwrap_err().to_string();
    assert!(error.contains("ca.key is not the key of ca.pem"), "{error}");
}

/// An encoder and a camera on loopback with certificates as issued, on the machine's own clock.
struct Link {
    tls: ServerTls,
    encoder: Endpoint,
    agent: Endpoint,
    identity: Identity,
}

impl Link {
    fn new(authority: &Authority) -> Self {
        let now = Timestamp::now();
        authority.issue(&server(&["localhost", "127.0.0.1"]), now).unwrap();
        let dir = authority.issue(&camera("plaza-1"), now).unwrap().dir;
        let tls = ServerTls::load(&PkiPaths::in_dir(authority.dir())).unwrap();
        let loopback = (Ipv4Addr::LOCALHOST, 0).into();
        let encoder = Endpoint::server(tls.server_config(4).unwrap(), loopback).unwrap();
        let agent = Endpoint::client(loopback).unwrap();
        Self { tls, encoder, agent, identity: Identity::load(&dir).unwrap() }
    }

    async fn connect(&self) -> (Result<Connection, ConnectionError>, Result<Connection, ConnectionError>) {
        let config = client_config(&self.identity, None).unwrap();
        let address = self.encoder.local_addr().unwrap();
        let connecting = self.agent.connect_with(config, address, "localhost").unwrap();
        tokio::join!(connecting, async { self.encoder.accept().await.unwrap().await })
    }
}

#[tokio::test]
async fn issue_connect_revoke_and_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let link = Link::new(&authority);
    let revocations = link.tls.revocations().clone();
    let _guard = revocations.watch();
    let (ours, theirs) = link.connect().await;
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    let peer = PeerIdentity::of(&theirs).unwrap();
    assert_eq!(peer.camera.as_deref(), Some("plaza-1"));
    let session = async {
        revocations.revoked(&peer.serial).await;
        theirs.close(protocol::close::REVOKED.into(), b"");
        ours.closed().await
    };
    authority.revoke(&Selector::Camera("plaza-1".into()), Timestamp::now()).unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(60), session).await.unwrap();
    let context = Context { identity: &link.identity, peer: "localhost:4433", now: Timestamp::now() };
    let told = explain(&closed, &context);
    assert!(told.contains(&format!("it was revoked (serial {})", peer.serial)), "{told}");

    let (ours, theirs) = link.connect().await;
    theirs.unwrap_err();
    let refusal = match ours {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert_eq!(explain(&refusal, &context), told);
}
