//! What a head file says about itself: JSON in the safetensors metadata key `manifest`.

use serde::{Deserialize, Serialize};

use super::error::LoadError;
use super::limits;

/// The one manifest format this build reads and writes.
pub const FORMAT: u32 = 1;

/// What a head is, what it reads, what it answers and how well it did on frames it had not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this manifest, [`FORMAT`].
    pub format: u32,
    /// Name of the head, such as `people-count`; 1 to 64 characters.
    pub name: String,
    /// What the answer means.
    pub task: Task,
    /// Which network the tensors are.
    pub kind: Kind,
    /// What the head reads.
    pub input: Input,
    /// How the network's numbers become a value.
    pub output: Output,
    /// Range of the true value around an answer, from held-out residuals; none when there were too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalOffsets>,
    /// Identity of the uplink transformation the training frames went through, as `shared::uplink` writes it.
    pub uplink: String,
    /// What the head was trained on.
    pub trained: Trained,
    /// Score on frames the head had not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// How closely a machine must reproduce the tensors `self_test.input` → `self_test.output`.
    pub self_test: SelfTestTolerance,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// How many of something are in the picture.
    Count,
    /// Local time of day, in minutes since midnight.
    TimeOfDay,
    /// Any one number.
    Scalar,
}

/// The networks a head file can hold. `O` is 1 for a scalar output and 2 for a circular one.
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
/// [`NO_SECOND`](super::NO_SECOND)) and to `child + 1` otherwise; with `child` 0 it is the leaf `first`.
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
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Their mean: the least squared error.
    #[default]
    Mean,
    /// Their [spatial median](super::spatial_median): the least distance, unmoved by trees that are far off.
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

/// What a head reads: an embedding of one space, or its latent-token grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The embedding space, 64 hex digits.
    pub space: String,
    /// Numbers in the embedding.
    pub dim: u32,
    /// The latent-token grid, for heads that read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

/// Shape of a latent-token grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Rows of patches, from the top of the picture.
    pub rows: u32,
    /// Patches in a row.
    pub cols: u32,
    /// Numbers in a latent token.
    pub dim: u32,
    /// Cells along one side of a latent token: its numbers are `dim / cells²` maps of `cells × cells` places
    /// inside the patch, in the order (map, row, column), so that the grid is as many maps of
    /// `[rows·cells, cols·cells]`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub cells: u32,
}

fn one() -> u32 {
    1
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(cells: &u32) -> bool {
    *cells == 1
}

impl Grid {
    /// Number of tokens, `rows × cols`.
    pub fn tokens(&self) -> usize {
        self.rows as usize * self.cols as usize
    }
}

/// How the network's numbers become a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Scalar or circular.
    pub kind: OutputKind,
    /// Unit of the value, such as `people` or `minute`.
    pub unit: String,
    /// Answers below this are raised to it, such as 0 for a count. Scalar outputs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

/// Shape of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OutputKind {
    /// One number, the value itself.
    Scalar,
    /// Two numbers, `(cos, sin)` of the value's angle; the value is in `[0, period)`.
    Circular {
        /// Length of one turn in the output's unit, 1440 for a minute of the day.
        period: f64,
    },
}

impl OutputKind {
    /// How many numbers the network gives: `O` in the tensor shapes.
    pub fn width(&self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Circular { .. } => 2,
        }
    }
}

/// `[value + lower, value + upper]` holds the true value with probability `level`, as measured by
/// cross-validation on the training frames. For a kernel head both are times the deviation of the frame at hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalOffsets {
    /// Stated probability, in (0, 1).
    pub level: f64,
    /// Added to the value for the lower end.
    pub lower: f64,
    /// Added to the value for the upper end.
    pub upper: f64,
}

/// What a head was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Labelled frames.
    pub frames: u64,
    /// SHA-256 of the labels file, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Seed of everything random in the training.
    pub seed: u64,
}

/// Score on frames the head had not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Name of the score, `mae` (circular for circular outputs).
    pub metric: String,
    /// The score, in the output's unit.
    pub value: f64,
    /// 95 % moving-block bootstrap interval of the score.
    pub ci95: [f64; 2],
    /// Frames scored.
    pub n: u64,
    /// How the frames were held out, in words.
    pub method: String,
    /// The same score of the constant answer (the training labels' mean) on the same frames.
    pub baseline: f64,
}

/// How closely a machine must reproduce the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTestTolerance {
    /// Largest allowed `|got − want| / max(1, |want|)` over the network's numbers.
    pub tolerance: f64,
}

impl Manifest {
    /// Reads a manifest from JSON; a later format is refused by name before its fields are looked at.
    ///
    /// # Errors
    /// [`LoadError`] naming the field that is wrong.
    pub fn from_json(json: &str) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let bad = |error: serde_json::Error| LoadError::Manifest { reason: error.to_string() };
        let probe: Probe = serde_json::from_str(json).map_err(bad)?;
        if probe.format != FORMAT {
            return Err(LoadError::Format { got: probe.format, want: FORMAT });
        }
        let manifest: Self = serde_json::from_str(json).map_err(bad)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks every field that does not need the tensors.
    ///
    /// # Errors
    /// [`LoadError::Field`] naming the head, the field, its value and what it should be.
    pub fn validate(&self) -> Result<(), LoadError> {
        self.validate_strings()?;
        self.validate_input()?;
        self.validate_output()?;
        let tolerance = self.self_test.tolerance;
        self.check(
            tolerance.is_finite() && tolerance > 0.0,
            "self_test.tolerance",
            tolerance,
            "a positive number",
        )
    }

