//! `dc-encoder embed`

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use shared::patches::Policy;
use shared::uplink::Uplink;

use crate::backend::{self, BackendInfo, Choice, ChoiceArgs};
use crate::embed::{self, Config, Event, Summary};

/// Where nobody sees a progress bar, a line appears this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Frames left out that are listed on the screen; the file lists all.
const LISTED_SKIPPED: usize = 20;

/// Arguments of `dc-encoder embed`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder, from `dc-encoder model init` or `import`
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: PathBuf,
    /// Folder of pictures, or a list of them (.csv, .jsonl, .txt); a labels file is a list
    #[arg(long, value_name = "DIR|LIST")]
    frames: PathBuf,
    /// File to make; an interrupted run keeps its work in FILE.part and the same command continues it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Keep the latent tokens too, for token heads
    #[arg(long)]
    tokens: bool,
    /// What frames pass through first: the agent's own setting, as `edge-agent check` prints it
    #[arg(long, value_name = "ID", default_value_t = Uplink::default())]
    uplink: Uplink,
    /// Which patches of frames are sent: all, changed(LEVELS,FRAMES) or random(SHARE); the list is one camera's frames in
    /// time order then [default: what --uplink says]
    #[arg(long, value_name = "WHICH")]
    patches: Option<Policy>,
    /// Leave out frames that cannot be used, and list them
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    on: ChoiceArgs,
    /// Frames in a batch [default: what suits the device]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Threads that decode [default: one a processor]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1".into())
}

/// Runs the command.
///
/// # Errors
/// A model or device that cannot be opened, and everything in [`embed::EmbedError`].
pub fn run(args: Args) -> anyhow::Result<()> {
    let Args { model, frames, out, tokens, uplink, patches, skip_bad, on, batch, threads } = args;
    let uplink = Uplink { patches: patches.unwrap_or(uplink.patches), ..uplink };
    let config = Config { tokens, uplink, skip_bad, batch, threads, ..Config::new(frames, out) };
    let summary = with_progress(&model, on.into(), &config)?;
    report(&mut io::stdout(), &config.out, &summary)?;
    Ok(())
}

/// Opens a model, says what it is, and embeds, with progress on standard error.
///
/// # Errors
/// As [`run`].
pub(super) fn with_progress(model: &Path, choice: Choice, config: &Config) -> anyhow::Result<Summary> {
    let mut err = io::stderr();
    writeln!(err, "loading the model {}", model.display())?;
    let mut backend =
        backend::open(model, choice).with_context(|| format!("cannot open {}", model.display()))?;
    announce(&mut err, &backend.info(), &config.uplink)?;
    let mut progress = Progress::new(err.is_terminal());
    let result = embed::run(config, backend.as_mut(), &mut |event| progress.show(event));
    progress.end();
    Ok(result?)
}

fn announce(out: &mut impl Write, info: &BackendInfo, uplink: &Uplink) -> io::Result<()> {
    let BackendInfo { device, path, reason, model, note, space, .. } = info;
    writeln!(out, "model {model}, embedding space {}, on {device} ({path}): {reason}", space.short())?;
    if !note.is_empty() {
        writeln!(out, "WEIGHTS: {note}")?;
    }
    writeln!(out, "uplink transformation {uplink}")
}

fn report(out: &mut impl Write, path: &Path, summary: &Summary) -> io::Result<()> {
    let Summary { total, embedded, skipped, dim, grid, took, .. } = summary;
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let tokens = grid.map(|grid| format!(" and {}×{} tokens of {}", grid.rows, grid.cols, grid.dim));
    writeln!(
        out,
        "{}: {embedded} of {total} frames, {dim} numbers each{}, {}",
        path.display(),
        tokens.unwrap_or_default(),
        ByteSize(size)
    )?;
    if summary.already_complete {
        writeln!(out, "it was complete already; nothing was done")?;
    } else {
        let now = total - summary.resumed;
        let seconds = took.as_secs_f64();
        writeln!(out, "{now} frames in {seconds:.1} s, {:.1} a second", now as f64 / seconds.max(1e-9))?;
        let sent = summary.bytes as f64 / 1e3 / now.max(1) as f64;
        writeln!(out, "{sent:.1} kB a frame on the wire, {:.1} % of the patches", 100.0 * summary.kept)?;
    }
    if !skipped.is_empty() {
        writeln!(out, "left out, {} of {total}:", skipped.len())?;
        for frame in skipped.iter().take(LISTED_SKIPPED) {
            writeln!(out, "  {}: {}", frame.file, frame.reason)?;
        }
        if skipped.len() > LISTED_SKIPPED {
            writeln!(
                out,
                "  and {} more, in the file's metadata under `skipped`",
                skipped.len() - LISTED_SKIPPED
            )?;
        }
    }
    Ok(())
}

