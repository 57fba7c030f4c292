//! Presets: the shapes that are tried and named. Data, in `presets/*.json`; a shape of one's own is a file like them.

use std::borrow::Cow;
use std::path::Path;

use super::config::{Config, ConfigError};

/// A named configuration.
#[derive(Debug, Clone)]
pub struct Preset {
    /// The name given to `model init --preset`, or the file's path.
    pub name: Cow<'static, str>,
    /// What it is for, in one line.
    pub about: &'static str,
    json: Cow<'static, str>,
}

/// Why a file is no preset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no configuration.
    #[error("{path}: {source}; begin from one of dc-encoder/presets/")]
    Config {
        /// The file.
        path: String,
        /// Why.
        source: ConfigError,
    },
}

/// Every preset, smallest first.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: Cow::Borrowed("demo"),
        about: "384x640, patch 32: 240 tokens, 3 M parameters; for a laptop's processor",
        json: Cow::Borrowed(include_str!("../../presets/demo.json")),
    },
    Preset {
        name: Cow::Borrowed("seed-80m"),
        about: "576x960, patch 48: 240 tokens, 76 M parameters; exact attention",
        json: Cow::Borrowed(include_str!("../../presets/seed-80m.json")),
    },
    Preset {
        name: Cow::Borrowed("hires"),
        about: "1080x1920, patch 24: 3600 tokens; Nyström attention over blocks",
        json: Cow::Borrowed(include_str!("../../presets/hires.json")),
    },
    Preset {
        name: Cow::Borrowed("hires-fine"),
        about: "1072x1920, patch 16: 8040 tokens; Nyström attention over blocks",
        json: Cow::Borrowed(include_str!("../../presets/hires-fine.json")),
    },
];

impl Preset {
    /// The preset of this name.
    pub fn find(name: &str) -> Option<Self> {
        PRESETS.into_iter().find(|preset| preset.name == name)
    }

    /// The shape that this file describes.
    ///
    /// # Errors
    /// The file cannot be read, or is no valid configuration; named.
    pub fn read(path: &Path) -> Result<Self, PresetError> {
        let name = path.display().to_string();
        let json = std::fs::read_to_string(path)
            .map_err(|source| PresetError::Read { path: name.clone(), source })?;
        Config::from_json(&json).map_err(|source| PresetError::Config { path: name.clone(), source })?;
        Ok(Self { name: name.into(), about: "a shape of one's own", json: json.into() })
    }

    /// Its configuration, with the decoder that pretraining uses.
    pub fn config(&self) -> Config {
        Config::from_json(&self.json).expect("presets are checked by a test, and files when they are read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_preset_and_what_is_wrong_with_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.json");
        let demo = Preset::find("demo").unwrap();
        std::fs::write(&path, &*demo.json).unwrap();
        let mine = Preset::read(&path).unwrap();
        assert_eq!((mine.config(), &*mine.name), (demo.config(), path.to_str().unwrap()));

        std::fs::write(&path, demo.json.replace("\"patch\": 32", "\"patch\": 31")).unwrap();
        let error = Preset::read(&path).unwrap_err().to_string();
        assert!(error.contains("mine.json") && error.contains("31") && error.contains("presets/"), "{error}");
        let error = Preset::read(&dir.path().join("none.json")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("none.json"), "{error}");
    }
}
