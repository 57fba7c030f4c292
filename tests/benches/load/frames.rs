//! Pictures to send.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use shared::image::{Chroma, Rgb, jpeg};
use tests::plaza::{Clock, Plaza};

/// Seed of the plaza that is sent.
const SEED: u64 = 7;
/// Seconds between the pictures: light and people differ.
const STEP_S: f64 = 4321.0;
/// Longest comment segment: its length counts its own two bytes, in sixteen bits.
const MOST_COMMENT_BYTES: usize = 65_533;

pub(crate) type Jpegs = Arc<Vec<Vec<u8>>>;

/// Pictures of the plaza as an agent sends them, 960×576 at quality 80.
pub(crate) fn usual(count: u32) -> Jpegs {
    let plaza = Plaza::new(SEED);
    Arc::new(pictures(&plaza, count).map(|image| jpeg::encode(&image, 80, Chroma::C420)).collect())
}

/// The same with the lowest quality that gives `bytes` or more.
pub(crate) fn of_bytes(count: u32, bytes: usize) -> anyhow::Result<Jpegs> {
    let plaza = Plaza::new(SEED);
    let jpegs: Option<Vec<Vec<u8>>> = pictures(&plaza, count)
        .map(|image| {
            let qualities = (80..=100).map(|quality| jpeg::encode(&image, quality, Chroma::C420));
            qualities.into_iter().find(|jpeg| jpeg.len() >= bytes)
        })
        .collect();
    Ok(Arc::new(jpegs.with_context(|| format!("no quality makes {bytes} bytes of the plaza"))?))
}

/// A picture of 32×16 with comments, `bytes` long: it takes no time to decode.
pub(crate) fn padded(bytes: usize) -> anyhow::Result<Jpegs> {
    let small = jpeg::encode(&Rgb::filled(32, 16, [90; 3]), 90, Chroma::C420);
    let mut padding = bytes.checked_sub(small.len()).context("more bytes than the picture has")?;
    let (start, rest) = small.split_at(2);
    let mut padded = start.to_vec();
    while padding > 4 {
        let comment = (padding - 4).min(MOST_COMMENT_BYTES);
        padded.extend([0xff, 0xfe]);
        padded.extend(u16::try_from(comment + 2)?.to_be_bytes());
        padded.resize(padded.len() + comment, b' ');
        padding -= comment + 4;
    }
    padded.extend(rest);
    ensure!(padded.len().abs_diff(bytes) <= 4, "{} bytes instead of {bytes}", padded.len());
    Ok(Arc::new(vec![padded]))
}

fn pictures(plaza: &Plaza, count: u32) -> impl Iterator<Item = Rgb> {
    (0..count).map(move |number| plaza.frame(Clock(36_000.0 + f64::from(number) * STEP_S)).0)
}
