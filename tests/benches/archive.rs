//! The archive's goals: `make bench-archive`.
#![allow(missing_docs)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use dc_encoder::archive::{Archive, Embedding, FrameId, Incoming, Query, Record, Zone};
use dc_encoder::suggest::{self, Options, Scaled};
use jiff::{SignedDuration, Timestamp};
use protocol::SpaceId;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shared::image::{Chroma, Rgb, jpeg};
use tempfile::TempDir;
use tests::answers::Line;
use tests::goals::goal;
use tests::process::Running;
use tests::setup::{Options as Setup, Server, demo_model, prepare};

/// Frames of the synthetic index, and its cameras.
const FRAMES: usize = 1_000_000;
const CAMERAS: usize = 10;
/// Frames with embeddings, and their numbers.
const EMBEDDED: usize = 100_000;
const DIM: usize = 512;
/// Pictures, of each of which every camera stores a frame, and frames of one transaction.
const PICTURES: usize = 1500;
const BATCH: usize = 32;
/// More frames a second than the encoder answers: it is never idle.
const FPS: &str = "200";
/// Frames of its camera: enough for as long as it takes.
const AGAIN: usize = 20_000;
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long serving is watched with nothing beside it.
const ALONE: Duration = Duration::from_secs(5);
/// Searches; the slowest of a hundred counts.
const SEARCHES: usize = 100;

const SPACE: SpaceId = SpaceId([5; 32]);

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(std::env::var_os("DIR").unwrap_or_else(|| std::env::temp_dir().into()))?;
    find(&Archive::open(&dir.path().join("index"))?)?;
    suggest(&Archive::open(&dir.path().join("embedded"))?)?;
    ingest(&Archive::open(&dir.path().join("frames"))?)
}

