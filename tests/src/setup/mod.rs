//! Everything a live run needs: certificates, footage, embeddings, two signed heads, a running server.
//!
//! ```text
//! pki, footage ─► embeddings of a released model ─► heads ─► signatures ─► serve ─► (edge-agent)
//! ```

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    plaza::{
        Clock,
        dataset::{self, Labelled, Plan},
    },
    process::{self, Running},
};

mod steps;

use steps::Steps;

/// The camera's name.
pub const CAMERA: &str = "plaza-1";
/// Seed of the plaza that is watched: none of those that the demo model was trained on.
const SEED: u64 = 7;
/// Seconds between training frames: not a divisor of a day, so every day shows other minutes.
const TRAINING_STEP_S: f64 = 867.0;
/// Seconds between live frames: `live_frames` of them span about a day.
const DAY_S: f64 = 86_400.0;

/// A server that loads a demo model is ready long before this.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How much to prepare.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the encoder's model.
    pub model: PathBuf,
    /// Labelled frames the heads are trained on.
    pub training_frames: u32,
    /// Frames to answer.
    pub live_frames: u32,
}

/// Folder of the demo model: pretrained on footage of synthetic plazas, see its `README.md`.
pub fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dc-encoder/models/demo")
}

/// Paths of what was made.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Folder of certificates.
    pub pki: PathBuf,
    /// Folder of the keys that signed the heads.
    pub keys: PathBuf,
    /// Folder of the model.
    pub model: PathBuf,
    /// Labels of the training frames.
    pub training: Vec<Labelled>,
    /// List of the live frames.
    pub live: PathBuf,
    /// Truth of the live frames.
    pub truth: Vec<Labelled>,
    /// Head files: people count, time of day.
    pub heads: Vec<PathBuf>,
}

/// Runs the preparing commands, which are printed as a person would type them.
///
/// # Errors
/// The first command that failed, with what it printed.
pub fn prepare(dir: &Path, options: &Options) -> anyhow::Result<Prepared> {
    let mut steps = Steps::new(6);
    let pki = dir.join("pki");
    let model = options.model.clone();
    steps.run("certificates: an authority, a server, a camera (mutual TLS)", 0, |_| {
        command(&["pki", "init", "--dir", &shown(&pki)])?;
        command(&["pki", "issue", "--dir", &shown(&pki), "--server", "localhost,127.0.0.1"])?;
        command(&["pki", "issue", "--dir", &shown(&pki), "--camera", CAMERA])
    })?;
    let (training_list, live) = footage(&mut steps, dir, options)?;
    let embeddings = dir.join("embeddings.safetensors");
    steps.run(&format!("embeddings of {} training frames", options.training_frames), 0, |_| {
        command(&[
            "embed",
            "--model",
            &shown(&model),
            "--frames",
            &shown(&training_list),
            "--out",
            &shown(&embeddings),
            "--tokens",
        ])
    })?;
    let heads = train(&mut steps, dir, &embeddings, &training_list)?;
    let keys = dir.join("keys");
    steps.run("signatures: a box runs those heads only that a key of its ring signed", 0, |_| {
        sign(&keys, &heads)
    })?;
    Ok(Prepared {
        pki,
        keys,
        model,
        training: dataset::read(&training_list)?,
        truth: dataset::read(&live)?,
        live,
        heads,
    })
}

/// Renders the training frames, and live frames that span another day; returns their lists.
fn footage(steps: &mut Steps, dir: &Path, options: &Options) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (training_dir, live_dir) = (dir.join("training"), dir.join("live"));
    let frames = u64::from(options.training_frames + options.live_frames);
    let live_day = (f64::from(options.training_frames) * TRAINING_STEP_S / DAY_S).ceil() as u32 + 1;
    steps.run("footage of a synthetic plaza", frames, |done: &AtomicU64| {
        let count = || {
            done.fetch_add(1, Ordering::Relaxed);
        };
        let training = Plan {
            seed: SEED,
            start: Clock::at(0, 0.0),
            step_s: TRAINING_STEP_S,
            count: options.training_frames,
        };
        let live = Plan {
            seed: SEED,
            start: Clock::at(live_day, 0.0),
            step_s: DAY_S / f64::from(options.live_frames.max(1)),
            count: options.live_frames,
        };
        Ok((dataset::render(&training_dir, &training, count)?, dataset::render(&live_dir, &live, count)?))
    })
}

