//! What a person reads when something is wrong: config, heads, certificates, versions, refusals; and `check`.

use protocol::RefuseCode;
use shared::head::{InputSpec, Manifest};
use shared::uplink::Uplink;

use crate::agent_encoder::{Behaviour, Encoder, OnHello, SPACE, loopback};
use crate::agent_pki::{LONG_OVER, Pki};
use crate::agent_process::{Agent, Finished, bare, frames, head, manifest, run};

fn refusing(code: RefuseCode, message: &'static str) -> Behaviour {
    Behaviour { on_hello: OnHello::Refuse(code, message), ..Behaviour::default() }
}

/// Runs against encoders that behave like this, to the end.
async fn outcome(behaviours: Vec<Behaviour>) -> Finished {
    let pki = Pki::new();
    let encoders: Vec<_> = behaviours.into_iter().map(|behaviour| Encoder::start(&pki, behaviour)).collect();
    let encoders: Vec<_> = encoders.iter().collect();
    Agent::spawn(&mut run(&pki, &encoders, &frames(&pki, 2))).finish().await
}

#[tokio::test]
async fn refused_for_good_by_all_ends_the_run_with_their_words() {
    let finished = outcome(vec![
        refusing(RefuseCode::Space, "your heads read 0707, this is abab"),
        refusing(RefuseCode::Role, "operators send no frames"),
    ])
    .await;
    assert_eq!(finished.status.code(), Some(1));
    for words in
        ["no head is in the encoder's embedding space: your heads read 0707", "operators send no frames"]
    {
        assert!(finished.stderr.contains(words), "{words:?} is missing: {}", finished.stderr);
    }
    finished.assert_accounted();
}

#[tokio::test]
async fn refused_by_one_goes_on_with_another() {
    let finished = outcome(vec![refusing(RefuseCode::Camera, "not yours"), Behaviour::default()]).await;
    assert!(finished.status.success());
    assert!(
        finished.stderr.contains("the certificate is for another camera: not yours"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.assert_accounted(), [2, 2, 0]);
}

#[tokio::test]
async fn a_duplicate_waits_its_turn() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, refusing(RefuseCode::Duplicate, "10.0.0.9 is"));
    let mut agent = Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 2)));
    let instance = encoder.sees_hello().await.instance;
    agent.says("another agent is connected as this camera").await;
    encoder.behave(|behaviour| behaviour.on_hello = OnHello::Welcome);
    assert_eq!(agent.finish().await.assert_accounted(), [2, 2, 0]);
    assert_eq!(encoder.sees_hello().await.instance, instance, "one process, one instance");
}

#[tokio::test]
async fn another_protocol_version_is_named() {
    let finished = outcome(vec![Behaviour { version: 9, ..Behaviour::default() }]).await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains("speaks protocol version 9, this agent speaks 4"),
        "{}",
        finished.stderr
    );

    let pki = Pki::new();
    let encoder = Encoder::start_on(loopback(), &pki, Behaviour::default(), b"fth/9");
    let finished = Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 2))).finish().await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("version"), "{}", finished.stderr);
}

#[tokio::test]
async fn the_greeting_says_who_and_which_spaces() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 1))).finish().await;
    let hello = encoder.sees_hello().await;
    assert_eq!((hello.camera.as_str(), hello.spaces), ("plaza-1", vec![SPACE]));
    assert!(hello.agent.starts_with("edge-agent "));
}

#[tokio::test]
async fn an_expired_certificate_names_the_clock() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let list = frames(&pki, 2);
    let mut command = run(&pki, &[&encoder], &list);
    command.arg("--head").arg(head(&pki, &manifest("second")));
    pki.camera_valid("plaza-1", LONG_OVER);
    let mut agent = Agent::spawn(&mut command);
    agent.says("clock").await;
    agent.signal("TERM");
    let finished = agent.finish().await;
    assert!(finished.status.success());
    finished.assert_accounted();
}

