//! What the agent does to a frame before sending it.
//!
//! ```text
//! JPEG ─► check ─► small enough, passthrough on? ── yes ─► the same bytes
//!                                               └─ no ──► decode ─► fit ─► encode
//! Rgb  ─────────────────────────────────────────────────────────► fit ─► encode
//! with patches: decode ─► the encoder's input size ─► a mosaic of some patches ─► encode
//! ```
//! Frames for training pass through the same code, and a head records the transformation's [`Uplink::id`]: JPEG
//! leaves traces that an encoder sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use crate::image::Chroma;
use crate::image::{JpegError, Limits, Rgb, fit_within, jpeg, jpeg_flops, resize, resize_flops};
use crate::patches::{ParsePolicyError, Policy};

/// Version of the steps, the first part of every id. A change to any byte they produce is a new one.
const VERSION: &str = "v1";

/// What stands before the patches in an id.
const PATCHES: &str = ":patches=";

/// The longest side JPEG can express, in pixels.
const MAX_SIDE: u32 = 65_535;

/// The transformation. Written in files as a table; unknown keys are rejected, missing ones take the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct Uplink {
    /// Wider frames are made smaller, keeping their shape. Default 960 pixels, the seed encoder's input.
    pub max_width: u32,
    /// Higher frames are made smaller, keeping their shape. Default 576 pixels, the seed encoder's input.
    pub max_height: u32,
    /// JPEG quality, 1 to 100 on libjpeg's scale. Default 80.
    pub quality: u8,
    /// JPEG chroma layout. Default 4:2:0.
    pub chroma: Chroma,
    /// Send a JPEG that is small enough as it came, byte for byte. Default yes.
    pub passthrough: bool,
    /// Which patches of a frame are sent. Default all, as one JPEG; otherwise the frame has the encoder's input size and
    /// 4:4:4 chroma, and of the others only the quality counts.
    pub patches: Policy,
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            max_width: 960,
            max_height: 576,
            quality: 80,
            chroma: Chroma::C420,
            passthrough: true,
            patches: Policy::All,
        }
    }
}

/// [`Uplink`] as written in a file, before its values are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    max_width: u32,
    max_height: u32,
    quality: u8,
    chroma: Chroma,
    passthrough: bool,
    patches: Policy,
}

impl Default for Table {
    fn default() -> Self {
        let Uplink { max_width, max_height, quality, chroma, passthrough, patches } = Uplink::default();
        Self { max_width, max_height, quality, chroma, passthrough, patches }
    }
}

impl TryFrom<Table> for Uplink {
    type Error = ParseError;

    fn try_from(table: Table) -> Result<Self, ParseError> {
        let Table { max_width, max_height, quality, chroma, passthrough, patches } = table;
        Self { max_width, max_height, quality, chroma, passthrough, patches }.validated()
    }
}

/// Why an uplink transformation is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A side out of range.
    #[error("uplink size {width}x{height} is out of range: each side is 1 to {MAX_SIDE} pixels")]
    Size {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A quality out of range.
    #[error("uplink quality {0} is out of range: 1 to 100")]
    Quality(u8),
    /// Made by another version of this program.
    #[error(
        "uplink {id:?} is of version {version:?}, this program knows {VERSION:?}; use the same version on both sides"
    )]
    Version {
        /// The whole id.
        id: String,
        /// Its first part.
        version: String,
    },
    /// Not of the form of an id.
    #[error(
        "uplink {0:?} is not of the form v1:WIDTHxHEIGHT:qQUALITY:420|422|444:pass|encode[:patches=PATCHES]"
    )]
    Form(String),
    /// Patches that are none.
    #[error("uplink {id:?}: {source}")]
    Patches {
        /// The whole id.
        id: String,
        /// What is wrong with them.
        source: ParsePolicyError,
    },
}

impl Uplink {
    /// What a head records, for example `v1:960x576:q80:420:pass` (`encode` in place of `pass` where every frame
    /// is encoded anew; `:patches=changed(8,60)` behind it where not all patches are sent). [`FromStr`] reads it back.
    pub fn id(&self) -> String {
        self.to_string()
    }

    /// Checks the values' ranges.
    pub fn validated(self) -> Result<Self, ParseError> {
        let side = 1..=MAX_SIDE;
        if !side.contains(&self.max_width) || !side.contains(&self.max_height) {
            return Err(ParseError::Size { width: self.max_width, height: self.max_height });
        }
        if !(1..=100).contains(&self.quality) {
            return Err(ParseError::Quality(self.quality));
        }
        Ok(self)
    }

