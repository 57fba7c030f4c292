//! Enrolment: who gets a certificate, and who does not.

use std::time::Duration;

use dc_encoder::enroll::{Attempt, Folder, Settings};
use dc_encoder::pki::{Authority, Selector};
use fixtures::{ALWAYS, Clock};
use jiff::SignedDuration;
use protocol::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, close};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use shared::enroll::{Subject, Token};
use shared::tls::{
    Context, Identity, PeerIdentity, Pinned, PkiPaths, Role, ServerTls, camera_uri, client_config, diagnose,
};
use tokio::time::timeout;

use crate::enroll_support::{DAY, HOUR, START, World, ask, at, code, connect, request};
use crate::serve_support::{Pki, soon};

/// A connection that is open for so long was let in: loopback brings a refusal at once.
const LOOK: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_token_gives_a_certificate_that_works_and_can_be_revoked() {
    let world = World::start();
    let (token, key) = (world.token("plaza-1"), KeyPair::generate().unwrap());
    let grant = world.granted(&token, &key).await;
    assert_eq!(grant.servers, ["localhost:4433"]);
    assert_eq!(grant.now, START as u64);
    let me = PeerIdentity::from_der(&grant.chain[0]).unwrap();
    assert_eq!((me.role, me.camera.as_deref()), (Role::Camera, Some("plaza-1")));
    assert_eq!(me.not_after, at(START + 90 * DAY));
    let dir = world.save("box", &grant, &key);
    let tls = client_config(&Identity::load(&dir).unwrap(), Some(world.clock.clone())).unwrap();
    let (_endpoint, connection) = connect(world.server.local_addr(), tls).await.unwrap();
    let camera = PeerIdentity::of(&connection).unwrap();
    assert_eq!(camera.role, Role::Server);
    connection.close(0_u32.into(), b"");

    let issued = world.dir.path().join("enroll/issued.jsonl");
    let authority = Authority::open(&world.pki()).unwrap();
    let camera = Selector::Camera("plaza-1".into());
    let revoked = authority.revoke_among(&camera, Some(&issued), at(START)).unwrap();
    assert_eq!(revoked.iter().map(|r| &r.serial).collect::<Vec<_>>(), [&me.serial]);
    let tls = client_config(&Identity::load(&dir).unwrap(), Some(world.clock.clone())).unwrap();
    let refused = soon(async {
        // The list is read five times a second; until then the certificate still opens a connection.
        loop {
            match connect(world.server.local_addr(), tls.clone()).await {
                Err(error) => break error,
                Ok((_endpoint, connection)) => {
                    if let Ok(error) = timeout(LOOK, connection.closed()).await {
                        break error;
                    }
                }
            }
        }
    })
    .await;
    let identity = Identity::load(&dir).unwrap();
    let context = Context { identity: &identity, peer: "it", now: at(START) };
    assert!(diagnose(&refused, &context).to_string().contains("revoked"), "{refused:?}");
}

#[tokio::test]
async fn a_lost_reply_is_given_again_and_to_nobody_else() {
    let world = World::start();
    let (token, key) = (world.token("plaza-1"), KeyPair::generate().unwrap());
    let first = world.granted(&token, &key).await;
    let again = world.granted(&token, &key).await;
    assert_eq!(first.chain, again.chain);
    assert_eq!(world.refused(&token, &KeyPair::generate().unwrap()).await, EnrollCode::Used);
    world.clock.set(START + HOUR);
    assert_eq!(world.refused(&token, &key).await, EnrollCode::Expired);
    let what: Vec<_> = world.audited().into_iter().map(|line| (line.what, line.camera)).collect();
    let camera = Some(String::from("plaza-1"));
    let expected = [Attempt::Created, Attempt::Granted, Attempt::Again, Attempt::Refused, Attempt::Refused];
    assert_eq!(what, expected.map(|what| (what, camera.clone())));
    assert_eq!(world.folder().book().unwrap().tokens.len(), 1);
}

