//! `dc-encoder keys …`

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use shared::release::KeyRole;

use crate::keys::KeyFolder;

/// Subcommands of `dc-encoder keys`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a root key, keys that sign heads and assignments, and the first key ring, in a new folder
    #[command(after_help = "Example:\n  dc-encoder keys init")]
    Init(DirArgs),
    /// Make a new signing key, and the next key ring with it; the old key stays valid until it is revoked
    #[command(after_help = "Example:\n  dc-encoder keys rotate --role heads")]
    Rotate(RotateArgs),
    /// Revoke a signing key in the next key ring: nothing it signed is accepted any more
    #[command(after_help = "Example:\n  dc-encoder keys revoke heads-1")]
    Revoke(RevokeArgs),
    /// Print the root and the keys of the ring
    #[command(after_help = "Example:\n  dc-encoder keys show")]
    Show(DirArgs),
}

/// Where the keys are.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// Folder of the keys: root.key in it signs key rings, keep it offline and backed up
    #[arg(long, default_value = "keys", value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    at: DirArgs,
    /// What the new key signs
    #[arg(long, value_enum)]
    role: RoleArg,
    /// The root key, where it is kept [default: DIR/root.key]
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

/// Arguments of `keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Its name, or the first digits of the key
    key: String,
    /// The root key, where it is kept [default: DIR/root.key]
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Head files
    Heads,
    /// Which cameras run which head
    Assignments,
}

impl From<RoleArg> for KeyRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Heads => Self::Heads,
            RoleArg::Assignments => Self::Assignments,
        }
    }
}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    run_to(command, &mut std::io::stdout().lock())
}

/// [`run`], writing elsewhere.
pub fn run_to(command: Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init(&args, out),
        Command::Rotate(args) => rotate(&args, out),
        Command::Revoke(args) => revoke(&args, out),
        Command::Show(args) => show(&args, out),
    }
}

fn init(args: &DirArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = KeyFolder::init(&args.dir)?;
    let dir = args.dir.display();
    writeln!(out, "root {} in {dir}, key ring version 1", folder.trust().root().short())?;
    for key in &folder.trust().ring().keys {
        writeln!(out, "{} ({}) signs {}", key.name, key.key.short(), key.role.as_str())?;
    }
    writeln!(
        out,
        "keep {dir}/root.key offline and backed up: whoever has it decides which keys boxes trust"
    )?;
    writeln!(out, "next: copy {dir}/root.pub and {dir}/key-ring to the server and to every camera box")?;
    Ok(())
}

fn rotate(args: &RotateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut folder = KeyFolder::open(&args.at.dir)?;
    let key = folder.rotate(args.role.into(), args.root_key.as_deref())?;
    let (version, dir) = (folder.trust().ring().version, args.at.dir.display());
    writeln!(
        out,
        "{} ({}) signs {}, key ring version {version}",
        key.name,
        key.key.short(),
        key.role.as_str()
    )?;
    writeln!(
        out,
        "next: give the server {dir}/key-ring, which passes it on; sign again, then revoke the old key"
    )?;
    Ok(())
}

fn revoke(args: &RevokeArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut folder = KeyFolder::open(&args.at.dir)?;
    let key = folder.revoke(&args.key, args.root_key.as_deref())?;
    let (version, dir) = (folder.trust().ring().version, args.at.dir.display());
    writeln!(out, "revoked {} ({}), key ring version {version}", key.name, key.key.short())?;
    writeln!(
        out,
        "next: give the server {dir}/key-ring, which passes it on; what the key signed is void then"
    )?;
    Ok(())
}

fn show(args: &DirArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = KeyFolder::open(&args.dir)?;
    let ring = folder.trust().ring();
    writeln!(out, "root      {}", folder.trust().root())?;
    writeln!(out, "key ring  version {}", ring.version)?;
    let width = ring.keys.iter().map(|key| key.name.len()).max().unwrap_or(0).max("NAME".len());
    writeln!(out, "{:8}  {:11}  {:width$}  KEY", "STATE", "SIGNS", "NAME")?;
    for key in &ring.keys {
        let state = if key.revoked { "revoked" } else { "valid" };
        writeln!(out, "{state:8}  {:11}  {:width$}  {}", key.role.as_str(), key.name, key.key)?;
    }
    Ok(())
}
