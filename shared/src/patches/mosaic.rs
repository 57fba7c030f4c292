//! Kept patches side by side in one picture, and back to their places.

use super::{Choice, PatchesError};
use crate::image::{Chroma, Rgb, jpeg};
use crate::preprocess::PatchGeometry;

/// What fills a mosaic's last row, and the places that a frame lacks: a grey that costs a JPEG next to nothing.
const GREY: [u8; 3] = [128; 3];

/// Columns and rows of a mosaic of `count` patches: as near to a square as it gets.
fn shape(count: usize) -> (usize, usize) {
    let cols = (1..).find(|cols| cols * cols >= count.max(1)).unwrap_or(1);
    (cols, count.max(1).div_ceil(cols))
}

/// The kept patches of a frame of the input's size, from left to right and from top to bottom.
///
/// Panics if the frame has another size than `geometry` says, or the choice is of another grid.
#[must_use]
pub fn pack(frame: &Rgb, geometry: PatchGeometry, choice: &Choice) -> Rgb {
    let side = geometry.patch;
    let (cols, rows) = shape(choice.len());
    let mut mosaic = Rgb::filled(cols as u32 * side, rows as u32 * side, GREY);
    for (slot, place) in choice.places().iter().enumerate() {
        let from = (place % geometry.cols() as u32, place / geometry.cols() as u32);
        copy(frame, from, &mut mosaic, ((slot % cols) as u32, (slot / cols) as u32), side);
    }
    mosaic
}

/// A mosaic ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mosaic {
    /// Its bytes.
    pub jpeg: Vec<u8>,
    /// Columns × rows.
    pub pixels: u64,
}

/// [`pack`], encoded with chroma of its own for every pixel: neighbours in the mosaic are none in the frame. `quality` as
/// [`jpeg::encode`] takes it.
#[must_use]
pub fn to_jpeg(frame: &Rgb, geometry: PatchGeometry, choice: &Choice, quality: u8) -> Mosaic {
    let mosaic = pack(frame, geometry, choice);
    let pixels = u64::from(mosaic.width) * u64::from(mosaic.height);
    Mosaic { jpeg: jpeg::encode(&mosaic, quality, Chroma::C444), pixels }
}

/// The patches of a mosaic at their places in a frame of the input's size; the other places are grey.
///
/// # Errors
/// [`PatchesError::Mosaic`] if the picture has another size than so many patches make.
pub fn unpack(mosaic: &Rgb, geometry: PatchGeometry, choice: &Choice) -> Result<Rgb, PatchesError> {
    let side = geometry.patch;
    let (cols, rows) = shape(choice.len());
    let (want_width, want_height) = (cols as u32 * side, rows as u32 * side);
    let Rgb { width, height, .. } = *mosaic;
    if (width, height) != (want_width, want_height) {
        return Err(PatchesError::Mosaic { count: choice.len(), want_width, want_height, width, height });
    }
    let mut frame = Rgb::filled(geometry.width, geometry.height, GREY);
    for (slot, place) in choice.places().iter().enumerate() {
        let to = (place % geometry.cols() as u32, place / geometry.cols() as u32);
        copy(mosaic, ((slot % cols) as u32, (slot / cols) as u32), &mut frame, to, side);
    }
    Ok(frame)
}

/// Copies the square of `side` pixels in column and row `from` of the squares of one picture to `to` of another.
fn copy(source: &Rgb, from: (u32, u32), target: &mut Rgb, to: (u32, u32), side: u32) {
    let at = |width: u32, (col, row): (u32, u32), line: u32| {
        ((row * side + line) * width + col * side) as usize * 3
    };
    let bytes = side as usize * 3;
    for line in 0..side {
        let (read, write) = (at(source.width, from, line), at(target.width, to, line));
        target.data[write..write + bytes].copy_from_slice(&source.data[read..read + bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Limits;
    use crate::image::testing::noise;

    const GEOMETRY: PatchGeometry = PatchGeometry { height: 96, width: 160, patch: 32 };

    fn flags(places: &[usize]) -> Choice {
        Choice::of(&(0..GEOMETRY.tokens()).map(|place| places.contains(&place)).collect::<Vec<_>>())
    }

    #[test]
    fn a_mosaic_is_nearly_square() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 12, 13, 240].map(shape).map(|(cols, rows)| [cols, rows]),
            [[1, 1], [1, 1], [2, 1], [2, 2], [2, 2], [3, 2], [4, 3], [4, 4], [16, 15]]
        );
    }

    #[test]
    fn patches_come_back_to_their_places() {
        let frame = noise(160, 96, 3);
        let choice = flags(&[0, 4, 7, 13, 14]);
        let back = unpack(&pack(&frame, GEOMETRY, &choice), GEOMETRY, &choice).unwrap();
        for place in 0..15u32 {
            let (x, y) = (place % 5 * 32, place / 5 * 32);
            let kept = choice.places().contains(&place);
            for (dx, dy) in [(0, 0), (31, 0), (0, 31), (31, 31), (9, 20)] {
                let want = if kept { frame.pixel(x + dx, y + dy) } else { GREY };
                assert_eq!(back.pixel(x + dx, y + dy), want, "place {place}");
            }
        }
        let whole = Choice::all(15);
        assert_eq!(unpack(&pack(&frame, GEOMETRY, &whole), GEOMETRY, &whole).unwrap(), frame);
    }

    /// What a patch decodes to must not depend on what lies beside it: a head would see its neighbours in it.
    #[test]
    fn a_patch_decodes_to_the_same_pixels_whatever_its_neighbours() {
        let (one, mut other) = (noise(160, 96, 3), noise(160, 96, 4));
        copy(&one, (2, 1), &mut other, (2, 1), 32); // place 7
        let decoded = |frame: &Rgb, places: &[usize], chroma| {
            let choice = flags(places);
            let sent = jpeg::encode(&pack(frame, GEOMETRY, &choice), 60, chroma);
            let mosaic = jpeg::decode(&sent, &Limits::default()).unwrap();
            let frame = unpack(&mosaic, GEOMETRY, &choice).unwrap();
            let mut patch = Rgb::filled(32, 32, GREY);
            copy(&frame, (2, 1), &mut patch, (0, 0), 32);
            patch
        };
        let alone = decoded(&one, &[7], Chroma::C444);
        for places in [&[6, 7, 8, 12][..], &[0, 1, 2, 3, 7], &[2, 7, 9, 14]] {
            for frame in [&one, &other] {
                assert!(decoded(frame, places, Chroma::C444) == alone, "{places:?}");
            }
        }
        // With chroma at half the size, smooth upsampling mixes neighbours in: the reason for 4:4:4.
        assert!(decoded(&one, &[6, 7, 8, 12], Chroma::C420) != decoded(&other, &[6, 7, 8, 12], Chroma::C420));
    }

    #[test]
    fn a_mosaic_of_another_size_is_refused() {
        let error = unpack(&noise(64, 64, 1), GEOMETRY, &flags(&[0, 1])).unwrap_err();
        assert_eq!(error.to_string(), "a mosaic of 2 patches is 64x32 pixels, this one is 64x64");
    }
}
