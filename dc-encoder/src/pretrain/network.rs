//! The masked autoencoder in training: its variables, and the loss of a batch.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;

use super::adamw::Slot;
use super::batch::Batch;
use crate::model::config::{Decoder, Pooling};
use crate::model::file::Weights;
use crate::model::mae::Mae;
use crate::model::tensors::{Role, specs};
use crate::model::{Config, cells, ops};

/// Encoder, decoder and everything AdamW keeps of them.
pub(super) struct Network {
    pub(super) mae: Mae,
    pub(super) slots: Vec<Slot>,
    config: Config,
    device: Device,
    /// Weight of the readout's error beside the reconstruction's.
    latent_weight: f64,
}

/// What a batch came to.
pub(super) struct Loss {
    /// The sum that is made smaller, a scalar.
    pub(super) total: Tensor,
    /// Share of the cells' variance that the latent tokens leave unexplained, where the pooling asks for them.
    pub(super) latent: Option<f64>,
}

impl Network {
    /// Variables from weights of `config`, which has a decoder.
    pub(super) fn new(
        config: &Config,
        decoder: &Decoder,
        weights: &Weights,
        device: &Device,
        latent_weight: f64,
    ) -> Result<Self> {
        let mut slots = Vec::new();
        let mut tensors = HashMap::new();
        for spec in specs(config) {
            let weight = weights
                .get(&spec.name)
                .ok_or_else(|| candle_core::Error::msg(format!("no weight {}", spec.name)))?;
            let var = Var::from_tensor(&weight.to_device(device)?.to_dtype(DType::F32)?)?;
            tensors.insert(spec.name.clone(), var.as_tensor().clone());
            let decays = matches!(spec.role, Role::Linear | Role::Conv);
            slots.push(Slot::new(spec.name, var, decays)?);
        }
        let mae = Mae::new(config, decoder, VarBuilder::from_tensors(tensors, DType::F32, device))?;
        Ok(Self { mae, slots, config: config.clone(), device: device.clone(), latent_weight })
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The loss of a batch, with its history.
    pub(super) fn loss(&self, batch: &Batch<'_>) -> Result<Loss> {
        let (patches, visible) = (batch.patches(&self.device)?, batch.visible(&self.device)?);
        let latent = self.mae.encode_visible(&patches, &visible)?;
        let tokens = self.mae.decode_hidden(&latent, &visible, &batch.hidden(&self.device)?)?;
        let loss = ops::prediction_loss(&tokens, self.mae.pred(), batch)?;
        let Some(targets) = self.latent_targets(&patches)? else {
            return Ok(Loss { total: loss, latent: None });
        };
        let first = usize::from(self.config.class_token);
        let seen = latent.narrow(1, first, latent.dim(1)? - first)?;
        let error = cells::unexplained(&self.mae.encoder().pool().tokens(&seen)?, &targets)?;
        let value = f64::from(error.to_scalar::<f32>()?);
        Ok(Loss { total: (loss + (error * self.latent_weight)?)?, latent: Some(value) })
    }

    /// The reconstruction's loss alone, without a history.
    pub(super) fn held_out_loss(&self, batch: &Batch<'_>) -> Result<f64> {
        let (patches, visible) = (batch.patches(&self.device)?, batch.visible(&self.device)?);
        let latent = self.mae.encode_visible(&patches, &visible)?.detach();
        let tokens = self.mae.decode_hidden(&latent, &visible, &batch.hidden(&self.device)?)?.detach();
        Ok(f64::from(ops::prediction_loss(&tokens, self.mae.pred(), batch)?.to_scalar::<f32>()?))
    }

    /// What the latent tokens of patches `[batch, n, 3 * patch * patch]` (channel, y, x) should say,
    /// `[batch, n, latent_dim]`, if the pooling gives them a meaning of their own.
    fn latent_targets(&self, patches: &Tensor) -> Result<Option<Tensor>> {
        let Pooling::Cells { cells, .. } = self.config.pooling else { return Ok(None) };
        cells::targets(patches, &self.config.preprocess, self.config.patch, cells).map(Some)
    }

    /// Gradients of a loss in the order of the variables.
    pub(super) fn gradients(&self, loss: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let gradients = loss.backward()?;
        Ok(self.slots.iter().map(|slot| gradients.get(&slot.var).cloned()).collect())
    }

    /// Copies of the weights, on the CPU.
    pub(super) fn weights(&self) -> Result<Weights> {
        let copy =
            |slot: &Slot| Ok((slot.name.clone(), slot.var.as_tensor().to_device(&Device::Cpu)?.copy()?));
        self.slots.iter().map(copy).collect()
    }

    /// Embeddings `[frames, embed_dim]` of whole images `[frames, 3, height, width]`.
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.mae.encoder().forward(&images.to_device(&self.device)?)?.embedding.detach())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::image::Rgb;

