//! A server that enrols, and a box that asks by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dc_encoder::enroll::{Folder, Line, Settings};
use dc_encoder::pki::{Authority, Request, Subject};
use dc_encoder::serve::{Config, Server, ServerHandle};
use fixtures::Clock;
use jiff::{SignedDuration, Timestamp};
use protocol::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Grant, Message as _};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use shared::enroll::Token;
use shared::tls::{Identity, Pinned, renew_config};
use shared::wire::{expect_msg, write_msg};

use crate::serve_support::{Fake, soon};

/// When these tests begin, by their clock.
pub const START: i64 = 1_900_000_000;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

pub fn at(unix: i64) -> Timestamp {
    Timestamp::from_second(unix).unwrap()
}

/// A server that enrols, at [`START`].
pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Arc<Clock>,
    pub server: ServerHandle,
    pub address: SocketAddr,
}

impl World {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = at(START);
        let authority = Authority::init(&dir.path().join("pki"), None, now).unwrap();
        let hosts = Subject::Server(vec!["localhost".into()]);
        authority.issue(&Request { subject: hosts, days: None, out: None }, now).unwrap();
        let settings = Settings::of(&["localhost".into()], None).unwrap();
        Folder::init(&authority, &dir.path().join("enroll"), &settings, now).unwrap();
        drop(authority);
        let clock = Clock::at(START);
        let mut config = Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            pki: Some(dir.path().join("pki")),
            ..Config::default()
        };
        config.enroll.dir = Some(dir.path().join("enroll"));
        config.enroll.listen = (Ipv4Addr::LOCALHOST, 0).into();
        let time = Arc::clone(&clock);
        let server = Server::start_at(&config, Box::new(Fake::new()), time).unwrap();
        let address = server.enroll_addr().unwrap();
        Self { dir, clock, server, address }
    }

    pub fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    pub fn folder(&self) -> Folder {
        Folder::open(&self.dir.path().join("enroll")).unwrap()
    }

    /// A token for this camera, good for an hour.
    pub fn token(&self, camera: &str) -> Token {
        self.folder().create(camera, SignedDuration::from_hours(1), at(START)).unwrap().0
    }

    pub fn audited(&self) -> Vec<Line> {
        self.folder().audited(100).unwrap()
    }

    /// Asks with a token.
    pub async fn enroll(&self, token: &Token, key: &KeyPair) -> EnrollReplyMsg {
        let config = Pinned::new(token.subject().authority).config(self.clock.clone()).unwrap();
        let message = EnrollRequestMsg::Enroll { token: token.bytes().to_vec(), request: request(key) };
        ask(self.address, config, &message).await
    }

    /// The same, where it must work.
    pub async fn granted(&self, token: &Token, key: &KeyPair) -> Grant {
        match self.enroll(token, key).await {
            EnrollReplyMsg::Granted(grant) => grant,
            refused => panic!("{refused:?}"),
        }
    }

    /// The same, where it must not.
    pub async fn refused(&self, token: &Token, key: &KeyPair) -> EnrollCode {
        code(self.enroll(token, key).await)
    }

    /// Asks with a certificate.
    pub async fn renew(&self, identity: &Path, key: &KeyPair) -> EnrollReplyMsg {
        let config = renew_config(&Identity::load(identity).unwrap(), Some(self.clock.clone())).unwrap();
        ask(self.address, config, &EnrollRequestMsg::Renew { request: request(key) }).await
    }

    /// Writes what a box was given into an identity folder.
    pub fn save(&self, name: &str, grant: &Grant, key: &KeyPair) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let chain: String = grant.chain.iter().map(|der| pem(der)).collect();
        for (file, text) in
            [("ca.pem", pem(&grant.authority)), ("cert.pem", chain), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(dir.join(file), text).unwrap();
        }
        dir
    }
}

pub fn pem(der: &[u8]) -> String {
    pem_of("CERTIFICATE", der)
}

fn pem_of(label: &str, der: &[u8]) -> String {
    // rcgen's own writer is private; a certificate is read back by the same library in every test.
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64(der).as_bytes().chunks(64) {
        text += std::str::from_utf8(line).unwrap();
        text += "\n";
    }
    text + &format!("-----END {label}-----\n")
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits =
            (0..3).fold(0_usize, |bits, i| bits << 8 | usize::from(three.get(i).copied().unwrap_or(0)));
        let letter =
            |i: usize| if i > three.len() { '=' } else { char::from(LETTERS[bits >> (18 - 6 * i) & 63]) };
        [letter(0), letter(1), letter(2), letter(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

pub fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub fn code(reply: EnrollReplyMsg) -> EnrollCode {
    match reply {
        EnrollReplyMsg::Refused { code, .. } => code,
        granted => panic!("{granted:?}"),
    }
}

pub async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<(Endpoint, Connection), ConnectionError> {
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = soon(endpoint.connect_with(config, address, "localhost").unwrap()).await?;
    Ok((endpoint, connection))
}

pub async fn ask(address: SocketAddr, config: ClientConfig, request: &EnrollRequestMsg) -> EnrollReplyMsg {
    let (_endpoint, connection) = connect(address, config).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    write_msg(&mut send, request, usize::MAX).await.unwrap();
    send.finish().unwrap();
    soon(expect_msg(&mut recv, EnrollReplyMsg::MAX_BYTES)).await.unwrap()
}
