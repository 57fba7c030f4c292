//! `dc-encoder pki …`

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::pki::{Authority, Issued, Listed, Request, Selector, Subject};

/// Subcommands of `dc-encoder pki`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a certificate authority in a new folder
    #[command(after_help = "Example:\n  dc-encoder pki init --dir pki")]
    Init(InitArgs),
    /// Make key and certificate for a camera box, an encoder server or an operator
    #[command(
        after_help = "Examples:\n  dc-encoder pki issue --dir pki --server encoder.example.net,192.0.2.10\n  dc-encoder pki issue --dir pki --camera plaza-1\n  dc-encoder pki issue --dir pki --operator ann"
    )]
    Issue(IssueArgs),
    /// Revoke certificates: live connections end within a second of crl.pem reaching the server
    #[command(after_help = "Example:\n  dc-encoder pki revoke --dir pki --camera plaza-1")]
    Revoke(RevokeArgs),
    /// List every certificate ever issued, and whether it is valid
    #[command(after_help = "Example:\n  dc-encoder pki list --dir pki")]
    List(DirArgs),
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// Folder of the authority: ca.key in it makes certificates, keep it offline and backed up
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `pki init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Name of the authority; one of its own when not given
    #[arg(long, value_name = "CN")]
    name: Option<String>,
}

/// Arguments of `pki issue`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub struct IssueArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Camera name: a-z 0-9 . _ - (365 days unless --days)
    #[arg(long, group = "subject", value_name = "NAME")]
    camera: Option<String>,
    /// Host names and IP addresses that agents connect to, separated by commas (365 days unless --days)
    #[arg(long, group = "subject", value_name = "HOST[,IP…]", value_delimiter = ',')]
    server: Option<Vec<String>>,
    /// Operator name: a-z 0-9 . _ - (90 days unless --days)
    #[arg(long, group = "subject", value_name = "NAME")]
    operator: Option<String>,
    /// Folder to write; DIR/server, DIR/cameras/NAME or DIR/operators/NAME when not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Lifetime in days
    #[arg(long, value_name = "N")]
    days: Option<u32>,
}

/// Arguments of `pki revoke`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("selector").required(true))]
pub struct RevokeArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Every certificate of this camera
    #[arg(long, group = "selector", value_name = "NAME")]
    camera: Option<String>,
    /// Every certificate of this server, by its first host name (agents read no list: keep server lifetimes short)
    #[arg(long, group = "selector", value_name = "HOST")]
    server: Option<String>,
    /// Every certificate of this operator
    #[arg(long, group = "selector", value_name = "NAME")]
    operator: Option<String>,
    /// Also look among the certificates that an enrolling server made: its issued.jsonl
    #[arg(long, value_name = "FILE")]
    issued: Option<PathBuf>,
    /// One certificate, by its serial number
    #[arg(long, group = "selector", value_name = "HEX")]
    serial: Option<String>,
}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    run_to(command, Timestamp::now(), &mut std::io::stdout().lock())
}

/// [`run`] at another time, writing elsewhere.
pub fn run_to(command: Command, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init(&args, now, out),
        Command::Issue(args) => issue(args, now, out),
        Command::Revoke(args) => revoke(args, now, out),
        Command::List(args) => list(&args, now, out),
    }
}

fn init(args: &InitArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let authority = Authority::init(&args.at.dir, args.name.as_deref(), now)?;
    let dir = authority.dir().display();
    writeln!(out, "authority {:?} in {dir}, until {}", authority.name(), day(authority.not_after()))?;
    writeln!(out, "keep {dir}/ca.key offline and backed up: whoever has it can make certificates")?;
    writeln!(out, "next: dc-encoder pki issue --dir {dir} --server HOST[,IP…]")?;
    Ok(())
}

fn issue(args: IssueArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let authority = Authority::open(&args.at.dir)?;
    let subject = match (args.camera, args.server, args.operator) {
        (Some(camera), ..) => Subject::Camera(camera),
        (_, Some(hosts), _) => Subject::Server(hosts.into_iter().map(|h| h.trim().to_owned()).collect()),
        (.., operator) => Subject::Operator(operator.unwrap_or_default()),
    };
    let request = Request { subject, days: args.days, out: args.out };
    let Issued { dir, record } = authority.issue(&request, now)?;
    let dir = dir.display();
    writeln!(out, "{} {} in {dir}, until {}", record.role, record.name, day(record.not_after))?;
    writeln!(out, "serial {}", record.serial)?;
    match request.subject {
        Subject::Server(_) if request.out.is_none() => {
            let pki = authority.dir().display();
            writeln!(
                out,
                "next: copy {dir} and {pki}/crl.pem to the server (ca.key stays here), then serve --pki"
            )?;
        }
        Subject::Server(_) => writeln!(out, "next: copy {dir} to the server, then serve --pki")?,
        _ => writeln!(out, "next: copy {dir} there; key.pem is its secret")?,
    }
    Ok(())
}

fn revoke(args: RevokeArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let authority = Authority::open(&args.at.dir)?;
    let selector = match (args.camera, args.server, args.operator) {
        (Some(camera), ..) => Selector::Camera(camera),
        (_, Some(server), _) => Selector::Server(server),
        (_, _, Some(operator)) => Selector::Operator(operator),
        _ => Selector::Serial(args.serial.unwrap_or_default()),
    };
    for record in authority.revoke_among(&selector, args.issued.as_deref(), now)? {
        writeln!(out, "revoked {} {}, serial {}", record.role, record.name, record.serial)?;
    }
    let crl = authority.crl_path();
    writeln!(
        out,
        "next: copy {} to every encoder server; it takes effect within a second there",
        crl.display()
    )?;
    Ok(())
}

fn list(args: &DirArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let listed = Authority::open(&args.dir)?.list(now)?;
    let width = listed.iter().map(|l| l.record.name.chars().count()).max().unwrap_or(0).max("NAME".len());
    writeln!(out, "{:8}  {:8}  {:width$}  {:10}  SERIAL", "STATE", "ROLE", "NAME", "UNTIL")?;
    for Listed { record, state } in listed {
        let (state, role) = (state.to_string(), record.role.as_str());
        let until = day(record.not_after);
        writeln!(out, "{state:8}  {role:8}  {:width$}  {until:10}  {}", record.name, record.serial)?;
    }
    Ok(())
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}
