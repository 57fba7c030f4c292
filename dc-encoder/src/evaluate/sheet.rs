//! The worst answers as one picture: each frame with its truth and the head's answer.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use shared::image::{Limits, Rgb, fit_within, load, resize};

use super::bench::Bench;
use super::curve::{Curve, Method};
use super::error::EvalError;
use super::font::{self, Place};
use crate::heads::report::digits;
use crate::heads::target::{DAY_MINUTES, Target};

/// Columns and rows of a sheet.
const GRID: (u32, u32) = (4, 3);

/// Largest frame on it, in pixels.
const TILE: (u32, u32) = (320, 240);

/// Around tiles and captions, in pixels.
const MARGIN: u32 = 6;

/// Characters of a class's name in a caption: two names fit under a frame.
const CLASS_CHARS: usize = 6;

/// Pixels a dot of the captions.
const SCALE: u32 = 2;

/// The sheet's shown frames are this share of the test apart, at least: neighbours show the same mistake twice.
const APART: usize = 40;

/// Writes the frames that a head, trained on the first draw of the most labels, answers worst.
///
/// # Errors
/// A frame that cannot be read, a file that cannot be written.
pub fn write(path: &Path, bench: &Bench, curve: &Curve, head: &Method) -> Result<(), EvalError> {
    let Some(score) = head.scores.last() else { return Ok(()) };
    let errors = bench.errors(&curve.test, &score.answers);
    let chosen = worst(&errors, (GRID.0 * GRID.1) as usize, curve.test.len() / APART);
    let tiles: Vec<Tile> = chosen
        .into_iter()
        .map(|at| {
            let row = curve.test[at];
            let (truth, answer) = (value(bench, bench.folder.truth(row)), value(bench, score.answers[at]));
            Tile {
                frame: bench.frames[row].clone(),
                caption: format!("ROW {row} TRUE {truth} SAID {answer}"),
            }
        })
        .collect();
    let bytes = png(compose(&tiles)?).map_err(|source| EvalError::Write { path: path.into(), source })?;
    std::fs::write(path, bytes).map_err(|source| EvalError::Write { path: path.into(), source })
}

struct Tile {
    frame: PathBuf,
    caption: String,
}

/// The places of the largest errors, at least `apart` from each other, largest first.
fn worst(errors: &[f64], count: usize, apart: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by(|a, b| errors[*b].total_cmp(&errors[*a]));
    let mut chosen: Vec<usize> = Vec::new();
    for at in order {
        if chosen.len() < count && chosen.iter().all(|other| at.abs_diff(*other) >= apart.max(1)) {
            chosen.push(at);
        }
    }
    chosen
}

fn value(bench: &Bench, value: f64) -> String {
    match bench.folder.target {
        Target::Circular { period } if period == DAY_MINUTES => {
            let minutes = value.round() as u32 % DAY_MINUTES as u32;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        }
        Target::Class { .. } => {
            bench.folder.class_name(value).unwrap_or("?").chars().take(CLASS_CHARS).collect()
        }
        _ => digits(value).trim_end_matches(".00").to_owned(),
    }
}

fn compose(tiles: &[Tile]) -> Result<Rgb, EvalError> {
    let (step_x, step_y) = (TILE.0 + MARGIN, TILE.1 + font::height(SCALE) + 2 * MARGIN);
    let rows = (tiles.len() as u32).div_ceil(GRID.0).max(1);
    let mut sheet = Rgb::filled(GRID.0 * step_x + MARGIN, rows * step_y + MARGIN, [24; 3]);
    for (index, tile) in (0..).zip(tiles) {
        let image = load(&tile.frame, &Limits::default())?;
        let (width, height) = fit_within(image.width, image.height, TILE.0, TILE.1);
        let (x, y) = (MARGIN + index % GRID.0 * step_x, MARGIN + index / GRID.0 * step_y);
        paste(&mut sheet, &resize(&image, width, height), x, y);
        font::draw(&mut sheet, Place { x, y: y + height + MARGIN, scale: SCALE }, &tile.caption);
    }
    Ok(sheet)
}

fn paste(sheet: &mut Rgb, image: &Rgb, x: u32, y: u32) {
    let bytes = image.width as usize * 3;
    for (row, pixels) in image.data.chunks_exact(bytes).enumerate() {
        let at = ((y as usize + row) * sheet.width as usize + x as usize) * 3;
        sheet.data[at..at + bytes].copy_from_slice(pixels);
    }
}

fn png(sheet: Rgb) -> std::io::Result<Vec<u8>> {
    let image = RgbImage::from_raw(sheet.width, sheet.height, sheet.data)
        .ok_or_else(|| std::io::Error::other("the sheet's bytes do not fit its size"))?;
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(std::io::Error::other)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_not_neighbours() {
        let errors = [0.0, 9.0, 8.0, 1.0, 0.0, 5.0, 7.0, 0.0];
        assert_eq!(worst(&errors, 3, 3), [1, 6]);
        assert_eq!(worst(&errors, 3, 0), [1, 2, 6]);
    }
}
