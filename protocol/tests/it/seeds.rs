//! The fuzz target, run over its seeds on every test run.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{fuzz_entry, samples};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

fn seeds() -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn every_seed_passes() {
    let seeds = seeds();
    assert!(seeds.len() > samples::all().len());
    seeds.values().for_each(|seed| fuzz_entry::run(seed));
}

#[test]
fn every_sample_is_a_seed() {
    let seeds = seeds();
    for (name, message) in samples::all() {
        let seed = seeds.get(&format!("{name}.bin"));
        assert_eq!(seed, Some(&message.framed(usize::MAX).unwrap()), "run `write_the_seeds`");
    }
}

/// After a change of the samples: `cargo test -p protocol write_the_seeds -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_seeds() {
    for (name, message) in samples::all() {
        fs::write(folder().join(format!("{name}.bin")), message.framed(usize::MAX).unwrap()).unwrap();
    }
    let stream: Vec<u8> = samples::all().iter().flat_map(|(_, m)| m.framed(usize::MAX).unwrap()).collect();
    fs::write(folder().join("all-in-one-stream.bin"), &stream).unwrap();
    fs::write(folder().join("cut-stream.bin"), &stream[..stream.len() - 3]).unwrap();
    fs::write(folder().join("huge-prefix.bin"), [0xff; 12]).unwrap();
}
