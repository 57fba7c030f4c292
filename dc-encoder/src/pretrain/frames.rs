//! Frames for training: prepared as for serving, checked once, kept in memory as far as a limit allows.
//!
//! ```text
//! list ─► uplink ─► decode ─► input size ─┬─ kept as bytes, up to the limit
//!         (all once, in parallel)         └─ beyond it: made again whenever it is used
//! first frames: training │ last stretch: held out
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytesize::ByteSize;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::frames::{self, FrameRef};
use shared::image::{Limits, Rgb};
use shared::uplink::Uplink;

use super::error::PretrainError;
use crate::embed::Preparation;

/// Grid of the small brightness picture by which near-duplicates are found.
const THUMB: (usize, usize) = (18, 32);
/// Frames whose small pictures differ by less than this on average (of 255) show the same.
const SAME: f32 = 1.0;
/// Fewest frames: one to train on, one held out.
const LEAST: usize = 2;

/// What is read and how.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) uplink: Uplink,
    pub(super) limits: Limits,
    /// Height and width of the encoder's input.
    pub(super) input: (usize, usize),
    /// Most bytes kept in memory.
    pub(super) cache: ByteSize,
    /// Stop at a frame that cannot be used, instead of leaving it out.
    pub(super) strict: bool,
    /// Share of the frames held out.
    pub(super) hold_out: f64,
}

/// A frame that was left out: its id and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its id.
    pub file: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// The usable frames of a folder or list.
#[derive(Debug)]
pub(super) struct Frames {
    refs: Vec<FrameRef>,
    kept: Vec<Option<Arc<Rgb>>>,
    preparation: Preparation,
    /// Frames from here on are held out.
    first_held_out: usize,
    pub(super) skipped: Vec<Skipped>,
    /// Share of the frames that show what the frame before shows.
    pub(super) duplicates: f64,
    /// SHA-256 over ids and sizes of the usable frames, 64 hexadecimal digits.
    pub(super) digest: String,
}

/// One frame after the check.
type Checked = Result<(Option<Arc<Rgb>>, Vec<f32>), String>;

