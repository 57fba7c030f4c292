//! What a frame costs: floating-point operations by stage, and memory.
//!
//! Matrix products only, 2 operations a multiply-add: softmax, norms, GELU and means are left out, as is usual.

use serde::Serialize;

use super::attention::BlockGrid;
use super::config::{Config, LandmarkKind, Pooling};
use super::tensors::parameters;

/// Bytes of one number in memory: everything is computed in f32.
const BYTES: usize = 4;

/// Operations of one frame by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Embedding the patches.
    pub patch: u64,
    /// Projections to queries, keys and values, and back.
    pub attn_proj: u64,
    /// Attention between the two projections.
    pub attn_core: u64,
    /// The blocks' MLPs.
    pub mlp: u64,
    /// From pooled tokens to the embedding.
    pub head: u64,
}

impl Flops {
    /// All stages.
    pub fn total(&self) -> u64 {
        self.patch + self.attn_proj + self.attn_core + self.mlp + self.head
    }
}

/// Landmarks that a whole frame goes through under Nyström attention: fewer than configured when the patch grid cuts
/// into fewer blocks.
pub fn landmarks(config: &Config) -> usize {
    match config.landmark_kind {
        LandmarkKind::Rows => config.landmarks,
        LandmarkKind::Blocks => {
            let class = usize::from(config.class_token);
            let (rows, cols) = BlockGrid::new(config.grid(), config.landmarks - class).blocks;
            rows * cols + class
        }
    }
}

/// Operations of one frame with the attention that its shape gives it.
pub fn flops(config: &Config) -> Flops {
    let core = if config.is_exact(config.tokens()) { exact_core(config) } else { nystrom_core(config) };
    with_core(config, core)
}

/// Operations of one frame of which only so many patches are encoded.
pub fn flops_partial(config: &Config, patches: usize) -> Flops {
    let tokens = patches + usize::from(config.class_token);
    let core = if config.is_exact(tokens) {
        exact_operations(config, tokens)
    } else {
        nystrom_operations(config, tokens)
    };
    // Tokens are kept, not only their means.
    with(config, (patches, patches), core)
}

/// Operations of one frame if every block took Nyström attention.
pub fn flops_nystrom(config: &Config) -> Flops {
    with_core(config, nystrom_core(config))
}

/// Operations of one frame if every block took exact attention.
pub fn flops_exact(config: &Config) -> Flops {
    with_core(config, exact_core(config))
}

/// Whether exact attention to a sequence of `tokens` takes no more operations than Nyström attention. The
/// pseudo-inverse is a fixed price, the cube of the landmarks, that only long sequences pay back.
///
/// Timed on a CPU in f32 (seed-80m's blocks, 256 landmarks) the two are equal at 1600 tokens, by this count at 2050;
/// in between Nyström would save a few percent of a block, and exact attention has no error.
pub fn exact_is_cheaper(config: &Config, tokens: usize) -> bool {
    tokens <= config.landmarks || exact_operations(config, tokens) <= nystrom_operations(config, tokens)
}

fn with_core(config: &Config, core: usize) -> Flops {
    let (rows, cols) = config.pooling.regions();
    // Means of latent tokens commute with the readout and are taken first; deviations do not.
    let read_out =
        if matches!(config.pooling, Pooling::Cells { .. }) { config.patches() } else { rows * cols };
    with(config, (config.patches(), read_out), core)
}

/// Operations of a frame of so many patches, of which so many rows are read out.
fn with(config: &Config, (patches, read_out): (usize, usize), core: usize) -> Flops {
    let (n, dim, depth) = (patches + usize::from(config.class_token), config.dim, config.depth);
    let conv = 2 * n * config.inner() * config.conv_kernel;
    Flops {
        patch: (2 * patches * config.patch_dim() * dim) as u64,
        attn_proj: (depth * 8 * n * dim * config.inner()) as u64,
        attn_core: (depth * (core + conv)) as u64,
        mlp: (depth * 4 * n * dim * config.mlp) as u64,
        head: (2 * read_out * dim * config.latent_dim()) as u64,
    }
}

/// [`exact_operations`] of a whole frame.
fn exact_core(config: &Config) -> usize {
    exact_operations(config, config.tokens())
}

