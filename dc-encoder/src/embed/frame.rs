//! One frame's way from its file to the encoder's input.

use std::path::Path;
use std::sync::Arc;

use shared::image::{Limits, LoadError, Rgb, jpeg, load, resize};
use shared::uplink::Uplink;

/// How every frame is prepared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preparation {
    pub(crate) uplink: Uplink,
    pub(crate) limits: Limits,
    /// Height and width of the encoder's input.
    pub(crate) input: (usize, usize),
}

impl Preparation {
    /// The encoder's input, or why there is none. What a camera box and the server do to a frame, in that order.
    pub(crate) fn prepare(&self, path: &Path) -> Result<Arc<Rgb>, String> {
        self.received(path).map(|(frame, _)| frame)
    }

    /// The same of a JPEG in memory.
    pub(crate) fn prepare_jpeg(&self, jpeg: Vec<u8>) -> Result<Arc<Rgb>, String> {
        let sent = self.uplink.apply_jpeg(jpeg, &self.limits).map_err(|error| error.to_string())?;
        let received = jpeg::decode(&sent.jpeg, &self.limits).map_err(|error| error.to_string())?;
        Ok(Arc::new(self.at_input(&received)))
    }

    /// The same, and the bytes that it took on the wire.
    pub(super) fn received(&self, path: &Path) -> Result<(Arc<Rgb>, usize), String> {
        let sent = match jpeg_bytes(path, &self.limits)? {
            Some(bytes) => self.uplink.apply_jpeg(bytes, &self.limits).map_err(|error| error.to_string())?,
            None => self.uplink.apply_rgb(&load(path, &self.limits).map_err(without_path)?),
        };
        let received = jpeg::decode(&sent.jpeg, &self.limits).map_err(|error| error.to_string())?;
        Ok((Arc::new(self.at_input(&received)), sent.jpeg.len()))
    }

    /// The frame at the encoder's input size as the camera box has it, before anything is sent.
    pub(super) fn captured(&self, path: &Path) -> Result<Rgb, String> {
        Ok(self.at_input(&load(path, &self.limits).map_err(without_path)?))
    }

    fn at_input(&self, image: &Rgb) -> Rgb {
        let (height, width) = self.input;
        resize(image, width as u32, height as u32)
    }
}

/// The bytes of a file that does not look like a PNG; its frame may pass untouched.
fn jpeg_bytes(path: &Path, limits: &Limits) -> Result<Option<Vec<u8>>, String> {
    let bytes = shared::image::read(path, limits).map_err(without_path)?;
    Ok((!shared::image::is_png(&bytes)).then_some(bytes))
}

/// The reason alone: a frame is named by its id, not by its path.
fn without_path(error: LoadError) -> String {
    match error {
        LoadError::Io { source, .. } => format!("cannot read it: {source}"),
        LoadError::TooLarge { bytes, max, .. } => format!("it is {bytes} bytes, the limit is {max}"),
        LoadError::Empty { .. } => "it is empty".into(),
        LoadError::Jpeg { source, .. } => source.to_string(),
        LoadError::Png { why, .. } => why,
    }
}
