//! `dc-encoder enroll …`

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use qrcodegen::{QrCode, QrCodeEcc};

use crate::enroll::{Folder, Line, Settings};
use crate::pki::Authority;

/// Subcommands of `dc-encoder enroll`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the folder that a server enrols boxes with; where ca.key is
    #[command(after_help = "Example:\n  dc-encoder enroll init --server encoder.example.net")]
    Init(InitArgs),
    /// Make a one-time token that lets one camera box in
    #[command(after_help = "Example:\n  dc-encoder enroll create --camera plaza-1")]
    Create(CreateArgs),
    /// Show tokens and what became of them
    #[command(after_help = "Example:\n  dc-encoder enroll list")]
    List(DirArgs),
    /// Void a camera's open tokens, and renew its certificate no more
    #[command(after_help = "Example:\n  dc-encoder enroll revoke --camera plaza-1")]
    Revoke(RevokeArgs),
    /// Show who tried to enrol, and how it went
    #[command(after_help = "Example:\n  dc-encoder enroll audit")]
    Audit(AuditArgs),
}

/// Where the enroller is.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// Folder of the enroller, as `serve --enroll` has it
    #[arg(long, env = "FTH_ENROLL", default_value = "enroll", value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `enroll init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Folder of the authority; its key is needed here and now, and not on the server
    #[arg(long, default_value = "pki", value_name = "DIR")]
    pki: PathBuf,
    /// Where boxes send frames, as the server's certificate names it; separate several with commas [port: 4433]
    #[arg(long, required = true, value_name = "HOST[:PORT]", value_delimiter = ',')]
    server: Vec<String>,
    /// Where boxes enrol [default: the first server's host, port 4434]
    #[arg(long = "at", value_name = "HOST[:PORT]")]
    enroll_at: Option<String>,
}

/// Arguments of `enroll create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Camera name: a-z 0-9 . _ -
    #[arg(long, value_name = "NAME")]
    camera: String,
    /// How long the token is good for, 7 days at most
    #[arg(long = "for", default_value = "1h", value_name = "TIME", value_parser = humantime::parse_duration)]
    life: std::time::Duration,
}

/// Arguments of `enroll revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    at: DirArgs,
    /// Camera name
    #[arg(long, value_name = "NAME")]
    camera: String,
}

/// Arguments of `enroll audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    at: DirArgs,
    /// How many lines
    #[arg(long, default_value_t = 20, value_name = "N")]
    last: usize,
}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let (out, err) = (&mut std::io::stdout().lock(), &mut std::io::stderr().lock());
    run_to(command, Timestamp::now(), Streams { out, err, terminal })
}

/// Where a command writes.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Words, where results are read by a program.
    pub err: &'a mut dyn Write,
    /// A person looks at the results.
    pub terminal: bool,
}

/// [`run`] at another time, writing elsewhere.
pub fn run_to(command: Command, now: Timestamp, streams: Streams<'_>) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init(&args, now, streams.out),
        Command::Create(args) => create(&args, now, streams),
        Command::List(args) => list(&args, now, streams.out),
        Command::Revoke(args) => revoke(&args, now, streams.out),
        Command::Audit(args) => audit(&args, streams.out),
    }
}

fn init(args: &InitArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = Settings::of(&args.server, args.enroll_at.as_deref())?;
    let authority = Authority::open(&args.pki)?;
    let record = Folder::init(&authority, &args.at.dir, &settings, now)?;
    let dir = args.at.dir.display();
    writeln!(out, "enroller in {dir}, until {}, serial {}", day(record.not_after), record.serial)?;
    writeln!(
        out,
        "it makes cameras' certificates and nothing else; ca.key of {} stays offline",
        args.pki.display()
    )?;
    writeln!(
        out,
        "next: copy {dir} to the server, and serve --enroll {dir}: boxes enrol at {} (UDP)",
        settings.at
    )?;
    Ok(())
}

