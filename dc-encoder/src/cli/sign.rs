//! `dc-encoder head sign` and `head verify`, and the signature's line of `head inspect`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use shared::head::Head;
use shared::release::{HeadSignature, KeyRole, digest, sign_head, signature_path};

use crate::keys::KeyFolder;
use crate::pki::files;

/// Arguments of `dc-encoder head sign`.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// The head file; its signature is written beside it, as FILE.sig
    file: PathBuf,
    /// Folder with root.pub and key-ring, and the key unless --key names it
    #[arg(long, default_value = "keys", value_name = "DIR")]
    keys: PathBuf,
    /// The key to sign with [default: the newest of the folder that signs heads]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Arguments of `dc-encoder head verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The head file; its signature is FILE.sig
    file: PathBuf,
    /// Folder with root.pub and key-ring
    #[arg(long, default_value = "keys", value_name = "DIR")]
    keys: PathBuf,
}

/// Signs a head that passes its self-test; what it did, in words.
///
/// # Errors
/// A head that cannot be used, or a key that may not sign it.
pub fn sign(args: &SignArgs) -> anyhow::Result<String> {
    let folder = KeyFolder::open(&args.keys)?;
    let key = folder.signing_key(KeyRole::Heads, args.key.as_deref())?;
    let (head, bytes) = load(&args.file)?;
    let signature = sign_head(&bytes, &key);
    let path = signature_path(&args.file);
    files::replace(&path, std::str::from_utf8(&signature).expect("a signature is text"))?;
    let signer = &folder.trust().ring().may(key.public(), KeyRole::Heads)?.name;
    Ok(format!("wrote {}: release {} signed by {signer}\n", path.display(), head.short_release()))
}

/// Verifies a head and runs its self-test; what was found, in words.
///
/// # Errors
/// Whatever would keep an agent from running it.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<String> {
    let folder = KeyFolder::open(&args.keys)?;
    let signature = HeadSignature::load(&signature_path(&args.file))
        .with_context(|| format!("{} is not signed", args.file.display()))?;
    let (head, bytes) = load(&args.file)?;
    let trust = folder.trust();
    let signer = trust.verify_head(&bytes, &signature)?;
    Ok(format!(
        "{}: release {}, signed by {} ({}), key ring version {}; self-test passed\n",
        args.file.display(),
        head.short_release(),
        signer.name,
        signer.key.short(),
        trust.ring().version
    ))
}

/// What can be said of a head file's signature, for `head inspect`.
pub(super) fn in_words(file: &Path, keys: Option<&Path>) -> String {
    let path = signature_path(file);
    if !path.exists() {
        return "none: sign it with `dc-encoder head sign`".to_owned();
    }
    let checked = || -> anyhow::Result<String> {
        let signature = HeadSignature::load(&path)?;
        let bytes = std::fs::read(file)?;
        let Some(keys) = keys else {
            let release = digest(&bytes);
            let found = signature.release;
            ensure!(found == release, "it is for release {}", found.short());
            return Ok(format!(
                "by key {}, not checked: name the keys with --keys DIR",
                signature.key().short()
            ));
        };
        let folder = KeyFolder::open(keys)?;
        let signer = folder.trust().verify_head(&bytes, &signature)?;
        Ok(format!("valid, by {} ({})", signer.name, signer.key.short()))
    };
    checked().unwrap_or_else(|error| format!("NOT VALID: {error:#}"))
}

/// A head that passes its self-test, and its bytes.
pub(super) fn load(file: &Path) -> anyhow::Result<(Head, Vec<u8>)> {
    // Checks the size before anything is read.
    let head = Head::load(file)?;
    head.self_test()?;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        digest(&bytes).to_string() == head.release(),
        "{} changed while it was read: try again when nothing writes it",
        file.display()
    );
    Ok((head, bytes))
}
