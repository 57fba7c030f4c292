//! A transformers ViT-MAE folder, imported.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use dc_encoder::model::import::{self, Options};
use dc_encoder::model::mae::{Mae, loss, target};
use dc_encoder::model::patches;

use super::case::{Case, Outcome, PLAIN};

pub(crate) fn run(dir: &Path) -> Outcome {
    let mut case = Case::read(&dir.join("io.safetensors")).unwrap();
    let (config, weights) = import::vit_mae(dir, &Options::default()).unwrap();
    let decoder = config.decoder.clone().expect("the checkpoint has a decoder");
    let mae =
        Mae::new(&config, &decoder, VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)).unwrap();
    let encoder = mae.encoder();

    let images = case.input("pixel_values");
    let flat = patches::for_embedding(&images, config.patch).unwrap();
    let full = encoder.hidden(&encoder.embed_patches(&flat).unwrap(), None).unwrap();
    case.check("last_hidden_state_full", &full, PLAIN);

    let order = case.input("noise").arg_sort_last_dim(true).unwrap();
    case.check("ids_restore", &order.to_dtype(DType::F32).unwrap().arg_sort_last_dim(true).unwrap(), PLAIN);
    let hidden = case.input("mask");
    let hidden_count = hidden.get(0).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() as usize;
    let visible = order.narrow(1, 0, config.patches() - hidden_count).unwrap().contiguous().unwrap();
    let masked = mae.forward(&images, &visible).unwrap();
    case.compare("mask", &masked.mask, &hidden, PLAIN);
    case.check("last_hidden_state_masked", &masked.latent, PLAIN);
    case.check("logits", &masked.prediction, PLAIN);
    for (name, normalise) in [("loss_norm_pix", true), ("loss_raw_pix", false)] {
        let target = target(&images, config.patch, normalise).unwrap();
        let loss: Tensor = loss(&masked, &target).unwrap();
        case.check(name, &loss.reshape(1).unwrap(), PLAIN);
    }
    case.finish()
}
