//! From scene, light and people to pixels.

use rand::Rng;
use shared::image::Rgb;

use super::{
    HEIGHT, WIDTH, hash,
    light::Light,
    scene::{self, Scene, Surface},
    walkers::Walker,
};

/// Sensor noise, levels of 255 (peak, triangular).
const NOISE_LEVELS: f32 = 5.0;
/// How far a lamp's pool of light reaches, metres.
const LAMP_REACH_M: f32 = 7.0;

/// Linear light, `[HEIGHT × WIDTH]`.
type Canvas = Vec<[f32; 3]>;

/// Renders `people` (farthest first) under `light`; `noise` seeds the sensor noise.
pub(super) fn render(scene: &Scene, light: &Light, people: &[Walker], noise: u64) -> Rgb {
    let mut canvas = background(scene, light);
    for post in &scene.posts {
        cast_shadow(&mut canvas, light, *post, 0.12);
    }
    for walker in people {
        cast_shadow(&mut canvas, light, [walker.east, walker.depth, walker.height], 0.28);
    }
    for walker in people {
        draw_walker(&mut canvas, light, scene, walker);
    }
    for post in &scene.posts {
        draw_post(&mut canvas, light, *post);
    }
    develop(&canvas, noise)
}

fn background(scene: &Scene, light: &Light) -> Canvas {
    let glow = [1.0, 0.78, 0.45];
    scene
        .surfaces
        .iter()
        .zip(&scene.albedo)
        .map(|(surface, albedo)| match *surface {
            Surface::Sky(up) => blend(light.sky[0], light.sky[1], up.sqrt()),
            Surface::Ground(east, depth) => {
                let lamp = lamp_light(scene, light, east, depth);
                std::array::from_fn(|c| albedo[c] * (light.ambient[c] + light.sun[c] + lamp * glow[c]))
            }
            // The facades look south: the sun lights them at noon and grazes them at its ends.
            Surface::Facade => std::array::from_fn(|c| albedo[c] * (light.ambient[c] + 0.7 * light.sun[c])),
            Surface::Window => std::array::from_fn(|c| {
                albedo[c] * (light.ambient[c] + light.sun[c])
                    + 0.25 * light.sky[0][c] * (1.0 - light.lamps)
                    + 0.45 * light.lamps * glow[c]
            }),
        })
        .collect()
}

fn lamp_light(scene: &Scene, light: &Light, east: f32, depth: f32) -> f32 {
    if light.lamps == 0.0 {
        return 0.0;
    }
    let near = |post: &[f32; 3]| {
        let square = ((east - post[0]).powi(2) + (depth - post[1]).powi(2)) / (LAMP_REACH_M * LAMP_REACH_M);
        (-square).exp()
    };
    0.45 * light.lamps * scene.posts.iter().map(near).sum::<f32>()
}

/// Darkens the ground where the body keeps the sun away: an ellipse from the feet along the shadow.
fn cast_shadow(canvas: &mut Canvas, light: &Light, [east, depth, height]: [f32; 3], half_width: f32) {
    if light.sun[0] < 0.02 {
        return;
    }
    let steps = 24;
    let strength: [f32; 3] = std::array::from_fn(|c| light.ambient[c] / (light.ambient[c] + light.sun[c]));
    let mut darkened = vec![];
    for k in 0..steps {
        let t = (k as f32 + 0.5) / steps as f32 * height;
        let (e, d) = (east + light.shadow[0] * t, depth + light.shadow[1] * t);
        if !(3.0..=scene::BUILDINGS_DEPTH).contains(&d) {
            continue;
        }
        let (x, y) = scene::project(e, d);
        let scale = scene::pixels_per_metre(d);
        let along = light.shadow[0].abs().max(0.4) * height / steps as f32 * scale;
        ellipse([x, y], [half_width * scale + along, half_width * 0.35 * scale + 1.0], |index, cover| {
            darkened.push((index, cover));
        });
    }
    // A pixel under several ellipses is in one shadow, not in several.
    darkened.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    darkened.dedup_by_key(|entry| entry.0);
    for (index, cover) in darkened {
        let pixel = &mut canvas[index];
        *pixel = std::array::from_fn(|c| pixel[c] * (1.0 - cover * (1.0 - strength[c])));
    }
}

