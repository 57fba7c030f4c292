//! What work on pictures costs, in operations: counted from the algorithms, not measured.
//!
//! Additions, multiplications and comparisons count as one each. Entropy coding has next to no arithmetic and is left
//! out, so that this is the least the work takes.

use super::Chroma;

/// A transform of eight numbers: 5 multiplications and 29 additions (Arai, Agui and Nakajima, 1988). An 8×8 block takes
/// sixteen.
const TRANSFORM: u64 = 5 + 29;
/// Numbers in a block.
const BLOCK: u64 = 64;
/// A 3×3 matrix on a colour: 9 multiplications, 6 additions.
const COLOUR: u64 = 9 + 6;

/// Operations of encoding, or of decoding, a JPEG of so many pixels: colours, transforms, quantisation.
pub fn jpeg_flops(pixels: u64, chroma: Chroma) -> u64 {
    // Luma has a number for every pixel, chroma two for every 1, 2 or 4.
    let samples = match chroma {
        Chroma::C444 => 3 * pixels,
        Chroma::C422 => 2 * pixels,
        Chroma::C420 => pixels + pixels / 2,
    };
    samples * (16 * TRANSFORM / BLOCK + 1) + pixels * COLOUR
}

/// Operations of resizing, `from` and `to` as (columns, rows): a triangle filter along each axis whose support grows with
/// the reduction, three colours, a multiplication and an addition a tap.
pub fn resize_flops(from: (u32, u32), to: (u32, u32)) -> u64 {
    if from == to {
        return 0;
    }
    let taps = |from: u32, to: u32| 2 * u64::from(from.div_ceil(to.max(1)).max(1));
    let numbers = |width: u32, height: u32| 3 * u64::from(width) * u64::from(height);
    let across = numbers(to.0, from.1) * taps(from.0, to.0);
    let down = numbers(to.0, to.1) * taps(from.1, to.1);
    2 * (across + down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_the_seed_takes_some_20_million_operations() {
        let pixels = 960 * 576;
        // 1.5 × (8 + 1) + 15 a pixel.
        assert_eq!(jpeg_flops(pixels, Chroma::C420), pixels * 3 / 2 * 9 + pixels * 15);
        assert!(jpeg_flops(pixels, Chroma::C444) > jpeg_flops(pixels, Chroma::C420));
    }

    #[test]
    fn resizing_counts_both_axes() {
        assert_eq!(resize_flops((960, 576), (960, 576)), 0);
        // Halving: four taps a number, on 960 × 1152 numbers and then on 960 × 576.
        assert_eq!(resize_flops((1920, 1152), (960, 576)), 6 * 4 * (960 * 1152 + 960 * 576));
    }
}
