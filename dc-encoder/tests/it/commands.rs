//! From frames to a head by the commands themselves: what they say when something is missing, wrong or full.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dc_encoder::model::file::{self, Precision};
use dc_encoder::model::init;
use tempfile::TempDir;

use super::pretrain::{frames, tiny};

/// A tiny model, frames, their embeddings, and a count for each.
struct World {
    dir: TempDir,
    frames: PathBuf,
}

const FRAMES: usize = 12;

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let frames = frames(dir.path(), FRAMES);
        file::save(
            &dir.path().join("model"),
            &tiny(),
            &init::random(&tiny(), 2).unwrap(),
            Precision::F32,
            false,
        )
        .unwrap();
        let world = Self { dir, frames };
        world.labels(&counts(FRAMES));
        world.embed(&world.frames).unwrap();
        world
    }

    fn labels(&self, text: &str) {
        fs::write(self.path("labels.csv"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn embed(&self, frames: &PathBuf) -> Result<(), String> {
        let (model, out) = (self.path("model"), self.path("embeddings.safetensors"));
        let args: [&OsStr; 9] = [
            "embed".as_ref(),
            "--device".as_ref(),
            "cpu".as_ref(),
            "--model".as_ref(),
            model.as_ref(),
            "--frames".as_ref(),
            frames.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ];
        run("", &args)
    }

    /// Trains a head, with words of the shell before it.
    fn train(&self, before: &str) -> Result<(), String> {
        let [embeddings, labels, out] =
            ["embeddings.safetensors", "labels.csv", "count.safetensors"].map(|name| self.path(name));
        let args: [&OsStr; 12] = [
            "head".as_ref(),
            "train".as_ref(),
            "--kind".as_ref(),
            "linear".as_ref(),
            "--task".as_ref(),
            "count".as_ref(),
            "--embeddings".as_ref(),
            embeddings.as_ref(),
            "--labels".as_ref(),
            labels.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ];
        run(before, &args)
    }
}

fn counts(frames: usize) -> String {
    (0..frames).fold("file,count\n".to_owned(), |text, i| text + &format!("{i:03}.jpg,{}\n", i * 5 % 7))
}

/// What a command that failed says.
fn run(before: &str, args: &[&OsStr]) -> Result<(), String> {
    let script = format!("{before}exec \"$0\" \"$@\"");
    let out = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_dc-encoder")])
        .args(args)
        .output()
        .unwrap();
    if out.status.success() { Ok(()) } else { Err(String::from_utf8(out.stderr).unwrap()) }
}

#[test]
fn labels_that_are_wrong_are_refused_in_words() {
    let world = World::new();
    world.train("").unwrap();
    let refused = |labels: &str| {
        world.labels(labels);
        world.train("").unwrap_err()
    };
    let missing = refused(&(counts(FRAMES) + "nowhere.jpg,3\n"));
    assert!(
        missing.contains("line 14 of the labels names `nowhere.jpg`, which is not among the 12"),
        "{missing}"
    );
    let few = refused(&counts(9));
    assert!(few.contains("9 labelled frames are too few to train") && few.contains("at least 10"), "{few}");
    let wrong = refused("file,people\n000.jpg,3\n");
    assert!(wrong.contains("there is no column `count`, only `file`, `people`"), "{wrong}");
    fs::write(world.path("labels.csv"), fs::read(world.frames.join("000.jpg")).unwrap()).unwrap();
    let picture = world.train("").unwrap_err();
    assert!(picture.contains("is not UTF-8 text"), "{picture}");
}

#[test]
fn a_full_disk_leaves_the_old_head_and_nothing_else() {
    let world = World::new();
    world.train("").unwrap();
    let old = fs::read(world.path("count.safetensors")).unwrap();
    // The limit on file sizes stands in for a full disk: writes fail where the signal is ignored.
    let said = world.train("trap '' XFSZ; ulimit -f 1; ").unwrap_err();
    assert!(said.contains("cannot write ") && said.contains("count.safetensors"), "{said}");
    assert!(said.contains("nothing was left behind"), "{said}");
    assert!(fs::read(world.path("count.safetensors")).unwrap() == old);
    let names = fs::read_dir(world.dir.path()).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(".head-")), "{names:?}");
}

#[test]
fn a_folder_without_frames_is_named() {
    let world = World::new();
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    let said = world.embed(&empty).unwrap_err();
    assert!(said.contains("no frames in") && said.contains("empty"), "{said}");
}
