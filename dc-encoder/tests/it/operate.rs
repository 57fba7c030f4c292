//! Operators at a running server: who may, what is done, and what is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dc_encoder::keys::KeyFolder;
use dc_encoder::operate::order::{Publication, rollback};
use dc_encoder::operate::{Client, Desk};
use fixtures::{ALWAYS, Leaf};
use protocol::limits::{MAX_AUDIT_LINES, MAX_CONTROL_BYTES};
use protocol::{
    EncoderToAgentMsg, OperatorCode, OperatorReplyMsg, OperatorRequestMsg, ReleaseId, RolloutAction,
    StreamKind, close,
};
use rustls::time_provider::TimeProvider;
use shared::release::{Channel, KeyRole, Promotion, Share, digest, sign_head};
use shared::tls::system_time;
use shared::wire::{expect_msg, write_msg};
use tempfile::TempDir;

use crate::registry::heads;
use crate::serve_support::{Fake, World, connect, soon, until};

/// A server with an empty registry, and an operator's keys and certificate.
pub struct Office {
    pub world: World,
    pub keys: KeyFolder,
    dir: TempDir,
}

impl Office {
    fn open() -> Self {
        Self::open_at(system_time())
    }

    /// The same, with another clock for certificates.
    pub fn open_at(clock: Arc<dyn TimeProvider>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFolder::init(&dir.path().join("keys")).unwrap();
        let world = World::start_at(Fake::new(), clock, |config| {
            config.registry = Some(dir.path().join("registry"));
            config.release_root = Some(dir.path().join("keys/root.pub"));
        });
        Self { world, keys, dir }
    }

    pub fn server(&self) -> String {
        format!("localhost:{}", self.world.address.port())
    }

    fn certificate(&self) -> PathBuf {
        self.world.pki.issue(&Leaf::operator("ann", 77, ALWAYS))
    }

    async fn desk(&self) -> Desk {
        Desk::Remote(soon(Client::connect(&self.server(), &self.certificate())).await.unwrap())
    }

    pub fn sign(&self, head: &[u8]) -> Vec<u8> {
        sign_head(head, &self.keys.signing_key(KeyRole::Heads, None).unwrap())
    }

    async fn publish(&self, desk: &Desk, head: &[u8]) -> ReleaseId {
        desk.bring_ring(&self.keys).await.unwrap();
        let note = desk.publish(head, &self.sign(head)).await.unwrap();
        assert_eq!(note, "");
        digest(head)
    }

    pub fn audit(&self) -> Vec<String> {
        let lines = self.world.server.registrar().unwrap().store().audit(99).unwrap();
        lines.into_iter().rev().map(|line| format!("{}: {}", line.by, line.what)).collect()
    }
}

fn channel() -> Channel {
    "people-count@stable".parse().unwrap()
}

fn publication(release: ReleaseId) -> Publication {
    Publication { channel: channel(), release, cameras: None, share: Share::WHOLE, promotion: None }
}

/// Sends a request as whoever the certificate says, and these bytes after it.
async fn ask(
    certificate: &Path,
    world: &World,
    request: &OperatorRequestMsg,
    bytes: &[u8],
) -> (OperatorReplyMsg, quinn::Connection) {
    let (_endpoint, connection) = connect(certificate, world.address).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[StreamKind::Operator as u8]).await.unwrap();
    write_msg(&mut send, request, MAX_CONTROL_BYTES).await.unwrap();
    // A server that knows enough stops reading.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    (soon(expect_msg(&mut recv, MAX_CONTROL_BYTES)).await.unwrap(), connection)
}

