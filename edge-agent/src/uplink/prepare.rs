//! From what a source gives to the JPEG that is sent, by the uplink transformation both programs share.
//!
//! ```text
//! captured ─► pixels ─► masks ─► uplink (resize, JPEG) | patches
//!          └─ without masks, a JPEG that is small enough: as it came
//! ```

use std::sync::Arc;

use bytes::Bytes;
use shared::image::{Chroma, JpegError, Limits, Mask, Rgb, jpeg, jpeg_flops};
use shared::uplink::{Prepared, Uplink};

use crate::capture::{Image, yuyv};

/// Why a captured frame cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The camera's or file's JPEG is not usable.
    #[error(transparent)]
    Jpeg(#[from] JpegError),
    /// Raw pixels that are not what their size says.
    #[error("{bytes} bytes of YUYV are no {width}×{height} picture; choose another format at the camera")]
    Yuyv {
        /// Columns announced.
        width: u32,
        /// Rows announced.
        height: u32,
        /// Bytes received.
        bytes: usize,
    },
}

/// A frame ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The bytes to send.
    pub jpeg: Bytes,
    /// Columns × rows.
    pub pixels: u64,
    /// Operations that making it took.
    pub flops: u64,
}

/// What happens to a frame between camera and encoder.
#[derive(Debug, Clone)]
pub struct Preparer {
    /// The transformation.
    pub uplink: Uplink,
    /// What nobody is to see: hidden before anything else happens to a frame.
    pub masks: Arc<[Mask]>,
    /// What is accepted.
    pub limits: Limits,
}

impl Preparer {
    /// The pixels of a captured image, those in masks hidden. Takes milliseconds where it decodes.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn pixels(&self, image: Image) -> Result<Rgb, PrepareError> {
        let mut rgb = match image {
            Image::Jpeg(bytes) => jpeg::decode(&bytes, &self.limits)?,
            Image::Rgb(rgb) => rgb,
            Image::Yuyv { width, height, data } => {
                let broken = PrepareError::Yuyv { width, height, bytes: data.len() };
                yuyv::to_rgb(width, height, &data).ok_or(broken)?
            }
        };
        self.masks.iter().for_each(|mask| mask.apply(&mut rgb));
        Ok(rgb)
    }

    /// Makes a captured image ready to send. Takes milliseconds where it decodes or encodes: not for the thread that drives
    /// the connection. With masks no JPEG goes out as it came, nor does anything else that its file holds.
    ///
    /// # Errors
    /// [`PrepareError`]; nothing is allocated for pixels beyond the limits.
    pub fn prepare(&self, image: Image) -> Result<Ready, PrepareError> {
        let Prepared { jpeg, width, height, flops, .. } = match image {
            // No copy: nobody else holds the bytes of a captured frame.
            Image::Jpeg(jpeg) if self.masks.is_empty() => {
                self.uplink.apply_jpeg(jpeg.into(), &self.limits)?
            }
            raw => {
                let decoded = matches!(raw, Image::Jpeg(_));
                let rgb = self.pixels(raw)?;
                let prepared = self.uplink.apply_rgb(&rgb);
                Prepared { flops: prepared.flops + if decoded { decoding(&rgb) } else { 0 }, ..prepared }
            }
        };
        Ok(Ready { jpeg: jpeg.into(), pixels: u64::from(width) * u64::from(height), flops })
    }
}

/// Operations of decoding a camera's JPEG. Cameras send 4:2:0; what sends more takes a little more to decode.
pub fn decoding(rgb: &Rgb) -> u64 {
    jpeg_flops(u64::from(rgb.width) * u64::from(rgb.height), Chroma::C420)
}

#[cfg(test)]
mod tests {
    use shared::image::Hide;

    use super::*;

    fn preparer(uplink: Uplink, masks: &[Mask]) -> Preparer {
        Preparer { uplink, masks: masks.into(), limits: Limits::default() }
    }

    fn ready(image: Image, uplink: Uplink) -> Result<Ready, PrepareError> {
        preparer(uplink, &[]).prepare(image)
    }

    /// Grey, with a square of a colour in the middle.
    fn scene(colour: [u8; 3]) -> Rgb {
        let mut scene = Rgb::filled(96, 64, [70, 90, 110]);
        for (x, y) in (32..64).flat_map(|x| (16..48).map(move |y| (x, y))) {
            let at = (y * 96 + x) * 3;
            scene.data[at..at + 3].copy_from_slice(&colour);
        }
        scene
    }

