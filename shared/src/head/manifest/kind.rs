//! The kinds of heads a file can hold, and the tensors of each.

use serde::{Deserialize, Serialize};

/// The networks a head file can hold. `O` is 1 for a scalar output, 2 for a circular one, and the number
/// of classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `weight · (x − mean) / std + bias`: `norm.mean [D]`, `norm.std [D]`, `weight [O, D]`, `bias [O]`.
    Linear,
    /// `fc2 · gelu(fc1 · (x − mean) / std)`: `norm.*`, `fc1.weight [H, D]`, `fc1.bias [H]`,
    /// `fc2.weight [O, H]`, `fc2.bias [O]`. The GELU is the exact one (erf).
    Mlp,
    /// Sum over the latent-token grid of one small network's response: see [`Tokens`].
    Tokens(Tokens),
    /// Extremely randomised trees on the maps of the latent grid, or without a grid on the embedding: see [`Trees`].
    Trees(Trees),
    /// `bias + Σ_k Σ_row row_weight[k, row] · (places of the row whose largest |map − background| / scale over the
    /// maps exceeds threshold[k])`, on the `M` maps `[R, C]` of the latent grid: `background [M, R, C]` (f32 or
    /// f16), `scale [M]`, `threshold [K]`, `row_weight [K, R]`, `bias [1]`.
    Departures,
    /// `bias + weight · k(x)`, `k_i` the [`Likeness`] of the standardised embedding to `support[i]`: `norm.mean [D]`,
    /// `norm.std [D]`, `support [S, D]` (f32 or f16), `width [1]`, `weight [O, S]`, `bias [O]`; and for the interval
    /// `precision [S, S]` and `noise [1]`: the deviation around an answer is `√(1 − k·precision·k + noise)`, and the
    /// manifest's interval is in such deviations.
    Kernel(Likeness),
}

/// How alike two standardised embeddings are, by their distance over the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// `exp(−d² / (2·width²))`, d the Euclidean distance.
    Gaussian,
    /// `exp(−d / width)`, d the sum of absolute differences.
    Laplace,
}

/// Options of the trees head: the mean or the median over trees of the leaf that a frame's numbers lead to.
///
/// Its numbers are the embedding; or with a grid the maps of the latent grid, `[maps, rows, cols]`, followed by the
/// same at coarser scales. Tensors, for `T` trees, `N` nodes and `F` leaves in all: `tree.root [T]` (indices of
/// nodes), `tree.node [N, 3]` (indices), `tree.threshold [N]`, `tree.leaf [F, O]`. A node `(first, second, child)`
/// sends a frame to node `child` when `number[first] − number[second] ≤ threshold` (`second` may be
/// [`NO_SECOND`](crate::head::NO_SECOND)) and to `child + 1` otherwise; with `child` 0 it is the leaf `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trees {
    /// Scales of the maps, the grid itself included; each halves the one before. 1 without a grid.
    pub scales: u32,
    /// What the answer is of the trees' leaves; heads made before there was a choice take the mean.
    #[serde(default)]
    pub combine: Combine,
}

/// How the answers of many trees become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Their mean: the least squared error; of classes the share of trees.
    #[default]
    Mean,
    /// Their spatial median: the least distance, unmoved by trees that are far off.
    Median,
}

/// Options of the token head, `bias + Σ_t w(row of t) · r(fc2 · gelu(fc1 · f(x_t)))`, where `f(x_t)` is the
/// token, or its departure from the background `(x_t − token.mean_t) / token.std_t`.
///
/// Tensors, for a grid of `T = rows × cols` tokens of `L` numbers: `token.fc1.weight [H, F]`,
/// `token.fc1.bias [H]`, `token.fc2.weight [O, H]`, `token.fc2.bias [O]`, `token.row_weight [rows]`,
/// `token.bias [O]`, and with a background `token.mean [T, L]`, `token.std [T, L]` (f32 or f16).
/// `F` is `L`, or `L + 1` with `departure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// `r`: what is done to a token's response before the sum.
    pub response: Response,
    /// Whether `token.mean` and `token.std` are there and applied.
    pub background: bool,
    /// Whether the root mean square of `f(x_t)` is appended to it as one more number.
    pub departure: bool,
}

/// What is done to each token's response before the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Nothing.
    Identity,
    /// `max(0, r)`.
    Relu,
    /// `ln(1 + e^r)`.
    Softplus,
}
