//! Simple peers that a head has to beat: they read pixels, and no encoder.

use std::path::PathBuf;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use shared::head::{Combine, Task};

use super::error::EvalError;
use super::folder::Folder;
use super::pixels;
use super::ridge;
use crate::heads::target::Target;
use crate::heads::trees::grow::{self, Columns, Lesson, Tree};

/// Neighbours that the nearest-neighbour peer averages.
const NEIGHBOURS: usize = 3;

/// Trees of the forest.
const TREES: u64 = 200;

/// Rows of a node that is split: every tree is grown to the end, as in scikit-learn.
const LEAF: usize = 2;

/// A simple peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The labels' mean, whatever the picture.
    Constant,
    /// Ridge on a thumbnail, its strength chosen by cross-validation.
    ThumbnailRidge,
    /// The three training frames with the nearest thumbnails.
    ThumbnailNearest,
    /// 200 extra trees on a thumbnail.
    ThumbnailTrees,
    /// The same, answering with the median over trees, as the trees head does.
    ThumbnailTreesMedian,
    /// Background × perspective: one coefficient times the weighted sum of departing pixels.
    Departures,
    /// The same with an intercept.
    DeparturesLine,
}

impl Baseline {
    /// The peers of a task, in the order of a table.
    pub fn of(task: Task) -> &'static [Self] {
        use Baseline::*;
        match task {
            Task::Count => &[
                Constant,
                ThumbnailRidge,
                ThumbnailNearest,
                ThumbnailTrees,
                ThumbnailTreesMedian,
                DeparturesLine,
                Departures,
            ],
            Task::TimeOfDay | Task::Scalar => {
                &[Constant, ThumbnailRidge, ThumbnailNearest, ThumbnailTrees, ThumbnailTreesMedian]
            }
            Task::Class => &[Constant, ThumbnailRidge, ThumbnailNearest, ThumbnailTrees],
        }
    }

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::ThumbnailRidge => "thumbnail, ridge",
            Self::ThumbnailNearest => "thumbnail, 3 nearest",
            Self::ThumbnailTrees => "thumbnail, 200 extra trees",
            Self::ThumbnailTreesMedian => "thumbnail, 200 extra trees, median",
            Self::Departures => "background × perspective, one coefficient",
            Self::DeparturesLine => "background × perspective, line",
        }
    }
}

/// What the peers read of a folder's frames.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[rows][20 · 12 · 3]`
    thumbnails: Vec<Vec<f32>>,
    /// `[rows]`, for counts; the background is the split's pool's.
    departures: Option<Vec<f64>>,
}

/// Labelled rows to learn from, and rows to answer.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Rows with labels, in time order.
    pub train: &'a [usize],
    /// Rows to answer.
    pub test: &'a [usize],
    /// Seed of everything random.
    pub seed: u64,
}

impl Features {
    /// Reads what the folder's task needs from its frames, one path a row.
    ///
    /// # Errors
    /// The first frame that cannot be read.
    pub fn read(folder: &Folder, frames: &[PathBuf]) -> Result<Self, EvalError> {
        let departures = match folder.split.task {
            Task::Count => {
                let pool: Vec<usize> = folder.split.pool.clone().collect();
                Some(pixels::departures(frames, &pool)?)
            }
            _ => None,
        };
        Ok(Self { thumbnails: pixels::thumbnails(frames)?, departures })
    }

    /// A peer's answers for the test rows.
    pub fn answers(&self, peer: Baseline, folder: &Folder, job: &Job<'_>) -> Vec<f64> {
        let values: Vec<f64> = job.train.iter().map(|row| folder.truth(*row)).collect();
        let target = folder.target;
        let through = match peer {
            Baseline::Constant => return vec![target.constant(values.into_iter()); job.test.len()],
            Baseline::ThumbnailRidge => return self.ridge(target, &values, job),
            Baseline::ThumbnailNearest => return self.nearest(target, &values, job),
            Baseline::ThumbnailTrees => return self.trees(target, &values, job, Combine::Mean),
            Baseline::ThumbnailTreesMedian => return self.trees(target, &values, job, Combine::Median),
            Baseline::Departures => true,
            Baseline::DeparturesLine => false,
        };
        // Only asked for counts, for which they were read.
        let departures = self.departures.as_deref().unwrap_or(&[]);
        let line = Line::fit(&pick(departures, job.train), &values, through);
        pick(departures, job.test).iter().map(|x| line.answer(*x).max(0.0)).collect()
    }

    fn ridge(&self, target: Target, values: &[f64], job: &Job<'_>) -> Vec<f64> {
        let rows = self.rows(job.train);
        ridge::answers(&ridge::Data { rows: &rows, values, target }, &self.rows(job.test))
    }

