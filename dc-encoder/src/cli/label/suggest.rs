//! `label suggest`: frames that are worth a label, each with why.

use std::path::PathBuf;

use anyhow::bail;
use protocol::SpaceId;
use shared::head::{Head, Input, Task};

use crate::annotate::Batch;
use crate::archive::{Archive, Embedded, FrameId};
use crate::cli::archive::{At, parse_task};
use crate::suggest::{self, Options, Pick, Scaled, Tile};

/// Arguments of `label suggest`.
#[derive(Debug, clap::Args)]
pub struct SuggestArgs {
    #[command(flatten)]
    at: At,
    /// The camera
    #[arg(long, value_name = "NAME")]
    camera: String,
    /// What is to be labelled: count, time-of-day, scalar or class
    #[arg(long, value_name = "TASK", value_parser = parse_task)]
    task: Task,
    /// How many frames
    #[arg(long, value_name = "N", default_value_t = 30)]
    n: usize,
    /// Name of the batch that is made of them; without one they are only shown
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// A picture of them, each with why
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Heads of this camera that read the embedding: frames on which they differ come first; give two or more
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// Choose in this embedding space [default: the newest that the camera's frames have]
    #[arg(long, value_name = "SPACE")]
    space: Option<SpaceId>,
}

pub(super) fn suggest(args: &SuggestArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let embedded = archive.embeddings(&args.camera, args.space)?;
    let labelled = archive.labelled(Some(&args.camera), args.task)?;
    let row_of = |id: &FrameId| embedded.ids.iter().position(|it| it == id);
    let rows: Vec<usize> = labelled.iter().filter_map(|(id, _)| row_of(id)).collect();
    let doubt = doubt(args, &embedded)?;
    let frames = Scaled::new(&embedded.values, embedded.dim);
    let options = Options { n: args.n, ..Options::default() };
    let picks = suggest::choose(&frames, &rows, &doubt, options);
    if picks.is_empty() {
        bail!("nothing to suggest: every frame of {} looks like one that is labelled", args.camera);
    }
    for pick in &picks {
        println!("{} {}", embedded.ids[pick.row], why(pick));
    }
    if picks.len() < args.n {
        eprintln!("{} of {}: the others look like these or like labelled ones", picks.len(), args.n);
    }
    if let Some(path) = &args.sheet {
        let tiles =
            picks.iter().map(|pick| tile(&archive, &embedded, pick)).collect::<anyhow::Result<Vec<_>>>()?;
        suggest::write_sheet(path, &tiles)?;
        eprintln!("{}: {} frames with why", path.display(), tiles.len());
    }
    if let Some(name) = &args.batch {
        let ids = picks.iter().map(|pick| embedded.ids[pick.row]).collect();
        Batch::create(&archive, name, (args.task, ids))?;
        eprintln!(
            "batch {name}: `dc-encoder label serve --batch {name}`, or `label push --batch {name} --to DIR|label-studio|scale`"
        );
    }
    Ok(())
}

fn why(pick: &Pick) -> String {
    let Pick { novelty, stands_for, doubt, .. } = pick;
    let novelty = if novelty.is_finite() { format!("new {novelty:.2}") } else { "first".to_owned() };
    let doubt = if *doubt > 0.0 { format!(", doubt {doubt:.2}") } else { String::new() };
    format!("{novelty}, stands for {:.1} %{doubt}", 100.0 * stands_for)
}

fn tile(archive: &Archive, embedded: &Embedded, pick: &Pick) -> anyhow::Result<Tile> {
    let found = archive.get(embedded.ids[pick.row])?;
    let time = found.record.captured_at.strftime("%Y-%m-%d %H:%M").to_string();
    let why = why(pick).to_uppercase().replace(',', "");
    Ok(Tile { frame: archive.jpeg(&found.record)?, caption: [time, why] })
}

/// How far the heads differ on each frame.
fn doubt(args: &SuggestArgs, embedded: &Embedded) -> anyhow::Result<Vec<f32>> {
    if args.heads.is_empty() {
        return Ok(Vec::new());
    }
    if args.heads.len() == 1 {
        bail!("one head differs from nobody: give two or more --head, trained on other draws of the labels");
    }
    let mut answers = Vec::new();
    for path in &args.heads {
        let head = Head::load(path)?;
        head.check_space(&embedded.space)?;
        if head.needs_tokens() {
            bail!(
                "{} reads latent tokens, which the archive does not keep: give heads on the embedding",
                path.display()
            );
        }
        let answer = |row| Ok(head.run(&Input { embedding: embedded.row(row), tokens: None })?.value);
        answers.push((0..embedded.ids.len()).map(answer).collect::<anyhow::Result<Vec<f64>>>()?);
    }
    Ok(suggest::disagreement(&answers))
}
