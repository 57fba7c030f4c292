//! `dc-encoder head publish`, `rollback` and `rollout`: on a server, or on a registry folder of this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use protocol::{HistoryEntry, OperatorRequestMsg, RolloutAction};
use shared::release::{
    Assignment, Channel, HeadSignature, Pattern, Promotion, PublicKey, Share, signature_path,
};

use super::sign::load;
use super::status::{cameras, channels};
use crate::keys::KeyFolder;
use crate::operate::order::{Publication, rollback};
use crate::operate::{Client, Desk, OperateError, Standing, named};
use crate::registry::{Embedded, Registrar};

/// Which registry a command is for.
#[derive(Debug, Args)]
pub struct Place {
    /// The server that has it
    #[arg(long, env = "FTH_SERVER", value_name = "HOST:PORT")]
    server: Option<String>,
    /// Folder with an operator's cert.pem, key.pem and ca.pem, from `dc-encoder pki issue --operator NAME`
    #[arg(long, env = "FTH_CERT", value_name = "DIR")]
    cert: Option<PathBuf>,
    /// A registry folder on this machine instead, while no server has it open
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
}

/// Where a command goes, and with whose keys.
#[derive(Debug, Args)]
pub struct Where {
    #[command(flatten)]
    place: Place,
    /// Folder of the keys: root.pub, key-ring, and the key that signs assignments
    #[arg(long, default_value = "keys", value_name = "DIR")]
    pub(super) keys: PathBuf,
}

/// Arguments of `head publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The head file; its signature is FILE.sig
    file: PathBuf,
    /// Channel, such as people-count@stable
    #[arg(long, value_name = "HEAD@TRACK")]
    channel: Channel,
    /// Give it to this share of the cameras first; it is promoted or stopped by what they report
    #[arg(long, value_name = "SHARE")]
    canary: Option<Share>,
    /// Cameras it is for: patterns such as 'plaza-*' [default: as before; at first all]
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    cameras: Option<Vec<Pattern>>,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    at: Where,
}

/// Within which bounds the server may promote a canary by itself. They are signed.
#[derive(Debug, Args)]
struct Bounds {
    /// Leave the canary where it is until `head rollout promote`
    #[arg(long, requires = "canary")]
    hold: bool,
    /// The largest share that the server may give it to [default: 100%]
    #[arg(long, value_name = "SHARE", requires = "canary")]
    up_to: Option<Share>,
    /// How long canaries run before [default: 1h]
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = humantime::parse_duration)]
    soak: Option<Duration>,
    /// How many frames they must have answered [default: 1000]
    #[arg(long, value_name = "N", requires = "canary")]
    min_answers: Option<u64>,
    /// Stop beyond this fraction of failed frames or canaries [default: 0.01]
    #[arg(long, value_name = "FRACTION", requires = "canary")]
    max_failures: Option<f64>,
    /// Stop when their mean moves by more standard deviations than this, beyond other cameras' [default: 1.5]
    #[arg(long, value_name = "N", requires = "canary")]
    max_shift: Option<f64>,
    /// Stop when their values spread by more than this factor, beyond other cameras' [default: 3]
    #[arg(long, value_name = "FACTOR", requires = "canary")]
    max_spread: Option<f64>,
}

/// Arguments of `head rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Channel, such as people-count@stable
    #[arg(long, value_name = "HEAD@TRACK")]
    channel: Channel,
    /// The release to go back to, or its first digits [default: the one before]
    #[arg(long, value_name = "RELEASE")]
    to: Option<String>,
    #[command(flatten)]
    at: Where,
}

/// Arguments of `head rollout`.
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// What to do
    #[arg(value_enum)]
    action: ActionArg,
    /// Channel, such as people-count@stable
    #[arg(long, value_name = "HEAD@TRACK")]
    channel: Channel,
    #[command(flatten)]
    at: Where,
}