/// Trains one head per task and shows what training said.
fn train(steps: &mut Steps, dir: &Path, embeddings: &Path, labels: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut heads = Vec::new();
    for task in ["count", "time-of-day"] {
        let head = dir.join(format!("{task}.head.safetensors"));
        let report = steps.run(&format!("a {task} head from those embeddings and labels"), 0, |_| {
            command(&[
                "head",
                "train",
                "--task",
                task,
                "--embeddings",
                &shown(embeddings),
                "--labels",
                &shown(labels),
                "--out",
                &shown(&head),
            ])
        })?;
        for line in report.lines().filter(|line| !line.trim().is_empty()) {
            println!("      {line}");
        }
        heads.push(head);
    }
    Ok(heads)
}

fn sign(keys: &Path, heads: &[PathBuf]) -> anyhow::Result<()> {
    command(&["keys", "init", "--dir", &shown(keys)])?;
    for head in heads {
        command(&["head", "sign", &shown(head), "--keys", &shown(keys)])?;
    }
    Ok(())
}

impl Prepared {
    /// Folder of the camera's certificate.
    pub fn identity(&self) -> PathBuf {
        self.pki.join("cameras").join(CAMERA)
    }

    /// Starts `dc-encoder serve` on `listen`; its log goes to `dir`.
    ///
    /// # Errors
    /// The server did not become ready; the message holds its log.
    pub fn serve(&self, dir: &Path, listen: &str) -> anyhow::Result<Server> {
        self.serve_with(dir, listen, &[])
    }

    /// [`serve`](Self::serve) with `extra` arguments.
    ///
    /// # Errors
    /// As there.
    pub fn serve_with(&self, dir: &Path, listen: &str, extra: &[&str]) -> anyhow::Result<Server> {
        let command = &mut Command::new(process::program("dc-encoder")?);
        self.serve_through(command, dir, &[&["--listen", listen], extra].concat())
    }

    /// [`serve`](Self::serve) through a command that runs `dc-encoder` with the arguments it is given, such
    /// as a shell that sets limits first.
    ///
    /// # Errors
    /// As there.
    pub fn serve_through(&self, command: &mut Command, dir: &Path, extra: &[&str]) -> anyhow::Result<Server> {
        let ready = dir.join("ready");
        let _ = std::fs::remove_file(&ready);
        let paths = [("--model", &self.model), ("--pki", &self.pki), ("--ready-file", &ready)];
        command.arg("serve").args(extra);
        for (flag, path) in paths {
            command.arg(flag).arg(path);
        }
        let mut encoder = Running::start_in(command, "dc-encoder", &dir.join("dc-encoder.log"))?;
        let address = encoder.wait_for_file(&ready, READY_WITHIN)?.trim().to_owned();
        Ok(Server { encoder, address })
    }

    /// Starts `edge-agent run` against `server` with both heads and `extra` arguments; its log goes to `dir`.
    ///
    /// # Errors
    /// The agent did not start.
    pub fn agent(&self, dir: &Path, server: &str, extra: &[&str]) -> anyhow::Result<Running> {
        self.agent_as(CAMERA, dir, server, extra)
    }

    /// [`agent`](Self::agent) as another camera, whose certificate was issued already.
    ///
    /// # Errors
    /// As there.
    pub fn agent_as(
        &self,
        camera: &str,
        dir: &Path,
        server: &str,
        extra: &[&str],
    ) -> anyhow::Result<Running> {
        let mut args = vec!["run".to_owned(), "--format".into(), "json".into()];
        for (flag, value) in [
            ("--server", server.to_owned()),
            ("--identity", shown(&self.pki.join("cameras").join(camera))),
            ("--camera", camera.to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        for head in &self.heads {
            args.extend(["--head".to_owned(), shown(head)]);
        }
        args.extend(["--release-root".to_owned(), shown(&self.keys.join("root.pub"))]);
        args.extend(extra.iter().map(|&arg| arg.to_owned()));
        Running::start("edge-agent", args, &dir.join("edge-agent.log"))
    }
}

/// A running encoder server.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub encoder: Running,
    /// Where it listens, `ip:port`.
    pub address: String,
}

/// A path as an argument.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs `dc-encoder` with `args` after printing the command.
pub(crate) fn command(args: &[&str]) -> anyhow::Result<String> {
    println!("      $ dc-encoder {}", args.join(" "));
    process::run("dc-encoder", args)
}
