//! What a box was given, onto its disk: checked before it replaces anything, and each file in one step.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use protocol::Grant;
use shared::enroll::Subject;
use shared::release::{PublicKey, ReleaseError, Trust};
use shared::tls::{Identity, IdentityError, Role};

use super::{Places, pem};
use crate::capture::cameras;
use crate::config::Config;

/// Certificates and the ring are public.
const PUBLIC: u32 = 0o644;
/// A configuration may hold a camera's password.
const PRIVATE: u32 = 0o640;

/// Why what came back is not on the disk.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The system refused.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate that does not fit.
    #[error("the server sent a certificate that cannot be used: {0}")]
    Identity(#[from] IdentityError),
    /// A certificate of another.
    #[error("the server sent a certificate of {got}, not of camera {want}")]
    Other {
        /// Whose it is.
        got: String,
        /// Whose it should be.
        want: String,
    },
    /// Root key or ring.
    #[error("the server sent a key ring for heads that cannot be used: {0}")]
    Ring(#[from] ReleaseError),
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> SaveError {
    let path = path.to_owned();
    move |source| SaveError::Write { path, source }
}

/// Makes a folder that only its owner can look into.
pub(super) fn folder(dir: &Path) -> Result<(), SaveError> {
    if !dir.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    }
    give(dir, parent(dir))
}

/// Gives a file to the owner of a folder: root enrols, and the agent's user is to read it.
pub(super) fn give(path: &Path, like: &Path) -> Result<(), SaveError> {
    let (have, want) = match (path.metadata(), like.metadata()) {
        (Ok(have), Ok(want)) => (have, want),
        // A clock that could not be kept: nothing to give.
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        (Err(error), _) | (_, Err(error)) => return Err(failed(path)(error)),
    };
    if (have.uid(), have.gid()) == (want.uid(), want.gid()) {
        return Ok(());
    }
    match std::os::unix::fs::chown(path, Some(want.uid()), Some(want.gid())) {
        // Not root: whoever runs this runs the agent, too.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        given => given.map_err(failed(path)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file in one step.
fn put(path: &Path, mode: u32, text: &[u8]) -> Result<(), SaveError> {
    let dir = parent(path);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed(path))?;
    file.write_all(text).map_err(failed(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed(path))?;
    give(file.path(), dir)?;
    file.as_file().sync_all().map_err(failed(path))?;
    file.persist(path).map_err(|error| failed(path)(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

/// Puts certificate and authority beside the key that is there, if all three belong together and the certificate is
/// `camera`'s. The certificate comes last: without it the box is not enrolled.
pub(super) fn identity(dir: &Path, grant: &Grant, camera: Option<&str>) -> Result<Identity, SaveError> {
    let chain: String = grant.chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    let authority = pem::encode("CERTIFICATE", &grant.authority);
    let trial = tempfile::tempdir_in(dir).map_err(failed(dir))?;
    for (name, text) in [("ca.pem", &authority), ("cert.pem", &chain)] {
        std::fs::write(trial.path().join(name), text).map_err(failed(trial.path()))?;
    }
    let key = dir.join("key.pem");
    std::fs::hard_link(&key, trial.path().join("key.pem")).map_err(failed(&key))?;
    let identity = Identity::load(trial.path())?;
    let me = identity.me();
    if me.role != Role::Camera || camera.is_some_and(|camera| me.camera.as_deref() != Some(camera)) {
        return Err(SaveError::Other { got: me.to_string(), want: camera.unwrap_or("this box").to_owned() });
    }
    give(&key, dir)?;
    put(&dir.join("ca.pem"), PUBLIC, authority.as_bytes())?;
    put(&dir.join("cert.pem"), PUBLIC, chain.as_bytes())?;
    Ok(identity)
}

/// Writes the root key and the ring, if the server has them. Returns whether heads can be trusted by them.
pub(super) fn trust(dir: &Path, grant: &Grant) -> Result<bool, SaveError> {
    if grant.release_root.is_empty() || grant.key_ring.is_empty() {
        return Ok(false);
    }
    let root: PublicKey = grant.release_root.trim().parse()?;
    Trust::new(root, &grant.key_ring)?;
    put(&dir.join("key-ring"), PUBLIC, &grant.key_ring)?;
    put(&dir.join("root.pub"), PUBLIC, format!("{root}\n").as_bytes())?;
    Ok(true)
}

/// What a starting configuration is made of.
pub(super) struct Starting<'a> {
    pub(super) grant: &'a Grant,
    pub(super) subject: &'a Subject,
    pub(super) source: Option<&'a str>,
    /// There is a root key beside the identity.
    pub(super) trust: bool,
}

/// What became of the configuration file.
pub(super) enum Written {
    New,
    /// One was there; this is what would have been written.
    Kept(String),
}

/// Writes a starting configuration where there is none.
pub(super) fn config(places: &Places, starting: &Starting<'_>) -> Result<Written, SaveError> {
    let text = text(places, starting);
    if places.config.exists() {
        return Ok(Written::Kept(text));
    }
    let dir = parent(&places.config);
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    if starting.trust {
        folder(&places.heads)?;
    }
    put(&places.config, PRIVATE, text.as_bytes())?;
    debug_assert!(Config::load(&places.config).is_ok(), "{text}");
    Ok(Written::New)
}

/// A person looks at it in any case.
fn first_camera() -> String {
    cameras::first().unwrap_or_else(|| "/dev/video0".into()).display().to_string()
}

fn text(places: &Places, starting: &Starting<'_>) -> String {
    let Starting { grant, subject, source, trust } = starting;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let identity = absolute(&places.identity);
    let servers: Vec<String> = grant.servers.iter().map(|server| format!("{server:?}")).collect();
    let heads = if *trust {
        format!("heads_dir = {:?}\nrelease_root = {:?}\n", absolute(&places.heads), identity.join("root.pub"))
    } else {
        "# The server has no registry of heads: copy head files here, or ask for root.pub and key-ring.\n\
         # heads = [\"people.head\"]\n# allow_unsigned = true\n"
            .to_owned()
    };
    format!(
        "# Written by `edge-agent enroll`; `edge-agent example-config` explains every key.\n\
         camera = {:?}\n\
         source = {:?}\n\
         servers = [{}]\n\
         identity = {identity:?}\n\
         enroll = {:?}\n\
         {heads}\
         fps = 2.0\n\
         \n\
         # Home Assistant, or anything else that listens to an MQTT broker:\n\
         #[mqtt]\n\
         #broker = \"mqtts://broker.example:8883\"\n\
         #username = {:?}\n\
         #password_file = \"mqtt-password\"\n",
        subject.camera,
        source.map_or_else(first_camera, str::to_owned),
        servers.join(", "),
        subject.server,
        subject.camera,
    )
}
