//! From a driver's buffer to a frame's pixels. Pure.

use super::choose::Pixels;
use crate::capture::{Image, mjpeg};

/// How a driver lays out its buffers, as it confirmed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) pixels: Pixels,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from one row to the next (raw formats).
    pub(super) stride: u32,
}

impl Geometry {
    /// Copies the frame out of `buffer`, of which the driver filled the first `used` bytes, or says what is wrong
    /// with it.
    pub(super) fn picture(&self, buffer: &[u8], used: u32) -> Result<Image, String> {
        let filled = buffer.get(..used as usize).unwrap_or(buffer);
        match self.pixels {
            Pixels::Mjpeg => {
                let jpeg = mjpeg::tidy(filled).map_err(|error| error.to_string())?;
                Ok(Image::Jpeg(jpeg.into_owned().into()))
            }
            Pixels::Yuyv => self.rows(filled),
        }
    }

    fn rows(&self, filled: &[u8]) -> Result<Image, String> {
        let (row, rows) = (self.width as usize * 2, self.height as usize);
        let stride = (self.stride as usize).max(row);
        // The last row needs no padding behind it.
        let needed = stride * rows.saturating_sub(1) + row;
        if filled.len() < needed {
            return Err(format!("the camera sent {} of {needed} bytes", filled.len()));
        }
        let mut data = Vec::with_capacity(row * rows);
        for line in filled.chunks(stride).take(rows) {
            data.extend_from_slice(&line[..row]);
        }
        Ok(Image::Yuyv { width: self.width, height: self.height, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yuyv(stride: u32) -> Geometry {
        Geometry { pixels: Pixels::Yuyv, width: 2, height: 2, stride }
    }

    #[test]
    fn rows_lose_their_padding() {
        let buffer = *b"aaaa__bbbb__trailing";
        for (stride, used, wanted) in
            [(6, 12, "aaaabbbb"), (6, 10, "aaaabbbb"), (4, 8, "aaaa__bb"), (0, 8, "aaaa__bb")]
        {
            match yuyv(stride).picture(&buffer, used) {
                Ok(Image::Yuyv { width: 2, height: 2, data }) => assert_eq!(data, wanted.as_bytes()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn short_frames_are_refused() {
        let error = yuyv(6).picture(b"aaaa__bbbb", 9).unwrap_err();
        assert_eq!(error, "the camera sent 9 of 10 bytes");
        assert!(yuyv(6).picture(b"aaaa", 4_000_000_000).is_err());
    }

    #[test]
    fn mjpeg_is_checked() {
        let geometry = Geometry { pixels: Pixels::Mjpeg, ..yuyv(0) };
        assert!(geometry.picture(&[0; 64], 64).unwrap_err().contains("do not begin as a JPEG"));
        let gray = shared::image::Rgb::filled(16, 16, [9, 9, 9]);
        let jpeg = shared::image::jpeg::encode(&gray, 80, shared::image::Chroma::C420);
        let mut buffer = jpeg.clone();
        buffer.resize(jpeg.len() + 100, 7);
        match geometry.picture(&buffer, buffer.len() as u32) {
            Ok(Image::Jpeg(bytes)) => assert!(bytes == jpeg),
            other => panic!("{other:?}"),
        }
    }
}
