//! Frames that travel as some of their patches, and those that need not travel at all.
//!
//! ```text
//! pixels ─► the encoder's input size ─► Chooser ─┬─ news ─► mosaic JPEG ══► (encoder) ─► answered: it remembers them
//!                                                └─ none, and the last embedding is fresh ─► that one again
//! ```
//! What the encoder remembers is its session's, so a new session begins with a whole frame. One frame is on the wire at a
//! time: which patches the next one needs depends on whether this one is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::Kept;
use shared::image::{Rgb, resize};
use shared::patches::{self, Chooser, Mosaic, Policy, Selection};
use shared::preprocess::PatchGeometry;
use shared::uplink::Uplink;

use super::session::{Mark, Session};
use crate::heads::Embedding;

/// How a run's frames travel as patches.
#[derive(Debug)]
pub struct Patches {
    policy: Policy,
    quality: u8,
    reuse_for: Duration,
    state: Mutex<Option<State>>,
    said: AtomicBool,
}

/// What is known of one session's memory.
#[derive(Debug)]
struct State {
    session: Mark,
    chooser: Chooser,
    /// The newest embedding, and when it came.
    last: Option<(Instant, Embedding)>,
}

/// What becomes of a frame.
#[derive(Debug)]
pub enum Step {
    /// These patches are to be sent.
    Send(Packed),
    /// It shows nothing new: this embedding is as good as its own.
    Reuse(Embedding),
}

/// Patches ready to send.
#[derive(Debug)]
pub struct Packed {
    /// The mosaic.
    pub jpeg: Bytes,
    /// Columns × rows of it.
    pub pixels: u64,
    /// Which patches they are.
    pub kept: Kept,
    /// To be given back when the frame is answered.
    pub selection: Selection,
}

impl Patches {
    /// `None` for an uplink that sends whole frames. An embedding is used again for `reuse_for` at most.
    #[must_use]
    pub fn new(uplink: &Uplink, reuse_for: Duration) -> Option<Self> {
        let Uplink { patches: policy, quality, .. } = *uplink;
        let state = Mutex::new(None);
        (policy != Policy::All).then(|| Self {
            policy,
            quality,
            reuse_for,
            state,
            said: AtomicBool::new(false),
        })
    }

    /// The grid of patches that the session's encoder takes; `None`, said once, if it takes whole frames only.
    pub fn geometry(&self, session: &Session) -> Option<PatchGeometry> {
        let welcome = session.welcome();
        let geometry = welcome.patch.and_then(|side| patches::geometry(welcome.input, side).ok());
        if geometry.is_none() && !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{} takes whole frames only: sending those, though uplink.patches = \"{}\"",
                session.server(),
                self.policy
            );
        }
        geometry
    }

    /// Chooses and packs the patches of the session's next frame. Takes milliseconds: not for the thread that drives the
    /// connection. `tokens`: whether a head reads the latent tokens.
    pub fn step(&self, session: &Session, geometry: PatchGeometry, image: &Rgb, tokens: bool) -> Step {
        let frame = resize(image, geometry.width, geometry.height);
        let selection = {
            let mut state = self.lock();
            let state = known(&mut state, session.mark(), || Chooser::new(self.policy, geometry));
            let selection = state.chooser.choose(&frame);
            if let Some(embedding) = state.fresh(&selection, self.reuse_for, Instant::now(), tokens) {
                return Step::Reuse(embedding);
            }
            selection
        };
        let Mosaic { jpeg, pixels } = patches::to_jpeg(&frame, geometry, &selection.choice, self.quality);
        Step::Send(Packed { jpeg: jpeg.into(), pixels, kept: selection.choice.to_wire(), selection })
    }

    /// The session's encoder has these patches.
    pub fn answered(&self, session: &Session, selection: Selection, embedding: &Embedding) {
        if let Some(state) = self.lock().as_mut().filter(|state| state.session == session.mark()) {
            state.chooser.answered(selection);
            state.last = Some((Instant::now(), embedding.clone()));
        }
    }

    /// The encoder does not have what it should: the next frame is a whole one.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of `session`; of another one nothing is.
fn known(state: &mut Option<State>, session: Mark, chooser: impl FnOnce() -> Chooser) -> &mut State {
    if state.as_ref().is_some_and(|known| known.session != session) {
        *state = None;
    }
    state.get_or_insert_with(|| State { session, chooser: chooser(), last: None })
}

impl State {
    /// The last embedding, if the frame shows nothing that it does not say.
    fn fresh(
        &self,
        selection: &Selection,
        within: Duration,
        now: Instant,
        tokens: bool,
    ) -> Option<Embedding> {
        let (at, embedding) = self.last.as_ref()?;
        let young = now.saturating_duration_since(*at) < within;
        let enough = embedding.tokens.is_some() || !tokens;
        (selection.news == 0 && young && enough).then(|| embedding.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: PatchGeometry = PatchGeometry { height: 32, width: 64, patch: 16 };

    fn state(mark: &Mark) -> Option<State> {
        let chooser = Chooser::new(Policy::Changed(Default::default()), GEOMETRY);
        Some(State { session: mark.clone(), chooser, last: None })
    }

    #[test]
    fn a_still_scene_is_answered_by_the_last_embedding_for_a_while() {
        let frame = Rgb::filled(64, 32, [90; 3]);
        let mut state = state(&Mark::of(&std::sync::Arc::new(()))).unwrap();
        let whole = state.chooser.choose(&frame);
        state.chooser.answered(whole.clone());
        let still = state.chooser.choose(&frame);
        let (now, within) = (Instant::now(), Duration::from_secs(2));
        assert!(state.fresh(&still, within, now, false).is_none(), "there is none yet");
        let embedding = Embedding { space: protocol::SpaceId([1; 32]), embedding: vec![1.0], tokens: None };
        state.last = Some((now, embedding));
        let fresh = |selection, after, tokens| {
            state.fresh(selection, within, now + Duration::from_millis(after), tokens).is_some()
        };
        assert!(fresh(&still, 1999, false) && !fresh(&still, 2000, false));
        assert!(!fresh(&still, 0, true), "a head wants tokens, and there are none");
        assert!(!fresh(&whole, 0, false), "that one had news");
    }

    #[test]
    fn of_another_session_nothing_is_known() {
        let (one, other) = (Mark::of(&std::sync::Arc::new(())), Mark::of(&std::sync::Arc::new(())));
        let frame = Rgb::filled(64, 32, [90; 3]);
        let mut slot = state(&one);
        let chooser = || Chooser::new(Policy::Changed(Default::default()), GEOMETRY);
        let state = known(&mut slot, one.clone(), chooser);
        state.chooser.answered(state.chooser.choose(&frame));
        assert!(!known(&mut slot, one, chooser).chooser.choose(&frame).choice.is_whole());
        assert!(known(&mut slot, other, chooser).chooser.choose(&frame).choice.is_whole());
    }
}
