//! JPEG to the model's input, in parallel with encoding.
//!
//! ```text
//! Pipeline::next_to_decode ─► limits ─► JPEG ─► RGB ─┬─ resize ─────────────────► Pipeline::decoded
//!                                                     └─ patches to their places ─┘
//! ```
//! A few threads, one per core by default, take frames in the order of the batch policy. A frame whose camera
//! cancelled it is never handed to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use protocol::{InputSize, RejectCode};
use shared::image::{JpegError, Limits, Rgb, jpeg, resize};
use shared::patches::{self, Choice, PatchesError};

use crate::batch::driver::panic_message;
use crate::batch::{Pipeline, Rejection, internal};

/// What frames are decoded to, and what is refused.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Checked before anything is allocated.
    pub limits: Limits,
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Height of the model's input in pixels.
    pub height: u32,
    /// Side of a patch in pixels, where frames may come as patches.
    pub patch: Option<u32>,
}

/// Decodes a frame and stretches it to the model's input.
///
/// # Errors
/// The code and message for the camera box: too large, too many pixels, not a JPEG, truncated.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Rgb, Rejection> {
    let image = jpeg::decode(bytes, &settings.limits).map_err(|error| rejection(&error))?;
    Ok(resize(&image, settings.width, settings.height))
}

/// Decodes a mosaic and puts its patches at their places in the model's input.
///
/// # Errors
/// As [`decode`], and malformed: not the mosaic that these patches make, or an encoder that takes none.
pub fn decode_patches(bytes: &[u8], choice: &Choice, settings: &Settings) -> Result<Rgb, Rejection> {
    let mosaic = jpeg::decode(bytes, &settings.limits).map_err(|error| rejection(&error))?;
    let Settings { width, height, patch, .. } = *settings;
    let malformed =
        |error: PatchesError| Rejection { code: RejectCode::Malformed, message: error.to_string() };
    let input = InputSize { width, height };
    let geometry = patches::geometry(input, patch.unwrap_or_default()).map_err(malformed)?;
    patches::unpack(&mosaic, geometry, choice).map_err(malformed)
}

fn rejection(error: &JpegError) -> Rejection {
    let code = match error {
        JpegError::TooLarge { .. } => RejectCode::TooLarge,
        JpegError::Truncated { .. } => RejectCode::Truncated,
        JpegError::TooManyPixels { .. } => RejectCode::TooManyPixels,
        JpegError::NotJpeg { .. } | JpegError::Unsupported { .. } | JpegError::Corrupt { .. } => {
            RejectCode::NotJpeg
        }
    };
    Rejection { code, message: error.to_string() }
}

/// Starts `threads` decode workers (at least one); they return when the pipeline ends.
///
/// # Errors
/// When the system gives no thread; workers already started end with the pipeline.
pub fn spawn(pipeline: &Arc<Pipeline>, settings: Settings, threads: usize) -> std::io::Result<()> {
    for number in 0..threads.max(1) {
        let pipeline = Arc::clone(pipeline);
        std::thread::Builder::new()
            .name(format!("decode-{number}"))
            .spawn(move || work(&pipeline, &settings))?;
    }
    Ok(())
}

fn work(pipeline: &Pipeline, settings: &Settings) {
    while let Some(entry) = pipeline.next_to_decode() {
        let started = Instant::now();
        // A decoder reads hostile bytes: should it ever panic, that frame is lost, not the worker.
        let result = catch_unwind(AssertUnwindSafe(|| match &entry.item.patches {
            None => decode(&entry.item.jpeg, settings),
            Some(choice) => decode_patches(&entry.item.jpeg, choice, settings),
        }));
        let result = result.unwrap_or_else(|panic| {
            let why = panic_message(panic.as_ref());
            tracing::error!(bytes = entry.item.jpeg.len(), "decoding a frame panicked: {why}");
            Err(internal("the decoder failed on this frame"))
        });
        pipeline.decoded(entry, started, result);
    }
}

#[cfg(test)]
mod tests {
    use shared::image::Chroma;

    use super::*;

    const SETTINGS: Settings = Settings {
        limits: Limits { max_bytes: 100_000, max_pixels: 10_000 },
        width: 32,
        height: 16,
        patch: Some(8),
    };

    fn code(bytes: &[u8]) -> RejectCode {
        decode(bytes, &SETTINGS).unwrap_err().code
    }

    #[test]
    fn a_frame_becomes_the_models_input() {
        let jpeg = jpeg::encode(&Rgb::filled(100, 80, [200, 100, 50]), 90, Chroma::C420);
        let rgb = decode(&jpeg, &SETTINGS).unwrap();
        assert_eq!((rgb.width, rgb.height), (32, 16));
        assert!(rgb.pixel(5, 5).iter().zip([200u8, 100, 50]).all(|(got, want)| got.abs_diff(want) <= 3));
    }

    #[test]
    fn a_mosaic_becomes_a_frame_with_its_patches() {
        let choice = Choice::of(&[false, true, false, false, false, false, true, true]);
        let mosaic = jpeg::encode(&Rgb::filled(16, 16, [200, 100, 50]), 90, Chroma::C444);
        let rgb = decode_patches(&mosaic, &choice, &SETTINGS).unwrap();
        assert_eq!((rgb.width, rgb.height), (32, 16));
        let near =
            |x, y| rgb.pixel(x, y).iter().zip([200u8, 100, 50]).all(|(got, want)| got.abs_diff(want) <= 3);
        assert!(near(12, 4) && near(20, 12) && near(31, 15) && !near(4, 4), "places 1, 6 and 7");

        let other = decode_patches(&mosaic, &Choice::all(8), &SETTINGS).unwrap_err();
        assert_eq!(other.code, RejectCode::Malformed);
        assert!(other.message.contains("24x24") && other.message.contains("16x16"), "{}", other.message);
        let cut = decode_patches(&mosaic[..200], &choice, &SETTINGS).unwrap_err();
        assert_eq!(cut.code, RejectCode::Truncated);
    }

    #[test]
    fn what_cannot_be_decoded_is_rejected_by_kind_with_numbers() {
        let jpeg = jpeg::encode(&Rgb::filled(100, 80, [1, 2, 3]), 90, Chroma::C420);
        assert_eq!(code(b"GIF89a and so on"), RejectCode::NotJpeg);
        assert_eq!(code(b""), RejectCode::Truncated);
        assert_eq!(code(&jpeg[..jpeg.len() / 2]), RejectCode::Truncated);
        assert_eq!(code(&vec![0xff; 100_001]), RejectCode::TooLarge);
        let large = jpeg::encode(&Rgb::filled(101, 100, [1, 2, 3]), 90, Chroma::C420);
        let rejected = decode(&large, &SETTINGS).unwrap_err();
        assert_eq!(rejected.code, RejectCode::TooManyPixels);
        assert!(rejected.message.contains("101×100") && rejected.message.contains("10000"), "{rejected:?}");
    }
}