/// What to do with a running rollout, within the signed bounds.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActionArg {
    /// Stay at the present share
    Hold,
    /// Go on after a hold or a stop; the soak starts again
    Resume,
    /// Give every camera the fallback
    Abort,
    /// Go to the largest share now
    Promote,
}

impl From<ActionArg> for RolloutAction {
    fn from(action: ActionArg) -> Self {
        match action {
            ActionArg::Hold => Self::Hold,
            ActionArg::Resume => Self::Resume,
            ActionArg::Abort => Self::Abort,
            ActionArg::Promote => Self::Promote,
        }
    }
}

impl Place {
    /// Connects, or opens the folder; `root` is needed for a new one.
    pub(super) async fn open(&self, root: Option<PublicKey>) -> anyhow::Result<Desk> {
        match (&self.registry, &self.server, &self.cert) {
            (Some(dir), ..) => local(dir, root),
            (None, Some(server), Some(cert)) => Ok(Desk::Remote(Client::connect(server, cert).await?)),
            (None, Some(_), None) => bail!(
                "--server needs --cert: a folder from `dc-encoder pki issue --operator NAME`, on this machine"
            ),
            (None, None, _) => {
                bail!("where to? Name a server, --server HOST:PORT --cert DIR, or a folder, --registry DIR")
            }
        }
    }

    /// The folder that is there to be read.
    pub(super) fn check_folder(&self) -> anyhow::Result<()> {
        let missing = self.registry.as_ref().filter(|dir| !dir.is_dir());
        missing.map_or(Ok(()), |dir| bail!("{} is no folder", dir.display()))
    }
}

impl Where {
    pub(super) async fn open(&self, keys: &KeyFolder) -> anyhow::Result<Desk> {
        self.place.open(Some(keys.trust().root())).await
    }
}

fn local(dir: &Path, root: Option<PublicKey>) -> anyhow::Result<Desk> {
    let registrar = Registrar::open(Box::new(Embedded::open(dir)?), root, Timestamp::now())?;
    Ok(Desk::Local(Box::new(registrar)))
}

impl Bounds {
    fn promotion(&self) -> Option<Promotion> {
        let Self { hold, up_to, soak, min_answers, max_failures, max_shift, max_spread } = self;
        let usual = Promotion::USUAL;
        (!hold).then(|| Promotion {
            up_to: up_to.unwrap_or(usual.up_to),
            soak_s: soak.map_or(usual.soak_s, |soak| soak.as_secs()),
            min_answers: min_answers.unwrap_or(usual.min_answers),
            max_failures: max_failures.unwrap_or(usual.max_failures),
            max_shift: max_shift.unwrap_or(usual.max_shift),
            max_spread: max_spread.unwrap_or(usual.max_spread),
        })
    }
}

/// Runs one of the commands.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Publishes a head and gives it to cameras; what was done, in words.
///
/// # Errors
/// Whatever keeps it from being published.
pub fn publish(args: PublishArgs) -> anyhow::Result<String> {
    let keys = KeyFolder::open(&args.at.keys)?;
    let (head, file) = load(&args.file)?;
    let path = signature_path(&args.file);
    let signature = std::fs::read(&path).with_context(|| {
        format!(
            "{} cannot be read: sign the head first, dc-encoder head sign {}",
            path.display(),
            args.file.display()
        )
    })?;
    keys.trust().verify_head(&file, &HeadSignature::parse(&signature)?)?;
    let release = head.release().parse()?;
    args.channel.check_head(&head.manifest().name, release)?;
    block_on(async {
        let desk = args.at.open(&keys).await?;
        desk.bring_ring(&keys).await?;
        let note = desk.publish(&file, &signature).await?;
        let standing = desk.standing(&keys, &args.channel).await?.map(|(standing, _)| standing);
        let publication = Publication {
            channel: args.channel,
            release,
            cameras: args.cameras,
            share: args.canary.unwrap_or(Share::WHOLE),
            promotion: args.canary.and_then(|_| args.bounds.promotion()),
        };
        let assignment = publication.after(standing.as_ref());
        desk.assign(&keys, &assignment).await?;
        let mut text = in_words(&assignment);
        if !note.is_empty() {
            text.push_str(&format!("note: {note}\n"));
        }
        text.push_str(&left_out(standing.as_ref().map(|standing| &standing.assignment), &assignment));
        text.push_str(&empty_share(&desk, &assignment).await?);
        text.push_str(&format!("watch: dc-encoder head status --channel {} --watch\n", assignment.channel));
        desk.close().await;
        Ok(text)
    })
}

