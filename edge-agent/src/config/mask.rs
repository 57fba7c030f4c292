//! `[[mask]]`: regions that nobody is to see.

use std::fmt;

use serde::Deserialize;
use shared::image::{Hide, Mask, MaskError};

use super::values::{Wrong, wrong};

/// One `[[mask]]`: a rectangle or a polygon.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskConfig {
    /// Left, top, right, bottom, as fractions of the picture.
    pub rectangle: Option<[f32; 4]>,
    /// Column and row of each corner, as fractions of the picture.
    pub polygon: Option<Vec<[f32; 2]>>,
    /// Blocks of so many pixels; without it the region is grey.
    pub pixelate: Option<u32>,
}

impl fmt::Display for MaskConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = [
            self.rectangle.map(|it| format!("rectangle = {it:?}")),
            self.polygon.as_ref().map(|it| format!("polygon = {it:?}")),
            self.pixelate.map(|it| format!("pixelate = {it}")),
        ];
        f.write_str(&shapes.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// A region that is wrong is never left out: what it was to hide would be sent.
pub(super) fn mask(mask: MaskConfig) -> Result<Mask, Wrong> {
    let hide = mask.pixelate.map_or(Hide::Fill, Hide::Pixelate);
    let made = match (mask.rectangle, mask.polygon) {
        (Some(sides), None) => Mask::rectangle(sides, hide),
        (None, Some(corners)) => Mask::polygon(corners, hide),
        (Some(_), Some(_)) => {
            return wrong("is a rectangle and a polygon", "make two [[mask]] of it, one for each");
        }
        (None, None) => {
            return wrong(
                "is neither a rectangle nor a polygon",
                "add rectangle = [left, top, right, bottom] or polygon = [[column, row], …]",
            );
        }
    };
    made.map_err(|error| {
        let remedy = match &error {
            MaskError::Outside(_) => "write fractions of the picture, from 0 at the left and the top to 1",
            MaskError::Reversed => "write left, top, right, bottom",
            MaskError::Corners(_) => "use 3 to 64",
            MaskError::Crossing(..) => "name the corners in the order of the outline, each once",
            MaskError::Empty => "make it larger, or take it out",
            // Of command lines alone.
            MaskError::Words(_) => "write rectangle = [left, top, right, bottom]",
            MaskError::Block(_) => "use 8 to 1024, or leave pixelate out: then the region is grey",
        };
        (error.to_string(), remedy)
    })
}
