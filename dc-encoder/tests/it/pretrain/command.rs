//! What the command itself says on standard error, as a person who trains reads it.

use super::*;

/// `dc-encoder pretrain` from a tiny model folder.
fn command(dir: &Path, frames: &Path, more: &[&str]) -> Command {
    let start = dir.join("start");
    if !start.exists() {
        file::save(&start, &tiny(), &init::random(&tiny(), 2).unwrap(), Precision::F32, false).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
    command.args(["pretrain", "--device", "cpu", "--batch", "4", "--no-augment", "--loss", "raw"]).args(more);
    command.arg("--frames").arg(frames).arg("--model").arg(start).arg("--out").arg(dir.join("out"));
    command.env("RAYON_NUM_THREADS", "1").stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn said(mut command: Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    said
}

/// Changes what a checkpoint remembers of its run.
fn remember(checkpoint: &Path, key: &str, value: f64) {
    let bytes = fs::read(checkpoint).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, tensors) = bytes[8..].split_at(length);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let state = header["__metadata__"]["state"].as_str().unwrap();
    let mut state: serde_json::Value = serde_json::from_str(state).unwrap();
    assert!(state[key].is_number(), "{state}");
    state[key] = value.into();
    header["__metadata__"]["state"] = state.to_string().into();
    let header = header.to_string();
    let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat();
    fs::write(checkpoint, whole).unwrap();
}

#[test]
fn an_embedding_that_tells_frames_apart_less_than_at_first_is_told_once() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 30);
    let command = || command(dir.path(), &frames, &["--steps", "200", "--checkpoint-every", "0s"]);
    let mut first = command().stderr(Stdio::null()).spawn().unwrap();
    let table = dir.path().join("out/pretrain/log.csv");
    // Past the first validation, after which the rank is remembered.
    while fs::read_to_string(&table).map_or(0, |text| text.lines().count()) < 30 {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    remember(&dir.path().join("out/pretrain/checkpoint.safetensors"), "first_rank", 1000.0);
    let said = said(command());
    let told: Vec<&str> =
        said.lines().filter(|line| line.contains("effective rank fell from 1000.0")).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(told[0].starts_with("WARNING: ") && told[0].contains("lower --lr"), "{said}");
}

#[test]
fn frames_that_show_the_same_are_told_once() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("same");
    fs::create_dir(&folder).unwrap();
    let jpeg = jpeg::encode(&Rgb::filled(40, 30, [90, 120, 30]), 90, Chroma::C420);
    (0..8).for_each(|number| fs::write(folder.join(format!("{number}.jpg")), &jpeg).unwrap());
    let said = said(command(dir.path(), &folder, &["--steps", "20", "--lr", "1e-9"]));
    for part in
        ["100 % of the frames show what the frame before shows", "is no better than answering each patch"]
    {
        let told: Vec<&str> = said.lines().filter(|line| line.contains(part)).collect();
        assert_eq!(told.len(), 1, "{part} in {said}");
        assert!(told[0].starts_with("WARNING: "), "{said}");
    }
    assert!(!said.contains("WARNING: the embedding's effective rank"), "{said}");
}

#[test]
fn the_precision_is_said_and_a_slow_one_warned_of() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 8);
    let text = said(command(dir.path(), &frames, &["--steps", "2", "--precision", "bf16"]));
    assert!(text.contains("in bf16\n") && text.contains("WARNING: on the processor bf16"), "{text}");
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    let text = said(command(dir.path(), &frames, &["--steps", "2"]));
    assert!(text.contains("in f32\n") && !text.contains("bf16"), "{text}");
}
