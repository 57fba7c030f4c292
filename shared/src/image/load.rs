//! Image files from a folder: JPEG by our decoder, PNG by `image`.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::{JpegError, Limits, Rgb, jpeg, read_limited};

/// The first bytes of every PNG.
const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Why a file is not a usable image.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than the limit.
    #[error("{} is {bytes} bytes, the limit is {max}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// Empty: often a copy that failed.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A JPEG that cannot be used.
    #[error("{}: {source}", path.display())]
    Jpeg {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: JpegError,
    },
    /// A PNG that cannot be used.
    #[error("{}: {why}", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// Loads a JPEG or PNG; which one it is, its first bytes say, not its name. Transparency is dropped, 16-bit
/// samples become 8-bit, grey becomes RGB. Limits are checked before pixels are allocated.
pub fn load(path: &Path, limits: &Limits) -> Result<Rgb, LoadError> {
    let bytes = read_limited(path, limits.max_bytes)?;
    if bytes.is_empty() {
        return Err(LoadError::Empty { path: path.into() });
    }
    if bytes.starts_with(&PNG_SIGNATURE) {
        return png(&bytes, limits).map_err(|why| LoadError::Png { path: path.into(), why });
    }
    jpeg::decode(&bytes, limits).map_err(|source| LoadError::Jpeg { path: path.into(), source })
}

fn png(bytes: &[u8], limits: &Limits) -> Result<Rgb, String> {
    let reader = || ::image::ImageReader::with_format(Cursor::new(bytes), ::image::ImageFormat::Png);
    let damaged = |error| format!("the PNG is damaged: {error}");
    let (width, height) = reader().into_dimensions().map_err(damaged)?;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        let max = limits.max_pixels;
        return Err(format!("the PNG is {width}×{height} pixels, the limit is {max} pixels"));
    }
    let decoded = reader().decode().map_err(damaged)?.into_rgb8();
    Rgb::new(width, height, decoded.into_raw()).ok_or_else(|| "the PNG has no pixels".into())
}