#[tokio::test]
async fn config_mistakes_name_key_value_and_remedy() {
    let pki = Pki::new();
    let config = pki.path().join("agent.toml");
    let says = async |text: &str, args: &[&str]| {
        std::fs::write(&config, text).unwrap();
        let finished = Agent::spawn(bare(["run", "--config"]).arg(&config).args(args)).finish().await;
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        finished.stderr
    };
    let stderr = says("camera = \"a\"\nfsp = 2\n", &[]).await;
    assert!(stderr.contains("fsp") && stderr.contains("agent.toml") && stderr.contains('2'), "{stderr}");
    let stderr = says("[uplink]\nquality = 0\n", &["--source", "nowhere", "--server", "host"]).await;
    for words in ["uplink.quality = 0", "\"nowhere\"", "\"host\": has no port", "identity = (not set)"] {
        assert!(stderr.contains(words), "{words:?} is missing: {stderr}");
    }
}

#[tokio::test]
async fn a_broken_head_is_named_before_anything_starts() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    let broken = pki.path().join("broken.head");
    std::fs::write(&broken, b"not a head").unwrap();
    let agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 2)).arg("--head").arg(&broken));
    let finished = agent.finish().await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("broken.head"), "{}", finished.stderr);
    assert!(encoder.saw_nothing());
}

/// Runs `check`; its exit code and its lines.
async fn check(command: &mut tokio::process::Command) -> (Option<i32>, String) {
    let output = tokio::time::timeout(crate::agent_encoder::LIMIT, command.output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn check_says_that_all_is_well() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour { note: "random weights", ..Behaviour::default() });
    let (code, lines) = check(&mut command(&pki, &encoder, &manifest("count"))).await;
    assert_eq!(code, Some(0), "{lines}");
    let server = encoder.server();
    for start in [
        "ok   config: ".to_owned(),
        "ok   identity: plaza-1, valid until 2090".into(),
        "ok   head count: release ".into(),
        format!("ok   link {server}: fake 1, round trip "),
        format!("warn encoder {server}: model tiny, space 070707070707, input 96x48"),
        format!("ok   head count at {server}: "),
    ] {
        assert!(lines.lines().any(|line| line.starts_with(&start)), "{start:?} is missing:\n{lines}");
    }
    assert!(lines.contains("a frame of 96x48 (JPEG), sent as 1 kB"), "{lines}");
    assert!(lines.contains("random weights"));
}

#[tokio::test]
async fn check_says_what_is_wrong_and_what_to_do() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let uplink = Uplink { quality: 55, ..Uplink::default() };
    let input = InputSpec { space: "ab".repeat(32), dim: 4, grid: None };
    let foreign = Manifest { input, uplink: uplink.id(), ..manifest("foreign") };
    let mut command = command(&pki, &encoder, &foreign);
    pki.camera_valid("plaza-1", LONG_OVER);
    let (code, lines) = check(command.args(["--camera", "plaza-2"])).await;
    assert_eq!(code, Some(1), "{lines}");
    let has = |start: &str, words: &[&str]| {
        let line =
            lines.lines().find(|line| line.starts_with(start) && words.iter().all(|w| line.contains(w)));
        assert!(line.is_some(), "{start:?} with {words:?} is missing:\n{lines}");
    };
    has("FAIL identity", &["2021", "clock", "— set the clock if it is wrong"]);
    has("FAIL camera", &["\"plaza-2\"", "\"plaza-1\""]);
    has("warn head foreign", &[&uplink.id(), &Uplink::default().id()]);
    has("FAIL link", &["clock"]);
}

#[tokio::test]
async fn check_compares_heads_and_encoder() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let input = InputSpec { space: "ab".repeat(32), dim: 4, grid: None };
    let foreign = Manifest { input, ..manifest("foreign") };
    let (code, lines) = check(&mut command(&pki, &encoder, &foreign)).await;
    assert_eq!(code, Some(1));
    let line = lines.lines().find(|line| line.starts_with("FAIL head foreign at")).expect(&lines);
    assert!(line.contains("abababababab") && line.contains("070707070707"), "{line}");

    let (code, lines) = check(&mut bare(["check", "--source", "nowhere"])).await;
    assert_eq!(code, Some(1));
    assert!(lines.lines().filter(|line| line.starts_with("FAIL config: ")).count() >= 3, "{lines}");
}

fn command(pki: &Pki, encoder: &Encoder, manifest: &Manifest) -> tokio::process::Command {
    let mut command = bare(["check", "--allow-unsigned", "--server", &encoder.server()]);
    command.arg("--source").arg(frames(pki, 2));
    command.arg("--identity").arg(pki.camera("plaza-1"));
    command.arg("--head").arg(head(pki, manifest));
    command
}
