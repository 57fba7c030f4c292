//! Kinds of heads: each learns what it is for from planted scenes, and `auto` finds the one that fits.

use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::heads::{KindChoice, Options, TrainError, Trained, train};
use protocol::GridShape;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shared::head::{Grid, Head, Input, Kind, Task};

use super::heads::{embeddings, head, labels, normals, options, planted, rows};

/// Latent tokens of 2 × 3 patches, each two maps of 3 × 3 cells: maps of 6 × 9.
const GRID: Grid = Grid { rows: 2, cols: 3, dim: 18, cells: 3 };
const MAPS: usize = 2;
const ROWS: usize = 6;
const COLS: usize = 9;

/// A file of frames given as maps `[2, 6, 9]`; the embedding is each map's mean and nothing more.
fn file_of(frames: &[Vec<f32>]) -> EmbeddingsFile {
    let mut tokens = Vec::new();
    for maps in frames {
        for token in 0..GRID.tokens() {
            let (top, left) = (token / 3 * 3, token % 3 * 3);
            for map in 0..MAPS {
                for cell in 0..9 {
                    tokens.push(maps[(map * ROWS + top + cell / 3) * COLS + left + cell % 3]);
                }
            }
        }
    }
    let means = frames.iter().flat_map(|maps| {
        maps.chunks_exact(ROWS * COLS).map(|map| map.iter().sum::<f32>() / map.len() as f32)
    });
    EmbeddingsFile {
        grid: Some(GridShape { rows: GRID.rows, cols: GRID.cols, dim: GRID.dim }),
        cells: GRID.cells,
        tokens: Some(tokens),
        ..embeddings(MAPS, means.collect())
    }
}

fn answer(head: &Head, file: &EmbeddingsFile, frame: usize) -> f64 {
    head.run(&Input { embedding: file.row(frame), tokens: file.token_row(frame) }).unwrap().value
}

fn fit(file: &EmbeddingsFile, values: &[f64], options: &Options) -> Trained {
    train(file, &labels(options.task, values), options).unwrap()
}

// ------------------------------------------------------------------------------------------------- trees

/// Days under changing skies: where a shadow's edge falls says the time, and the light over all changes from day to
/// day by far more.
fn days(frames_a_day: usize) -> (EmbeddingsFile, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut frames, mut minutes) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let light: f32 = rng.random_range(-3.0..3.0);
        for step in 0..frames_a_day {
            let share = step as f64 / frames_a_day as f64;
            let edge = (share * COLS as f64) as usize;
            let mut maps = normals(MAPS * ROWS * COLS, &mut rng);
            for (at, x) in maps.iter_mut().enumerate() {
                *x = 0.1 * *x + light + if at % COLS < edge { 1.0 } else { 0.0 };
            }
            frames.push(maps);
            minutes.push(360.0 + 720.0 * share);
        }
    }
    (file_of(&frames), minutes)
}

#[test]
fn trees_tell_the_time_from_shadows_under_any_light() {
    let (file, minutes) = days(18);
    let options =
        Options { rows: rows("0..72"), test: rows("90..108"), ..options(Task::TimeOfDay, KindChoice::Trees) };
    let trained = fit(&file, &minutes, &options);
    // The shadow moves by one place every 80 minutes, so 20 is what a place tells on average.
    let score = &trained.report.held_out;
    assert!(score.value < 30.0 && score.baseline > 150.0, "{score:?}");
    let head = head(&trained);
    assert_eq!(head.manifest().input.grid, Some(GRID));
    assert!(matches!(head.manifest().kind, Kind::Trees(trees) if trees.scales == 3));
    assert!((answer(&head, &file, 95) - minutes[95]).abs() < 60.0);
    // What the embedding keeps, the light, tells a line nothing.
    let linear = fit(&file, &minutes, &Options { kind: KindChoice::Linear, ..options });
    assert!(linear.report.held_out.value > 100.0, "{:?}", linear.report.held_out);
}

#[test]
fn a_forest_is_the_same_on_any_number_of_threads() {
    let (file, minutes) = days(4);
    let options = options(Task::TimeOfDay, KindChoice::Trees);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(&file, &minutes, &options).bytes)
    };
    let one = on(1);
    assert_eq!(one, on(3));
    assert_ne!(one, fit(&file, &minutes, &Options { seed: 2, ..options.clone() }).bytes);
}

