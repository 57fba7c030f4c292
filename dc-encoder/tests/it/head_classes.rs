//! Heads that name a class: every kind learns it, scores are accuracies, and what cannot be learned is refused.

use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::evaluate::ablate::{self, ablate};
use dc_encoder::evaluate::compare::compare;
use dc_encoder::evaluate::{Bench, Evaluation, Folder, Plan, Style, sheet};
use dc_encoder::heads::{KindChoice, Labels, Options, train};
use protocol::GridShape;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shared::head::{Input, OutputKind, Task};
use shared::image::{Chroma, Rgb, jpeg};
use tempfile::TempDir;

use super::heads::{embeddings, head, normals, options, read, rows};

const NAMES: [&str; 3] = ["rain", "clear", "fog"];
const DIM: usize = 8;
const FRAMES: usize = 160;

/// Frames of three weathers, each a direction of the embedding and of the left half of 2 × 2 tokens, clear half of the time; with
/// their names.
fn weather(clearly: f32) -> (EmbeddingsFile, Vec<&'static str>) {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let (mut embedding, mut tokens, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let class = [1, 1, 0, 2][rng.random_range(0..4)];
        let mut numbers = normals(DIM, &mut rng);
        numbers[class] += clearly;
        for token in 0..4 {
            let mut noise = normals(DIM, &mut rng);
            noise[class] += if token % 2 == 0 { clearly } else { 0.0 };
            tokens.extend(noise);
        }
        embedding.extend(numbers);
        names.push(NAMES[class]);
    }
    let file = EmbeddingsFile {
        grid: Some(GridShape { rows: 2, cols: 2, dim: DIM as u32 }),
        tokens: Some(tokens),
        ..embeddings(DIM, embedding)
    };
    (file, names)
}

fn csv(names: &[&str]) -> String {
    let row = |(i, name): (usize, &&str)| format!("{i:04}.jpg,{name}\n");
    std::iter::once("file,class\n".to_owned()).chain(names.iter().enumerate().map(row)).collect()
}

fn labels(names: &[&str]) -> Labels {
    read(&csv(names), Task::Class).unwrap()
}

fn class_options(kind: KindChoice) -> Options {
    Options { unit: "probability".into(), ..options(Task::Class, kind) }
}

#[test]
fn every_kind_names_planted_classes() {
    let (file, names) = weather(6.0);
    for kind in [
        KindChoice::Auto,
        KindChoice::Linear,
        KindChoice::Kernel,
        KindChoice::Trees,
        KindChoice::Mlp,
        KindChoice::Tokens,
    ] {
        let options = Options { rows: rows("0..80"), test: rows("90..160"), ..class_options(kind) };
        let trained = train(&file, &labels(&names), &options).unwrap();
        let score = &trained.report.held_out;
        assert!(score.value > 0.85 && score.baseline < 0.7, "{kind:?} {score:?}");
        assert!(score.ci95[0] <= score.value && score.value <= score.ci95[1] && score.metric == "accuracy");
        assert!(trained.report.better_than_constant());
        let text = trained.report.to_string();
        for part in
            ["class: accuracy ", " % [", "always answering the most frequent class: ", "the probability of"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let head = head(&trained);
        let want = ["clear", "fog", "rain"].map(str::to_owned).to_vec();
        assert_eq!(head.manifest().output.kind, OutputKind::Classes { names: want.clone() });
        for row in 90..160 {
            let input = Input { embedding: file.row(row), tokens: file.token_row(row) };
            let got = head.run(&input).unwrap();
            assert!(got.value > 1.0 / 3.0 && got.value <= 1.0, "{got:?}");
            assert!(got.class.unwrap() < want.len());
        }
    }
}

#[test]
fn noise_is_not_called_better_than_the_most_frequent_class() {
    let (file, names) = weather(0.0);
    let trained = train(&file, &labels(&names), &class_options(KindChoice::Linear)).unwrap();
    assert!(!trained.report.better_than_constant(), "{:?}", trained.report.held_out);
    assert!(trained.report.to_string().contains("not shown to be better than the constant answer"));
}

#[test]
fn a_head_has_the_classes_it_was_shown_and_no_others() {
    let (file, mut names) = weather(6.0);
    names[100] = "snow";
    let head = head(
        &train(&file, &labels(&names), &Options { rows: rows("0..80"), ..class_options(KindChoice::Linear) })
            .unwrap(),
    );
    assert_eq!(head.manifest().output.kind.classes(), ["clear", "fog", "rain"]);
    let tested = Options { rows: rows("0..80"), test: rows("90..160"), ..class_options(KindChoice::Linear) };
    let error = train(&file, &labels(&names), &tested).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "test frame `0100.jpg` is of class `snow`, which no training row is (they are `clear`, `fog`, `rain`): label"
        ),
        "{error}"
    );
}

