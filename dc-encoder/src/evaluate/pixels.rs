//! What the baselines read: pixels, and no encoder.
//!
//! ```text
//! frame ─► 20×12 thumbnail, [0, 1]
//!       └► fits 480×360 ─► departs from the pool's median by > 40 levels? ─► Σ 1/(y + 0.05)²   (counts only)
//! ```

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use shared::image::{Limits, Rgb, fit_within, load, resize};

use super::error::EvalError;

/// A thumbnail's columns and rows.
const THUMBNAIL: (u32, u32) = (20, 12);

/// The background is looked at in pictures of at most this size: larger ones cost memory and add noise.
const LARGEST: (u32, u32) = (480, 360);

/// Most frames the median is taken of, evenly spread: 120 of 480×360 pixels are 62 MB.
const MEDIAN_FRAMES: usize = 120;

/// Levels by which a pixel must depart from the background, in any colour.
const DEPARTS: u8 = 40;

/// Keeps the weight of the topmost rows finite; in picture heights.
const HORIZON: f64 = 0.05;

/// Thumbnails of frames, `[frames][20 · 12 · 3]`, in [0, 1].
///
/// # Errors
/// The first frame that cannot be read.
pub(super) fn thumbnails(frames: &[PathBuf]) -> Result<Vec<Vec<f32>>, EvalError> {
    let thumbnail = |path: &PathBuf| {
        let small = resize(&load(path, &Limits::default())?, THUMBNAIL.0, THUMBNAIL.1);
        Ok(small.data.iter().map(|level| f32::from(*level) / 255.0).collect())
    };
    frames.par_iter().map(thumbnail).collect()
}

/// Σ over the pixels that depart from the median of the pool's frames, each weighted by `1 / (y + 0.05)²`, y its
/// height in the picture from the top: a person's pixels shrink with the square of the distance. One number a frame,
/// per pixel of the picture.
///
/// # Errors
/// The first frame that cannot be read.
pub(super) fn departures(frames: &[PathBuf], pool: &[usize]) -> Result<Vec<f64>, EvalError> {
    let used = pool.len().min(MEDIAN_FRAMES);
    let spread: Vec<&PathBuf> = (0..used).map(|i| &frames[pool[i * pool.len() / used]]).collect();
    let first = reduced(spread[0], None)?;
    let size = (first.width, first.height);
    let sample = spread.par_iter().map(|path| reduced(path, Some(size))).collect::<Result<Vec<_>, _>>()?;
    let background = median(&sample);
    frames.par_iter().map(|path| Ok(weighted_departure(&reduced(path, Some(size))?, &background))).collect()
}

/// A frame at the size of the background.
fn reduced(path: &Path, size: Option<(u32, u32)>) -> Result<Rgb, EvalError> {
    let image = load(path, &Limits::default())?;
    let (width, height) = size.unwrap_or_else(|| fit_within(image.width, image.height, LARGEST.0, LARGEST.1));
    Ok(resize(&image, width, height))
}

/// The median of every byte; the lower one of an even number.
fn median(sample: &[Rgb]) -> Vec<u8> {
    let bytes = sample[0].data.len();
    let middle = (sample.len() - 1) / 2;
    let one = |at: usize| {
        let mut levels: Vec<u8> = sample.iter().map(|image| image.data[at]).collect();
        *levels.select_nth_unstable(middle).1
    };
    (0..bytes).into_par_iter().map(one).collect()
}

fn weighted_departure(image: &Rgb, background: &[u8]) -> f64 {
    let row_bytes = image.width as usize * 3;
    let rows = image.data.chunks_exact(row_bytes).zip(background.chunks_exact(row_bytes));
    let sum: f64 = rows
        .enumerate()
        .map(|(y, (row, usual))| {
            let pixels = row.chunks_exact(3).zip(usual.chunks_exact(3));
            let departing =
                pixels.filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| a.abs_diff(*b) > DEPARTS)).count();
            let height = (y as f64 + 0.5) / f64::from(image.height);
            departing as f64 / (height + HORIZON).powi(2)
        })
        .sum();
    sum / (f64::from(image.width) * f64::from(image.height))
}

#[cfg(test)]
mod tests {
    use shared::image::{Chroma, jpeg};

    use super::*;

    /// Grey frames; the last has a white block at the bottom, the one before it the same block at the top.
    fn frames(folder: &std::path::Path) -> Vec<PathBuf> {
        (0..6u32)
            .map(|k| {
                let mut image = Rgb::filled(64, 48, [100 + k as u8; 3]);
                let rows = match k {
                    4 => 0..8,
                    5 => 40..48,
                    _ => 0..0,
                };
                for y in rows {
                    image.data[(y * 64 + 16) * 3..(y * 64 + 32) * 3].fill(250);
                }
                let path = folder.join(format!("{k}.jpg"));
                std::fs::write(&path, jpeg::encode(&image, 95, Chroma::C444)).unwrap();
                path
            })
            .collect()
    }

    #[test]
    fn what_departs_counts_by_its_height_in_the_picture() {
        let dir = tempfile::tempdir().unwrap();
        let got = departures(&frames(dir.path()), &[0, 1, 2, 3]).unwrap();
        assert_eq!(got[..4], [0.0; 4]);
        let weight = |rows: std::ops::Range<u32>| -> f64 {
            rows.map(|y| 16.0 / ((f64::from(y) + 0.5) / 48.0 + 0.05).powi(2) / (64.0 * 48.0)).sum()
        };
        // JPEG blurs the block's border a little.
        for (got, want) in [(got[4], weight(0..8)), (got[5], weight(40..48))] {
            assert!((got / want - 1.0).abs() < 0.1, "{got} {want}");
        }
        assert!(got[4] > 20.0 * got[5]);
    }

    #[test]
    fn thumbnails_are_small_and_a_missing_frame_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = frames(dir.path());
        let small = thumbnails(&paths).unwrap();
        assert_eq!(small[0].len(), 20 * 12 * 3);
        assert!((small[3][0] - 103.0 / 255.0).abs() < 0.01);
        paths.push(dir.path().join("gone.jpg"));
        assert!(thumbnails(&paths).unwrap_err().to_string().contains("gone.jpg"));
    }
}
