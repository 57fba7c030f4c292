//! A release that travels compressed, and its file that comes out again.

use fdeflate::{BoundedDecompressionError, DecompressionError};
use protocol::BodyId;
use protocol::limits::MAX_RELEASE_BYTES;
use sha2::{Digest as _, Sha256};

/// Why no release came out of a compressed body.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// These are not zlib's bytes, or not all of them, or they were changed.
    #[error("the compressed bytes are damaged ({0:?})")]
    Damaged(DecompressionError),
    /// Something else comes out than was announced.
    #[error("{got} bytes come out of the compressed ones, {want} were announced")]
    Length {
        /// `more than` the announced ones, or how many.
        got: String,
        /// What was announced.
        want: u32,
    },
}

/// The identity of a body.
#[must_use]
pub fn body_id(bytes: &[u8]) -> BodyId {
    BodyId(Sha256::digest(bytes).into())
}

/// The release in a zlib stream (RFC 1950), which must be `len` bytes, as was announced, and no more than
/// [`MAX_RELEASE_BYTES`]. Memory grows with what comes out, and never beyond that.
///
/// # Errors
/// [`UnpackError`].
pub fn unpack(packed: &[u8], len: u32) -> Result<Vec<u8>, UnpackError> {
    let want = len.min(MAX_RELEASE_BYTES) as usize;
    // A byte beyond: what ends exactly there is told from what goes on.
    match fdeflate::decompress_to_vec_bounded(packed, want + 1) {
        Ok(bytes) if bytes.len() == want => Ok(bytes),
        Ok(bytes) if bytes.len() < want => {
            Err(UnpackError::Length { got: bytes.len().to_string(), want: len })
        }
        Ok(_) | Err(BoundedDecompressionError::OutputTooLarge { .. }) => {
            Err(UnpackError::Length { got: format!("more than {want}"), want: len })
        }
        Err(BoundedDecompressionError::DecompressionError { inner }) => Err(UnpackError::Damaged(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(packed: &[u8], len: u32) -> String {
        unpack(packed, len).unwrap_err().to_string()
    }

    #[test]
    fn exactly_what_was_announced_comes_out() {
        let file: Vec<u8> = (0..100_000_u32).map(|n| (n / 1000) as u8).collect();
        let packed = fdeflate::compress_to_vec(&file);
        assert_eq!(unpack(&packed, 100_000).unwrap(), file);
        assert_eq!(
            refused(&packed, 100_001),
            "100000 bytes come out of the compressed ones, 100001 were announced"
        );
        assert_eq!(
            refused(&packed, 99_999),
            "more than 99999 bytes come out of the compressed ones, 99999 were announced"
        );
        assert_eq!(unpack(&fdeflate::compress_to_vec(&[]), 0).unwrap(), [0; 0]);
    }

    #[test]
    fn a_bomb_goes_off_within_what_was_announced() {
        let bomb = fdeflate::compress_to_vec(&vec![0; 4 * MAX_RELEASE_BYTES as usize]);
        assert!(refused(&bomb, 1000).starts_with("more than 1000 bytes"));
        assert!(refused(&bomb, u32::MAX).starts_with("more than 67108864 bytes"), "whatever is announced");
    }

    #[test]
    fn damaged_bytes_are_told() {
        let file: Vec<u8> = (0..5000_u32).map(|n| (n * n / 7) as u8).collect();
        let packed = fdeflate::compress_to_vec(&file);
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            assert_ne!(unpack(&damaged, 5000).ok().as_ref(), Some(&file), "byte {at} does not matter");
        }
        assert!(refused(&packed[..packed.len() / 2], 5000).contains("InsufficientInput"));
    }
}
