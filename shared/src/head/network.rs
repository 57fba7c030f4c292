//! What a head computes, as plain loops.

use super::dense::{FUNCTION_FLOPS, Layer, Norm, gelu};
use super::departures::Departures;
use super::error::LoadError;
use super::kernel::Kernel;
use super::limits;
use super::manifest::{Grid, Kind, Manifest, Response, Tokens};
use super::tensors::TensorSet;
use super::trees::Forest;

/// A head's network, every tensor checked.
#[derive(Debug)]
pub(super) enum Network {
    Linear(Norm, Layer),
    Mlp(Norm, Layer, Layer),
    Tokens(TokenSum),
    Trees(Forest),
    Departures(Departures),
    Kernel(Kernel),
}

/// See [`Tokens`] for the formula.
#[derive(Debug)]
pub(super) struct TokenSum {
    options: Tokens,
    grid: Grid,
    background: Option<Norm>,
    fc1: Layer,
    fc2: Layer,
    /// One for each row of the grid.
    row_weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Network {
    /// Takes the network's tensors out of `tensors`, checking each.
    pub(super) fn take(manifest: &Manifest, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        let dim = manifest.input.dim as usize;
        let out = manifest.output.kind.width();
        match manifest.kind {
            Kind::Linear => {
                let norm = Norm::take(("norm.mean", "norm.std"), &[dim], tensors)?;
                Ok(Self::Linear(norm, Layer::take(("weight", "bias"), (out, dim), tensors)?))
            }
            Kind::Mlp => {
                let norm = Norm::take(("norm.mean", "norm.std"), &[dim], tensors)?;
                let hidden = tensors.rows("fc1.weight", limits::MAX_DIM, &[dim])?;
                let fc1 = Layer::take(("fc1.weight", "fc1.bias"), (hidden, dim), tensors)?;
                let fc2 = Layer::take(("fc2.weight", "fc2.bias"), (out, hidden), tensors)?;
                Ok(Self::Mlp(norm, fc1, fc2))
            }
            Kind::Tokens(options) => {
                let grid = manifest.input.grid.expect("Manifest::validate gives every token head a grid");
                Ok(Self::Tokens(TokenSum::take(options, grid, out, tensors)?))
            }
            Kind::Trees(options) => Ok(Self::Trees(Forest::take(options, &manifest.input, out, tensors)?)),
            Kind::Departures => {
                let grid =
                    manifest.input.grid.expect("Manifest::validate gives every departures head a grid");
                Ok(Self::Departures(Departures::take(grid, tensors)?))
            }
            Kind::Kernel(likeness) => {
                Ok(Self::Kernel(Kernel::take(likeness, &manifest.input, out, tensors)?))
            }
        }
    }

    /// The network's `O` numbers for an input of the manifest's shape: an embedding, or latent tokens.
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        match self {
            Self::Linear(norm, layer) => layer.forward(&norm.forward(input)).collect(),
            Self::Mlp(norm, fc1, fc2) => {
                let hidden: Vec<f32> = fc1.forward(&norm.forward(input)).map(gelu).collect();
                fc2.forward(&hidden).collect()
            }
            Self::Tokens(sum) => sum.forward(input),
            Self::Trees(forest) => forest.forward(input),
            Self::Departures(departures) => departures.forward(input),
            Self::Kernel(kernel) => kernel.forward(input).0,
        }
    }

    /// Operations of one answer, at most: additions, multiplications and comparisons count as one each, functions as
    /// [`FUNCTION_FLOPS`].
    pub(super) fn flops(&self) -> u64 {
        match self {
            Self::Linear(norm, layer) => norm.flops() + layer.flops(),
            Self::Mlp(norm, fc1, fc2) => {
                norm.flops() + fc1.flops() + fc1.outputs() * FUNCTION_FLOPS + fc2.flops()
            }
            Self::Tokens(sum) => sum.flops(),
            Self::Trees(forest) => forest.flops(),
            Self::Departures(departures) => departures.flops(),
            // Once for the outputs, once for the deviation.
            Self::Kernel(kernel) => 2 * kernel.flops(),
        }
    }

    /// What the interval's offsets are times of: 1, or what a kernel head says of the frame.
    pub(super) fn deviation(&self, input: &[f32]) -> f64 {
        match self {
            Self::Kernel(kernel) => f64::from(kernel.forward(input).1),
            _ => 1.0,
        }
    }
}

impl TokenSum {
    fn take(options: Tokens, grid: Grid, out: usize, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        let (dim, rows) = (grid.dim as usize, grid.rows as usize);
        let background = match options.background {
            true => Some(Norm::take(("token.mean", "token.std"), &[grid.tokens(), dim], tensors)?),
            false => None,
        };
        let features = dim + usize::from(options.departure);
        let hidden = tensors.rows("token.fc1.weight", limits::MAX_DIM, &[features])?;
        let fc1 = Layer::take(("token.fc1.weight", "token.fc1.bias"), (hidden, features), tensors)?;
        let fc2 = Layer::take(("token.fc2.weight", "token.fc2.bias"), (out, hidden), tensors)?;
        let row_weight = tensors.values("token.row_weight", &[rows])?;
        let bias = tensors.values("token.bias", &[out])?;
        Ok(Self { options, grid, background, fc1, fc2, row_weight, bias })
    }

    /// Operations of one [`forward`](Self::forward).
    fn flops(&self) -> u64 {
        let departure =
            if self.options.departure { 2 * u64::from(self.grid.dim) + FUNCTION_FLOPS } else { 0 };
        let response = match self.options.response {
            Response::Identity => 0,
            Response::Relu => 1,
            Response::Softplus => 2 * FUNCTION_FLOPS,
        };
        let Self { fc1, fc2, .. } = self;
        let token = departure
            + fc1.flops()
            + fc1.outputs() * FUNCTION_FLOPS
            + fc2.flops()
            + fc2.outputs() * (response + 2);
        self.background.as_ref().map_or(0, Norm::flops) + self.grid.tokens() as u64 * token
    }

    /// The sum of the tokens' answers, each by its row's weight, for tokens `[T, L]`.
    fn forward(&self, tokens: &[f32]) -> Vec<f32> {
        let normalised = self.background.as_ref().map(|norm| norm.forward(tokens));
        let tokens = normalised.as_deref().unwrap_or(tokens);
        let (mut row, mut hidden) = (Vec::new(), Vec::new());
        let mut sums = self.bias.clone();
        for (at, token) in tokens.chunks_exact(self.grid.dim as usize).enumerate() {
            row.clear();
            row.extend_from_slice(token);
            if self.options.departure {
                row.push(rms(token));
            }
            hidden.clear();
            hidden.extend(self.fc1.forward(&row).map(gelu));
            let weight = self.row_weight[at / self.grid.cols as usize];
            for (sum, answer) in sums.iter_mut().zip(self.fc2.forward(&hidden)) {
                *sum += weight * respond(answer, self.options.response);
            }
        }
        sums
    }
}

/// Root mean square.
fn rms(values: &[f32]) -> f32 {
    (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
}

fn respond(x: f32, response: Response) -> f32 {
    match response {
        Response::Identity => x,
        // Not `max`, which would turn NaN into 0.
        Response::Relu if x < 0.0 => 0.0,
        Response::Relu => x,
        // max(0, x) + ln(1 + e^−|x|): never overflows.
        Response::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}
