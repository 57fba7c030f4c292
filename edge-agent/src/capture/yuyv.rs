//! Packed YUV 4:2:2 (`YUYV`) to RGB.
//!
//! V4L2 cameras send ITU-R BT.601 colour at limited range unless they say otherwise (Y 16–235, Cb and Cr 16–240:
//! `V4L2_COLORSPACE_SRGB` maps to `V4L2_YCBCR_ENC_601` and `V4L2_QUANTIZATION_LIM_RANGE`). The two pixels of a
//! pair share their colour.

use shared::image::Rgb;

/// Converts `width × height` pixels, `data` being `height × width × 2` bytes `Y0 U Y1 V`, to RGB at full range.
/// `None` if `width` is odd, a side is zero, or `data` has another length.
///
/// Integer arithmetic with 8 fractional bits: at most 1 away from the exact value.
pub fn to_rgb(width: u32, height: u32, data: &[u8]) -> Option<Rgb> {
    if !width.is_multiple_of(2) || data.len() as u64 != u64::from(width) * u64::from(height) * 2 {
        return None;
    }
    let mut rgb = Vec::with_capacity(data.len() / 2 * 3);
    for pair in data.chunks_exact(4) {
        let [y0, u, y1, v] = [pair[0], pair[1], pair[2], pair[3]].map(i32::from);
        let (u, v) = (u - 128, v - 128);
        let (red, green, blue) = (409 * v, -100 * u - 208 * v, 516 * u);
        for y in [y0, y1] {
            // 255/219 = 1.164 = 298/256; 128 rounds.
            let luma = 298 * (y - 16) + 128;
            rgb.extend([red, green, blue].map(|colour| ((luma + colour) >> 8).clamp(0, 255) as u8));
        }
    }
    Rgb::new(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition (BT.601, limited range), in floating point.
    fn exact(y: u8, u: u8, v: u8) -> [f64; 3] {
        let (y, u, v) = ((f64::from(y) - 16.0) / 219.0, f64::from(u) - 128.0, f64::from(v) - 128.0);
        let (cb, cr) = (u / 224.0, v / 224.0);
        let (kr, kb) = (0.299, 0.114);
        let red = y + 2.0 * (1.0 - kr) * cr;
        let blue = y + 2.0 * (1.0 - kb) * cb;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|x| (x * 255.0).clamp(0.0, 255.0))
    }

    #[test]
    fn matches_the_definition() {
        for y in (0..=255).step_by(5) {
            for u in (0..=255).step_by(17) {
                for v in (0..=255).step_by(17) {
                    let image = to_rgb(2, 1, &[y, u, 255 - y, v]).unwrap();
                    let wanted = [exact(y, u, v), exact(255 - y, u, v)].concat();
                    for (got, want) in image.data.iter().zip(wanted) {
                        assert!((f64::from(*got) - want).abs() <= 1.5, "{y} {u} {v}: {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn known_colours() {
        let image = to_rgb(2, 2, &[16, 128, 235, 128, 81, 90, 81, 240]).unwrap();
        assert_eq!(image.data[..6], [0, 0, 0, 255, 255, 255]);
        assert!(image.data[6] > 250 && image.data[7] < 3 && image.data[8] < 3, "{:?}", &image.data[6..9]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(to_rgb(3, 1, &[0; 6]).is_none());
        assert!(to_rgb(2, 2, &[0; 7]).is_none());
        assert!(to_rgb(0, 2, &[]).is_none());
    }
}
