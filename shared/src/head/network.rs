//! The three networks a head can be, as candle tensors on the CPU.

use std::collections::BTreeMap;

use candle_core::{Device, Result as CandleResult, Tensor};

use super::error::LoadError;
use super::file::Raw;
use super::limits;
use super::manifest::{Grid, Kind, Manifest, Response, Tokens};

/// A head's network, every tensor checked.
#[derive(Debug)]
pub(super) enum Network {
    Linear(Norm, Layer),
    Mlp(Norm, Layer, Layer),
    Tokens(TokenSum),
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
            Kind::Linear => {
                let norm = tensors.norm("norm.mean", "norm.std", &[1, dim], &[dim])?;
                Ok(Self::Linear(norm, tensors.layer("weight", "bias", out, dim)?))
            }
            Kind::Mlp => {
                let norm = tensors.norm("norm.mean", "norm.std", &[1, dim], &[dim])?;
                let hidden = tensors.hidden("fc1.weight", dim)?;
                let fc1 = tensors.layer("fc1.weight", "fc1.bias", hidden, dim)?;
                Ok(Self::Mlp(norm, fc1, tensors.layer("fc2.weight", "fc2.bias", out, hidden)?))
            }
            Kind::Tokens(options) => {
                let grid = manifest.input.grid.expect("Manifest::validate gives every token head a grid");
                Ok(Self::Tokens(TokenSum::take(options, grid, out, tensors)?))
            }
        }
    }

    /// The network's `O` numbers for an input of [`input_shape`](Self::input_shape).
    pub(super) fn forward(&self, input: &[f32]) -> CandleResult<Vec<f32>> {
        let x = Tensor::from_slice(input, self.input_shape(), &Device::Cpu)?;
        let y = match self {
            Self::Linear(norm, layer) => layer.forward(&norm.forward(&x)?)?,
            Self::Mlp(norm, fc1, fc2) => fc2.forward(&fc1.forward(&norm.forward(&x)?)?.gelu_erf()?)?,
            Self::Tokens(sum) => sum.forward(&x)?,
        };
        y.flatten_all()?.to_vec1()
    }

    /// `[1, D]`, or `[T, L]` for the token head.
    pub(super) fn input_shape(&self) -> (usize, usize) {
        match self {
            Self::Linear(norm, _) | Self::Mlp(norm, ..) => (1, norm.mean.elem_count()),
            Self::Tokens(sum) => (sum.grid.tokens(), sum.grid.dim as usize),
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
        let hidden = tensors.hidden("token.fc1.weight", features)?;
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

/// The tensors of a file that have not been claimed yet.
pub(super) struct TensorSet<'a> {
    head: &'a str,
    tensors: BTreeMap<String, Raw>,
}

impl<'a> TensorSet<'a> {
    pub(super) fn new(head: &'a str, tensors: BTreeMap<String, Raw>) -> Self {
        Self { head, tensors }
    }

    /// Takes a tensor of exactly this shape with finite numbers.
    pub(super) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let raw = self
            .tensors
            .remove(name)
            .ok_or_else(|| self.wrong(name, "missing".to_owned(), format!("shape {shape:?}")))?;
        if raw.shape != shape {
            return Err(self.wrong(name, format!("of shape {:?}", raw.shape), format!("shape {shape:?}")));
        }
        match raw.values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                Err(self.wrong(name, format!("{} at position {at}", raw.values[at]), "finite numbers".into()))
            }
            None => Ok(raw.values),
        }
    }

    /// Numbers in the tensors that nobody claimed yet.
    pub(super) fn len(&self) -> usize {
        self.tensors.values().map(|raw| raw.values.len()).sum()
    }

    /// Refuses whatever nobody claimed.
    pub(super) fn finish(self) -> Result<(), LoadError> {
        match self.tensors.first_key_value() {
            Some((name, raw)) => Err(self.wrong(
                name,
                format!("unexpected (shape {:?})", raw.shape),
                "no such tensor in a head of this kind".into(),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, tensor: &str, got: String, want: String) -> LoadError {
        let tensor = tensor.chars().take(80).collect();
        LoadError::Tensor { head: self.head.to_owned(), tensor, got, want }
    }

    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor, LoadError> {
        Tensor::from_vec(values, shape, &Device::Cpu)
            .map_err(|source| LoadError::Compute { head: self.head.to_owned(), source })
    }

    /// The hidden width: the first dimension of `name`, whose second must be `input`.
    fn hidden(&self, name: &str, input: usize) -> Result<usize, LoadError> {
        let want = format!("shape [1..={}, {input}]", limits::MAX_DIM);
        let Some(raw) = self.tensors.get(name) else {
            return Err(self.wrong(name, "missing".to_owned(), want));
        };
        match raw.shape[..] {
            [hidden, got] if got == input && (1..=limits::MAX_DIM as usize).contains(&hidden) => Ok(hidden),
            _ => Err(self.wrong(name, format!("of shape {:?}", raw.shape), want)),
        }
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
        let stds = self.values(std, stored)?;
        if let Some(at) = stds.iter().position(|s| *s <= 0.0) {
            return Err(self.wrong(std, format!("{} at position {at}", stds[at]), "positive numbers".into()));
        }
        let inverse: Vec<f32> = stds.iter().map(|s| 1.0 / s).collect();
        if let Some(at) = inverse.iter().position(|s| !s.is_finite()) {
            return Err(self.wrong(std, format!("{} at position {at}", stds[at]), "normal numbers".into()));
        }
        Ok(Norm { mean: self.tensor(means, shape)?, inverse_std: self.tensor(inverse, shape)? })
    }
}