/// [`nystrom_operations`] of a whole frame.
fn nystrom_core(config: &Config) -> usize {
    nystrom_operations(config, config.tokens())
}

/// `q kᵀ` and its product with the values, over all heads.
fn exact_operations(config: &Config, tokens: usize) -> usize {
    4 * tokens * tokens * config.inner()
}

/// The three kernels, the pseudo-inverse (four products an iteration) and `k1 · (pinv · (k3 · v))`, over all heads.
fn nystrom_operations(config: &Config, tokens: usize) -> usize {
    let (n, m, d) = (tokens, landmarks(config), config.dim_head);
    let kernels = 2 * n * m * d * 2 + 2 * m * m * d;
    let inverse = config.pinv_iterations * 4 * 2 * m * m * m;
    let values = 2 * n * m * d + 2 * m * m * d + 2 * n * m * d;
    config.heads * (kernels + inverse + values)
}

/// Memory of a loaded encoder, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The encoder's weights.
    pub weights: u64,
    /// What one frame needs while it is encoded: an estimate of the peak, from the shapes that are alive at once.
    pub frame: u64,
}

/// Memory of an encoder and of one frame in it.
pub fn memory(config: &Config) -> Memory {
    let (n, inner) = (config.tokens(), config.inner());
    let tokens = 3 * n * config.dim; // the residual stream, its normalised copy, and a sum
    let input = 2 * config.patches() * config.patch_dim();
    let projected = 2 * 3 * n * inner;
    let scores = 2 * super::attention::scores_held(config.heads, n, keys(config));
    let mlp = 2 * n * config.mlp;
    let frame = tokens + input.max(projected + scores).max(mlp);
    Memory { weights: (parameters(config).0 * BYTES) as u64, frame: (frame * BYTES) as u64 }
}

/// What a token attends to at once.
fn keys(config: &Config) -> usize {
    if config.is_exact(config.tokens()) { config.tokens() } else { landmarks(config) }
}

#[cfg(test)]
mod tests {
    use super::super::preset::Preset;
    use super::*;

    fn seed() -> Config {
        Preset::find("seed-80m").unwrap().config()
    }

    #[test]
    fn the_seed_preset_takes_37_gflop_by_stages() {
        let flops = flops(&seed());
        assert_eq!(flops.patch, 3_397_386_240);
        assert_eq!(flops.attn_proj, 12_582_912_000);
        assert_eq!(flops.attn_core, 1_474_560_000);
        assert_eq!(flops.mlp, 20_132_659_200);
        assert_eq!(flops.head, 1_048_576);
        assert_eq!(format!("{:.1}", flops.total() as f64 / 1e9), "37.6");
    }

    #[test]
    fn a_third_of_the_patches_costs_less_than_a_third() {
        let (whole, third) = (flops(&seed()), flops_partial(&seed(), 80));
        assert_eq!((third.patch * 3, third.mlp * 3), (whole.patch, whole.mlp));
        assert_eq!(third.attn_core * 9, whole.attn_core);
        let all = flops_partial(&seed(), 240);
        assert_eq!((all.total() - all.head, all.head), (whole.total() - whole.head, 240 * whole.head));
    }

    #[test]
    fn nystrom_with_as_many_landmarks_costs_three_times_more() {
        let ratio = flops_nystrom(&seed()).total() as f64 / flops_exact(&seed()).total() as f64;
        assert!((3.0..3.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn nystrom_begins_where_it_pays_for_its_inverse() {
        let config = Config { attention: super::super::config::Attention::Auto, ..seed() };
        let exact = |tokens| config.is_exact(tokens);
        assert!(exact(240) && exact(960) && exact(2000));
        assert!(!exact(2100) && !exact(3600) && !exact(8040));
    }

    #[test]
    fn nystrom_saves_at_8040_tokens_and_memory_stays_bounded() {
        let config = Preset::find("hires-fine").unwrap().config();
        assert!(flops_nystrom(&config).attn_core * 5 < flops_exact(&config).attn_core);
        let exact = Config { attention: super::super::config::Attention::Exact, ..config };
        assert!(memory(&exact).frame < 1 << 30, "{}", memory(&exact).frame);
    }
}
