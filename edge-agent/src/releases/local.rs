//! The control socket: what a person on the box may do, with the socket's file permissions as authority.
//!
//! ```text
//! edge-agent heads … ─► one line of JSON, head file, signature ─► DIR/control ─► Keeper ─► one line of JSON
//! ```

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::limits::{MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::keeper::Event;

/// Longest request without the files, in bytes.
const MAX_REQUEST_BYTES: usize = 4096;
/// Longest reply: a line for each of a thousand heads.
const MAX_REPLY_BYTES: u64 = 4 << 20;
/// A person's program that says nothing for so long is gone; the next one waits behind it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What is here.
    List,
    /// Run this head file.
    Install {
        /// The head file.
        file: Vec<u8>,
        /// Its `.sig`.
        signature: Option<Vec<u8>>,
    },
    /// Run the release before.
    Rollback {
        /// The head.
        head: String,
    },
    /// Keep what runs, whatever is pushed.
    Pin {
        /// The head.
        head: String,
    },
    /// Follow the channel again.
    Unpin {
        /// The head.
        head: String,
    },
}

/// What to tell the person; an error is what was not done, and why.
pub type Reply = Result<String, String>;

/// The first line of a request; files follow in the order of their lengths.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    List,
    Install { file: u32, signature: u32 },
    Rollback { head: String },
    Pin { head: String },
    Unpin { head: String },
}

/// Where the socket of a heads folder is.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join("control")
}

/// Opens the socket: for the owner, and for the folder's group where that may write into the folder. It gets its
/// place only with its permissions, so that nobody is faster.
///
/// # Errors
/// The system's, such as a path that is too long.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let group = std::fs::metadata(folder)?.permissions().mode() & 0o020 != 0;
    let new = path.with_extension("new");
    // What an agent that was killed left behind. The folder's lock says that none is running.
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(if group { 0o660 } else { 0o600 }))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves one person after another until the keeper is gone.
pub async fn serve(listener: UnixListener, events: mpsc::Sender<Event>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = events.closed() => return,
        };
        match stream {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, &events).await {
                    tracing::debug!(%error, "a control connection broke");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket does not accept connections now");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, events: &mpsc::Sender<Event>) -> io::Result<()> {
    let reply = match timeout(PATIENCE, read_command(&mut stream)).await {
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        Ok(Err(error)) => Err(format!("the request cannot be read: {error}")),
        Ok(Ok(command)) => {
            let (send, reply) = oneshot::channel();
            let sent = events.send(Event::Local(command, send)).await;
            let gone = |_| Err("the agent is stopping".to_owned());
            match sent {
                Ok(()) => reply.await.unwrap_or_else(|_| gone(())),
                Err(_) => gone(()),
            }
        }
    };
    let json = serde_json::to_vec(&reply)?;
    timeout(PATIENCE, stream.write_all(&json)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read_command(stream: &mut UnixStream) -> io::Result<Command> {
    let mut line = Vec::new();
    // One by one: files follow at once, and a request is short.
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(stream.read_u8().await?);
    }
    Ok(match serde_json::from_slice(&line)? {
        Request::List => Command::List,
        Request::Rollback { head } => Command::Rollback { head },
        Request::Pin { head } => Command::Pin { head },
        Request::Unpin { head } => Command::Unpin { head },
        Request::Install { file, signature } => {
            let file = read_bytes(stream, file, MAX_RELEASE_BYTES).await?;
            let signature = read_bytes(stream, signature, MAX_SIGNATURE_BYTES as u32).await?;
            Command::Install { file, signature: (!signature.is_empty()).then_some(signature) }
        }
    })
}

async fn read_bytes(stream: &mut UnixStream, len: u32, max: u32) -> io::Result<Vec<u8>> {
    if len > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    stream.take(len.into()).read_to_end(&mut bytes).await?;
    if bytes.len() == len as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Asks the agent that uses `dir`; what it says.
///
/// # Errors
/// What the agent did not do, or why it cannot be asked.
pub async fn ask(dir: &Path, command: Command) -> Reply {
    let path = socket_path(dir);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no agent is running with heads_dir = {}: start one (`edge-agent run --heads-dir …`)",
            dir.display()
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{}: this user may not control the agent: use the agent's user, or its group",
                path.display()
            )
        }
        _ => format!("{}: {error}", path.display()),
    };
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (request, files) = match command {
            Command::List => (Request::List, None),
            Command::Rollback { head } => (Request::Rollback { head }, None),
            Command::Pin { head } => (Request::Pin { head }, None),
            Command::Unpin { head } => (Request::Unpin { head }, None),
            Command::Install { file, signature } => {
                let signature = signature.unwrap_or_default();
                (Request::Install { file: len(&file), signature: len(&signature) }, Some([file, signature]))
            }
        };
        let mut bytes = serde_json::to_vec(&request)?;
        bytes.push(b'\n');
        stream.write_all(&bytes).await?;
        for file in files.iter().flatten() {
            stream.write_all(file).await?;
        }
        let mut reply = Vec::new();
        stream.take(MAX_REPLY_BYTES).read_to_end(&mut reply).await?;
        serde_json::from_slice::<Reply>(&reply).map_err(io::Error::from)
    };
    asked.await.unwrap_or_else(|error| Err(failed(error)))
}
