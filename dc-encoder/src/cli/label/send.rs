//! `label push` and `label pull`: batches to people and labels back.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use shared::head::{Head, Task};

use crate::annotate::{
    self, AnnotateError, Batch, Budget, Config, Folder, Form, Formed, Guesses, Patience, Platform, Pushed,
    Scale, Sent, Studio, Taking,
};
use crate::archive::{Archive, Taken};
use crate::cli::archive::{At, parse_task};

/// The configuration that is read unless another is named, if it is there.
const CONFIG: &str = "label.toml";
/// Labels that are named when they are refused; the others are counted.
const NAMED: usize = 20;

/// Where a batch goes.
#[derive(Debug, Clone, PartialEq)]
enum Target {
    Folder(PathBuf),
    LabelStudio,
    Scale,
}

fn target(text: &str) -> Result<Target, String> {
    Ok(match text {
        "" => return Err("a folder, label-studio or scale".to_owned()),
        "label-studio" => Target::LabelStudio,
        "scale" => Target::Scale,
        folder => Target::Folder(folder.into()),
    })
}

/// The configuration at `path`, or the one that is there, or none.
pub(super) fn config(path: Option<&Path>) -> anyhow::Result<Config> {
    match path {
        Some(path) => Ok(Config::load(path)?),
        None if Path::new(CONFIG).exists() => Ok(Config::load(Path::new(CONFIG))?),
        None => Ok(Config::default()),
    }
}

fn open(target: Target, (config, who): (&Config, &str)) -> anyhow::Result<Box<dyn Platform>> {
    let (classes, patience) = (config.label.classes.clone(), Patience::default());
    let lacks = |table: &str| {
        format!("the configuration has no table [{table}]: --config FILE, see docs/labelling.md")
    };
    Ok(match target {
        Target::Folder(dir) => Box::new(Folder { dir, who: who.to_owned() }),
        Target::LabelStudio => {
            let studio = config.label_studio.clone().with_context(|| lacks("label_studio"))?;
            Box::new(Studio::new(studio, classes, patience)?)
        }
        Target::Scale => {
            let scale = config.scale.clone().with_context(|| lacks("scale"))?;
            Box::new(Scale::new(scale, classes, patience)?)
        }
    })
}

/// Arguments of `label push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    at: At,
    /// The batch
    #[arg(long, value_name = "NAME", required_unless_present = "camera", conflicts_with = "camera")]
    batch: Option<String>,
    /// Form the next batch of this camera, if it is full or old enough and within the budget
    #[arg(long, value_name = "NAME", requires = "task")]
    camera: Option<String>,
    /// What is to be labelled: count, time-of-day, scalar or class
    #[arg(long, value_name = "TASK", value_parser = parse_task, requires = "camera")]
    task: Option<Task>,
    /// A folder to write, `label-studio` or `scale`
    #[arg(long, value_name = "DIR|PLATFORM", value_parser = target)]
    to: Target,
    /// When batches form, what they may cost, and the platforms [default: label.toml, if there is one]
    #[arg(long, env = "FTH_LABEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Heads on the embedding whose answers are shown to whoever labels (Label Studio)
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
}

pub(super) fn push(args: PushArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let config = config(args.config.as_deref())?;
    let heads = args.heads.iter().map(|path| Head::load(path)).collect::<Result<Vec<_>, _>>()?;
    let mut platform = open(args.to.clone(), (&config, ""))?;
    let platform = platform.as_mut();
    if let (Some(camera), Some(task)) = (&args.camera, args.task) {
        return next(&archive, (camera, task), (platform, &heads), &config);
    }
    let name = args.batch.context("say which --batch, or of which --camera the next one is formed")?;
    send(&archive, &name, (platform, &heads), &config.label.budget)?;
    if matches!(args.to, Target::Folder(_)) {
        println!("fill in labels.csv, then `dc-encoder label pull --batch {name}`");
    }
    Ok(())
}