fn refusal(reply: OperatorReplyMsg) -> (OperatorCode, String) {
    match reply {
        OperatorReplyMsg::Refused { code, message } => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_operator_publishes_and_rolls_back_and_a_camera_hears_of_it() {
    let office = Office::open();
    let (first, second) = heads();
    let desk = office.desk().await;
    let one = office.publish(&desk, &first).await;
    assert!(desk.standing(&office.keys, &channel()).await.unwrap().is_none());
    desk.assign(&office.keys, &publication(one).after(None)).await.unwrap();
    let mut agent = office.world.agent("plaza-1", 1).await;
    assert!(matches!(agent.heard().await, EncoderToAgentMsg::KeyRing { .. }));
    let mut given = async || match agent.heard().await {
        EncoderToAgentMsg::Wanted(wanted) => {
            office.keys.trust().open_assignment(&wanted.assignment).unwrap().assignment
        }
        other => panic!("not what is wanted: {other:?}"),
    };
    assert_eq!(given().await.release, one);

    let two = office.publish(&desk, &second).await;
    assert_eq!(desk.publish(&second, &office.sign(&second)).await.unwrap(), "was there already");
    let (standing, _) = desk.standing(&office.keys, &channel()).await.unwrap().unwrap();
    desk.assign(&office.keys, &publication(two).after(Some(&standing))).await.unwrap();
    assert_eq!(given().await.release, two);
    let (standing, history) = desk.standing(&office.keys, &channel()).await.unwrap().unwrap();
    assert_eq!((standing.assignment.fallback, history.len()), (Some(one), 2));
    desk.assign(&office.keys, &rollback(&standing, None).unwrap()).await.unwrap();
    let back = given().await;
    assert_eq!((back.release, back.counter, back.rollback), (one, 3, true));
    desk.close().await;
    let audit = office.audit();
    assert_eq!(audit.len(), 7, "root, ring, two releases, three assignments: {audit:?}");
    assert!(audit[1..].iter().all(|line| line.starts_with("ann: ")), "{audit:?}");
}

#[tokio::test]
async fn the_newest_lines_of_the_audit_log_are_read_through_the_server() {
    let office = Office::open();
    let desk = office.desk().await;
    let (first, second) = heads();
    office.publish(&desk, &first).await;
    office.publish(&desk, &second).await;
    let all = desk.audit(MAX_AUDIT_LINES).await.unwrap();
    let lines: Vec<_> = all.iter().rev().map(|line| format!("{}: {}", line.by, line.what)).collect();
    assert_eq!(lines, office.audit());
    assert_eq!(desk.audit(2).await.unwrap(), all[..2], "the newest");
    assert!(all[0].what.starts_with(&format!("release {}", digest(&second))), "{all:?}");
    let camera = office.world.pki.camera("plaza-1", 5);
    let (reply, _connection) = ask(&camera, &office.world, &OperatorRequestMsg::Audit { last: 9 }, &[]).await;
    assert_eq!(refusal(reply).0, OperatorCode::Role);
}

#[tokio::test]
async fn a_cameras_certificate_may_not_publish() {
    let office = Office::open();
    let camera = office.world.pki.camera("plaza-1", 5);
    let (first, _) = heads();
    let before = office.audit();
    let publish = OperatorRequestMsg::Publish {
        release: digest(&first),
        total: first.len().try_into().unwrap(),
        signature: office.sign(&first),
    };
    let ring = OperatorRequestMsg::KeyRing { document: office.keys.trust().document().to_vec() };
    let status = OperatorRequestMsg::Status { channel: String::new(), cameras: String::new() };
    for (request, bytes) in [(publish, &first[..]), (ring, &[]), (status, &[])] {
        let (reply, connection) = ask(&camera, &office.world, &request, bytes).await;
        let (code, message) = refusal(reply);
        assert_eq!(code, OperatorCode::Role);
        assert!(message.contains("role camera") && message.contains("--operator"), "{message}");
        let quinn::ConnectionError::ApplicationClosed(end) = soon(connection.closed()).await else {
            panic!()
        };
        assert_eq!(end.error_code.into_inner(), u64::from(close::REFUSED));
    }
    // Nor beside a session that was admitted.
    let agent = office.world.agent("plaza-1", 5).await;
    let (mut send, _recv) = agent.connection.open_bi().await.unwrap();
    send.write_all(&[StreamKind::Operator as u8]).await.unwrap();
    assert_eq!(agent.closed().await.0, close::MALFORMED);
    assert_eq!(office.audit(), before, "nothing was changed");
}

#[tokio::test]
async fn an_upload_that_is_cut_lies_or_is_too_long_leaves_nothing() {
    let office = Office::open();
    let (desk, operator) = (office.desk().await, office.certificate());
    desk.bring_ring(&office.keys).await.unwrap();
    let (first, second) = heads();
    let total: u32 = first.len().try_into().unwrap();
    let upload = async |total: u32, bytes: &[u8]| {
        let (release, signature) = (digest(&first), office.sign(&first));
        let request = OperatorRequestMsg::Publish { release, total, signature };
        refusal(ask(&operator, &office.world, &request, bytes).await.0)
    };
    let longer = [&first[..], b"x"].concat();
    assert_eq!(upload(total, &first[..9]).await.0, OperatorCode::Malformed);
    assert_eq!(upload(total, &longer).await.0, OperatorCode::Malformed);
    let (code, message) = upload(second.len().try_into().unwrap(), &second).await;
    assert!(code == OperatorCode::Malformed && message.contains("was announced"), "{message}");
    // Cut off in the middle: the connection is gone, and so is the file.
    let request =
        OperatorRequestMsg::Publish { release: digest(&first), total, signature: office.sign(&first) };
    let (_endpoint, connection) = connect(&operator, office.world.address).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[StreamKind::Operator as u8]).await.unwrap();
    write_msg(&mut send, &request, MAX_CONTROL_BYTES).await.unwrap();
    send.write_all(&first[..9]).await.unwrap();
    let blobs = office.dir.path().join("registry/blobs");
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    until(|| count() == 1).await;
    connection.close(0_u32.into(), b"");
    until(|| count() == 0).await;
    assert!(office.audit().iter().all(|line| !line.contains("release ")), "{:?}", office.audit());
    desk.publish(&first, &office.sign(&first)).await.unwrap();
}

#[tokio::test]
async fn what_another_key_signed_is_refused() {
    let office = Office::open();
    let desk = office.desk().await;
    let (first, _) = heads();
    let unsigned = desk.publish(&first, &office.sign(&first)).await.unwrap_err().to_string();
    assert!(unsigned.contains("no key ring yet"), "{unsigned}");
    let one = office.publish(&desk, &first).await;
    // Other keys, of another root: not the registry's.
    let other = KeyFolder::init(&office.dir.path().join("other")).unwrap();
    let refused = desk.bring_ring(&other).await.unwrap_err().to_string();
    assert!(refused.contains("signed by root"), "{refused}");
    let refused = desk.assign(&other, &publication(one).after(None)).await.unwrap_err().to_string();
    assert!(refused.contains("is not in key ring"), "{refused}");
    // A key that signs heads signs no assignment.
    let heads_key = office.keys.signing_key(KeyRole::Heads, None).unwrap();
    let assignment = publication(one).after(None).sign(&heads_key).unwrap();
    let refused = desk.ask(&OperatorRequestMsg::Assign { assignment }).await.unwrap_err().to_string();
    assert!(refused.contains("signs heads, not assignments"), "{refused}");
}

#[tokio::test]
async fn a_head_for_another_space_is_kept_and_whoever_published_it_is_told() {
    let office = Office::open();
    let desk = office.desk().await;
    desk.bring_ring(&office.keys).await.unwrap();
    let (mut head, _) = heads();
    let at = head.windows(64).position(|digits| digits == "07".repeat(32).as_bytes()).unwrap();
    head[at + 1] = b'8';
    let note = desk.publish(&head, &office.sign(&head)).await.unwrap();
    assert!(note.contains("space 080707070707") && note.contains("this server makes 0707"), "{note}");
}

#[tokio::test]
async fn a_revoked_key_publishes_no_more() {
    let mut office = Office::open();
    let desk = office.desk().await;
    let (first, second) = heads();
    office.publish(&desk, &first).await;
    let signature = office.sign(&second);
    office.keys.revoke("heads-1", None).unwrap();
    desk.bring_ring(&office.keys).await.unwrap();
    let refused = desk.publish(&second, &signature).await.unwrap_err().to_string();
    assert!(refused.contains("was revoked"), "{refused}");
    office.keys.rotate(KeyRole::Heads, None).unwrap();
    office.publish(&desk, &second).await;
}

#[tokio::test]
async fn a_canary_is_held_promoted_and_not_steered_by_an_old_counter() {
    let office = Office::open();
    let desk = office.desk().await;
    let (first, second) = heads();
    let (one, two) = (office.publish(&desk, &first).await, office.publish(&desk, &second).await);
    desk.assign(&office.keys, &publication(one).after(None)).await.unwrap();
    let standing = desk.standing(&office.keys, &channel()).await.unwrap().unwrap().0;
    let share = "10%".parse().unwrap();
    let canary = Publication { share, promotion: Some(Promotion::USUAL), ..publication(two) };
    desk.assign(&office.keys, &canary.after(Some(&standing))).await.unwrap();
    let steer = async |counter, action| {
        let request = OperatorRequestMsg::Rollout { channel: channel().to_string(), counter, action };
        desk.ask(&request).await.map(drop).map_err(|error| error.to_string())
    };
    let share = async || desk.standing(&office.keys, &channel()).await.unwrap().unwrap().0.share;
    assert_eq!(share().await.to_string(), "10%");
    assert!(steer(1, RolloutAction::Abort).await.unwrap_err().contains("went on to assignment 2"));
    steer(2, RolloutAction::Hold).await.unwrap();
    steer(2, RolloutAction::Abort).await.unwrap();
    assert_eq!(share().await, Share::NONE);
    steer(2, RolloutAction::Promote).await.unwrap();
    assert_eq!(share().await, Share::WHOLE);
    assert!(steer(2, RolloutAction::Promote).await.unwrap_err().contains("largest share"));
}

#[tokio::test]
async fn a_server_without_a_registry_and_a_strange_certificate_say_so() {
    let world = World::start(Fake::new(), |_| {});
    let server = format!("localhost:{}", world.address.port());
    let desk = Client::connect(&server, &world.pki.issue(&Leaf::operator("ann", 77, ALWAYS))).await.unwrap();
    let all = OperatorRequestMsg::Channel { channel: String::new() };
    let refused = Desk::Remote(desk).ask(&all).await.unwrap_err().to_string();
    assert!(refused.contains("serve --registry"), "{refused}");
    let strange = crate::serve_support::Pki::new();
    let failed = Client::connect(&server, &strange.camera("plaza-1", 3)).await;
    assert!(failed.unwrap_err().to_string().contains("CA"), "another authority");
    let nowhere = Client::connect("localhost", Path::new("missing")).await.unwrap_err().to_string();
    assert!(nowhere.contains("--cert"), "{nowhere}");
}
