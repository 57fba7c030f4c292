//! Signs that training time is being wasted.

use std::fmt;

use super::validate::Validation;

/// More frames than this share that show what the frame before shows are worth a word.
const MANY_DUPLICATES: f64 = 0.5;
/// An effective rank below this share of the first one has fallen.
const FALLEN: f64 = 0.5;
/// Share of the steps after which a loss should beat the patches' means.
const PATIENCE: f64 = 0.2;

/// Something to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warning {
    /// Many frames show the same.
    Duplicates {
        /// Share of the frames that show what the frame before shows.
        share: f64,
    },
    /// The embedding tells frames apart less and less.
    RankFell {
        /// Effective rank now.
        rank: f64,
        /// Effective rank at the first validation.
        first: f64,
    },
    /// Nothing but mean colours was learnt.
    NoBetterThanMeans {
        /// Loss on held-out frames.
        loss: f64,
        /// Loss of answering each patch with its mean.
        means: f64,
    },
    /// The embedding tells frames apart again.
    RankRose {
        /// Effective rank now.
        rank: f64,
        /// Effective rank at the first validation.
        first: f64,
    },
    /// More than mean colours is learnt after all.
    BetterThanMeans {
        /// Loss on held-out frames.
        loss: f64,
        /// Loss of answering each patch with its mean.
        means: f64,
    },
}

impl Warning {
    /// Whether it takes an earlier one back.
    pub fn is_relief(&self) -> bool {
        matches!(self, Self::RankRose { .. } | Self::BetterThanMeans { .. })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicates { share } => write!(
                f,
                "{:.0} % of the frames show what the frame before shows (less than one grey level apart): take frames \
                 further apart, training sees little new",
                100.0 * share
            ),
            Self::RankFell { rank, first } => write!(
                f,
                "the embedding's effective rank fell from {first:.1} to {rank:.1}: it tells frames apart less; lower \
                 --lr, or stop here"
            ),
            Self::NoBetterThanMeans { loss, means } => write!(
                f,
                "the held-out loss {loss:.3} is no better than answering each patch with its mean colour ({means:.3}): \
                 nothing of the picture is learnt yet; train longer or try --find-lr"
            ),
            Self::RankRose { rank, first } => {
                write!(f, "the embedding's effective rank is up again: {rank:.1}, at first {first:.1}")
            }
            Self::BetterThanMeans { loss, means } => write!(
                f,
                "the held-out loss {loss:.3} is better now than answering each patch with its mean colour ({means:.3})"
            ),
        }
    }
}

pub(super) fn duplicates(share: f64) -> Option<Warning> {
    (share > MANY_DUPLICATES).then_some(Warning::Duplicates { share })
}

/// Signs that stand, so that each is told when it comes and when it goes, and not at every validation between. A run that
/// is continued tells them anew: who continues it may not have been there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    fell: bool,
    wasted: bool,
}

impl Standing {
    /// What a validation after `done` (0 to 1) of the steps tells that the one before did not; `first` is the effective
    /// rank at the first one.
    pub(super) fn look(&mut self, validation: &Validation, first: Option<f64>, done: f64) -> Vec<Warning> {
        let Validation { loss, loss_of_means: means, rank, .. } = *validation;
        let first = first.unwrap_or(rank);
        let now = Self { fell: rank < FALLEN * first, wasted: done >= PATIENCE && loss >= means };
        let before = std::mem::replace(self, now);
        let rank = match (before.fell, now.fell) {
            (false, true) => Some(Warning::RankFell { rank, first }),
            (true, false) => Some(Warning::RankRose { rank, first }),
            _ => None,
        };
        let loss = match (before.wasted, now.wasted) {
            (false, true) => Some(Warning::NoBetterThanMeans { loss, means }),
            (true, false) => Some(Warning::BetterThanMeans { loss, means }),
            _ => None,
        };
        rank.into_iter().chain(loss).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_warning() {
        let fine = Validation { loss: 0.5, loss_of_means: 1.0, rank: 9.0, rank_of: 64 };
        let look = |validation: &Validation, done| Standing::default().look(validation, Some(10.0), done);
        assert!(look(&fine, 0.5).is_empty());
        let collapsed = Validation { rank: 4.0, ..fine };
        let text = look(&collapsed, 0.5)[0].to_string();
        assert!(text.contains("from 10.0 to 4.0"), "{text}");
        let wasted = Validation { loss: 1.0, ..fine };
        assert!(look(&wasted, 0.1).is_empty(), "too early to say");
        assert!(look(&wasted, 0.3)[0].to_string().contains("mean colour"));
        assert_eq!(duplicates(0.4), None);
        assert!(duplicates(0.9).unwrap().to_string().starts_with("90 %"));
    }

    #[test]
    fn a_sign_is_told_when_it_comes_and_when_it_goes() {
        let good = Validation { loss: 0.5, loss_of_means: 1.0, rank: 9.0, rank_of: 64 };
        let bad = Validation { loss: 2.0, rank: 1.0, ..good };
        let mut standing = Standing::default();
        let told: Vec<Vec<Warning>> = [None, Some(9.0), Some(9.0), Some(9.0), Some(9.0), Some(9.0)]
            .into_iter()
            .zip([good, bad, bad, good, good, bad])
            .map(|(first, validation)| standing.look(&validation, first, 0.5))
            .collect();
        let fell = Warning::RankFell { rank: 1.0, first: 9.0 };
        let wasted = Warning::NoBetterThanMeans { loss: 2.0, means: 1.0 };
        let rose = Warning::RankRose { rank: 9.0, first: 9.0 };
        let better = Warning::BetterThanMeans { loss: 0.5, means: 1.0 };
        assert_eq!(
            told,
            [vec![], vec![fell, wasted], vec![], vec![rose, better], vec![], vec![fell, wasted]]
        );
        assert!(rose.is_relief() && better.is_relief() && !fell.is_relief() && !wasted.is_relief());
    }
}
