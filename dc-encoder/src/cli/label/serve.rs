//! `label serve` and `label listen`: labels that come in by themselves, from a browser or from a platform.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use super::send::config;
use crate::annotate::{Batch, Callback, Page};
use crate::archive::Archive;
use crate::cli::archive::At;

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

pub(super) fn serve(args: ServeArgs) -> anyhow::Result<()> {
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

/// Arguments of `label listen`.
#[derive(Debug, clap::Args)]
pub struct ListenArgs {
    #[command(flatten)]
    at: At,
    /// The configuration, with a table [scale]
    #[arg(long, env = "FTH_LABEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port on this machine; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

pub(super) fn listen(args: &ListenArgs) -> anyhow::Result<()> {
    let Some(scale) = config(args.config.as_deref())?.scale else {
        bail!("the configuration has no table [scale], and no other platform calls back");
    };
    let archive = Arc::new(Archive::open_existing(&args.at.archive)?);
    let callback = Callback::new(archive, &scale)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let listening = callback.listen(args.port).await?;
        println!("callbacks of Scale: http://{}/ on this machine alone", listening.address);
        listening
            .run(async move {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            })
            .await;
        anyhow::Ok(())
    })
}
