//! Training heads: numbers against scikit-learn, planted models recovered, labels and files refused in words.

use std::path::Path;

use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::heads::ridge::{self, Data};
use dc_encoder::heads::target::Target;
use dc_encoder::heads::{KindChoice, Labels, Options, Rows, TrainError, Trained, save, train};
use protocol::{GridShape, SpaceId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use shared::head::{Head, Input, Task};

mod label_files;

const DAY: Target = Target::Circular { period: 1440.0 };

// ---------------------------------------------------------------------------------------------- numerics

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    circular: bool,
    strength: f64,
    rows: Vec<Vec<f32>>,
    more: Vec<Vec<f32>>,
    values: Vec<f64>,
    weight: Vec<Vec<f64>>,
    bias: Vec<f64>,
    outputs: Vec<Vec<f64>>,
}

#[test]
fn ridge_agrees_with_scikit_learn() {
    let golden: Golden = serde_json::from_str(include_str!("heads/ridge.json")).unwrap();
    assert_eq!(golden.cases.len(), 4);
    for case in golden.cases {
        let rows: Vec<&[f32]> = case.rows.iter().map(Vec::as_slice).collect();
        let target = if case.circular { DAY } else { Target::Scalar { min: Some(0.0) } };
        let fitted = ridge::fit(&Data { rows: &rows, values: &case.values, target }, case.strength).unwrap();
        let close = |got: f64, want: f64, what: &str| {
            assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{}: {what} {got} {want}", case.name);
        };
        for (got, want) in fitted.weight.concat().iter().zip(case.weight.concat()) {
            close(*got, want, "weight");
        }
        for (got, want) in fitted.bias.iter().zip(&case.bias) {
            close(*got, *want, "bias");
        }
        for (row, want) in case.more.iter().zip(&case.outputs) {
            let got = fitted.outputs(row);
            want.iter().zip(got).for_each(|(want, got)| close(got, *want, "output"));
        }
    }
}

pub fn normals(n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..n).map(|_| StandardNormal.sample(rng)).collect()
}

pub fn embeddings(dim: usize, embedding: Vec<f32>) -> EmbeddingsFile {
    let n = embedding.len() / dim;
    EmbeddingsFile {
        space: SpaceId([7; 32]),
        uplink: "v1:960x576:q80:420:pass".into(),
        model: "test".into(),
        ids: (0..n).map(|i| format!("{i:04}.jpg")).collect(),
        captured_at: vec![None; n],
        dim,
        embedding,
        grid: None,
        cells: 1,
        tokens: None,
    }
}

/// Writes labels for frames 0, 1, … and reads them back as a person's file.
pub fn labels(task: Task, values: &[f64]) -> Labels {
    let column = dc_encoder::heads::labels::column(task);
    let mut text = format!("file,{column}\n");
    for (i, value) in values.iter().enumerate() {
        text.push_str(&format!("{i:04}.jpg,{value}\n"));
    }
    read(&text, task).unwrap()
}

pub fn read(text: &str, task: Task) -> Result<Labels, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels");
    std::fs::write(&path, text).unwrap();
    Labels::read(&path, task).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "labels"))
}

pub fn options(task: Task, kind: KindChoice) -> Options {
    Options { kind, name: "test-head".into(), unit: "people".into(), seed: 1, ..Options::new(task) }
}

pub fn rows(text: &str) -> Option<Rows> {
    Some(text.parse().unwrap())
}

pub fn head(trained: &Trained) -> Head {
    let head = Head::from_bytes(&trained.bytes).unwrap();
    head.self_test().unwrap();
    head
}

/// 200 frames of 40 numbers whose count is a linear function of three of them, plus a little noise.
pub fn planted() -> (EmbeddingsFile, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let file = embeddings(40, normals(200 * 40, &mut rng));
    let values = (0..200).map(|i| {
        let x = file.row(i);
        let noise: f64 = StandardNormal.sample(&mut rng);
        f64::from(10.0 + 2.0 * x[3] - 1.0 * x[17] + 0.5 * x[30]) + 0.05 * noise
    });
    let values = values.collect();
    (file, values)
}

