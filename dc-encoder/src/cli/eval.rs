//! `dc-encoder head eval`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use shared::patches::Policy;
use shared::uplink::Uplink;

use crate::backend::{Choice, ChoiceArgs};
use crate::embed::{Config, EmbeddingsFile};
use crate::evaluate::sheet::{self, Written};
use crate::evaluate::{Bench, Evaluation, Folder, Plan, Progress, Style};
use crate::heads::KindChoice;

/// Work that takes less is not told of.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// Arguments of `dc-encoder head eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Pictures of the worst answers, truth and answer drawn on them: FILE-10.png, FILE-30.png … for each number of labels,
    /// of the best head at that number
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Print the tables in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    heads: Heads,
}

/// Labelled frames and their embeddings.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("encoder").required(true).args(["model", "embeddings"]))]
pub struct Source {
    /// Folder with labels.csv or labels.jsonl, split.toml and the frames
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Model folder: the frames are embedded with it first
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Which patches of its frames are sent: all, changed(LEVELS,FRAMES) or random(SHARE)
    #[arg(long, value_name = "WHICH", default_value_t, conflicts_with = "embeddings")]
    patches: Policy,
    /// Embeddings of the folder's frames, from `dc-encoder embed --tokens --frames DIR/labels.csv`
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    on: ChoiceArgs,
}

impl Source {
    /// Opens the folder, and reads or makes the embeddings.
    ///
    /// # Errors
    /// A folder, model or embeddings that cannot be used, each with its remedy.
    pub(super) fn bench(&self) -> anyhow::Result<Bench> {
        let folder = Folder::open(&self.data)?;
        let embeddings = match (&self.embeddings, &self.model) {
            (Some(file), _) => EmbeddingsFile::open(file)?,
            (None, Some(model)) => {
                let place = tempfile::tempdir().context("a temporary folder for the embeddings")?;
                let out = place.path().join("embeddings.safetensors");
                embed(model, self.on.into(), self.patches, (&folder.list, &out))?
            }
            (None, None) => anyhow::bail!("give --model or --embeddings"),
        };
        Ok(Bench::new(folder, embeddings)?)
    }
}

/// Which heads are trained on how many labels.
#[derive(Debug, clap::Args)]
pub struct Heads {
    /// Kinds of head; the first is the one that goals and the summary are about
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    kinds: Vec<KindChoice>,
    /// Numbers of labels, as many of them as the pool has
    #[arg(long, value_delimiter = ',', default_value = "10,30,100,300", value_parser = labels)]
    labels: Vec<usize>,
    /// Draws of the labels at each number
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    draws: u64,
    /// Seed of draws, trainings and intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out the split of the same rows at random, which is optimistic
    #[arg(long)]
    no_random_split: bool,
}

fn labels(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 10).ok_or_else(|| "a number from 10: fewer train no head".into())
}

impl Heads {
    /// What to evaluate; everything, however long it takes.
    pub(super) fn plan(&self) -> Plan {
        Plan {
            kinds: self.kinds.clone(),
            labels: self.labels.clone(),
            draws: self.draws as usize,
            seed: self.seed,
            random_split: !self.no_random_split,
            deadline: None,
        }
    }

    /// Seed of everything random.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Runs the command.
///
/// # Errors
/// A folder, model or embeddings that cannot be used, each with its remedy.
pub fn run(args: &Args) -> anyhow::Result<String> {
    let bench = args.source.bench()?;
    let evaluation = Evaluation::measure(&bench, &args.heads.plan(), &mut progress)?;
    if let Some(path) = &args.sheet {
        write_sheets(path, &bench, &evaluation)?;
    }
    if args.json {
        return Ok(serde_json::to_string_pretty(&evaluation)? + "\n");
    }
    let style = if args.markdown { Style::Markdown } else { Style::Text };
    Ok(format!("{}{}\n", evaluation.render(style), evaluation.summary()))
}

/// Embeds a list of frames with their latent tokens.
pub(super) fn embed(
    model: &Path,
    choice: Choice,
    patches: Policy,
    (list, out): (&Path, &Path),
) -> anyhow::Result<EmbeddingsFile> {
    let uplink = Uplink { patches, ..Uplink::default() };
    let config = Config { tokens: true, uplink, ..Config::new(list, out) };
    super::embed::with_progress(model, choice, &config)?;
    Ok(EmbeddingsFile::open(out)?)
}

/// The worst answers at each number of labels as pictures.
pub(super) fn write_sheets(path: &Path, bench: &Bench, evaluation: &Evaluation) -> anyhow::Result<()> {
    let Some(curve) = evaluation.curves.first() else { return Ok(()) };
    for Written { path, labels, head } in sheet::write(path, bench, curve)? {
        eprintln!("worst answers at {labels} labels ({head}): {}", path.display());
    }
    Ok(())
}

/// A line on standard error for what took a while.
pub(super) fn progress(done: Progress) {
    let Progress { protocol, method, labels, draws, took } = done;
    if took < WORTH_A_LINE {
        return;
    }
    let protocol = match protocol {
        crate::evaluate::draw::Protocol::Chronological => "",
        crate::evaluate::draw::Protocol::RandomSplit => "random split: ",
    };
    eprintln!("{protocol}{method}, {labels} labels, draws: {draws}, {:.1} s", took.as_secs_f64());
}
