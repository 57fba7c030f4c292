//! What a run is: everything its numbers follow from. Recorded in each checkpoint; a continued run must agree.

use serde::{Deserialize, Serialize};

use super::precision::Precision;
use super::schedule::Schedule;
use crate::model::Config;

/// The facts of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Where the weights begin: `preset demo, seed 1` or the space of a model folder.
    pub(super) start: String,
    /// The model, decoder and target included.
    pub(super) model: Config,
    /// Frames that can be used.
    pub(super) frames: usize,
    /// SHA-256 over their ids and sizes.
    pub(super) frames_digest: String,
    /// Of these, frames trained on.
    pub(super) training: usize,
    /// Id of the uplink transformation.
    pub(super) uplink: String,
    /// The length asked for: `1000 steps` or `30m`.
    pub(super) length: String,
    /// Learning rate by step; with a time asked for, its steps are what was calibrated.
    pub(super) schedule: Schedule,
    /// Frames in a batch.
    pub(super) batch: usize,
    /// Batches in a step.
    pub(super) accumulate: usize,
    /// AdamW's weight decay.
    pub(super) decay: f64,
    /// Longest gradient; a longer one is shortened to it.
    pub(super) clip: f64,
    /// Share of the patches that is hidden.
    pub(super) mask_ratio: f64,
    /// Weight of the readout's error.
    pub(super) latent_weight: f64,
    /// Whether frames are mildly changed.
    pub(super) augment: bool,
    /// Number format of products and activations; checkpoints from before it was a choice are of f32.
    #[serde(default)]
    pub(super) precision: Precision,
    /// Seed of everything random.
    pub(super) seed: u64,
    /// Steps between validations.
    pub(super) validate_every: u64,
    /// Validations without a better loss after which the run ends.
    pub(super) early_stop: Option<u64>,
}

impl Recipe {
    /// In what `now` differs, in words; `None` where `now` may continue what this recipe began.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        let map = |recipe: &Self| match serde_json::to_value(recipe) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        };
        let (then, now) = (map(self), map(now));
        then.iter().find(|(key, value)| now.get(*key) != Some(value)).map(|(key, value)| {
            let other = now.get(key).unwrap_or(&serde_json::Value::Null);
            match (value, other) {
                (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
                    let inner = a.iter().find(|(key, value)| b.get(*key) != Some(value));
                    let (name, was) = inner.map_or(("…", value), |(name, was)| (name.as_str(), was));
                    format!(
                        "its {key}.{name} is {was}, now {}",
                        b.get(name).unwrap_or(&serde_json::Value::Null)
                    )
                }
                _ => format!("its {key} is {value}, now {other}"),
            }
        })
    }

    /// A recipe of no importance.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        let preset = crate::model::preset::Preset::find("demo").expect("a preset");
        Self {
            start: "preset demo, seed 1".into(),
            model: preset.config(),
            frames: 10,
            frames_digest: "00".into(),
            training: 9,
            uplink: "v1".into(),
            length: "5 steps".into(),
            schedule: Schedule { peak: 1e-3, warmup: 1, steps: 5 },
            batch: 2,
            accumulate: 1,
            decay: 0.05,
            clip: 1.0,
            mask_ratio: 0.7,
            latent_weight: 1.0,
            augment: true,
            precision: Precision::F32,
            seed: 1,
            validate_every: 2,
            early_stop: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_then_and_now() {
        let recipe = Recipe::for_tests();
        assert_eq!(recipe.difference(&recipe), None);
        let other = Recipe { batch: 8, ..recipe.clone() };
        assert_eq!(recipe.difference(&other).unwrap(), "its batch is 2, now 8");
        let schedule = Schedule { peak: 2e-3, ..recipe.schedule };
        let other = Recipe { schedule, ..recipe.clone() };
        assert_eq!(recipe.difference(&other).unwrap(), "its schedule.peak is 0.001, now 0.002");
    }
}
