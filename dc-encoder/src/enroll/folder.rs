//! The folder of an enroller.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use shared::enroll::{DEFAULT_PORT, Subject, Token, TokenError};
use shared::tls::{check_camera_name, fingerprint};

use super::audit::{self, Attempt, Line};
use super::book::{Book, Entry};
use super::error::EnrollError;
use crate::pki::delegate::ROOT;
use crate::pki::{Authority, ENROLLED_DAYS, ENROLLER_DAYS, PkiError, Record, files};
use crate::serve::config;

const SETTINGS: &str = "enroll.toml";
const TOKENS: &str = "tokens.json";

/// Largest certificate file.
const MAX_PEM_BYTES: u64 = 64 * 1024;
/// Largest book: an entry with its certificate has about 1.5 kB, so 20,000 tokens.
const MAX_BOOK_BYTES: u64 = 32 * 1024 * 1024;

/// A token lives this long at most: what is printed today is not to open a door next month.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What boxes are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where boxes enrol, `HOST:PORT`: a name in the server's certificate.
    pub at: String,
    /// Where they send frames, `HOST:PORT`, in this order.
    pub servers: Vec<String>,
    /// Lifetime of the certificates.
    #[serde(default = "usual_days")]
    pub days: u32,
}

fn usual_days() -> u32 {
    ENROLLED_DAYS
}

impl Settings {
    /// For encoders at these `HOST[:PORT]`; boxes enrol at the first one's host, one port on.
    ///
    /// # Errors
    /// An address that is none.
    pub fn of(servers: &[String], at: Option<&str>) -> Result<Self, EnrollError> {
        let servers: Vec<String> = servers
            .iter()
            .map(|server| with_port("--server", server, config::DEFAULT_PORT))
            .collect::<Result<_, _>>()?;
        let first = servers.first().and_then(|server| server.rsplit_once(':')).map_or("", |(host, _)| host);
        let at = with_port("--at", at.unwrap_or(first), DEFAULT_PORT)?;
        Ok(Self { at, servers, days: ENROLLED_DAYS })
    }

    fn text(&self) -> String {
        let Self { at, servers, days } = self;
        let servers: Vec<String> = servers.iter().map(|server| format!("{server:?}")).collect();
        format!(
            "# What `dc-encoder enroll` and `dc-encoder serve --enroll` tell the boxes.\n\
             at = {at:?}                # where they enrol: a host in the server's certificate, and the port of --enroll-listen\n\
             servers = [{}]           # where they send frames, in this order\n\
             days = {days}                          # lifetime of their certificates; they renew themselves\n",
            servers.join(", ")
        )
    }
}

/// `HOST:PORT`, with the usual port where none is written.
fn with_port(key: &'static str, text: &str, usual: u16) -> Result<String, EnrollError> {
    let bad = |why| EnrollError::Value { key, value: text.to_owned(), why };
    let text = text.trim();
    let v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let address = match text.rsplit_once(':') {
        _ if v6 => format!("[{text}]:{usual}"),
        Some((_, port)) if !text.ends_with(']') => {
            port.parse::<u16>().map_err(|_| bad("write HOST or HOST:PORT"))?;
            text.to_owned()
        }
        _ => format!("{text}:{usual}"),
    };
    if address.starts_with(':')
        || !address.bytes().all(|byte| byte.is_ascii_graphic())
        || address.contains('/')
    {
        return Err(bad("write HOST or HOST:PORT"));
    }
    Ok(address)
}

/// An enroller's folder, opened under its lock.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// What signs.
    pub(super) enroller: Authority,
    /// The authority above it.
    pub(super) root: CertificateDer<'static>,
    /// What boxes are told.
    pub settings: Settings,
}

impl Folder {
    /// Makes an enroller of `pki`.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn init(
        pki: &Authority,
        dir: &Path,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Record, EnrollError> {
        let record = pki.delegate(dir, ENROLLER_DAYS, now)?;
        files::create(&dir.join(SETTINGS), files::PUBLIC, &settings.text())?;
        Ok(record)
    }

