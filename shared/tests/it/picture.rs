//! Pictures made by arithmetic, as `golden/make.py` makes them.

use shared::image::Rgb;

/// A linear congruential generator's top bytes: the hardest picture for a filter and for JPEG.
pub fn noise(width: u32, height: u32, seed: u32) -> Rgb {
    let mut state = seed;
    let bytes = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    Rgb::new(width, height, bytes.collect()).unwrap()
}

/// Gradients with a disc and a box in them: what JPEG is made for.
pub fn scene(width: u32, height: u32) -> Rgb {
    let (w, h) = (width as i64, height as i64);
    let mut data = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let disc = (x - w / 3).pow(2) + (y - h / 2).pow(2) < (h / 4).pow(2);
            data.extend(if disc {
                [220, 40, 30]
            } else if x > w * 2 / 3 && y > h / 2 {
                [20, 60, 200]
            } else {
                [x * 255 / w, y * 255 / h, (x + y) * 255 / (w + h)].map(|value| value as u8)
            });
        }
    }
    Rgb::new(width, height, data).unwrap()
}

/// The picture that the golden file calls `noise` or `scene`.
pub fn named(kind: &str, width: u32, height: u32) -> Rgb {
    match kind {
        "noise" => noise(width, height, 1),
        "scene" => scene(width, height),
        other => panic!("no picture {other}"),
    }
}

/// The first 16 hexadecimal digits of the SHA-256.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Largest and mean difference between two images' bytes, in levels.
pub fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let levels = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (levels().max().unwrap(), levels().map(f64::from).sum::<f64>() / a.len() as f64)
}
