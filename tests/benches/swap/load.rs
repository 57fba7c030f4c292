//! Swap after swap under load, on the real agent: every frame's answer is checked.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fixtures::{ALWAYS, Leaf};
use shared::image::{Chroma, Rgb, jpeg};
use shared::release::ReleaseId;
use tests::answers::{Line, quantile};
use tests::goals::goal;
use tests::process::Running;

use crate::shop::{Shop, head};

/// Releases that take turns: a box keeps two, so each is fetched again, and a step back shows.
const RELEASES: usize = 8;
/// What the stand-in takes for a frame: 200 frames a second.
const ENCODE: Duration = Duration::from_millis(5);
/// Pictures for half an hour of that.
const PICTURES: usize = 400_000;
/// Swaps between two quiet stretches, which last as long.
const STRETCH: usize = 100;
/// The agent's memory is first looked at after this part of the swaps.
const WARM: usize = 10;
/// Growth that is noise: the allocator's whims, as in `make soak`.
const NOISE_BYTES: f64 = 2e6;
const PATIENCE: Duration = Duration::from_secs(60);
const CAMERA: &str = "plaza-1";

pub(crate) async fn run(swaps: usize) -> anyhow::Result<()> {
    let shop = Shop::open(ENCODE).await?;
    let mut releases = Vec::new();
    for number in 0..RELEASES {
        releases.push(shop.keep(&head(u16::try_from(number)?)).await?);
    }
    let mut agent = start(&shop)?;
    let swapping = Arc::new(AtomicBool::new(true));
    let mut reader = Reader::new(&releases, Arc::clone(&swapping));
    let stdout = agent.stdout().context("the agent's output is piped")?;
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            reader.take(&Line::parse(&line?)?);
        }
        Ok::<_, anyhow::Error>(reader)
    });

    let mut memory = Vec::new();
    for swap in 0..swaps {
        let start = Instant::now();
        let release = releases[swap % RELEASES];
        shop.give(swap as u64 + 1, release).await?;
        while shop.reported(CAMERA)? != Some(release) {
            ensure!(start.elapsed() < PATIENCE, "swap {swap} did not come:\n{}", agent.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if swap % STRETCH == STRETCH - 1 {
            memory.push(agent.resident_bytes()? as f64);
            quiet(&swapping, start.elapsed() * u32::try_from(STRETCH)?).await;
        }
    }
    agent.stop(PATIENCE)?;
    let Ok(read) = reading.join() else { bail!("reading the answers failed") };
    report(swaps, &read?, &memory)
}

/// A stretch without swaps, to compare with.
async fn quiet(swapping: &AtomicBool, time: Duration) {
    swapping.store(false, Ordering::Relaxed);
    tokio::time::sleep(time.min(Duration::from_secs(10))).await;
    swapping.store(true, Ordering::Relaxed);
}

fn start(shop: &Shop) -> anyhow::Result<Running> {
    let identity = shop.authority.issue(&Leaf::camera(CAMERA, 1, ALWAYS));
    let list = pictures(shop)?;
    let shown = |path: PathBuf| path.display().to_string();
    let args = [
        ("--server", shop.address().to_string()),
        ("--camera", CAMERA.to_owned()),
        ("--source", format!("list:{}", list.display())),
        ("--identity", shown(identity)),
        ("--heads-dir", shown(shop.dir.path().join("store"))),
        ("--release-root", shown(shop.root())),
        ("--format", "json".to_owned()),
        ("--log", "warn".to_owned()),
    ];
    let args = args.into_iter().flat_map(|(key, value)| [key.to_owned(), value]);
    let args = std::iter::once("run".to_owned()).chain(args);
    Running::start("edge-agent", args, &shop.dir.path().join("agent.log"))
}

/// A list of many names for one picture: a list names each file once.
fn pictures(shop: &Shop) -> anyhow::Result<PathBuf> {
    let dir = shop.dir.path();
    std::fs::write(dir.join("frame.jpg"), jpeg::encode(&Rgb::filled(64, 32, [90; 3]), 90, Chroma::C420))?;
    // Folders that are links to one folder: a name for each, and no file.
    let (folders, inside) = (PICTURES / 1000, dir.join("pictures"));
    std::fs::create_dir(&inside)?;
    (0..1000).try_for_each(|i| symlink(dir.join("frame.jpg"), inside.join(format!("{i}.jpg"))))?;
    (0..folders).try_for_each(|i| symlink(&inside, dir.join(format!("f{i}"))))?;
    let names = (0..folders).flat_map(|folder| (0..1000).map(move |i| format!("f{folder}/{i}.jpg\n")));
    let list = dir.join("frames.txt");
    std::fs::write(&list, names.collect::<String>())?;
    Ok(list)
}

/// What became of the frames.
struct Reader {
    numbers: HashMap<String, usize>,
    swapping: Arc<AtomicBool>,
    /// Frame that must come next: the agent writes them in order.
    next: u64,
    last: Option<usize>,
    answers: usize,
    lost: usize,
    doubled: usize,
    wrong: usize,
    ages: [Vec<f64>; 2],
}

impl Reader {
    fn new(releases: &[ReleaseId], swapping: Arc<AtomicBool>) -> Self {
        let numbers = releases.iter().enumerate().map(|(number, release)| (release.short(), number));
        Self {
            numbers: numbers.collect(),
            swapping,
            next: 0,
            last: None,
            answers: 0,
            lost: 0,
            doubled: 0,
            wrong: 0,
            ages: [Vec::new(), Vec::new()],
        }
    }

    fn take(&mut self, line: &Line) {
        // Frames before the first release have no head to answer them; those after the end are not asked for.
        let (Some(release), true) = (&line.release, line.stale != Some(true)) else {
            self.lost += usize::from(line.error.is_some());
            return;
        };
        if self.answers > 0 {
            self.lost += usize::try_from(line.seq.saturating_sub(self.next)).unwrap_or(usize::MAX);
            self.doubled += usize::from(line.seq < self.next);
        }
        self.next = line.seq + 1;
        self.answers += 1;
        let number = self.numbers.get(release).copied();
        // What a release answers is its number, and releases follow one another.
        let fits = number.is_some_and(|number| line.value == Some(number as f64));
        let step = number.zip(self.last).map_or(0, |(now, before)| (now + RELEASES - before) % RELEASES);
        self.wrong += usize::from(!fits || step > RELEASES / 2);
        self.last = number.or(self.last);
        if let Some(age) = line.age_ms {
            self.ages[usize::from(self.swapping.load(Ordering::Relaxed))].push(age);
        }
    }
}

fn report(swaps: usize, read: &Reader, memory: &[f64]) -> anyhow::Result<()> {
    let Reader { answers, lost, doubled, wrong, ages, .. } = read;
    let what = format!("frames-lost-doubled-wrong-over-{swaps}-swaps");
    let measured = format!("{lost}+{doubled}+{wrong} of {answers}");
    goal(&what, "0", &measured, lost + doubled + wrong == 0 && *answers > swaps);

    let middle =
        |part: &[f64]| quantile(part, 0.5).context("too few swaps to see memory: SWAPS=1000 or more");
    let tenth = (memory.len() / WARM).max(1);
    let early = middle(memory.get(tenth..2 * tenth).unwrap_or_default())?;
    let late = middle(&memory[memory.len() - tenth..])?;
    let measured = format!("{:+.2}MB ({:.2}MB to {:.2}MB)", (late - early) / 1e6, early / 1e6, late / 1e6);
    let what = format!("agent-memory-growth-over-{swaps}-swaps");
    goal(&what, "<=2MB", &measured, late - early <= NOISE_BYTES);

    let [without, during] = ages;
    let p99 = |ages: &[f64]| quantile(ages, 0.99).context("no frames to compare");
    let (without, during) = (p99(without)?, p99(during)?);
    let measured = format!("{:.2}x ({during:.1}ms against {without:.1}ms)", during / without);
    goal("frame-p99-during-swaps", "<=1.1x", &measured, during <= 1.1 * without);
    Ok(())
}
