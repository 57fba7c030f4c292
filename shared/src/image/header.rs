//! What a JPEG says about itself, read without decoding a pixel (ITU-T T.81, annex B).
//!
//! ```text
//! SOI ─► APPn, DQT, DHT … ─► SOFn (size, components, sampling) ─► … SOS ─► coded data ─► EOI
//!        skipped by length   └── parse() stops here                └── end() walks on to here
//! ```

use super::jpeg::JpegError;

/// How chroma is stored beside luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Chroma {
    /// Half the columns and half the rows: what cameras send.
    #[serde(rename = "420")]
    C420,
    /// Half the columns.
    #[serde(rename = "422")]
    C422,
    /// Every pixel.
    #[serde(rename = "444")]
    C444,
}

impl Chroma {
    /// `420`, `422` or `444`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::C420 => "420",
            Self::C422 => "422",
            Self::C444 => "444",
        }
    }
}

/// The frame header of a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Colour components: 1 is grey, 3 colour, 4 CMYK.
    pub components: u8,
    /// The chroma layout, where it is one of the three usual ones; `None` for grey and for rarer layouts.
    pub chroma: Option<Chroma>,
    /// Sent in several passes from coarse to fine.
    pub progressive: bool,
}

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Reads up to the frame header. Bytes that follow it are not looked at.
pub(super) fn parse(jpeg: &[u8]) -> Result<Header, JpegError> {
    let mut at = start(jpeg)?;
    loop {
        let (marker, body, next) = segment(jpeg, at)?;
        match marker {
            0xC0..=0xC2 => return frame_header(body, marker == 0xC2),
            // DHT, JPG and DAC share the number range of the frame headers.
            0xC3 | 0xC5..=0xC7 => return unsupported("lossless or hierarchical coding"),
            0xC9..=0xCB | 0xCD..=0xCF => return unsupported("arithmetic coding"),
            EOI | SOS => return corrupt("the image data starts before the frame header"),
            _ => at = next,
        }
    }
}

/// Where the end-of-image marker is, found by walking the whole stream: a copy that stopped half way, even one
/// whose embedded thumbnail ends properly, has none. Bytes after the marker are allowed (cameras pad).
pub(super) fn end(jpeg: &[u8]) -> Result<usize, JpegError> {
    let mut at = start(jpeg)?;
    loop {
        let (marker, _, next) = segment(jpeg, at)?;
        at = match marker {
            EOI => return Ok(at),
            SOS => coded_data_end(jpeg, next)?,
            _ => next,
        };
    }
}

fn start(jpeg: &[u8]) -> Result<usize, JpegError> {
    match jpeg {
        [0xFF, SOI, ..] => Ok(2),
        [] | [0xFF] => Err(JpegError::Truncated { bytes: jpeg.len() }),
        _ => Err(JpegError::NotJpeg { found: jpeg.iter().copied().take(4).collect() }),
    }
}

/// The marker at `at`, its body, and where the next one starts.
fn segment(jpeg: &[u8], mut at: usize) -> Result<(u8, &[u8], usize), JpegError> {
    let truncated = JpegError::Truncated { bytes: jpeg.len() };
    match jpeg.get(at) {
        None => return Err(truncated),
        Some(0xFF) => {}
        Some(other) => return corrupt(&format!("expected a marker at byte {at}, found {other:#04x}")),
    }
    while jpeg.get(at) == Some(&0xFF) {
        at += 1; // fill bytes before a marker are legal
    }
    let Some(&marker) = jpeg.get(at) else { return Err(truncated) };
    at += 1;
    if matches!(marker, EOI | 0x01 | 0xD0..=0xD7) {
        return Ok((marker, &[], at));
    }
    let Some(length) = jpeg.get(at..at + 2) else { return Err(truncated) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return corrupt(&format!("segment {marker:#04x} at byte {at} says it is {length} bytes long"));
    }
    let Some(body) = jpeg.get(at + 2..at + length) else { return Err(truncated) };
    Ok((marker, body, at + length))
}

/// Where entropy-coded data that starts at `at` ends: the next marker that is neither stuffing nor a restart.
fn coded_data_end(jpeg: &[u8], mut at: usize) -> Result<usize, JpegError> {
    loop {
        let rest = jpeg.get(at..).unwrap_or_default();
        let Some(found) = rest.iter().position(|byte| *byte == 0xFF) else {
            return Err(JpegError::Truncated { bytes: jpeg.len() });
        };
        at += found;
        match jpeg.get(at + 1) {
            None => return Err(JpegError::Truncated { bytes: jpeg.len() }),
            Some(0x00 | 0xD0..=0xD7) => at += 2,
            Some(0xFF) => at += 1,
            Some(_) => return Ok(at),
        }
    }
}

fn frame_header(body: &[u8], progressive: bool) -> Result<Header, JpegError> {
    let [precision, h1, h0, w1, w0, components, layout @ ..] = body else {
        return corrupt("the frame header is too short");
    };
    let (width, height) = (u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0]));
    if *precision != 8 {
        return unsupported(&format!("{precision} bits per sample"));
    }
    if width == 0 || height == 0 {
        return corrupt(&format!("the frame header says {width}×{height} pixels"));
    }
    if *components == 0 || layout.len() != usize::from(*components) * 3 {
        return corrupt("the frame header does not fit its number of components");
    }
    // Each component: id, horizontal and vertical sampling factor in one byte, quantisation table.
    let sampling: Vec<u8> = layout.chunks_exact(3).map(|component| component[1]).collect();
    let chroma = match sampling[..] {
        [0x22, 0x11, 0x11] => Some(Chroma::C420),
        [0x21, 0x11, 0x11] => Some(Chroma::C422),
        [0x11, 0x11, 0x11] => Some(Chroma::C444),
        _ => None,
    };
    Ok(Header { width: width.into(), height: height.into(), components: *components, chroma, progressive })
}

fn unsupported<T>(what: &str) -> Result<T, JpegError> {
    Err(JpegError::Unsupported { what: what.into() })
}

fn corrupt<T>(why: &str) -> Result<T, JpegError> {
    Err(JpegError::Corrupt { why: why.into() })
}
