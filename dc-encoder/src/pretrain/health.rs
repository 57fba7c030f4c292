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
        }
    }
}

pub(super) fn duplicates(share: f64) -> Option<Warning> {
    (share > MANY_DUPLICATES).then_some(Warning::Duplicates { share })
}

/// What a validation after `done` (0 to 1) of the steps tells; `first` is the effective rank at the first one.
pub(super) fn look(validation: &Validation, first: Option<f64>, done: f64) -> Vec<Warning> {
    let Validation { loss, loss_of_means: means, rank, .. } = *validation;
    let fell = first.filter(|first| rank < FALLEN * first).map(|first| Warning::RankFell { rank, first });
    let wasted = (done >= PATIENCE && loss >= means).then_some(Warning::NoBetterThanMeans { loss, means });
    fell.into_iter().chain(wasted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_warning() {
        let fine = Validation { loss: 0.5, loss_of_means: 1.0, rank: 9.0, rank_of: 64 };
        assert!(look(&fine, Some(10.0), 0.5).is_empty());
        let collapsed = Validation { rank: 4.0, ..fine };
        let text = look(&collapsed, Some(10.0), 0.5)[0].to_string();
        assert!(text.contains("from 10.0 to 4.0"), "{text}");
        let wasted = Validation { loss: 1.0, ..fine };
        assert!(look(&wasted, Some(10.0), 0.1).is_empty(), "too early to say");
        assert!(look(&wasted, Some(10.0), 0.3)[0].to_string().contains("mean colour"));
        assert_eq!(duplicates(0.4), None);
        assert!(duplicates(0.9).unwrap().to_string().starts_with("90 %"));
    }
}