fn in_words(assignment: &Assignment) -> String {
    let Assignment { channel, counter, release, fallback, cameras, share, promotion, .. } = assignment;
    let cameras: Vec<String> = cameras.iter().map(ToString::to_string).collect();
    let others = fallback.map_or("no other release".to_owned(), |fallback| fallback.short());
    let mut text = format!(
        "{channel}: assignment {counter} gives release {} to {share} of {}; fallback {others}\n",
        release.short(),
        cameras.join(", ")
    );
    if let Some(Promotion { up_to, soak_s, min_answers, .. }) = promotion {
        let soak = humantime::format_duration(Duration::from_secs(*soak_s));
        text.push_str(&format!(
            "promoted to {up_to} after {soak} and {min_answers} answers without trouble, stopped otherwise\n"
        ));
    }
    text
}

/// Patterns that the channel named before and does not now: their cameras lose the head.
fn left_out(before: Option<&Assignment>, after: &Assignment) -> String {
    let gone = before.map(|before| before.cameras.iter().filter(|pattern| !after.cameras.contains(pattern)));
    let gone: Vec<String> = gone.into_iter().flatten().map(ToString::to_string).collect();
    if gone.is_empty() {
        return String::new();
    }
    format!("note: {} no longer named; cameras that nothing else names drop the head\n", gone.join(", "))
}

/// A warning when no camera that reports is in the share.
async fn empty_share(desk: &Desk, assignment: &Assignment) -> Result<String, OperateError> {
    let heads = cameras(desk, String::new(), String::new()).await?;
    let names = heads.iter().map(|head| head.camera.as_str()).filter(|camera| assignment.concerns(camera));
    Ok(match Share::least_for(&assignment.channel, names) {
        Some(least) if least > assignment.share => {
            format!(
                "note: none of the cameras that report is among {}; {least} holds the first\n",
                assignment.share
            )
        }
        _ => String::new(),
    })
}

/// Goes back to an earlier release; what was done, in words.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn roll_back(args: &RollbackArgs) -> anyhow::Result<String> {
    let keys = KeyFolder::open(&args.at.keys)?;
    block_on(async {
        let desk = args.at.open(&keys).await?;
        let (standing, history) = known(&desk, &keys, &args.channel).await?;
        let to = args.to.as_deref().map(|digits| named(&args.channel, digits, &history)).transpose()?;
        let assignment = rollback(&standing, to)?;
        desk.assign(&keys, &assignment).await?;
        desk.close().await;
        Ok(in_words(&assignment))
    })
}

/// Where a channel stands that must have an assignment.
pub(super) async fn known(
    desk: &Desk,
    keys: &KeyFolder,
    channel: &Channel,
) -> anyhow::Result<(Standing, Vec<HistoryEntry>)> {
    let standing = desk.standing(keys, channel).await?;
    standing.with_context(|| format!("{channel} has no assignment yet: publish a head to it first"))
}

/// Steers a rollout; what was done, in words.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn roll_out(args: &RolloutArgs) -> anyhow::Result<String> {
    let keys = KeyFolder::open(&args.at.keys)?;
    block_on(async {
        let desk = args.at.open(&keys).await?;
        let (standing, _) = known(&desk, &keys, &args.channel).await?;
        let channel = args.channel.to_string();
        let counter = standing.assignment.counter;
        let request =
            OperatorRequestMsg::Rollout { channel: channel.clone(), counter, action: args.action.into() };
        desk.ask(&request).await?;
        let text = channels(&desk, &channel).await?;
        desk.close().await;
        Ok(text)
    })
}
