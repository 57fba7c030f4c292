//! `dc-encoder label`: choose frames, have them labelled, take the labels.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use protocol::SpaceId;
use shared::head::{Head, Input, Task};
use tokio::signal::unix::{SignalKind, signal};

use super::archive::{At, parse_task};
use crate::annotate::{self, Batch, Folder, Page, Platform, Sent};
use crate::archive::{Archive, Embedded, FrameId, Taken, task_name};
use crate::suggest::{self, Options, Pick, Scaled, Tile};

/// Subcommands of `dc-encoder label`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Choose frames that are worth a label: diverse, new, typical, and where heads differ
    #[command(
        after_help = "Example:\n  dc-encoder label suggest --camera plaza-1 --task count --n 30 --batch monday --sheet monday.png"
    )]
    Suggest(SuggestArgs),
    /// Label a batch in the browser, by keyboard, on this machine
    #[command(after_help = "Example:\n  dc-encoder label serve --batch monday --who ann")]
    Serve(ServeArgs),
    /// Write a batch into a folder: pictures, and a table to fill in
    #[command(after_help = "Example:\n  dc-encoder label push --batch monday --to to-label")]
    Push(PushArgs),
    /// Take the labels of a batch; as often as you like, each counts once
    #[command(after_help = "Example:\n  dc-encoder label pull --batch monday --who ann")]
    Pull(PullArgs),
    /// How far the batches are, and where people differ
    #[command(after_help = "Example:\n  dc-encoder label status --batch monday")]
    Status(StatusArgs),
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps it from doing so; each says what to do.
pub fn run(command: Command) -> anyhow::Result<()> {
    shared::telemetry::init("info", shared::telemetry::Format::Text)?;
    match command {
        Command::Suggest(args) => suggest(&args),
        Command::Serve(args) => serve(args),
        Command::Push(args) => push(args),
        Command::Pull(args) => pull(args),
        Command::Status(args) => status(&args),
    }
}

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

fn suggest(args: &SuggestArgs) -> anyhow::Result<()> {
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
            "batch {name}: `dc-encoder label serve --batch {name}`, or `label push --batch {name} --to DIR`"
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

/// Arguments of `label serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    at: At,
    /// The batch
    #[arg(long, value_name = "NAME")]
    batch: String,
    /// Who labels
    #[arg(long, env = "USER", value_name = "NAME", default_value = "me")]
    who: String,
    /// Names to choose from, for classes: at most nine
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    classes: Vec<String>,
    /// Port on this machine; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// End when the whole batch is labelled
    #[arg(long)]
    until_done: bool,
}

fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let archive = Arc::new(Archive::open_existing(&args.at.archive)?);
    let ServeArgs { batch, who, classes, port, until_done, .. } = args;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let watched = Batch::get(&archive, &batch)?;
    let served = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let page = Page { batch: batch.clone(), who, classes, port };
        let served = page.serve(Arc::clone(&archive)).await?;
        println!("label in the browser: {}", served.url);
        println!("every label is in the archive at once; Ctrl-C ends the page");
        let done = all_labelled(Arc::clone(&archive), watched.clone(), until_done);
        served
            .run(async move {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, () = done => {} }
            })
            .await;
        anyhow::Ok(())
    });
    drop(runtime);
    served?;
    let progress = watched.progress(&archive)?;
    println!("{batch}: {} of {} labelled", progress.labelled, progress.frames);
    Ok(())
}

/// Waits until the whole batch is labelled; for ever unless that is wanted.
async fn all_labelled(archive: Arc<Archive>, batch: Batch, wanted: bool) {
    /// Between two looks.
    const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
    loop {
        let (archive, batch) = (Arc::clone(&archive), batch.clone());
        let progress = tokio::task::spawn_blocking(move || batch.progress(&archive)).await;
        let done = matches!(progress, Ok(Ok(it)) if it.labelled == it.frames);
        if wanted && done {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Arguments of `label push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    at: At,
    /// The batch
    #[arg(long, value_name = "NAME")]
    batch: String,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

fn push(args: PushArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let mut folder = Folder { dir: args.to, who: String::new() };
    let sent = annotate::push(&archive, &args.batch, &mut folder)?;
    println!(
        "{}: {sent} frames; fill in labels.csv, then `dc-encoder label pull --batch {}`",
        folder.place(),
        args.batch
    );
    Ok(())
}

/// Arguments of `label pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    #[command(flatten)]
    at: At,
    /// The batch
    #[arg(long, value_name = "NAME")]
    batch: String,
    /// The folder with the labels [default: the one it was pushed to]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Who labelled, where the table does not say
    #[arg(long, env = "USER", value_name = "NAME", default_value = "me")]
    who: String,
}

fn pull(args: PullArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let batch = Batch::get(&archive, &args.batch)?;
    let dir = match (args.from, &batch.sent) {
        (Some(dir), _) => dir,
        (None, Some(Sent { place, .. })) => place.into(),
        (None, None) => bail!("batch {} was not pushed anywhere: say --from DIR", args.batch),
    };
    let mut folder = Folder { dir, who: args.who };
    let Taken { new, same, changed } = annotate::pull(&archive, &args.batch, &mut folder)?;
    println!("{}: {new} new labels, {changed} changed, {same} were there", args.batch);
    Ok(())
}

/// Arguments of `label status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    at: At,
    /// This batch alone
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let batches = match &args.batch {
        Some(name) => vec![(name.clone(), Batch::get(&archive, name)?)],
        None => Batch::all(&archive)?,
    };
    if batches.is_empty() {
        println!(
            "no batches in {}: `dc-encoder label suggest --batch NAME` makes one",
            archive.dir().display()
        );
    }
    for (name, batch) in batches {
        let progress = batch.progress(&archive)?;
        let sent =
            batch.sent.as_ref().map_or_else(String::new, |it| format!(", sent to {} {}", it.to, it.place));
        println!(
            "{name}: {} of {} labelled ({}){sent}",
            progress.labelled,
            progress.frames,
            task_name(batch.task)
        );
        for (id, labels, together) in progress.disputed {
            let each: Vec<String> =
                labels.iter().map(|it| format!("{} {}", it.who, it.answer.value())).collect();
            let value = together.value.map_or("undecided".to_owned(), |value| format!("{value} counts"));
            println!("  disputed {id}: {}; {value}", each.join(", "));
        }
    }
    Ok(())
}
