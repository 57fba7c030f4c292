//! V4L2 cameras.

use std::path::{Path, PathBuf};

use super::{CaptureError, Options, Shot, Source, Stop};

/// A V4L2 camera.
pub(super) struct Camera {
    path: PathBuf,
}

impl Camera {
    pub(super) fn open(path: &Path, _options: &Options) -> Result<Self, CaptureError> {
        Ok(Self { path: path.to_owned() })
    }
}

impl Source for Camera {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn next(&mut self, _stop: &Stop) -> Result<Option<Shot>, CaptureError> {
        Ok(None)
    }
}