    use super::super::batch::{Change, Item};
    use super::super::draw::{Purpose, generator, mask};
    use super::*;
    use crate::model::config::TargetKind;
    use crate::model::{init, mae, patches};

    fn config() -> Config {
        let mut config = crate::model::preset::Preset::find("demo").unwrap().config();
        (config.height, config.width, config.patch) = (24, 32, 8);
        (config.preprocess.height, config.preprocess.width) = (24, 32);
        (config.dim, config.depth, config.heads, config.dim_head, config.mlp) = (12, 2, 2, 6, 24);
        config.pooling = crate::model::config::Pooling::Mean { version: 1 };
        config.decoder = Some(Decoder {
            dim: 10,
            depth: 1,
            heads: 2,
            dim_head: 5,
            mlp: 20,
            target: TargetKind::Normalised,
        });
        config
    }

    fn items(config: &Config) -> Vec<Item> {
        let picture = |seed: usize| {
            let data = (0..24 * 32 * 3).map(|at| ((at * (seed + 7)) ^ (at >> 2)) as u8).collect();
            Arc::new(Rgb { width: 32, height: 24, data })
        };
        let mask = |seed| mask(12, 4, &mut generator(seed, Purpose::Mask, 0));
        (0..3)
            .map(|i| Item { image: picture(i), change: Change::none(config), mask: mask(i as u64) })
            .collect()
    }

    /// The short way of training (visible patches in, hidden ones out, targets on the spot) is the long way of
    /// `Mae::forward`, value and gradients.
    #[test]
    fn the_loss_is_that_of_the_whole_forward_pass() {
        let config = config();
        let decoder = config.decoder.clone().unwrap();
        let network =
            Network::new(&config, &decoder, &init::random(&config, 3).unwrap(), &Device::Cpu, 1.0).unwrap();
        let items = items(&config);
        let images: Vec<f32> =
            items.iter().flat_map(|item| config.preprocess.normalise(&item.image)).collect();
        let images = Tensor::from_vec(images, (3, 3, 24, 32), &Device::Cpu).unwrap();
        for kind in [TargetKind::Normalised, TargetKind::Raw] {
            let batch = Batch::new(&config, kind, items.clone());
            let visible = batch.visible(&Device::Cpu).unwrap();
            let patches = patches::for_embedding(&images, 8).unwrap();
            let first = patches.get(0).unwrap().get(items[0].mask.visible[0] as usize).unwrap();
            let ours = batch.patches(&Device::Cpu).unwrap().get(0).unwrap().get(0).unwrap();
            assert_eq!(ours.to_vec1::<f32>().unwrap(), first.to_vec1::<f32>().unwrap());

            let masked = network.mae.forward(&images, &visible).unwrap();
            let target = mae::target(&images, 8, kind == TargetKind::Normalised).unwrap();
            let want = mae::loss(&masked, &target).unwrap();
            let got = network.loss(&batch).unwrap();
            let value = |t: &Tensor| t.to_scalar::<f32>().unwrap();
            assert!(
                (value(&got.total) / value(&want) - 1.0).abs() < 1e-5,
                "{} {}",
                value(&got.total),
                value(&want)
            );
            assert!((network.held_out_loss(&batch).unwrap() / f64::from(value(&want)) - 1.0).abs() < 1e-5);
            let (got, want) = (network.gradients(&got.total).unwrap(), network.gradients(&want).unwrap());
            for ((slot, got), want) in network.slots.iter().zip(got).zip(want) {
                assert_eq!(got.is_some(), want.is_some(), "{}", slot.name);
                let (Some(got), Some(want)) = (got, want) else { continue };
                let most = |t: &Tensor| {
                    t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
                };
                let off = most(&(&got - &want).unwrap()) / most(&want).max(1e-20);
                assert!(off < 1e-4, "{}: off by {off:e}", slot.name);
            }
        }
    }

    #[test]
    fn predicting_means_costs_what_the_targets_vary() {
        let config = config();
        let of = |kind| Batch::new(&config, kind, items(&config)).loss_of_means();
        // Normalised by the unbiased deviation: (n - 1) / n.
        assert!((of(TargetKind::Normalised) - 191.0 / 192.0).abs() < 1e-4);
        assert!(of(TargetKind::Raw) > 0.1 && of(TargetKind::Mixed) > 0.1);
    }
}
