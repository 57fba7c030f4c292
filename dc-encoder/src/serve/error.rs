//! Why a server does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use shared::tls::TlsError;

use super::config::Invalid;

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No model was named.
    #[error(
        "no model: say --model DIR. A new one: dc-encoder model init --preset seed-80m --seed 1 --out DIR (random weights; \
         then pretrain or calibrate it on your frames); one of yours: dc-encoder model import CHECKPOINT --out DIR; a small \
         trained one comes with the source, dc-encoder/models/demo"
    )]
    NoModel,
    /// No certificates were named.
    #[error(
        "no certificates: say --pki DIR, or make them: dc-encoder pki init --dir DIR, then \
             dc-encoder pki issue --dir DIR --server HOST"
    )]
    NoPki,
    /// A value that cannot work.
    #[error("configuration: {0}")]
    Config(#[from] Invalid),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The registry cannot be opened.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// Enrolment cannot begin.
    #[error(transparent)]
    Enroll(#[from] crate::enroll::EnrollError),
    /// A sampling policy that cannot work.
    #[error("configuration: {0}")]
    Sampling(String),
    /// The archive cannot be opened.
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({protocol}): {why}; {}", remedy(why, *address, protocol))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// `UDP`, `TCP` or `enrolment`.
        protocol: &'static str,
        /// What the system said.
        why: io::Error,
    },
    /// The meter that was asked for is not there.
    #[error("configuration: {0}")]
    Energy(#[from] crate::ledger::PowerError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] shared::metrics::MetricsError),
    /// No thread could be started.
    #[error("cannot start a thread: {0}; raise the limit of processes (ulimit -u)")]
    Thread(io::Error),
    /// The ready file cannot be written.
    #[error("cannot write the ready file {}: {why}", path.display())]
    ReadyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The device is beyond use.
    #[error("{0}; a fresh process may help: start the encoder again")]
    Device(String),
}

fn remedy(error: &io::Error, address: SocketAddr, protocol: &str) -> String {
    let flag = match protocol {
        "TCP" => "--tcp",
        "enrolment" => "--enroll-listen",
        _ => "--listen",
    };
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has {protocol} port {port}: stop it or choose another port with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {}: try {flag} 0.0.0.0:{port}", address.ip())
        }
        io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with {flag}"),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            "raise the limit of open files (ulimit -n)".to_owned()
        }
        _ => format!("choose another address with {flag}"),
    }
}
