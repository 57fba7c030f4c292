//! What a head file says about itself: JSON in the safetensors metadata key `manifest`.
//!
//! ```text
//! input ─► kind (network and its tensors) ─► output ─► interval; validate checks all but the tensors
//! ```

mod input;
mod kind;
mod output;
mod validate;

use serde::{Deserialize, Serialize};

use super::error::LoadError;

pub use input::{Grid, Input};
pub use kind::{Combine, Kind, Likeness, Response, Tokens, Trees};
pub use output::{IntervalOffsets, Output, OutputKind};
pub use validate::is_class_name;

/// The one manifest format this build reads and writes.
pub const FORMAT: u32 = 1;

/// What a head is, what it reads, what it answers and how well it did on frames it had not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this manifest, [`FORMAT`].
    pub format: u32,
    /// Name of the head, such as `people-count`; 1 to 64 characters.
    pub name: String,
    /// What the answer means.
    pub task: Task,
    /// Which network the tensors are.
    pub kind: Kind,
    /// What the head reads.
    pub input: Input,
    /// How the network's numbers become a value.
    pub output: Output,
    /// Range of the true value around an answer, from held-out residuals; none when there were too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalOffsets>,
    /// Identity of the uplink transformation the training frames went through, as `shared::uplink` writes it.
    pub uplink: String,
    /// What the head was trained on.
    pub trained: Trained,
    /// Score on frames the head had not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// How closely a machine must reproduce the tensors `self_test.input` → `self_test.output`.
    pub self_test: SelfTestTolerance,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// How many of something are in the picture.
    Count,
    /// Local time of day, in minutes since midnight.
    TimeOfDay,
    /// Any one number.
    Scalar,
    /// Which of a few named classes the picture is.
    Class,
}

/// What a head was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Labelled frames.
    pub frames: u64,
    /// SHA-256 of the labels file, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Seed of everything random in the training.
    pub seed: u64,
}

/// Score on frames the head had not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Name of the score: `mae` (circular for circular outputs), or `accuracy`, the share of right classes.
    pub metric: String,
    /// The score; `mae` is in the output's unit.
    pub value: f64,
    /// 95 % moving-block bootstrap interval of the score.
    pub ci95: [f64; 2],
    /// Frames scored.
    pub n: u64,
    /// How the frames were held out, in words.
    pub method: String,
    /// The same score of the constant answer (the training labels' mean or most frequent class) on the same frames.
    pub baseline: f64,
}

/// How closely a machine must reproduce the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTestTolerance {
    /// Largest allowed `|got − want| / max(1, |want|)` over the network's numbers.
    pub tolerance: f64,
}

impl Manifest {
    /// Reads a manifest from JSON; a later format is refused by name before its fields are looked at.
    ///
    /// # Errors
    /// [`LoadError`] naming the field that is wrong.
    pub fn from_json(json: &str) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let bad = |error: serde_json::Error| LoadError::Manifest { reason: error.to_string() };
        let probe: Probe = serde_json::from_str(json).map_err(bad)?;
        if probe.format != FORMAT {
            return Err(LoadError::Format { got: probe.format, want: FORMAT });
        }
        let manifest: Self = serde_json::from_str(json).map_err(bad)?;
        manifest.validate()?;
        Ok(manifest)
    }
}
