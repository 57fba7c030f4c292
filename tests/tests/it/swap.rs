//! A head's whole way with the real programs: trained, signed, published, answering, rolled back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use shared::head::Head;
use tests::{
    process,
    setup::{CAMERA, Prepared, Server},
};

use crate::agent::{Agent, GUARD, live_list, small_setup};

/// Frames of a camera that outlasts the test: two minutes, at one a second.
const FRAMES: u32 = 120;
pub const CHANNEL: &str = "people-count@stable";

/// What an operator has, and a server with a registry.
pub struct Shop {
    pub prepared: Prepared,
    pub server: Server,
    pub dir: PathBuf,
    extra: Vec<String>,
}

impl Shop {
    pub fn open(dir: &Path) -> Self {
        let (prepared, first) = small_setup(dir, FRAMES);
        drop(first);
        let shown = |name: &str| dir.join(name).display().to_string();
        for args in [["--operator", "ann"], ["--camera", "gate"]] {
            dc(&["pki", "issue", "--dir", prepared.pki.to_str().unwrap(), args[0], args[1]]);
        }
        let extra =
            vec!["--registry".into(), shown("registry"), "--release-root".into(), shown("keys/root.pub")];
        let words: Vec<&str> = extra.iter().map(String::as_str).collect();
        let server = prepared.serve_with(dir, "127.0.0.1:0", &words).unwrap();
        Self { prepared, server, dir: dir.to_owned(), extra }
    }

    /// The same server again, after a kill.
    fn serve_again(&mut self) {
        let words: Vec<&str> = self.extra.iter().map(String::as_str).collect();
        self.server = self.prepared.serve_with(&self.dir, &self.server.address, &words).unwrap();
    }

    /// A signed head whose answers are in this unit: another unit, another release.
    pub fn head(&self, unit: &str) -> (String, String) {
        signed_head(&self.dir, unit)
    }

    /// A signed head for the same embeddings as this one that is far too slow on every frame.
    fn slow_head(&self, other: &str) -> (String, String) {
        let file = self.dir.join("slow.safetensors").display().to_string();
        let other = Head::load(Path::new(other)).unwrap();
        std::fs::write(&file, fixtures::slow(other.manifest())).unwrap();
        let signed = self.operate(&["sign", &file]);
        (file, signed.split("release ").nth(1).unwrap()[..12].to_owned())
    }

    /// `dc-encoder head …` in the operator's folder, as the holder of this certificate.
    fn operate_as(&self, certificate: &str, args: &[&str]) -> Result<String, String> {
        let output = Command::new(process::program("dc-encoder").unwrap())
            .arg("head")
            .args(args)
            .env("FTH_SERVER", &self.server.address)
            .env("FTH_CERT", self.prepared.pki.join(certificate))
            .current_dir(&self.dir)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    pub fn operate(&self, args: &[&str]) -> String {
        self.operate_as("operators/ann", args).unwrap()
    }

    fn agent(&self) -> Agent {
        self.agent_with(&["--fps", "1"])
    }

    pub fn agent_with(&self, extra: &[&str]) -> Agent {
        let source = live_list(&self.prepared);
        let store = self.dir.join("store").display().to_string();
        let extra = [&["--source", &source, "--deadline", "1m", "--heads-dir", &store], extra].concat();
        let bare = Prepared { heads: Vec::new(), ..self.prepared.clone() };
        Agent::start(&bare, &self.dir, &self.server.address, &extra)
    }
}

/// A signed head, trained on what was [prepared](tests::setup::prepare) in `dir`, whose answers are in this unit:
/// another unit, another release. Its file and its release.
pub fn signed_head(dir: &Path, unit: &str) -> (String, String) {
    let [file, keys] =
        [&format!("{unit}.safetensors"), "keys"].map(|name| dir.join(name).display().to_string());
    train_head(dir, unit, &file);
    let signed = dc(&["head", "sign", &file, "--keys", &keys]);
    let release = signed.split("release ").nth(1).unwrap()[..12].to_owned();
    (file, release)
}

/// As [`signed_head`], unsigned.
pub fn train_head(dir: &Path, unit: &str, file: &str) {
    let at = |name: &str| dir.join(name).display().to_string();
    let [embeddings, labels] = ["embeddings.safetensors", "training/labels.jsonl"].map(at);
    let train = ["head", "train", "--task", "count", "--embeddings", &embeddings, "--labels", &labels];
    dc(&[&train[..], &["--kind", "linear", "--unit", unit, "--out", file]].concat());
}

/// Asks until the answer has these words.
fn until(ask: impl Fn() -> String, words: &str) -> String {
    let end = Instant::now() + GUARD;
    loop {
        let answer = ask();
        if answer.contains(words) {
            return answer;
        }
        assert!(Instant::now() < end, "{words} never came:\n{answer}");
    }
}

fn dc(args: &[&str]) -> String {
    process::run("dc-encoder", args).unwrap()
}

#[test]
fn train_sign_publish_watch_roll_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(dir.path());
    let ((first, one), (second, two)) = (shop.head("people"), shop.head("persons"));
    let mut agent = shop.agent();
    let watch = ["status", "--channel", CHANNEL, "--watch"];
    let publish = |file| ["publish", file, "--channel", CHANNEL];

