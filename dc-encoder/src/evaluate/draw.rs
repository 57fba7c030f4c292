//! Which labels a head is given, and which frames it is tested on.
//!
//! ```text
//! split.toml    pool ────────────────── gap ── test         what is reported
//! random split  p p t p t p p t … of the same rows          optimistic: a test frame's neighbours are in the pool
//! ```

use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;

use super::folder::Split;

/// How frames are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The folder's own split, in time order.
    Chronological,
    /// The same rows, split at random: neighbours of test frames are learned from, so that scores are optimistic.
    RandomSplit,
}

/// The rows of one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// Rows that labels are drawn from and whose frames may be used without labels, in time order.
    pub pool: Vec<usize>,
    /// Rows to test on, in time order.
    pub test: Vec<usize>,
}

impl Division {
    /// Divides a split's rows by a protocol.
    pub fn new(split: &Split, protocol: Protocol, seed: u64) -> Self {
        let (pool, test) = (split.pool.clone(), split.test.clone());
        match protocol {
            Protocol::Chronological => Self { pool: pool.collect(), test: test.collect() },
            Protocol::RandomSplit => {
                let tested = test.len();
                let mut rows: Vec<usize> = pool.chain(test).collect();
                rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                let mut pool = rows.split_off(tested);
                pool.sort_unstable();
                rows.sort_unstable();
                Self { pool, test: rows }
            }
        }
    }

    /// `count` draws of `labels` rows from the pool, without replacement, each in time order; one draw where the whole
    /// pool is drawn. Draw d of n labels depends on the seed, d and n alone.
    pub fn draws(&self, labels: usize, count: usize, seed: u64) -> Vec<Vec<usize>> {
        let labels = labels.min(self.pool.len());
        let count = if labels == self.pool.len() { 1 } else { count };
        (0..count)
            .map(|draw| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(((labels as u64) << 32) | draw as u64);
                let mut chosen = index::sample(&mut rng, self.pool.len(), labels).into_vec();
                chosen.sort_unstable();
                chosen.into_iter().map(|at| self.pool[at]).collect()
            })
            .collect()
    }
}

/// The learning curve's label counts for a pool: the wanted ones, the last cut to what the pool has.
pub fn sizes(wanted: &[usize], pool: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = wanted.iter().map(|n| (*n).min(pool)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use shared::head::Task;

    use super::*;

    fn split() -> Split {
        Split { task: Task::Count, pool: 0..50, test: 60..90 }
    }

    #[test]
    fn draws_are_sorted_distinct_repeatable_and_from_the_pool() {
        let division = Division::new(&split(), Protocol::Chronological, 1);
        let draws = division.draws(20, 5, 7);
        assert_eq!(draws.len(), 5);
        for draw in &draws {
            assert_eq!(draw.len(), 20);
            assert!(draw.windows(2).all(|pair| pair[0] < pair[1]) && draw[19] < 50, "{draw:?}");
        }
        assert!((1..5).all(|d| draws[d] != draws[0]));
        assert_eq!(division.draws(20, 2, 7)[..], draws[..2]);
        assert_ne!(division.draws(20, 5, 8), draws);
        assert_eq!(division.draws(300, 5, 7), [(0..50).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_random_split_has_the_same_rows_and_sizes() {
        let random = Division::new(&split(), Protocol::RandomSplit, 3);
        assert_eq!((random.pool.len(), random.test.len()), (50, 30));
        let mut rows = [random.pool.clone(), random.test.clone()].concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..50).chain(60..90).collect::<Vec<_>>());
        assert!(random.test.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(random.test[0] < 50, "a random split tests among the pool's rows");
    }

    #[test]
    fn a_curve_ends_with_what_the_pool_has() {
        assert_eq!(sizes(&[10, 30, 100, 300], 688), [10, 30, 100, 300]);
        assert_eq!(sizes(&[10, 30, 100, 300], 250), [10, 30, 100, 250]);
        assert_eq!(sizes(&[10, 30, 100, 300], 30), [10, 30]);
    }
}
