//! `dc-encoder collect`: frames of a stream or file into the archive.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use shared::capture::Stop;
use shared::image::Mask;
use tokio::signal::unix::{SignalKind, signal};

use super::archive::{At, KeepArgs, parse_time};
use crate::archive::{Archive, Embedder, Zone};
use crate::backend::ChoiceArgs;
use crate::collect::{self, Config, From, Page, Rate, Schedule};

/// Arguments of `dc-encoder collect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    dc-encoder collect http://127.0.0.1:8000/live.m3u8 --camera plaza-1 --rate 1/10s --model model\n  \
    dc-encoder collect rtsp://user:password@192.0.2.7/cam --camera gate --rate 1/1min --during 06:00-20:00 \
    --zone Europe/Zurich --keep-days 30 --keep-bytes 20GB\n  \
    dc-encoder collect https://www.youtube.com/watch?v=ID --camera plaza-2 --rate 1/30s\n\n\
    An address with a password is better given as FTH_SOURCE than as an argument, which every user of the machine can \
    read.")]
pub struct Args {
    /// A stream (http(s)://…m3u8, rtsp://…), a video file, a folder or list of pictures, or a page for yt-dlp
    #[arg(env = "FTH_SOURCE", hide_env_values = true, value_name = "URL|FILE")]
    source: String,
    /// The camera's name
    #[arg(long, env = "FTH_CAMERA", value_name = "NAME")]
    camera: String,
    #[command(flatten)]
    at: At,
    /// How many frames: 2 (a second), 1/10s, 6/1min
    #[arg(long, value_name = "RATE", default_value = "1")]
    rate: Rate,
    /// The camera's time zone: UTC, an offset such as +02:00, or a name such as Europe/Zurich
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: Zone,
    /// When: always, or times of day at the camera such as 06:00-09:00,16:00-19:30
    #[arg(long, visible_alias = "during", value_name = "TIMES", default_value = "always")]
    schedule: Schedule,
    /// When a video file begins [default: what its name says, or its modification time]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    start: Option<Timestamp>,
    /// How far capture times may be off, either way [default: 30s for HLS, 1s for other streams]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    uncertainty: Option<Duration>,
    #[command(flatten)]
    keep: KeepArgs,
    /// A region that nobody is to see, grey in every frame that is kept: left,top,right,bottom, or the columns and rows of a
    /// polygon's corners, as fractions of the picture; :16 behind it makes squares of 16 pixels instead. As often as needed
    #[arg(long = "mask", value_name = "REGION")]
    masks: Vec<Mask>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    during: Option<Duration>,
    /// End after so many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Embed frames with this model, and keep the embeddings with them
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    on: ChoiceArgs,
    /// Leave out frames whose embedding is nearer to the last kept one than this share of the usual distance; 0 keeps all
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "model")]
    novelty: f32,
    /// A stream that delivers nothing for this long is opened again
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    stall: Duration,
    /// The ffmpeg program
    #[arg(long, value_name = "PROGRAM", default_value = "ffmpeg")]
    ffmpeg: PathBuf,
    /// The yt-dlp program, for pages
    #[arg(long, value_name = "PROGRAM", default_value = "yt-dlp")]
    yt_dlp: PathBuf,
    /// Treat the address as a page whatever it looks like
    #[arg(long)]
    page: bool,
}

/// Runs the command.
///
/// # Errors
/// A source that never gives a frame, an archive that cannot be written; each says what to do.
pub fn run(args: Args) -> anyhow::Result<()> {
    shared::telemetry::init("info", shared::telemetry::Format::Text)?;
    let from = if args.page || Page::is_page(&args.source) {
        From::Page(Page { url: args.source, program: args.yt_dlp })
    } else {
        From::Source(args.source.parse()?)
    };
    let config = Config {
        from,
        camera: args.camera,
        zone: args.zone,
        rate: args.rate,
        schedule: args.schedule,
        start: args.start,
        uncertainty: args.uncertainty,
        keep: args.keep.into(),
        novelty: args.novelty,
        masks: args.masks,
        during: args.during,
        frames: args.frames,
        ffmpeg: args.ffmpeg,
        stall: args.stall,
    };
    shared::tls::check_camera_name(&config.camera)?;
    let mut embedder =
        args.model.as_deref().map(|model| Embedder::open(model, args.on.into())).transpose()?;
    let archive = Archive::open(&args.at.archive)?;
    let stop = Stop::new();
    stop_on_signals(&stop)?;
    let summary = collect::run(&config, &archive, embedder.as_mut(), &stop)?;
    println!(
        "{}: {} frames kept in {}, {}",
        config.camera,
        summary.kept,
        args.at.archive.display(),
        summary.rest()
    );
    Ok(())
}

/// Ctrl-C and SIGTERM end it after the frame at hand; a second one ends it at once, which loses nothing either.
fn stop_on_signals(stop: &Stop) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = stop.clone();
    let wait = async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        stop.stop();
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(130);
    };
    let spawned =
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait));
    spawned.map(drop).context("cannot listen for signals")
}
