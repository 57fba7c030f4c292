//! Tokens of platforms: from a file or the environment, never from an argument, and never shown.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use shared::secret::Secret;

/// Longest token that is read, in bytes: a personal access token of Label Studio has about 300.
const MAX_BYTES: u64 = 4096;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum SecretError {
    #[error("cannot read the {what} from {}: {source}", path.display())]
    Read { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("there is no {what}: name its file as `{key}`, or set {variable} in the environment")]
    Missing { what: &'static str, key: &'static str, variable: &'static str },
    #[error("{place} holds no {what}: want one line of at most {MAX_BYTES} printable characters")]
    Malformed { what: &'static str, place: String },
}

/// Where a token is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// In words.
    pub(super) what: &'static str,
    /// The key of the configuration that names a file.
    pub(super) key: &'static str,
    /// The file, if the configuration names one.
    pub(super) file: Option<&'a Path>,
    /// The variable that is read otherwise.
    pub(super) variable: &'static str,
}

/// From the text of a file or variable; blanks around it are not part of it.
///
/// # Errors
/// A text that is no token, with where it stands and without it.
pub(super) fn parse(what: &'static str, place: &str, text: &str) -> Result<Secret, SecretError> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() as u64 <= MAX_BYTES;
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Secret::new(text.to_owned()))
    } else {
        Err(SecretError::Malformed { what, place: place.to_owned() })
    }
}

/// From the file, else from the environment.
pub(super) fn find(place: Place<'_>) -> Result<Secret, SecretError> {
    let Place { what, key, file, variable } = place;
    if let Some(path) = file {
        let failed = |source| SecretError::Read { what, path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        return parse(what, &path.display().to_string(), &text);
    }
    match std::env::var(variable) {
        Ok(text) => parse(what, variable, &text),
        Err(_) => Err(SecretError::Missing { what, key, variable }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_a_file_and_shows_itself_nowhere() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("token");
        let found = || {
            find(Place {
                what: "token of Tests",
                key: "token_file",
                file: Some(&path),
                variable: "FTH_TEST_NONE",
            })
        };
        let missing = found().unwrap_err().to_string();
        assert!(
            missing.starts_with(&format!("cannot read the token of Tests from {}", path.display())),
            "{missing}"
        );
        std::fs::write(&path, "hunter2hunter2\n").unwrap();
        assert!(found().unwrap().is("hunter2hunter2"));
        for bad in ["", "two words", "ünïcode", &"x".repeat(5000)] {
            std::fs::write(&path, bad).unwrap();
            let error = found().unwrap_err().to_string();
            assert!(error.contains("holds no token of Tests: want one line"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "the text is not repeated");
        }
        let none = Place { what: "token of Tests", key: "token_file", file: None, variable: "FTH_TEST_NONE" };
        let error = find(none).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no token of Tests: name its file as `token_file`, or set FTH_TEST_NONE in the environment"
        );
    }
}
