//! The tensors of a model: their names mirror the module tree, their shapes follow from the configuration.

use super::config::Config;

/// What a tensor is for: decides how `model init` fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A matrix `[out, in]`.
    Linear,
    /// A bias.
    Bias,
    /// The scale of a LayerNorm.
    Scale,
    /// A position embedding `[patches, width]`.
    Position,
    /// A learned token.
    Token,
    /// The residual convolution, one kernel a head.
    Conv,
}

/// One tensor that a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name in `model.safetensors`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl Spec {
    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it belongs to the pretraining decoder rather than to the encoder.
    pub fn is_decoder(&self) -> bool {
        self.name.starts_with(DECODER)
    }
}

/// What the names of the decoder's tensors begin with.
pub const DECODER: &str = "decoder.";

/// Shape of a stack of transformer blocks.
#[derive(Debug, Clone, Copy)]
struct Stack {
    dim: usize,
    depth: usize,
    inner: usize,
    heads: usize,
    mlp: usize,
    conv_kernel: usize,
    qkv_bias: bool,
}

#[derive(Default)]
struct List(Vec<Spec>);

impl List {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(Spec { name, shape: shape.to_vec(), role });
    }

    fn linear(&mut self, prefix: &str, out: usize, input: usize, bias: bool) {
        self.push(format!("{prefix}.weight"), &[out, input], Role::Linear);
        if bias {
            self.push(format!("{prefix}.bias"), &[out], Role::Bias);
        }
    }

    fn norm(&mut self, prefix: &str, dim: usize) {
        self.push(format!("{prefix}.weight"), &[dim], Role::Scale);
        self.push(format!("{prefix}.bias"), &[dim], Role::Bias);
    }

    fn blocks(&mut self, prefix: &str, stack: Stack) {
        for block in 0..stack.depth {
            let at = format!("{prefix}blocks.{block}");
            self.norm(&format!("{at}.norm1"), stack.dim);
            self.linear(&format!("{at}.attn.qkv"), 3 * stack.inner, stack.dim, stack.qkv_bias);
            self.linear(&format!("{at}.attn.out"), stack.dim, stack.inner, true);
            if stack.conv_kernel > 0 {
                let shape = [stack.heads, 1, stack.conv_kernel, 1];
                self.push(format!("{at}.attn.conv.weight"), &shape, Role::Conv);
            }
            self.norm(&format!("{at}.norm2"), stack.dim);
            self.linear(&format!("{at}.mlp.fc1"), stack.mlp, stack.dim, true);
            self.linear(&format!("{at}.mlp.fc2"), stack.dim, stack.mlp, true);
        }
    }
}

/// Every tensor of a model, in the order of the forward pass: the encoder's, then the decoder's if the
/// configuration has one.
pub fn specs(config: &Config) -> Vec<Spec> {
    let mut list = List::default();
    list.linear("patch_embed", config.dim, config.patch_dim(), true);
    list.push("pos_embed".to_owned(), &[config.patches(), config.dim], Role::Position);
    if config.class_token {
        list.push("class_token".to_owned(), &[config.dim], Role::Token);
    }
    let stack = Stack {
        dim: config.dim,
        depth: config.depth,
        inner: config.inner(),
        heads: config.heads,
        mlp: config.mlp,
        conv_kernel: config.conv_kernel,
        qkv_bias: config.qkv_bias,
    };
    list.blocks("", stack);
    list.norm("norm", config.dim);
    list.linear("embed", config.latent_dim(), config.dim, true);
    decoder_specs(config, &mut list);
    list.0
}

fn decoder_specs(config: &Config, list: &mut List) {
    let Some(decoder) = &config.decoder else { return };
    list.linear("decoder.embed", decoder.dim, config.dim, true);
    list.push("decoder.mask_token".to_owned(), &[decoder.dim], Role::Token);
    list.push("decoder.pos_embed".to_owned(), &[config.patches(), decoder.dim], Role::Position);
    if config.class_token {
        list.push("decoder.class_pos_embed".to_owned(), &[decoder.dim], Role::Token);
    }
    let stack = Stack {
        dim: decoder.dim,
        depth: decoder.depth,
        inner: decoder.inner(),
        heads: decoder.heads,
        mlp: decoder.mlp,
        conv_kernel: 0,
        qkv_bias: config.qkv_bias,
    };
    list.blocks(DECODER, stack);
    list.norm("decoder.norm", decoder.dim);
    list.linear("decoder.pred", config.patch_dim(), decoder.dim, true);
}

/// Numbers in the encoder and in the decoder.
pub fn parameters(config: &Config) -> (usize, usize) {
    specs(config).iter().fold((0, 0), |(encoder, decoder), spec| {
        if spec.is_decoder() { (encoder, decoder + spec.len()) } else { (encoder + spec.len(), decoder) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::preset::{PRESETS, Preset};
    use super::*;

    #[test]
    fn the_seed_preset_has_76_million_parameters_and_a_decoder_of_29() {
        let (encoder, decoder) = parameters(&Preset::find("seed-80m").unwrap().config());
        assert_eq!(encoder, 76_090_880);
        assert_eq!((decoder as f64 / 1e6).round(), 29.0);
    }

    #[test]
    fn every_preset_is_valid_and_its_tensor_names_are_unique() {
        for preset in PRESETS {
            let config = preset.config();
            config.validate().unwrap();
            let mut names: Vec<_> = specs(&config).into_iter().map(|spec| spec.name).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", preset.name);
        }
    }
}
