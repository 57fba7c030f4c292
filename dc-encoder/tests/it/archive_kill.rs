//! Processes that add and forget are killed at random moments: nothing that was said to be kept is lost, no file is left
//! that the index does not know.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dc_encoder::archive::{Archive, ArchiveError, FrameId, Query};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::archive::picture;

/// Kills in the tests; `make check-archive` asks for 200.
const KILLS: usize = 20;

/// Frames in the folder that is added over and over.
const FRAMES: u32 = 300;

fn frames(dir: &Path) -> PathBuf {
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

/// One camera's frames, against its files and against what was said to be kept. The rounds look at the cameras they
/// touched: everything each time would be work that grows with the square of the kills.
fn assert_whole(archive: &Archive, camera: &str, kept: &HashSet<FrameId>) {
    let query = Query { camera: Some(camera.to_owned()), ..Query::default() };
    let found = match archive.find(&query) {
        Err(ArchiveError::UnknownCamera { .. }) => Vec::new(), // killed before its first frame, or forgotten
        found => found.unwrap(),
    };
    for it in &found {
        archive.jpeg(&it.record).unwrap(); // there, with its hash
    }
    let ids: HashSet<FrameId> = found.iter().map(|it| it.record.id).collect();
    assert!(kept.is_subset(&ids), "{camera}: {:?} were said to be kept", kept - &ids);
    let named: HashSet<PathBuf> = found.iter().map(|it| archive.path_of(&it.record)).collect();
    let there: HashSet<PathBuf> = files(&archive.dir().join("frames").join(camera)).into_iter().collect();
    assert!(named == there, "{camera}: unlinked {:?}", &there - &named);
}

/// All files below a folder, which need not be there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
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
        for (round, kept) in kept.iter().enumerate().skip(round.saturating_sub(1)) {
            assert_whole(&archive, &format!("gate-{round}"), kept);
        }
        assert_eq!(files(&archive.dir().join("incoming")), [] as [PathBuf; 0], "round {round}");
        let mut intents = files(&archive.dir().join("intents"));
        intents.retain(|path| path.extension().is_some_and(|it| it == "intent")); // drafts go when they are old
        assert_eq!(intents, [] as [PathBuf; 0], "round {round}");
    }
    let archive = Archive::open(Path::new(at)).unwrap();
    let report = archive.verify(false).unwrap();
    let unlinked = report.faults.len();
    // Files were held against their hashes just now.
    let lost = kept.iter().flatten().filter(|id| archive.get(**id).is_err()).count();
    println!("kills={kills} mid_way={mid_way} acknowledged={acknowledged} lost={lost} unlinked={unlinked}");
    println!("{} frames held against their hashes", report.frames);
    let verdict = if lost + unlinked == 0 { "met" } else { "missed" };
    println!("goal=frames-lost-or-unlinked-over-{kills}-kills 0 measured={} {verdict}", lost + unlinked);
    assert_eq!((lost, report.faults), (0, Vec::new()));
    assert!(mid_way > 0, "no kill came before the end: that says nothing");
    // What is whole goes on as if nothing had been.
    let args = ["add", "--archive", at, "--frames", frames, "--camera", "gate-0"];
    assert!(dc_encoder(&args).wait_with_output().unwrap().status.success());
    let query = Query { camera: Some("gate-0".to_owned()), ..Query::default() };
    assert_eq!(Archive::open(Path::new(at)).unwrap().find(&query).unwrap().len(), FRAMES as usize);
}
