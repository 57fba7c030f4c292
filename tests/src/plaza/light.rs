//! Sun, sky and lamps at a given clock and weather.

use super::{Clock, hash};

/// Sunrise and sunset of the plaza's summer, minutes of the day.
const SUNRISE_MIN: f64 = 330.0;
const SUNSET_MIN: f64 = 1230.0;
/// Highest elevation of the sun, radians (about 60°).
const MAX_ELEVATION: f64 = 1.05;
/// Clouds change over this many seconds.
const WEATHER_PERIOD_S: f64 = 5400.0;

const STREAM_CLOUDS: u64 = 11;

/// The light of one frame; colours are linear RGB with 1.0 = full daylight.
#[derive(Debug, Clone)]
pub(super) struct Light {
    /// Colour and strength of light from everywhere.
    pub ambient: [f32; 3],
    /// Colour and strength of direct sunlight; zero at night.
    pub sun: [f32; 3],
    /// Colour of the sky at the horizon and at the top of the picture.
    pub sky: [[f32; 3]; 2],
    /// Metres a shadow reaches per metre of height, `(east, towards the camera)`.
    pub shadow: [f32; 2],
    /// Lamps and windows: 0 off, 1 on.
    pub lamps: f32,
}

impl Light {
    pub(super) fn at(seed: u64, clock: Clock) -> Self {
        let minute = clock.minute_of_day();
        let day = (minute - SUNRISE_MIN) / (SUNSET_MIN - SUNRISE_MIN);
        let elevation = (day * std::f64::consts::PI).sin() * MAX_ELEVATION;
        let height = elevation.sin();
        // Twilight lasts about 45 minutes on either side of the horizon.
        let daylight = smoothstep(-0.18, 0.25, height);
        let cover = hash::smooth(seed, STREAM_CLOUDS, clock.0 / WEATHER_PERIOD_S).powf(1.3);
        let direct = smoothstep(0.0, 0.3, height) * (1.0 - 0.92 * cover);
        let warm = 1.0 - smoothstep(0.0, 0.55, height);
        let azimuth = (day - 0.5) * 2.6;
        let reach = (1.0 / elevation.max(0.12).tan()).min(5.0);
        let evening = if day > 0.5 { 1.0 } else { 0.0 };
        let tint = |r: f64, g: f64, b: f64, strength: f64| {
            [r * strength, g * strength, b * strength].map(|v| v as f32)
        };
        let ambient_strength = 0.03 + daylight * (0.32 + 0.22 * cover);
        let sky_strength = 0.02 + daylight * (1.0 - 0.25 * cover);
        let glow = warm * daylight * (1.0 - cover);
        Self {
            ambient: tint(0.92 + 0.1 * glow, 0.97, 1.08 - 0.15 * cover, ambient_strength),
            sun: tint(1.0, 0.95 - 0.25 * warm, 0.88 - 0.5 * warm, 0.85 * direct),
            sky: [
                tint(0.75 + 0.35 * glow, 0.82 - 0.1 * glow * evening, 0.95 - 0.4 * glow, sky_strength),
                tint(0.38 + 0.35 * cover, 0.55 + 0.2 * cover, 0.92 - 0.12 * cover, sky_strength),
            ],
            shadow: [(-azimuth.sin() * reach) as f32, (-azimuth.cos() * reach * 0.7) as f32],
            lamps: (1.0 - smoothstep(0.05, 0.4, daylight)) as f32,
        }
    }
}

/// Cubic step from 0 at `low` to 1 at `high`.
fn smoothstep(low: f64, high: f64, x: f64) -> f64 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
