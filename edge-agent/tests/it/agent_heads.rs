//! `edge-agent heads`: a person on the box, without any server's help.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use crate::agent_encoder::{Behaviour, Encoder};
use crate::agent_operator::{NAME, Operator, push, report, unit};
use crate::agent_process::{Agent, bare, head};

/// What `edge-agent heads …` says, or why it did not do it.
async fn heads(operator: &Operator, args: &[&str]) -> Result<String, String> {
    let mut command = bare(["heads"]);
    command.args(args).arg("--heads-dir").arg(operator.store());
    let output = command.output().await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    if output.status.success() { Ok(out) } else { Err(err) }
}

#[tokio::test]
async fn heads_are_installed_listed_rolled_back_and_pinned_on_the_box() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let nobody = heads(&operator, &["list"]).await.unwrap_err();
    assert!(nobody.contains("no agent is running with heads_dir"), "{nobody}");
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    encoder.sees_frame().await;
    assert_eq!(heads(&operator, &["list"]).await.unwrap(), "no heads\n");

    let (first, path) = operator.signed(&unit("first"));
    let said = heads(&operator, &["install", &path.display().to_string()]).await.unwrap();
    assert_eq!(said, format!("{NAME}: release {} answers from now on.\n", first.short()));
    assert_eq!(agent.answer().await["release"], first.short());
    let (second, path) = operator.signed(&unit("second"));
    heads(&operator, &["install", &path.display().to_string()]).await.unwrap();
    agent.until(|line| line["release"] == second.short().as_str()).await;
    let list = heads(&operator, &["list"]).await.unwrap();
    assert!(list.starts_with(&format!("{NAME}: {}, ", second.short())), "{list}");
    assert!(list.contains(&format!("before it {}", first.short())), "{list}");

    heads(&operator, &["rollback", NAME]).await.unwrap();
    agent.until(|line| line["release"] == first.short().as_str()).await;
    let again = heads(&operator, &["rollback", NAME]).await.unwrap_err();
    assert!(again.contains("there is no release before this one"), "{again}");

    heads(&operator, &["pin", NAME]).await.unwrap();
    let (pushed, _) = operator.publish(&encoder, &unit("pushed"));
    push(&encoder, operator.wants(1, pushed));
    let pinned = report(&mut encoder, |report| report.wanted == Some(pushed)).await;
    assert_eq!((pinned.pinned, pinned.active), (true, Some(first)));
    assert!(pinned.error.contains("pinned on the box"), "{pinned:?}");
    heads(&operator, &["unpin", NAME]).await.unwrap();
    report(&mut encoder, |report| report.active == Some(pushed) && !report.pinned).await;
}

#[tokio::test]
async fn an_unsigned_head_is_not_installed() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    encoder.sees_frame().await;
    let path = head(&operator.pki, &unit("unsigned"));
    let refused = heads(&operator, &["install", &path.display().to_string()]).await.unwrap_err();
    assert!(refused.contains("it is not signed"), "{refused}");
    assert_eq!(heads(&operator, &["list"]).await.unwrap(), "no heads\n");
}

#[tokio::test]
async fn the_socket_is_for_those_who_may_write_into_the_folder() {
    for (folder, socket) in [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660)] {
        let operator = Operator::new();
        let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
        std::fs::create_dir(operator.store()).unwrap();
        std::fs::set_permissions(operator.store(), Permissions::from_mode(folder)).unwrap();
        let _agent = Agent::spawn(&mut operator.agent(&encoder));
        encoder.sees_frame().await;
        let mode = operator.store().join("control").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, socket, "in a folder of {folder:o}");
    }
}
