//! `dc-encoder evaluate`: everything from frames to a verdict, for one folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::eval::{self, Heads};
use crate::backend::DeviceChoice;
use crate::evaluate::{Bench, Evaluation, Folder, Plan, Style};

/// What embedding, training and testing may take besides pretraining.
const BESIDES: Duration = Duration::from_secs(30 * 60);

/// Kept back for the contact sheet and the files.
const LAST: Duration = Duration::from_secs(60);

/// Arguments of `dc-encoder evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with labels.csv or labels.jsonl, split.toml and the frames
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Model folder, from `dc-encoder model init` or `import`
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: PathBuf,
    /// Folder for embeddings, tables, JSON and the picture of the worst answers
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// auto, cpu or cuda:N
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    #[command(flatten)]
    heads: Heads,
}

/// Runs the command. Success means that everything was measured, whatever the scores.
///
/// # Errors
/// A folder or model that cannot be used, a training that fails, a file that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let Args { data, model, out, device, heads } = args;
    let folder = Folder::open(data)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let frames = folder.frames()?;
    eprintln!(
        "{}: {} frames, pool {:?}, test {:?}",
        folder.name,
        frames.len(),
        folder.split.pool,
        folder.split.test
    );
    let embeddings = eval::embed(model, *device, &folder.list, &out.join("embeddings.safetensors"))?;
    let bench = Bench::new(folder, embeddings)?;
    let plan = Plan { deadline: Some(started + BESIDES - LAST), ..heads.plan() };
    let evaluation = Evaluation::measure(&bench, &plan, &mut eval::progress)?;
    write(out, &bench, &evaluation)?;
    print!("{}", evaluation.render(Style::Text));
    for goal in &evaluation.goals {
        println!("{goal}");
    }
    println!("{} ({:.0} s)", evaluation.summary(), started.elapsed().as_secs_f64());
    Ok(())
}

/// The table in Markdown, everything in JSON, and the picture.
fn write(out: &Path, bench: &Bench, evaluation: &Evaluation) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(evaluation)?;
    for (name, text) in [("results.md", evaluation.render(Style::Markdown)), ("results.json", json + "\n")] {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    eval::write_sheet(&out.join("worst.png"), bench, evaluation)
}
