//! What a person says about their account at Scale.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[scale]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// The service's address.
    #[serde(default = "service")]
    pub url: String,
    /// File with the API key; without it, `SCALE_API_KEY` of the environment.
    pub key_file: Option<PathBuf>,
    /// The project, as it is called there.
    pub project: String,
    /// What boxes are drawn around, for counts; without it, a number is asked for.
    pub boxes: Option<String>,
    /// What is said to whoever labels, instead of the project's instruction.
    pub instruction: Option<String>,
    /// Where the service reports a finished task, such as a proxy before `label listen`; nowhere unless said.
    pub callback_url: Option<String>,
    /// File with the key that callbacks carry; without it, `SCALE_CALLBACK_KEY` of the environment.
    pub callback_key_file: Option<PathBuf>,
    /// Whether the key may go to another machine over plain HTTP.
    #[serde(default)]
    pub plain_http: bool,
}

fn service() -> String {
    "https://api.scale.com".to_owned()
}

impl ScaleConfig {
    /// What is wrong with it, in words.
    pub(in crate::annotate) fn fault(&self) -> Option<String> {
        let away = |url: &&String| !url.starts_with("https://") && !self.plain_http;
        if self.project.trim().is_empty() {
            return Some("[scale] project is empty, want its name as it is called there".to_owned());
        }
        let url = self.callback_url.as_ref().filter(away)?;
        // Callbacks carry a key, too.
        Some(format!("[scale] callback_url is {url:?}, want an address that begins with https://"))
    }
}
