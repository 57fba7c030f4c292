//! Training the token head: one small network's response, summed over the latent-token grid.
//!
//! ```text
//! departures ─► directions + size ─► fc1 ─► gelu ─► fc2 ─► softplus ─► × weight of the row ─► Σ ─► + bias
//! ```
//! A count is a sum over places, and the same thing far away covers fewer pixels: the response is shared by all
//! tokens and not negative, and what changes over the rows is one smooth weight, `exp(b·u + c·u²)` with `u` from −1 at
//! the top to 1 at the bottom.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result as CandleResult, Tensor, Var};
use shared::head::{Grid, Response, TensorData};

use super::background::{Background, Directions};
use super::network::{Dense, Network, Recipe, Scale, rng, sum_tokens};
use super::target::Target;

/// A token's response before training; the sum over tokens is scaled to give the mean label there.
const START: f64 = 0.2;

/// How a token head is made.
#[derive(Debug, Clone)]
pub struct TokenRecipe {
    /// Features of the labelled rows, `[n, tokens, features]`.
    pub features: Tensor,
    /// The grid.
    pub grid: Grid,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// What the labels mean.
    pub target: Target,
}

/// A token head in training.
#[derive(Debug)]
pub struct TokenNet {
    /// `[hidden, features]`, the last feature being 1.
    fc1: Var,
    fc2: Dense,
    /// `[2, 1]`: b and c of the row weight.
    slope: Var,
    /// `[1, width]`
    bias: Var,
    /// `[rows, 2]`: u and u² of each row.
    heights: Tensor,
    grid: Grid,
    response: Response,
    /// The label that the starting responses sum to, in standardised labels per summed response.
    gain: f64,
    /// Added so that the network starts at the constant answer.
    offset: f64,
}

impl TokenNet {
    /// Weight of each row of the grid, `[rows, 1]`.
    fn row_weight(&self) -> CandleResult<Tensor> {
        self.heights.matmul(self.slope.as_tensor())?.exp()
    }
}

impl Network for TokenNet {
    fn variables(&self) -> Vec<Var> {
        [&self.slope, &self.bias, &self.fc1, &self.fc2.weight, &self.fc2.bias].map(Var::clone).to_vec()
    }

    fn forward(&self, input: &Tensor) -> CandleResult<Tensor> {
        let (n, tokens, features) = input.dims3()?;
        let flat = input.reshape((n * tokens, features))?;
        let answers = self.fc2.forward(&flat.matmul(&self.fc1.t()?)?.gelu_erf()?)?;
        let answers = respond(&answers, self.response)?;
        let (rows, cols) = (self.grid.rows as usize, self.grid.cols as usize);
        let width = answers.dim(1)?;
        let by_row = answers.reshape((n, rows, cols, width))?.sum(2)?;
        let weighted = by_row.broadcast_mul(&self.row_weight()?)?;
        ((sum_tokens(&weighted)? * self.gain)? + self.offset)?.broadcast_add(self.bias.as_tensor())
    }
}

/// A response to `x`, as a head file computes it.
fn respond(x: &Tensor, response: Response) -> CandleResult<Tensor> {
    match response {
        Response::Identity => Ok(x.clone()),
        Response::Relu => x.relu(),
        // max(0, x) + ln(1 + e^−|x|): never overflows.
        Response::Softplus => x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?,
    }
}

impl Recipe for TokenRecipe {
    type Net = TokenNet;