/// A bar on a terminal, lines elsewhere; both on standard error.
enum Progress {
    Bar(ProgressBar),
    Lines(Lines),
}

struct Lines {
    /// When this run began, and how many frames were done then.
    began: Option<(Instant, usize)>,
    last: Instant,
}

impl Progress {
    fn new(terminal: bool) -> Self {
        if !terminal {
            return Self::Lines(Lines { began: None, last: Instant::now() });
        }
        let template = "{bar:32} {pos} of {len} frames, {per_sec}, {eta} left {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        Self::Bar(ProgressBar::new(0).with_style(style))
    }

    fn show(&mut self, event: Event) {
        match (event, self) {
            (Event::Continuing { path, done, total }, Self::Bar(bar)) => {
                bar.println(continuing(&path, done, total));
                bar.reset_eta();
            }
            (Event::Continuing { path, done, total }, Self::Lines(_)) => say(&continuing(&path, done, total)),
            (Event::Done { done, total, skipped }, Self::Bar(bar)) => {
                bar.set_length(total as u64);
                if bar.position() == 0 && done > 0 {
                    // The rate is this run's alone.
                    bar.set_position(done as u64);
                    bar.reset_eta();
                }
                bar.set_position(done as u64);
                if skipped > 0 {
                    bar.set_message(format!("({skipped} left out)"));
                }
            }
            (Event::Done { done, total, skipped }, Self::Lines(lines)) => {
                if let Some(line) = lines.done(Instant::now(), done, total, skipped) {
                    say(&line);
                }
            }
            (Event::Writing(path), Self::Bar(bar)) => bar.println(format!("writing {}", path.display())),
            (Event::Writing(path), Self::Lines(_)) => say(&format!("writing {}", path.display())),
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn continuing(path: &Path, done: usize, total: usize) -> String {
    format!("continuing {}: {done} of {total} frames are done", path.display())
}

/// A line on standard error; nobody listening is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Lines {
    /// The line that is due, if one is.
    fn done(&mut self, now: Instant, done: usize, total: usize, skipped: usize) -> Option<String> {
        let Some((began, before)) = self.began else {
            self.began = Some((now, done));
            self.last = now;
            return Some(format!("embedding {} frames", total - done));
        };
        if done < total && now.duration_since(self.last) < LINE_EVERY {
            return None;
        }
        self.last = now;
        let rate = (done - before) as f64 / now.duration_since(began).as_secs_f64().max(1e-9);
        let left = (total - done) as f64 / rate.max(1e-9);
        let skipped = if skipped > 0 { format!(", {skipped} left out") } else { String::new() };
        Some(format!("{done} of {total} frames{skipped}, {rate:.1} a second, {left:.0} s left"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_every_few_seconds_and_at_the_end() {
        let start = Instant::now();
        let mut lines = Lines { began: None, last: start };
        let mut at = |seconds, done| lines.done(start + Duration::from_secs(seconds), done, 100, done / 20);
        assert_eq!(at(0, 20).unwrap(), "embedding 80 frames");
        assert_eq!(at(1, 21), None);
        assert_eq!(at(5, 30).unwrap(), "30 of 100 frames, 1 left out, 2.0 a second, 35 s left");
        assert_eq!(at(9, 50), None);
        assert_eq!(at(10, 60).unwrap(), "60 of 100 frames, 3 left out, 4.0 a second, 10 s left");
        assert_eq!(at(11, 100).unwrap(), "100 of 100 frames, 5 left out, 7.3 a second, 0 s left");
    }
}
