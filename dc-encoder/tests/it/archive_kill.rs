//! Processes that add and forget are killed at random moments: nothing that was said to be kept is lost, no file is left
//! that the index does not know.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dc_encoder::archive::{Archive, FrameId, Query};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::archive::picture;

/// Kills in the tests; `make check-archive` asks for 200.
const KILLS: usize = 20;

/// Frames in the folder that is added over and over.
const FRAMES: u32 = 300;

fn frames(dir: &Path) -> std::path::PathBuf {
    let frames = dir.join("frames");
    std::fs::create_dir(&frames).unwrap();
    for i in 0..FRAMES {
        let name = format!("2026-06-01T12_{:02}_{:02}.jpg", i / 60, i % 60);
        std::fs::write(frames.join(name), picture(i)).unwrap();
    }
    frames
}

fn dc_encoder(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
    command.args(["archive"]).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The ids that a child said to be kept before it was killed.
fn kill_while_adding(child: Child, lines: usize, then: Duration) -> Vec<FrameId> {
    let mut child = child;
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = |line: String| -> Option<FrameId> {
        // The last line may be cut off.
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        line["id"].as_str()?.parse().ok()
    };
    let mut kept: Vec<FrameId> = output.by_ref().take(lines).map_while(Result::ok).filter_map(id).collect();
    std::thread::sleep(then); // a moment that nothing is known about, which is the point
    child.kill().unwrap();
    kept.extend(output.map_while(Result::ok).filter_map(id));
    child.wait().unwrap();
    kept
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_unlinked() {
    let kills: usize = std::env::var("KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let dir = TempDir::new().unwrap();
    let (frames, at) = (frames(dir.path()), dir.path().join("archive"));
    let (frames, at) = (frames.to_str().unwrap(), at.to_str().unwrap());
    drop(Archive::open(Path::new(at)).unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(8);
    // Of each round's camera, what was said to be kept.
    let mut kept: Vec<HashSet<FrameId>> = Vec::new();
    let (mut acknowledged, mut mid_way) = (0, 0);
    for round in 0..kills {
        let then = Duration::from_micros(random.random_range(0..30_000));
        let camera = format!("gate-{round}");
        if round % 4 == 3 {
            let before = format!("gate-{}", round - 1);
            let mut child = dc_encoder(&["forget", "--archive", at, "--camera", &before, "--yes"]);
            std::thread::sleep(then);
            child.kill().unwrap();
            child.wait().unwrap();
            // Nobody knows how much of it is gone by now.
            kept[round - 1].clear();
            kept.push(HashSet::new());
        } else {
            let args =
                ["add", "--archive", at, "--frames", frames, "--camera", &camera, "--batch", "7", "--json"];
            let said = kill_while_adding(dc_encoder(&args), random.random_range(0..FRAMES as usize), then);
            acknowledged += said.len();
            mid_way += usize::from(said.len() < FRAMES as usize);
            kept.push(said.into_iter().collect());
        }
        let archive = Archive::open(Path::new(at)).unwrap();
        let report = archive.verify(false).unwrap();
        assert_eq!(report.faults, [], "round {round}");
        for id in kept.iter().flatten() {
            // Its file was held against its hash just now.
            assert!(archive.get(*id).is_ok(), "round {round}: {id} was said to be kept");
        }
        assert_eq!(std::fs::read_dir(archive.dir().join("incoming")).unwrap().count(), 0, "round {round}");
    }
    println!("kills={kills} mid_way={mid_way} acknowledged={acknowledged} lost=0 unlinked=0");
    assert!(mid_way * 2 > kills, "{mid_way} of {kills} kills came before the end: too few to mean anything");
    // What is whole goes on as if nothing had been.
    let args = ["add", "--archive", at, "--frames", frames, "--camera", "gate-0"];
    assert!(dc_encoder(&args).wait_with_output().unwrap().status.success());
    let query = Query { camera: Some("gate-0".to_owned()), ..Query::default() };
    assert_eq!(Archive::open(Path::new(at)).unwrap().find(&query).unwrap().len(), FRAMES as usize);
}
