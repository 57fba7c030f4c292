//! One case: its tensors, its configuration, and what was checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// Largest allowed error as a share of the largest wanted number.
pub(crate) const PLAIN: f64 = 2e-5;
/// The same where the pseudo-inverse amplifies rounding, and for gradients.
pub(crate) const LOOSE: f64 = 1e-4;

pub(crate) struct Case {
    pub(crate) config: Value,
    tensors: BTreeMap<String, Tensor>,
    used: BTreeSet<String>,
    /// Error over tolerance of the worst output so far, and its name.
    worst: (f64, String),
    failures: Vec<String>,
}

/// What a case came to.
pub(crate) struct Outcome {
    pub(crate) checked: usize,
    pub(crate) worst: (f64, String),
    pub(crate) failures: Vec<String>,
}

impl Case {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let (_, metadata) =
            safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let config = match metadata.metadata().as_ref().and_then(|map| map.get("config")) {
            Some(text) => serde_json::from_str(text).map_err(|error| format!("config: {error}"))?,
            None => Value::Null,
        };
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| e.to_string())?;
        Ok(Self {
            config,
            tensors: tensors.into_iter().collect(),
            used: BTreeSet::new(),
            worst: (0.0, String::new()),
            failures: Vec::new(),
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Takes an input.
    pub(crate) fn input(&mut self, name: &str) -> Tensor {
        self.used.insert(name.to_owned());
        self.tensors.get(name).unwrap_or_else(|| panic!("the case has no tensor {name}")).clone()
    }

    /// Takes every tensor that is neither an output nor one of `inputs`: the weights.
    pub(crate) fn weights(&mut self, inputs: &[&str]) -> HashMap<String, Tensor> {
        const OUTPUTS: [&str; 5] = ["out.", "mid.", "grad.", "adamw.", "y."];
        // `out.weight` and `out.bias` of an attention case are weights under an output's prefix.
        let is_weight = |name: &str| name.ends_with(".weight") || name.ends_with(".bias");
        let is_output = |name: &str| {
            OUTPUTS.iter().any(|prefix| name.starts_with(prefix))
                && !(name.starts_with("out.") && is_weight(name))
        };
        let names: Vec<String> = self
            .tensors
            .keys()
            .filter(|name| !is_output(name) && !inputs.contains(&name.as_str()))
            .cloned()
            .collect();
        names.into_iter().map(|name| (name.clone(), self.input(&name))).collect()
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap_or_else(|| panic!("config has no number {key}: {}", self.config))
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.config[key].as_bool().unwrap_or(false)
    }

    /// Compares an output, if the case has it, with what was computed.
    pub(crate) fn check(&mut self, name: &str, got: &Tensor, tolerance: f64) {
        if self.has(name) {
            let want = self.input(name);
            self.compare(name, got, &want, tolerance);
        }
    }

    /// Compares two tensors under a name.
    pub(crate) fn compare(&mut self, name: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
        if got.dims() != want.dims() {
            self.failures.push(format!("{name}: shape {:?}, want {:?}", got.dims(), want.dims()));
            return;
        }
        let numbers =
            |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (got, want) = (numbers(got), numbers(want));
        let largest = want.iter().fold(0f64, |most, v| most.max(v.abs()));
        let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0f64, |most, error| {
            if error.is_nan() || most.is_nan() { f64::NAN } else { most.max(error) }
        });
        let ratio = if error == 0.0 { 0.0 } else { error / (tolerance * largest) };
        if ratio.is_nan() || ratio > 1.0 {
            self.failures
                .push(format!("{name}: off by {error:.2e} of {largest:.2e}, {ratio:.2} times the tolerance"));
        }
        if ratio.is_nan() || ratio >= self.worst.0 {
            self.worst = (ratio, name.to_owned());
        }
    }

    pub(crate) fn finish(mut self) -> Outcome {
        let unused: Vec<&String> = self.tensors.keys().filter(|name| !self.used.contains(*name)).collect();
        if !unused.is_empty() {
            self.failures.push(format!("neither used nor checked: {unused:?}"));
        }
        Outcome { checked: self.used.len(), worst: self.worst, failures: self.failures }
    }
}
