//! What can go wrong, with the remedy.

use std::path::PathBuf;

use crate::pki::PkiError;

/// Why an enrolment command, or the server's desk, did nothing.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The enroller's files.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A folder without an enroller.
    #[error(
        "{} is missing: make the folder where ca.key is, with `dc-encoder enroll init --pki pki --dir {} --server \
         HOST:PORT`, and copy it to the server", path.display(), dir.display()
    )]
    NoFolder {
        /// The missing file.
        path: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
    /// The settings.
    #[error(transparent)]
    Config(#[from] shared::config::ConfigError),
    /// A value in the settings or on the command line.
    #[error("{key} = {value:?}: {why}")]
    Value {
        /// Its key.
        key: &'static str,
        /// What it was.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// The token cannot carry these names.
    #[error(transparent)]
    Token(#[from] shared::enroll::TokenError),
    /// The record of tokens.
    #[error("{} cannot be read ({source}): restore it from a backup, or remove it: every open token is void then", path.display())]
    Book {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The enroller of another authority.
    #[error(
        "{} has the enroller of another authority than this server's: make it with `dc-encoder enroll init --pki` of \
         the authority that issued the server's certificate", .0.display()
    )]
    OtherAuthority(PathBuf),
    /// Nothing to withdraw.
    #[error(
        "camera {0} has neither an open token nor a certificate from here: `dc-encoder enroll list` shows all"
    )]
    Unknown(String),
}
