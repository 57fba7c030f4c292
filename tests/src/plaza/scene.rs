//! What never moves: the camera, the ground, the buildings, the lamps.
//!
//! A pinhole camera looks north over flat ground. `east` and `depth` are metres on the ground; a pixel's row gives
//! the depth of the ground point it shows.

use rand::Rng;

use super::{HEIGHT, WIDTH, hash};

/// Row of the horizon, pixels from the top.
pub(super) const HORIZON: f32 = 150.0;
/// Focal length, pixels.
const FOCAL: f32 = 760.0;
/// Height of the camera above the ground, metres.
const CAMERA_HEIGHT: f32 = 6.0;
/// Ground ends at the buildings, metres from the camera.
pub(super) const BUILDINGS_DEPTH: f32 = 42.0;

const STREAM_SCENE: u64 = 31;

/// Pixel of a point on the ground.
pub(super) fn project(east: f32, depth: f32) -> (f32, f32) {
    let scale = pixels_per_metre(depth);
    (WIDTH as f32 / 2.0 + east * scale, HORIZON + CAMERA_HEIGHT * scale)
}

/// Pixels that one metre spans at `depth` metres.
pub(super) fn pixels_per_metre(depth: f32) -> f32 {
    FOCAL / depth
}

/// Metres from the axis to the picture's edge at `depth`.
pub(super) fn half_width_at(depth: f32) -> f32 {
    WIDTH as f32 / 2.0 / pixels_per_metre(depth)
}

/// What a pixel shows when nobody is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Surface {
    /// Sky; the number is the height above the horizon, 0 to 1.
    Sky(f32),
    /// Ground at `(east, depth)` metres.
    Ground(f32, f32),
    /// A facade, lit by the sun or not by its side.
    Facade,
    /// A window, glowing when the lamps are on.
    Window,
}

/// Surfaces and albedo per pixel, and the posts that throw shadows.
#[derive(Debug)]
pub(super) struct Scene {
    /// `[HEIGHT × WIDTH]`
    pub surfaces: Vec<Surface>,
    /// `[HEIGHT × WIDTH]`, linear RGB reflectance.
    pub albedo: Vec<[f32; 3]>,
    /// Lamp posts: `(east, depth, height)` metres.
    pub posts: Vec<[f32; 3]>,
}

#[derive(Debug)]
struct Building {
    left: f32,
    right: f32,
    roof: f32,
    wall: [f32; 3],
    window: f32,
}

impl Scene {
    pub(super) fn new(seed: u64) -> Self {
        let buildings = row_of_buildings(seed);
        let (surfaces, albedo) = (0..HEIGHT)
            .flat_map(|y| (0..WIDTH).map(move |x| (x, y)))
            .map(|(x, y)| pixel(seed, &buildings, x as f32, y as f32))
            .unzip();
        let mut rng = hash::rng(seed, &[STREAM_SCENE, 2]);
        let posts = (0..4)
            .map(|k| {
                [-14.0 + 9.0 * k as f32 + rng.random_range(-1.0..1.0), rng.random_range(14.0..30.0), 4.5]
            })
            .collect();
        Self { surfaces, albedo, posts }
    }
}

fn row_of_buildings(seed: u64) -> Vec<Building> {
    let mut rng = hash::rng(seed, &[STREAM_SCENE, 1]);
    let mut buildings = Vec::new();
    let mut left = -20.0;
    while left < WIDTH as f32 {
        let width = rng.random_range(110.0..230.0_f32);
        let shade = rng.random_range(0.25..0.65_f32);
        let warmth = rng.random_range(0.8..1.15_f32);
        buildings.push(Building {
            left,
            right: left + width,
            roof: rng.random_range(20.0..110.0),
            wall: [shade * warmth, shade, shade / warmth],
            window: rng.random_range(16.0..26.0),
        });
        left += width;
    }
    buildings
}

fn pixel(seed: u64, buildings: &[Building], x: f32, y: f32) -> (Surface, [f32; 3]) {
    let (_, ground_edge) = project(0.0, BUILDINGS_DEPTH);
    if y >= ground_edge {
        return ground(seed, x, y);
    }
    let building = buildings.iter().find(|b| x >= b.left && x < b.right);
    match building {
        Some(b) if y >= b.roof => facade(b, x, y),
        _ => (Surface::Sky((HORIZON - y.min(HORIZON)) / HORIZON), [1.0; 3]),
    }
}

fn ground(seed: u64, x: f32, y: f32) -> (Surface, [f32; 3]) {
    let depth = FOCAL * CAMERA_HEIGHT / (y - HORIZON);
    let east = (x - WIDTH as f32 / 2.0) / pixels_per_metre(depth);
    // Paving of 2 m slabs, each a little different, with joints that fade where a pixel spans them.
    let (column, row) = ((east / 2.0).floor(), (depth / 2.0).floor());
    let slab = hash::of(seed, &[STREAM_SCENE, 3, (column as i64) as u64, (row as i64) as u64]);
    let shade = 0.42 + 0.10 * (slab % 1000) as f32 / 1000.0;
    let joint = ((east / 2.0 - column) < 0.04 || (depth / 2.0 - row) < 0.04) && depth < 25.0;
    let shade = if joint { shade * 0.72 } else { shade };
    (Surface::Ground(east, depth), [shade * 1.03, shade, shade * 0.94])
}

fn facade(building: &Building, x: f32, y: f32) -> (Surface, [f32; 3]) {
    let pitch = building.window * 1.7;
    let (u, v) = ((x - building.left).rem_euclid(pitch), (y - building.roof).rem_euclid(pitch * 1.15));
    let glass = u > pitch * 0.3 && u < pitch * 0.8 && v > pitch * 0.35 && v < pitch * 0.95;
    if glass { (Surface::Window, [0.10, 0.12, 0.15]) } else { (Surface::Facade, building.wall) }
}
