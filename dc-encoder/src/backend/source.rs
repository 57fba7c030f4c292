//! Weights in memory, by name.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::model::ModelError;

/// Where the weights of one model are taken from, tensor by tensor.
pub(super) struct Source<'a> {
    pub(super) weights: &'a HashMap<String, Tensor>,
}

impl Source<'_> {
    /// The numbers of a tensor that is known to be there.
    pub(super) fn get(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensor = self.weights.get(name).ok_or_else(|| ModelError::Missing {
            path: "the weights in memory".into(),
            tensor: name.to_owned(),
            want: Vec::new(),
            remedy: "this is a mistake in the program",
        })?;
        tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(ModelError::compute("packing the weights"))
    }

    /// The numbers of a tensor that a model may have.
    pub(super) fn some(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        if self.weights.contains_key(name) { self.get(name).map(Some) } else { Ok(None) }
    }
}
