//! What suggested labels are worth beside random ones: `make bench-suggest DATA=DIR`.
//!
//! Five times, four fifths of the pool are drawn; of these, as many frames are suggested as are drawn at random, a head is
//! trained on each lot, and both answer the later frames. The interval resamples draws and blocks of time. A head that has
//! all labels of the pool says how much there is to gain by choosing.
#![allow(missing_docs)]

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum as _;
use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::evaluate::Folder;
use dc_encoder::heads::join::locate;
use dc_encoder::heads::{KindChoice, Options, train};
use dc_encoder::suggest::{self, Scaled};
use rand::seq::index;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shared::head::{Head, Input};
use tests::goals::goal;

/// Labels, draws, resamplings, and rows of a block of time.
const LABELS: usize = 30;
const DRAWS: u64 = 5;
const RESAMPLED: usize = 2000;
const BLOCK: usize = 10;

/// Error of suggested labels as a share of that of random ones.
const GOAL: f64 = 0.85;

fn main() -> anyhow::Result<()> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let data = from("DATA").context("say DATA=DIR: a folder with labels, split.toml and frames")?;
    let embeddings = EmbeddingsFile::open(&from("EMBEDDINGS").context("say EMBEDDINGS=FILE")?)?;
    let folder = Folder::open(&data)?;
    let places = locate(&folder.labels.rows, &embeddings.ids)?;
    let pool: Vec<usize> = folder.split.pool.clone().collect();
    let (mut random, mut suggested, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for draw in 0..DRAWS {
        let mut rng = ChaCha8Rng::seed_from_u64(draw);
        let mut some = index::sample(&mut rng, pool.len(), pool.len() * 4 / 5).into_vec();
        some.sort_unstable();
        let some: Vec<usize> = some.into_iter().map(|at| pool[at]).collect();
        let mut drawn = index::sample(&mut rng, some.len(), LABELS.min(some.len())).into_vec();
        drawn.sort_unstable();
        let drawn: Vec<usize> = drawn.into_iter().map(|at| some[at]).collect();
        let values: Vec<f32> = some.iter().flat_map(|row| embeddings.row(places[*row])).copied().collect();
        let options = suggest::Options { n: LABELS, ..suggest_options() };
        let picks = suggest::choose(&Scaled::new(&values, embeddings.dim), &[], &[], options);
        let mut chosen: Vec<usize> = picks.iter().map(|pick| some[pick.row]).collect();
        chosen.sort_unstable();
        let errors = |rows: &[usize]| errors(&folder, &embeddings, &places, (&pool, rows));
        all.push(errors(&some)?);
        random.push(errors(&drawn)?);
        suggested.push(errors(&chosen)?);
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        println!(
            "draw {draw}: {LABELS} random {:.3}, {} suggested {:.3}, all {} {:.3}",
            mean(&random[draw as usize]),
            chosen.len(),
            mean(&suggested[draw as usize]),
            some.len(),
            mean(&all[draw as usize])
        );
    }
    let (least, low, high) = ratio(&all, &random);
    println!("{}: all / random = {least:.3} [{low:.3}, {high:.3}], 95 %", folder.name);
    let (ratio, low, high) = ratio(&suggested, &random);
    println!("{}: suggested / random = {ratio:.3} [{low:.3}, {high:.3}], 95 %", folder.name);
    goal("suggested-error/random", &format!("<={GOAL}x"), &format!("{ratio:.3}x"), ratio <= GOAL);
    Ok(())
}

/// `ROUNDS=0` measures farthest-first alone.
fn suggest_options() -> suggest::Options {
    let default = suggest::Options::default();
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    suggest::Options { rounds: rounds.unwrap_or(default.rounds), ..default }
}

/// Absolute errors on the test rows of a head that was trained on these rows of the pool.
fn errors(
    folder: &Folder,
    embeddings: &EmbeddingsFile,
    places: &[usize],
    (pool, rows): (&[usize], &[usize]),
) -> anyhow::Result<Vec<f64>> {
    let kind = match std::env::var("KIND") {
        Ok(name) => KindChoice::from_str(&name, true).map_err(anyhow::Error::msg)?,
        Err(_) => KindChoice::Auto,
    };
    let options = Options { kind, ..Options::new(folder.split.task) };
    let frames: Vec<usize> = pool.iter().map(|row| places[*row]).collect();
    let trained = train(&embeddings.select(&frames), &folder.labels_of(rows), &options)?;
    let head = Head::from_bytes(&trained.bytes)?;
    let error = |row: usize| {
        let frame = places[row];
        let input = Input { embedding: embeddings.row(frame), tokens: embeddings.token_row(frame) };
        let answer = head.run(&input)?.value;
        Ok(folder.target.residual(folder.truth(row), answer).abs())
    };
    folder.split.test.clone().map(error).collect()
}

/// Ratio of the mean errors, and where 95 % of resampled ones lie.
fn ratio(a: &[Vec<f64>], b: &[Vec<f64>]) -> (f64, f64, f64) {
    let rows = a[0].len();
    let blocks = rows.div_ceil(BLOCK);
    let all: Vec<usize> = (0..rows).collect();
    let of = |draws: &[usize], rows: &[usize]| {
        let sum =
            |errors: &[Vec<f64>]| draws.iter().flat_map(|d| rows.iter().map(|r| errors[*d][*r])).sum::<f64>();
        sum(a) / sum(b).max(f64::MIN_POSITIVE)
    };
    let every: Vec<usize> = (0..a.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut resampled: Vec<f64> = (0..RESAMPLED)
        .map(|_| {
            let draws: Vec<usize> = every.iter().map(|_| rng.random_range(0..every.len())).collect();
            let rows: Vec<usize> = (0..blocks)
                .flat_map(|_| {
                    let block = rng.random_range(0..blocks);
                    block * BLOCK..((block + 1) * BLOCK).min(rows)
                })
                .collect();
            of(&draws, &rows)
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let at = |share: f64| resampled[((RESAMPLED - 1) as f64 * share) as usize];
    (of(&every, &all), at(0.025), at(0.975))
}