#[test]
fn trees_learn_a_step_from_the_embedding_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let file = embeddings(8, normals(80 * 8, &mut rng));
    let values: Vec<f64> = (0..80).map(|i| if file.row(i)[5] > 0.3 { 4.0 } else { -4.0 }).collect();
    let trained = fit(&file, &values, &options(Task::Scalar, KindChoice::Trees));
    let score = &trained.report.held_out;
    assert!(score.value < 0.4 * score.baseline, "{score:?}");
    assert!(!head(&trained).needs_tokens());
    // A scalar, unlike a count, may be negative.
    assert!((0..80).any(|i| answer(&head(&trained), &file, i) < -3.0));
}

// -------------------------------------------------------------------------------------------- departures

/// A plaza from a fixed camera: flicker everywhere, and people who cover more places the lower they stand. The crowd
/// moves down after half the frames.
fn plaza(n: usize) -> (EmbeddingsFile, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let background = normals(MAPS * ROWS * COLS, &mut rng);
    let (mut frames, mut counts) = (Vec::new(), Vec::new());
    for frame in 0..n {
        let noise = normals(MAPS * ROWS * COLS, &mut rng);
        let mut maps: Vec<f32> = background.iter().zip(noise).map(|(b, e)| 2.0 * b + 0.02 * e).collect();
        let count = rng.random_range(0..5);
        // Places a person covers, by row: about (row + 0.5 + 0.3)² in sixths.
        for _ in 0..count {
            let row = if frame < n / 2 { rng.random_range(1..4) } else { rng.random_range(2..6) };
            let covered = [1, 1, 1, 2, 3, 4][row];
            let col = rng.random_range(0..=COLS - covered);
            for map in 0..MAPS {
                let at = (map * ROWS + row) * COLS + col;
                maps[at..at + covered].iter_mut().for_each(|x| *x = background[at % 7] + 3.0);
            }
        }
        frames.push(maps);
        counts.push(f64::from(count));
    }
    (file_of(&frames), counts)
}

#[test]
fn departures_count_people_from_ten_labels() {
    let (file, counts) = plaza(240);
    let options = Options {
        rows: rows("0..12"),
        test: rows("140..240"),
        ..options(Task::Count, KindChoice::Departures)
    };
    let trained = fit(&file, &counts, &options);
    let score = &trained.report.held_out;
    assert!(score.value < 0.6 * score.baseline, "{score:?}");
    let head = head(&trained);
    assert!(matches!(head.manifest().kind, Kind::Departures) && head.needs_tokens());
    assert!(trained.bytes.len() < 6_000, "{} bytes", trained.bytes.len());
    assert_eq!(fit(&file, &counts, &options).bytes, trained.bytes);
}

#[test]
fn the_background_does_not_look_at_frames_it_is_scored_on() {
    let (file, counts) = plaza(120);
    let options = Options {
        rows: rows("0..40"),
        test: rows("80..120"),
        ..options(Task::Count, KindChoice::Departures)
    };
    let trained = fit(&file, &counts, &options);
    let mut other = file.clone();
    let size = GRID.tokens() * GRID.dim as usize;
    other.tokens.as_mut().unwrap()[80 * size..].iter_mut().for_each(|x| *x = 50.0);
    // All of the head but its score, and what is hashed with it, stays the same.
    let on = |trained: &Trained, frame| answer(&head(trained), &file, frame);
    let changed = fit(&other, &counts, &options);
    assert!((0..120).all(|frame| on(&trained, frame) == on(&changed, frame)));
    // The pool narrows what may be looked at further.
    let pool = Some((0..40).collect());
    let narrow = fit(&file, &counts, &Options { pool, ..options.clone() });
    assert!(narrow.report.choice.contains("the median of 40 frames"), "{}", narrow.report.choice);
    assert!(trained.report.choice.contains("the median of 80 frames"), "{}", trained.report.choice);
}

