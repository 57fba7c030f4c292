//! JPEG in and out.
//!
//! ```text
//! bytes ─► max_bytes ─► header ─► max_pixels ─► end marker there? ─► decode (strict) ─► Rgb
//! ```
//! Every limit is checked on what the header says, before memory is taken for pixels. EXIF orientation is
//! ignored: a fixed camera writes none, and turning the frame would move the geometry a head was trained on.

use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::{Chroma, Header, Limits, Rgb, header};

/// Scans allowed in a progressive image: encoders write about ten, each costs a pass over all coefficients.
const MAX_SCANS: usize = 32;

/// Bytes the decoder may read past the coded data of a whole frame: it fills a 64-bit buffer ahead of use.
const READ_AHEAD: usize = 16;

/// Why bytes are not a usable JPEG frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// More bytes than the limit.
    #[error("the JPEG is {bytes} bytes, the limit is {max}; lower the quality or the size at the camera")]
    TooLarge {
        /// Bytes received.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The first bytes are not those of a JPEG.
    #[error("not a JPEG: it starts with {} instead of ff d8", hex(found))]
    NotJpeg {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// The data stops before the end-of-image marker.
    #[error("the JPEG is truncated: it stops after {bytes} bytes, before its end marker")]
    Truncated {
        /// Bytes that are there.
        bytes: usize,
    },
    /// The header announces more pixels than the limit.
    #[error("the JPEG is {width}×{height} pixels, the limit is {max} pixels; lower the camera's resolution")]
    TooManyPixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit, in pixels.
        max: u64,
    },
    /// A kind of JPEG that cameras do not send.
    #[error("this kind of JPEG is not supported: {what}; set the camera to 8-bit baseline JPEG")]
    Unsupported {
        /// What is unusual about it.
        what: String,
    },
    /// Damaged inside.
    #[error("the JPEG is damaged: {why}")]
    Corrupt {
        /// What the parser or decoder found.
        why: String,
    },
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// Size, components and chroma layout, without decoding. Looks no further than the frame header, so a
/// truncated file passes; see [`check`].
pub fn probe(jpeg: &[u8]) -> Result<Header, JpegError> {
    header::parse(jpeg)
}

/// Everything [`decode`] refuses before it decodes: limits, kind, and a missing end. Allocates nothing.
pub fn check(jpeg: &[u8], limits: &Limits) -> Result<Header, JpegError> {
    check_to_end(jpeg, limits).map(|(header, _)| header)
}

/// [`check`], and where the end marker is.
fn check_to_end(jpeg: &[u8], limits: &Limits) -> Result<(Header, usize), JpegError> {
    if jpeg.len() > limits.max_bytes {
        return Err(JpegError::TooLarge { bytes: jpeg.len(), max: limits.max_bytes });
    }
    let header = probe(jpeg)?;
    let Header { width, height, components, .. } = header;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(JpegError::TooManyPixels { width, height, max: limits.max_pixels });
    }
    if !matches!(components, 1 | 3) {
        let kind = if components == 4 { " (CMYK)" } else { "" };
        return Err(JpegError::Unsupported { what: format!("{components} colour components{kind}") });
    }
    Ok((header, header::end(jpeg)?))
}

/// Decodes a whole frame; grey becomes RGB with three equal channels. Strict: a frame that stops early or is
/// damaged inside is an error, never a picture that is grey from some row on. (What stays unseen: some dozens of
/// bytes lost right before an end marker, and data lost inside a progressive frame, which no camera sends.)
pub fn decode(jpeg: &[u8], limits: &Limits) -> Result<Rgb, JpegError> {
    let (header, end) = check_to_end(jpeg, limits)?;
    if header.progressive {
        return decode_as(jpeg, header);
    }
    // Given an end marker, zune-jpeg fills whatever is missing before it, in its strict mode too. Without one it
    // says that the data ran out. The zeros are what it may read ahead at the end of a whole frame.
    let mut open_ended = Vec::with_capacity(end + READ_AHEAD);
    open_ended.extend_from_slice(&jpeg[..end]);
    open_ended.resize(end + READ_AHEAD, 0);
    decode_as(&open_ended, header)
}

fn decode_as(jpeg: &[u8], header: Header) -> Result<Rgb, JpegError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(header.width as usize)
        .set_max_height(header.height as usize)
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let data = JpegDecoder::new_with_options(ZCursor::new(jpeg), options).decode().map_err(explain)?;
    Rgb::new(header.width, header.height, data)
        .ok_or_else(|| JpegError::Corrupt { why: "the decoded size differs from the frame header's".into() })
}

fn explain(error: DecodeErrors) -> JpegError {
    match error {
        DecodeErrors::Unsupported(what) => JpegError::Unsupported { what: format!("{what:?}") },
        other => JpegError::Corrupt { why: other.to_string() },
    }
}

/// Encodes as baseline JPEG with the standard Huffman tables: the same pixels give the same bytes on every
/// processor (integer arithmetic, no SIMD variant; see the workspace's `Cargo.toml`).
///
/// Chroma is averaged over the pixels it stands for (not taken from one of them). `quality` is 1 to 100 on
/// libjpeg's scale; values outside are clamped. Panics if a side is over 65,535 pixels or `data` is not
/// `width × height × 3` bytes.
pub fn encode(image: &Rgb, quality: u8, chroma: Chroma) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality.clamp(1, 100));
    encoder.set_sampling_factor(match chroma {
        Chroma::C420 => SamplingFactor::R_4_2_0,
        Chroma::C422 => SamplingFactor::R_4_2_2,
        Chroma::C444 => SamplingFactor::R_4_4_4,
    });
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let side = |pixels: u32| u16::try_from(pixels).expect("a JPEG side is at most 65,535 pixels");
    encoder
        .encode(&image.data, side(image.width), side(image.height), ColorType::Rgb)
        .expect("writing to memory cannot fail and the image has width × height × 3 bytes");
    jpeg
}
