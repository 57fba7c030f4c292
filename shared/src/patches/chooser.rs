//! What the camera box knows of the encoder's memory, and which patches it sends next.
//!
//! ```text
//! frame ─► cells (mean colour of 8×8 pixels) ─► less the light that all have in common ─► beyond the threshold?
//! ```
//! A choice is a function of the frame and of what was answered before; a frame that gets no answer changes nothing, so
//! that its patches are chosen again.

use super::{CELL, Changed, Choice, Policy};
use crate::image::Rgb;
use crate::preprocess::PatchGeometry;

/// Pixels of a cell: sums over them stand for means, exactly.
const PIXELS: i32 = (CELL * CELL) as i32;

/// Chooses the patches of one camera's frames, in order.
#[derive(Debug, Clone)]
pub struct Chooser {
    policy: Policy,
    geometry: PatchGeometry,
    /// Frames answered.
    answered: u64,
    /// Cells of what the encoder remembers, `[rows, cols, 3]`; `None`: it remembers nothing.
    sent: Option<Vec<u16>>,
}

/// A choice that was made, to be given back once it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The patches; at least one.
    pub choice: Choice,
    /// How many of them are news; the others only have their turn.
    pub news: usize,
    cells: Vec<u16>,
}

impl Chooser {
    /// For frames of one camera. A policy of `all` sends all patches of every frame.
    #[must_use]
    pub fn new(policy: Policy, geometry: PatchGeometry) -> Self {
        Self { policy, geometry, answered: 0, sent: None }
    }

    /// The patches to send of a frame of the input's size; all of them while the encoder remembers nothing.
    #[must_use]
    pub fn choose(&self, frame: &Rgb) -> Selection {
        let cells = cells(frame);
        let grid = self.geometry.tokens();
        let Some(sent) = &self.sent else {
            return Selection { choice: Choice::all(grid), news: grid, cells };
        };
        let (flags, news) = match self.policy {
            Policy::All => (vec![true; grid], grid),
            Policy::Random(share) => {
                let count = share.of(grid);
                (random(grid, count, self.answered), count)
            }
            Policy::Changed(Changed { levels, refresh }) => {
                let mut flags = changed(&cells, sent, self.geometry, levels);
                let news = flags.iter().filter(|set| **set).count();
                turn(grid, refresh, self.answered).for_each(|place| flags[place] = true);
                (flags, news)
            }
        };
        Selection { choice: Choice::of(&flags), news, cells }
    }

    /// The encoder has these patches now.
    pub fn answered(&mut self, selection: Selection) {
        self.answered += 1;
        let Selection { choice, cells, .. } = selection;
        match &mut self.sent {
            Some(sent) if !choice.is_whole() => {
                for place in choice.places() {
                    for row in rows_of(self.geometry, *place as usize) {
                        sent[row.clone()].copy_from_slice(&cells[row]);
                    }
                }
            }
            sent => *sent = Some(cells),
        }
    }

    /// The encoder remembers nothing of this camera: another one, or a new session.
    pub fn forget(&mut self) {
        self.sent = None;
    }
}

/// Sums of each cell and channel, `[rows, cols, 3]`.
fn cells(frame: &Rgb) -> Vec<u16> {
    let (cols, side) = ((frame.width / CELL) as usize, CELL as usize);
    let mut sums = vec![0u16; (frame.height / CELL) as usize * cols * 3];
    for (y, line) in frame.data.chunks_exact(frame.width as usize * 3).enumerate() {
        let row = &mut sums[y / side * cols * 3..][..cols * 3];
        for (cell, pixels) in row.chunks_exact_mut(3).zip(line.chunks_exact(side * 3)) {
            for pixel in pixels.chunks_exact(3) {
                cell.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u16::from(*value));
            }
        }
    }
    sums
}

/// Where the cells of a patch lie in [`cells`], a range for each of its rows.
fn rows_of(geometry: PatchGeometry, place: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (side, width) = ((geometry.patch / CELL) as usize, (geometry.width / CELL) as usize);
    let (top, left) = (place / geometry.cols() * side, place % geometry.cols() * side);
    (top..top + side).map(move |row| {
        let start = (row * width + left) * 3;
        start..start + side * 3
    })
}

/// The patches with a cell that differs by more than `levels` from what was sent, besides the change of light that the
/// frame has in common. Of that, no more than `levels` is taken off: a darker evening is news to the encoder.
fn changed(now: &[u16], sent: &[u16], geometry: PatchGeometry, levels: u8) -> Vec<bool> {
    let most = i32::from(levels) * PIXELS;
    let difference = |at: usize| i32::from(now[at]) - i32::from(sent[at]);
    let light: [i32; 3] = std::array::from_fn(|channel| {
        let mut all: Vec<i32> = (channel..now.len()).step_by(3).map(difference).collect();
        let middle = all.len() / 2;
        let (_, median, _) = all.select_nth_unstable(middle);
        (*median).clamp(-most, most)
    });
    let differs = |at: usize| (difference(at) - light[at % 3]).abs() > most;
    (0..geometry.tokens()).map(|place| rows_of(geometry, place).flatten().any(differs)).collect()
}

/// The places whose turn it is: each once in `refresh` frames, those of one frame far from each other.
fn turn(grid: usize, refresh: u16, number: u64) -> impl Iterator<Item = usize> {
    let each = grid.div_ceil(usize::from(refresh).max(1));
    // Steps of the golden section visit every place once, and evenly.
    let step = (grid * 618 / 1000..).find(|step| gcd(*step, grid) == 1).unwrap_or(1);
    let start = usize::try_from(number % grid as u64).unwrap_or(0) * each % grid;
    (0..each).map(move |offset| (start + offset) % grid * step % grid)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `count` of `grid` places by lot, the same ones for the same number.
fn random(grid: usize, count: usize, number: u64) -> Vec<bool> {
    let lot = |place: usize| mix(mix(number).wrapping_add(place as u64));
    let mut places: Vec<usize> = (0..grid).collect();
    places.sort_by_cached_key(|place| lot(*place));
    let mut flags = vec![false; grid];
    places.iter().take(count).for_each(|place| flags[*place] = true);
    flags
}

/// A number that says nothing of the one before (SplitMix64, Steele et al., 2014).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "chooser_tests.rs"]
mod tests;