#[test]
fn a_planted_linear_model_is_recovered() {
    let (file, values) = planted();
    let labels = labels(Task::Count, &values);
    let options =
        Options { test: rows("120..200"), rows: rows("0..100"), ..options(Task::Count, KindChoice::Linear) };
    let trained = train(&file, &labels, &options).unwrap();
    let head = head(&trained);
    let answer = |x: &[f32]| head.run(&Input { embedding: x, tokens: None }).unwrap().value;
    let zero = answer(&[0.0; 40]);
    assert!((zero - 10.0).abs() < 0.1, "{zero}");
    for (at, want) in [(3, 2.0), (17, -1.0), (30, 0.5), (0, 0.0)] {
        let mut x = [0.0; 40];
        x[at] = 1.0;
        assert!((answer(&x) - zero - want).abs() < 0.1, "number {at}");
    }
    let score = &trained.report.held_out;
    assert!(score.value < 0.1 && score.baseline > 1.0 && score.n == 80, "{score:?}");
    assert!(score.ci95[0] < score.value && score.value < score.ci95[1]);
    assert!(trained.report.better_than_constant());
    // The interval holds what it states on frames nobody trained on: 90 %, give or take.
    let held = (120..200).filter(|i| {
        let embedding = file.row(*i);
        let [low, high] = head.run(&Input { embedding, tokens: None }).unwrap().interval.unwrap();
        (low..=high).contains(&values[*i])
    });
    let held = held.count();
    assert!((62..=80).contains(&held), "{held} of 80");

    let manifest = head.manifest();
    assert_eq!((manifest.trained.frames, manifest.input.dim), (100, 40));
    assert_eq!(manifest.input.space, "07".repeat(32));
    assert_eq!(manifest.uplink, "v1:960x576:q80:420:pass");
    assert_eq!(manifest.held_out.as_ref(), Some(score));
    let text = trained.report.to_string();
    assert!(
        text.contains("people [") && text.contains("on 80 held-out frames; always answering the mean: 1."),
        "{text}"
    );
    // The same labels and seed give the same head.
    assert_eq!(train(&file, &labels, &options).unwrap().bytes, trained.bytes);
}

#[test]
fn pure_noise_is_not_called_better_than_the_mean() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let file = embeddings(60, normals(100 * 60, &mut rng));
    let values: Vec<f64> = (0..100).map(|_| f64::from(rng.random_range(0u8..9))).collect();
    for kind in [KindChoice::Linear, KindChoice::Mlp] {
        let trained = train(&file, &labels(Task::Count, &values), &options(Task::Count, kind)).unwrap();
        let score = &trained.report.held_out;
        assert!(!trained.report.better_than_constant(), "{score:?}");
        // Chosen strength and steps keep a head that learns nothing at the constant answer.
        assert!(score.value < 1.1 * score.baseline, "{score:?}");
        assert!(trained.report.to_string().contains("not shown to be better than the constant answer"));
    }
}

#[test]
fn times_around_midnight_are_learned_across_the_wrap() {
    // One slow night: 22:00 to 02:00, the angle visible in two of ten numbers.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let minutes: Vec<f64> = (0..120).map(|i| (1320.0 + 2.0 * f64::from(i)) % 1440.0).collect();
    let mut numbers = normals(120 * 10, &mut rng);
    for (row, minute) in numbers.chunks_exact_mut(10).zip(&minutes) {
        let (sin, cos) = (minute / 1440.0 * std::f64::consts::TAU).sin_cos();
        row[0] = 5.0 + cos as f32;
        row[1] = sin as f32 - 3.0;
    }
    let file = embeddings(10, numbers);
    for kind in [KindChoice::Linear, KindChoice::Mlp] {
        let trained =
            train(&file, &labels(Task::TimeOfDay, &minutes), &options(Task::TimeOfDay, kind)).unwrap();
        let score = &trained.report.held_out;
        // A line through 0…1440 would be off by hours on one side of midnight.
        let limit = if kind == KindChoice::Linear { 3.0 } else { 25.0 };
        assert!(score.value < limit && score.baseline > 50.0, "{kind:?} {score:?}");
        let head = head(&trained);
        for (i, minute) in minutes.iter().enumerate().step_by(7) {
            let value = head.run(&Input { embedding: file.row(i), tokens: None }).unwrap().value;
            assert!((0.0..1440.0).contains(&value));
            assert!(DAY.residual(*minute, value).abs() < 4.0 * limit, "{minute} {value}");
        }
    }
}

#[test]
fn a_perceptron_learns_what_a_line_cannot() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let file = embeddings(6, normals(300 * 6, &mut rng));
    let values: Vec<f64> = (0..300).map(|i| 3.0 * f64::from(file.row(i)[0].abs())).collect();
    let labels = labels(Task::Count, &values);
    let error = |kind| train(&file, &labels, &options(Task::Count, kind)).unwrap().report.held_out;
    let (linear, mlp) = (error(KindChoice::Linear), error(KindChoice::Mlp));
    assert!(linear.value > 0.9 * linear.baseline, "{linear:?}");
    assert!(mlp.value < 0.5 * mlp.baseline, "{mlp:?}");
}

