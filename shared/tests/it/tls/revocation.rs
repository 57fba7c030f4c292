//! Revocation: before a connection, during one, and lists that must not be believed.

use std::time::Duration;

use fixtures::{Authority, Clock, Leaf, replace};
use shared::tls::{CrlError, PeerIdentity};

use super::world::{Agent, Attempt, Encoder, LONG, NOON, VALID, attempt, refused};

/// Far longer than it takes: reached only when it never comes. How often the list is read is pinned beside its code.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a revoked camera is told, in the handshake and in a live connection alike.
const REVOKED: &str = "the encoder at encoder.example:4433 refused this agent's certificate: it was revoked (serial \
     07). If that was a mistake, make a new one with `dc-encoder pki issue --camera plaza-1`: a \
     revoked one stays revoked";

struct Scene {
    ca: Authority,
    encoder: Encoder,
    agent: Agent,
}

fn scene() -> Scene {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    Scene { ca, encoder, agent }
}

#[tokio::test]
async fn a_camera_revoked_before_the_encoder_starts() {
    let ca = Authority::new("CA", LONG);
    ca.revoke(2, &[7]);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    let (agent, encoder) = refused(&agent, &encoder).await;
    assert_eq!(agent, REVOKED);
    assert_eq!(
        encoder,
        "the agent at 10.0.0.7:5 presented a revoked certificate (camera plaza-1), serial 07. If it \
         should be let in, issue it a new certificate: a revoked one stays revoked"
    );
}

#[tokio::test]
async fn a_live_connection_ends_and_a_new_one_is_refused() {
    let scene = scene();
    let revocations = scene.encoder.tls.revocations().clone();
    let _guard = revocations.watch();
    let other = Agent::new(&scene.ca.issue(&Leaf::camera("plaza-2", 8, VALID)), Clock::at(NOON));
    let (bystander, _their_end) = attempt(&other, other.config(), &scene.encoder, "localhost").await.both();
    let (ours, theirs) =
        attempt(&scene.agent, scene.agent.config(), &scene.encoder, "localhost").await.both();
    let session = tokio::spawn(async move {
        revocations.revoked(&PeerIdentity::of(&theirs).unwrap().serial).await;
        theirs.close(protocol::close::REVOKED.into(), b"");
    });
    scene.ca.revoke(2, &[7]);
    let closed = tokio::time::timeout(PATIENCE, ours.closed()).await.unwrap();
    assert_eq!(scene.agent.explain(&closed), REVOKED);
    session.await.unwrap();

    let again = attempt(&scene.agent, scene.agent.config(), &scene.encoder, "localhost").await;
    again.encoder.unwrap_err();
    assert_eq!(scene.agent.explain(&again.agent.unwrap_err()), REVOKED);
    assert!(bystander.close_reason().is_none(), "another camera lost its connection");
}

#[tokio::test]
async fn the_watcher_survives_a_broken_list_and_a_missing_one() {
    let scene = scene();
    let revocations = scene.encoder.tls.revocations();
    let _guard = revocations.watch();
    replace(&scene.ca.crl_path(), "half a li");
    assert!(matches!(seen(revocations.reload()), None | Some(CrlError::Malformed { .. })));
    std::fs::remove_file(scene.ca.crl_path()).unwrap();
    assert!(matches!(revocations.reload(), Err(CrlError::Read(_))));
    scene.ca.revoke(2, &[7]);
    tokio::time::timeout(PATIENCE, revocations.revoked("07")).await.unwrap();
}

/// The watcher may have been first: then the change is not news here.
fn seen(outcome: Result<bool, CrlError>) -> Option<CrlError> {
    assert_ne!(outcome.as_ref().ok(), Some(&true), "the list was believed");
    outcome.err()
}

#[tokio::test]
async fn a_rewritten_list_of_the_same_length_is_noticed() {
    let scene = scene();
    scene.ca.revoke(2, &[1]);
    let revocations = scene.encoder.tls.revocations();
    let _guard = revocations.watch();
    tokio::time::timeout(PATIENCE, revocations.revoked("01")).await.unwrap();
    // In place, same size, and with the old modification time: only reading it tells.
    let path = scene.ca.crl_path();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut text = scene.ca.crl_pem(3, &[7]);
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    text.truncate(text.trim_end().len());
    while text.len() < length {
        text.push('\n');
    }
    std::fs::write(&path, text).unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    tokio::time::timeout(PATIENCE, revocations.revoked("07")).await.unwrap();
}

#[test]
fn lists_that_must_not_be_believed_leave_the_old_one_in_use() {
    let ca = Authority::new("CA", LONG);
    ca.revoke(5, &[7]);
    let paths = ca.server_paths(&Leaf::server(VALID));
    let tls = shared::tls::ServerTls::load_at(&paths, Clock::at(NOON)).unwrap();
    let revocations = tls.revocations();
    let reload_with = |text: &str| {
        replace(&paths.crl, text);
        let outcome = revocations.reload();
        assert!(revocations.is_revoked("07") && !revocations.is_revoked("08"));
        outcome.map_err(|e| e.to_string().replace(&paths.crl.display().to_string(), "CRL"))
    };
    assert_eq!(
        reload_with(&ca.crl_pem(4, &[])).unwrap_err(),
        "the revocation list CRL has number 4, the one in use has 5: an old list would let revoked certificates \
         back in; copy the newest `crl.pem`"
    );
    assert!(reload_with(&ca.crl_pem(5, &[7, 8])).unwrap_err().contains("has number 5"));
    let foreign = Authority::new("CA", LONG).crl_pem(9, &[8]);
    assert!(reload_with(&foreign).unwrap_err().contains("was not signed by our CA"));
    let good = ca.crl_pem(9, &[8]);
    let tampered = good.replacen("MI", "MJ", 1);
    assert!(reload_with(&tampered).is_err());
    assert!(reload_with(&good[..good.len() / 2]).unwrap_err().contains("is not a revocation list in PEM"));
    assert!(reload_with("").unwrap_err().contains("is not a revocation list in PEM"));
    // Written again as it was: nothing new, nothing wrong.
    assert_eq!(reload_with(&ca.crl_pem(5, &[7])), Ok(false));
    assert_eq!(reload_with(&ca.crl_pem(6, &[7])), Ok(true));
}

#[tokio::test]
async fn an_already_revoked_serial_is_reported_at_once() {
    let scene = scene();
    scene.ca.revoke(2, &[7]);
    let revocations = scene.encoder.tls.revocations();
    assert!(revocations.reload().unwrap());
    revocations.revoked("07").await;
    let Attempt { encoder, .. } =
        attempt(&scene.agent, scene.agent.config(), &scene.encoder, "localhost").await;
    encoder.unwrap_err();
}
