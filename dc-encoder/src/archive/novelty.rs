//! Which frames are worth keeping when nothing happens: de-duplication by embedding. Pure.

use std::collections::VecDeque;

/// Distances that the usual one is taken from.
const REMEMBERED: usize = 64;

/// Frames kept before anything can be called usual.
const WARM_UP: usize = 8;

/// Leaves out frames whose embedding is hardly farther from the last kept one than nothing at all.
///
/// The measure is the camera's own: a share of the median distance between frames that were kept one after the other. A scale
/// that is fixed would mean another thing for each encoder and each scene; distances between all frames would shrink with
/// them in a quiet hour, until noise is news.
#[derive(Debug, Clone)]
pub struct Novelty {
    /// A frame nearer to the last kept one than this share of the usual distance is left out; 0 keeps all.
    share: f32,
    last: Option<Vec<f32>>,
    /// Between frames that were kept one after the other.
    distances: VecDeque<f32>,
}

impl Novelty {
    /// `share` of the usual distance that a frame must be away; 0 keeps every frame.
    pub fn new(share: f32) -> Self {
        Self { share, last: None, distances: VecDeque::new() }
    }

    /// Whether this frame, the next of its camera, is to be kept.
    pub fn is_new(&mut self, embedding: &[f32]) -> bool {
        if self.share <= 0.0 {
            return true;
        }
        if let Some(last) = &self.last {
            let away = distance(last, embedding);
            if self.distances.len() >= WARM_UP && away < self.share * median(&self.distances) {
                return false;
            }
            if self.distances.len() == REMEMBERED {
                self.distances.pop_front();
            }
            self.distances.push_back(away);
        }
        self.last = Some(embedding.to_vec());
        true
    }
}

/// Euclidean.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

fn median(values: &VecDeque<f32>) -> f32 {
    let mut sorted: Vec<f32> = values.iter().copied().collect();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_in_which_nothing_happens_is_kept_once() {
        let mut novelty = Novelty::new(0.5);
        // A walker: each frame one step further.
        for step in 0..20 {
            assert!(novelty.is_new(&[step as f32, 0.0]), "step {step}");
        }
        // It stands still: noise alone.
        let kept = (0..20).filter(|i| novelty.is_new(&[19.0 + 0.01 * (*i % 2) as f32, 0.0])).count();
        assert_eq!(kept, 0);
        assert!(novelty.is_new(&[22.0, 0.0]), "and goes on");
    }

    #[test]
    fn nothing_is_left_out_unless_asked() {
        let mut novelty = Novelty::new(0.0);
        assert!((0..50).all(|_| novelty.is_new(&[1.0, 2.0])));
    }
}