/// Frames over a 6 × 8 grid of tokens: every token has its own background and noise, and blobs, which count more
/// tokens the lower they stand in the picture, add one direction.
fn blobs(n: usize) -> (EmbeddingsFile, Vec<f64>) {
    let (rows, cols, dim) = (6u32, 8u32, 16usize);
    let tokens = (rows * cols) as usize;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let background = normals(tokens * dim, &mut rng);
    let direction = normals(dim, &mut rng);
    let (mut all, mut embedding, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let mut frame: Vec<f32> = background.iter().map(|b| 5.0 * b).collect();
        let count = rng.random_range(0..7);
        for _ in 0..count {
            let row = rng.random_range(0..rows as usize);
            let col = rng.random_range(0..cols as usize);
            let strength = 0.6 + 0.3 * row as f32;
            let at = (row * cols as usize + col) * dim;
            frame[at..at + dim].iter_mut().zip(&direction).for_each(|(x, d)| *x += strength * d);
        }
        let noise = normals(tokens * dim, &mut rng);
        frame.iter_mut().zip(noise).for_each(|(x, e)| *x += 0.1 * e);
        embedding.extend((0..dim).map(|l| frame.iter().skip(l).step_by(dim).sum::<f32>() / tokens as f32));
        all.extend(frame);
        counts.push(f64::from(count));
    }
    let file = EmbeddingsFile {
        grid: Some(GridShape { rows, cols, dim: dim as u32 }),
        tokens: Some(all),
        ..embeddings(dim, embedding)
    };
    (file, counts)
}

#[test]
fn a_token_head_counts_planted_blobs() {
    let (file, counts) = blobs(220);
    let options =
        Options { rows: rows("0..100"), test: rows("120..220"), ..options(Task::Count, KindChoice::Tokens) };
    let trained = train(&file, &labels(Task::Count, &counts), &options).unwrap();
    let score = &trained.report.held_out;
    assert!(score.value < 0.35 * score.baseline, "{score:?}");
    let head = head(&trained);
    assert!(head.needs_tokens());
    assert!(trained.bytes.len() < 20_000, "{} bytes for 48 tokens of 16", trained.bytes.len());
    // What the training network computes is what the file computes: in-sample errors are no larger than held out.
    let size = 48 * 16;
    let errors: Vec<f64> = (0..100)
        .map(|i| {
            let tokens = Some(&file.tokens.as_ref().unwrap()[i * size..(i + 1) * size]);
            (head.run(&Input { embedding: &[], tokens }).unwrap().value - counts[i]).abs()
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / 100.0;
    assert!(mean < 0.35 * score.baseline, "{mean}");
    assert_eq!(train(&file, &labels(Task::Count, &counts), &options).unwrap().bytes, trained.bytes);

    let without = EmbeddingsFile { tokens: None, grid: None, ..file };
    let error = train(&without, &labels(Task::Count, &counts), &options).unwrap_err().to_string();
    assert!(error.contains("embed again with `--tokens`"), "{error}");
}

#[test]
fn what_cannot_be_trained_says_why() {
    let (file, values) = planted();
    let all = labels(Task::Count, &values);
    let base = options(Task::Count, KindChoice::Linear);
    let refusal = |file: &EmbeddingsFile, labels: &Labels, options: &Options| {
        train(file, labels, options).unwrap_err().to_string()
    };
    let with = |rows: Option<Rows>, test: Option<Rows>| Options { rows, test, ..base.clone() };
    assert_eq!(
        refusal(&file, &all, &with(rows("0..9"), None)),
        "9 labelled frames are too few to train and cross-validate a head: label at least 10"
    );
    assert_eq!(
        refusal(&file, &all, &with(rows("0..50"), rows("50..53"))),
        "3 labelled frames are too few to score a head on (--test): label at least 10"
    );
    assert!(
        refusal(&file, &all, &with(rows("0..201"), None)).starts_with("--rows 0..201 asks for rows beyond")
    );
    assert!(refusal(&file, &all, &with(rows("0..9"), rows("190..900"))).starts_with("--test 190..900 asks"));
    assert!(refusal(&file, &all, &with(rows("0..50"), rows("49..90"))).contains("overlap"));
    assert!(
        refusal(&file, &all, &with(None, rows("49..90"))).contains("--rows 0..200 and --test 49..90 overlap")
    );
    assert_eq!(
        refusal(&file, &labels(Task::Count, &[4.0; 20]), &base),
        "all 20 labels are 4: there is nothing to learn from them; label frames that differ"
    );
    let mut text = "file,count\nday2/0001.jpg,1\nnever.jpg,2\n".to_owned();
    text.extend((2..12).map(|i| format!("{i:04}.jpg,{i}\n")));
    let error = train(&file, &read(&text, Task::Count).unwrap(), &base).unwrap_err();
    assert!(
        matches!(&error, TrainError::NotEmbedded { file, line: 3, .. } if file == "never.jpg"),
        "{error}"
    );
    // Rows that are not used need no embedding.
    let mut more = values;
    more.push(3.0);
    assert!(train(&file, &labels(Task::Count, &more), &with(rows("0..100"), None)).is_ok());

    let mut broken = file;
    broken.embedding[40 * 5] = f32::NAN;
    assert!(refusal(&broken, &all, &base).starts_with("the embedding of frame `0005.jpg` is not finite"));
}

#[test]
fn a_head_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("count.head");
    save(&path, b"old").unwrap();
    save(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    // A folder in the way: the error names the file, and no temporary file is left.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let error = save(&taken, b"x").unwrap_err().to_string();
    assert!(error.contains("taken"), "{error}");
    assert!(save(&folder.path().join("none/count.head"), b"x").is_err());
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["count.head", "taken"]);
}
