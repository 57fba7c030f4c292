//! From what a source gives to the JPEG that is sent, by the uplink transformation both programs share.

use bytes::Bytes;
use shared::image::{JpegError, Limits, Rgb, jpeg};
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

/// The pixels of a captured image. Takes milliseconds where it decodes.
///
/// # Errors
/// As [`prepare`].
pub fn pixels(image: Image, limits: &Limits) -> Result<Rgb, PrepareError> {
    match image {
        Image::Jpeg(bytes) => Ok(jpeg::decode(&bytes, limits)?),
        Image::Rgb(rgb) => Ok(rgb),
        Image::Yuyv { width, height, data } => {
            let broken = PrepareError::Yuyv { width, height, bytes: data.len() };
            yuyv::to_rgb(width, height, &data).ok_or(broken)
        }
    }
}

/// Applies `uplink` to a captured image. Takes milliseconds where it decodes or encodes: not for the thread
/// that drives the connection.
///
/// # Errors
/// [`PrepareError`]; nothing is allocated for pixels beyond `limits`.
pub fn prepare(image: Image, uplink: &Uplink, limits: &Limits) -> Result<Ready, PrepareError> {
    let Prepared { jpeg, width, height, flops, .. } = match image {
        // No copy: nobody else holds the bytes of a captured frame.
        Image::Jpeg(jpeg) => uplink.apply_jpeg(jpeg.into(), limits)?,
        raw => uplink.apply_rgb(&pixels(raw, limits)?),
    };
    Ok(Ready { jpeg: jpeg.into(), pixels: u64::from(width) * u64::from(height), flops })
}

#[cfg(test)]
mod tests {
    use shared::image::Chroma;

    use super::*;

    fn ready(image: Image, uplink: Uplink) -> Result<Ready, PrepareError> {
        prepare(image, &uplink, &Limits::default())
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
