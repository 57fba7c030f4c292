//! Least squares for many outputs at once, from sums over frames: memory does not grow with the number of frames.
//!
//! `W = (XᵀX + λ·mean(diag) ·I)⁻¹ XᵀY` with a column of ones appended to `X` for the bias, in f64 throughout: the sums
//! cancel, and hidden tokens of a trained encoder are far from independent.

use candle_core::{DType, Device, Result, Tensor};

/// Added to the diagonal as a share of its mean: enough for directions that no token uses, too little to see elsewhere.
const RIDGE: f64 = 1e-6;

/// Sums over rows: `XᵀX [inputs + 1, inputs + 1]` and `XᵀY [inputs + 1, outputs]`, row-major.
#[derive(Debug, Clone)]
pub struct Equations {
    moments: Tensor,
    products: Tensor,
}

/// A readout `y = x · weightᵀ + bias`.
#[derive(Debug, Clone)]
pub struct Readout {
    /// `[outputs, inputs]`, f32 on the CPU.
    pub weight: Tensor,
    /// `[outputs]`, f32 on the CPU.
    pub bias: Tensor,
}

impl Equations {
    /// No rows yet.
    ///
    /// # Errors
    /// No memory.
    pub fn new(inputs: usize, outputs: usize) -> Result<Self> {
        let zeros = |width| Tensor::zeros((inputs + 1, width), DType::F64, &Device::Cpu);
        Ok(Self { moments: zeros(inputs + 1)?, products: zeros(outputs)? })
    }

    /// Adds rows `x [n, inputs]` and `y [n, outputs]`.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<()> {
        let wide = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let x = wide(x)?;
        let x = Tensor::cat(&[&x, &Tensor::ones((x.dim(0)?, 1), DType::F64, &Device::Cpu)?], 1)?;
        let transposed = x.t()?;
        self.moments = (&self.moments + transposed.matmul(&x)?)?;
        self.products = (&self.products + transposed.matmul(&wide(y)?)?)?;
        Ok(())
    }

    /// Adds the rows of another set.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.moments = (&self.moments + &other.moments)?;
        self.products = (&self.products + &other.products)?;
        Ok(())
    }

    /// The readout of least squared error.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn solve(&self) -> Result<Readout> {
        let n = self.moments.dim(0)?;
        let mut moments: Vec<f64> = self.moments.flatten_all()?.to_vec1()?;
        let mean = (0..n).map(|i| moments[i * n + i]).sum::<f64>() / n as f64;
        let ridge = (RIDGE * mean).max(f64::MIN_POSITIVE);
        (0..n).for_each(|i| moments[i * n + i] += ridge);
        cholesky(&mut moments, n);
        let columns: Vec<Vec<f64>> = self.products.t()?.to_vec2()?;
        let solved: Vec<Vec<f64>> = columns.into_iter().map(|column| substitute(&moments, column)).collect();
        let outputs = solved.len();
        let weight = solved.iter().flat_map(|w| w[..n - 1].iter().map(|v| *v as f32)).collect();
        let bias = solved.iter().map(|w| w[n - 1] as f32).collect();
        Ok(Readout {
            weight: Tensor::from_vec::<_, f32>(weight, (outputs, n - 1), &Device::Cpu)?,
            bias: Tensor::from_vec::<_, f32>(bias, outputs, &Device::Cpu)?,
        })
    }
}

/// Replaces the lower triangle of a positive definite `[n, n]` matrix by its Cholesky factor.
fn cholesky(a: &mut [f64], n: usize) {
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        for j in 0..=i {
            let other: &[f64] = if j < i { &above[j * n..j * n + j] } else { &[] };
            let dot: f64 = if j < i {
                row[..j].iter().zip(other).map(|(x, y)| x * y).sum()
            } else {
                row[..i].iter().map(|x| x * x).sum()
            };
            row[j] = if j < i {
                (row[j] - dot) / above[j * n + j]
            } else {
                // The ridge keeps this above zero but for rounding, which must not become a NaN.
                (row[i] - dot).max(f64::MIN_POSITIVE).sqrt()
            };
        }
    }
}

/// Solves `L Lᵀ x = b` for a lower factor `L [n, n]`.
fn substitute(l: &[f64], mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let dot: f64 = l[i * n..i * n + i].iter().zip(&b).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - dot) / l[i * n + i];
    }
    for i in (0..n).rev() {
        b[i] /= l[i * n + i];
        let (done, value) = (&l[i * n..i * n + i], b[i]);
        b[..i].iter_mut().zip(done).for_each(|(x, y)| *x -= y * value);
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_relation_is_found_from_batches() {
        // y = [2 a - b + 3, b - 1], rows split over two sets.
        let x: Vec<f32> = (0..40).map(|i| ((i * 7919) % 31) as f32 / 31.0).collect();
        let y: Vec<f32> = x.chunks(2).flat_map(|r| [2.0 * r[0] - r[1] + 3.0, r[1] - 1.0]).collect();
        let rows = |v: &[f32]| Tensor::from_slice(v, (10, 2), &Device::Cpu).unwrap();
        let mut all = Equations::new(2, 2).unwrap();
        all.add(&rows(&x[..20]), &rows(&y[..20])).unwrap();
        let mut more = Equations::new(2, 2).unwrap();
        more.add(&rows(&x[20..]), &rows(&y[20..])).unwrap();
        all.merge(&more).unwrap();
        let readout = all.solve().unwrap();
        let weight: Vec<f32> = readout.weight.flatten_all().unwrap().to_vec1().unwrap();
        let bias: Vec<f32> = readout.bias.to_vec1().unwrap();
        let close = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-4);
        assert!(close(&weight, &[2.0, -1.0, 0.0, 1.0]), "{weight:?}");
        assert!(close(&bias, &[3.0, -1.0]), "{bias:?}");
    }

    #[test]
    fn an_input_that_never_changes_is_no_failure() {
        let x = Tensor::zeros((5, 3), DType::F32, &Device::Cpu).unwrap();
        let y = Tensor::full(2f32, (5, 1), &Device::Cpu).unwrap();
        let mut equations = Equations::new(3, 1).unwrap();
        equations.add(&x, &y).unwrap();
        let readout = equations.solve().unwrap();
        assert!((readout.bias.to_vec1::<f32>().unwrap()[0] - 2.0).abs() < 1e-4);
        assert!(
            readout.weight.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|w| w.abs() < 1e-3)
        );
    }
}
