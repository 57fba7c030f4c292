//! Pixels: what a frame is before and after it travels as JPEG.
//!
//! ```text
//! file ─► load ─┐
//! bytes ─► jpeg::probe ─► jpeg::decode ─► Rgb ─► resize ─► jpeg::encode ─► bytes
//! ```
//! Everything here is defined to the pixel: the same input gives the same bytes with SIMD on or off. Both
//! programs use these functions, so a head is trained on exactly the pixels that serving produces.

mod cost;
pub mod header;
pub mod jpeg;
mod load;
mod mask;
mod resize;

pub use cost::{jpeg_flops, resize_flops};
pub use header::{Chroma, Header};
pub use jpeg::JpegError;
pub use load::{LoadError, is_png, load, read};
pub use mask::{Hide, Mask, MaskError};
pub use resize::{fit_within, resize};

/// An image in memory: 8-bit sRGB, row-major, interleaved, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// `height × width × 3` bytes: R, G, B of the top left pixel first.
    pub data: Vec<u8>,
}

impl Rgb {
    /// An image from its bytes; `None` if a side is zero or `data` is not `width × height × 3` bytes.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        let fits = width > 0 && height > 0 && data.len() as u64 == u64::from(width) * u64::from(height) * 3;
        fits.then_some(Self { width, height, data })
    }

    /// An image of one colour. Panics if a side is zero.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        assert!(width > 0 && height > 0, "an image has at least one pixel, not {width}×{height}");
        let pixels = width as usize * height as usize;
        Self { width, height, data: colour.repeat(pixels) }
    }

    /// The pixel in column `x` and row `y`, both counted from the top left.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }
}

impl std::fmt::Debug for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb({}×{})", self.width, self.height)
    }
}

/// What a program accepts before it allocates anything for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one encoded image.
    pub max_bytes: usize,
    /// Most pixels (`width × height`) of one decoded image.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 16 MiB and 40 million pixels: an 8K frame (7680×4320) fits, a decoded image takes at most 120 MB.
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_pixels: 40_000_000 }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Pictures for tests, made by arithmetic: the same on every machine.

    use super::Rgb;

    /// Noise from a seed: the hardest picture for JPEG and for a resize filter.
    pub(crate) fn noise(width: u32, height: u32, seed: u32) -> Rgb {
        let mut state = seed;
        let bytes = (0..width * height * 3).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Rgb { width, height, data: bytes.collect() }
    }
}
