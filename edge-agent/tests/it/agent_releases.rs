//! Heads that reach a running agent: pushed, refused, taken off, and there again after a kill.

use std::path::PathBuf;

use protocol::{EncoderToAgentMsg, HeadReport, ReleaseId, SpaceId, Wanted};
use shared::head::{InputSpec, Manifest};
use shared::release::{Assignment, FORMAT, KeyRing, KeyRole, RingKey, Share, SigningKey, digest, sign_head};
use tokio::process::Command;

use crate::agent_encoder::{Behaviour, Encoder, Seen};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, bare, frames, head, manifest};

const NAME: &str = "frame-number";

/// Keys, and a box that trusts them.
struct Operator {
    pki: Pki,
    root: SigningKey,
    heads: SigningKey,
    assignments: SigningKey,
    source: PathBuf,
}

impl Operator {
    fn new() -> Self {
        let (pki, root) = (Pki::new(), SigningKey::generate());
        let source = frames(&pki, 3000);
        let operator =
            Self { pki, root, heads: SigningKey::generate(), assignments: SigningKey::generate(), source };
        let keys = operator.pki.path();
        std::fs::write(keys.join("root.pub"), operator.root.public().to_string()).unwrap();
        std::fs::write(keys.join("key-ring"), operator.ring(1, false)).unwrap();
        operator
    }

    fn ring(&self, version: u64, revoked: bool) -> Vec<u8> {
        let entry = |name: &str, key: &SigningKey, role, revoked| RingKey {
            name: name.into(),
            key: key.public(),
            role,
            revoked,
        };
        let keys = vec![
            entry("heads-1", &self.heads, KeyRole::Heads, revoked),
            entry("assignments-1", &self.assignments, KeyRole::Assignments, false),
        ];
        KeyRing { format: FORMAT, version, keys }.sign(&self.root).unwrap()
    }

    /// A head file, as the encoder has it.
    fn publish(&self, encoder: &Encoder, manifest: &Manifest) -> (ReleaseId, Vec<u8>) {
        let bytes = std::fs::read(head(&self.pki, manifest)).unwrap();
        let (release, signature) = (digest(&bytes), sign_head(&bytes, &self.heads));
        encoder.behave(|behaviour| {
            behaviour.releases.insert(release, (bytes.clone(), signature));
        });
        (release, bytes)
    }

    fn wants(&self, counter: u64, release: ReleaseId) -> EncoderToAgentMsg {
        let assignment = Assignment {
            format: FORMAT,
            channel: format!("{NAME}@stable").parse().unwrap(),
            counter,
            release,
            fallback: None,
            cameras: vec!["*".parse().unwrap()],
            share: Share::WHOLE,
            promotion: None,
            rollback: false,
        };
        let assignment = assignment.sign(&self.assignments).unwrap();
        EncoderToAgentMsg::Wanted(Wanted { assignment, share: 1000 })
    }

    fn store(&self) -> PathBuf {
        self.pki.path().join("store")
    }

    fn agent(&self, encoder: &Encoder) -> Command {
        let mut command = bare(["run", "--fps", "20", "--server", &encoder.server()]);
        command.arg("--source").arg(&self.source);
        command.arg("--identity").arg(self.pki.camera("plaza-1"));
        command.arg("--heads-dir").arg(self.store());
        command.arg("--release-root").arg(self.pki.path().join("root.pub"));
        command
    }
}

fn unit(unit: &str) -> Manifest {
    let mut manifest = manifest(NAME);
    manifest.output.unit = unit.into();
    manifest
}

async fn report(encoder: &mut Encoder, mut wanted: impl FnMut(&HeadReport) -> bool) -> HeadReport {
    encoder
        .sees(|seen| match seen {
            Seen::Head(report) if wanted(report) => Some(report.clone()),
            _ => None,
        })
        .await
}

fn push(encoder: &Encoder, message: EncoderToAgentMsg) {
    encoder.behave(|behaviour| behaviour.push.push(message));
}

#[tokio::test]
async fn a_pushed_release_answers_and_is_there_after_a_kill() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (first, bytes) = operator.publish(&encoder, &unit("first"));
    // What an interrupted fetch left behind.
    std::fs::create_dir_all(operator.store().join("fetching")).unwrap();
    std::fs::write(operator.store().join("fetching").join(first.to_string()), &bytes[..100]).unwrap();
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, first));
    let offset =
        encoder.sees(|seen| if let Seen::Fetch(fetch) = seen { Some(fetch.offset) } else { None }).await;
    assert_eq!(offset, 100, "it goes on where it stopped");
    let active = report(&mut encoder, |report| report.active == Some(first)).await;
    assert_eq!(
        (active.channel.as_str(), active.counter, active.error.as_str()),
        ("frame-number@stable", 1, "")
    );
    assert_eq!(agent.answer().await["release"], first.short());

    let (second, _) = operator.publish(&encoder, &unit("second"));
    push(&encoder, operator.wants(2, second));
    report(&mut encoder, |report| report.active == Some(second)).await;
    agent.until(|line| line["release"] == second.short().as_str()).await;
    agent.signal("KILL");
    let finished = agent.finish().await;
    let answers = finished.lines.iter().filter(|line| line["stale"] == false);
    let seqs: Vec<_> = answers.map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] != pair[1]), "no frame is answered by two");

    encoder.behave(|behaviour| behaviour.push = vec![operator.wants(1, first)]);
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    assert_eq!(agent.answer().await["release"], second.short(), "without any server's help");
    let replayed = report(&mut encoder, |report| !report.error.is_empty()).await;
    assert!(replayed.error.contains("it is a replay") && replayed.active == Some(second), "{replayed:?}");
}

/// Pushes a good release and then one that `spoil` spoils; what the agent says about it.
async fn refused(spoil: impl FnOnce(&Operator, &Encoder) -> ReleaseId) -> HeadReport {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, _) = operator.publish(&encoder, &unit("good"));
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, good));
    report(&mut encoder, |report| report.active == Some(good)).await;
    let bad = spoil(&operator, &encoder);
    push(&encoder, operator.wants(2, bad));
    let report = report(&mut encoder, |report| report.failed == Some(bad)).await;
    assert_eq!((report.active, report.wanted), (Some(good), Some(bad)), "the last good one stays");
    report
}

#[tokio::test]
async fn a_corrupted_release_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let (bad, _) = operator.publish(encoder, &unit("bad"));
        encoder.behave(|behaviour| {
            behaviour.releases.entry(bad).and_modify(|(bytes, _)| *bytes.last_mut().unwrap() ^= 1);
        });
        bad
    });
    assert!(report.await.error.contains("changed or cut"));
}

#[tokio::test]
async fn a_release_for_another_space_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let input = InputSpec { space: SpaceId([9; 32]).to_string(), dim: 4, grid: None };
        operator.publish(encoder, &Manifest { input, ..unit("bad") }).0
    });
    assert!(report.await.error.contains("was trained on embedding space"));
}

#[tokio::test]
async fn a_release_of_a_revoked_key_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        push(encoder, EncoderToAgentMsg::KeyRing { document: operator.ring(2, true) });
        operator.publish(encoder, &unit("bad")).0
    });
    assert!(report.await.error.contains("was revoked"));
}

#[tokio::test]
async fn a_full_disk_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let (bad, _) = operator.publish(encoder, &unit("bad"));
        let part = operator.store().join("fetching").join(bad.to_string());
        std::os::unix::fs::symlink("/dev/full", part).unwrap();
        bad
    });
    assert!(report.await.error.contains("No space left"));
}
