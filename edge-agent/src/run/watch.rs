//! Who watches a run, and what they are told at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Counts;
use crate::meter::Meter;
use crate::uplink::link::State;

/// Who watches a run, and until when.
pub struct Watch {
    /// Are told where each answered frame's time went.
    pub meters: Vec<Arc<dyn Meter>>,
    /// When it returns, the run ends and frames in flight are dropped.
    pub enough: Pin<Box<dyn Future<Output = ()>>>,
    /// Pictures and videos start again at their end, and those with a frame rate are due at fixed times.
    pub endless: bool,
}

/// Nobody watches.
impl Default for Watch {
    fn default() -> Self {
        Self { meters: Vec::new(), enough: Box::pin(std::future::pending()), endless: false }
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What became of its frames.
    pub counts: Counts,
    /// The encoder at the end, or why there was none.
    pub encoder: Result<Asked, Arc<str>>,
}

/// An encoder that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its address as configured.
    pub address: String,
    /// Its version and model.
    pub model: String,
    /// The connection's round trip.
    pub round_trip: Duration,
}

/// The encoder of a link, as it is now.
pub(super) fn asked(link: &State) -> Result<Asked, Arc<str>> {
    match link {
        State::Up(session) => Ok(Asked {
            address: session.server().to_owned(),
            model: format!("{}, {}", session.welcome().server, session.welcome().model),
            round_trip: session.round_trip(),
        }),
        State::Down(words) | State::Hopeless(words) => Err(Arc::clone(words)),
    }
}
