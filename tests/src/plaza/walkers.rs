//! People who cross the plaza, each a pure function of the clock.
//!
//! Time is cut into slots per lane; a hash decides whether a slot holds a walker and all about them, so who is on the
//! plaza at any moment needs no history.

use rand::Rng;

use super::{Clock, HEIGHT, WIDTH, hash, scene};

/// Lanes are depths at which people cross; each holds at most one person at a time.
const LANES: u64 = 14;
/// Length of a lane's slot, seconds: the longest crossing takes less.
const SLOT_S: f64 = 48.0;
const STREAM_WALKERS: u64 = 21;

/// One person at one moment.
#[derive(Debug, Clone)]
pub(super) struct Walker {
    /// Metres east of the camera's axis.
    pub east: f32,
    /// Metres from the camera along the ground.
    pub depth: f32,
    /// Metres from sole to crown.
    pub height: f32,
    /// Phase of the stride, radians.
    pub stride: f32,
    /// Albedo of jacket, trousers and skin.
    pub colours: [[f32; 3]; 3],
}

impl Walker {
    /// `[x, y, width, height]` in pixels.
    pub(super) fn bounding_box(&self) -> [f32; 4] {
        let (x, foot) = scene::project(self.east, self.depth);
        let tall = scene::pixels_per_metre(self.depth) * self.height;
        let wide = tall * 0.36;
        [x - wide / 2.0, foot - tall, wide, tall]
    }

    /// Whether at least half of the box lies inside the picture.
    pub(super) fn mostly_inside(&self) -> bool {
        let [x, y, w, h] = self.bounding_box();
        let inside = |from: f32, length: f32, end: u32| {
            ((from + length).min(end as f32) - from.max(0.0)).max(0.0) / length
        };
        inside(x, w, WIDTH) * inside(y, h, HEIGHT) >= 0.5
    }
}

/// Everybody near the picture at `clock`, farthest first.
pub(super) fn present(seed: u64, clock: Clock) -> Vec<Walker> {
    let mut people: Vec<Walker> = (0..LANES).filter_map(|lane| in_lane(seed, lane, clock)).collect();
    people.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    people
}

fn in_lane(seed: u64, lane: u64, clock: Clock) -> Option<Walker> {
    // Lanes start their slots at different moments, so that people do not all appear at once.
    let shifted = clock.0 + lane as f64 * 17.3;
    let slot = (shifted / SLOT_S).floor();
    let mut rng = hash::rng(seed, &[STREAM_WALKERS, lane, (slot as i64) as u64]);
    if rng.random::<f64>() >= presence(seed, clock) {
        return None;
    }
    let depth = 9.0 + 25.0 * (lane as f32 + 0.8 * rng.random::<f32>()) / LANES as f32;
    let speed = rng.random_range(0.9..1.6_f32);
    let half_way = scene::half_width_at(depth) + 1.0;
    let since = (shifted - slot * SLOT_S) as f32;
    let along = since * speed - half_way - rng.random_range(0.0..6.0_f32);
    if along.abs() > half_way {
        return None;
    }
    let east = if rng.random() { along } else { -along };
    let height = rng.random_range(1.5..1.95);
    let jacket = [0; 3].map(|_| rng.random_range(0.03..0.85_f32));
    let trousers = [1.0, 1.0, 1.2].map(|tint| tint * rng.random_range(0.04..0.25_f32));
    let skin = rng.random_range(0.25..0.8_f32);
    Some(Walker {
        east,
        depth,
        height,
        stride: since * speed * 4.2,
        colours: [jacket, trousers, [skin, skin * 0.75, skin * 0.62]],
    })
}

/// Chance that a slot holds a person: quiet nights, busy noon and evening, slowly changing whims.
fn presence(seed: u64, clock: Clock) -> f64 {
    let minute = clock.minute_of_day();
    let rush = |centre: f64, width: f64| (-((minute - centre) / width).powi(2)).exp();
    let habit = 0.06 + 0.35 * rush(510.0, 70.0) + 0.6 * rush(740.0, 120.0) + 0.6 * rush(1080.0, 110.0);
    let whim = 0.35 + 1.3 * hash::smooth(seed, STREAM_WALKERS + 1, clock.0 / 900.0);
    (habit * whim).min(0.95)
}