    /// Prepares a frame that is a JPEG already (a camera that compresses, a file).
    ///
    /// One that fits and may pass is returned unchanged, after the checks of [`jpeg::check`]: limits, kind, and
    /// an end. Damage that only decoding reveals is left to the encoder to refuse.
    pub fn apply_jpeg(&self, jpeg: Vec<u8>, limits: &Limits) -> Result<Prepared, JpegError> {
        let header = jpeg::check(&jpeg, limits)?;
        if self.passthrough && header.width <= self.max_width && header.height <= self.max_height {
            return Ok(Prepared {
                jpeg,
                untouched: true,
                width: header.width,
                height: header.height,
                flops: 0,
            });
        }
        let decoding = jpeg_flops(
            u64::from(header.width) * u64::from(header.height),
            header.chroma.unwrap_or(Chroma::C420),
        );
        let prepared = self.apply_rgb(&jpeg::decode(&jpeg, limits)?);
        Ok(Prepared { flops: decoding + prepared.flops, ..prepared })
    }

    /// Prepares a frame from pixels: fits it in, never enlarging it, and encodes it.
    pub fn apply_rgb(&self, image: &Rgb) -> Prepared {
        let (width, height) = fit_within(image.width, image.height, self.max_width, self.max_height);
        let jpeg = if (width, height) == (image.width, image.height) {
            jpeg::encode(image, self.quality, self.chroma)
        } else {
            jpeg::encode(&resize(image, width, height), self.quality, self.chroma)
        };
        let encoding = jpeg_flops(u64::from(width) * u64::from(height), self.chroma);
        let flops = resize_flops((image.width, image.height), (width, height)) + encoding;
        Prepared { jpeg, untouched: false, width, height, flops }
    }
}

/// A frame ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The bytes to send.
    pub jpeg: Vec<u8>,
    /// They are the bytes that came in.
    pub untouched: bool,
    /// Columns of the frame that is sent.
    pub width: u32,
    /// Rows of the frame that is sent.
    pub height: u32,
    /// Operations that preparing it took: [`jpeg_flops`], [`resize_flops`].
    pub flops: u64,
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_width, max_height, quality, chroma, passthrough, patches } = self;
        let pass = if *passthrough { "pass" } else { "encode" };
        write!(f, "{VERSION}:{max_width}x{max_height}:q{quality}:{}:{pass}", chroma.as_str())?;
        // Whole frames are named as they were before there was a choice.
        if *patches == Policy::All { Ok(()) } else { write!(f, "{PATCHES}{patches}") }
    }
}

impl FromStr for Uplink {
    type Err = ParseError;

    fn from_str(id: &str) -> Result<Self, ParseError> {
        let version = id.split(':').next().unwrap_or_default();
        let numbered = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if version != VERSION && version.strip_prefix('v').is_some_and(numbered) {
            return Err(ParseError::Version { id: id.into(), version: version.into() });
        }
        let (whole, patches) = match id.split_once(PATCHES) {
            None => (id, Policy::All),
            Some((whole, patches)) => {
                let patches =
                    patches.parse().map_err(|source| ParseError::Patches { id: id.into(), source })?;
                (whole, patches)
            }
        };
        let uplink = parse(whole).ok_or_else(|| ParseError::Form(id.into()))?;
        let uplink = Self { patches, ..uplink }.validated()?;
        // One spelling only: ids are compared as text.
        if uplink.id() == id { Ok(uplink) } else { Err(ParseError::Form(id.into())) }
    }
}

fn parse(id: &str) -> Option<Uplink> {
    let parts: Vec<&str> = id.split(':').collect();
    let [VERSION, size, quality, chroma, pass] = parts[..] else { return None };
    let (width, height) = size.split_once('x')?;
    Some(Uplink {
        max_width: width.parse().ok()?,
        max_height: height.parse().ok()?,
        quality: quality.strip_prefix('q')?.parse().ok()?,
        chroma: [Chroma::C420, Chroma::C422, Chroma::C444]
            .into_iter()
            .find(|known| known.as_str() == chroma)?,
        passthrough: match pass {
            "pass" => true,
            "encode" => false,
            _ => return None,
        },
        patches: Policy::All,
    })
}