fn draw_walker(canvas: &mut Canvas, light: &Light, scene: &Scene, walker: &Walker) {
    let (x, foot) = scene::project(walker.east, walker.depth);
    let tall = scene::pixels_per_metre(walker.depth) * walker.height;
    let lamp = lamp_light(scene, light, walker.east, walker.depth);
    let lit = |albedo: [f32; 3]| -> [f32; 3] {
        std::array::from_fn(|c| albedo[c] * (light.ambient[c] + 0.8 * light.sun[c] + lamp))
    };
    let [jacket, trousers, skin] = walker.colours.map(lit);
    let swing = walker.stride.sin() * 0.07 * tall;
    let mut part = |centre: [f32; 2], radii: [f32; 2], colour: [f32; 3]| {
        ellipse(centre, radii, |index, cover| canvas[index] = blend(canvas[index], colour, cover));
    };
    for side in [-1.0, 1.0] {
        part([x + side * swing, foot - 0.24 * tall], [0.055 * tall, 0.25 * tall], trousers);
    }
    part([x, foot - 0.64 * tall], [0.14 * tall, 0.22 * tall], jacket);
    part([x, foot - 0.92 * tall], [0.07 * tall, 0.085 * tall], skin);
}

fn draw_post(canvas: &mut Canvas, light: &Light, [east, depth, height]: [f32; 3]) {
    let (x, foot) = scene::project(east, depth);
    let scale = scene::pixels_per_metre(depth);
    let top = foot - height * scale;
    let metal: [f32; 3] = std::array::from_fn(|c| 0.08 * (light.ambient[c] + light.sun[c]));
    let bulb = blend(metal, [1.2, 1.0, 0.6], light.lamps);
    let mut part = |centre: [f32; 2], radii: [f32; 2], colour: [f32; 3]| {
        ellipse(centre, radii, |index, cover| canvas[index] = blend(canvas[index], colour, cover));
    };
    part([x, (foot + top) / 2.0], [0.06 * scale + 0.5, (foot - top) / 2.0], metal);
    part([x, top], [0.25 * scale, 0.18 * scale], bulb);
}

/// Calls `paint(index, cover)` for every pixel of an ellipse, with a soft edge of about one pixel.
fn ellipse([cx, cy]: [f32; 2], [rx, ry]: [f32; 2], mut paint: impl FnMut(usize, f32)) {
    let edge = rx.min(ry).max(0.5);
    let range = |centre: f32, radius: f32, end: u32| {
        let from = (centre - radius - 1.0).max(0.0) as u32;
        from..((centre + radius + 2.0).clamp(0.0, end as f32) as u32)
    };
    for y in range(cy, ry, HEIGHT) {
        for x in range(cx, rx, WIDTH) {
            let (u, v) = ((x as f32 + 0.5 - cx) / rx, (y as f32 + 0.5 - cy) / ry);
            let cover = ((1.0 - (u * u + v * v).sqrt()) * edge + 0.5).clamp(0.0, 1.0);
            if cover > 0.0 {
                paint((y * WIDTH + x) as usize, cover);
            }
        }
    }
}

/// Exposure, gamma and sensor noise.
fn develop(canvas: &Canvas, noise: u64) -> Rgb {
    let mut rng = hash::rng(noise, &[]);
    let mut data = Vec::with_capacity(canvas.len() * 3);
    for pixel in canvas {
        // One draw a pixel: the channels share most of a sensor's noise, and the renderer must stay fast.
        let bits: u32 = rng.random();
        let grain = ((bits & 0xffff) as f32 + (bits >> 16) as f32) / 65_535.0 - 1.0;
        for value in pixel {
            let level = 255.0 * value.clamp(0.0, 1.0).powf(1.0 / 2.2) + NOISE_LEVELS * grain;
            data.push(level.round().clamp(0.0, 255.0) as u8);
        }
    }
    Rgb { width: WIDTH, height: HEIGHT, data }
}

fn blend(from: [f32; 3], to: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|c| from[c] + (to[c] - from[c]) * t)
}