#[test]
fn what_is_no_classification_is_refused() {
    let (file, names) = weather(6.0);
    let error =
        |names: &[&str], kind| train(&file, &labels(names), &class_options(kind)).unwrap_err().to_string();
    assert!(
        error(&["fog"; 20], KindChoice::Linear)
            .starts_with("all 20 labels are `fog`: there is nothing to learn")
    );
    assert!(error(&names, KindChoice::Departures).contains("answers with one number, which is no class"));
    let many: Vec<String> = (0..17).map(|i| format!("c{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refusal = |text: &str| read(text, Task::Class).unwrap_err();
    let text = refusal(&csv(&many));
    assert!(
        text.starts_with("labels line 18: `c16` would be class number 17, a head tells at most 16 apart"),
        "{text}"
    );
    assert!(text.contains("put rare classes together"), "{text}");
    assert!(read(&csv(&many[..16]), Task::Class).is_ok());
    for (text, want) in [
        ("file,weather\na,fog\n", "labels: there is no column `class`, only `file`, `weather`"),
        (
            "file,class\na,fog\nb,\n",
            "labels line 3: `class` is \"\", want a name of 1 to 32 printable characters",
        ),
        ("{\"file\": \"a\", \"class\": 3}", "labels line 1: `class` is 3, want a name"),
        ("{\"file\": \"a\"}", "labels line 1: there is no `class`, want a name"),
    ] {
        assert_eq!(refusal(text), want);
    }
    let json = read(
        "{\"file\": \"a\", \"class\": \" fog \"}\n{\"file\": \"b\", \"class\": \"clear\"}\n",
        Task::Class,
    )
    .unwrap();
    assert_eq!((json.classes.join(","), json.rows[0].value), ("clear,fog".to_owned(), 1.0));
}

// -------------------------------------------------------------------------------------------- evaluations

fn folder(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let grey = jpeg::encode(&Rgb::filled(64, 48, [90; 3]), 90, Chroma::C420);
    for i in 0..names.len() {
        std::fs::write(dir.path().join(format!("{i:04}.jpg")), &grey).unwrap();
    }
    std::fs::write(dir.path().join("labels.csv"), csv(names)).unwrap();
    std::fs::write(dir.path().join("split.toml"), "task = \"class\"\npool = [0, 80]\ntest = [90, 160]\n")
        .unwrap();
    dir
}

#[test]
fn an_evaluation_of_classes_is_in_accuracies() {
    let (file, names) = weather(6.0);
    let dir = folder(&names);
    let bench = Bench::new(Folder::open(dir.path()).unwrap(), file).unwrap();
    let plan = Plan {
        kinds: vec![KindChoice::Linear],
        labels: vec![10, 300],
        draws: 2,
        seed: 1,
        random_split: false,
        deadline: None,
    };
    let evaluation = Evaluation::measure(&bench, &plan, &mut |_| ()).unwrap();
    let curve = &evaluation.curves[0];
    let last = |name: &str| curve.methods.iter().find(|m| m.name == name).unwrap().scores[1].mean.value;
    assert!(last("head, linear") < 0.1 && last("constant") > 0.3, "shares of wrong answers");
    assert!(evaluation.verdicts[1].better() && evaluation.goals.is_empty());
    let text = evaluation.render(Style::Text);
    for part in
        ["accuracy in %, mean over 2 draws", "constant", "200 extra trees", "better than the best baseline"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains(" points ["), "{text}");
    assert!(
        evaluation.verdicts[0].advice().contains("those of class `"),
        "{}",
        evaluation.verdicts[0].advice()
    );
    assert!(
        evaluation.summary().contains("class from 80 labels: 9")
            || evaluation.summary().contains("labels: 100 [")
    );
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["unit"], "share of answers wrong");
    let path = dir.path().join("worst.png");
    assert_eq!(sheet::write(&path, &bench, curve).unwrap().len(), 2);

    let variants = ablate::variants(KindChoice::Linear, &bench.embeddings);
    let plan = ablate::Plan { variants, labels: 60, draws: 1, seed: 1 };
    let table = ablate(&bench, &plan, &mut |_| ()).unwrap().table().render(Style::Text);
    assert!(table.contains("accuracy, % [95 %]"), "{table}");
}

#[test]
fn a_class_that_only_the_test_has_is_refused() {
    let (_, mut names) = weather(6.0);
    names[120] = "snow";
    let error = Folder::open(folder(&names).path()).unwrap_err().to_string();
    assert!(error.contains("test has frames of class `snow`, and pool = [0, 80] has none"), "{error}");
}

#[test]
fn two_heads_with_other_classes_are_compared_by_name() {
    let (file, names) = weather(6.0);
    let all = labels(&names);
    let trained = |labels: &Labels, rows_: &str| {
        head(
            &train(&file, labels, &Options { rows: rows(rows_), ..class_options(KindChoice::Linear) })
                .unwrap(),
        )
    };
    // The second one takes clear for fog, so that its classes stand at other places in its list.
    let dull: Vec<&str> = names.iter().map(|name| if *name == "clear" { "fog" } else { name }).collect();
    let (good, poor) = (trained(&all, "0..80"), trained(&labels(&dull), "0..80"));
    let compared = compare([&good, &poor], &file, (&all.rows[90..], &all.classes), 1).unwrap();
    assert!(compared.scores[0].value < 0.1, "{compared}");
    let clear = all.rows[90..].iter().filter(|row| all.classes[row.value as usize] == "clear").count();
    let wrong = compared.scores[1].value - clear as f64 / 70.0;
    assert!((0.0..0.1).contains(&wrong), "it is wrong where it is clear, and hardly elsewhere: {compared}");
    let text = compared.to_string();
    assert!(text.contains("mean accuracy in % on 70 frames") && text.ends_with("A is better\n"), "{text}");
    let mut foreign = names.clone();
    foreign[95] = "Rain";
    let foreign = labels(&foreign);
    let error =
        compare([&good, &poor], &file, (&foreign.rows[90..], &foreign.classes), 1).unwrap_err().to_string();
    assert!(error.starts_with("the labels have frames of class `Rain`, and neither test-head ("), "{error}");
}
