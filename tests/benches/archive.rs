//! The archive's goals: `make bench-archive`.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use dc_encoder::archive::{Archive, Embedding, FrameId, Incoming, Query, Record, Zone};
use dc_encoder::suggest::{self, Options, Scaled};
use jiff::{SignedDuration, Timestamp};
use protocol::SpaceId;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shared::image::{Chroma, Rgb, jpeg};
use tests::goals::goal;

/// Frames of the synthetic index, and its cameras.
const FRAMES: usize = 1_000_000;
const CAMERAS: usize = 10;
/// Frames with embeddings, and their numbers.
const EMBEDDED: usize = 100_000;
const DIM: usize = 512;
/// Frames that are stored, and in one transaction.
const STORED: usize = 1500;
const BATCH: usize = 32;
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

fn ingest(archive: &Archive) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let pictures: Vec<Bytes> = (0..STORED).map(|_| picture(&mut rng)).collect();
    let bytes: usize = pictures.iter().map(Bytes::len).sum();
    let begun = Instant::now();
    for (batch, pictures) in pictures.chunks(BATCH).enumerate() {
        let frames = pictures.iter().enumerate().map(|(i, jpeg)| Incoming {
            camera: "plaza-1".to_owned(),
            captured_at: after(batch * BATCH + i),
            zone: Zone::utc(),
            uncertainty_ms: 0,
            source: "bench".to_owned(),
            jpeg: jpeg.clone(),
            embedding: Some(Embedding { space: SPACE, values: vec![i as f32; DIM] }),
        });
        archive.add(frames.collect())?;
    }
    let rate = STORED as f64 / begun.elapsed().as_secs_f64();
    eprintln!("{STORED} frames of {} kB, {BATCH} a transaction", bytes / STORED / 1000);
    goal("ingest", ">=200/s", &format!("{rate:.0}/s"), rate >= 200.0);
    anyhow::ensure!(archive.verify(true)?.faults.is_empty(), "the archive is not whole");
    Ok(())
}
