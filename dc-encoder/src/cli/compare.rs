//! `dc-encoder head compare`

use std::path::PathBuf;

use anyhow::Context as _;
use shared::head::Head;

use crate::embed::EmbeddingsFile;
use crate::evaluate::compare::{common_task, compare};
use crate::heads::train::select;
use crate::heads::{Labels, Rows};

/// Arguments of `dc-encoder head compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The one head
    #[arg(value_name = "A.safetensors")]
    a: PathBuf,
    /// The other
    #[arg(value_name = "B.safetensors")]
    b: PathBuf,
    /// Embeddings, as `dc-encoder embed` writes them
    #[arg(long, value_name = "FILE")]
    embeddings: PathBuf,
    /// Labels: CSV with a header or JSON lines, with `file` and the task's column
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Rows of the labels to compare on, which neither head was trained on; counted from 0, end exclusive [default: all]
    #[arg(long, value_name = "A..B")]
    rows: Option<Rows>,
    /// Seed of the interval
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A head, embeddings or labels that do not fit each other.
pub fn run(args: &Args) -> anyhow::Result<String> {
    let load = |path: &PathBuf| Head::load(path).with_context(|| format!("the head {}", path.display()));
    let (a, b) = (load(&args.a)?, load(&args.b)?);
    let labels = Labels::read(&args.labels, common_task(&a, &b)?)?;
    let rows = select(&labels, "--rows", args.rows.as_ref())?.unwrap_or(&labels.rows);
    let embeddings = EmbeddingsFile::open(&args.embeddings)?;
    let comparison = compare([&a, &b], &embeddings, (rows, &labels.classes), args.seed)?;
    Ok(match args.json {
        true => serde_json::to_string_pretty(&comparison)? + "\n",
        false => comparison.to_string(),
    })
}
