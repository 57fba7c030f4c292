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
            let scale = row_scale(row);
            data.extend(row.iter().map(|&value| quantise(value, scale)));
            scale
        })
        .collect();
    (scales, data)
}

/// `max|x| / 127`, rounded so that 127 steps of it stay finite.
fn row_scale(row: &[f32]) -> f32 {
    let scale = row.iter().fold(0f32, |max, value| max.max(value.abs())) / 127.0;
    if (scale * 127.0).is_finite() { scale } else { scale.next_down() }
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const ALL: [Encoding; 3] = [Encoding::F32, Encoding::F16, Encoding::Int8];

    /// A matrix `[rows, dim]` of values that `value` draws.
    fn matrix(value: impl Strategy<Value = f32> + 'static) -> impl Strategy<Value = (u32, u32, Vec<f32>)> {
        let cell = value.boxed();
        (1u32..6, 1u32..40).prop_flat_map(move |(rows, dim)| {
            vec(cell.clone(), (rows * dim) as usize).prop_map(move |values| (rows, dim, values))
        })
    }

    fn there_and_back(values: &[f32], rows: u32, dim: u32, encoding: Encoding) -> (WireTensor, Vec<f32>) {
        let tensor = to_wire(values, rows, dim, encoding).unwrap();
        assert_eq!(
            (tensor.data.len() + 4 * tensor.scales.len()) as u64,
            wire_len(rows, dim, encoding),
            "{encoding}"
        );
        let back = from_wire(&tensor, rows, dim).unwrap();
        (tensor, back)
    }

    fn finite() -> impl Strategy<Value = f32> {
        any::<f32>().prop_filter("finite", |value| value.is_finite())
    }

    proptest! {
        #[test]
        fn f32_is_exact((rows, dim, values) in matrix(finite())) {
            let (_, back) = there_and_back(&values, rows, dim, Encoding::F32);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values));
        }

        #[test]
        fn f16_errs_by_half_a_unit_in_the_last_place((rows, dim, values) in matrix(-65_504f32..=65_504.0)) {
            let (_, back) = there_and_back(&values, rows, dim, Encoding::F16);
            for (value, back) in values.iter().zip(back) {
                let allowed = (value.abs() * 2f32.powi(-11)).max(2f32.powi(-25));
                prop_assert!((value - back).abs() <= allowed, "{value} became {back}");
            }
        }

        #[test]
        fn f16_of_small_values((rows, dim, values) in matrix(-1e-4f32..1e-4)) {
            let (_, back) = there_and_back(&values, rows, dim, Encoding::F16);
            for (value, back) in values.iter().zip(back) {
                let allowed = (value.abs() * 2f32.powi(-11)).max(2f32.powi(-25));
                prop_assert!((value - back).abs() <= allowed, "{value} became {back}");
            }
        }

        #[test]
        fn int8_errs_by_half_a_step((rows, dim, values) in matrix(-30f32..30.0), magnitude in -25i32..30) {
            let values: Vec<f32> = values.iter().map(|value| value * 10f32.powi(magnitude)).collect();
            let (tensor, back) = there_and_back(&values, rows, dim, Encoding::Int8);
            for (index, (value, back)) in values.iter().zip(back).enumerate() {
                // The quotient is rounded to f32 first: 127 × 2⁻²⁴ of a step, and as much again on the way back.
                let allowed = tensor.scales[index / dim as usize] * (0.5 + 2e-5);
                prop_assert!((value - back).abs() <= allowed, "{value} became {back}, {allowed} allowed");
            }
        }

        #[test]
        fn int8_survives_every_finite_value((rows, dim, values) in matrix(finite())) {
            match to_wire(&values, rows, dim, Encoding::Int8) {
                Ok(tensor) => prop_assert!(from_wire(&tensor, rows, dim).is_ok()),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            rows in 0u32..4, dim in 0u32..5, scales in vec(any::<f32>(), 0..4), data in vec(any::<u8>(), 0..40),
        ) {
            for encoding in ALL {
                let tensor = WireTensor { encoding, rows, dim, scales: scales.clone(), data: data.clone() };
                if let Ok(values) = from_wire(&tensor, rows, dim) {
                    prop_assert!(values.len() == (rows * dim) as usize && values.iter().all(|v| v.is_finite()));
                }
            }
        }
    }

    #[test]
    fn int8_bytes_are_as_documented() {
        let (tensor, back) = there_and_back(&[127.0, -63.5, 0.4, 0.0, 0.0, 0.0], 2, 3, Encoding::Int8);
        assert_eq!(tensor.scales, [1.0, 0.0]);
        assert_eq!(tensor.data, [127, (-64i8) as u8, 0, 0, 0, 0]);
        assert_eq!(back, [127.0, -64.0, 0.0, 0.0, 0.0, 0.0]);
        let (_, back) = there_and_back(&[f32::MAX, f32::MIN], 1, 2, Encoding::Int8);
        assert!(back[0] > 3.4e38 && back[1] < -3.4e38, "{back:?}");
    }

    #[test]
    fn f32_and_f16_bytes_are_little_endian() {
        assert_eq!(to_wire(&[1.0, -2.5], 1, 2, Encoding::F16).unwrap().data, [0, 0x3c, 0, 0xc1]);
        assert_eq!(to_wire(&[1.0], 1, 1, Encoding::F32).unwrap().data, [0, 0, 0x80, 0x3f]);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for encoding in ALL {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let error = to_wire(&[0.0, value], 1, 2, encoding).unwrap_err();
                assert!(matches!(error, EmbeddingError::NotFinite { index: 1, .. }), "{error}");
            }
        }
        let error = to_wire(&[70_000.0], 1, 1, Encoding::F16).unwrap_err();
        assert_eq!(error.to_string(), "value 0 is 70000: f16 ends at 65504; ask for f32 or int8");

        let hostile = |encoding, data: &[u8]| {
            let (scales, data) = (Vec::new(), data.to_vec());
            from_wire(&WireTensor { encoding, rows: 1, dim: 1, scales, data }, 1, 1).unwrap_err()
        };
        for error in [hostile(Encoding::F32, &f32::NAN.to_le_bytes()), hostile(Encoding::F16, &[0x00, 0x7c])]
        {
            assert!(matches!(error, EmbeddingError::NotFinite { index: 0, .. }), "{error}");
        }
    }

    #[test]
    fn shapes_must_agree() {
        let error = to_wire(&[0.0; 5], 2, 3, Encoding::F32).unwrap_err();
        assert_eq!(error.to_string(), "5 values, [2, 3] needs 6");
        let tensor = to_wire(&[0.0; 6], 2, 3, Encoding::F32).unwrap();
        let error = from_wire(&tensor, 1, 6).unwrap_err();
        assert_eq!(error.to_string(), "a tensor of shape [2, 3] arrived, [1, 6] was expected");
        assert!(matches!(to_wire(&[], 0, 0, Encoding::Int8), Err(EmbeddingError::Tensor(_))));
        assert!(matches!(to_wire(&[], 0, u32::MAX, Encoding::Int8), Err(EmbeddingError::Tensor(_))));
        let cut = WireTensor { data: vec![0; 23], ..tensor };
        assert!(matches!(from_wire(&cut, 2, 3), Err(EmbeddingError::Tensor(_))));
    }

    #[test]
    fn a_full_size_embedding_is_as_long_as_documented() {
        assert_eq!(ALL.map(|encoding| wire_len(1, 512, encoding)), [2048, 1024, 516]);
        assert_eq!(wire_len(240, 512, Encoding::Int8), 240 * 516);
        assert_eq!(wire_len(u32::MAX, u32::MAX, Encoding::F32), u64::MAX);
    }
}
