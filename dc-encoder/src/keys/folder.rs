//! The folder of keys: made once, its ring replaced in one step.

use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ED25519};
use shared::release::{FORMAT, KeyRing, KeyRole, RingKey, SigningKey, Trust};

use super::KeysError;
use crate::pki::files;

/// An open folder: `root.pub` and `key-ring` are there and fit together. The root's private half is only read when a
/// ring is signed.
#[derive(Debug)]
pub struct KeyFolder {
    dir: PathBuf,
    trust: Trust,
}

impl KeyFolder {
    /// Makes a root, one key for each role, and the first ring. Overwrites nothing.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn init(dir: &Path) -> Result<Self, KeysError> {
        files::create_dir(dir)?;
        let _lock = files::lock(dir)?;
        for name in ["root.key", "root.pub", "key-ring"] {
            if dir.join(name).exists() {
                return Err(KeysError::Exists(dir.join(name)));
            }
        }
        let root = make_key(&dir.join("root.key"))?;
        let mut ring = KeyRing { format: FORMAT, version: 1, keys: Vec::new() };
        for role in [KeyRole::Heads, KeyRole::Assignments] {
            let key = add_key(dir, &ring, role)?;
            ring.keys.push(key);
        }
        files::create(&dir.join("root.pub"), files::PUBLIC, &format!("{}\n", root.public()))?;
        write_ring(dir, &ring, &root)?;
        Self::open(dir)
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(dir: &Path) -> Result<Self, KeysError> {
        let [root, ring] = ["root.pub", "key-ring"].map(|name| dir.join(name));
        for path in [&root, &ring] {
            if !path.exists() {
                return Err(KeysError::NoKeys { path: path.clone(), dir: dir.into() });
            }
        }
        Ok(Self { dir: dir.into(), trust: Trust::load(&root, &ring)? })
    }

    /// The root and its newest ring.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Makes a new key for a role and the next ring with it. Older keys stay valid until they are revoked: heads
    /// that they signed go on running. `root_key`: where the root is, if not in the folder.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn rotate(&mut self, role: KeyRole, root_key: Option<&Path>) -> Result<RingKey, KeysError> {
        self.change(root_key, |dir, ring| {
            let key = add_key(dir, ring, role)?;
            ring.keys.push(key.clone());
            Ok(key)
        })
    }

    /// Revokes a key, by its name or by its first digits (at least 8), in the next ring.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn revoke(&mut self, which: &str, root_key: Option<&Path>) -> Result<RingKey, KeysError> {
        /// Fewer digits would hit a key by accident.
        const LEAST_DIGITS: usize = 8;
        self.change(root_key, |_, ring| {
            let is_meant = |key: &&mut RingKey| {
                let by_digits = which.len() >= LEAST_DIGITS && key.key.to_string().starts_with(which);
                key.name == which || by_digits
            };
            let found = ring.keys.iter_mut().find(is_meant);
            let key = found.ok_or_else(|| KeysError::UnknownKey(which.to_owned()))?;
            if std::mem::replace(&mut key.revoked, true) {
                return Err(KeysError::AlreadyRevoked(key.name.clone()));
            }
            Ok(key.clone())
        })
    }

    /// The key to sign with: `key` if named, else the newest valid one of the role whose file is in the folder.
    ///
    /// # Errors
    /// [`KeysError`], also when the ring does not let it sign that.
    pub fn signing_key(&self, role: KeyRole, key: Option<&Path>) -> Result<SigningKey, KeysError> {
        let usable = |entry: &&RingKey| entry.role == role && !entry.revoked;
        let newest = || {
            let valid = self.trust.ring().keys.iter().rev().filter(usable);
            valid.map(|entry| key_path(&self.dir, &entry.name)).find(|path| path.exists())
        };
        let none = || KeysError::NoSigningKey { role: role.as_str(), dir: self.dir.clone() };
        let path = key.map(Path::to_owned).or_else(newest).ok_or_else(none)?;
        let key = SigningKey::load(&path)?;
        self.trust.ring().may(key.public(), role)?;
        Ok(key)
    }

    /// Changes the ring under the folder's lock: read again, changed, signed with the next version, replaced.
    fn change<T>(
        &mut self,
        root_key: Option<&Path>,
        change: impl FnOnce(&Path, &mut KeyRing) -> Result<T, KeysError>,
    ) -> Result<T, KeysError> {
        let _lock = files::lock(&self.dir)?;
        *self = Self::open(&self.dir)?;
        let root = self.root(root_key)?;
        let mut ring = self.trust.ring().clone();
        let done = change(&self.dir, &mut ring)?;
        ring.version += 1;
        write_ring(&self.dir, &ring, &root)?;
        *self = Self::open(&self.dir)?;
        Ok(done)
    }

    fn root(&self, elsewhere: Option<&Path>) -> Result<SigningKey, KeysError> {
        let path = elsewhere.map_or_else(|| self.dir.join("root.key"), Path::to_owned);
        if !path.exists() {
            return Err(KeysError::NoRoot(path));
        }
        let root = SigningKey::load(&path)?;
        if root.public() != self.trust.root() {
            return Err(KeysError::OtherRoot { key: path, public: self.dir.join("root.pub") });
        }
        Ok(root)
    }
}

fn key_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.key"))
}

/// A new key file for the role: the first number that neither the ring nor the folder has. A file without an entry
/// is what a command that was cut short left behind.
fn add_key(dir: &Path, ring: &KeyRing, role: KeyRole) -> Result<RingKey, KeysError> {
    let is_free =
        |name: &String| ring.keys.iter().all(|key| key.name != *name) && !key_path(dir, name).exists();
    let name = (1u32..)
        .map(|number| format!("{}-{number}", role.as_str()))
        .find(is_free)
        .expect("a folder does not hold four thousand million keys");
    let key = make_key(&key_path(dir, &name))?.public();
    Ok(RingKey { name, key, role, revoked: false })
}

fn make_key(path: &Path) -> Result<SigningKey, KeysError> {
    let pem = KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem();
    files::create(path, files::SECRET, &pem)?;
    Ok(SigningKey::load(path)?)
}

fn write_ring(dir: &Path, ring: &KeyRing, root: &SigningKey) -> Result<(), KeysError> {
    let document = ring.sign(root)?;
    let text = std::str::from_utf8(&document).expect("a signed ring is text");
    Ok(files::replace(&dir.join("key-ring"), text)?)
}
