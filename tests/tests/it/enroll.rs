//! From a server and a bare box to answers: the two commands of a box, as processes.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use dc_encoder::{
    enroll::{Folder, Settings},
    pki::{Authority, Request, Subject},
};
use jiff::{SignedDuration, Timestamp};
use shared::tls::Identity;
use tests::{
    ports, process,
    setup::{Options, Prepared, demo_model, prepare},
};

use crate::agent::{Agent, GUARD, live_list};

fn run(name: &str, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(process::program(name).unwrap())
        .args(args)
        .env_remove("FTH_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A token on standard output, alone: what a script reads.
fn token(enroll: &str, camera: &str) -> String {
    let made = run("dc-encoder", &["enroll", "create", "--dir", enroll, "--camera", camera], "");
    assert!(made.status.success(), "{}", text(&made));
    let token = String::from_utf8(made.stdout).unwrap();
    assert!(token.starts_with("FTH1") && token.lines().count() == 1, "{token}");
    token
}

/// A server that enrols, with its registry.
struct World {
    prepared: Prepared,
    server: tests::setup::Server,
    enroll: String,
}

/// `published`: a head is there before the server runs.
fn world(dir: &Path, published: bool) -> World {
    let prepared =
        prepare(dir, &Options { model: demo_model(), training_frames: 40, live_frames: 60 }).unwrap();
    let [frames, enrolling] = [ports::lasting(), ports::lasting()];
    let enroll = shown(&dir.join("enroll"));
    let (pki, server) = (shown(&prepared.pki), format!("localhost:{frames}"));
    let at = format!("localhost:{enrolling}");
    let args = ["enroll", "init", "--pki", &pki, "--dir", &enroll, "--server", &server, "--at", &at];
    let made = run("dc-encoder", &args, "");
    assert!(made.status.success(), "{}", text(&made));
    let listen = format!("127.0.0.1:{enrolling}");
    let root = shown(&prepared.keys.join("root.pub"));
    let [registry, keys] = [dir.join("registry"), prepared.keys.clone()].map(|path| shown(&path));
    let head = shown(&prepared.heads[0]);
    let to = ["--channel", "people-count@stable", "--registry", &registry, "--keys", &keys];
    if published {
        let published = run("dc-encoder", &[&["head", "publish", &head], &to[..]].concat(), "");
        assert!(published.status.success(), "{}", text(&published));
    }
    let extra =
        ["--enroll", &enroll, "--enroll-listen", &listen, "--registry", &registry, "--release-root", &root];
    let server = prepared.serve_with(dir, &format!("127.0.0.1:{frames}"), &extra).unwrap();
    World { prepared, server, enroll }
}

#[test]
fn two_commands_on_a_bare_box_give_answers() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), true);
    let camera_box = dir.path().join("box");
    std::fs::create_dir(&camera_box).unwrap();
    let [identity, config] = ["identity", "agent.toml"].map(|name| shown(&camera_box.join(name)));
    let heads = shown(&camera_box.join("heads"));
    let source = live_list(&world.prepared);
    let places = ["--identity", &identity, "--config", &config, "--heads-dir", &heads, "--source", &source];
    let enroll = |stdin: &str| run("edge-agent", &[&["enroll"], &places[..]].concat(), stdin);

    let token = token(&world.enroll, "plaza-7");
    let enrolled = enroll(&token);
    let said = text(&enrolled);
    assert!(enrolled.status.success(), "{said}");
    assert!(said.contains("camera plaza-7") && said.contains("renews itself"), "{said}");
    assert!(!said.contains(token.trim()), "the token is a secret");

    let toml = std::fs::read_to_string(&config).unwrap();
    assert!(toml.contains("camera = \"plaza-7\"") && toml.contains(&world.server.address[9..]), "{toml}");
    assert!(toml.contains("release_root = ") && toml.contains("heads_dir = "), "{toml}");
    let log = camera_box.join("agent.log");
    let agent = process::Running::start("edge-agent", ["run", "--config", &config], &log).unwrap();
    let mut agent = Agent::reading(agent);
    // The head comes over the wire, and its signature is good by the ring that enrolment brought.
    let answer = agent.until("an answer", tests::answers::Line::is_answer);
    assert_eq!((answer.camera.as_str(), answer.head.as_deref()), ("plaza-7", Some("people-count")));

    // A second box with the same token, and the same box again.
    let thief = shown(&dir.path().join("thief"));
    let stolen = run("edge-agent", &["enroll", "--identity", &thief, "--token-file", "-"], &token);
    assert!(!stolen.status.success());
    assert!(text(&stolen).contains("used already, by a box with another key"), "{}", text(&stolen));
    let again = enroll(&token);
    assert!(text(&again).contains("has a certificate already, of camera plaza-7"), "{}", text(&again));
    let listed = run("dc-encoder", &["enroll", "list", "--dir", &world.enroll], "");
    assert!(text(&listed).lines().any(|line| line.starts_with("used") && line.contains("plaza-7")));
    let audited = run("dc-encoder", &["enroll", "audit", "--dir", &world.enroll], "");
    let audited = text(&audited);
    assert!(audited.contains("granted") && audited.contains("refused"), "{audited}");
}

