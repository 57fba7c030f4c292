//! What a person wants to know about a model before serving it.

use std::io::{self, Write};

use protocol::SpaceId;
use serde::Serialize;

use super::config::{Config, LandmarkKind, Pooling};
use super::cost::{self, Flops, Memory};
use super::tensors::parameters;
use crate::backend::Opened;

/// Facts about a model on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Input height and width in pixels.
    pub input: (usize, usize),
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches from top to bottom and from left to right.
    pub grid: (usize, usize),
    /// Tokens of one frame, the class token included.
    pub tokens: usize,
    /// Numbers in the encoder.
    pub parameters: usize,
    /// Numbers in the pretraining decoder, 0 without one.
    pub decoder_parameters: usize,
    /// Which attention a whole frame takes, and why.
    pub attention: String,
    /// Operations of one frame by stage.
    pub flops: Flops,
    /// All of them.
    pub flops_total: u64,
    /// Bytes of weights and of one frame's activations.
    pub memory: Memory,
    /// How the embedding is made.
    pub pooling: String,
    /// Numbers in one embedding.
    pub embed_dim: usize,
    /// Numbers in one latent token.
    pub latent_dim: usize,
    /// The embedding space.
    pub space: String,
    /// Where the weights come from.
    pub weights: String,
    /// The device in words.
    pub device: String,
    /// The compute path.
    pub path: String,
    /// Why this device.
    pub reason: String,
}

impl Report {
    /// Collects the facts about a configuration whose weights make this embedding space, on an opened device.
    pub fn new(config: &Config, space: SpaceId, opened: &Opened) -> Self {
        let (encoder, decoder) = parameters(config);
        let flops = cost::flops(config);
        Self {
            input: (config.height, config.width),
            patch: config.patch,
            grid: config.grid(),
            tokens: config.tokens(),
            parameters: encoder,
            decoder_parameters: decoder,
            attention: attention(config),
            flops,
            flops_total: flops.total(),
            memory: cost::memory(config),
            pooling: pooling(config),
            embed_dim: config.embed_dim,
            latent_dim: config.latent_dim(),
            space: space.to_string(),
            weights: config.note(),
            device: opened.name.clone(),
            path: opened.path.clone(),
            reason: opened.reason.clone(),
        }
    }

    /// Writes the report for people.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let line = |out: &mut dyn Write, key: &str, value: String| writeln!(out, "{key:<12} {value}");
        let (height, width) = self.input;
        let (rows, cols) = self.grid;
        line(out, "input", format!("{height}x{width} pixels, patch {}: {rows}x{cols} patches", self.patch))?;
        line(out, "tokens", self.tokens.to_string())?;
        let decoder = match self.decoder_parameters {
            0 => "no pretraining decoder".to_owned(),
            count => format!("pretraining decoder {}", millions(count)),
        };
        line(out, "parameters", format!("{} ({decoder})", millions(self.parameters)))?;
        line(out, "weights", self.weights.clone())?;
        line(out, "attention", self.attention.clone())?;
        line(out, "pooling", self.pooling.clone())?;
        line(out, "embedding", format!("{} numbers; latent tokens of {}", self.embed_dim, self.latent_dim))?;
        line(out, "space", self.space.clone())?;
        line(out, "flops/frame", giga(self.flops_total))?;
        for (stage, flops) in [
            ("patch", self.flops.patch),
            ("attn proj", self.flops.attn_proj),
            ("attn core", self.flops.attn_core),
            ("mlp", self.flops.mlp),
            ("head", self.flops.head),
        ] {
            let share = 100.0 * flops as f64 / self.flops_total as f64;
            line(out, "", format!("{stage:<10} {:>14}  {share:5.1} %", giga(flops)))?;
        }
        let (weights, frame) = (mebi(self.memory.weights), mebi(self.memory.frame));
        line(out, "memory", format!("weights {weights}, working memory about {frame} a frame"))?;
        line(out, "device", format!("{} ({})", self.device, self.reason))?;
        line(out, "path", self.path.clone())
    }
}

fn millions(count: usize) -> String {
    format!("{:.1}M", count as f64 / 1e6)
}

fn giga(flops: u64) -> String {
    let flops = flops as f64;
    if flops < 1e8 { format!("{:.2} MFLOP", flops / 1e6) } else { format!("{:.1} GFLOP", flops / 1e9) }
}

fn mebi(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Which attention a whole frame takes, and why.
pub fn attention(config: &Config) -> String {
    let (tokens, landmarks) = (config.tokens(), cost::landmarks(config));
    let exact = giga(cost::flops_exact(config).total());
    let nystrom = giga(cost::flops_nystrom(config).total());
    if config.is_exact(tokens) {
        let would = format!("Nyström with {landmarks} landmarks would take {nystrom} instead of {exact}");
        return match cost::exact_is_cheaper(config, tokens) {
            true => format!("exact: {would} for {tokens} tokens, and only approximate it"),
            false => format!("exact: asked for; {would}"),
        };
    }
    let kind = match config.landmark_kind {
        LandmarkKind::Rows => "runs of tokens",
        LandmarkKind::Blocks => "blocks of the patch grid",
    };
    format!("Nyström: {tokens} tokens, {landmarks} landmarks, {kind}; {nystrom} instead of {exact} exact")
}

fn pooling(config: &Config) -> String {
    match &config.pooling {
        Pooling::Mean { version } => format!("mean (version {version}): the mean of the latent tokens"),
        Pooling::Regions { version, rows, cols } => {
            format!("regions (version {version}): {rows}x{cols} regions of {} numbers", config.latent_dim())
        }
        Pooling::Cells { version, cells, rows, cols } => format!(
            "cells (version {version}): log-colour of {cells}x{cells} cells a patch; mean and texture of {rows}x{cols} \
             regions"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset::Preset;
    use super::*;
    use crate::backend::{DeviceChoice, select};

    fn text(preset: &str) -> String {
        let config = Preset::find(preset).unwrap().config();
        let report = Report::new(&config, SpaceId([1; 32]), &select(DeviceChoice::Cpu).unwrap());
        let mut text = Vec::new();
        report.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_seed_preset_says_its_size_its_cost_and_why_it_is_exact() {
        let text = text("seed-80m");
        for want in [
            "76.1M",
            "240",
            "37.6 GFLOP",
            "exact: Nyström with 256 landmarks would take 121.5 GFLOP instead of 37.6 GFLOP for 240 tokens",
            "only approximate",
            "mean (version 1)",
        ] {
            assert!(text.contains(want), "{want} in\n{text}");
        }
    }

    #[test]
    fn the_high_resolution_preset_says_which_landmarks_and_what_they_save() {
        let text = text("hires");
        for want in ["Nyström: 3600 tokens, 252 landmarks, blocks of the patch grid", "instead of"] {
            assert!(text.contains(want), "{want} in\n{text}");
        }
    }
}