    #[test]
    fn what_a_mask_hides_is_in_no_byte_that_is_sent() {
        let mask = Mask::rectangle([0.32, 0.24, 0.67, 0.76], Hide::Fill).unwrap();
        let small = Uplink { max_width: 48, ..Uplink::default() };
        // Whole frames that might pass, and smaller ones, whose filter sees neighbours.
        for uplink in [Uplink::default(), small] {
            let sent = |colour, masks: &[Mask]| {
                let file = jpeg::encode(&scene(colour), 95, Chroma::C444);
                let images = [Image::Jpeg(file.into()), Image::Rgb(scene(colour))];
                images.map(|image| preparer(uplink, masks).prepare(image).unwrap().jpeg)
            };
            let (red, blue) = ([250, 10, 10], [10, 10, 250]);
            assert_ne!(sent(red, &[]), sent(blue, &[]));
            assert_eq!(sent(red, std::slice::from_ref(&mask)), sent(blue, std::slice::from_ref(&mask)));
        }
    }

    #[test]
    fn beside_a_mask_every_bit_is_as_it_was() {
        let mask = Mask::rectangle([0.34, 0.26, 0.66, 0.74], Hide::Pixelate(8)).unwrap();
        let data = (0..64 * 48 * 2).map(|i| (i * 37 % 251) as u8).collect::<Vec<u8>>();
        let yuyv = || Image::Yuyv { width: 64, height: 48, data: data.clone() };
        let (plain, masked) = (preparer(Uplink::default(), &[]), preparer(Uplink::default(), &[mask]));
        let (before, after) = (plain.pixels(yuyv()).unwrap(), masked.pixels(yuyv()).unwrap());
        let mut differ = 0;
        for (x, y) in (0..64).flat_map(|x| (0..48).map(move |y| (x, y))) {
            if (21..43).contains(&x) && (12..36).contains(&y) {
                differ += u32::from(before.pixel(x, y) != after.pixel(x, y));
            } else {
                assert_eq!(before.pixel(x, y), after.pixel(x, y), "{x}, {y}");
            }
        }
        assert!(differ > 400, "{differ}");
        // A JPEG's blocks that hold nothing of the mask are the same bits, too.
        let blocks = |preparer: &Preparer| {
            let uplink = Uplink { passthrough: false, chroma: Chroma::C444, ..preparer.uplink };
            let sent = Preparer { uplink, ..preparer.clone() }.prepare(yuyv()).unwrap();
            jpeg::decode(&sent.jpeg, &Limits::default()).unwrap()
        };
        let (before, after) = (blocks(&plain), blocks(&masked));
        for (x, y) in (0..16).flat_map(|x| (0..48).map(move |y| (x, y))) {
            assert_eq!(before.pixel(x, y), after.pixel(x, y), "{x}, {y}");
        }
    }

    #[test]
    fn a_small_jpeg_is_not_touched() {
        let small = Bytes::from(jpeg::encode(&Rgb::filled(64, 48, [9, 99, 200]), 90, Chroma::C444));
        let sent = ready(Image::Jpeg(small.clone()), Uplink::default()).unwrap();
        assert_eq!((sent.jpeg.as_ref(), sent.pixels), (small.as_ref(), 64 * 48));
        let again = Uplink { passthrough: false, ..Uplink::default() };
        assert_ne!(ready(Image::Jpeg(small.clone()), again).unwrap().jpeg, small);
    }

    #[test]
    fn large_frames_are_made_smaller_and_raw_ones_encoded() {
        let uplink = Uplink { max_width: 32, max_height: 32, ..Uplink::default() };
        let large = jpeg::encode(&Rgb::filled(64, 48, [9, 99, 200]), 90, Chroma::C444).into();
        let yuyv = Image::Yuyv { width: 64, height: 48, data: [128; 64 * 48 * 2].to_vec() };
        for image in [Image::Jpeg(large), Image::Rgb(Rgb::filled(64, 48, [1, 2, 3])), yuyv] {
            assert_eq!(ready(image, uplink).unwrap().pixels, 32 * 24);
        }
    }

    #[test]
    fn bad_frames_say_what_is_wrong() {
        let error = ready(Image::Jpeg("hello".into()), Uplink::default()).unwrap_err();
        assert!(error.to_string().contains("not a JPEG"), "{error}");
        let short = Image::Yuyv { width: 4, height: 4, data: vec![0; 31] };
        let error = ready(short, Uplink::default()).unwrap_err();
        assert!(error.to_string().contains("31 bytes of YUYV are no 4×4"), "{error}");
    }
}