/// The key ring lies beside the server's `root.pub`: a box gets it before anybody has published anything.
#[test]
fn a_box_that_came_before_the_first_head_gets_it_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), false);
    let camera_box = dir.path().join("box");
    std::fs::create_dir(&camera_box).unwrap();
    let [identity, config, heads] =
        ["identity", "agent.toml", "heads"].map(|name| shown(&camera_box.join(name)));
    let source = live_list(&world.prepared);
    let places = ["--identity", &identity, "--config", &config, "--heads-dir", &heads, "--source", &source];
    let enrolled = run("edge-agent", &[&["enroll"], &places[..]].concat(), &token(&world.enroll, "plaza-7"));
    assert!(enrolled.status.success(), "{}", text(&enrolled));
    let toml = std::fs::read_to_string(&config).unwrap();
    assert!(toml.contains("release_root = ") && toml.contains("heads_dir = "), "{toml}");
    let log = camera_box.join("agent.log");
    let args = ["run", "--config", &config, "--deadline", "1m"];
    let mut agent = process::Running::start("edge-agent", args, &log).unwrap();
    agent.wait_for_log("no heads yet", GUARD).unwrap();

    let [pki, keys, head] =
        [&world.prepared.pki, &world.prepared.keys, &world.prepared.heads[0]].map(|path| shown(path));
    let operator = run("dc-encoder", &["pki", "issue", "--dir", &pki, "--operator", "ann"], "");
    assert!(operator.status.success(), "{}", text(&operator));
    let ann = shown(&world.prepared.pki.join("operators/ann"));
    let to = ["--channel", "people-count@stable", "--keys", &keys];
    let publish = ["head", "publish", &head, "--server", &world.server.address, "--cert", &ann];
    let published = run("dc-encoder", &[&publish[..], &to].concat(), "");
    assert!(published.status.success(), "{}", text(&published));
    let mut agent = Agent::reading(agent);
    let answer = agent.until("an answer", tests::answers::Line::is_answer);
    assert_eq!((answer.camera.as_str(), answer.head.as_deref()), ("plaza-7", Some("people-count")));
    agent.stop();
}

#[test]
fn what_is_no_token_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let identity = shown(&dir.path().join("identity"));
    for (given, words) in [("hello", "dc-encoder enroll create"), ("FTH1ABCDEFGH", "mistyped or incomplete")]
    {
        let refused = run("edge-agent", &["enroll", "--identity", &identity], given);
        assert!(!refused.status.success() && text(&refused).contains(words), "{}", text(&refused));
    }
    let file = shown(&dir.path().join("missing"));
    let refused = run("edge-agent", &["enroll", "--identity", &identity, "--token-file", &file], "");
    assert!(text(&refused).contains("cannot read the token from") && text(&refused).contains("missing"));
    assert!(!Path::new(&identity).exists());
}

/// The certificate was made 80 days ago, for 90: the agent asks for the next one as soon as it runs.
#[test]
fn a_running_agent_renews_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let prepared =
        prepare(dir.path(), &Options { model: demo_model(), training_frames: 40, live_frames: 60 }).unwrap();
    let past = Timestamp::now() - SignedDuration::from_hours(80 * 24);
    let [pki, enroll] = ["old-pki", "enroll"].map(|name| dir.path().join(name));
    let [frames, enrolling] = [ports::lasting(), ports::lasting()];
    let authority = Authority::init(&pki, None, past).unwrap();
    let issue =
        |subject, days| authority.issue(&Request { subject, days: Some(days), out: None }, past).unwrap();
    issue(Subject::Server(vec!["localhost".into(), "127.0.0.1".into()]), 365);
    let identity = issue(Subject::Camera("plaza-1".into()), 90).dir;
    let settings = Settings::of(&["localhost".into()], None).unwrap();
    Folder::init(&authority, &enroll, &settings, past).unwrap();
    drop(authority);
    let prepared = Prepared { pki, ..prepared };
    let listen = format!("127.0.0.1:{enrolling}");
    let extra = ["--enroll", &shown(&enroll), "--enroll-listen", &listen];
    let server = prepared.serve_with(dir.path(), &format!("127.0.0.1:{frames}"), &extra).unwrap();

    let [cert, key] = ["cert.pem", "key.pem"].map(|name| identity.join(name));
    let before = [&cert, &key].map(|path| std::fs::read(path).unwrap());
    let args = [
        "run",
        "--server",
        &server.address,
        "--identity",
        &shown(&identity),
        "--enroll",
        &format!("localhost:{enrolling}"),
        "--source",
        &live_list(&prepared),
        "--fps",
        "2",
        "--allow-unsigned",
        "--head",
        &shown(&prepared.heads[0]),
    ];
    let agent = process::Running::start("edge-agent", args, &dir.path().join("agent.log")).unwrap();
    let mut agent = Agent::reading(agent);
    agent.until("a new certificate", |_| std::fs::read(&cert).unwrap() != before[0]);
    assert_eq!(std::fs::read(&key).unwrap(), before[1], "the key stays");
    let renewed = Identity::load(&identity).unwrap();
    assert_eq!(renewed.me().camera.as_deref(), Some("plaza-1"));
    assert!(renewed.me().not_after > Timestamp::now() + SignedDuration::from_hours(89 * 24));
    agent.stop();
}
