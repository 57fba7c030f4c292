//! The frames of one camera as patches, one after another: what the camera box and the decoder do to them.
//!
//! ```text
//! file ─► pixels ─► the encoder's input size ─► Chooser ─► mosaic JPEG ─► decode ─► patches at their places
//!                                                 ▲── taken to be answered ──┘
//! ```
//! Which patches a frame needs depends on the frames before, not on what the encoder makes of them.

use std::sync::Arc;

use shared::image::{Limits, Rgb, jpeg};
use shared::patches::{self, Chooser};
use shared::preprocess::PatchGeometry;
use shared::uplink::Uplink;

use super::pipeline::Input;

/// One camera's frames on their way.
#[derive(Debug)]
pub(super) struct Replay {
    chooser: Chooser,
    geometry: PatchGeometry,
    quality: u8,
    limits: Limits,
}

impl Replay {
    pub(super) fn new(uplink: &Uplink, geometry: PatchGeometry, limits: Limits) -> Self {
        let chooser = Chooser::new(uplink.patches, geometry);
        Self { chooser, geometry, quality: uplink.quality, limits }
    }

    /// The next frame, of the encoder's input size, as it arrives; or why it does not.
    pub(super) fn next(&mut self, frame: &Rgb) -> Result<Input, String> {
        let selection = self.chooser.choose(frame);
        let choice = selection.choice.clone();
        let mosaic = patches::to_jpeg(frame, self.geometry, &choice, self.quality);
        let received = jpeg::decode(&mosaic.jpeg, &self.limits).map_err(|error| error.to_string())?;
        let frame = patches::unpack(&received, self.geometry, &choice).map_err(|error| error.to_string())?;
        self.chooser.answered(selection);
        Ok(Input { frame: Arc::new(frame), choice: Some(choice), bytes: mosaic.jpeg.len() })
    }
}