    fn nearest(&self, target: Target, values: &[f64], job: &Job<'_>) -> Vec<f64> {
        let train = self.rows(job.train);
        let answer = |row: &&[f32]| {
            let distance = |other: &[f32]| row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            let mut near: Vec<(f32, f64)> =
                train.iter().zip(values).map(|(other, value)| (distance(other), *value)).collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0));
            target.constant(near.iter().take(NEIGHBOURS).map(|(_, value)| *value))
        };
        self.rows(job.test).iter().map(answer).collect()
    }

    fn trees(&self, target: Target, values: &[f64], job: &Job<'_>, combine: Combine) -> Vec<f64> {
        let (train, all) = (job.train.len(), self.rows(&[job.train, job.test].concat()));
        let features = all.first().map_or(0, |row| row.len());
        let numbers = (0..features).flat_map(|at| all.iter().map(move |row| row[at])).collect();
        let columns = Columns { values: numbers, rows: all.len() };
        let width = target.width();
        let encode = |value: &f64| target.encode(*value).into_iter().take(width).map(|y| y as f32);
        let targets: Vec<f32> = values.iter().flat_map(encode).collect();
        // Drawn with replacement: nearly two thirds of the numbers are looked at in a node.
        let lesson = Lesson { columns: &columns, targets: &targets, width, draws: features };
        let grow = |tree: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(job.seed);
            rng.set_stream(tree);
            Tree::grow(&lesson, &(0..train).collect::<Vec<_>>(), &mut rng)
        };
        let trees: Vec<Tree> = (0..TREES).into_par_iter().map(grow).collect();
        let answer = |row: usize| target.decode(grow::answer(&trees, &columns, row, LEAF, combine));
        (train..all.len()).map(answer).collect()
    }

    fn rows(&self, rows: &[usize]) -> Vec<&[f32]> {
        rows.iter().map(|row| self.thumbnails[*row].as_slice()).collect()
    }
}

fn pick(values: &[f64], rows: &[usize]) -> Vec<f64> {
    rows.iter().map(|row| values[*row]).collect()
}

/// Least squares in one variable.
struct Line {
    slope: f64,
    intercept: f64,
}

impl Line {
    fn fit(x: &[f64], y: &[f64], through_origin: bool) -> Self {
        let mean = crate::heads::score::mean;
        let (cx, cy) = if through_origin { (0.0, 0.0) } else { (mean(x), mean(y)) };
        let (mut xy, mut xx) = (0.0, 0.0);
        for (x, y) in x.iter().zip(y) {
            xy += (x - cx) * (y - cy);
            xx += (x - cx).powi(2);
        }
        // Nothing ever departs: the mean is all there is to say.
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        let flat = xx <= 0.0;
        Self { slope, intercept: if flat { mean(y) } else { cy - slope * cx } }
    }

    fn answer(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::folder::Split;
    use crate::heads::Labels;
    use crate::heads::labels::Label;

    /// 40 rows whose count is twice the departures, and the brightness of the thumbnail.
    fn planted() -> (Folder, Features) {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 12)).collect();
        let row = |value: &f64| (0..6u8).map(|at| *value as f32 / 12.0 + f32::from(at)).collect();
        let features = Features {
            thumbnails: values.iter().map(row).collect(),
            departures: Some(values.iter().map(|value| value / 2.0).collect()),
        };
        let label =
            |(i, value): (usize, &f64)| Label { file: format!("{i}.jpg"), value: *value, line: i + 2 };
        let folder = Folder {
            name: "planted".into(),
            list: "labels.csv".into(),
            labels: Labels {
                rows: values.iter().enumerate().map(label).collect(),
                digest: String::new(),
                classes: Vec::new(),
            },
            split: Split { task: Task::Count, pool: 0..28, test: 28..40 },
            target: Target::of(Task::Count, &[]),
        };
        (folder, features)
    }

    #[test]
    fn every_peer_that_looks_finds_what_is_planted() {
        let (folder, features) = planted();
        let (train, test): (Vec<usize>, Vec<usize>) = ((0..28).collect(), (28..40).collect());
        let job = Job { train: &train, test: &test, seed: 1 };
        for peer in Baseline::of(Task::Count) {
            let answers = features.answers(*peer, &folder, &job);
            let error =
                test.iter().zip(answers).map(|(row, got)| (folder.truth(*row) - got).abs()).sum::<f64>()
                    / 12.0;
            if *peer == Baseline::Constant {
                assert!(error > 2.0, "{error}");
            } else {
                assert!(error < 0.5, "{}: {error}", peer.name());
            }
        }
    }

    #[test]
    fn a_scene_where_nothing_departs_is_answered_by_the_mean() {
        let line = Line::fit(&[0.0, 0.0], &[2.0, 4.0], true);
        assert_eq!(line.answer(0.0), 3.0);
        let line = Line::fit(&[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0], false);
        assert_eq!((line.slope, line.intercept), (2.0, 1.0));
    }
}