    let text = shop.operate(&publish(&first));
    assert!(text.contains(&format!("assignment 1 gives release {one} to 100% of *")), "{text}");
    let text = shop.operate(&watch);
    assert!(text.contains(CAMERA) && text.contains(&one), "{text}");
    agent.until("answer of the first release", |line| line.release.as_ref() == Some(&one));

    let denied = shop.operate_as("cameras/gate", &publish(&second)).unwrap_err();
    assert!(denied.contains("the certificate's role may not do this"), "{denied}");
    shop.operate(&publish(&second));
    shop.operate(&watch);
    agent.until("answer of the second release", |line| line.release.as_ref() == Some(&two));

    // The server dies, and what it knew is there again; the camera goes on.
    shop.server.encoder.signal("KILL").unwrap();
    shop.server.encoder.wait(GUARD).unwrap();
    shop.serve_again();
    let text = shop.operate(&["rollback", "--channel", CHANNEL]);
    assert!(text.contains(&format!("assignment 3 gives release {one}")), "{text}");
    shop.operate(&watch);
    agent.until("answer of the first release again", |line| line.release.as_ref() == Some(&one));
    let status = shop.operate(&["status", "--channel", CHANNEL]);
    for part in [CAMERA, &one, "assignment 3 (rollback)", "assigned, by ann"] {
        assert!(status.contains(part), "{part} is not in\n{status}");
    }

    let audit = shop.operate(&["audit", "--last", "2"]);
    let lines: Vec<&str> = audit.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("  ann  people-count@stable: assignment 3 of"), "{audit}");

    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
    let mut answers: Vec<u64> = agent.seen.iter().filter(|l| l.is_answer()).map(|l| l.seq).collect();
    let all = answers.len();
    answers.dedup();
    assert_eq!(answers.len(), all, "no frame is answered by two releases");
}

#[test]
fn a_release_that_takes_too_long_goes_back_and_status_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::open(dir.path());
    let (good, one) = shop.head("people");
    let (bad, two) = shop.slow_head(&good);
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, "head_budget = \"15ms\"\n").unwrap();
    let mut agent = shop.agent_with(&["--fps", "1", "--config", config.to_str().unwrap()]);
    shop.operate(&["publish", &good, "--channel", CHANNEL]);
    agent.until("answer of the good release", |line| line.release.as_ref() == Some(&one));
    shop.operate(&["publish", &bad, "--channel", CHANNEL]);
    agent.until("answer of the slow release", |line| line.release.as_ref() == Some(&two));
    let status = until(|| shop.operate(&["status", "--channel", CHANNEL]), "does not run");
    agent.catch_up();
    agent.until("answer of the good release again", |line| line.release.as_ref() == Some(&one));
    for part in [&format!("{two} does not run: it was taken off after it ran"), "more than its 15ms", &one] {
        assert!(status.contains(part), "{part} is not in\n{status}");
    }
    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
    let slow = agent.seen.iter().filter(|line| line.release.as_ref() == Some(&two));
    assert!(slow.count() >= 3, "it ran, and its late answers are answers");
    assert_eq!(agent.process.log().matches("a release was fetched").count(), 2, "each once");
}

#[test]
fn a_registry_folder_is_worked_on_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (keys, registry) = (at("keys"), at("registry"));
    dc(&["keys", "init", "--dir", &keys]);
    let place = ["--registry", &registry, "--keys", &keys];
    let none = process::run("dc-encoder", [&["head", "rollback", "--channel", CHANNEL], &place[..]].concat());
    assert!(none.unwrap_err().to_string().contains("has no assignment yet"));
    let status = dc(&[&["head", "status"], &place[..]].concat());
    assert!(status.contains("only a running server knows"), "{status}");
    let audit = dc(&["head", "audit", "--registry", &registry]);
    assert!(audit.contains("server  root "), "{audit}");
    let missing = at("missing");
    let none = process::run("dc-encoder", ["head", "audit", "--registry", &missing]).unwrap_err().to_string();
    assert!(none.contains("missing is no folder"), "{none}");
    let nowhere = process::run("dc-encoder", ["head", "status", "--keys", &keys]).unwrap_err().to_string();
    assert!(nowhere.contains("--server HOST:PORT --cert DIR"), "{nowhere}");
}
