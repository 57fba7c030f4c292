//! Embeddings and latent tokens: numbers to wire bytes and back.
//!
//! ```text
//! encoder ─► &[f32] [rows, dim] ─► to_wire ══ WireTensor ══► from_wire ─► Vec<f32> [rows, dim] ─► heads
//! ```
//! | encoding | bytes a value | error |
//! |---|---|---|
//! | f32 | 4 | none |
//! | f16 | 2 | relative 2⁻¹¹ from 2⁻¹⁴ (6.1e-5) to 65504, absolute 2⁻²⁵ below |
//! | int8 | 1, and 4 a row | absolute, half the row's scale `max|x| / 127` |

use half::f16;
use protocol::{CodecError, Encoding, WireTensor};

/// Why numbers cannot travel, or a tensor from the wire is not what was expected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum EmbeddingError {
    /// The number of values is not `rows × dim`.
    #[error("{got} values, [{rows}, {dim}] needs {want}")]
    Count { got: usize, rows: u32, dim: u32, want: u64 },
    /// The tensor has another shape.
    #[error("a tensor of shape [{got_rows}, {got_dim}] arrived, [{rows}, {dim}] was expected")]
    Shape { got_rows: u32, got_dim: u32, rows: u32, dim: u32 },
    /// A value is infinite or not a number: the encoder is broken, or the bytes are.
    #[error("value {index} is {value}: an embedding is finite")]
    NotFinite { index: usize, value: f32 },
    /// A value is beyond what f16 can hold.
    #[error("value {index} is {value}: f16 ends at 65504; ask for f32 or int8")]
    BeyondF16 { index: usize, value: f32 },
    /// The tensor contradicts itself or exceeds a limit.
    #[error(transparent)]
    Tensor(#[from] CodecError),
}

/// Puts `values`, a matrix `[rows, dim]` row after row, into wire bytes.
///
/// # Errors
/// [`EmbeddingError`] if the count is not `rows × dim`, a value is infinite, not a number or beyond the
/// encoding, or the shape exceeds the wire's limits.
pub fn to_wire(
    values: &[f32],
    rows: u32,
    dim: u32,
    encoding: Encoding,
) -> Result<WireTensor, EmbeddingError> {
    let want = u64::from(rows) * u64::from(dim);
    if values.len() as u64 != want {
        return Err(EmbeddingError::Count { got: values.len(), rows, dim, want });
    }
    check_finite(values)?;
    let (scales, data) = match encoding {
        Encoding::F32 => (Vec::new(), values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Encoding::F16 => (Vec::new(), to_f16(values)?),
        Encoding::Int8 => to_int8(values, dim),
    };
    let tensor = WireTensor { encoding, rows, dim, scales, data };
    tensor.validate()?;
    Ok(tensor)
}

/// The values of `tensor`, which must be a matrix `[rows, dim]`, row after row.
///
/// # Errors
/// [`EmbeddingError`] if the shape is another, the tensor contradicts itself, or a value is infinite or not a
/// number.
pub fn from_wire(tensor: &WireTensor, rows: u32, dim: u32) -> Result<Vec<f32>, EmbeddingError> {
    let (got_rows, got_dim) = (tensor.rows, tensor.dim);
    if (got_rows, got_dim) != (rows, dim) {
        return Err(EmbeddingError::Shape { got_rows, got_dim, rows, dim });
    }
    tensor.validate()?;
    let values = match tensor.encoding {
        Encoding::F32 => le_values(&tensor.data, f32::from_le_bytes),
        Encoding::F16 => le_values(&tensor.data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Encoding::Int8 => from_int8(tensor),
    };
    check_finite(&values)?;
    Ok(values)
}

/// Bytes a matrix `[rows, dim]` takes on the wire: data and scales, without the few bytes of shape and
/// lengths around them.
#[must_use]
pub fn wire_len(rows: u32, dim: u32, encoding: Encoding) -> u64 {
    let scales = if encoding == Encoding::Int8 { 4 * u64::from(rows) } else { 0 };
    let data = WireTensor::data_bytes(encoding, rows, dim);
    u64::try_from(data).unwrap_or(u64::MAX).saturating_add(scales)
}

fn check_finite(values: &[f32]) -> Result<(), EmbeddingError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(EmbeddingError::NotFinite { index, value: values[index] }),
        None => Ok(()),
    }
}

fn to_f16(values: &[f32]) -> Result<Vec<u8>, EmbeddingError> {
    let mut data = Vec::with_capacity(values.len() * 2);
    for (index, &value) in values.iter().enumerate() {
        let half = f16::from_f32(value);
        if half.is_infinite() {
            return Err(EmbeddingError::BeyondF16 { index, value });
        }
        data.extend_from_slice(&half.to_le_bytes());
    }
    Ok(data)
}

/// One scale a row, `max|x| / 127`; a row of zeros has scale 0.
fn to_int8(values: &[f32], dim: u32) -> (Vec<f32>, Vec<u8>) {
    // `dim` is 0 only with no values at all, and validation refuses that tensor.
    let rows = values.chunks_exact((dim as usize).max(1));
    let mut data = Vec::with_capacity(values.len());
    let scales = rows
        .map(|row| {
            let scale = row.iter().fold(0f32, |max, value| max.max(value.abs())) / 127.0;
            data.extend(row.iter().map(|&value| quantise(value, scale)));
            scale
        })
        .collect();
    (scales, data)
}

/// The signed byte nearest to `value / scale`, as its bits.
fn quantise(value: f32, scale: f32) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    // A subnormal scale is inexact, so the quotient may pass 127.
    let level = (value / scale).round().clamp(-127.0, 127.0);
    #[allow(clippy::cast_possible_truncation)] // within ±127 by the clamp
    (level as i8).to_le_bytes()[0]
}

fn from_int8(tensor: &WireTensor) -> Vec<f32> {
    let rows = tensor.data.chunks_exact(tensor.dim as usize).zip(&tensor.scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |byte| f32::from(i8::from_le_bytes([*byte])) * scale))
        .collect()
}

fn le_values<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
}
