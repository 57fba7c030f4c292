//! Image files from a folder: JPEG by our decoder, PNG by `image`.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::{JpegError, Limits, Rgb, jpeg};

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
    let bytes = read(path, limits)?;
    if is_png(&bytes) {
        return png(&bytes, limits).map_err(|why| LoadError::Png { path: path.into(), why });
    }
    jpeg::decode(&bytes, limits).map_err(|source| LoadError::Jpeg { path: path.into(), source })
}

/// Reads a file that is neither empty nor longer than `limits.max_bytes`, without looking at what it is.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, LoadError> {
    let max = limits.max_bytes;
    let io = |source| LoadError::Io { path: path.into(), source };
    let too_large = |bytes| LoadError::TooLarge { path: path.into(), bytes, max };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > max as u64 {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may have grown since its length was read, or be a device that has none.
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() {
        0 => Err(LoadError::Empty { path: path.into() }),
        length if length > max => Err(too_large(length as u64)),
        _ => Ok(bytes),
    }
}

/// Whether these bytes begin like a PNG.
pub fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&PNG_SIGNATURE)
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
