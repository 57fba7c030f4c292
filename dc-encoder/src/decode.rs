//! JPEG to the model's input, in parallel with encoding.
//!
//! ```text
//! Pipeline::next_to_decode ─► limits ─► JPEG ─► RGB ─► resize ─► Pipeline::decoded
//! ```
//! A few threads, one per core by default, take frames in the order of the batch policy. A frame whose camera
//! cancelled it is never handed to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use protocol::RejectCode;
use shared::image::{JpegError, Limits, Rgb, jpeg, resize};

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
}

/// Decodes a frame and stretches it to the model's input.
///
/// # Errors
/// The code and message for the camera box: too large, too many pixels, not a JPEG, truncated.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Rgb, Rejection> {
    let image = jpeg::decode(bytes, &settings.limits).map_err(|error| rejection(&error))?;
    Ok(resize(&image, settings.width, settings.height))
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
        let result = catch_unwind(AssertUnwindSafe(|| decode(&entry.item.jpeg, settings)));
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

    const SETTINGS: Settings =
        Settings { limits: Limits { max_bytes: 100_000, max_pixels: 10_000 }, width: 32, height: 16 };

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
