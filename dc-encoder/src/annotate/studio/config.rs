//! What a person says about their Label Studio server.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[label_studio]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudioConfig {
    /// Its address, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// File with the token; without it, `LABEL_STUDIO_TOKEN` of the environment.
    pub token_file: Option<PathBuf>,
    /// The number of a project that is there.
    pub project: Option<u64>,
    /// The title of a project to find or to make.
    pub title: Option<String>,
    /// What boxes are drawn around, for counts; without it, a number is typed.
    pub boxes: Option<String>,
    /// People who label each frame.
    #[serde(default = "one")]
    pub annotators: u64,
    /// Whether the token may go to another machine over plain HTTP.
    #[serde(default)]
    pub plain_http: bool,
}

fn one() -> u64 {
    1
}

impl StudioConfig {
    /// What is wrong with it, in words.
    pub(in crate::annotate) fn fault(&self) -> Option<String> {
        let Self { project, title, annotators, .. } = self;
        let length = title.as_ref().map(|it| it.chars().count());
        match (project, title) {
            (None, None) => {
                Some("needs `title`, of a project to make or find, or `project`, its number".to_owned())
            }
            (Some(_), Some(_)) => Some("names a `project` and a `title`: leave one out".to_owned()),
            (None, Some(title)) if !(3..=50).contains(&length.unwrap_or_default()) => {
                Some(format!("title is {title:?}, want 3 to 50 characters"))
            }
            _ if !(1..=100).contains(annotators) => {
                Some(format!("annotators is {annotators}, want 1 to 100"))
            }
            _ => None,
        }
        .map(|fault| format!("[label_studio] {fault}"))
    }
}
