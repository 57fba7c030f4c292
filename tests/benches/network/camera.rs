//! A camera that has a frame at fixed times, and the agent's uplink.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_agent::config::ServerAddr;
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::frame::{Outgoing, exchange};
use edge_agent::uplink::session::{Control, OnWire, Session};
use protocol::Encoding;
use shared::tls::{Congestion, Identity};
use tests::age::Answered;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::site::{CAMERA, frame};

/// Bytes of a frame.
pub(crate) const FRAME_BYTES: usize = 20_000;
/// Time between frames.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);
/// As the agent's, unless it is told otherwise.
const MAX_IN_FLIGHT: u16 = 4;
/// A live frame's answer is news for this long, as the agent says.
const LIVE: Duration = Duration::from_secs(2);
/// Where none is to be lost, each has this long.
const ANY: Duration = Duration::from_secs(60);

/// Frames that wait for their turn.
#[derive(Debug, Default)]
struct Waiting {
    frames: Mutex<VecDeque<(u64, Instant)>>,
    came: Notify,
}

impl Waiting {
    /// `newest_wins`: it takes the place of those before it.
    fn push(&self, frame: (u64, Instant), newest_wins: bool) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if newest_wins {
            frames.clear();
        }
        frames.push_back(frame);
        self.came.notify_one();
    }

    async fn next(&self) -> (u64, Instant) {
        loop {
            let came = self.came.notified();
            if let Some(frame) = self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return frame;
            }
            came.await;
        }
    }
}

/// Connects to the server.
pub(crate) async fn connect(
    identity: &Path,
    server: &ServerAddr,
    congestion: Congestion,
) -> anyhow::Result<(Session, Control)> {
    let greeting = Greeting { instance: 1, camera: CAMERA.into() };
    let dialer = Dialer::new(identity, Identity::load(identity)?, greeting)?;
    Ok(dialer
        .with_congestion(Some(congestion))
        .dial(server, Vec::new(), OnWire { in_flight: MAX_IN_FLIGHT, patches: false })
        .await?)
}

/// Sends frames until the time is over; those that were answered.
pub(crate) async fn film(session: Session, newest_wins: bool, time: Duration) -> Vec<Answered> {
    let (waiting, jpeg) = (Arc::new(Waiting::default()), Bytes::from(frame(FRAME_BYTES)));
    let (camera, until) = (Arc::clone(&waiting), tokio::time::Instant::now() + time);
    let mut ticks = tokio::time::interval(PERIOD);
    let filming = tokio::spawn(async move {
        for number in 0.. {
            // Due then, whenever this task comes to it.
            let due = ticks.tick().await.into_std();
            camera.push((number, due), newest_wins);
        }
    });
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut under_way = JoinSet::new();
    let sending = async {
        loop {
            let place = session.slot().await;
            let (number, captured) = waiting.next().await;
            let (session, jpeg, answers) = (session.clone(), jpeg.clone(), Arc::clone(&answers));
            under_way.spawn(async move {
                let frame = Outgoing {
                    seq: seq(number, newest_wins),
                    captured_at: jiff::Timestamp::UNIX_EPOCH,
                    jpeg,
                    pixels: 64 * 32,
                    patches: None,
                    deadline: captured + if newest_wins { LIVE } else { ANY },
                    embedding: Encoding::F16,
                    tokens: false,
                };
                if exchange(&session, &frame).await.is_ok() {
                    let answered = Answered { captured, at: Instant::now() };
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(answered);
                }
                drop(place);
            });
        }
    };
    // The time is over: what is under way is given up.
    let _ = tokio::time::timeout_at(until, sending).await;
    filming.abort();
    under_way.abort_all();
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.clone()
}

/// Greater numbers go first. Where the oldest is to go first, they count down.
fn seq(number: u64, newest_wins: bool) -> u64 {
    if newest_wins { number } else { u64::from(u32::MAX >> 2) - number }
}
