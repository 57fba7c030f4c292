//! A broker that is told the answers, too: beside the lines, and never in their way.
//!
//! ```text
//! frame path ─► Board (newest answer of each release) ─┐
//! Heads (which answer now) ────────────────────────────┴─► Book (what is due) ─► Teller ═ MQTT 3.1.1 ═► broker
//! ```
//! The teller has a thread and a runtime of its own: looking up a name, a handshake and a broker that stalls cost the frame
//! path nothing.

mod access;
mod board;
mod book;
mod client;
mod names;
mod payload;
#[cfg(test)]
mod samples;
mod sensor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use shared::tls::Floor;
use tokio::sync::oneshot;

pub use access::Trouble;
pub use board::Board;

use crate::config::{Mqtt, Settings};
use crate::heads::Heads;
use book::Book;
use client::Teller;
use names::Names;

/// A value that is older counts as none: an encoder may be started again meanwhile without a sensor blinking.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// Frames of a slow camera that may come to nothing, and values of a slow schedule, before its sensors do.
const FRESH_FRAMES: f64 = 5.0;
/// At the end of a run: the last messages, and a name look-up that does not end.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What a person asks of it.
#[derive(Debug, Default)]
pub struct Counts {
    /// The broker takes answers now.
    pub connected: AtomicBool,
    /// How often it welcomed this box.
    pub connections: AtomicU64,
    /// Values that it acknowledged.
    pub published: AtomicU64,
    /// Values that were due and could not be told.
    pub dropped: AtomicU64,
}

/// The teller's thread.
#[derive(Debug)]
pub struct Telling {
    board: Arc<Board>,
    counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Telling {
    /// Starts the thread, if the configuration names a broker.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: &Settings, camera: &str, heads: &Arc<Heads>) -> std::io::Result<Option<Self>> {
        let Some(mqtt) = settings.mqtt.clone() else { return Ok(None) };
        let Mqtt { topic, discovery, every, .. } = &mqtt;
        let names = Names { topic: topic.clone(), discovery: discovery.clone(), camera: camera.to_owned() };
        let (board, counts) = (Arc::<Board>::default(), Arc::<Counts>::default());
        let teller = Teller {
            book: Book::new(names, *every, fresh_for(*every, settings.fps)),
            mqtt,
            board: Arc::clone(&board),
            heads: Arc::clone(heads),
            counts: Arc::clone(&counts),
            floor: Floor::beside(&settings.identity),
            followed: None,
            said: None,
        };
        let ((stop, stopped), (report, done)) = (oneshot::channel(), oneshot::channel());
        // One thread beside it, for looking up names.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        std::thread::Builder::new().name("mqtt".into()).spawn(move || {
            runtime.block_on(teller.run(stopped));
            runtime.shutdown_background();
            // Nobody waits when the run was cut short.
            let _ = report.send(());
        })?;
        Ok(Some(Self { board, counts, stop, done }))
    }

    /// Where the frame path posts answers.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Tells the newest values and that this box goes offline; waits for it, but not for long.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(STOP_WITHIN, self.done).await.is_err() {
            tracing::warn!("mqtt: the broker was not told that this box goes offline: it does not answer");
        }
    }
}

/// Whether the broker takes this box now.
///
/// # Errors
/// What is wrong, and what to do.
pub async fn probe(mqtt: &Mqtt, floor: &Floor) -> Result<(), Trouble> {
    client::probe(mqtt, floor).await
}

/// How long a value counts.
fn fresh_for(every: Duration, fps: Option<f64>) -> Duration {
    let frames = fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(FRESH_FRAMES / fps));
    FRESH_FOR.max(every.mul_f64(FRESH_FRAMES)).max(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_camera_is_not_taken_for_a_dead_one() {
        let s = Duration::from_secs;
        assert_eq!(fresh_for(s(1), None), s(30));
        assert_eq!(fresh_for(s(1), Some(0.05)), s(100));
        assert_eq!(fresh_for(s(60), Some(2.0)), s(300));
    }
}