/// Sends the rest of what was begun, and then the next batch, if it is time.
fn next(
    archive: &Archive,
    (camera, task): (&str, Task),
    (platform, heads): (&mut dyn Platform, &[Head]),
    config: &Config,
) -> anyhow::Result<()> {
    let (to, place) = (platform.name(), platform.place());
    for (name, batch) in Batch::all(archive)? {
        if batch.task == task && batch.sent.is_some_and(|it| it.to == to && it.place == place && !it.whole) {
            send(archive, &name, (platform, heads), &config.label.budget)?;
        }
    }
    let form = Form { camera, task, labels_each: platform.labels_each(), plan: &config.label };
    let Formed { name, frames, beyond } = match annotate::form(archive, &form, Timestamp::now()) {
        Ok(formed) => formed,
        // It is not time: nothing went wrong.
        Err(AnnotateError::Held(why)) => {
            println!("nothing was sent: {why}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if beyond > 0 {
        println!("{name}: {frames} frames, {beyond} more wait: that is as far as the budget reaches");
    }
    send(archive, &name, (platform, heads), &config.label.budget)
}

fn send(
    archive: &Archive,
    name: &str,
    (platform, heads): (&mut dyn Platform, &[Head]),
    budget: &Budget,
) -> anyhow::Result<()> {
    let batch = Batch::get(archive, name)?;
    let guesses = Guesses::of(archive, batch.task, &batch.items(archive)?, heads)?;
    let Pushed { frames, new } = annotate::push_with(archive, name, platform, (&guesses, budget))?;
    let there = if new < frames { format!(", {} were there", frames - new) } else { String::new() };
    let guessed =
        if guesses.is_empty() { String::new() } else { format!(", {} with a head's answer", guesses.len()) };
    println!("{name}: {new} frames sent to {} {}{there}{guessed}", platform.name(), platform.place());
    Ok(())
}

/// Arguments of `label pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    #[command(flatten)]
    at: At,
    /// The batch [default: every one that was sent to a platform]
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// A folder with the labels, `label-studio` or `scale` [default: where it was sent]
    #[arg(long, value_name = "DIR|PLATFORM", value_parser = target, requires = "batch")]
    from: Option<Target>,
    /// The platforms [default: label.toml, if there is one]
    #[arg(long, env = "FTH_LABEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Who labelled, where a folder's table does not say
    #[arg(long, env = "USER", value_name = "NAME", default_value = "me")]
    who: String,
}

pub(super) fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let config = config(args.config.as_deref())?;
    let batches = match &args.batch {
        Some(name) => vec![(name.clone(), Batch::get(&archive, name)?)],
        None => {
            let mut all = Batch::all(&archive)?;
            all.retain(|(_, batch)| batch.sent.as_ref().is_some_and(|it| it.to != "folder"));
            all
        }
    };
    if batches.is_empty() {
        println!("no batch was sent to a platform: `dc-encoder label push` sends one");
    }
    for (name, batch) in batches {
        let from = match (&args.from, &batch.sent) {
            (Some(from), _) => from.clone(),
            (None, Some(Sent { to, place, .. })) if to == "folder" => Target::Folder(place.into()),
            (None, Some(Sent { to, .. })) => target(to).map_err(anyhow::Error::msg)?,
            (None, None) => bail!("batch {name} was not pushed anywhere: say --from DIR"),
        };
        let mut platform = open(from, (&config, &args.who))?;
        let Taking { taken, refused } = annotate::pull(&archive, &name, platform.as_mut())?;
        let Taken { new, same, changed } = taken;
        let count = if refused.is_empty() { String::new() } else { format!(", {} refused", refused.len()) };
        println!("{name}: {new} new labels, {changed} changed, {same} were there{count}");
        for why in refused.iter().take(NAMED) {
            eprintln!("refused: {why}");
        }
        if refused.len() > NAMED {
            eprintln!("and {} more refused", refused.len() - NAMED);
        }
    }
    Ok(())
}