    fn check(
        &self,
        ok: bool,
        field: &'static str,
        got: impl ToString,
        want: impl Into<String>,
    ) -> Result<(), LoadError> {
        if ok {
            return Ok(());
        }
        let mut got = got.to_string();
        if got.chars().count() > 80 {
            got = got.chars().take(80).chain("…".chars()).collect();
        }
        let head: String = self.name.chars().take(limits::MAX_NAME_CHARS).collect();
        Err(LoadError::Field { head, field, got, want: want.into() })
    }

    fn validate_strings(&self) -> Result<(), LoadError> {
        let name_ok = !self.name.is_empty()
            && self.name.chars().count() <= limits::MAX_NAME_CHARS
            && self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        self.check(name_ok, "name", &self.name, "1 to 64 letters, digits, '-', '_' or '.'")?;
        let printable =
            |text: &str, max: usize| text.chars().count() <= max && !text.chars().any(char::is_control);
        self.check(printable(&self.output.unit, 32), "output.unit", &self.output.unit, "≤ 32 characters")?;
        self.check(printable(&self.uplink, 128), "uplink", &self.uplink, "≤ 128 characters")?;
        if let Some(score) = &self.held_out {
            self.check(printable(&score.metric, 32), "held_out.metric", &score.metric, "≤ 32 characters")?;
            self.check(printable(&score.method, 512), "held_out.method", &score.method, "≤ 512 characters")?;
        }
        if let Some(digest) = &self.trained.labels {
            self.check(is_hex64(digest), "trained.labels", digest, "64 hex digits")?;
        }
        Ok(())
    }

    fn validate_input(&self) -> Result<(), LoadError> {
        self.check(is_hex64(&self.input.space), "input.space", &self.input.space, "64 lowercase hex digits")?;
        let dim = self.input.dim;
        self.check(
            (1..=limits::MAX_DIM).contains(&dim),
            "input.dim",
            dim,
            format!("1..={}", limits::MAX_DIM),
        )?;
        let got = if self.input.grid.is_some() { "a grid" } else { "none" };
        let (fits, want) = match self.kind {
            Kind::Tokens(_) | Kind::Departures => {
                (self.input.grid.is_some(), "a grid, as this kind of head reads one")
            }
            Kind::Linear | Kind::Mlp | Kind::Kernel(_) => {
                (self.input.grid.is_none(), "none, as this kind of head reads the embedding")
            }
            Kind::Trees(_) => (true, ""),
        };
        self.check(fits, "input.grid", got, want)?;
        if let Kind::Trees(Trees { scales, .. }) = self.kind {
            let most = if self.input.grid.is_some() { limits::MAX_SCALES } else { 1 };
            self.check((1..=most).contains(&scales), "kind.trees.scales", scales, format!("1..={most}"))?;
        }
        if let Some(grid) = self.input.grid {
            for (field, value) in
                [("input.grid.rows", grid.rows), ("input.grid.cols", grid.cols), ("input.grid.dim", grid.dim)]
            {
                self.check(
                    (1..=limits::MAX_DIM).contains(&value),
                    field,
                    value,
                    format!("1..={}", limits::MAX_DIM),
                )?;
            }
            // Both factors are at most 2^16, so the product fits 64 bits.
            let tokens = u64::from(grid.rows) * u64::from(grid.cols);
            self.check(
                tokens <= u64::from(limits::MAX_TOKENS),
                "input.grid",
                format!("{}×{} tokens", grid.rows, grid.cols),
                format!("at most {} tokens", limits::MAX_TOKENS),
            )?;
            let numbers = tokens * u64::from(grid.dim);
            self.check(
                numbers <= u64::from(limits::MAX_GRID_NUMBERS),
                "input.grid",
                format!("{numbers} numbers"),
                format!("at most {}", limits::MAX_GRID_NUMBERS),
            )?;
            let area = u64::from(grid.cells) * u64::from(grid.cells);
            self.check(
                area > 0 && u64::from(grid.dim).is_multiple_of(area),
                "input.grid.cells",
                grid.cells,
                format!("a number whose square divides the {} numbers of a token", grid.dim),
            )?;
        }
        Ok(())
    }

    fn validate_output(&self) -> Result<(), LoadError> {
        if let OutputKind::Circular { period } = self.output.kind {
            self.check(
                period.is_finite() && period > 0.0,
                "output.kind.period",
                period,
                "a positive number",
            )?;
            let got = self.output.min.map_or_else(String::new, |min| min.to_string());
            self.check(self.output.min.is_none(), "output.min", got, "none for a circular output")?;
        }
        if let Some(min) = self.output.min {
            self.check(min.is_finite(), "output.min", min, "a finite number")?;
        }
        let Some(interval) = self.interval else { return Ok(()) };
        let level = interval.level;
        self.check(level > 0.0 && level < 1.0, "interval.level", level, "between 0 and 1")?;
        let offsets = format!("{}..{}", interval.lower, interval.upper);
        let ordered =
            interval.lower.is_finite() && interval.upper.is_finite() && interval.lower <= interval.upper;
        self.check(ordered, "interval", offsets, "finite offsets, lower ≤ upper")
    }
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
