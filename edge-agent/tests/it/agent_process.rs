//! The agent as a person runs it: a process with arguments, lines on standard output, words on standard error.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use protocol::GridShape;
use serde_json::Value;
use shared::head::{Grid, InputSpec, Kind, Manifest, Response, TensorData, Tokens, seal};
use shared::image::{Chroma, Rgb, jpeg};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use crate::agent_encoder::{Encoder, LIMIT, SPACE};
use crate::agent_pki::Pki;

/// Nothing tells what another process does to a file.
const POLL: Duration = Duration::from_millis(5);

/// A folder of `count` small pictures, all the same.
pub fn frames(pki: &Pki, count: usize) -> PathBuf {
    let folder = pki.path().join(format!("frames-{count}"));
    std::fs::create_dir(&folder).unwrap();
    let picture = pki.path().join("picture");
    std::fs::write(&picture, jpeg::encode(&Rgb::filled(96, 48, [90, 120, 30]), 80, Chroma::C420)).unwrap();
    for index in 0..count {
        std::fs::hard_link(&picture, folder.join(format!("{index:04}.jpg"))).unwrap();
    }
    folder
}

/// What a head's manifest says unless a test wants otherwise.
pub fn manifest(name: &str) -> Manifest {
    let mut manifest = fixtures::manifest(name, SPACE, 4);
    manifest.output.unit = "frames".into();
    manifest.interval = Some(shared::head::IntervalOffsets { level: 0.9, lower: -1.0, upper: 2.0 });
    manifest
}

/// Writes a linear head that answers with the embedding's first number.
pub fn head(pki: &Pki, manifest: &Manifest) -> PathBuf {
    linear_head(pki, manifest, 1.0, 5.0)
}

/// Writes a head that passes its self-test and then, from the third frame on, has no finite answer.
pub fn overflowing_head(pki: &Pki, manifest: &Manifest) -> PathBuf {
    linear_head(pki, manifest, f32::MAX, 0.0)
}

fn linear_head(pki: &Pki, manifest: &Manifest, weight: f32, self_test: f32) -> PathBuf {
    let file = fixtures::linear(manifest, &[weight, 0.0, 0.0, 0.0], 0.0, &[self_test, 0.0, 0.0, 0.0]);
    keep(pki, manifest, &file)
}

/// Writes a head of 394 kB that always answers 0.
pub fn large_head(pki: &Pki, manifest: &Manifest) -> PathBuf {
    const HIDDEN: usize = 16_384;
    let manifest = Manifest { kind: Kind::Mlp, ..manifest.clone() };
    let tensors = [
        ("norm.mean", vec![4], vec![0.0; 4]),
        ("norm.std", vec![4], vec![1.0; 4]),
        ("fc1.weight", vec![HIDDEN, 4], vec![0.0; 4 * HIDDEN]),
        ("fc1.bias", vec![HIDDEN], vec![0.0; HIDDEN]),
        ("fc2.weight", vec![1, HIDDEN], vec![0.0; HIDDEN]),
        ("fc2.bias", vec![1], vec![0.0]),
    ];
    write_head(pki, &manifest, tensors, &[0.0; 4])
}

/// Writes a head of 1.6 MB that always answers 0; a third of it is zeros, and the rest is noise to any compression.
pub fn noisy_head(pki: &Pki, manifest: &Manifest) -> PathBuf {
    const HIDDEN: usize = 65_536;
    let manifest = Manifest { kind: Kind::Mlp, ..manifest.clone() };
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    });
    let tensors = [
        ("norm.mean", vec![4], vec![0.0; 4]),
        ("norm.std", vec![4], vec![1.0; 4]),
        ("fc1.weight", vec![HIDDEN, 4], noise.take(4 * HIDDEN).collect()),
        ("fc1.bias", vec![HIDDEN], vec![0.0; HIDDEN]),
        ("fc2.weight", vec![1, HIDDEN], vec![0.0; HIDDEN]),
        ("fc2.bias", vec![1], vec![0.0]),
    ];
    write_head(pki, &manifest, tensors, &[0.0; 4])
}

/// The grid that [`token_head`] reads.
pub const GRID: GridShape = GridShape { rows: 2, cols: 2, dim: 3 };

/// Writes a token head that answers with the mean of all numbers of the latent tokens, if that is not negative: ten
/// is far enough out for the network's activation to be a straight line.
pub fn token_head(pki: &Pki, name: &str) -> PathBuf {
    let GridShape { rows, cols, dim } = GRID;
    let options = Tokens { response: Response::Identity, background: false, departure: false };
    let input =
        InputSpec { space: SPACE.to_string(), dim: 4, grid: Some(Grid { rows, cols, dim, cells: 1 }) };
    let manifest = Manifest { kind: Kind::Tokens(options), input, ..manifest(name) };
    let tensors = [
        ("token.fc1.weight", vec![1, 3], vec![1.0 / 3.0; 3]),
        ("token.fc1.bias", vec![1], vec![10.0]),
        ("token.fc2.weight", vec![1, 1], vec![1.0]),
        ("token.fc2.bias", vec![1], vec![-10.0]),
        ("token.row_weight", vec![2], vec![0.25; 2]),
        ("token.bias", vec![1], vec![0.0]),
    ];
    write_head(pki, &manifest, tensors, &[5.0; 12])
}

