//! What a head computes: small networks as candle tensors on the CPU, the others as plain loops.

use candle_core::{Device, Result as CandleResult, Tensor};

use super::departures::Departures;
use super::error::LoadError;
use super::kernel::Kernel;
use super::limits;
use super::linear::Linear;
use super::manifest::{Grid, Kind, Manifest, Response, Tokens};
use super::tensors::TensorSet;
use super::trees::Forest;

/// A head's network, every tensor checked.
#[derive(Debug)]
pub(super) enum Network {
    Linear(Linear),
    Mlp(Norm, Layer, Layer),
    Tokens(TokenSum),
    Trees(Forest),
    Departures(Departures),
    Kernel(Kernel),
}

/// `(x − mean) / std`, with `mean` and `1 / std` of shape `[1, D]` or `[T, L]`.
#[derive(Debug)]
pub(super) struct Norm {
    mean: Tensor,
    inverse_std: Tensor,
}

/// `x · weight + bias`, with `weight [in, out]` and `bias [1, out]`.
#[derive(Debug)]
pub(super) struct Layer {
    weight: Tensor,
    bias: Tensor,
}

/// See [`Tokens`] for the formula.
#[derive(Debug)]
pub(super) struct TokenSum {
    options: Tokens,
    grid: Grid,
    background: Option<Norm>,
    fc1: Layer,
    fc2: Layer,
    /// `[T, 1]`: the row's weight repeated over its columns.
    weight: Tensor,
    /// `[1, O]`
    bias: Tensor,
}

impl Network {
    /// Takes the network's tensors out of `tensors`, checking each.
    pub(super) fn take(manifest: &Manifest, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        let dim = manifest.input.dim as usize;
        let out = manifest.output.kind.width();
        match manifest.kind {
            Kind::Linear => Ok(Self::Linear(Linear::take(dim, out, tensors)?)),
            Kind::Mlp => {
                let norm = tensors.norm("norm.mean", "norm.std", &[1, dim], &[dim])?;
                let hidden = tensors.rows("fc1.weight", limits::MAX_DIM, &[dim])?;
                let fc1 = tensors.layer("fc1.weight", "fc1.bias", hidden, dim)?;
                Ok(Self::Mlp(norm, fc1, tensors.layer("fc2.weight", "fc2.bias", out, hidden)?))
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
    pub(super) fn forward(&self, input: &[f32]) -> CandleResult<Vec<f32>> {
        let y = match self {
            Self::Linear(linear) => return Ok(linear.forward(input)),
            Self::Mlp(norm, fc1, fc2) => {
                let row = Tensor::from_slice(input, (1, input.len()), &Device::Cpu)?;
                fc2.forward(&fc1.forward(&norm.forward(&row)?)?.gelu_erf()?)?
            }
            Self::Tokens(sum) => {
                let shape = (sum.grid.tokens(), sum.grid.dim as usize);
                sum.forward(&Tensor::from_slice(input, shape, &Device::Cpu)?)?
            }
            Self::Trees(forest) => return Ok(forest.forward(input)),
            Self::Departures(departures) => return Ok(departures.forward(input)),
            Self::Kernel(kernel) => return Ok(kernel.forward(input).0),
        };
        y.flatten_all()?.to_vec1()
    }

    /// What the interval's offsets are times of: 1, or what a kernel head says of the frame.
    pub(super) fn deviation(&self, input: &[f32]) -> f64 {
        match self {
            Self::Kernel(kernel) => f64::from(kernel.forward(input).1),
            _ => 1.0,
        }
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        (x - &self.mean)? * &self.inverse_std
    }
}

impl Layer {
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl TokenSum {
    fn take(options: Tokens, grid: Grid, out: usize, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        let (count, dim, rows) = (grid.tokens(), grid.dim as usize, grid.rows as usize);
        let background = match options.background {
            true => Some(tensors.norm("token.mean", "token.std", &[count, dim], &[count, dim])?),
            false => None,
        };
        let features = dim + usize::from(options.departure);
        let hidden = tensors.rows("token.fc1.weight", limits::MAX_DIM, &[features])?;
        let fc1 = tensors.layer("token.fc1.weight", "token.fc1.bias", hidden, features)?;
        let fc2 = tensors.layer("token.fc2.weight", "token.fc2.bias", out, hidden)?;
        let row_weight = tensors.values("token.row_weight", &[rows])?;
        let per_token: Vec<f32> =
            row_weight.iter().flat_map(|w| std::iter::repeat_n(*w, grid.cols as usize)).collect();
        let weight = tensors.tensor(per_token, &[count, 1])?;
        let bias = tensors.values("token.bias", &[out])?;
        let bias = tensors.tensor(bias, &[1, out])?;
        Ok(Self { options, grid, background, fc1, fc2, weight, bias })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let normalised = self.background.as_ref().map(|norm| norm.forward(x)).transpose()?;
        let x = normalised.as_ref().unwrap_or(x);
        let hidden = match self.options.departure {
            true => self.fc1.forward(&append_rms(x)?)?,
            false => self.fc1.forward(x)?,
        };
        let answers = respond(&self.fc2.forward(&hidden.gelu_erf()?)?, self.options.response)?;
        answers.broadcast_mul(&self.weight)?.sum_keepdim(0)? + &self.bias
    }
}

/// Appends the root mean square of the last dimension: `[…, L]` to `[…, L + 1]`.
///
/// # Errors
/// The tensor library's.
pub fn append_rms(x: &Tensor) -> CandleResult<Tensor> {
    let last = x.rank() - 1;
    Tensor::cat(&[x, &x.sqr()?.mean_keepdim(last)?.sqrt()?], last)
}

/// Applies a token head's response, the same when training and when serving.
///
/// # Errors
/// The tensor library's.
pub fn respond(x: &Tensor, response: Response) -> CandleResult<Tensor> {
    match response {
        Response::Identity => Ok(x.clone()),
        Response::Relu => x.relu(),
        // max(0, x) + ln(1 + e^−|x|): never overflows.
        Response::Softplus => x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?,
    }
}

impl TensorSet<'_> {
    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor, LoadError> {
        Tensor::from_vec(values, shape, &Device::Cpu)
            .map_err(|source| LoadError::Compute { head: self.head().to_owned(), source })
    }

    fn layer(&mut self, weight: &str, bias: &str, out: usize, input: usize) -> Result<Layer, LoadError> {
        let values = self.values(weight, &[out, input])?;
        let bias = self.values(bias, &[out])?;
        // Stored [out, in]; transposed once here, so that the product reads it in order.
        let mut transposed = vec![0.0; values.len()];
        for (o, row) in values.chunks_exact(input).enumerate() {
            for (i, value) in row.iter().enumerate() {
                transposed[i * out + o] = *value;
            }
        }
        Ok(Layer { weight: self.tensor(transposed, &[input, out])?, bias: self.tensor(bias, &[1, out])? })
    }

    fn norm(&mut self, mean: &str, std: &str, shape: &[usize], stored: &[usize]) -> Result<Norm, LoadError> {
        let means = self.values(mean, stored)?;
        let inverse = self.inverse(std, stored)?;
        Ok(Norm { mean: self.tensor(means, shape)?, inverse_std: self.tensor(inverse, shape)? })
    }
}
