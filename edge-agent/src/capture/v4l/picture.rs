//! From a driver's buffer to a frame's pixels. Pure.

use crate::capture::{Image, Pixels, mjpeg};

/// Chroma of grey.
const NEUTRAL: u8 = 128;

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
            raw => self.packed(raw, filled),
        }
    }

    /// Raw pixels as `YUYV`, the one raw format that the rest of the agent knows.
    fn packed(&self, raw: Pixels, filled: &[u8]) -> Result<Image, String> {
        let (width, height) = (self.width as usize, self.height as usize);
        let row = if matches!(raw, Pixels::Yuyv | Pixels::Uyvy) { width * 2 } else { width };
        let stride = (self.stride as usize).max(row);
        let luma = Plane::of(filled, row, stride, height)?;
        let mut data = Vec::with_capacity(width * 2 * height);
        match raw {
            Pixels::Uyvy => luma.rows().for_each(|line| {
                data.extend(line.as_chunks::<4>().0.iter().flat_map(|&[u, y0, v, y1]| [y0, u, y1, v]));
            }),
            Pixels::Nv12 if !width.is_multiple_of(2) => return Err(format!("its width of {width} is odd")),
            Pixels::Nv12 => {
                let rest = filled.get(stride * height..).unwrap_or_default();
                let chroma = Plane::of(rest, row, stride, height.div_ceil(2))?;
                for (at, line) in luma.rows().enumerate() {
                    let pairs = line.as_chunks::<2>().0.iter().zip(chroma.row(at / 2).as_chunks::<2>().0);
                    data.extend(pairs.flat_map(|(&[y0, y1], &[u, v])| [y0, u, y1, v]));
                }
            }
            Pixels::Grey => luma.rows().for_each(|line| data.extend(line.iter().flat_map(|&y| [y, NEUTRAL]))),
            Pixels::Yuyv | Pixels::Mjpeg => luma.rows().for_each(|line| data.extend_from_slice(line)),
        }
        Ok(Image::Yuyv { width: self.width, height: self.height, data })
    }
}

/// Rows of bytes with padding between them.
struct Plane<'a> {
    bytes: &'a [u8],
    row: usize,
    stride: usize,
    rows: usize,
}

impl<'a> Plane<'a> {
    /// The last row needs no padding behind it.
    fn of(bytes: &'a [u8], row: usize, stride: usize, rows: usize) -> Result<Self, String> {
        let needed = stride * rows.saturating_sub(1) + row;
        if bytes.len() < needed {
            return Err(format!("the camera sent {} of {needed} bytes", bytes.len()));
        }
        Ok(Self { bytes, row, stride, rows })
    }

    fn row(&self, at: usize) -> &'a [u8] {
        &self.bytes[at * self.stride..][..self.row]
    }

    fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a> {
        (0..self.rows).map(|at| self.row(at))
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

    /// One picture in every layout, rows padded to 6 or 4 bytes.
    #[test]
    fn every_raw_format_becomes_the_same() {
        let of = |pixels, stride, buffer: &[u8]| {
            let geometry = Geometry { pixels, ..yuyv(stride) };
            match geometry.picture(buffer, buffer.len() as u32).unwrap() {
                Image::Yuyv { data, .. } => data,
                other => panic!("{other:?}"),
            }
        };
        let wanted = [1, 9, 2, 8, 3, 9, 4, 8];
        assert_eq!(of(Pixels::Yuyv, 6, &[1, 9, 2, 8, 0, 0, 3, 9, 4, 8]), wanted);
        assert_eq!(of(Pixels::Uyvy, 6, &[9, 1, 8, 2, 0, 0, 9, 3, 8, 4]), wanted);
        assert_eq!(of(Pixels::Nv12, 4, &[1, 2, 0, 0, 3, 4, 0, 0, 9, 8]), wanted);
        assert_eq!(of(Pixels::Grey, 4, &[1, 2, 0, 0, 3, 4]), [1, 128, 2, 128, 3, 128, 4, 128]);
    }

    #[test]
    fn a_plane_that_is_missing_is_refused() {
        let nv12 = Geometry { pixels: Pixels::Nv12, ..yuyv(4) };
        assert_eq!(nv12.picture(&[0; 8], 8).unwrap_err(), "the camera sent 0 of 2 bytes");
        assert!(Geometry { width: 3, ..nv12 }.picture(&[0; 64], 64).unwrap_err().contains("odd"));
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
