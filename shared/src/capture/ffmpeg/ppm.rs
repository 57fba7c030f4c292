//! Frames out of a pipe of binary PPM images, as `-c:v ppm -f image2pipe` writes them.
//!
//! Format: <https://netpbm.sourceforge.net/doc/ppm.html> without comments, which ffmpeg never writes.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use crate::image::Rgb;
use jiff::Timestamp;

/// The longest header: `P6\n`, two numbers of five digits, `255\n`, with room to spare.
const MAX_HEADER_BYTES: usize = 32;

/// A frame and when it came.
pub(super) struct Frame {
    pub(super) image: Rgb,
    /// Wall clock at its first byte.
    pub(super) captured_at: Timestamp,
    /// At its first byte.
    pub(super) started: Instant,
    /// At its last byte.
    pub(super) ready: Instant,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PpmError {
    #[error("the pipe ended within a frame")]
    Truncated,
    #[error("ffmpeg wrote something that is no PPM frame ({0:?})")]
    Header(String),
    #[error("a frame of {width}x{height} is more than {max} pixels")]
    TooLarge { width: u32, height: u32, max: u64 },
    #[error("the pipe failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads the next frame; `None` at the end of the pipe. The size is checked before memory is taken for it.
///
/// Pixels are read straight into the vector that travels on with the frame: nothing is zeroed or copied twice,
/// and the allocator hands a freed frame's memory to the next one of the same size.
pub(super) fn read(pipe: &mut impl BufRead, max_pixels: u64) -> Result<Option<Frame>, PpmError> {
    if pipe.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (captured_at, started) = (Timestamp::now(), Instant::now());
    let (width, height) = read_header(pipe)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(PpmError::TooLarge { width, height, max: max_pixels });
    }
    let bytes = pixels * 3;
    let mut data = Vec::with_capacity(bytes as usize);
    pipe.take(bytes).read_to_end(&mut data)?;
    let image = Rgb::new(width, height, data).ok_or(PpmError::Truncated)?;
    Ok(Some(Frame { image, captured_at, started, ready: Instant::now() }))
}

/// Reads `P6 WIDTH HEIGHT 255` and the single white space after it.
fn read_header(pipe: &mut impl Read) -> Result<(u32, u32), PpmError> {
    let mut header = Vec::with_capacity(MAX_HEADER_BYTES);
    let mut words = 0;
    while words < 4 {
        let mut byte = [0];
        match pipe.read_exact(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(PpmError::Truncated),
            other => other?,
        }
        header.push(byte[0]);
        words += usize::from(byte[0].is_ascii_whitespace());
        if header.len() > MAX_HEADER_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&header);
    parse_header(&text).ok_or_else(|| PpmError::Header(text.into_owned()))
}

fn parse_header(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split_ascii_whitespace();
    let magic = words.next()?;
    let (width, height) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let depth = words.next()?;
    (magic == "P6" && depth == "255" && width > 0 && height > 0 && words.next().is_none())
        .then_some((width, height))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;

    fn frame(bytes: &[u8]) -> Result<Option<Rgb>, PpmError> {
        Ok(read(&mut Cursor::new(bytes), 1000)?.map(|frame| frame.image))
    }

    #[test]
    fn frames_follow_each_other() {
        let mut bytes = b"P6\n2 1\n255\nabcdef".to_vec();
        bytes.extend(b"P6\n1 2\n255\n\n \n123P6\n1 1\n255\nxyz");
        // A tiny buffer: frames and headers come in pieces.
        let mut pipe = BufReader::with_capacity(3, Cursor::new(bytes));
        let mut sizes = Vec::new();
        while let Some(frame) = read(&mut pipe, 1000).unwrap() {
            sizes.push((frame.image.width, frame.image.height, frame.image.data));
            assert!(frame.ready >= frame.started);
        }
        assert_eq!(
            sizes,
            [(2, 1, b"abcdef".to_vec()), (1, 2, b"\n \n123".to_vec()), (1, 1, b"xyz".to_vec())]
        );
    }

    #[test]
    fn broken_frames_are_refused() {
        assert!(frame(b"").unwrap().is_none());
        assert!(matches!(frame(b"P6\n2 1\n255\nabcde"), Err(PpmError::Truncated)));
        assert!(matches!(frame(b"P6\n2 1"), Err(PpmError::Truncated)));
        assert!(matches!(frame(b"P5\n2 1\n255\nabcdef"), Err(PpmError::Header(_))));
        assert!(matches!(frame(b"P6\n0 1\n255\n"), Err(PpmError::Header(_))));
        assert!(matches!(frame(b"P6\n1 1\n65535\nabcdef"), Err(PpmError::Header(_))));
        assert!(matches!(frame(&[b'x'; 100]), Err(PpmError::Header(_))));
    }

    #[test]
    fn a_bomb_takes_no_memory() {
        let error = frame(b"P6\n4294967295 4294967295\n255\n").err().unwrap();
        assert!(matches!(error, PpmError::TooLarge { max: 1000, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = frame(&bytes);
            let _ = frame(&[b"P6\n".as_slice(), &bytes].concat());
        }
    }
}
