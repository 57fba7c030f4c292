//! The names of a ViT-MAE's tensors in the versions of transformers, and taking them from the file one by one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::ImportError;
use crate::model::error::ModelError;
use crate::model::file::{TensorFile, WEIGHTS_FILE, Weights};

/// Where an encoder layer's tensors are: files of transformers 4 and 5, then the names transformers 5 uses in memory.
const ENCODER_LAYERS: [&str; 3] = ["encoder.layer.", "encoder.layers.", "layers."];
/// The same for the decoder: hub files, files of transformers 5, names in memory.
const DECODER_LAYERS: [&str; 4] = [
    "decoder.decoder_layers.",
    "decoder.decoder_encoder.layer.",
    "decoder.layers.",
    "decoder.decoder_encoder.layers.",
];

/// Inside a layer: what it is called in files, and in memory since transformers 5.
const QUERY: [&str; 2] = ["attention.attention.query", "attention.q_proj"];
const KEY: [&str; 2] = ["attention.attention.key", "attention.k_proj"];
const VALUE: [&str; 2] = ["attention.attention.value", "attention.v_proj"];
const OUT: [&str; 2] = ["attention.output.dense", "attention.o_proj"];
const FC1: [&str; 2] = ["intermediate.dense", "mlp.fc1"];
const FC2: [&str; 2] = ["output.dense", "mlp.fc2"];

/// Shape of a transformer layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerShape {
    pub(super) dim: usize,
    pub(super) inner: usize,
    pub(super) mlp: usize,
    pub(super) bias: bool,
}

/// A checkpoint whose tensors are taken one by one; what is left at the end was not understood.
pub(super) struct Checkpoint {
    path: PathBuf,
    file: TensorFile,
    left: BTreeSet<String>,
    /// `vit.` in checkpoints with a decoder, nothing in bare encoders.
    prefix: &'static str,
}

impl Checkpoint {
    pub(super) fn open(dir: &Path) -> Result<Self, ImportError> {
        let path = dir.join(WEIGHTS_FILE);
        if !path.exists() {
            let remedy = if dir.join("model.safetensors.index.json").exists() {
                "the checkpoint is split into several files: load it with transformers and save it with \
                 max_shard_size=\"50GB\""
            } else if dir.join("pytorch_model.bin").exists() {
                "there is only a pickle file, which can run code when read: load it with transformers and save it \
                 again (save_pretrained writes safetensors)"
            } else {
                "a checkpoint is a folder with config.json and model.safetensors"
            };
            return Err(ImportError::NoWeights { path, remedy });
        }
        let file = TensorFile::open(&path)?;
        let left: BTreeSet<String> = file.names().map(str::to_owned).collect();
        let prefix = if left.iter().any(|name| name.starts_with("vit.")) { "vit." } else { "" };
        Ok(Self { path, file, left, prefix })
    }

    /// Whether the checkpoint has a pretraining decoder.
    pub(super) fn has_decoder(&self) -> bool {
        self.file.names().any(|name| name.starts_with("decoder."))
    }

    /// Takes a tensor by its name in hub files, without the encoder's prefix.
    pub(super) fn take(&mut self, name: &str, want: &[usize]) -> Result<Tensor, ImportError> {
        let prefix = if name.starts_with("decoder.") { "" } else { self.prefix };
        self.take_first(&[format!("{prefix}{name}")], want)
    }

    /// Takes the tensor that is there under one of these names.
    fn take_first(&mut self, names: &[String], want: &[usize]) -> Result<Tensor, ImportError> {
        let path = || self.path.clone();
        let Some(name) = names.iter().find(|name| self.left.contains(*name)) else {
            return Err(ImportError::Missing { path: path(), names: names.to_vec() });
        };
        let got = self.file.shape(name).unwrap_or_default();
        if got != want {
            let (tensor, got, want) = (name.clone(), got.to_vec(), want.to_vec());
            return Err(ImportError::Shape { path: path(), tensor, got, want });
        }
        self.left.remove(name);
        Ok(self.file.read(name)?)
    }

    /// Takes one encoder layer into `to.*`.
    pub(super) fn take_encoder_layer(
        &mut self,
        layer: usize,
        shape: LayerShape,
        to: &str,
        weights: &mut Weights,
    ) -> Result<(), ImportError> {
        let places = ENCODER_LAYERS.map(|place| format!("{}{place}{layer}", self.prefix));
        self.take_layer(&places, shape, to, weights)
    }

    /// Takes one decoder layer into `to.*`.
    pub(super) fn take_decoder_layer(
        &mut self,
        layer: usize,
        shape: LayerShape,
        to: &str,
        weights: &mut Weights,
    ) -> Result<(), ImportError> {
        let places = DECODER_LAYERS.map(|place| format!("{place}{layer}"));
        self.take_layer(&places, shape, to, weights)
    }

    fn take_layer(
        &mut self,
        places: &[String],
        shape: LayerShape,
        to: &str,
        weights: &mut Weights,
    ) -> Result<(), ImportError> {
        let LayerShape { dim, inner, mlp, bias } = shape;
        let mut take = |known: &[&str], part: &str, want: &[usize]| {
            let names: Vec<String> = places
                .iter()
                .flat_map(|place| known.iter().map(move |name| format!("{place}.{name}.{part}")))
                .collect();
            self.take_first(&names, want)
        };
        let stack = |parts: [Tensor; 3]| {
            Tensor::cat(&parts, 0).map_err(ModelError::compute("stacking query, key and value"))
        };
        let mut put = |name: &str, tensor: Tensor| weights.insert(format!("{to}.{name}"), tensor);
        let matrix = [inner, dim];
        put(
            "attn.qkv.weight",
            stack([
                take(&QUERY, "weight", &matrix)?,
                take(&KEY, "weight", &matrix)?,
                take(&VALUE, "weight", &matrix)?,
            ])?,
        );
        if bias {
            put(
                "attn.qkv.bias",
                stack([
                    take(&QUERY, "bias", &[inner])?,
                    take(&KEY, "bias", &[inner])?,
                    take(&VALUE, "bias", &[inner])?,
                ])?,
            );
        }
        put("attn.out.weight", take(&OUT, "weight", &[dim, inner])?);
        put("attn.out.bias", take(&OUT, "bias", &[dim])?);
        put("mlp.fc1.weight", take(&FC1, "weight", &[mlp, dim])?);
        put("mlp.fc1.bias", take(&FC1, "bias", &[mlp])?);
        put("mlp.fc2.weight", take(&FC2, "weight", &[dim, mlp])?);
        put("mlp.fc2.bias", take(&FC2, "bias", &[dim])?);
        for (norm, name) in [("norm1", "layernorm_before"), ("norm2", "layernorm_after")] {
            for part in ["weight", "bias"] {
                put(&format!("{norm}.{part}"), take(&[name], part, &[dim])?);
            }
        }
        Ok(())
    }

    /// Everything in the file was understood.
    pub(super) fn finish(self) -> Result<(), ImportError> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some(tensor) => Err(ImportError::Unexpected { path: self.path, tensor }),
        }
    }
}
