//! `dc-encoder ledger`: where operations, bytes and joules went.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use protocol::{CameraAccount, CameraHead, OperatorCode, OperatorReplyMsg, OperatorRequestMsg, Site};
use serde_json::json;
use shared::release::Pattern;

use super::release::block_on;
use crate::ledger::table::{self, Sum};
use crate::operate::{Client, Desk, OperateError};

/// Arguments of `ledger`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The encoder server
    #[arg(long, env = "FTH_SERVER", value_name = "HOST:PORT")]
    server: String,
    /// Folder with an operator's cert.pem, key.pem and ca.pem, from `dc-encoder pki issue --operator NAME`
    #[arg(long, env = "FTH_CERT", value_name = "DIR")]
    cert: PathBuf,
    /// Only these cameras, such as 'plaza-*'
    #[arg(long, value_name = "PATTERN")]
    cameras: Option<Pattern>,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// Prints what a running server has put down since it started.
///
/// # Errors
/// What the server says.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let text = block_on(async {
        let desk = Desk::Remote(Client::connect(&args.server, &args.cert).await?);
        let cameras = args.cameras.as_ref().map(ToString::to_string).unwrap_or_default();
        let (site, accounts) = accounts(&desk, cameras.clone()).await?;
        let heads = heads(&desk, cameras).await?;
        desk.close().await;
        Ok(if args.json { in_json(&site, &accounts, &heads) } else { table::page(&site, &accounts, &heads) })
    })?;
    print!("{text}");
    Ok(())
}

async fn accounts(desk: &Desk, cameras: String) -> Result<(Site, Vec<CameraAccount>), OperateError> {
    let (replies, _) = desk.ask(&OperatorRequestMsg::Ledger { cameras }).await?;
    let (mut site, mut accounts) = (None, Vec::new());
    for reply in replies {
        match reply {
            OperatorReplyMsg::Site(said) => site = Some(said),
            OperatorReplyMsg::Account(account) => accounts.push(account),
            _ => return Err(OperateError::Unexpected("not an account")),
        }
    }
    Ok((site.ok_or(OperateError::Unexpected("accounts without their site"))?, accounts))
}

/// What cameras reported of their heads; none where the server has no registry.
async fn heads(desk: &Desk, cameras: String) -> Result<Vec<CameraHead>, OperateError> {
    let request = OperatorRequestMsg::Status { channel: String::new(), cameras };
    let replies = match desk.ask(&request).await {
        Ok((replies, _)) => replies,
        Err(OperateError::Refused { code: OperatorCode::Unknown, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let head = |reply| match reply {
        OperatorReplyMsg::Head(head) => Ok(head),
        _ => Err(OperateError::Unexpected("not a camera's head")),
    };
    replies.into_iter().map(head).collect()
}

fn in_json(site: &Site, accounts: &[CameraAccount], heads: &[CameraHead]) -> String {
    let camera = |account: &CameraAccount| {
        let sum = Sum::of(std::slice::from_ref(account));
        json!({
            "camera": account.camera,
            "frames": account.frames,
            "encoder_flops": account.flops,
            "encoder_busy_s": account.busy_us as f64 / 1e6,
            "encoder_joules": account.joules,
            "received_bytes": account.received,
            "sent_bytes": account.sent,
            "head_flops": account.edge.head_flops,
            "picture_flops": account.edge.picture_flops,
            "box_cpu_s": account.edge.cpu_us as f64 / 1e6,
            "box_joules_modelled": sum.box_joules(site),
        })
    };
    let head = |head: &CameraHead| {
        json!({
            "camera": head.camera,
            "head": head.report.head,
            "release": head.report.active.map(|release| release.to_string()),
            "flops": head.report.flops,
            "answers": head.report.answers,
        })
    };
    let (all, without_pictures) = Sum::of(accounts).datacenter_share();
    let alternative = |way: &table::Alternative| json!({ "what": way.what, "flops": way.flops, "seconds": way.seconds, "joules": way.joules });
    let page = json!({
        "site": site.name,
        "for_s": site.for_ms as f64 / 1e3,
        "model": site.model,
        "frame_flops": site.frame_flops,
        "power": site.power,
        "metered": site.metered,
        "idle_joules": site.idle_joules,
        "grid_gco2_per_kwh": site.grid_gco2_per_kwh,
        "box": site.camera_box.name,
        "datacenter_share": all,
        "datacenter_share_without_pictures": without_pictures,
        "cameras": accounts.iter().map(camera).collect::<Vec<_>>(),
        "heads": heads.iter().map(head).collect::<Vec<_>>(),
        "alternatives_per_frame_modelled": table::alternatives(site).iter().map(alternative).collect::<Vec<_>>(),
    });
    format!("{page:#}\n")
}
