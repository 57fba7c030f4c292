//! The masked autoencoder in training: its variables, and the loss of a batch.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;

use super::adamw::Slot;
use super::batch::Batch;
use super::precision::Precision;
use super::rounded::rounded;
use crate::model::config::{Decoder, Pooling};
use crate::model::file::Weights;
use crate::model::mae::Mae;
use crate::model::tensors::{Role, specs};
use crate::model::{Config, cells, ops};

/// Encoder, decoder and everything AdamW keeps of them.
pub(super) struct Network {
    /// The model on the variables themselves, in f32: what is validated, drawn and saved.
    pub(super) mae: Mae,
    pub(super) slots: Vec<Slot>,
    setup: Setup,
    decoder: Decoder,
}

/// What a network is made for.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// The model, with its decoder.
    pub(super) config: Config,
    pub(super) device: Device,
    pub(super) precision: Precision,
    /// Weight of the readout's error beside the reconstruction's.
    pub(super) latent_weight: f64,
}

/// What a batch came to.
pub(super) struct Loss {
    /// The sum that is made smaller, a scalar.
    pub(super) total: Tensor,
    /// Share of the cells' variance that the latent tokens leave unexplained, where the pooling asks for them.
    pub(super) latent: Option<f64>,
}

impl Network {
    /// Variables from weights of the configuration and its `decoder`.
    pub(super) fn new(setup: Setup, decoder: &Decoder, weights: &Weights) -> Result<Self> {
        let mut slots = Vec::new();
        let mut tensors = HashMap::new();
        for spec in specs(&setup.config) {
            let weight = weights
                .get(&spec.name)
                .ok_or_else(|| candle_core::Error::msg(format!("no weight {}", spec.name)))?;
            let var = Var::from_tensor(&weight.to_device(&setup.device)?.to_dtype(DType::F32)?)?;
            tensors.insert(spec.name.clone(), var.as_tensor().clone());
            let decays = matches!(spec.role, Role::Linear | Role::Conv);
            slots.push(Slot::new(spec.name, var, decays)?);
        }
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &setup.device);
        Ok(Self { mae: Mae::new(&setup.config, decoder, vb)?, slots, decoder: decoder.clone(), setup })
    }

    /// The model of one training pass. In bf16 its matrices are rounded anew from the variables, with their history: what
    /// one pass reads is what the step before left.
    fn training(&self) -> Result<Cow<'_, Mae>> {
        let Setup { config, device, precision, .. } = &self.setup;
        match precision {
            Precision::F32 => Ok(Cow::Borrowed(&self.mae)),
            Precision::Bf16 => {
                let specs = specs(config);
                let vars = specs.iter().zip(&self.slots).map(|(spec, slot)| (spec, slot.var.as_tensor()));
                Ok(Cow::Owned(Mae::new(config, &self.decoder, rounded(vars, device)?)?))
            }
        }
    }

    pub(super) fn device(&self) -> &Device {
        &self.setup.device
    }

    /// The loss of a batch, with its history.
    pub(super) fn loss(&self, batch: &Batch<'_>) -> Result<Loss> {
        let (device, mae) = (self.device(), self.training()?);
        let (patches, visible) = (batch.patches(device)?, batch.visible(device)?);
        let latent = mae.encode_visible(&patches, &visible)?;
        let tokens = mae.decode_hidden(&latent, &visible, &batch.hidden(device)?)?;
        let loss = ops::prediction_loss(&tokens, mae.pred(), batch)?;
        let Some(targets) = self.latent_targets(&patches)? else {
            return Ok(Loss { total: loss, latent: None });
        };
        let first = usize::from(self.setup.config.class_token);
        let seen = latent.narrow(1, first, latent.dim(1)? - first)?;
        let error = cells::unexplained(&mae.encoder().pool().tokens(&seen)?, &targets)?;
        let value = f64::from(error.to_scalar::<f32>()?);
        Ok(Loss { total: (loss + (error * self.setup.latent_weight)?)?, latent: Some(value) })
    }

    /// The reconstruction's loss alone, without a history.
    pub(super) fn held_out_loss(&self, batch: &Batch<'_>) -> Result<f64> {
        let device = self.device();
        let (patches, visible) = (batch.patches(device)?, batch.visible(device)?);
        let latent = self.mae.encode_visible(&patches, &visible)?.detach();
        let tokens = self.mae.decode_hidden(&latent, &visible, &batch.hidden(device)?)?.detach();
        Ok(f64::from(ops::prediction_loss(&tokens, self.mae.pred(), batch)?.to_scalar::<f32>()?))
    }

    /// What the latent tokens of patches `[batch, n, 3 * patch * patch]` (channel, y, x) should say,
    /// `[batch, n, latent_dim]`, if the pooling gives them a meaning of their own.
    fn latent_targets(&self, patches: &Tensor) -> Result<Option<Tensor>> {
        let config = &self.setup.config;
        let Pooling::Cells { cells, .. } = config.pooling else { return Ok(None) };
        cells::targets(patches, &config.preprocess, config.patch, cells).map(Some)
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
        Ok(self.mae.encoder().forward(&images.to_device(self.device())?)?.embedding.detach())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::image::Rgb;

    use super::super::batch::{Change, Item};
    use super::super::draw::{Purpose, generator, mask};
    use super::*;
    use crate::model::config::{Attention, TargetKind};
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

    fn network(config: &Config, precision: Precision) -> Network {
        let setup = Setup { config: config.clone(), device: Device::Cpu, precision, latent_weight: 1.0 };
        Network::new(setup, config.decoder.as_ref().unwrap(), &init::random(config, 3).unwrap()).unwrap()
    }

    fn most(t: &Tensor) -> f64 {
        let t = t.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap();
        t.max(0).unwrap().to_scalar::<f64>().unwrap()
    }

    /// Largest difference as a share of the largest wanted number.
    fn off(got: &Tensor, want: &Tensor) -> f64 {
        let [got, want] = [got, want].map(|t| t.to_dtype(DType::F64).unwrap());
        most(&(got - &want).unwrap()) / most(&want).max(1e-20)
    }

    /// The short way of training (visible patches in, hidden ones out, targets on the spot) is the long way of
    /// `Mae::forward`, value and gradients.
    #[test]
    fn the_loss_is_that_of_the_whole_forward_pass() {
        let config = config();
        let network = network(&config, Precision::F32);
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
                let off = off(&got, &want);
                assert!(off < 1e-4, "{}: off by {off:e}", slot.name);
            }
        }
    }

    /// Every part of a model: a class token, the readout's loss, Nyström attention and its convolution.
    fn with_everything() -> Config {
        let mut config = config();
        config.class_token = true;
        config.pooling = Pooling::Cells { version: 1, cells: 2, rows: 2, cols: 4 };
        config.embed_dim = 32;
        (config.attention, config.landmarks, config.conv_kernel) = (Attention::Nystrom, 3, 3);
        config
    }

    /// What runs on other devices than the processor: the same model in f64, which no fused kernel takes.
    #[test]
    fn composed_operations_give_what_the_fused_ones_give() {
        for config in [config(), with_everything()] {
            let fused = network(&config, Precision::F32);
            let batch = Batch::new(&config, TargetKind::Mixed, items(&config));
            let vars: Vec<Var> = fused
                .slots
                .iter()
                .map(|slot| Var::from_tensor(&slot.var.to_dtype(DType::F64).unwrap()).unwrap())
                .collect();
            let tensors = fused.slots.iter().zip(&vars);
            let tensors = tensors.map(|(slot, var)| (slot.name.clone(), var.as_tensor().clone())).collect();
            let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
            let mae = Mae::new(&config, config.decoder.as_ref().unwrap(), vb).unwrap();
            let on = |t: Result<Tensor>| t.unwrap();
            let visible = on(batch.visible(&Device::Cpu));
            let patches = on(on(batch.patches(&Device::Cpu)).to_dtype(DType::F64));
            let latent = on(mae.encode_visible(&patches, &visible));
            let tokens = on(mae.decode_hidden(&latent, &visible, &on(batch.hidden(&Device::Cpu))));
            let mut want = on(ops::prediction_loss(&tokens, mae.pred(), &batch));
            if let Some(targets) = fused.latent_targets(&on(patches.to_dtype(DType::F32))).unwrap() {
                let seen = on(latent.narrow(1, 1, visible.dim(1).unwrap())); // behind the class token
                let read = on(mae.encoder().pool().tokens(&seen));
                want = on(want + on(cells::unexplained(&read, &on(targets.to_dtype(DType::F64)))));
            }
            let got = fused.loss(&batch).unwrap().total;
            assert!(off(&got, &want) < 1e-5, "{got} {want}");
            let gradients = want.backward().unwrap();
            for ((slot, got), var) in fused.slots.iter().zip(fused.gradients(&got).unwrap()).zip(&vars) {
                let want = gradients.get(var);
                assert_eq!(got.is_some(), want.is_some(), "{}", slot.name);
                let (Some(got), Some(want)) = (got, want) else { continue };
                assert!(off(&got, want) < 1e-4, "{}: off by {:e}", slot.name, off(&got, want));
            }
        }
    }

    /// bf16 keeps 8 bits: a loss is off by a few thousandths, a gradient points the same way.
    #[test]
    fn mixed_precision_is_off_by_its_rounding() {
        for config in [config(), with_everything()] {
            let of = |precision| {
                let network = network(&config, precision);
                let loss = network.loss(&Batch::new(&config, TargetKind::Mixed, items(&config))).unwrap();
                let gradients = network.gradients(&loss.total).unwrap();
                (network, loss.total, gradients)
            };
            let ((network, want, wanted), (_, got, gradients)) = (of(Precision::F32), of(Precision::Bf16));
            assert!(off(&got, &want) < 5e-3 && off(&got, &want) > 0.0, "{got} {want}");
            for ((slot, got), want) in network.slots.iter().zip(gradients).zip(wanted) {
                assert_eq!(got.is_some(), want.is_some(), "{}", slot.name);
                let (Some(got), Some(want)) = (got, want) else { continue };
                assert_eq!(got.dtype(), DType::F32, "{}", slot.name);
                let product = |a: &Tensor, b: &Tensor| {
                    let all = (a * b).unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap();
                    all.to_scalar::<f64>().unwrap()
                };
                let cosine =
                    product(&got, &want) / (product(&got, &got) * product(&want, &want)).sqrt().max(1e-20);
                assert!(cosine > 0.99 || most(&want) < 1e-6, "{}: {cosine}", slot.name);
            }
        }
    }

    /// A pass reads what the last update left, not what the model was made with.
    #[test]
    fn matrices_are_rounded_anew_for_every_pass() {
        let config = config();
        let network = network(&config, Precision::Bf16);
        let loss = || {
            let batch = Batch::new(&config, TargetKind::Raw, items(&config));
            network.loss(&batch).unwrap().total.to_scalar::<f32>().unwrap()
        };
        let before = loss();
        let pred = network.slots.iter().find(|slot| slot.name == "decoder.pred.weight").unwrap();
        pred.var.set(&(pred.var.as_tensor() * 2.0).unwrap()).unwrap();
        assert_ne!(before, loss());
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
