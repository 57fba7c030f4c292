//! What a session knows of its camera's picture, where frames come as patches.
//!
//! ```text
//! header ─► which patches? ─► (decode, batch, backend) ─► their tokens ─► memory of all places ─► embedding
//!              └─ no patches taken here, another grid, places never sent: rejected
//! ```
//! The memory is as large as one frame's latent tokens, from the first such frame on.

use std::sync::{Mutex, PoisonError};

use protocol::{FrameHeader, RejectCode};
use shared::patches::Choice;

use crate::backend::{BackendInfo, Encoded, Memory};
use crate::batch::Rejection;

/// A camera's memory; none where the backend takes whole frames only.
#[derive(Debug)]
pub(super) struct Picture {
    places: usize,
    memory: Option<Mutex<Memory>>,
}

impl Picture {
    pub(super) fn new(info: &BackendInfo) -> Self {
        Self { places: info.grid.0 * info.grid.1, memory: Memory::new(info).map(Mutex::new) }
    }

    /// The patches that a frame holds, or why it cannot be taken.
    pub(super) fn chosen(&self, header: &FrameHeader) -> Result<Option<Choice>, Rejection> {
        let Some(kept) = &header.patches else { return Ok(None) };
        let rejected = |code, why: &str| Rejection { code, message: why.to_owned() };
        let Some(memory) = &self.memory else {
            let why = "send whole frames: `uplink.patches = \"all\"`";
            return Err(rejected(RejectCode::PatchesUnavailable, why));
        };
        let choice = Choice::from_wire(kept, self.places)
            .map_err(|error| rejected(RejectCode::Malformed, &error.to_string()))?;
        let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.completes(&choice) {
            return Ok(Some(choice));
        }
        let (missing, all) = (memory.missing(), self.places);
        let why =
            format!("of {missing} of {all} patches nothing was sent in this session; send all of them first");
        Err(rejected(RejectCode::PatchesMissing, &why))
    }

    /// Remembers the latent tokens of these patches of frame `seq`; the whole picture as it is known now.
    pub(super) fn embedded(&self, seq: u64, choice: &Choice, tokens: &[f32]) -> Option<Encoded> {
        let mut memory = self.memory.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        memory.remember(seq, choice, tokens);
        Some(Encoded { embedding: memory.embedding(), tokens: Some(memory.tokens().to_vec()) })
    }
}