fn create(args: &CreateArgs, now: Timestamp, streams: Streams<'_>) -> anyhow::Result<()> {
    let life = SignedDuration::try_from(args.life).context("--for")?;
    let folder = Folder::open(&args.at.dir)?;
    let (token, expires) = folder.create(&args.camera, life, now)?;
    let Streams { out, err, terminal } = streams;
    let words = if terminal { &mut *out } else { err };
    writeln!(
        words,
        "camera {} may enrol once, until {}, at {} (UDP)",
        args.camera,
        expires.strftime("%Y-%m-%d %H:%M UTC"),
        token.subject().server
    )?;
    let text = token.text();
    if terminal {
        writeln!(out, "\n{text}\n\n{}", picture(&text)?)?;
        writeln!(
            out,
            "on the box: edge-agent enroll, and paste the token; who has it first gets the certificate"
        )?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// A QR code in half blocks, dark on light whatever the terminal's colours, with the margin that readers want.
fn picture(text: &str) -> anyhow::Result<String> {
    const MARGIN: i32 = 4;
    const BLACK_ON_WHITE: &str = "\x1b[30;107m";
    const PLAIN: &str = "\x1b[0m";
    let code = QrCode::encode_text(text, QrCodeEcc::Low).context("the token fits no QR code")?;
    let side = -MARGIN..code.size() + MARGIN;
    let row = |y: i32| -> String {
        let cell = |x: i32| match (code.get_module(x, y), code.get_module(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        let cells: String = side.clone().map(cell).collect();
        format!("{BLACK_ON_WHITE}{cells}{PLAIN}\n")
    };
    Ok(side.clone().step_by(2).map(row).collect())
}

fn list(args: &DirArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let book = Folder::open(&args.dir)?.book()?;
    let width = book.tokens.iter().map(|token| token.camera.len()).max().unwrap_or(0).max("CAMERA".len());
    writeln!(out, "{:9}  {:width$}  {:16}  {:16}  SERIAL", "STATE", "CAMERA", "UNTIL (UTC)", "USED (UTC)")?;
    for token in &book.tokens {
        let used = token.used.as_ref();
        let serial = used.map_or("", |used| used.serial.as_str());
        let line = format!(
            "{:9}  {:width$}  {:16}  {:16}  {serial}",
            token.state(now).to_string(),
            token.camera,
            minute(token.expires),
            used.map(|used| minute(used.at)).unwrap_or_default()
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    for camera in &book.withdrawn {
        writeln!(out, "not renewed any more: {camera}")?;
    }
    Ok(())
}

fn revoke(args: &RevokeArgs, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = Folder::open(&args.at.dir)?;
    let (tokens, valid) = folder.withdraw(&args.camera, now)?;
    writeln!(out, "{}: {tokens} open token(s) void, its certificate is not renewed any more", args.camera)?;
    for record in &valid {
        writeln!(out, "still valid until {}: serial {}", day(record.not_after), record.serial)?;
    }
    if !valid.is_empty() {
        let journal = args.at.dir.join("issued.jsonl");
        writeln!(
            out,
            "to cut it off now, where ca.key is: dc-encoder pki revoke --camera {} --issued {}, then copy crl.pem here",
            args.camera,
            journal.display()
        )?;
    }
    Ok(())
}

fn audit(args: &AuditArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    for Line { at, what, from, camera, token, serial, why } in
        Folder::open(&args.at.dir)?.audited(args.last)?
    {
        write!(
            out,
            "{}  {:9}  {from}",
            at.strftime("%Y-%m-%d %H:%M:%S"),
            format!("{what:?}").to_lowercase()
        )?;
        for (name, value) in [("camera", camera), ("token", token), ("serial", serial)] {
            if let Some(value) = value {
                write!(out, "  {name} {value}")?;
            }
        }
        writeln!(out, "{}", why.map(|why| format!("  {why}")).unwrap_or_default())?;
    }
    Ok(())
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finder patterns in three corners, a light margin around: what a phone looks for.
    #[test]
    fn the_picture_has_corners_and_a_margin() {
        let picture = picture(&"FTH1ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".repeat(4)).unwrap();
        let rows: Vec<Vec<char>> = picture
            .lines()
            .map(|line| line.trim_start_matches("\x1b[30;107m").trim_end_matches("\x1b[0m").chars().collect())
            .collect();
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width) && rows.len() == width.div_ceil(2));
        assert!(rows[..2].iter().flatten().all(|&cell| cell == ' '));
        let corner: String = rows[2][4..11].iter().collect();
        assert_eq!(corner, "█▀▀▀▀▀█");
        assert_eq!(rows[2][width - 11..width - 4].iter().collect::<String>(), corner);
    }
}
