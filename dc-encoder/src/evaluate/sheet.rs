//! The worst answers as one picture: each frame with its truth and the head's answer.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use shared::image::{Limits, Rgb, fit_within, load, resize};

use super::bench::Bench;
use super::curve::{Curve, Score};
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

/// Characters of a class's name that fit under a frame beside the row.
const CLASS_CHARS: usize = 12;

/// Pixels a dot of the captions.
const SCALE: u32 = 2;

/// The sheet's shown frames are this share of the test apart, at least: neighbours show the same mistake twice.
const APART: usize = 40;

/// A sheet that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Labels the head was trained on.
    pub labels: usize,
    /// The head with the least error at that number.
    pub head: String,
}

/// Writes one sheet for each number of labels, `NAME-10.png`, `NAME-30.png` and so on for `NAME.png`: the frames that the
/// best head at that number, trained on its first draw, answers worst.
///
/// # Errors
/// A frame that cannot be read, a file that cannot be written.
pub fn write(path: &Path, bench: &Bench, curve: &Curve) -> Result<Vec<Written>, EvalError> {
    let mut written = Vec::with_capacity(curve.labels.len());
    for (at, labels) in curve.labels.iter().enumerate() {
        let best = curve.heads().min_by(|a, b| a.scores[at].mean.value.total_cmp(&b.scores[at].mean.value));
        let Some(head) = best else { break };
        let path = numbered(path, *labels);
        let tiles = tiles(bench, curve, &head.scores[at]);
        let bytes =
            png(compose(&tiles)?).map_err(|source| EvalError::Write { path: path.clone(), source })?;
        std::fs::write(&path, bytes).map_err(|source| EvalError::Write { path: path.clone(), source })?;
        written.push(Written { path, labels: *labels, head: head.name.clone() });
    }
    Ok(written)
}

/// `NAME-LABELS.png` for `NAME.png`.
fn numbered(path: &Path, labels: usize) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let stem = part(path.file_stem()).unwrap_or_default();
    let extension = part(path.extension()).unwrap_or_else(|| "png".to_owned());
    path.with_file_name(format!("{stem}-{labels}.{extension}"))
}

/// The worst answers of the first draw.
fn tiles(bench: &Bench, curve: &Curve, score: &Score) -> Vec<Tile> {
    let errors = bench.errors(&curve.test, &score.answers);
    let chosen = worst(&errors, (GRID.0 * GRID.1) as usize, curve.test.len() / APART);
    let tile = |at: usize| {
        let row = curve.test[at];
        let (truth, answer) = (value(bench, bench.folder.truth(row)), value(bench, score.answers[at]));
        Tile {
            frame: bench.frames[row].clone(),
            caption: [format!("ROW {row} TRUE {truth}"), format!("SAID {answer}")],
        }
    };
    chosen.into_iter().map(tile).collect()
}

struct Tile {
    frame: PathBuf,
    /// Its two lines.
    caption: [String; 2],
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
    let (step_x, step_y) = (TILE.0 + MARGIN, TILE.1 + 2 * (font::height(SCALE) + MARGIN) + MARGIN);
    let rows = (tiles.len() as u32).div_ceil(GRID.0).max(1);
    let mut sheet = Rgb::filled(GRID.0 * step_x + MARGIN, rows * step_y + MARGIN, [24; 3]);
    for (index, tile) in (0..).zip(tiles) {
        let image = load(&tile.frame, &Limits::default())?;
        let (width, height) = fit_within(image.width, image.height, TILE.0, TILE.1);
        let (x, y) = (MARGIN + index % GRID.0 * step_x, MARGIN + index / GRID.0 * step_y);
        paste(&mut sheet, &resize(&image, width, height), x, y);
        for (line, text) in (0..).zip(&tile.caption) {
            let y = y + height + MARGIN + line * (font::height(SCALE) + MARGIN);
            font::draw(&mut sheet, Place { x, y, scale: SCALE }, text);
        }
    }
    Ok(sheet)
}

pub(crate) fn paste(sheet: &mut Rgb, image: &Rgb, x: u32, y: u32) {
    let bytes = image.width as usize * 3;
    for (row, pixels) in image.data.chunks_exact(bytes).enumerate() {
        let at = ((y as usize + row) * sheet.width as usize + x as usize) * 3;
        sheet.data[at..at + bytes].copy_from_slice(pixels);
    }
}

pub(crate) fn png(sheet: Rgb) -> std::io::Result<Vec<u8>> {
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
    fn a_sheet_is_named_after_its_labels() {
        let name = |path: &str| numbered(Path::new(path), 30).display().to_string();
        assert_eq!([name("a/worst.png"), name("worst")], ["a/worst-30.png", "worst-30.png"]);
    }

    #[test]
    fn the_worst_are_not_neighbours() {
        let errors = [0.0, 9.0, 8.0, 1.0, 0.0, 5.0, 7.0, 0.0];
        assert_eq!(worst(&errors, 3, 3), [1, 6]);
        assert_eq!(worst(&errors, 3, 0), [1, 2, 6]);
    }
}