    fn network(&self, scale: &Scale, seed: u64) -> CandleResult<TokenNet> {
        let mut rng = rng(seed);
        let (_, tokens, features) = self.features.dims3()?;
        let width = self.target.width();
        let fc1 = Dense::new(self.hidden, features, &mut rng)?.weight;
        let fc2 = Dense::zeros(width, self.hidden)?;
        let response = match self.target {
            Target::Scalar { min: Some(_) } => Response::Softplus,
            Target::Scalar { min: None } | Target::Circular { .. } | Target::Class { .. } => {
                Response::Identity
            }
        };
        let (gain, offset) = match response {
            Response::Softplus => {
                // softplus(x) = START, and START · tokens · gain · spread = the mean label.
                let start = START.exp_m1().ln() as f32;
                fc2.bias.set(&Tensor::full(start, width, &Device::Cpu)?)?;
                let floor = scale.centre[0].max(0.1 * scale.spread) / scale.spread;
                (floor / (START * tokens as f64), -floor)
            }
            Response::Identity | Response::Relu => (1.0 / (tokens as f64).sqrt(), 0.0),
        };
        let rows = self.grid.rows;
        let heights: Vec<f32> = (0..rows)
            .map(|row| (2.0 * row as f32 + 1.0) / rows as f32 - 1.0)
            .flat_map(|u| [u, u * u])
            .collect();
        Ok(TokenNet {
            fc1,
            fc2,
            slope: Var::zeros((2, 1), DType::F32, &Device::Cpu)?,
            bias: Var::zeros((1, width), DType::F32, &Device::Cpu)?,
            heights: Tensor::from_vec(heights, (rows as usize, 2), &Device::Cpu)?,
            grid: self.grid,
            response,
            gain,
            offset,
        })
    }

    fn inputs(&self, _: &[usize], rows: &[usize]) -> CandleResult<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|r| u32::try_from(*r).unwrap_or(u32::MAX)).collect();
        let count = rows.len();
        self.features.index_select(&Tensor::from_vec(rows, count, &Device::Cpu)?, 0)
    }
}

impl TokenNet {
    /// The response the head file names.
    pub fn response(&self) -> Response {
        self.response
    }

    /// The head file's tensors: the network written out over all numbers of a token, in the labels' unit.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn tensors(
        &self,
        scale: &Scale,
        background: &Background,
        directions: &Directions,
    ) -> CandleResult<BTreeMap<String, TensorData>> {
        let hidden = self.fc1.dim(0)?;
        let dim = directions.matrix.len() / directions.count;
        let matrix = Tensor::from_slice(&directions.matrix, (dim, directions.count), &Device::Cpu)?;
        let along = self.fc1.narrow(1, 0, directions.count)?.matmul(&matrix.t()?)?;
        let size = self.fc1.narrow(1, directions.count, 1)?;
        let fc1 = Tensor::cat(&[along, size], 1)?;
        let width = self.fc2.weight.dim(0)?;
        let row_weight = (self.row_weight()? * (self.gain * scale.spread))?;
        let centre: Vec<f32> = scale.centre[..width].iter().map(|c| *c as f32).collect();
        let bias = ((self.bias.as_tensor() + self.offset)? * scale.spread)?;
        let bias = (bias + Tensor::from_vec(centre, (1, width), &Device::Cpu)?)?;
        let (rows, tokens) = (self.grid.rows as usize, self.grid.tokens());
        let list: [(&str, Vec<usize>, Tensor); 6] = [
            ("token.fc1.weight", vec![hidden, dim + 1], fc1),
            ("token.fc1.bias", vec![hidden], self.fc1.narrow(1, directions.count + 1, 1)?),
            ("token.fc2.weight", vec![width, hidden], self.fc2.weight.as_tensor().clone()),
            ("token.fc2.bias", vec![width], self.fc2.bias.as_tensor().clone()),
            ("token.row_weight", vec![rows], row_weight),
            ("token.bias", vec![width], bias),
        ];
        let mut tensors = BTreeMap::new();
        for (name, shape, tensor) in list {
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            tensors.insert(name.to_owned(), TensorData::f32(&shape, &values));
        }
        let background_shape = [tokens, dim];
        tensors.insert("token.mean".into(), TensorData::f16(&background_shape, &background.mean));
        tensors.insert("token.std".into(), TensorData::f16(&background_shape, &background.std));
        Ok(tensors)
    }
}
