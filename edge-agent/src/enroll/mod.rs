//! `edge-agent enroll`: from a one-time token to a certificate, and from there to the next.
//!
//! ```text
//! token ─► key made here ─► server, known by the token's hash ─► token + certificate request ─► certificate
//!              └─ key.pem, before anything is sent                    identity/, agent.toml ◄──┘
//! run ─► renew: in the last third of its life the certificate asks for the next one, by the same key
//! ```
//! The key never leaves the box. It is on the disk before the token is sent: if the reply is lost, the same command
//! asks again with the same key and gets the same certificate.

mod ask;
mod key;
mod pem;
pub mod renew;
mod save;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use protocol::{EnrollRequestMsg, Grant};
use shared::enroll::{Token, TokenError};
use shared::tls::{Floor, Identity, Pinned, fingerprint};

pub use ask::AskError;
pub use key::KeyError;
pub use save::SaveError;

use crate::config::ServerAddr;
use key::BoxKey;

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Folder for key, certificate and authority.
    pub identity: PathBuf,
    /// Folder for heads.
    pub heads: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
}

/// Folder of the configuration where a package installed the agent.
const SYSTEM_CONFIG: &str = "/etc/edge-agent";
/// Folder of the agent's own files there.
const SYSTEM_STATE: &str = "/var/lib/edge-agent";

impl Places {
    /// Where a package's agent has them, or else this folder.
    #[must_use]
    pub fn usual() -> Self {
        if Path::new(SYSTEM_CONFIG).is_dir() && Path::new(SYSTEM_STATE).is_dir() {
            let state = Path::new(SYSTEM_STATE);
            return Self {
                identity: state.join("identity"),
                heads: state.join("heads"),
                config: Path::new(SYSTEM_CONFIG).join("agent.toml"),
            };
        }
        Self { identity: "identity".into(), heads: "heads".into(), config: "agent.toml".into() }
    }
}

/// Why a box is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token file or standard input.
    #[error("cannot read the token from {from}: {source}")]
    Read {
        /// Where from.
        from: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It has a certificate.
    #[error(
        "{} has a certificate already, of {who} until {until}: it renews itself. To enrol anew, move the folder away",
        dir.display()
    )]
    Enrolled {
        /// The identity folder.
        dir: PathBuf,
        /// Whose.
        who: String,
        /// Until when.
        until: String,
    },
    /// The token names a server that cannot be connected to.
    #[error("the token's server {0:?} is no HOST:PORT: make another token")]
    Server(String),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The server, or the way to it.
    #[error("{server}: {source}")]
    Ask {
        /// Its address.
        server: String,
        /// What happened.
        source: AskError,
    },
    /// What came back cannot be used, or not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// Reads a token: from a file (`-`: standard input), or from a person, who is asked on `out`.
///
/// # Errors
/// [`EnrollError::Read`], [`EnrollError::Token`].
pub fn token(file: Option<&Path>, terminal: bool, out: &mut dyn Write) -> Result<Token, EnrollError> {
    use std::io::{BufRead, Read};
    const MOST: u64 = shared::enroll::MAX_TOKEN_TEXT as u64;
    let mut text = String::new();
    let (from, read) = match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
            (path.display().to_string(), read)
        }
        None => {
            let stdin = std::io::stdin().lock();
            let read = if terminal && file.is_none() {
                // A prompt that nobody sees is no reason to stop.
                let _ = write!(out, "Token (from `dc-encoder enroll create --camera NAME`): ")
                    .and_then(|()| out.flush());
                stdin.take(MOST).read_line(&mut text)
            } else {
                stdin.take(MOST).read_to_string(&mut text)
            };
            ("standard input".to_owned(), read)
        }
    };
    read.map_err(|source| EnrollError::Read { from, source })?;
    Ok(Token::parse(&text)?)
}

/// Enrols this box, and says on `out` what it did.
///
/// # Errors
/// [`EnrollError`], each with what to do.
pub async fn enroll(
    token: &Token,
    places: &Places,
    source: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), EnrollError> {
    not_yet(&places.identity)?;
    let subject = token.subject();
    let server: ServerAddr =
        subject.server.parse().map_err(|_| EnrollError::Server(subject.server.clone()))?;
    save::folder(&places.identity)?;
    let key = BoxKey::load_or_make(&places.identity.join("key.pem"))?;
    let floor = Floor::beside(&places.identity);
    // Whoever made the token looked at a clock.
    floor.trust(subject.created);
    let grant = ask(token, &server, &key, &floor).await.map_err(|source| {
        let server = subject.server.clone();
        EnrollError::Ask { server, source }
    })?;
    let identity = save::identity(&places.identity, &grant, Some(&subject.camera))?;
    if let Some(now) = i64::try_from(grant.now).ok().and_then(|now| Timestamp::from_second(now).ok()) {
        floor.trust(now);
    }
    floor.keep();
    save::give(&places.identity.join("clock"), &places.identity)?;
    let trust = save::trust(&places.identity, &grant)?;
    let written = save::config(places, &save::Starting { grant: &grant, subject, source, trust })?;
    // A reader that went away does not change the result.
    let _ = report(out, &identity, places, &written);
    Ok(())
}

fn report(
    out: &mut dyn Write,
    identity: &Identity,
    places: &Places,
    written: &save::Written,
) -> std::io::Result<()> {
    let me = identity.me();
    writeln!(
        out,
        "enrolled as {me}, until {}; the certificate renews itself",
        me.not_after.strftime("%Y-%m-%d")
    )?;
    writeln!(out, "identity in {}: key.pem was made here and stays here", places.identity.display())?;
    let config = places.config.display();
    match written {
        save::Written::New => writeln!(out, "configuration in {config}: look at it, `source` above all")?,
        save::Written::Kept(text) => {
            writeln!(out, "{config} was there already and stays as it is; it must say:\n{text}")?;
        }
    }
    if places.config.starts_with(SYSTEM_CONFIG) {
        writeln!(out, "the service starts by itself; what it does: journalctl -fu edge-agent")
    } else {
        writeln!(out, "next: edge-agent check --config {config}, then edge-agent run --config {config}")
    }
}

/// An identity that works is not replaced.
fn not_yet(dir: &Path) -> Result<(), EnrollError> {
    if !dir.join("cert.pem").exists() {
        return Ok(());
    }
    let (who, until) = match Identity::load(dir) {
        Ok(identity) => (identity.me().to_string(), identity.me().not_after.to_string()),
        Err(_) => ("nobody knows whom".to_owned(), "nobody knows when".to_owned()),
    };
    Err(EnrollError::Enrolled { dir: dir.to_owned(), who, until })
}

async fn ask(token: &Token, server: &ServerAddr, key: &BoxKey, floor: &Floor) -> Result<Grant, AskError> {
    let pinned = Pinned::new(token.subject().authority);
    let config =
        pinned.config(Arc::new(floor.clone())).map_err(|error| AskError::Local(error.to_string()))?;
    let request = key.request().map_err(|error| AskError::Local(error.to_string()))?;
    let message = EnrollRequestMsg::Enroll { token: token.bytes().to_vec(), request };
    let grant = ask::ask(server, &config, &message).await.map_err(|error| error.or_rather(pinned.why()))?;
    if fingerprint(&grant.authority) != token.subject().authority {
        return Err(AskError::Broken(
            "it sent another authority's certificate than the token names".to_owned(),
        ));
    }
    Ok(grant)
}
