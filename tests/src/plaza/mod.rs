//! A fixed camera over a plaza that never existed: every frame's people, clock and weather are known.
//!
//! ```text
//! seed, clock ─► weather ─► light ─┐
//!             └► walkers ──────────┴─► render (scene: fixed geometry and albedo) ─► Rgb + Truth
//! ```
//!
//! A frame is a pure function of the seed and the clock, so any frame can be rendered alone, in any order and in
//! parallel. It feeds demos and tests; it is no evidence of accuracy on real cameras.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::image::Rgb;

pub mod dataset;
mod hash;
mod light;
mod render;
mod scene;
mod walkers;

use scene::Scene;
use walkers::Walker;

/// Rendered width in pixels: the seed encoder's input, so that no resize is needed.
pub const WIDTH: u32 = 960;
/// Rendered height in pixels.
pub const HEIGHT: u32 = 576;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// Seconds since the plaza's first midnight; the plaza's clock is UTC.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Clock(pub f64);

impl Clock {
    /// The given day (from 0) at the given minute of the day.
    pub fn at(day: u32, minute: f64) -> Self {
        Self(f64::from(day) * SECONDS_PER_DAY + minute * 60.0)
    }

    /// Minutes since midnight, `[0, 1440)`.
    pub fn minute_of_day(self) -> f64 {
        self.0.rem_euclid(SECONDS_PER_DAY) / 60.0
    }

    /// The moment as a timestamp; the plaza's first midnight is 2026-06-01T00:00:00Z.
    pub fn timestamp(self) -> Timestamp {
        let midnight = Timestamp::constant(1_780_272_000, 0);
        midnight + SignedDuration::from_millis((self.0 * 1000.0).round() as i64)
    }
}

/// What is true of a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// When the frame was taken.
    pub captured_at: Timestamp,
    /// Minutes since midnight, `[0, 1440)`.
    pub minute_of_day: f64,
    /// People at least half of whose box lies inside the picture.
    pub count: u32,
    /// Their boxes, `[x, y, width, height]` in pixels, nearest person last.
    pub boxes_xywh: Vec<[f32; 4]>,
}

/// The camera: geometry and materials are fixed by the seed, everything else by the clock.
#[derive(Debug)]
pub struct Plaza {
    seed: u64,
    scene: Scene,
}

impl Plaza {
    /// Lays out the plaza for `seed`; takes some tens of milliseconds.
    pub fn new(seed: u64) -> Self {
        Self { seed, scene: Scene::new(seed) }
    }

    /// Renders the frame at `clock`: pixels `[HEIGHT, WIDTH, 3]` and the truth about them.
    pub fn frame(&self, clock: Clock) -> (Rgb, Truth) {
        let light = light::Light::at(self.seed, clock);
        let people = walkers::present(self.seed, clock);
        let visible: Vec<&Walker> = people.iter().filter(|walker| walker.mostly_inside()).collect();
        let truth = Truth {
            captured_at: clock.timestamp(),
            minute_of_day: clock.minute_of_day(),
            count: visible.len() as u32,
            boxes_xywh: visible.iter().map(|walker| walker.bounding_box()).collect(),
        };
        (render::render(&self.scene, &light, &people, hash::of(self.seed, &[clock.0.to_bits()])), truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_depends_only_on_seed_and_clock() {
        let clock = Clock::at(0, 700.0);
        let (first, truth) = Plaza::new(7).frame(clock);
        let (again, same) = Plaza::new(7).frame(clock);
        assert_eq!(first.data, again.data);
        assert_eq!(truth, same);
        let (other, _) = Plaza::new(8).frame(clock);
        assert_ne!(first.data, other.data);
    }

    #[test]
    fn truth_matches_the_pixels() {
        let plaza = Plaza::new(3);
        let clock = (0..200).map(|k| Clock::at(0, 660.0 + f64::from(k) * 0.5));
        let (clock, with) = clock
            .map(|clock| (clock, walkers::present(3, clock)))
            .find(|(_, people)| people.iter().any(Walker::mostly_inside))
            .expect("a busy hour has people");
        let light = light::Light::at(3, clock);
        let noise = hash::of(3, &[clock.0.to_bits()]);
        let full = render::render(&plaza.scene, &light, &with, noise);
        let empty = render::render(&plaza.scene, &light, &[], noise);
        let [x, y, w, h] = with.iter().find(|walker| walker.mostly_inside()).unwrap().bounding_box();
        let centre = ((y + h * 0.45) as usize * WIDTH as usize + (x + w * 0.5) as usize) * 3;
        let change: i32 = (0..3)
            .map(|c| (i32::from(full.data[centre + c]) - i32::from(empty.data[centre + c])).abs())
            .sum();
        assert!(change > 20, "the person's box shows no person: change {change}");
    }

    #[test]
    fn noon_is_brighter_than_midnight() {
        let plaza = Plaza::new(1);
        let mean = |minute| {
            let (frame, _) = plaza.frame(Clock::at(0, minute));
            frame.data.iter().map(|&v| f64::from(v)).sum::<f64>() / frame.data.len() as f64
        };
        assert!(mean(720.0) > 2.0 * mean(0.0));
    }

    #[test]
    fn people_come_and_go() {
        let counts: Vec<usize> =
            (0..300).map(|k| walkers::present(5, Clock::at(0, 480.0 + f64::from(k))).len()).collect();
        assert!(counts.iter().max() > counts.iter().min(), "{counts:?}");
        let night: usize = (0..60).map(|k| walkers::present(5, Clock::at(0, f64::from(k))).len()).sum();
        let noon: usize =
            (0..60).map(|k| walkers::present(5, Clock::at(0, 720.0 + f64::from(k))).len()).sum();
        assert!(noon > 2 * night, "noon {noon}, night {night}");
    }

    #[test]
    fn timestamps_follow_the_clock() {
        assert_eq!(Clock::at(1, 90.0).timestamp().to_string(), "2026-06-02T01:30:00Z");
    }
}
