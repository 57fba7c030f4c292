//! Where the time of a forward pass goes, stage by stage.

use std::time::{Duration, Instant};

/// A stage of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Pixels to the patch embedding's operand.
    Input,
    /// The patch embedding and positions.
    Patches,
    /// LayerNorm, into an operand.
    Norm,
    /// Queries, keys and values.
    Qkv,
    /// Keys and values into panels.
    Pack,
    /// Scores, softmax, weighted values.
    Attention,
    /// Rows rounded to bytes, and centres split.
    Round,
    /// The projection after attention, added to the residual stream.
    Out,
    /// The MLP's first layer and GELU.
    Expand,
    /// The MLP's second layer, added to the residual stream.
    Contract,
    /// The last norm, latent tokens and the embedding.
    Readout,
}

impl Stage {
    /// All of them, in the order of the pass.
    pub const ALL: [Self; 11] = [
        Self::Input,
        Self::Patches,
        Self::Norm,
        Self::Qkv,
        Self::Pack,
        Self::Attention,
        Self::Round,
        Self::Out,
        Self::Expand,
        Self::Contract,
        Self::Readout,
    ];
}

/// Time spent in each stage since it was last taken.
#[derive(Debug, Clone)]
pub struct Profile {
    spent: [Duration; Stage::ALL.len()],
    last: Instant,
}

impl Profile {
    pub(super) fn new() -> Self {
        Self { spent: [Duration::ZERO; Stage::ALL.len()], last: Instant::now() }
    }

    /// What follows is measured from here.
    pub(super) fn start(&mut self) {
        self.last = Instant::now();
    }

    /// The time since the last start or lap was spent in `stage`.
    pub(super) fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spent[stage as usize] += now - self.last;
        self.last = now;
    }

    /// Time spent in a stage.
    pub fn spent(&self, stage: Stage) -> Duration {
        self.spent[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_its_place_and_laps_add_up() {
        assert!(Stage::ALL.iter().enumerate().all(|(at, stage)| *stage as usize == at));
        let mut profile = Profile::new();
        profile.last -= Duration::from_secs(5);
        profile.lap(Stage::Norm);
        profile.last -= Duration::from_secs(7);
        profile.lap(Stage::Norm);
        assert!(profile.spent(Stage::Norm) >= Duration::from_secs(12));
        assert_eq!(profile.spent(Stage::Out), Duration::ZERO);
    }
}
