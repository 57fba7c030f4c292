//! Golden vectors: the model against numbers that PyTorch computed in f64.
//!
//! `cargo test -p dc-encoder --test golden` runs the cases in `tests/golden/cases`;
//! `GOLDEN_DIR=DIR cargo test -p dc-encoder --test golden -- --nocapture` runs every case in another folder. A case is
//! told by what is in it; every tensor of a case must be used or checked, and a file that is not a case is a failure.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden {
    pub(crate) mod attention;
    pub(crate) mod case;
    pub(crate) mod encoder;
    pub(crate) mod folder;
    pub(crate) mod hf;
    pub(crate) mod mae;
    pub(crate) mod peer;
    pub(crate) mod pinv;
}

use std::path::PathBuf;

use golden::folder;

/// The folder to run: relative paths are meant from where `cargo` was called, which is not where tests run.
fn dir() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("GOLDEN_DIR") {
        None => package.join("tests/golden/cases"),
        Some(dir) => {
            let dir = PathBuf::from(dir);
            let from_workspace = package.join("..").join(&dir);
            if dir.exists() { dir } else { from_workspace }
        }
    }
}

#[test]
fn every_case_in_the_folder_passes() {
    let report = folder::run(&dir());
    println!("{report}");
    assert!(report.passed(), "\n{report}");
}

#[test]
fn a_folder_without_cases_is_a_failure() {
    let empty = tempfile::tempdir().unwrap();
    let report = folder::run(empty.path());
    assert!(!report.passed() && report.to_string().contains("no case"), "{report}");
    assert!(!folder::run(&empty.path().join("absent")).passed());
}

#[test]
fn a_file_that_is_not_a_case_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let good = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases/pinv.safetensors");
    std::fs::copy(&good, dir.path().join("pinv.safetensors")).unwrap();
    assert!(folder::run(dir.path()).passed());
    std::fs::write(dir.path().join("stray.bin"), b"?").unwrap();
    assert!(!folder::run(dir.path()).passed());
}

#[test]
fn a_wrong_number_or_an_unchecked_tensor_is_a_failure() {
    let good = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases/pinv.safetensors");
    let read = || candle_core::safetensors::load(&good, &candle_core::Device::Cpu).unwrap();
    let run = |tensors: std::collections::HashMap<String, candle_core::Tensor>| {
        let dir = tempfile::tempdir().unwrap();
        let metadata = std::collections::HashMap::from([("config".to_owned(), r#"{"iters": 6}"#.to_owned())]);
        let path = dir.path().join("pinv.safetensors");
        safetensors::serialize_to_file(&tensors, Some(metadata), &path).unwrap();
        folder::run(dir.path()).passed()
    };
    assert!(run(read()));
    let mut wrong = read();
    let shifted = (&wrong["z.matrix"] * 1.001).unwrap();
    wrong.insert("z.matrix".to_owned(), shifted);
    assert!(!run(wrong));
    let mut extra = read();
    let copy = extra["a"].clone();
    extra.insert("z.other".to_owned(), copy);
    assert!(!run(extra));
}
