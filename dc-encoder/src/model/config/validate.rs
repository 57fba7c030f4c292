//! Checking a configuration: every number against its limits, and all of them against each other.

use super::{Attention, Config, ConfigError, Decoder, LandmarkKind, MODEL_TYPE, Pooling, cells};

/// Largest side of the input, in pixels.
const MAX_SIDE: usize = 8192;
/// Largest width of any layer.
const MAX_WIDTH: usize = 16_384;
/// Most blocks in the encoder or decoder.
const MAX_DEPTH: usize = 128;
/// Most patches of one frame: keeps a mistyped patch from asking for terabytes.
const MAX_TOKENS: usize = 65_536;
/// Most pseudo-inverse iterations: convergence is cubic, so more only costs time.
const MAX_PINV_ITERATIONS: usize = 64;
/// Widest residual convolution, in tokens.
const MAX_CONV_KERNEL: usize = 1023;

fn bad(key: &'static str, got: impl ToString, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, got: got.to_string(), why: why.into() }
}

fn within(key: &'static str, got: usize, low: usize, high: usize) -> Result<(), ConfigError> {
    if (low..=high).contains(&got) {
        return Ok(());
    }
    Err(bad(key, got, format!("must be between {low} and {high}")))
}

impl Config {
    /// Checks every value against its limits and against the others.
    ///
    /// # Errors
    /// The first value that cannot work, and what it must be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.model_type != MODEL_TYPE {
            return Err(ConfigError::ModelType {
                got: self.model_type.clone(),
                remedy: "this folder belongs to another program",
            });
        }
        self.validate_input()?;
        within("dim", self.dim, 1, MAX_WIDTH)?;
        within("depth", self.depth, 1, MAX_DEPTH)?;
        within("heads", self.heads, 1, MAX_WIDTH)?;
        within("dim_head", self.dim_head, 1, MAX_WIDTH)?;
        within("heads * dim_head", self.inner(), 1, MAX_WIDTH)?;
        within("mlp", self.mlp, 1, 4 * MAX_WIDTH)?;
        within("embed_dim", self.embed_dim, 1, MAX_WIDTH)?;
        self.validate_attention()?;
        self.validate_pooling()?;
        if !(self.ln_eps > 0.0 && self.ln_eps <= 0.1) {
            return Err(bad("ln_eps", self.ln_eps, "must be above 0 and at most 0.1 (1e-5 is usual)"));
        }
        self.decoder.as_ref().map_or(Ok(()), Decoder::validate)
    }

    fn validate_input(&self) -> Result<(), ConfigError> {
        within("patch", self.patch, 1, 512)?;
        for (key, side) in [("height", self.height), ("width", self.width)] {
            within(key, side, self.patch, MAX_SIDE)?;
            if !side.is_multiple_of(self.patch) {
                let down = side / self.patch * self.patch;
                let why = format!(
                    "must be a multiple of `patch` ({}): {down} and {} are",
                    self.patch,
                    down + self.patch
                );
                return Err(bad(key, side, why));
            }
        }
        if self.patches() > MAX_TOKENS {
            return Err(bad("patch", self.patch, format!("gives more than {MAX_TOKENS} patches a frame")));
        }
        let (height, width) = (self.preprocess.height as usize, self.preprocess.width as usize);
        if (height, width) != (self.height, self.width) {
            let why =
                format!("must be the model's input size {}x{} (height x width)", self.height, self.width);
            return Err(bad("preprocess", format!("{height}x{width}"), why));
        }
        Ok(self.preprocess.validate()?)
    }

    fn validate_attention(&self) -> Result<(), ConfigError> {
        within("landmarks", self.landmarks, 1, MAX_TOKENS)?;
        within("pinv_iterations", self.pinv_iterations, 1, MAX_PINV_ITERATIONS)?;
        within("conv_kernel", self.conv_kernel, 0, MAX_CONV_KERNEL)?;
        if self.conv_kernel != 0 && self.conv_kernel.is_multiple_of(2) {
            return Err(bad("conv_kernel", self.conv_kernel, "must be odd, or 0 for none"));
        }
        if self.attention == Attention::Nystrom && self.tokens() < self.landmarks {
            let why = format!(
                "`attention: nystrom` needs at least as many tokens, and a frame has {}; use \"auto\" or fewer landmarks",
                self.tokens()
            );
            return Err(bad("landmarks", self.landmarks, why));
        }
        if self.landmark_kind == LandmarkKind::Blocks && self.class_token && self.landmarks < 2 {
            return Err(bad("landmarks", self.landmarks, "blocks beside a class token need at least 2"));
        }
        Ok(())
    }

    fn validate_pooling(&self) -> Result<(), ConfigError> {
        if self.pooling.version() != 1 {
            return Err(bad("pooling.version", self.pooling.version(), "this program knows version 1 only"));
        }
        let (rows, cols) = self.pooling.regions();
        let cells = self.cells();
        within("pooling.cells", cells, 1, self.patch)?;
        if !self.patch.is_multiple_of(cells) {
            let why = format!("must divide `patch` ({}): 1, 2 and 4 usually do", self.patch);
            return Err(bad("pooling.cells", cells, why));
        }
        let (grid_rows, grid_cols) = self.grid();
        within("pooling.rows", rows, 1, grid_rows * cells)?;
        within("pooling.cols", cols, 1, grid_cols * cells)?;
        if matches!(self.pooling, Pooling::Cells { .. }) {
            let want = rows * cols * cells::REGION_NUMBERS;
            if self.embed_dim != want {
                let why = format!("{rows}x{cols} regions of cells give {want} numbers");
                return Err(bad("embed_dim", self.embed_dim, why));
            }
        } else if !self.embed_dim.is_multiple_of(rows * cols) {
            let why = format!("must be a multiple of the {} pooling regions", rows * cols);
            return Err(bad("embed_dim", self.embed_dim, why));
        }
        Ok(())
    }
}

impl Decoder {
    fn validate(&self) -> Result<(), ConfigError> {
        within("decoder.dim", self.dim, 1, MAX_WIDTH)?;
        within("decoder.depth", self.depth, 1, MAX_DEPTH)?;
        within("decoder.heads", self.heads, 1, MAX_WIDTH)?;
        within("decoder.dim_head", self.dim_head, 1, MAX_WIDTH)?;
        within("decoder.heads * dim_head", self.inner(), 1, MAX_WIDTH)?;
        within("decoder.mlp", self.mlp, 1, 4 * MAX_WIDTH)
    }
}
