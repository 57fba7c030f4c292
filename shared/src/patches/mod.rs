//! Only some patches of a frame travel: which, and how they are packed.
//!
//! ```text
//! frame at the input's size ─► Chooser ─► Choice ─► pack ─► mosaic ─► JPEG 4:4:4 ══► unpack ─► (encoder)
//!                                 ▲ what the encoder remembers ◄── answered ─────────────────────┘
//! ```
//! The encoder keeps its latent token of every place until a newer patch of that place comes, so that heads read a whole
//! picture. The camera box sends a patch when it no longer looks like the one that was sent last, and each in turn now and
//! then; what counts is what the encoder has, not what the scene's background is: someone who leaves is news as well.
//! Frames for training pass through the same code.

mod choice;
mod chooser;
mod mosaic;
mod policy;

use protocol::InputSize;

pub use choice::Choice;
pub use chooser::{Chooser, Selection};
pub use mosaic::{Mosaic, pack, to_jpeg, unpack};
pub use policy::{Changed, ParsePolicyError, Policy, Share};

use crate::preprocess::PatchGeometry;

/// Side of the squares that are compared, in pixels: a JPEG block, so that a patch of whole blocks has neighbours that do
/// not matter.
pub const CELL: u32 = 8;

/// Why frames cannot travel as patches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum PatchesError {
    /// A patch that is not made of whole JPEG blocks, or an input that is not made of whole patches.
    #[error(
        "an input of {width}x{height} pixels in patches of {patch} cannot travel as patches: their side must be a \
         multiple of {CELL} that divides the input; use `uplink.patches = \"all\"`, or a model with other patches"
    )]
    Geometry { width: u32, height: u32, patch: u32 },
    /// Places of another grid.
    #[error("{bytes} bytes name the places of patches, a grid of {places} needs {want} and no more bits")]
    Places { bytes: usize, places: usize, want: usize },
    /// Not the mosaic that these patches make.
    #[error("a mosaic of {count} patches is {want_width}x{want_height} pixels, this one is {width}x{height}")]
    Mosaic { count: usize, want_width: u32, want_height: u32, width: u32, height: u32 },
}

/// The grid of an encoder's input, if it can travel as patches.
///
/// # Errors
/// [`PatchesError::Geometry`].
pub fn geometry(input: InputSize, patch: u32) -> Result<PatchGeometry, PatchesError> {
    let InputSize { width, height } = input;
    PatchGeometry::new(height, width, patch)
        .filter(|_| patch.is_multiple_of(CELL))
        .ok_or(PatchesError::Geometry { width, height, patch })
}
