//! Vectors on the wire. How numbers become these bytes is `shared::embedding`'s business.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};

use crate::{
    CodecError,
    limits::{MAX_DIM, MAX_ROWS, MAX_TENSOR_BYTES, check_range},
};

/// How values travel, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Encoding {
    /// IEEE 754 binary32: exact.
    F32 = 0,
    /// IEEE 754 binary16: relative error up to 2⁻¹¹.
    F16 = 1,
    /// Signed bytes, one scale a row (`max|x| / 127`): absolute error up to half the scale.
    Int8 = 2,
}

impl Encoding {
    /// Bytes one value takes: 4, 2 or 1.
    #[must_use]
    pub const fn bytes_per_value(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// `f32`, `f16` or `int8`: what a configuration file says.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

/// A text that names no [`Encoding`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no embedding encoding: use \"f32\", \"f16\" or \"int8\"")]
pub struct ParseEncodingError(pub String);

impl FromStr for Encoding {
    type Err = ParseEncodingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            other => Err(ParseEncodingError(other.to_owned())),
        }
    }
}

/// A matrix `[rows, dim]`: an embedding (one row) or a grid of latent tokens (one row a token, row-major over
/// the patch grid).
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct WireTensor {
    /// How `data` holds the values.
    pub encoding: Encoding,
    /// Number of rows, `1..=`[`MAX_ROWS`].
    pub rows: u32,
    /// Values in a row, `1..=`[`MAX_DIM`].
    pub dim: u32,
    /// [`Encoding::Int8`]: one finite scale, zero or more, for each row. Otherwise empty.
    pub scales: Vec<f32>,
    /// `rows × dim` values, row after row, little-endian.
    pub data: Vec<u8>,
}

/// The shape without the data.
impl fmt::Debug for WireTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { encoding, rows, dim, .. } = self;
        write!(f, "WireTensor({encoding} [{rows}, {dim}], {} bytes)", self.data.len())
    }
}

impl WireTensor {
    /// Bytes that `rows × dim` values take in `encoding`, scales not counted.
    #[must_use]
    pub fn data_bytes(encoding: Encoding, rows: u32, dim: u32) -> u128 {
        u128::from(rows) * u128::from(dim) * u128::from(encoding.bytes_per_value())
    }

    /// Checks shape, data length and scales. The values themselves are not read.
    ///
    /// # Errors
    /// [`CodecError`] naming the field, what it holds and what it may hold.
    pub fn validate(&self) -> Result<(), CodecError> {
        check_range("tensor rows", self.rows, 1, MAX_ROWS)?;
        check_range("tensor dim", self.dim, 1, MAX_DIM)?;
        let want = Self::data_bytes(self.encoding, self.rows, self.dim);
        // 2³² rows and values were refused above, so 64 bits are plenty.
        let want = u64::try_from(want).unwrap_or(u64::MAX);
        if want > MAX_TENSOR_BYTES as u64 {
            let max = MAX_TENSOR_BYTES as u64;
            return Err(CodecError::OutOfRange { field: "tensor data bytes", value: want, min: 1, max });
        }
        check_count("tensor data bytes", self.data.len(), want)?;
        let scales = if self.encoding == Encoding::Int8 { u64::from(self.rows) } else { 0 };
        check_count("tensor scales", self.scales.len(), scales)?;
        match self.scales.iter().position(|scale| !scale.is_finite() || *scale < 0.0) {
            Some(row) => Err(CodecError::BadScale { row, value: self.scales[row] }),
            None => Ok(()),
        }
    }
}

fn check_count(field: &'static str, got: usize, want: u64) -> Result<(), CodecError> {
    if got as u64 == want { Ok(()) } else { Err(CodecError::WrongCount { field, got: got as u64, want }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int8() -> WireTensor {
        WireTensor { encoding: Encoding::Int8, rows: 2, dim: 3, scales: vec![0.5, 0.0], data: vec![0; 6] }
    }

    #[test]
    fn encodings_by_name() {
        for encoding in [Encoding::F32, Encoding::F16, Encoding::Int8] {
            assert_eq!(encoding.to_string().parse(), Ok(encoding));
        }
        assert!("F16".parse::<Encoding>().unwrap_err().to_string().contains("\"f16\""));
    }

    #[test]
    fn shape_data_and_scales_belong_together() {
        assert_eq!(int8().validate(), Ok(()));
        let bad = |change: fn(&mut WireTensor)| {
            let mut tensor = int8();
            change(&mut tensor);
            tensor.validate().unwrap_err().to_string()
        };
        assert!(bad(|t| t.rows = 0).contains("tensor rows"));
        assert!(bad(|t| t.dim = MAX_DIM + 1).contains("65537"));
        assert!(bad(|t| t.data.truncate(5)).contains('5'));
        assert!(bad(|t| t.scales.truncate(1)).contains("tensor scales"));
        assert!(bad(|t| t.encoding = Encoding::F32).contains("24"));
        assert!(bad(|t| t.scales[1] = f32::NAN).contains("NaN"));
        assert!(bad(|t| t.scales[0] = -1.0).contains("-1"));
        assert!(bad(|t| (t.rows, t.dim) = (MAX_ROWS, MAX_DIM)).contains("4294967296"));
    }
}
