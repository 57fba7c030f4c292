//! What a run is: the facts that must not change between its beginning and its continuation.

use protocol::GridShape;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::frames::{FrameRef, ListError};

use super::{Config, EmbedError};
use crate::backend::BackendInfo;

/// Head of the part file, and most of the metadata of the finished one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Embedding space, 64 hexadecimal digits.
    pub(super) space: String,
    /// The encoder, for people.
    pub(super) model: String,
    /// What people should know of its weights.
    pub(super) note: String,
    /// Id of the uplink transformation.
    pub(super) uplink: String,
    /// Frames in the list.
    pub(super) frames: usize,
    /// SHA-256 over the list: ids, capture times, file lengths.
    pub(super) frames_digest: String,
    /// Numbers in an embedding.
    pub(super) dim: usize,
    /// Rows, columns and numbers of a latent token, if tokens are kept.
    pub(super) tokens: Option<(u32, u32, u32)>,
    /// Cells along one side of a latent token; 1 in files from before there were more.
    #[serde(default = "one")]
    pub(super) cells: u32,
    /// Frames in a batch. Part of the plan because a batch of another size rounds differently: a run that is
    /// continued keeps the size it began with.
    pub(super) batch: usize,
}

fn one() -> u32 {
    1
}

impl Plan {
    pub(super) fn new(config: &Config, frames: &[FrameRef], info: &BackendInfo) -> Result<Self, EmbedError> {
        let (rows, cols, dim) = info.grid;
        Ok(Self {
            space: info.space.to_string(),
            model: info.model.clone(),
            note: info.note.clone(),
            uplink: config.uplink.id(),
            frames: frames.len(),
            frames_digest: digest(frames)?,
            dim: info.embed_dim,
            tokens: config.tokens.then_some((rows as u32, cols as u32, dim as u32)),
            cells: info.cells as u32,
            batch: config.batch.unwrap_or(info.max_batch).max(1),
        })
    }

    pub(super) fn grid(&self) -> Option<GridShape> {
        self.tokens.map(|(rows, cols, dim)| GridShape { rows, cols, dim })
    }

    /// Numbers in one frame's latent tokens; 0 where none are kept.
    pub(super) fn token_values(&self) -> usize {
        self.tokens.map_or(0, |(rows, cols, dim)| rows as usize * cols as usize * dim as usize)
    }

    /// In what `now` differs, in words; `None` where `now` may continue what this plan began.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        let short = |space: &str| space.chars().take(12).collect::<String>();
        let tokens = |plan: &Self| if plan.tokens.is_some() { "with tokens" } else { "without tokens" };
        if self.space != now.space {
            let (then, now_space) = (short(&self.space), short(&now.space));
            return Some(format!(
                "its model is {} (embedding space {then}…), now it is {} ({now_space}…)",
                self.model, now.model
            ));
        }
        if self.uplink != now.uplink {
            return Some(format!("its uplink transformation is {}, now it is {}", self.uplink, now.uplink));
        }
        if self.frames != now.frames {
            return Some(format!("its list has {} frames, now it has {}", self.frames, now.frames));
        }
        if self.frames_digest != now.frames_digest {
            return Some("its list names other frames, or a frame's time or length has changed".into());
        }
        if self.tokens != now.tokens {
            return Some(format!("it is {}, now it would be {}", tokens(self), tokens(now)));
        }
        (self.dim != now.dim).then(|| format!("its embeddings have {} numbers, now {}", self.dim, now.dim))
    }
}

/// Changes when the list does, or a file's length.
fn digest(frames: &[FrameRef]) -> Result<String, EmbedError> {
    let mut hash = Sha256::new_with_prefix(b"fth frames 1\0");
    for frame in frames {
        let io = |source| ListError::Io { path: frame.path.clone(), source };
        let length = std::fs::metadata(&frame.path).map_err(io)?.len();
        let captured_us = frame.captured_at.map_or(i64::MIN, |time| time.as_microsecond());
        hash.update((frame.id.len() as u64).to_le_bytes());
        hash.update(frame.id.as_bytes());
        hash.update(captured_us.to_le_bytes());
        hash.update(length.to_le_bytes());
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
