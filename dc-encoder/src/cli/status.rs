//! `dc-encoder head status`: where channels stand, and how each camera does; `head audit`: who changed what.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, value_parser};
use jiff::Timestamp;
use protocol::limits::MAX_AUDIT_LINES;
use protocol::{CameraHead, OperatorReplyMsg, OperatorRequestMsg};
use shared::release::{Channel, Pattern};

use super::release::{Place, Where, block_on, known};
use crate::keys::KeyFolder;
use crate::operate::table::{self, Settled};
use crate::operate::{Desk, OperateError};

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `head status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this channel, with its history
    #[arg(long, value_name = "HEAD@TRACK")]
    channel: Option<Channel>,
    /// Only these cameras, such as 'plaza-*'
    #[arg(long, value_name = "PATTERN")]
    cameras: Option<Pattern>,
    /// Print it again when it changes, until every connected camera runs what the channel gives it
    #[arg(long, requires = "channel")]
    watch: bool,
    #[command(flatten)]
    at: Where,
}

/// Prints where channels stand and how cameras do.
///
/// # Errors
/// What the server says; with `--watch`, a camera that does not run what it should.
pub fn status(args: &StatusArgs) -> anyhow::Result<String> {
    let keys = KeyFolder::open(&args.at.keys)?;
    block_on(async {
        let desk = args.at.open(&keys).await?;
        let channel = args.channel.as_ref().map(ToString::to_string).unwrap_or_default();
        let pattern = args.cameras.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut shown = String::new();
        loop {
            let heads = cameras(&desk, channel.clone(), pattern.clone()).await?;
            let mut text = channels(&desk, &channel).await?;
            text.push_str(&report(&desk, &heads));
            let Some(watched) = args.channel.as_ref().filter(|_| args.watch) else {
                desk.close().await;
                return Ok(text);
            };
            let judged = judge(&heads, known(&desk, &keys, watched).await?.0.assignment.counter);
            let now = changes(&heads);
            if now != shown {
                print!("{text}");
                shown = now;
            }
            match judged {
                Settled::Yes => break,
                Settled::Failed => bail!("not every camera runs what {watched} gives it"),
                Settled::No => tokio::time::sleep(WATCH_EVERY).await,
            }
        }
        desk.close().await;
        Ok(String::new())
    })
}

/// Arguments of `head audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How many of the newest lines
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(MAX_AUDIT_LINES)))]
    last: u32,
    #[command(flatten)]
    at: Place,
}

/// The audit log, the oldest of the lines first.
///
/// # Errors
/// A server that refuses, or a registry that cannot be read.
pub fn audit(args: &AuditArgs) -> anyhow::Result<String> {
    args.at.check_folder()?;
    block_on(async {
        let desk = args.at.open(None).await?;
        let lines = desk.audit(args.last).await?;
        desk.close().await;
        Ok(lines.iter().rev().map(table::audit).collect())
    })
}

/// What makes a report worth printing again: counts and times change all the time.
fn changes(heads: &[CameraHead]) -> String {
    let line = |head: &CameraHead| {
        let report = &head.report;
        format!(
            "{:?}",
            (&head.camera, head.connected, report.counter, report.active, report.failed, report.pinned)
        )
    };
    heads.iter().map(line).collect()
}

/// All connected cameras together; without one there is nothing to judge yet.
fn judge(heads: &[CameraHead], counter: u64) -> Settled {
    let connected = heads.iter().filter(|head| head.connected);
    let judged: Vec<Settled> = connected.map(|head| table::settled(head, counter)).collect();
    match () {
        () if judged.is_empty() || judged.contains(&Settled::No) => Settled::No,
        () if judged.contains(&Settled::Failed) => Settled::Failed,
        () => Settled::Yes,
    }
}

fn report(desk: &Desk, heads: &[CameraHead]) -> String {
    match (desk, heads) {
        (Desk::Local(_), _) => "how cameras do, only a running server knows: --server HOST:PORT\n".to_owned(),
        (Desk::Remote(_), []) => "no camera has reported yet\n".to_owned(),
        (Desk::Remote(_), heads) => table::cameras(heads),
    }
}

/// Every camera's heads that are meant; empty texts mean all.
pub(super) async fn cameras(
    desk: &Desk,
    channel: String,
    cameras: String,
) -> Result<Vec<CameraHead>, OperateError> {
    let (replies, _) = desk.ask(&OperatorRequestMsg::Status { channel, cameras }).await?;
    let head = |reply| match reply {
        OperatorReplyMsg::Head(head) => Ok(head),
        _ => Err(OperateError::Unexpected("not a camera's head")),
    };
    replies.into_iter().map(head).collect()
}

/// Where a channel stands, and its history; without a name, where all stand.
pub(super) async fn channels(desk: &Desk, channel: &str) -> Result<String, OperateError> {
    let (replies, _) = desk.ask(&OperatorRequestMsg::Channel { channel: channel.to_owned() }).await?;
    let now = Timestamp::now();
    let (mut text, mut entries) = (String::new(), Vec::new());
    for reply in replies {
        match reply {
            OperatorReplyMsg::Channel(state) => text.push_str(&table::channel(&state, now)),
            OperatorReplyMsg::History(entry) => entries.push(entry),
            _ => return Err(OperateError::Unexpected("not a channel")),
        }
    }
    text.push_str(&table::history(&entries, now));
    Ok(text)
}
