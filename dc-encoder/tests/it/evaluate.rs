//! Evaluations: a planted signal is found and called better, noise is not, and nothing leaks from the test.

use std::path::Path;

use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::evaluate::ablate::{self, ablate};
use dc_encoder::evaluate::compare::compare;
use dc_encoder::evaluate::draw::Protocol;
use dc_encoder::evaluate::{Bench, EvalError, Evaluation, Folder, Plan, Style, sheet};
use dc_encoder::heads::{KindChoice, Labels, Options, train};
use protocol::SpaceId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use shared::head::{Head, Task};
use shared::image::{Chroma, Rgb, jpeg};
use tempfile::TempDir;

const FRAMES: usize = 90;
const DIM: usize = 12;

/// Grey frames that show nothing, a split of them, and labels.
fn folder(task: &str, values: &[f64]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let column = if task == "count" { "count" } else { "minute_of_day" };
    let mut labels = format!("file,{column}\n");
    std::fs::create_dir(dir.path().join("frames")).unwrap();
    let grey = jpeg::encode(&Rgb::filled(64, 48, [90; 3]), 90, Chroma::C420);
    for (i, value) in values.iter().enumerate() {
        labels.push_str(&format!("frames/{i:03}.jpg,{value}\n"));
        std::fs::write(dir.path().join(format!("frames/{i:03}.jpg")), &grey).unwrap();
    }
    std::fs::write(dir.path().join("labels.csv"), labels).unwrap();
    let split = format!("task = \"{task}\"\npool = [0, 50]\ntest = [55, {}]\n", values.len());
    std::fs::write(dir.path().join("split.toml"), split).unwrap();
    dir
}

fn counts() -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    (0..FRAMES).map(|_| f64::from(rng.random_range(0u8..9))).collect()
}

/// Embeddings of noise; with `signal`, a third of each number's variance is the count.
fn embeddings(values: &[f64], signal: bool) -> EmbeddingsFile {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let embedding = values.iter().flat_map(|value| {
        let noise: [f32; DIM] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
        let along = if signal { *value as f32 } else { 0.0 };
        noise.map(|noise| 0.3 * noise + along)
    });
    EmbeddingsFile {
        space: SpaceId([9; 32]),
        uplink: "v1:960x576:q80:420:pass".into(),
        model: "test".into(),
        embedding: embedding.collect(),
        ids: (0..values.len()).map(|i| format!("frames/{i:03}.jpg")).collect(),
        captured_at: vec![None; values.len()],
        dim: DIM,
        grid: None,
        cells: 1,
        tokens: None,
    }
}

fn bench(dir: &Path, embeddings: &EmbeddingsFile) -> Result<Bench, EvalError> {
    Bench::new(Folder::open(dir)?, embeddings.clone())
}

fn plan() -> Plan {
    Plan {
        kinds: vec![KindChoice::Linear],
        labels: vec![10, 30, 300],
        draws: 3,
        seed: 1,
        random_split: true,
        deadline: None,
    }
}

fn measure(bench: &Bench, plan: &Plan) -> Evaluation {
    Evaluation::measure(bench, plan, &mut |_| ()).unwrap()
}