#[tokio::test]
async fn tokens_that_are_void_are_refused_and_written_down() {
    let world = World::start();
    let key = KeyPair::generate().unwrap();
    let token = world.token("plaza-1");
    // Of the right authority, made by somebody else: the secret is not the server's.
    let forged = Token::new(token.subject().clone()).unwrap();
    assert_eq!(world.refused(&forged, &key).await, EnrollCode::Token);
    // The same secret for another camera.
    let other = Subject { camera: "plaza-2".into(), ..token.subject().clone() };
    assert_ne!(Token::new(other).unwrap().id(), token.id());
    let mut bytes = token.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let altered = EnrollRequestMsg::Enroll { token: bytes, request: request(&key) };
    let pinned = || Pinned::new(token.subject().authority).config(world.clock.clone()).unwrap();
    assert_eq!(code(ask(world.address, pinned(), &altered).await), EnrollCode::Token);
    world.folder().withdraw("plaza-1", at(START)).unwrap();
    assert_eq!(world.refused(&token, &key).await, EnrollCode::Withdrawn);
    let late = world.token("plaza-1");
    world.clock.set(START + HOUR);
    assert_eq!(world.refused(&late, &key).await, EnrollCode::Expired);
    let refused: Vec<_> = world.audited().into_iter().filter(|line| line.what == Attempt::Refused).collect();
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|line| line.from.starts_with("127.0.0.1:") && line.why.is_some()));
    assert_eq!(refused[3].camera.as_deref(), Some("plaza-1"));
    assert!(world.folder().book().unwrap().tokens.iter().all(|token| token.used.is_none()));
}

#[tokio::test]
async fn a_request_that_is_none_does_not_spend_the_token() {
    let world = World::start();
    let token = world.token("plaza-1");
    let pinned = || Pinned::new(token.subject().authority).config(world.clock.clone()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut forged = request(&key);
    *forged.last_mut().unwrap() ^= 1;
    let other_curve = request(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
    for request in [vec![], b"hello".to_vec(), forged, other_curve] {
        let message = EnrollRequestMsg::Enroll { token: token.bytes().to_vec(), request };
        assert_eq!(code(ask(world.address, pinned(), &message).await), EnrollCode::Request);
    }
    world.granted(&token, &key).await;
}

/// What a request asks for does not matter: the token says who it is.
#[tokio::test]
async fn names_in_a_request_are_not_believed() {
    let world = World::start();
    let token = world.token("plaza-1");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let uris = [Role::Operator.uri(), camera_uri("plaza-9")];
    params.subject_alt_names.extend(uris.map(|uri| SanType::URI(uri.try_into().unwrap())));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let message = EnrollRequestMsg::Enroll { token: token.bytes().to_vec(), request };
    let config = Pinned::new(token.subject().authority).config(world.clock.clone()).unwrap();
    let EnrollReplyMsg::Granted(grant) = ask(world.address, config, &message).await else {
        panic!("not granted")
    };
    let (_, leaf) = x509_parser::parse_x509_certificate(&grant.chain[0]).unwrap();
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
    let me = PeerIdentity::from_der(&grant.chain[0]).unwrap();
    assert_eq!((me.role, me.camera.as_deref()), (Role::Camera, Some("plaza-1")));
}

#[tokio::test]
async fn a_box_sends_its_token_to_no_other_server() {
    let (world, other) = (World::start(), World::start());
    let token = other.token("plaza-1");
    let pinned = Pinned::new(token.subject().authority);
    let config = pinned.config(world.clock.clone()).unwrap();
    connect(world.address, config).await.unwrap_err();
    let why = pinned.why().unwrap();
    assert!(why.contains("authority is another one") && why.contains("was not sent"), "{why}");
    // A clock of 1970, without what the token knows of time.
    let pinned = Pinned::new(world.token("plaza-1").subject().authority);
    connect(world.address, pinned.config(Clock::at(0)).unwrap()).await.unwrap_err();
    let why = pinned.why().unwrap();
    assert!(why.contains("clock says 1970-01-01") && why.contains("timedatectl"), "{why}");
}

#[tokio::test]
async fn the_frames_port_stays_shut_to_whoever_has_no_certificate() {
    let world = World::start();
    let token = world.token("plaza-1");
    let frames = world.server.local_addr();
    let enrolling = Pinned::new(token.subject().authority).config(world.clock.clone()).unwrap();
    connect(frames, enrolling).await.unwrap_err();
    // And a camera's certificate does not bring frames in through the other one.
    let key = KeyPair::generate().unwrap();
    let dir = world.save("box", &world.granted(&token, &key).await, &key);
    let tls = client_config(&Identity::load(&dir).unwrap(), Some(world.clock.clone())).unwrap();
    connect(world.address, tls).await.unwrap_err();
}

/// Whoever steals what stands on the server makes cameras, until it is revoked, and nothing else.
#[tokio::test]
async fn an_enroller_makes_neither_servers_nor_operators() {
    let world = World::start();
    let enroll = world.dir.path().join("enroll");
    let read = |name: &str| std::fs::read_to_string(enroll.join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let forge = |name: &str, role: Role, usage: ExtendedKeyUsagePurpose| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(role.uri().try_into().unwrap()));
        params.extended_key_usages = vec![usage];
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        let dir = world.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("cert.pem"), leaf + &read("ca.pem")).unwrap();
        std::fs::copy(enroll.join("root.pem"), dir.join("ca.pem")).unwrap();
        dir
    };
    let operator = forge("operator", Role::Operator, ExtendedKeyUsagePurpose::ClientAuth);
    let tls = client_config(&Identity::load(&operator).unwrap(), Some(world.clock.clone())).unwrap();
    if let Ok((_endpoint, connection)) = connect(world.server.local_addr(), tls).await {
        // TLS 1.3: the client is done before the server has looked at its certificate.
        let closed = soon(connection.closed()).await;
        assert!(matches!(closed, quinn::ConnectionError::ConnectionClosed(_)), "{closed:?}");
    }
    let server = forge("server", Role::Server, ExtendedKeyUsagePurpose::ServerAuth);
    let paths = PkiPaths::new(&server, &world.pki().join("crl.pem"));
    let tls = ServerTls::load_at(&paths, world.clock.clone()).unwrap();
    let endpoint =
        quinn::Endpoint::server(tls.server_config(1).unwrap(), ([127, 0, 0, 1], 0).into()).unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let _ = incoming.await;
        }
    });
    let key = KeyPair::generate().unwrap();
    let camera = world.save("box", &world.granted(&world.token("plaza-1"), &key).await, &key);
    let identity = Identity::load(&camera).unwrap();
    let tls = client_config(&identity, Some(world.clock.clone())).unwrap();
    let error = connect(endpoint.local_addr().unwrap(), tls).await.unwrap_err();
    assert!(matches!(error, quinn::ConnectionError::TransportError(_)), "{error:?}");
}

