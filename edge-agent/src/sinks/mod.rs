//! Where answers go. Formatting and writing happen on a thread of their own, off the frame path.
//!
//! ```text
//! frame path ─► bounded channel ─► writer thread ─► JSON lines or text ─► standard output or a file
//! ```
//! When the channel is full (a reader that stopped reading), [`Overflow`] says what gives way. A broker is told beside
//! that (`mqtt`).

mod event;
pub mod json;
pub mod mqtt;
mod rotate;
pub mod text;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::config::{Format, Output};
use rotate::Rotating;

pub use event::{Answer, Event, FrameInfo, HeadInfo, Stages};
pub use rotate::Rotation;

/// Lines waiting for the writer: a minute of one camera at 15 frames a second, under 1 MB.
const CAPACITY: usize = 1024;
/// How long the end of a frame or a run waits for a reader that does not read.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// What gives way when lines come faster than they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The frame path waits: nothing is lost, frames slow down. For finite sources.
    Wait,
    /// The new line is discarded and counted: answers stay fresh. For live sources.
    Discard,
}

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output file cannot be opened.
    #[error(
        "output = {path:?}: cannot open it for appending: {source}; name a file in a folder this user may write to"
    )]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed; a closed pipe is not an error.
    #[error("cannot write answers to {target}: {source}; free space there, or name another output")]
    Write {
        /// Where to.
        target: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The frame path's end of the channel. Clones feed the same writer.
#[derive(Debug, Clone)]
pub struct Sink {
    items: mpsc::Sender<Item>,
    overflow: Overflow,
    discarded: Arc<AtomicU64>,
}

/// What travels to the writer.
#[derive(Debug)]
// Nearly all are lines: boxing them would cost an allocation each.
#[allow(clippy::large_enum_variant)]
enum Item {
    Line(Event),
    /// Wants to know when all lines before it were written.
    Mark(oneshot::Sender<Instant>),
}

/// The writer thread.
#[derive(Debug)]
pub struct Writer {
    done: oneshot::Receiver<Result<(), SinkError>>,
    discarded: Arc<AtomicU64>,
}

/// Opens the output and starts its writer.
///
/// # Errors
/// [`SinkError::Open`].
pub fn start(output: &Output, format: Format, overflow: Overflow) -> Result<(Sink, Writer), SinkError> {
    match output {
        Output::Stdout => {
            let text = matches!(format, Format::Text) || format == Format::Auto && io::stdout().is_terminal();
            Ok(start_with(io::stdout(), "standard output".into(), text, overflow))
        }
        Output::File(path, rotation) => {
            let file = Rotating::open(path, *rotation)
                .map_err(|source| SinkError::Open { path: path.clone(), source })?;
            Ok(start_with(file, path.display().to_string(), format == Format::Text, overflow))
        }
        Output::Nowhere => Ok(start_with(io::sink(), "nowhere".into(), format == Format::Text, overflow)),
    }
}

fn start_with(
    target: impl Write + Send + 'static,
    name: String,
    text: bool,
    overflow: Overflow,
) -> (Sink, Writer) {
    let (items, waiting) = mpsc::channel(CAPACITY);
    let (report, done) = oneshot::channel();
    let discarded = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        let format = if text { text::line } else { json::line };
        let written = match write_all(waiting, BufWriter::new(target), format) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|source| SinkError::Write { target: name, source }),
        };
        // Nobody waits for the report when the run was cut short.
        let _ = report.send(written);
    });
    (Sink { items, overflow, discarded: Arc::clone(&discarded) }, Writer { done, discarded })
}

/// Writes events until all senders are gone; flushes whenever none waits, so a reader sees each line at once.
fn write_all(
    mut waiting: mpsc::Receiver<Item>,
    mut target: BufWriter<impl Write>,
    format: fn(&Event) -> String,
) -> io::Result<()> {
    while let Some(item) = waiting.blocking_recv() {
        match item {
            Item::Line(event) => {
                let mut line = format(&event);
                line.push('\n');
                target.write_all(line.as_bytes())?;
                if waiting.is_empty() {
                    target.flush()?;
                }
            }
            Item::Mark(asked) => {
                target.flush()?;
                // Who asked may have been cut short.
                let _ = asked.send(Instant::now());
            }
        }
    }
    target.flush()
}

impl Sink {
    /// Hands an event to the writer, by the sink's [`Overflow`] policy.
    pub async fn send(&self, event: Event) {
        match self.overflow {
            // An error means that the writer is gone, which `closed` reports.
            Overflow::Wait => drop(self.items.send(Item::Line(event)).await),
            Overflow::Discard => {
                if let Err(mpsc::error::TrySendError::Full(_)) = self.items.try_send(Item::Line(event)) {
                    self.discarded.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// When all that was sent before is written. `None`: the writer is gone, or its reader does not read.
    pub async fn written(&self) -> Option<Instant> {
        let (asked, written) = oneshot::channel();
        let mark = Item::Mark(asked);
        let sent = match self.overflow {
            Overflow::Wait => self.items.send(mark).await.is_ok(),
            Overflow::Discard => self.items.try_send(mark).is_ok(),
        };
        if !sent {
            return None;
        }
        tokio::time::timeout(FINISH_WITHIN, written).await.ok()?.ok()
    }

    /// Hands over an event that is worth nothing if it has to wait (a stale answer).
    pub fn offer(&self, event: Event) {
        drop(self.items.try_send(Item::Line(event)));
    }

    /// Returns when the writer is gone: the reader closed the pipe, or writing failed.
    pub async fn closed(&self) {
        self.items.closed().await;
    }
}

impl Writer {
    /// Waits until all lines are written; every [`Sink`] must be dropped before. Gives up on a reader that
    /// does not read.
    ///
    /// # Errors
    /// [`SinkError::Write`].
    pub async fn finish(self) -> Result<(), SinkError> {
        match tokio::time::timeout(FINISH_WITHIN, self.done).await {
            Ok(Ok(written)) => written?,
            Ok(Err(_)) => tracing::error!("the thread that writes answers died: please report this"),
            Err(_) => {
                tracing::warn!("the reader of the answers does not read: the last lines were not written");
            }
        }
        match self.discarded.load(Ordering::Relaxed) {
            0 => {}
            lines => {
                tracing::warn!(lines, "lines were discarded, because their reader is slower than the camera");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