#[test]
fn a_planted_signal_is_called_better_and_noise_is_not() {
    let values = counts();
    let dir = folder("count", &values);
    let bench_ = bench(dir.path(), &embeddings(&values, true)).unwrap();
    let good = measure(&bench_, &plan());
    let curve = &good.curves[0];
    assert_eq!((curve.labels.as_slice(), curve.pool, curve.test.len()), (&[10, 30, 50][..], 50, 35));
    let head = curve.heads().next().unwrap();
    assert!(head.scores[2].mean.value < 0.3, "{:?}", head.scores[2].mean);
    assert_eq!([0, 1, 2].map(|at| head.scores[at].errors.len()), [3, 3, 1], "the whole pool is drawn once");
    assert!(good.verdicts.iter().all(|verdict| verdict.better()));
    assert!(good.goals[0].met() && good.goals[1].measured.is_none(), "{:?}", good.goals);
    assert_eq!(good.curves[1].protocol, Protocol::RandomSplit);
    let text = good.render(Style::Text);
    for part in ["head, linear", "constant", "3 nearest", "OPTIMISTIC", "better than the best baseline", "µs"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(good.render(Style::Markdown).contains("| head, linear | 0."));
    assert!(good.summary().contains("from 50 labels: 0.") && good.summary().contains("1 of 2 goals met"));
    let json = serde_json::to_value(&good).unwrap();
    assert!(json["curves"][0]["methods"][0]["scores"][0]["mean"]["ci95"][0].is_number());

    let path = dir.path().join("worst.png");
    let written = sheet::write(&path, &bench_, curve).unwrap();
    let of = written.iter().map(|sheet| (sheet.labels, sheet.head.as_str()));
    assert!(of.eq([(10, "head, linear"), (30, "head, linear"), (50, "head, linear")]), "{written:?}");
    assert_eq!(written[1].path, dir.path().join("worst-30.png"));
    let picture = shared::image::load(&written[1].path, &shared::image::Limits::default()).unwrap();
    assert!(picture.width > 1200 && picture.data.contains(&255), "captions are white");

    let bad = measure(&bench(dir.path(), &embeddings(&values, false)).unwrap(), &plan());
    assert!(bad.verdicts.iter().all(|verdict| !verdict.better()));
    let line = bad.verdicts[2].to_string();
    assert!(line.contains("not yet"), "{line}");
    assert!(bad.render(Style::Text).contains("label more frames like frames/"));
    assert!(!bad.goals[0].met() && bad.goals[0].to_string().contains("missed by"), "{}", bad.goals[0]);
}

#[test]
fn test_frames_teach_nothing() {
    let values = counts();
    let dir = folder("count", &values);
    let file = embeddings(&values, true);
    // Other frames, and other labels, in half of the test: the answers for the other half stay as they were.
    let mut other = file.clone();
    other.embedding[75 * DIM..].iter_mut().for_each(|x| *x = 40.0 - 7.0 * *x);
    let changed: Vec<f64> = values.iter().enumerate().map(|(i, v)| if i < 75 { *v } else { 100.0 }).collect();
    let elsewhere = folder("count", &changed);
    let plan = Plan {
        kinds: vec![KindChoice::Linear, KindChoice::Mlp],
        random_split: false,
        labels: vec![30],
        ..plan()
    };
    let [a, b] = [(dir.path(), &file), (elsewhere.path(), &other)]
        .map(|(dir, file)| measure(&bench(dir, file).unwrap(), &plan));
    for (a, b) in a.curves[0].methods.iter().zip(&b.curves[0].methods) {
        assert_eq!(a.scores[0].answers[..20], b.scores[0].answers[..20], "{}", a.name);
    }
    assert_ne!(
        a.curves[0].methods[0].scores[0].answers[20..],
        b.curves[0].methods[0].scores[0].answers[20..]
    );
}

#[test]
fn the_time_of_day_has_medians_and_hours() {
    let values: Vec<f64> = (0..FRAMES).map(|i| (i * 97 % 1440) as f64).collect();
    let dir = folder("time-of-day", &values);
    let evaluation = measure(&bench(dir.path(), &embeddings(&values, false)).unwrap(), &plan());
    let score = &evaluation.curves[0].methods[0].scores[0];
    assert!(score.median.unwrap().value > 60.0 && score.mean.value > 60.0);
    assert!(evaluation.goals.is_empty() || evaluation.goals.iter().all(|goal| goal.measured.is_none()));
    let line = evaluation.verdicts[2].advice();
    assert!(line.contains("those between ") && line.contains(":00 and "), "{line}");
    assert!(evaluation.render(Style::Text).contains("mean / median"));
}

#[test]
fn labels_without_variation_are_answered_by_their_value() {
    let mut values = counts();
    values[..50].fill(2.0);
    let dir = folder("count", &values);
    let plan = Plan { random_split: false, ..plan() };
    let evaluation = measure(&bench(dir.path(), &embeddings(&values, true)).unwrap(), &plan);
    let scores = &evaluation.curves[0].methods[0].scores;
    assert!(scores[0].answers.iter().all(|answer| *answer == 2.0));
    assert!(evaluation.render(Style::Text).contains("in 3 draws all labels were the same"));
}

#[test]
fn what_does_not_fit_before_the_deadline_is_said_to_be_left_out() {
    let values = counts();
    let dir = folder("count", &values);
    let bench = bench(dir.path(), &embeddings(&values, true)).unwrap();
    let plan = Plan { deadline: Some(std::time::Instant::now()), labels: vec![10], ..plan() };
    let evaluation = measure(&bench, &plan);
    assert_eq!(evaluation.curves.len(), 1);
    assert!(evaluation.render(Style::Text).contains("left out: the random split: no time was left"));
}

#[test]
fn a_label_without_its_frame_or_embedding_is_named() {
    let values = counts();
    let dir = folder("count", &values);
    let mut file = embeddings(&values, true);
    file.ids[7] = "frames/other.jpg".into();
    let error = bench(dir.path(), &file).unwrap_err().to_string();
    assert!(error.contains("line 9 of the labels names `frames/007.jpg`"), "{error}");
    assert!(error.contains("dc-encoder embed"), "{error}");
    std::fs::remove_file(dir.path().join("frames/012.jpg")).unwrap();
    let error = bench(dir.path(), &embeddings(&values, true)).unwrap_err().to_string();
    assert!(error.contains("labels.csv, line 14: cannot read") && error.contains("012.jpg"), "{error}");
}

fn head(task: Task, file: &EmbeddingsFile, labels: &Labels, rows: &str) -> Head {
    let options = Options { rows: Some(rows.parse().unwrap()), ..Options::new(task) };
    Head::from_bytes(&train(file, labels, &options).unwrap().bytes).unwrap()
}

#[test]
fn two_heads_are_compared_frame_by_frame() {
    let values = counts();
    let dir = folder("count", &values);
    let labels = Labels::read(&dir.path().join("labels.csv"), Task::Count).unwrap();
    let file = embeddings(&values, true);
    let good = head(Task::Count, &file, &labels, "0..50");
    // A head that learned from shuffled labels.
    let mut shuffled = labels.clone();
    for (i, row) in shuffled.rows.iter_mut().enumerate() {
        row.value = values[(i * 7 + 3) % 50];
    }
    let poor = head(Task::Count, &file, &shuffled, "0..50");
    let rows = &labels.rows[55..];
    let better = compare([&good, &poor], &file, (rows, &[]), 1).unwrap();
    assert!(better.advantage.ci95[0] > 0.0 && better.to_string().ends_with("A is better\n"), "{better}");
    assert!(compare([&poor, &good], &file, (rows, &[]), 1).unwrap().to_string().ends_with("B is better\n"));
    let same = compare([&good, &good], &file, (rows, &[]), 1).unwrap();
    assert!(same.advantage.value == 0.0 && same.to_string().contains("no difference is shown"));

    let minutes: Vec<f64> = (0..FRAMES).map(|i| i as f64 * 3.0).collect();
    let day = folder("time-of-day", &minutes);
    let day = Labels::read(&day.path().join("labels.csv"), Task::TimeOfDay).unwrap();
    let clock = head(Task::TimeOfDay, &file, &day, "0..50");
    let error = compare([&good, &clock], &file, (rows, &[]), 1).unwrap_err().to_string();
    assert!(error.contains("answers count") && error.contains("answers time of day"), "{error}");
    let elsewhere = EmbeddingsFile { space: SpaceId([1; 32]), ..file };
    let error = compare([&good, &good], &elsewhere, (rows, &[]), 1).unwrap_err().to_string();
    assert!(error.contains("space"), "{error}");
}

#[test]
fn an_ablation_finds_that_a_small_head_is_enough() {
    let values = counts();
    let dir = folder("count", &values);
    let bench = bench(dir.path(), &embeddings(&values, true)).unwrap();
    let mut variants = ablate::variants(KindChoice::Linear, &bench.embeddings);
    variants.extend(
        [64, 2].map(|units| ablate::Variant { kind: KindChoice::Mlp, size: ablate::Size::Hidden(units) }),
    );
    let plan = ablate::Plan { variants, labels: 40, draws: 1, seed: 1 };
    let ablation = ablate(&bench, &plan, &mut |_| ()).unwrap();
    let names: Vec<&str> = ablation.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["linear", "linear, 8 numbers", "mlp, 64 hidden units", "mlp, 2 hidden units"]);
    let parameters = |at: usize| ablation.rows[at].head.as_ref().unwrap().parameters;
    assert_eq!([0, 1, 2].map(parameters), [3 * DIM + 1, 3 * 8 + 1, 2 * DIM + 64 * DIM + 64 + 64 + 1]);
    assert!(ablation.rows[1].score.value < 0.5);
    assert!(ablation.rows.iter().all(|row| row.behind.value <= 0.0));
    assert!(ablation.verdict().contains("parameters"), "{}", ablation.verdict());
    assert!(ablation.table().render(Style::Markdown).contains("| linear, 8 numbers | 25 |"));
}