impl Frames {
    /// Lists, prepares and checks every frame. `progress` is told once a frame.
    pub(super) fn read(source: &Source<'_>, progress: &(dyn Fn() + Sync)) -> Result<Self, PretrainError> {
        let refs = frames::list(source.path)?;
        let total = refs.len();
        let preparation = Preparation { uplink: source.uplink, limits: source.limits, input: source.input };
        let frame_bytes = (source.input.0 * source.input.1 * 3) as u64;
        // Frames are kept from the first on: which ones does not depend on the order in which threads finish.
        let room = usize::try_from(source.cache.as_u64() / frame_bytes).unwrap_or(usize::MAX);
        let failed = AtomicU64::new(0);
        let checked: Vec<Checked> = refs
            .par_iter()
            .enumerate()
            .map(|(index, frame)| {
                if source.strict && failed.load(Ordering::Relaxed) > 0 {
                    return Err("not looked at".to_owned());
                }
                let prepared = preparation.prepare(&frame.path);
                progress();
                match prepared {
                    Ok(image) => Ok(((index < room).then(|| image.clone()), thumb(&image))),
                    Err(reason) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        Err(reason)
                    }
                }
            })
            .collect();
        let mut frames = Self {
            refs: Vec::with_capacity(total),
            kept: Vec::with_capacity(total),
            preparation,
            first_held_out: 0,
            skipped: Vec::new(),
            duplicates: 0.0,
            digest: String::new(),
        };
        frames.take(refs, checked);
        frames.check(source, total)?;
        Ok(frames)
    }

    fn take(&mut self, refs: Vec<FrameRef>, checked: Vec<Checked>) {
        let mut hash = Sha256::new_with_prefix(b"fth pretrain frames 1\0");
        let (mut last, mut same): (Option<Vec<f32>>, usize) = (None, 0);
        for (frame, checked) in refs.into_iter().zip(checked) {
            match checked {
                Err(reason) => self.skipped.push(Skipped { file: frame.id, reason }),
                Ok((image, thumb)) => {
                    let length = std::fs::metadata(&frame.path).map_or(0, |metadata| metadata.len());
                    hash.update((frame.id.len() as u64).to_le_bytes());
                    hash.update(&frame.id);
                    hash.update(length.to_le_bytes());
                    same += usize::from(last.as_ref().is_some_and(|last| difference(last, &thumb) < SAME));
                    last = Some(thumb);
                    self.refs.push(frame);
                    self.kept.push(image);
                }
            }
        }
        self.duplicates = same as f64 / self.refs.len().saturating_sub(1).max(1) as f64;
        self.digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    }

    fn check(&mut self, source: &Source<'_>, total: usize) -> Result<(), PretrainError> {
        let first = self.skipped.iter().find(|skipped| skipped.reason != "not looked at");
        if let Some(Skipped { file, reason }) = first.filter(|_| source.strict) {
            return Err(PretrainError::BadFrame { file: file.clone(), reason: reason.clone() });
        }
        let usable = self.refs.len();
        if usable < LEAST {
            let first_bad = first.map(|bad| format!("{}: {}", bad.file, bad.reason));
            return Err(PretrainError::TooFew { usable, total, least: LEAST, first_bad });
        }
        let held_out = ((usable as f64 * source.hold_out).round() as usize).clamp(1, usable - 1);
        self.first_held_out = usable - held_out;
        Ok(())
    }

    /// Frames to train on.
    pub(super) fn training(&self) -> usize {
        self.first_held_out
    }

    /// All usable frames.
    pub(super) fn len(&self) -> usize {
        self.refs.len()
    }

    /// Frames in memory.
    pub(super) fn kept(&self) -> usize {
        self.kept.iter().flatten().count()
    }

    /// At most `most` held-out frames, evenly spread.
    pub(super) fn held_out(&self, most: usize) -> Vec<usize> {
        spread(self.first_held_out..self.len(), most)
    }

    /// At most `most` of all frames, evenly spread.
    pub(super) fn sample(&self, most: usize) -> Vec<usize> {
        spread(0..self.len(), most)
    }

    /// A frame at the encoder's input size.
    pub(super) fn get(&self, index: usize) -> Result<Arc<Rgb>, PretrainError> {
        if let Some(image) = &self.kept[index] {
            return Ok(image.clone());
        }
        let frame = &self.refs[index];
        self.preparation
            .prepare(&frame.path)
            .map_err(|reason| PretrainError::BadFrame { file: frame.id.clone(), reason })
    }
}

fn spread(range: std::ops::Range<usize>, most: usize) -> Vec<usize> {
    let count = range.len().min(most);
    (0..count).map(|at| range.start + at * range.len() / count).collect()
}

/// Mean brightness in a coarse grid.
fn thumb(image: &Rgb) -> Vec<f32> {
    let (height, width) = (image.height as usize, image.width as usize);
    let mut sums = vec![(0f32, 0u32); THUMB.0 * THUMB.1];
    for (y, row) in image.data.chunks_exact(3 * width).enumerate() {
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            let cell = &mut sums[y * THUMB.0 / height * THUMB.1 + x * THUMB.1 / width];
            cell.0 += pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / 3.0;
            cell.1 += 1;
        }
    }
    sums.into_iter().map(|(sum, count)| sum / count.max(1) as f32).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_duplicates_are_told_by_a_coarse_grid() {
        let grey = |level| thumb(&Rgb::filled(64, 36, [level; 3]));
        assert!(difference(&grey(100), &grey(100)) < SAME);
        assert!(difference(&grey(100), &grey(103)) > SAME);
    }

    #[test]
    fn a_spread_covers_the_range() {
        assert_eq!(spread(10..20, 5), [10, 12, 14, 16, 18]);
        assert_eq!(spread(3..5, 9), [3, 4]);
        assert!(spread(3..3, 9).is_empty());
    }
}