    /// Opens the folder, waiting for another command or the server to finish.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn open(dir: &Path) -> Result<Self, EnrollError> {
        for name in ["ca.key", "ca.pem", ROOT, SETTINGS] {
            let path = dir.join(name);
            if !path.exists() {
                return Err(EnrollError::NoFolder { path, dir: dir.to_owned() });
            }
        }
        let settings: Settings = shared::config::load(&dir.join(SETTINGS))?;
        let enroller = Authority::open(dir)?;
        let pem = files::read(&dir.join(ROOT), MAX_PEM_BYTES)?;
        let root = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| PkiError::Unusable { dir: dir.into(), detail: format!("{ROOT}: {error}") })?;
        Ok(Self { dir: dir.to_owned(), enroller, root, settings })
    }

    /// Makes a token for a camera, good for `life`.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn create(
        &self,
        camera: &str,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<(Token, Timestamp), EnrollError> {
        check_camera_name(camera).map_err(TokenError::from)?;
        if life <= SignedDuration::ZERO || life > LONGEST {
            let why = "a token can live from a moment to 7 days";
            return Err(EnrollError::Value { key: "--for", value: format!("{life:#}"), why });
        }
        let expires = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        let token = Token::new(Subject {
            camera: camera.to_owned(),
            server: self.settings.at.clone(),
            authority: fingerprint(&self.root),
            created: now,
        })?;
        let mut book = self.book()?;
        let id = token.id().to_string();
        let entry =
            Entry { id, camera: camera.to_owned(), created: now, expires, withdrawn: false, used: None };
        book.add(entry, now);
        self.write(&book)?;
        let line = Line::new(now, Attempt::Created, "local");
        self.audit(&Line {
            camera: Some(camera.to_owned()),
            token: Some(short(&token.id().to_string())),
            ..line
        })?;
        Ok((token, expires))
    }

    /// Withdraws a camera: its open tokens, and renewals. Returns the tokens, and its certificates that are valid yet.
    ///
    /// # Errors
    /// [`EnrollError::Unknown`] where there is neither.
    pub fn withdraw(&self, camera: &str, now: Timestamp) -> Result<(usize, Vec<Record>), EnrollError> {
        let mut book = self.book()?;
        let tokens = book.withdraw(camera, now);
        let issued: Vec<Record> = self.enroller.issued()?;
        let valid: Vec<_> = issued.into_iter().filter(|r| r.name == camera && r.not_after > now).collect();
        if tokens == 0 && valid.is_empty() {
            return Err(EnrollError::Unknown(camera.to_owned()));
        }
        self.write(&book)?;
        let line = Line::new(now, Attempt::Withdrawn, "local");
        self.audit(&Line { camera: Some(camera.to_owned()), ..line })?;
        Ok((tokens, valid))
    }

    /// All tokens that are remembered.
    ///
    /// # Errors
    /// [`EnrollError::Book`].
    pub fn book(&self) -> Result<Book, EnrollError> {
        let path = self.dir.join(TOKENS);
        if !path.exists() {
            return Ok(Book::default());
        }
        let text = files::read(&path, MAX_BOOK_BYTES)?;
        serde_json::from_str(&text).map_err(|source| EnrollError::Book { path, source })
    }

    pub(super) fn write(&self, book: &Book) -> Result<(), EnrollError> {
        let text = serde_json::to_string_pretty(book).expect("strings and times always serialise");
        Ok(files::replace_as(&self.dir.join(TOKENS), files::SECRET, &text)?)
    }

    pub(super) fn audit(&self, line: &Line) -> Result<(), EnrollError> {
        Ok(audit::append(&self.dir, line)?)
    }

    /// The last lines of the audit log.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn audited(&self, count: usize) -> Result<Vec<Line>, EnrollError> {
        Ok(audit::last(&self.dir, count)?)
    }
}

/// As much of a digest as tells tokens apart.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_filled_in() {
        let of =
            |server: &str| Settings::of(&[server.to_owned()], None).map(|s| (s.servers[0].clone(), s.at));
        for (given, server, at) in [
            ("encoder.example", "encoder.example:4433", "encoder.example:4434"),
            ("encoder.example:5000", "encoder.example:5000", "encoder.example:4434"),
            ("192.0.2.1", "192.0.2.1:4433", "192.0.2.1:4434"),
            ("2001:db8::1", "[2001:db8::1]:4433", "[2001:db8::1]:4434"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5", "[2001:db8::1]:4434"),
        ] {
            assert_eq!(of(given).unwrap(), (server.to_owned(), at.to_owned()));
        }
        for bad in ["", ":1", "a:b", "https://a", "a b"] {
            assert!(of(bad).unwrap_err().to_string().contains("HOST:PORT"), "{bad}");
        }
    }
}
