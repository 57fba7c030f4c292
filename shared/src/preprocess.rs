//! From pixels to the encoder's input.
//!
//! ```text
//! Rgb ─► resize_to_input ─► Rgb [height, width, 3] ─► normalise ─► f32 [3, height, width]
//!                                                                 ─► patchify ─► f32 [tokens, 3·patch·patch]
//! ```
//! Part of the embedding space: another mean, size or filter makes another space.

use serde::{Deserialize, Serialize};

use crate::image::{Rgb, resize};

/// The only version of the steps below so far.
pub const VERSION: u32 = 1;

/// How a frame becomes the encoder's input: stretched to `width × height` (antialiased bilinear, see
/// [`resize`]), then each channel `(value / 255 − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Version of the steps: [`VERSION`]. A change to any pixel is a new one.
    pub version: u32,
    /// Rows of the encoder's input.
    pub height: u32,
    /// Columns of the encoder's input.
    pub width: u32,
    /// Subtracted from each channel (R, G, B; of values scaled to 0..1).
    pub mean: [f32; 3],
    /// Divides each channel (R, G, B; of values scaled to 0..1).
    pub std: [f32; 3],
}

/// Why preprocessing as written in a file cannot be followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PreprocessError {
    /// Written by a newer program.
    #[error("preprocessing version {0} is not known here (only {VERSION} is); update this program")]
    Version(u32),
    /// A side of zero pixels.
    #[error("preprocessing to {width}×{height} pixels is not possible")]
    Size {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A division by zero, or a value that is not a number.
    #[error("preprocessing mean {mean:?} and std {std:?} must be finite numbers, std above zero")]
    Scale {
        /// The means.
        mean: [f32; 3],
        /// The divisors.
        std: [f32; 3],
    },
}

impl Preprocess {
    /// Version 1 with ImageNet's channel statistics, as transformers' ViT-MAE uses.
    pub fn imagenet(height: u32, width: u32) -> Self {
        Self { version: VERSION, height, width, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// Whether this program can follow it.
    pub fn validate(&self) -> Result<(), PreprocessError> {
        if self.version != VERSION {
            return Err(PreprocessError::Version(self.version));
        }
        if self.width == 0 || self.height == 0 {
            return Err(PreprocessError::Size { width: self.width, height: self.height });
        }
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        if !finite || self.std.iter().any(|value| *value <= 0.0) {
            return Err(PreprocessError::Scale { mean: self.mean, std: self.std });
        }
        Ok(())
    }

    /// The frame at the encoder's input size, stretched: a camera's shape is constant, and cutting would lose
    /// the frame's edges.
    pub fn resize_to_input(&self, image: &Rgb) -> Rgb {
        resize(image, self.width, self.height)
    }

    /// `[3, height, width]` from an image of any size, channel by channel. In `f32`, in the order written:
    /// `(value / 255 − mean) / std`.
    pub fn normalise(&self, image: &Rgb) -> Vec<f32> {
        let pixels = image.width as usize * image.height as usize;
        let mut chw = vec![0.0; 3 * pixels];
        for (channel, plane) in chw.chunks_exact_mut(pixels).enumerate() {
            // 256 possible values a channel: looked up instead of divided per pixel, the same numbers.
            let table: [f32; 256] =
                std::array::from_fn(|value| (value as f32 / 255.0 - self.mean[channel]) / self.std[channel]);
            for (out, pixel) in plane.iter_mut().zip(image.data.chunks_exact(3)) {
                *out = table[usize::from(pixel[channel])];
            }
        }
        chw
    }
}

/// How an input divides into square patches, one token each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchGeometry {
    /// Rows of pixels, a multiple of `patch`.
    pub height: u32,
    /// Columns of pixels, a multiple of `patch`.
    pub width: u32,
    /// Side of a patch in pixels.
    pub patch: u32,
}

impl PatchGeometry {
    /// `None` if a side is zero or not a multiple of `patch`.
    pub fn new(height: u32, width: u32, patch: u32) -> Option<Self> {
        let fits = patch > 0
            && height > 0
            && width > 0
            && height.is_multiple_of(patch)
            && width.is_multiple_of(patch);
        fits.then_some(Self { height, width, patch })
    }

    /// Rows of patches.
    pub fn rows(&self) -> usize {
        (self.height / self.patch) as usize
    }

    /// Columns of patches.
    pub fn cols(&self) -> usize {
        (self.width / self.patch) as usize
    }

    /// Patches: `rows × cols`, counted row by row from the top left.
    pub fn tokens(&self) -> usize {
        self.rows() * self.cols()
    }

    /// Numbers in one patch: `3 × patch × patch`.
    pub fn patch_len(&self) -> usize {
        3 * (self.patch * self.patch) as usize
    }
}

/// `[tokens, 3·patch·patch]` from `[3, height, width]`; within a patch the order is (channel, y, x), that of a
/// convolution's weight. Panics if `chw` is not `3 × height × width` long.
pub fn patchify(chw: &[f32], geometry: PatchGeometry) -> Vec<f32> {
    let (height, width) = (geometry.height as usize, geometry.width as usize);
    let patch = geometry.patch as usize;
    assert_eq!(chw.len(), 3 * height * width, "patchify needs [3, {height}, {width}]");
    let mut tokens = Vec::with_capacity(chw.len());
    for row in 0..geometry.rows() {
        for col in 0..geometry.cols() {
            for channel in 0..3 {
                for y in 0..patch {
                    let start = channel * height * width + (row * patch + y) * width + col * patch;
                    tokens.extend_from_slice(&chw[start..start + patch]);
                }
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_by_hand() {
        // Two patches side by side, 2×2 pixels each. Value = channel·100 + y·10 + x.
        let geometry = PatchGeometry::new(2, 4, 2).unwrap();
        let mut chw = Vec::new();
        for channel in 0..3 {
            for y in 0..2 {
                chw.extend((0..4).map(|x| (channel * 100 + y * 10 + x) as f32));
            }
        }
        #[rustfmt::skip]
        let expected = [
            0., 1., 10., 11.,  100., 101., 110., 111.,  200., 201., 210., 211.,
            2., 3., 12., 13.,  102., 103., 112., 113.,  202., 203., 212., 213.,
        ];
        assert_eq!(patchify(&chw, geometry), expected);
        assert_eq!(
            (geometry.rows(), geometry.cols(), geometry.tokens(), geometry.patch_len()),
            (1, 2, 2, 12)
        );
    }

    #[test]
    fn geometry_that_does_not_divide_is_refused() {
        assert_eq!(PatchGeometry::new(576, 960, 48).unwrap().tokens(), 240);
        assert_eq!(PatchGeometry::new(1072, 1920, 16).unwrap().tokens(), 8040);
        assert!(PatchGeometry::new(1080, 1920, 16).is_none());
        assert!(PatchGeometry::new(0, 48, 48).is_none());
        assert!(PatchGeometry::new(48, 48, 0).is_none());
    }

    #[test]
    fn preprocessing_from_the_future_or_without_sense_is_refused() {
        let good = Preprocess::imagenet(576, 960);
        assert_eq!(good.validate(), Ok(()));
        let newer = Preprocess { version: 2, ..good };
        assert!(newer.validate().unwrap_err().to_string().contains("version 2"));
        assert!(Preprocess { height: 0, ..good }.validate().is_err());
        assert!(Preprocess { std: [0.2, 0.0, 0.2], ..good }.validate().is_err());
        assert!(Preprocess { mean: [f32::NAN; 3], ..good }.validate().is_err());
    }
}
