//! Loading TOML configuration, unknown keys rejected.
//!
//! A refused file is answered with its name, the line, the key, and the key that was probably meant:
//! `agent.toml:12: sinks.retian: unknown key, did you mean `retain`? (allowed: path, retain)`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Largest configuration file: ours are a few hundred lines; something else was named by mistake.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {} is larger than {MAX_CONFIG_BYTES} bytes: this is some other file", .0.display())]
    TooLarge(PathBuf),
    /// The file is not what the program expects.
    #[error("{}:{line}: {}{message}", path.display(), colon(key))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its table (`sinks.retain`), empty when unknown.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

fn colon(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// Loads `T` from the TOML file at `path`; `T` and everything in it should be `deny_unknown_fields`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    parse(path, &text)
}

/// [`load`] for text already read; `path` is used in messages.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let (unknown, message) = reword(error.message());
        let key = key_at(text, at, unknown.as_deref());
        ConfigError::Invalid { path: path.to_owned(), line: line_of(text, at), key, message }
    })
}

/// Unknown keys and values in our words, with a suggestion; other messages as they are. Returns the key.
fn reword(message: &str) -> (Option<String>, String) {
    let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let key = message.starts_with("unknown field");
    if !key && !message.starts_with("unknown variant") {
        return (None, message.to_owned());
    }
    let Some(written) = quoted.next() else { return (None, message.to_owned()) };
    let allowed: Vec<String> = quoted.collect();
    let what = if key { "unknown key".to_owned() } else { format!("unknown value `{written}`") };
    let meant = closest(&written, &allowed).map_or_else(String::new, |m| format!(", did you mean `{m}`?"));
    let list = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    (key.then_some(written), format!("{what}{meant} (allowed: {list})"))
}

/// The allowed word that `written` is probably a slip of: at most a third of its letters wrong.
fn closest<'a>(written: &str, allowed: &'a [String]) -> Option<&'a str> {
    let distance = |word: &str| slips(&written.to_lowercase().replace('-', "_"), &word.replace('-', "_"));
    let (best, word) = allowed.iter().map(|word| (distance(word), word.as_str())).min()?;
    (best <= (written.chars().count().max(word.chars().count()) / 3).max(1)).then_some(word)
}

/// Letters to insert, delete, replace or swap with their neighbour to get from `a` to `b` (optimal string
/// alignment distance).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1
}

/// The key at a place in the text, with the table it is in: from the last `[table]` line and the last `key =`
/// line up to there. `unknown` is the key when the error itself names it.
fn key_at(text: &str, at: usize, unknown: Option<&str>) -> String {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    let (mut table, mut key) = ("", "");
    for line in text[..end].lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').filter(|_| line.contains(']') && !line.contains('=')) {
            table = name.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
            key = "";
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            key = name.trim();
        }
    }
    let key = match unknown {
        Some(unknown) if key.rsplit('.').next() == Some(unknown) => key,
        Some(unknown) if table.rsplit('.').next() == Some(unknown) => return table.to_owned(),
        Some(unknown) => unknown,
        None => key,
    };
    [table, key].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Agent {
        camera: String,
        #[serde(default)]
        sinks: Vec<Sink>,
        link: Option<Link>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sink {
        path: String,
        retain: Option<u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Link {
        encoding: Encoding,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Encoding {
        F32,
        Int8,
    }

    fn refused(text: &str) -> String {
        parse::<Agent>(Path::new("agent.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_loads() {
        let text = "camera = 'a'\n[[sinks]]\npath = '-'\n[link]\nencoding = 'int8'\n";
        let agent: Agent = parse(Path::new("agent.toml"), text).unwrap();
        assert_eq!((agent.camera.as_str(), agent.sinks.len()), ("a", 1));
        assert_eq!(agent.link, Some(Link { encoding: Encoding::Int8 }));
    }

    #[test]
    fn a_misspelt_key_is_named_with_line_table_and_the_key_meant() {
        assert_eq!(
            refused("# box 7\ncamera = 'a'\n\n[[sinks]]\npath = '-'\nretian = 3\n"),
            "agent.toml:6: sinks.retian: unknown key, did you mean `retain`? (allowed: path, retain)"
        );
        assert_eq!(
            refused("Camera = 'a'\n"),
            "agent.toml:1: Camera: unknown key, did you mean `camera`? (allowed: camera, sinks, link)"
        );
    }

    #[test]
    fn a_key_unlike_any_other_gets_the_list_only() {
        assert_eq!(
            refused("camera = 'a'\nresolution = 4\n"),
            "agent.toml:2: resolution: unknown key (allowed: camera, sinks, link)"
        );
    }

    #[test]
    fn a_misspelt_table_is_named_at_its_header() {
        let message = refused("camera = 'a'\n[lnik]\nencoding = 'f32'\n");
        assert_eq!(
            message,
            "agent.toml:2: lnik: unknown key, did you mean `link`? (allowed: camera, sinks, link)"
        );
    }

    #[test]
    fn wrong_values_name_their_key() {
        let message = refused("camera = 'a'\n[link]\nencoding = 'int9'\n");
        assert_eq!(
            message,
            "agent.toml:3: link.encoding: unknown value `int9`, did you mean `int8`? (allowed: f32, int8)"
        );
        let message = refused("camera = 7\n");
        assert!(message.starts_with("agent.toml:1: camera: invalid type: integer `7`"), "{message}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let message = refused("camera = 'a'\n[link\n");
        assert!(message.starts_with("agent.toml:2: "), "{message}");
        let message = refused("[link]\nencoding = 'f32'\n");
        assert!(message.contains("missing field `camera`"), "{message}");
    }

    #[test]
    fn missing_and_huge_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no.toml");
        let message = load::<Agent>(&path).unwrap_err().to_string();
        assert!(message.contains("no.toml") && message.contains("No such file"), "{message}");
        std::fs::write(&path, vec![b' '; MAX_CONFIG_BYTES as usize + 1]).unwrap();
        assert!(matches!(load::<Agent>(&path), Err(ConfigError::TooLarge(_))));
    }

    #[test]
    fn slips_count_neighbours_swapped_as_one() {
        assert_eq!(slips("retian", "retain"), 1);
        assert_eq!(slips("", "abc"), 3);
        assert_eq!(slips("kitten", "sitting"), 3);
    }
}
