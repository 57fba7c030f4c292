//! Motion JPEG as cameras send it: checked and trimmed, never re-encoded.
//!
//! Cameras pad their buffers, cut frames short when the bus is busy, and often leave out the Huffman tables that
//! every frame has in common (RFC 2435, appendix B; USB Video Class MJPEG payload, section 3.3).

use std::borrow::Cow;

/// Why a buffer is no whole JPEG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MjpegError {
    /// It does not begin as one.
    #[error("{bytes} bytes that do not begin as a JPEG")]
    NotJpeg {
        /// Length of the buffer.
        bytes: usize,
    },
    /// It stops before its end marker.
    #[error("the JPEG is cut short after {bytes} bytes")]
    Truncated {
        /// Length of the buffer.
        bytes: usize,
    },
    /// A segment that cannot be.
    #[error("the JPEG is damaged at byte {at}")]
    Damaged {
        /// Where.
        at: usize,
    },
}

/// The JPEG in a camera's buffer, without what follows its end; standard Huffman tables (ITU-T T.81, annex K.3)
/// are put in if it has none, else the bytes are the camera's own.
///
/// # Errors
/// The buffer holds no whole frame. Entropy-coded data is not decoded here.
pub fn tidy(buffer: &[u8]) -> Result<Cow<'_, [u8]>, MjpegError> {
    let layout = layout(buffer)?;
    let jpeg = &buffer[..layout.end];
    match layout.tables {
        true => Ok(Cow::Borrowed(jpeg)),
        false => {
            let (before, after) = jpeg.split_at(layout.frame);
            Ok(Cow::Owned([before, &STANDARD_TABLES, after].concat()))
        }
    }
}

struct Layout {
    /// Where the frame header (SOFn) begins.
    frame: usize,
    /// Just behind the end marker.
    end: usize,
    /// Whether it defines Huffman tables.
    tables: bool,
}

fn layout(data: &[u8]) -> Result<Layout, MjpegError> {
    let bytes = data.len();
    if !data.starts_with(&[0xff, 0xd8, 0xff]) {
        return Err(MjpegError::NotJpeg { bytes });
    }
    let (mut at, mut frame, mut tables) = (2, None, false);
    loop {
        let (marker, start) = marker(data, at)?;
        match marker {
            0xd9 => {
                let frame = frame.ok_or(MjpegError::Damaged { at: start })?;
                return Ok(Layout { frame, end: start + 2, tables });
            }
            0xc4 => tables = true,
            0xc0..=0xcf if marker != 0xc8 && marker != 0xcc => frame = frame.or(Some(start)),
            0x01 | 0xd0..=0xd8 => return Err(MjpegError::Damaged { at: start }),
            _ => {}
        }
        let length = data.get(start + 2..start + 4).ok_or(MjpegError::Truncated { bytes })?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(MjpegError::Damaged { at: start });
        }
        at = start + 2 + length;
        if marker == 0xda {
            at = skip_scan(data, at).ok_or(MjpegError::Truncated { bytes })?;
        }
    }
}

/// The marker at `at` and where its last `ff` is (any number of them may stand before a marker).
fn marker(data: &[u8], at: usize) -> Result<(u8, usize), MjpegError> {
    let rest = data.get(at..).unwrap_or_default();
    let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
    match (fill, rest.get(fill)) {
        (_, None) => Err(MjpegError::Truncated { bytes: data.len() }),
        (0, Some(_)) | (_, Some(0)) => Err(MjpegError::Damaged { at }),
        (_, Some(marker)) => Ok((*marker, at + fill - 1)),
    }
}

/// The first marker behind entropy-coded data: `ff00` is a data byte, `ffd0`–`ffd7` restart it.
fn skip_scan(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += data.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        match data.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

/// A DHT segment with the four tables of ITU-T T.81, annex K.3: luminance DC and AC, chrominance DC and AC.
#[rustfmt::skip]
const STANDARD_TABLES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x00, 0x02,
    0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7d, 0x01, 0x02, 0x03, 0x00,
    0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91,
    0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16,
    0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43,
    0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65,
    0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6,
    0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0x01, 0x00, 0x03, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04,
    0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05,
    0x04, 0x04, 0x00, 0x01, 0x02, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41,
    0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33,
    0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a,
    0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
    0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4,
    0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4,
    0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4,
    0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::image::{Chroma, Limits, Rgb, jpeg};

    use super::*;

    fn picture() -> Vec<u8> {
        let data = (0..64 * 48 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        jpeg::encode(&Rgb::new(64, 48, data).unwrap(), 80, Chroma::C420)
    }

    /// The picture as a camera sends it that leaves out the tables.
    fn without_tables(jpeg: &[u8]) -> Vec<u8> {
        let mut out = jpeg[..2].to_vec();
        let mut at = 2;
        loop {
            let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            match jpeg[at + 1] {
                0xc4 => {}
                0xda => return [&out, &jpeg[at..]].concat(),
                _ => out.extend(&jpeg[at..at + length]),
            }
            at += length;
        }
    }

    #[test]
    fn a_whole_frame_passes_untouched_and_padding_goes() {
        let frame = picture();
        assert!(matches!(tidy(&frame).unwrap(), Cow::Borrowed(bytes) if bytes == frame));
        let padded = [&frame[..], &[0; 500]].concat();
        assert!(matches!(tidy(&padded).unwrap(), Cow::Borrowed(bytes) if bytes == frame));
    }

    #[test]
    fn missing_tables_are_the_standard_ones() {
        let frame = picture();
        let bare = without_tables(&frame);
        assert!(bare.len() + 400 < frame.len());
        let limits = Limits::default();
        assert!(jpeg::decode(&bare, &limits).is_err());
        let tidied = tidy(&bare).unwrap();
        assert!(jpeg::decode(&tidied, &limits).unwrap() == jpeg::decode(&frame, &limits).unwrap());
    }

    #[test]
    fn cut_and_strange_frames_are_refused() {
        let frame = picture();
        for cut in 3..frame.len() {
            assert!(tidy(&frame[..cut]).is_err(), "{cut} of {}", frame.len());
        }
        assert_eq!(tidy(&[0; 100]), Err(MjpegError::NotJpeg { bytes: 100 }));
        assert_eq!(tidy(&[]), Err(MjpegError::NotJpeg { bytes: 0 }));
        assert_eq!(tidy(&[0xff, 0xd8, 0xff, 0xd9]), Err(MjpegError::Damaged { at: 2 }));
        assert_eq!(tidy(&[0xff, 0xd8, 0xff, 0xe0, 0, 1]), Err(MjpegError::Damaged { at: 2 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(flips in proptest::collection::vec((0..2000_usize, any::<u8>()), 0..20)) {
            let mut frame = picture();
            for (at, byte) in flips {
                let length = frame.len();
                frame[at % length] = byte;
            }
            let _ = tidy(&frame);
        }
    }
}
