//! Which frames are worth a label: diverse, new, typical, and where heads differ. Pure but for the contact sheet.
//!
//! ```text
//! embeddings [n, dim] ─► scaled ─► distance to what is labelled ─► farthest first (k-center) ─► the typical one of each
//!                                   × (1 + disagreement of heads)     never near-duplicates       region ─► picks, with why
//! ```
//! Farthest-first traversal (Gonzalez 1985; as "core-set" for choosing labels: Sener and Savarese 2018) covers all that the
//! camera sees, but likes oddities: the one frame with a bird before the lens. So each pick is moved to the most typical
//! frame of the region that it stands for, as k-means would.

mod scale;
mod sheet;

use rayon::prelude::*;

pub use scale::Scaled;
pub use sheet::{SheetError, Tile, write as write_sheet};

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How many.
    pub n: usize,
    /// Rounds in which picks are moved to the most typical frame of their region; 0: farthest first alone.
    pub rounds: usize,
    /// No pick is nearer to another one or to a labelled frame than this share of the usual distance between frames.
    pub apart: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { n: 30, rounds: 3, apart: 0.1 }
    }
}

/// A frame that is worth a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// Its row.
    pub row: usize,
    /// Distance to the nearest frame that is labelled or was picked, in units of the usual distance between frames.
    pub novelty: f32,
    /// Share of all frames that are nearer to it than to any other pick or label.
    pub stands_for: f32,
    /// How far heads differ on it, 0 to 1 among all frames; 0 without heads.
    pub doubt: f32,
}

/// Chooses rows of `frames`, given those that are labelled and how far heads differ on each row (`[n]`, 0 to 1; empty
/// without heads). Fewer than asked for where the others are near-duplicates.
pub fn choose(frames: &Scaled, labelled: &[usize], doubt: &[f32], options: Options) -> Vec<Pick> {
    let mut regions = Regions::new(frames);
    regions.add(labelled);
    let fixed = regions.centres.len();
    let apart = (options.apart * frames.usual()).powi(2);
    let weight = |row: usize| 1.0 + doubt.get(row).copied().unwrap_or(0.0);
    if fixed == 0 && options.n > 0 && !frames.is_empty() {
        // Nothing to be far from yet: begin with what is most common.
        regions.add(&[frames.nearest_to_mean(0..frames.len())]);
    }
    while regions.centres.len() < fixed + options.n {
        let far = |row: &usize| regions.distance[*row] * weight(*row).powi(2);
        let best = (0..frames.len()).max_by(|a, b| far(a).total_cmp(&far(b)));
        let Some(best) = best.filter(|row| regions.distance[*row] > apart) else { break };
        regions.add(&[best]);
    }
    for _ in 0..options.rounds {
        if !regions.settle(fixed, &weight) {
            break;
        }
    }
    picks(&regions, fixed, doubt, apart)
}

/// Every frame with the centre it is nearest to.
struct Regions<'a> {
    frames: &'a Scaled,
    /// Rows: those that are labelled, then those that are picked.
    centres: Vec<usize>,
    /// Squared distance to the nearest centre, `[n]`.
    distance: Vec<f32>,
    /// Which centre that is, `[n]`.
    nearest: Vec<usize>,
}

impl<'a> Regions<'a> {
    fn new(frames: &'a Scaled) -> Self {
        let n = frames.len();
        Self { frames, centres: Vec::new(), distance: vec![f32::INFINITY; n], nearest: vec![0; n] }
    }

    /// More centres. Each frame is read once, whatever their number: reading is what takes the time.
    fn add(&mut self, rows: &[usize]) {
        let (frames, first) = (self.frames, self.centres.len());
        self.centres.extend(rows);
        self.distance.par_iter_mut().zip(&mut self.nearest).enumerate().for_each(
            |(at, (distance, nearest))| {
                let frame = frames.row(at);
                for (centre, row) in rows.iter().enumerate() {
                    let to = squared(frame, frames.row(*row));
                    if to < *distance {
                        (*distance, *nearest) = (to, first + centre);
                    }
                }
            },
        );
    }

    /// Moves each pick to the frame of its region that is nearest to the region's middle; whether any moved.
    fn settle(&mut self, fixed: usize, weight: &(impl Fn(usize) -> f32 + Sync)) -> bool {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.centres.len()];
        for (row, centre) in self.nearest.iter().enumerate() {
            members[*centre].push(row);
        }
        let (all, frames) = (&self.centres, self.frames);
        let typical = |centre: usize| {
            let members = &members[centre];
            let middle = frames.mean(members.iter().copied())?;
            let cost = |row: &usize| squared(frames.row(*row), &middle) / weight(*row);
            members.iter().copied().min_by(|a, b| cost(a).total_cmp(&cost(b)))
        };
        let moved_to = (fixed..all.len()).into_par_iter().map(|at| typical(at).unwrap_or(all[at]));
        let centres: Vec<usize> = all[..fixed].iter().copied().chain(moved_to.collect::<Vec<_>>()).collect();
        let moved = centres != self.centres;
        *self = Self::new(frames);
        self.add(&centres);
        moved
    }
}

