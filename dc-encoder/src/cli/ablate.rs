//! `dc-encoder head ablate`

use super::eval::Source;
use crate::evaluate::Style;
use crate::evaluate::ablate::{Plan, Row, ablate, variants};
use crate::heads::KindChoice;

/// Arguments of `dc-encoder head ablate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Kinds of head whose size is swept
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "departures,linear,kernel,trees,mlp,tokens"
    )]
    kinds: Vec<KindChoice>,
    /// Labels each head gets, as many as the pool has
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..))]
    labels: u64,
    /// Draws of the labels
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=100))]
    draws: u64,
    /// Seed of draws, trainings and intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Print the table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// Runs the command.
///
/// # Errors
/// A folder, model or embeddings that cannot be used, each with its remedy.
pub fn run(args: &Args) -> anyhow::Result<String> {
    let bench = args.source.bench()?;
    let variants = args.kinds.iter().flat_map(|kind| variants(*kind, &bench.embeddings)).collect();
    let plan = Plan { variants, labels: args.labels as usize, draws: args.draws as usize, seed: args.seed };
    let measure = bench.folder.measure();
    let watch =
        &mut |row: &Row| eprintln!("{}: {} {}", row.name, measure.score(row.score.value), measure.unit());
    let ablation = ablate(&bench, &plan, watch)?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&ablation)? + "\n");
    }
    let style = if args.markdown { Style::Markdown } else { Style::Text };
    Ok(format!(
        "{}: heads of all sizes on {} labels, draws: {}\n\n{}\n{}\n",
        ablation.folder,
        ablation.labels,
        ablation.draws,
        ablation.table().render(style),
        ablation.verdict()
    ))
}
