//! `dc-encoder doctor` as a person runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::serve_support::Pki;

fn doctor(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dc-encoder"))
        .arg("doctor")
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_machine_with_everything_is_fit() {
    let pki = Pki::new();
    let model: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let args = ["--model", model.to_str().unwrap(), "--pki", pki.dir().to_str().unwrap()];
    let (fit, said) = doctor(&args);
    assert!(fit, "{said}");
    for name in [
        "processor",
        "memory",
        "card",
        "clock",
        "disk",
        "open files",
        "port of frames",
        "model",
        "certificates",
    ] {
        assert!(said.lines().any(|line| line[5..].starts_with(name)), "{name}: {said}");
    }
}

#[test]
fn what_is_missing_comes_with_its_command() {
    let (fit, said) = doctor(&[]);
    assert!(!fit);
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.iter().any(|line| line.contains("model init")), "{said}");
    assert!(failed.iter().any(|line| line.contains("pki init")), "{said}");
}
