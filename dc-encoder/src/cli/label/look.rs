//! `label status`: how far batches are, where people differ, and who changed their mind.

use crate::annotate::{Batch, Sent};
use crate::archive::{Archive, task_name};
use crate::cli::archive::At;

/// Arguments of `label status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    at: At,
    /// This batch alone
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
}

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<()> {
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
        let sent = batch.sent.as_ref().map_or_else(String::new, sent);
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
        for (id, label) in progress.changed {
            let before: Vec<String> =
                label.earlier.iter().map(|it| format!("{} at {:.0}", it.answer.value(), it.at)).collect();
            println!("  changed {id}: {} {}, before {}", label.who, label.answer.value(), before.join(", "));
        }
    }
    Ok(())
}

/// Where a batch was sent, and how much of it is there.
fn sent(sent: &Sent) -> String {
    let Sent { to, place, tasks, whole, labels, money, .. } = sent;
    let cut =
        if *whole { String::new() } else { format!(", cut off after {} frames: push it again", tasks.len()) };
    let paid = if *money > 0.0 { format!(", {labels} labels for {money:.2}") } else { String::new() };
    format!(", sent to {to} {place}{paid}{cut}")
}
