//! `label.toml`: when batches form, what they may cost, and where they go.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::ConfigError;

use super::{Plan, ScaleConfig, SecretError, StudioConfig};

/// The whole file; unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When batches form by themselves, and what they may cost.
    pub label: Plan,
    /// A Label Studio server.
    pub label_studio: Option<StudioConfig>,
    /// Scale's service.
    pub scale: Option<ScaleConfig>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ConfigFault {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// Reads the file. Files that it names are looked for beside it.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value that cannot be.
    pub fn load(path: &Path) -> Result<Self, ConfigFault> {
        let mut config: Self = shared::config::load(path)?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let mut files: Vec<&mut PathBuf> = Vec::new();
        files.extend(config.label_studio.as_mut().and_then(|it| it.token_file.as_mut()));
        if let Some(scale) = &mut config.scale {
            files.extend(
                [&mut scale.key_file, &mut scale.callback_key_file].into_iter().filter_map(Option::as_mut),
            );
        }
        files.into_iter().for_each(|file| *file = beside.join(&file));
        config.check().map_err(|fault| ConfigFault::Value(format!("{}: {fault}", path.display())))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let faults = [
            self.label.fault(),
            self.label_studio.as_ref().and_then(StudioConfig::fault),
            self.scale.as_ref().and_then(ScaleConfig::fault),
        ];
        faults.into_iter().flatten().next().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("label.toml");
        std::fs::write(&path, text).unwrap();
        let said = |error: ConfigFault| error.to_string().replace(&format!("{}/", dir.path().display()), "");
        let config = Config::load(&path).map_err(said)?;
        let file = config.label_studio.as_ref().and_then(|it| it.token_file.clone());
        assert!(file.is_none_or(|file| file == dir.path().join("studio.token")));
        Ok(config)
    }

    #[test]
    fn what_the_page_on_labelling_shows_is_read() {
        let page = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/labelling.md"));
        let page = std::fs::read_to_string(page).unwrap();
        let text = page.split("```toml\n").nth(1).and_then(|it| it.split("```").next()).unwrap();
        let config = load(text).unwrap();
        assert!(
            config.label_studio.is_some() && config.scale.is_some() && config.label.budget.money.is_some()
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let studio = "[label_studio]\nurl = \"http://127.0.0.1:8080\"\n";
        let scale = "[scale]\nproject = \"plaza\"\n";
        for (text, want) in [
            ("[label]\nsise = 3\n".to_owned(), "label.toml:2: label.sise: unknown key, did you mean `size`?"),
            (format!("{studio}token = \"abc\"\n"), "label.toml:3: label_studio.token: unknown key"),
            (
                studio.to_owned(),
                "label.toml: [label_studio] needs `title`, of a project to make or find, or `project`, its number",
            ),
            (
                format!("{studio}title = \"ab\"\n"),
                "label.toml: [label_studio] title is \"ab\", want 3 to 50 characters",
            ),
            (
                format!("{studio}title = \"abc\"\nannotators = 0\n"),
                "label.toml: [label_studio] annotators is 0, want 1 to 100",
            ),
            (
                format!("{scale}callback_url = \"plaza.example\"\n"),
                "label.toml: [scale] callback_url is \"plaza.example\", want an address that begins with https://",
            ),
            ("[label]\nsize = 0\n".to_owned(), "label.toml: [label] size is 0, want 1 to 10000 frames"),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.contains(want), "{error}\nwant {want}");
        }
        assert!(load(&format!("{studio}title = \"abc\"\ntoken_file = \"studio.token\"\n")).is_ok());
    }
}
