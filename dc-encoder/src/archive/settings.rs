//! `archive.toml` in an archive's folder: where the frames are, and how long which camera's may stay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::{ArchiveError, Keep};

/// Its name in the archive's folder.
pub(super) const FILE: &str = "archive.toml";

/// What a person can set about one archive, for every command that opens it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A bucket that keeps the frames; without it they lie in the archive's folder.
    pub frames: Option<BucketSettings>,
    /// Frames older than this go, labelled or not.
    #[serde(with = "humantime_serde")]
    pub keep_for: Option<Duration>,
    /// Beyond so many bytes of a camera, its oldest frames without labels go.
    pub keep_bytes: Option<ByteSize>,
    /// Cameras for which something else holds.
    pub cameras: BTreeMap<String, CameraKeep>,
}

/// What one camera may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraKeep {
    /// See [`Settings::keep_for`].
    #[serde(with = "humantime_serde")]
    pub keep_for: Option<Duration>,
    /// See [`Settings::keep_bytes`].
    pub keep_bytes: Option<ByteSize>,
}

/// A bucket that speaks S3. Its keys are never here: they come from the environment or from a file that is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSettings {
    /// `s3://BUCKET/PREFIX`.
    pub url: String,
    /// `https://HOST:PORT` of a store that is not Amazon's; else `AWS_ENDPOINT_URL`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Its region; else `AWS_REGION`.
    #[serde(default)]
    pub region: Option<String>,
    /// A file of keys as the AWS command line keeps them; a relative path starts at the archive's folder.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
}

impl Settings {
    /// Reads the archive's own file; without one nothing is set.
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, a camera's name that is none.
    pub fn load(dir: &Path) -> Result<Self, ArchiveError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let settings: Self = shared::config::load(&path)?;
        for camera in settings.cameras.keys() {
            let known = shared::tls::check_camera_name(camera);
            known.map_err(|_| ArchiveError::CameraName(camera.clone()))?;
        }
        Ok(settings)
    }

    /// What a camera may keep: its own limits, and everyone's where it has none.
    pub fn keep(&self, camera: &str) -> Keep {
        let own = self.cameras.get(camera).copied().unwrap_or_default();
        let bytes = own.keep_bytes.or(self.keep_bytes).map(|it| it.as_u64());
        Keep { age: own.keep_for.or(self.keep_for), bytes }
    }
}

/// The text of a new archive's file.
pub(super) fn text(frames: Option<&BucketSettings>) -> String {
    let mut text = String::from(
        "# What holds for this archive, whichever command opens it.\n\n\
         # keep_for = \"30days\"           # older frames go, labelled or not: `archive gc`, `collect` and `serve` see to it\n\
         # keep_bytes = \"20GB\"           # of each camera; beyond it the oldest frames without labels go\n\n",
    );
    match frames {
        None => text.push_str("# The frames lie in this folder. `archive init --frames s3://…` makes one that keeps them elsewhere.\n"),
        Some(BucketSettings { url, endpoint, region, credentials }) => {
            text.push_str("[frames]                        # where the frames are; the index is here\n");
            let credentials = credentials.as_ref().map(|it| it.display().to_string());
            let keys = [("url", Some(url)), ("endpoint", endpoint.as_ref()), ("region", region.as_ref())];
            for (key, value) in keys.into_iter().chain([("credentials", credentials.as_ref())]) {
                if let Some(value) = value {
                    let _ = writeln!(text, "{key} = {}", toml::Value::String(value.clone()));
                }
            }
        }
    }
    text.push_str("\n# [cameras.changing-room]       # for one camera\n# keep_for = \"1day\"\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, ArchiveError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Settings::load(dir.path())
    }

    #[test]
    fn a_camera_has_its_own_limits_or_everyones() {
        let settings =
            load("keep_for = '30days'\nkeep_bytes = '2GB'\n[cameras.gate]\nkeep_for = '1day'\n[cameras.far]\nkeep_bytes = '1kB'")
                .unwrap();
        let days = |days: u64| Some(Duration::from_secs(days * 24 * 3600));
        assert_eq!(settings.keep("plaza"), Keep { age: days(30), bytes: Some(2_000_000_000) });
        assert_eq!(settings.keep("gate"), Keep { age: days(1), bytes: Some(2_000_000_000) });
        assert_eq!(settings.keep("far"), Keep { age: days(30), bytes: Some(1000) });
        assert_eq!(Settings::default().keep("plaza"), Keep::default());
    }

    #[test]
    fn what_is_no_setting_is_named_with_its_file() {
        for (text, want) in [
            ("keep = '30days'", "archive.toml:1: keep: unknown key"),
            ("[frames]\nurl = 's3://b'\nsecret = 'x'", "archive.toml:3: frames.secret: unknown key"),
            ("[cameras.'A b']\nkeep_for = '1day'", "camera name \"A b\""),
            ("keep_for = 'soon'", "archive.toml:1: "),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bucket = BucketSettings {
            url: "s3://frames/a \"b\"".into(),
            endpoint: Some("http://127.0.0.1:9".into()),
            region: None,
            credentials: Some("keys".into()),
        };
        let settings = load(&text(Some(&bucket))).unwrap();
        assert_eq!(settings, Settings { frames: Some(bucket), ..Settings::default() });
        assert_eq!(load(&text(None)).unwrap(), Settings::default());
        let used = text(None).replace("# keep_for = \"30", "keep_for = \"30").replace("# [cam", "[cam");
        assert!(
            load(&used).unwrap().cameras.contains_key("changing-room"),
            "the comments are examples that work"
        );
    }
}
