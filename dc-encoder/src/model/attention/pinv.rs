//! The iterative pseudo-inverse of Nyström attention.

use candle_core::{D, Result, Tensor};

/// Moore-Penrose inverse of each matrix of `[.., m, m]` by `iterations` steps of
/// `z ← z (13 I - a z (15 I - a z (7 I - a z))) / 4` (Razavi et al., 2014; Xiong et al., 2021, eq. 11).
///
/// The start `aᵀ / (R C)` divides by the largest row and column sums of `|a|` **of that matrix**. A maximum over the
/// whole batch, as one package in wide use takes, would make an image's result depend on its neighbours.
pub fn pinv(a: &Tensor, iterations: usize) -> Result<Tensor> {
    let size = a.abs()?;
    let rows = size.sum_keepdim(D::Minus1)?.max_keepdim(D::Minus2)?;
    let columns = size.sum_keepdim(D::Minus2)?.max_keepdim(D::Minus1)?;
    let start = a.t()?.contiguous()?.broadcast_div(&rows.mul(&columns)?)?;
    iterate(a, start, iterations)
}

fn iterate(a: &Tensor, start: Tensor, iterations: usize) -> Result<Tensor> {
    let eye = Tensor::eye(a.dim(D::Minus1)?, a.dtype(), a.device())?;
    let (seven, fifteen, thirteen) = ((&eye * 7.0)?, (&eye * 15.0)?, (&eye * 13.0)?);
    let mut z = start;
    for _ in 0..iterations {
        let az = a.matmul(&z)?;
        let inner = seven.broadcast_sub(&az)?;
        let inner = fifteen.broadcast_sub(&az.matmul(&inner)?)?;
        let inner = thirteen.broadcast_sub(&az.matmul(&inner)?)?;
        z = (z.matmul(&inner)? * 0.25)?;
    }
    Ok(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn inverts_a_matrix_of_each_scale_on_its_own() {
        let one = Tensor::new(&[[0.9f32, 0.1], [0.2, 0.8]], &Device::Cpu).unwrap();
        let both = Tensor::stack(&[&one, &(&one * 1000.0).unwrap()], 0).unwrap();
        let unit = both.matmul(&pinv(&both, 8).unwrap()).unwrap();
        for i in 0..2 {
            let unit = unit.get(i).unwrap().to_vec2::<f32>().unwrap();
            for (r, row) in unit.iter().enumerate() {
                for (c, value) in row.iter().enumerate() {
                    assert!((value - f32::from(u8::from(r == c))).abs() < 1e-4, "{unit:?}");
                }
            }
        }
    }
}