/// A frame that is nowhere but in the index.
fn record(camera: &str, at: Timestamp, rng: &mut ChaCha8Rng) -> Record {
    let mut digest = [0; 32];
    rng.fill_bytes(&mut digest);
    let id = FrameId::of(camera, at, &digest);
    Record {
        id,
        camera: camera.to_owned(),
        captured_at: at,
        zone: "Europe/Zurich".to_owned(),
        uncertainty_ms: 1000,
        source: "rtsp://192.0.2.7/cam".to_owned(),
        width: 1280,
        height: 720,
        bytes: 80_000,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        path: format!("frames/{camera}/2026-06-01/{id}.jpg"),
        added_at: at,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn after(seconds: usize) -> Timestamp {
    start() + SignedDuration::from_secs(seconds as i64)
}

fn find(archive: &Archive) -> anyhow::Result<()> {
    let (mut rng, begun) = (ChaCha8Rng::seed_from_u64(1), Instant::now());
    for first in (0..FRAMES).step_by(20_000) {
        let records: Vec<_> = (first..first + 20_000)
            .map(|i| (record(&format!("plaza-{}", i % CAMERAS), after(i / CAMERAS * 10), &mut rng), None))
            .collect();
        archive.add_synthetic(&records)?;
    }
    eprintln!("{FRAMES} records in {:.0?}", begun.elapsed());
    let mut times: Vec<Duration> = (0..SEARCHES)
        .map(|_| {
            let hour = rng.random_range(0..FRAMES / CAMERAS * 10 - 3600);
            let camera = Some(format!("plaza-{}", rng.random_range(0..CAMERAS)));
            let query = Query {
                camera,
                since: Some(after(hour)),
                until: Some(after(hour + 3600)),
                newest: Some(100),
                ..Query::default()
            };
            let begun = Instant::now();
            let found = archive.find(&query)?;
            anyhow::ensure!(found.len() == 100, "{} frames of an hour", found.len());
            Ok(begun.elapsed())
        })
        .collect::<anyhow::Result<_>>()?;
    times.sort_unstable();
    let slowest = times[SEARCHES * 99 / 100 - 1].as_secs_f64() * 1e3;
    goal("find-in-1e6", "<=50ms", &format!("{slowest:.2}ms"), slowest <= 50.0);
    Ok(())
}

fn suggest(archive: &Archive) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for first in (0..EMBEDDED).step_by(10_000) {
        let records: Vec<_> = (first..first + 10_000)
            .map(|i| {
                let values = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
                (record("plaza-1", after(i * 10), &mut rng), Some(Embedding { space: SPACE, values }))
            })
            .collect();
        archive.add_synthetic(&records)?;
    }
    let begun = Instant::now();
    let embedded = archive.embeddings("plaza-1", None)?;
    let read = begun.elapsed();
    let frames = Scaled::new(&embedded.values, embedded.dim);
    let picks = suggest::choose(&frames, &(0..100).collect::<Vec<_>>(), &[], Options::default());
    let took = begun.elapsed().as_secs_f64();
    eprintln!("{} picks; {read:.1?} of it reading the index", picks.len());
    goal("suggest-of-1e5", "<=5s", &format!("{took:.1}s"), took <= 5.0);
    Ok(())
}

/// A picture of 80 kB, give or take.
fn picture(rng: &mut ChaCha8Rng) -> Bytes {
    let mut data = vec![0; 320 * 180 * 3];
    rng.fill_bytes(&mut data);
    let rgb = Rgb::new(320, 180, data).unwrap_or_else(|| Rgb::filled(320, 180, [0; 3]));
    jpeg::encode(&rgb, 88, Chroma::C444).into()
}

/// A server that a camera keeps busy.
struct Serving {
    server: Server,
    agent: Running,
    /// Frames that were answered.
    answered: Arc<AtomicU64>,
    _dir: TempDir,
}

impl Serving {
    /// Returns with the first answer.
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let prepared =
            prepare(dir.path(), &Setup { model: demo_model(), training_frames: 40, live_frames: 20 })?;
        let frames = prepared.live.with_file_name("again");
        fs::create_dir(&frames)?;
        for (number, frame) in prepared.truth.iter().cycle().take(AGAIN).enumerate() {
            let file = prepared.live.with_file_name(&frame.file);
            fs::hard_link(file, frames.join(format!("{number:06}.jpg")))?;
        }
        let server = prepared.serve(dir.path(), "127.0.0.1:0")?;
        let source = frames.display().to_string();
        let mut agent = prepared.agent(dir.path(), &server.address, &["--source", &source, "--fps", FPS])?;
        let lines = BufReader::new(agent.stdout().context("the output is piped")?).lines();
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        std::thread::spawn(move || {
            let mut newest = None;
            for line in lines.map_while(Result::ok).filter_map(|line| Line::parse(&line).ok()) {
                if line.is_answer() && newest.replace(line.seq) != Some(line.seq) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let begun = Instant::now();
        while answered.load(Ordering::Relaxed) == 0 {
            anyhow::ensure!(begun.elapsed() < ANSWERS_WITHIN, "no answer came:\n{}", agent.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { server, agent, answered, _dir: dir })
    }

    /// Answers a second while `work` is done.
    fn beside<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
        let (before, begun) = (self.answered.load(Ordering::Relaxed), Instant::now());
        let done = work()?;
        let answers = self.answered.load(Ordering::Relaxed) - before;
        Ok((done, answers as f64 / begun.elapsed().as_secs_f64()))
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.agent.stop(Duration::from_secs(10))?;
        self.server.encoder.stop(Duration::from_secs(10))?;
        Ok(())
    }
}

/// Stores one frame of each picture for a camera; frames a second.
fn store(archive: &Archive, camera: &str, pictures: &[Bytes]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    for (batch, pictures) in pictures.chunks(BATCH).enumerate() {
        let frames = pictures.iter().enumerate().map(|(i, jpeg)| Incoming {
            camera: camera.to_owned(),
            captured_at: after(batch * BATCH + i),
            zone: Zone::utc(),
            uncertainty_ms: 0,
            source: "bench".to_owned(),
            jpeg: jpeg.clone(),
            embedding: Some(Embedding { space: SPACE, values: vec![i as f32; DIM] }),
        });
        archive.add(frames.collect())?;
    }
    Ok(pictures.len() as f64 / begun.elapsed().as_secs_f64())
}

fn ingest(archive: &Archive) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let pictures: Vec<Bytes> = (0..PICTURES).map(|_| picture(&mut rng)).collect();
    let bytes: usize = pictures.iter().map(Bytes::len).sum();
    eprintln!("{PICTURES} frames a camera of {} kB, {BATCH} a transaction", bytes / PICTURES / 1000);
    let rate = store(archive, "plaza-1", &pictures)?;
    goal("ingest", ">=200/s", &format!("{rate:.0}/s"), rate >= 200.0);
    let serving = Serving::start()?;
    let ((), alone) = serving.beside(|| {
        std::thread::sleep(ALONE);
        Ok(())
    })?;
    let cameras = ["plaza-2", "plaza-3", "plaza-4"];
    let (rates, beside) =
        serving.beside(|| cameras.iter().map(|camera| store(archive, camera, &pictures)).collect())?;
    serving.stop()?;
    let rates: Vec<f64> = rates;
    let rate = rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>();
    eprintln!(
        "a saturated encoder (demo model) answers {alone:.1} frames a second, and {beside:.1} while frames are stored: \
         {:.2} of it",
        beside / alone
    );
    goal("ingest-beside-serving", ">=200/s", &format!("{rate:.0}/s"), rate >= 200.0);
    anyhow::ensure!(archive.verify(true)?.faults.is_empty(), "the archive is not whole");
    Ok(())
}