fn picks(regions: &Regions<'_>, fixed: usize, doubt: &[f32], apart: f32) -> Vec<Pick> {
    let (frames, usual) = (regions.frames, regions.frames.usual().max(f32::MIN_POSITIVE));
    let mut sizes = vec![0_usize; regions.centres.len()];
    regions.nearest.iter().for_each(|centre| sizes[*centre] += 1);
    let mut taken: Vec<usize> = regions.centres[..fixed].to_vec();
    let mut picks = Vec::new();
    for (at, row) in regions.centres.iter().enumerate().skip(fixed) {
        let to = |other: &usize| squared(frames.row(*row), frames.row(*other));
        let nearest = taken.iter().map(to).fold(f32::INFINITY, f32::min);
        // Moved picks may have come close to each other.
        if nearest <= apart {
            continue;
        }
        taken.push(*row);
        picks.push(Pick {
            row: *row,
            novelty: nearest.sqrt() / usual,
            stands_for: sizes[at] as f32 / frames.len().max(1) as f32,
            doubt: doubt.get(*row).copied().unwrap_or(0.0),
        });
    }
    picks
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums at a time: the compiler keeps them in one register.
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

/// How far several heads differ on each frame, 0 to 1: the range of their answers, as a share of the largest range.
/// `answers`: one list a head, `[n]` each.
pub fn disagreement(answers: &[Vec<f64>]) -> Vec<f32> {
    let n = answers.iter().map(Vec::len).min().unwrap_or(0);
    let range = |row: usize| {
        let all = answers.iter().map(|head| head[row]);
        all.clone().fold(f64::NEG_INFINITY, f64::max) - all.fold(f64::INFINITY, f64::min)
    };
    let ranges: Vec<f64> = (0..n).map(range).collect();
    let most = ranges.iter().copied().fold(0.0, f64::max);
    ranges.iter().map(|it| if most > 0.0 { (it / most) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two crowds of frames, a lonely one, and each frame twice.
    fn scene() -> Scaled {
        let mut values = Vec::new();
        for i in 0..40 {
            let (crowd, within) = (f32::from(i >= 20) * 10.0, (i % 20) as f32 * 0.1);
            for _ in 0..2 {
                values.extend([crowd, within]);
            }
        }
        values.extend([5.0, 9.0]);
        Scaled::new(&values, 2)
    }

    fn rows(picks: &[Pick]) -> Vec<usize> {
        picks.iter().map(|it| it.row).collect()
    }

    #[test]
    fn farthest_first_finds_every_crowd_and_the_lonely_one() {
        let picks = choose(&scene(), &[], &[], Options { n: 3, rounds: 0, apart: 0.1 });
        let rows = rows(&picks);
        let crowd = |row: usize| row / 40; // 0, 1, and 2 for the lonely one
        let mut crowds: Vec<usize> = rows.iter().map(|row| crowd(*row)).collect();
        crowds.sort_unstable();
        assert_eq!(crowds, [0, 1, 2], "{rows:?}");
    }

    #[test]
    fn what_is_labelled_is_not_suggested_again_nor_what_looks_like_it() {
        let frames = scene();
        // One of each pair is labelled: its twin is a near-duplicate.
        let labelled: Vec<usize> = (0..40).map(|i| 2 * i).collect();
        let picks = choose(&frames, &labelled, &[], Options { n: 30, rounds: 3, apart: 0.1 });
        assert_eq!(rows(&picks), [80], "only the lonely one is new");
        assert!(picks[0].novelty > 1.0, "{picks:?}");
    }

    #[test]
    fn no_two_picks_are_near_duplicates() {
        let frames = scene();
        let picks = choose(&frames, &[], &[], Options { n: 81, rounds: 2, apart: 0.05 });
        for (i, a) in picks.iter().enumerate() {
            for b in &picks[..i] {
                let apart = squared(frames.row(a.row), frames.row(b.row)).sqrt();
                assert!(apart > 0.05 * frames.usual(), "{a:?} {b:?}");
            }
        }
        assert!(picks.len() > 10 && picks.len() <= 41, "{}", picks.len());
    }

    #[test]
    fn a_pick_is_the_typical_frame_of_its_region() {
        let picks = choose(&scene(), &[], &[], Options { n: 3, rounds: 5, apart: 0.1 });
        let middle = |row: usize| (16..=23).contains(&(row % 40));
        let typical = picks.iter().filter(|it| it.row != 80).all(|it| middle(it.row));
        assert!(typical && picks.len() == 3, "{picks:?}");
        let share: f32 = picks.iter().map(|it| it.stands_for).sum();
        assert!((share - 1.0).abs() < 1e-6);
    }

    #[test]
    fn doubt_draws_the_choice() {
        let frames = Scaled::new(&(0..100).map(|i| i as f32).collect::<Vec<_>>(), 1);
        let mut doubt = vec![0.0; 100];
        doubt[70] = 1.0;
        let options = Options { n: 1, rounds: 0, apart: 0.0 };
        assert_eq!(rows(&choose(&frames, &[0], &[], options)), [99]);
        assert_eq!(rows(&choose(&frames, &[0], &doubt, options)), [70]);
        assert_eq!(disagreement(&[vec![1.0, 2.0, 3.0], vec![1.0, 4.0, 4.0]]), [0.0, 1.0, 0.5]);
    }
}
