//! Variables as a pass in bf16 reads them.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::model::tensors::{Role, Spec};

/// The readout, whose numbers heads read.
const READOUT: &str = "embed.";

/// Whether a tensor takes part in bf16 products: matrices do. What is added or scales stays f32, and so does the readout.
pub(super) fn rounds(spec: &Spec) -> bool {
    spec.role == Role::Linear && !spec.name.starts_with(READOUT)
}

/// The variables with the matrices among them in bf16. Rounding is part of the history: gradients arrive in f32.
pub(super) fn rounded<'a>(
    vars: impl Iterator<Item = (&'a Spec, &'a Tensor)>,
    device: &Device,
) -> Result<VarBuilder<'static>> {
    let tensors = vars.map(|(spec, var)| {
        let tensor = if rounds(spec) { var.to_dtype(DType::BF16)? } else { var.clone() };
        Ok((spec.name.clone(), tensor))
    });
    let tensors = AsTheyAre(tensors.collect::<Result<_>>()?);
    Ok(VarBuilder::from_backend(Box::new(tensors), DType::F32, device.clone()))
}

/// Tensors of several formats; a map of candle's would make them one.
struct AsTheyAre(HashMap<String, Tensor>);

impl SimpleBackend for AsTheyAre {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("{name} is {:?}, not {shape:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| candle_core::Error::CannotFindTensor { path: name.to_owned() }.bt())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
