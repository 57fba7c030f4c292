//! The contact sheet: the chosen frames, each with why.

use std::path::{Path, PathBuf};

use shared::image::{JpegError, Limits, Rgb, fit_within, jpeg, resize};

use crate::evaluate::font::{self, Place};
use crate::evaluate::sheet::{paste, png};

/// Columns.
const COLUMNS: u32 = 5;

/// Largest frame on it, in pixels.
const TILE: (u32, u32) = (256, 192);

/// Around tiles and captions, in pixels.
const MARGIN: u32 = 6;

/// Pixels a dot of the captions.
const SCALE: u32 = 2;

/// A frame on the sheet.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Its JPEG.
    pub frame: Vec<u8>,
    /// Two lines under it, in capitals, digits and `.:-%`.
    pub caption: [String; 2],
}

/// Why there is no sheet.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum SheetError {
    #[error("a frame cannot be drawn: {0}")]
    Frame(#[from] JpegError),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// Writes a PNG.
///
/// # Errors
/// A frame that cannot be read, a file that cannot be written.
pub fn write(path: &Path, tiles: &[Tile]) -> Result<(), SheetError> {
    let (step_x, step_y) = (TILE.0 + MARGIN, TILE.1 + 2 * (font::height(SCALE) + MARGIN) + MARGIN);
    let rows = (tiles.len() as u32).div_ceil(COLUMNS).max(1);
    let mut sheet = Rgb::filled(COLUMNS * step_x + MARGIN, rows * step_y + MARGIN, [24; 3]);
    for (index, tile) in (0..).zip(tiles) {
        let image = jpeg::decode(&tile.frame, &Limits::default())?;
        let (width, height) = fit_within(image.width, image.height, TILE.0, TILE.1);
        let (x, y) = (MARGIN + index % COLUMNS * step_x, MARGIN + index / COLUMNS * step_y);
        paste(&mut sheet, &resize(&image, width, height), x, y);
        for (line, text) in (0..).zip(&tile.caption) {
            let y = y + height + MARGIN + line * (font::height(SCALE) + MARGIN);
            font::draw(&mut sheet, Place { x, y, scale: SCALE }, text);
        }
    }
    let failed = |source| SheetError::Write { path: path.to_owned(), source };
    std::fs::write(path, png(sheet).map_err(failed)?).map_err(failed)
}