#[tokio::test]
async fn a_revoked_enroller_lets_nobody_in() {
    let world = World::start();
    let key = KeyPair::generate().unwrap();
    let grant = world.granted(&world.token("plaza-1"), &key).await;
    let dir = world.save("box", &grant, &key);
    let enroller = PeerIdentity::from_der(&grant.chain[1]).unwrap();
    assert_eq!(enroller.role, Role::Enroller);
    let authority = Authority::open(&world.pki()).unwrap();
    authority.revoke(&Selector::Serial(enroller.serial), at(START)).unwrap();
    let paths = PkiPaths::in_dir(&world.pki());
    let tls = ServerTls::load_at(&paths, world.clock.clone()).unwrap();
    let endpoint =
        quinn::Endpoint::server(tls.server_config(1).unwrap(), ([127, 0, 0, 1], 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let accepted = tokio::spawn(async move { endpoint.accept().await.unwrap().await.map(drop) });
    let tls = client_config(&Identity::load(&dir).unwrap(), Some(world.clock.clone())).unwrap();
    let _connection = connect(address, tls).await;
    let error = soon(accepted).await.unwrap().unwrap_err();
    assert!(error.to_string().to_lowercase().contains("revoked"), "{error}");
}

#[tokio::test]
async fn a_certificate_renews_itself_by_its_own_key() {
    let world = World::start();
    let (token, key) = (world.token("plaza-1"), KeyPair::generate().unwrap());
    let first = world.granted(&token, &key).await;
    let dir = world.save("box", &first, &key);
    assert_eq!(code(world.renew(&dir, &key).await), EnrollCode::Early);
    world.clock.set(START + 60 * DAY);
    assert_eq!(code(world.renew(&dir, &KeyPair::generate().unwrap()).await), EnrollCode::Request);
    let EnrollReplyMsg::Granted(second) = world.renew(&dir, &key).await else { panic!("not renewed") };
    let me = PeerIdentity::from_der(&second.chain[0]).unwrap();
    assert_eq!((me.camera.as_deref(), me.not_after), (Some("plaza-1"), at(START + 150 * DAY)));
    assert_ne!(second.chain[0], first.chain[0]);
    let newer = world.save("newer", &second, &key);
    Identity::load(&newer).unwrap();
    let without = EnrollRequestMsg::Renew { request: request(&key) };
    let config = Pinned::new(token.subject().authority).config(world.clock.clone()).unwrap();
    assert_eq!(code(ask(world.address, config, &without).await), EnrollCode::Certificate);
    world.folder().withdraw("plaza-1", at(START + 60 * DAY)).unwrap();
    assert_eq!(code(world.renew(&dir, &key).await), EnrollCode::Withdrawn);
    assert_eq!(world.audited().iter().filter(|line| line.what == Attempt::Renewed).count(), 1);
}

#[tokio::test]
async fn attempts_are_limited() {
    let world = World::start();
    let token = world.token("plaza-1");
    let forged = Token::new(token.subject().clone()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut codes = Vec::new();
    for _ in 0..11 {
        codes.push(world.refused(&forged, &key).await);
    }
    assert_eq!(codes[..10], [EnrollCode::Token; 10]);
    assert_eq!(codes[10], EnrollCode::Busy);
    assert_eq!(world.audited().len(), 11, "what is beyond the limit writes nothing");
}

#[tokio::test]
async fn a_connection_that_says_something_else_is_closed() {
    let world = World::start();
    let config = Pinned::new(world.token("plaza-1").subject().authority).config(world.clock.clone()).unwrap();
    let (_endpoint, connection) = connect(world.address, config).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[0xff; 64]).await.unwrap();
    let closed = soon(connection.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(why) = closed else { panic!("{closed:?}") };
    assert_eq!(why.error_code, close::MALFORMED.into());
}

#[test]
fn an_enroller_belongs_to_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::of(&["localhost".into()], None).unwrap();
    let authority = |name: &str| Authority::init(&dir.path().join(name), None, at(START)).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let enroll = dir.path().join("enroll");
    Folder::init(&ours, &enroll, &settings, at(START)).unwrap();
    let error = Folder::init(&ours, &enroll, &settings, at(START)).unwrap_err().to_string();
    assert!(error.contains("enroll/ca.pem is there already"), "{error}");
    let root = |authority: &Authority| {
        let pem = std::fs::read(authority.dir().join("ca.pem")).unwrap();
        CertificateDer::from_pem_slice(&pem).unwrap()
    };
    dc_encoder::enroll::Desk::open(&enroll, &root(&ours)).unwrap();
    let error = dc_encoder::enroll::Desk::open(&enroll, &root(&other)).unwrap_err().to_string();
    assert!(error.contains("another authority"), "{error}");
    let error = Folder::open(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("enroll init"), "{error}");
    let too_long =
        Folder::open(&enroll).unwrap().create("plaza-1", SignedDuration::from_hours(200), at(START));
    assert!(too_long.unwrap_err().to_string().contains("7 days"));
}

/// The fixtures' authority is like one of an older release.
#[test]
fn an_authority_of_an_older_release_is_told_so() {
    let world = Pki::new();
    std::fs::write(world.dir().join("issued.jsonl"), "").unwrap();
    let key = world.authority().key_pem();
    std::fs::write(world.dir().join("ca.key"), key).unwrap();
    std::fs::copy(world.dir().join("server/ca.pem"), world.dir().join("ca.pem")).unwrap();
    let authority = Authority::open(world.dir()).unwrap();
    let error =
        authority.delegate(&world.dir().join("enroll"), 30, at(ALWAYS[0] + DAY)).unwrap_err().to_string();
    assert!(error.contains("older release") && error.contains("pki init"), "{error}");
}