#[test]
fn what_departures_cannot_do_is_said() {
    let (file, counts) = plaza(40);
    let on = |file: &EmbeddingsFile, task, values: &[f64]| {
        train(file, &labels(task, values), &options(task, KindChoice::Departures)).unwrap_err()
    };
    let error = on(&file, Task::TimeOfDay, &counts).to_string();
    assert!(error.contains("--kind departures answers with one number, which is no time of day"), "{error}");
    let without = EmbeddingsFile { tokens: None, grid: None, ..file.clone() };
    let error = on(&without, Task::Count, &counts).to_string();
    assert!(error.starts_with("--kind departures reads the latent-token grid"), "{error}");
    let mut still = file.clone();
    still.tokens.as_mut().unwrap().iter_mut().for_each(|x| *x = 1.0);
    assert!(matches!(on(&still, Task::Count, &counts), TrainError::NothingDeparts { frames: 40 }));
    let mut broken = file;
    broken.tokens.as_mut().unwrap()[7 * 108] = f32::NAN;
    let error = on(&broken, Task::Count, &counts).to_string();
    assert!(error.starts_with("the embedding of frame `0007.jpg` is not finite"), "{error}");
}

// ------------------------------------------------------------------------------------------------ kernel

#[test]
fn a_kernel_head_learns_a_curve_and_knows_what_it_does_not_know() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let numbers: Vec<f32> = (0..160 * 2).map(|_| rng.random_range(-2.0..2.0)).collect();
    let file = embeddings(2, numbers);
    let noise = normals(160, &mut rng);
    let values: Vec<f64> = (0..160)
        .map(|i| f64::from((2.0 * file.row(i)[0]).sin() * 3.0 + file.row(i)[1].powi(2) + 0.1 * noise[i]))
        .collect();
    let options =
        Options { rows: rows("0..100"), test: rows("100..160"), ..options(Task::Scalar, KindChoice::Kernel) };
    let trained = fit(&file, &values, &options);
    let score = &trained.report.held_out;
    assert!(score.value < 0.2 * score.baseline, "{score:?}");
    let head = head(&trained);
    let interval = |embedding: &[f32]| {
        let [low, high] = head.run(&Input { embedding, tokens: None }).unwrap().interval.unwrap();
        (low, high)
    };
    let held = (100..160).filter(|i| {
        let (low, high) = interval(file.row(*i));
        (low..=high).contains(&values[*i])
    });
    let held = held.count();
    assert!((45..=60).contains(&held), "{held} of 60 in a 90 % interval");
    let width = |(low, high): (f64, f64)| high - low;
    assert!(width(interval(&[40.0, -40.0])) > 3.0 * width(interval(&[0.0, 0.0])));
    assert_eq!(fit(&file, &values, &options).bytes, trained.bytes);
}

// -------------------------------------------------------------------------------------------------- auto

#[test]
fn auto_takes_the_kind_that_fits_and_says_what_it_tried() {
    let chosen = |file: &EmbeddingsFile, task, values: &[f64]| {
        let trained = fit(file, values, &options(task, KindChoice::Auto));
        let one = fit(file, values, &options(task, trained.report.kind));
        assert_eq!(one.bytes, trained.bytes, "the choice adds nothing to the head");
        trained.report
    };
    let (file, counts) = plaza(60);
    let report = chosen(&file, Task::Count, &counts);
    assert_eq!(report.kind, KindChoice::Departures, "{report}");
    let text = report.to_string();
    for line in ["simplest first:\n  departures MAE 0.", "\n  linear     MAE ", "\n  trees      MAE "] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(text.matches("← chosen").count(), 1, "{text}");

    let (file, values) = planted();
    let report = chosen(&file, Task::Scalar, &values[..60]);
    assert_eq!(report.kind, KindChoice::Linear, "{report}");
    assert!(!report.to_string().contains("departures"));
}

#[test]
fn auto_goes_on_without_a_background() {
    // Nothing moves in the grid; the embedding says the count.
    let (mut file, values) = planted();
    let n = file.len();
    file.grid = Some(GridShape { rows: 1, cols: 2, dim: 1 });
    file.tokens = Some(vec![1.0; 2 * n]);
    let trained = fit(&file, &values[..40], &options(Task::Count, KindChoice::Auto));
    assert_eq!(trained.report.kind, KindChoice::Linear);
    assert!(trained.report.to_string().contains("nothing departs from the background"), "{}", trained.report);
}