fn write_head<const N: usize>(
    pki: &Pki,
    manifest: &Manifest,
    tensors: [(&str, Vec<usize>, Vec<f32>); N],
    self_test: &[f32],
) -> PathBuf {
    let tensors = tensors.map(|(name, shape, values)| (name.to_owned(), TensorData::f32(&shape, &values)));
    keep(pki, manifest, &seal(manifest, tensors.into(), self_test).unwrap())
}

fn keep(pki: &Pki, manifest: &Manifest, file: &[u8]) -> PathBuf {
    let path = pki.path().join(format!("{}.head", manifest.name));
    std::fs::write(&path, file).unwrap();
    path
}

/// An agent's command line with everything a run needs.
pub fn run(pki: &Pki, encoders: &[&Encoder], source: &Path) -> Command {
    let servers: Vec<_> = encoders.iter().map(|encoder| encoder.server()).collect();
    let mut command = bare(["run", "--server", &servers.join(",")]);
    command.arg("--source").arg(source);
    command.arg("--identity").arg(pki.camera("plaza-1"));
    command.arg("--allow-unsigned").arg("--head").arg(head(pki, &manifest("frame-number")));
    command
}

pub fn bare<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    command.args(args).env_remove("FTH_LOG").kill_on_drop(true);
    command
}

pub struct Agent {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: watch::Receiver<String>,
    /// Every line so far.
    pub seen: Vec<Value>,
}

pub struct Finished {
    pub status: ExitStatus,
    pub lines: Vec<Value>,
    pub stderr: String,
}

impl Agent {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
        let (text, stderr) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = words.next_line().await {
                text.send_modify(|text| *text += &(line + "\n"));
            }
        });
        Self { child, lines, stderr, seen: Vec::new() }
    }

    /// The next line of output; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
        let line =
            line.unwrap_or_else(|_| panic!("no line within a minute; {}", *self.stderr.borrow())).unwrap()?;
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        self.seen.push(value.clone());
        Some(value)
    }

    /// The next line that `wanted` is true for.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let Some(line) = self.next().await else { panic!("ended early: {}", *self.stderr.borrow()) };
            if wanted(&line) {
                return line;
            }
        }
    }

    pub async fn answer(&mut self) -> Value {
        self.until(is_answer).await
    }

    pub async fn dropped(&mut self, reason: &str) -> Value {
        self.until(|line| line["dropped"].as_str().is_some_and(|words| words.contains(reason))).await
    }

    /// Waits until standard error says this.
    pub async fn says(&mut self, words: &str) {
        let said = self.stderr.wait_for(|text| text.contains(words));
        let said = tokio::time::timeout(LIMIT, said).await.map(|said| said.is_ok());
        assert_eq!(said, Ok(true), "{words:?} was never said: {}", *self.stderr.borrow());
    }

    /// Waits until standard error says this; what follows it on the line.
    pub async fn says_after(&mut self, words: &str) -> String {
        self.says(words).await;
        let text = self.stderr.borrow();
        let (_, after) = text.split_once(words).unwrap();
        after.lines().next().unwrap_or_default().to_owned()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("still running").to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has this file open.
    pub async fn opens(&self, path: &Path) {
        let files = format!("/proc/{}/fd", self.child.id().expect("still running"));
        let open = || {
            let files = std::fs::read_dir(&files).into_iter().flatten().flatten();
            files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == path)
        };
        let opened = async {
            while !open() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(LIMIT, opened).await.expect("never opened");
    }

    /// Waits until a file has this size.
    pub async fn wrote(path: &Path, bytes: u64) {
        let written = async {
            while path.metadata().map_or(0, |file| file.len()) < bytes {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(LIMIT, written).await.expect("never written");
    }

    /// Closes the reading end of standard output, and waits for the end.
    pub async fn stop_reading(self) -> Finished {
        let Self { mut child, lines, mut stderr, seen } = self;
        drop(lines);
        let status = tokio::time::timeout(LIMIT, child.wait()).await.expect("still running").unwrap();
        let _ = stderr.wait_for(|_| false).await;
        let stderr = stderr.borrow().clone();
        Finished { status, lines: seen, stderr }
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Finished {
        while self.next().await.is_some() {}
        self.stop_reading().await
    }
}

pub fn is_answer(line: &Value) -> bool {
    line["stale"] == false
}

impl Finished {
    /// `captured=…`, `answered=…`, `dropped=…` of the summary.
    pub fn counts(&self) -> [u64; 3] {
        let summary = self.stderr.lines().find(|line| line.starts_with("captured=")).expect("a summary");
        let words: Vec<_> = summary.split(' ').collect();
        [("captured=", 0), ("answered=", 1), ("dropped=", 2)]
            .map(|(key, at)| words[at].strip_prefix(key).unwrap().parse().unwrap())
    }

    /// Every captured frame has an answer or a reason, never both, and the summary says the same.
    pub fn assert_accounted(&self) -> [u64; 3] {
        let seqs = |wanted: fn(&Value) -> bool| -> BTreeSet<u64> {
            self.lines.iter().filter(|line| wanted(line)).map(|line| line["seq"].as_u64().unwrap()).collect()
        };
        let answered = seqs(is_answer);
        let dropped = seqs(|line| line["dropped"].is_string());
        let counts = [answered.len() + dropped.len(), answered.len(), dropped.len()].map(|n| n as u64);
        assert_eq!(self.counts(), counts, "{}", self.stderr);
        assert!(answered.is_disjoint(&dropped));
        assert!(answered.union(&dropped).copied().eq(0..counts[0]), "a frame is missing");
        counts
    }
}
