//! Presets: the shapes that are tried and named. Data, in `presets/*.json`.

use super::config::Config;

/// A named configuration.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name given to `model init --preset`.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    json: &'static str,
}

/// Every preset, smallest first.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "demo",
        about: "384x640, patch 32: 240 tokens, 3 M parameters; for a laptop's processor",
        json: include_str!("../../presets/demo.json"),
    },
    Preset {
        name: "seed-80m",
        about: "576x960, patch 48: 240 tokens, 76 M parameters; exact attention",
        json: include_str!("../../presets/seed-80m.json"),
    },
    Preset {
        name: "hires",
        about: "1080x1920, patch 24: 3600 tokens; Nyström attention over blocks",
        json: include_str!("../../presets/hires.json"),
    },
    Preset {
        name: "hires-fine",
        about: "1072x1920, patch 16: 8040 tokens; Nyström attention over blocks",
        json: include_str!("../../presets/hires-fine.json"),
    },
];

impl Preset {
    /// The preset of this name.
    pub fn find(name: &str) -> Option<Self> {
        PRESETS.into_iter().find(|preset| preset.name == name)
    }

    /// Its configuration, with the decoder that pretraining uses.
    pub fn config(&self) -> Config {
        Config::from_json(self.json).expect("the presets are checked by a test")
    }
}
