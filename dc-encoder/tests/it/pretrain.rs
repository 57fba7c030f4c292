//! Pretraining: a model comes out, a kill changes nothing, and every mistake is named.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytesize::ByteSize;
use dc_encoder::model::config::{Decoder, Pooling, TargetKind};
use dc_encoder::model::file::{self, Precision};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{Config, Model, init};
use dc_encoder::pretrain::{
    self, Event, Length, Options, PretrainError, Reconstruction, Start, Summary, Warning, find_rate,
    reconstruct,
};
use shared::image::{Chroma, Rgb, jpeg};
use shared::uplink::Uplink;
use tempfile::TempDir;

mod collapse;
mod command;
mod failures;
mod precision;

/// 24x32 pixels, 12 patches: a step takes a millisecond.
pub fn tiny() -> Config {
    let mut config = Preset::find("demo").unwrap().config();
    (config.height, config.width, config.patch) = (24, 32, 8);
    (config.preprocess.height, config.preprocess.width) = (24, 32);
    (config.dim, config.depth, config.heads, config.dim_head, config.mlp, config.embed_dim) =
        (16, 2, 2, 8, 32, 8);
    config.pooling = Pooling::Regions { version: 1, rows: 1, cols: 2 };
    let target = TargetKind::Raw;
    config.decoder = Some(Decoder { dim: 12, depth: 1, heads: 2, dim_head: 6, mlp: 24, target });
    config
}

/// The same with latent tokens that say colours, 2 × 4 regions of them.
fn addressed() -> Config {
    let pooling = Pooling::Cells { version: 1, cells: 2, rows: 2, cols: 4 };
    Config { pooling, embed_dim: 32, ..tiny() }
}

/// Frames of a bright square that moves over a gradient.
pub fn frames(dir: &Path, count: usize) -> PathBuf {
    let folder = dir.join("frames");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..count {
        let mut data = Vec::new();
        for (y, x) in (0..30usize).flat_map(|y| (0..40usize).map(move |x| (y, x))) {
            let inside = x.abs_diff(number * 3 % 40) < 6 && y.abs_diff(number * 5 % 30) < 6;
            data.extend(if inside { [250, 240, 90] } else { [4 * x as u8, 8 * y as u8, 60] });
        }
        let jpeg = jpeg::encode(&Rgb::new(40, 30, data).unwrap(), 90, Chroma::C444);
        fs::write(folder.join(format!("{number:03}.jpg")), jpeg).unwrap();
    }
    folder
}

fn options(frames: &Path, out: PathBuf, steps: u64) -> Options {
    let start = Start::Config { name: "tiny".into(), config: tiny().into() };
    Options {
        batch: 4,
        rate: 3e-3,
        validations: 4,
        seed: 5,
        ..Options::new(frames, start, out, Length::Steps(steps))
    }
}

fn run(options: &Options) -> Result<Summary, PretrainError> {
    pretrain::run(options, &mut |_| {})
}

fn weights(out: &Path) -> Vec<u8> {
    fs::read(out.join("model.safetensors")).unwrap()
}

#[test]
fn a_run_learns_and_leaves_a_model_and_its_logs() {
    let dir = TempDir::new().unwrap();
    let (frames, out) = (frames(dir.path(), 30), dir.path().join("out"));
    let options = Options { dtype: Precision::F16, ..options(&frames, out.clone(), 120) };
    let mut losses = Vec::new();
    let summary = pretrain::run(&options, &mut |event| {
        if let Event::Step { validation: Some(validation), .. } = event {
            losses.push(validation.loss);
        }
    })
    .unwrap();
    assert_eq!((summary.steps, summary.frames, losses.len()), (120, 27, 4));
    let last = summary.validation.unwrap();
    assert!(last.loss < 0.7 * losses[0] && last.loss == losses[3], "{losses:?}");
    assert!(last.rank > 1.0 && last.loss_of_means > 0.0);

    let model = Model::load(&out, &candle_core::Device::Cpu).unwrap();
    let note = model.config().note();
    for part in ["trained", "120 of 120 steps", "seed 5", "27 frames", "tiny, seed 5"] {
        assert!(note.contains(part), "{part} in {note}");
    }
    assert!(model.config().decoder.is_some());
    let table = fs::read_to_string(out.join("pretrain/log.csv")).unwrap();
    assert_eq!(table.lines().count(), 121);
    assert!(table.lines().nth(120).unwrap().starts_with("120,"));
    let events = fs::read_dir(out.join("pretrain")).unwrap();
    let events =
        events.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("tfevents"));
    assert_eq!(events.count(), 1);
    assert!(run(&options).unwrap().already_complete);
}

#[test]
fn a_run_that_dies_anywhere_ends_with_the_same_weights() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 13);
    let make = |name: &str| Options {
        checkpoint_every: Duration::ZERO,
        accumulate: 2,
        ..options(&frames, dir.path().join(name), 14)
    };
    let whole = make("whole");
    run(&whole).unwrap();
    // Without room for frames in memory, and cut off at three places.
    let cut = Options { cache: ByteSize(0), ..make("cut") };
    for dies_at in [1, 6, 13] {
        let died = catch_unwind(AssertUnwindSafe(|| {
            pretrain::run(&cut, &mut |event| match event {
                Event::Step { row, .. } if row.step == dies_at => {
                    std::panic::resume_unwind(Box::new("killed"))
                }
                _ => {}
            })
        }));
        assert!(died.is_err(), "reached the end before step {dies_at}");
    }
    let mut continued = None;
    let summary = pretrain::run(&cut, &mut |event| {
        if let Event::Continuing { step, .. } = event {
            continued = Some(step);
        }
    });
    assert_eq!((summary.unwrap().steps, continued), (14, Some(12)));
    assert!(weights(&whole.out) == weights(&cut.out), "the weights differ");
}

/// The real thing: `kill -9`, then the same command.
#[test]
fn a_killed_process_goes_on_to_the_same_weights() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 10);
    let start = dir.path().join("start");
    file::save(&start, &tiny(), &init::random(&tiny(), 2).unwrap(), Precision::F32, false).unwrap();
    let command = |out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
        command.args([
            "pretrain",
            "--device",
            "cpu",
            "--batch",
            "3",
            "--steps",
            "150",
            "--checkpoint-every",
            "0s",
        ]);
        command.arg("--frames").arg(&frames).arg("--model").arg(&start).arg("--out").arg(out);
        command.env("RAYON_NUM_THREADS", "2").stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert!(command(&whole).status().unwrap().success());
    for rows in [10, 60] {
        let mut child = command(&killed).spawn().unwrap();
        let table = killed.join("pretrain/log.csv");
        while fs::read_to_string(&table).map_or(0, |text| text.lines().count()) < rows {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!killed.join("config.json").exists());
    }
    assert!(command(&killed).status().unwrap().success());
    assert!(weights(&whole) == weights(&killed), "the weights differ");
}

#[test]
fn a_folder_of_another_run_or_model_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let (frames, out) = (frames(dir.path(), 6), dir.path().join("out"));
    let first = options(&frames, out.clone(), 3);
    run(&first).unwrap();
    let error = run(&Options { batch: 2, ..first.clone() }).unwrap_err().to_string();
    assert!(error.contains("its batch is 4, now 2") && error.contains("another --out"), "{error}");
    let error = run(&Options { length: Length::Steps(9), ..first.clone() }).unwrap_err().to_string();
    assert!(error.contains("3 steps") && error.contains("9 steps"), "{error}");
    fs::remove_dir_all(out.join("pretrain")).unwrap();
    let error = run(&first).unwrap_err();
    assert!(matches!(error, PretrainError::InTheWay { .. }), "{error}");
}

#[test]
fn frames_that_cannot_be_used_are_left_out_or_refused() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 6);
    fs::write(frames.join("000a.jpg"), b"not a picture").unwrap();
    let options = options(&frames, dir.path().join("out"), 2);
    let error = run(&Options { strict: true, ..options.clone() }).unwrap_err().to_string();
    assert!(error.contains("000a.jpg") && error.contains("--strict"), "{error}");
    let mut skipped = Vec::new();
    let summary = pretrain::run(&options, &mut |event| {
        if let Event::Frames { skipped: some, .. } = event {
            skipped = some.to_vec();
        }
    });
    assert_eq!((summary.unwrap().frames, skipped.len()), (5, 1));
    assert_eq!(skipped[0].file, "000a.jpg");
}

#[test]
fn too_few_frames_and_settings_that_cannot_work_are_named() {
    let dir = TempDir::new().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = run(&options(&empty, dir.path().join("a"), 2)).unwrap_err().to_string();
    assert!(error.contains("no frames in"), "{error}");
    let one = frames(dir.path(), 1);
    let error = run(&options(&one, dir.path().join("b"), 2)).unwrap_err().to_string();
    assert!(error.contains("1 of 1 frames"), "{error}");
    let error = run(&Options { mask_ratio: 1.0, ..options(&one, dir.path().join("c"), 2) }).unwrap_err();
    assert!(error.to_string().contains("--mask-ratio 1"), "{error}");
    let short = Options {
        length: Length::For(Duration::from_nanos(1)),
        ..options(&frames(dir.path(), 4), dir.path().join("d"), 1)
    };
    let error = run(&short).unwrap_err().to_string();
    assert!(error.contains("leaves no time to train"), "{error}");
}

#[test]
fn a_time_becomes_steps_that_are_recorded() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 6);
    let length = Length::For(Duration::from_secs(3600));
    let options =
        Options { length, checkpoint_every: Duration::ZERO, ..options(&frames, dir.path().join("out"), 1) };
    let steps_of = |dies: bool| {
        let mut steps = Vec::new();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            pretrain::run(&options, &mut |event| match event {
                Event::Calibrated { steps: some, .. } => steps.push(("measured", some)),
                Event::Continuing { steps: some, .. } => steps.push(("recorded", some)),
                Event::Step { row, .. } if row.step > 1 || !dies => {
                    std::panic::resume_unwind(Box::new("killed"))
                }
                _ => {}
            })
        }));
        steps
    };
    let first = steps_of(true);
    assert!(matches!(first[..], [("measured", steps)] if steps > 1000), "{first:?}");
    assert_eq!(steps_of(false), [("recorded", first[0].1)]);
}

#[test]
fn divergence_keeps_the_last_good_checkpoint_and_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 6);
    let diverging =
        Options { rate: 1e30, decay: 0.0, warmup: Some(0), ..options(&frames, dir.path().join("out"), 50) };
    let error = run(&diverging).unwrap_err();
    assert!(matches!(error, PretrainError::Diverged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("step 0 is kept in") && text.contains("lower --lr"), "{text}");
    assert!(!diverging.out.join("config.json").exists());
}

#[test]
fn near_duplicates_and_a_loss_that_stands_still_are_told() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("same");
    fs::create_dir(&folder).unwrap();
    let jpeg = jpeg::encode(&Rgb::filled(40, 30, [90, 120, 30]), 90, Chroma::C420);
    (0..5).for_each(|number| fs::write(folder.join(format!("{number}.jpg")), &jpeg).unwrap());
    let still = Options {
        rate: 1e-12,
        early_stop: Some(2),
        augment: false,
        ..options(&folder, dir.path().join("out"), 40)
    };
    let (mut warnings, mut stopped) = (Vec::new(), None);
    let summary = pretrain::run(&still, &mut |event| match event {
        Event::Warning(warning) => warnings.push(warning),
        Event::StoppedEarly { step } => stopped = Some(step),
        _ => {}
    })
    .unwrap();
    assert!(matches!(warnings[0], Warning::Duplicates { share } if share > 0.99), "{warnings:?}");
    let standing = warnings.iter().filter(|warning| matches!(warning, Warning::NoBetterThanMeans { .. }));
    assert_eq!(standing.count(), 1, "told once, not at every validation: {warnings:?}");
    assert_eq!(stopped, Some(summary.steps));
    assert!(summary.steps < 40 && run(&still).unwrap().already_complete);
}

#[test]
fn a_reconstruction_is_a_row_of_pictures_and_needs_a_decoder() {
    let dir = TempDir::new().unwrap();
    let (frames, out) = (frames(dir.path(), 6), dir.path().join("out"));
    run(&options(&frames, out.clone(), 3)).unwrap();
    let what = Reconstruction {
        model: out.clone(),
        frame: frames.join("002.jpg"),
        out: dir.path().join("picture.png"),
        uplink: Uplink::default(),
        mask_ratio: 0.5,
        seed: 1,
    };
    let drawn = reconstruct(&what).unwrap();
    assert!(drawn.loss > 0.0 && drawn.loss_of_means > 0.0);
    assert_eq!(drawn.caption, "frame, masked, reconstruction", "such an embedding holds no colours");
    let load = |path: &Path| shared::image::load(path, &Default::default()).unwrap();
    let picture = load(&what.out);
    assert_eq!((picture.width, picture.height), (3 * 32 + 8, 24));

    let colours = dir.path().join("colours");
    let start = Start::Config { name: "cells".into(), config: addressed().into() };
    run(&Options { start, ..options(&frames, colours.clone(), 3) }).unwrap();
    let drawn = reconstruct(&Reconstruction { model: colours, ..what.clone() }).unwrap();
    assert_eq!(
        drawn.caption,
        "frame, masked, reconstruction, the embedding alone (mean colours of its 2x4 regions)"
    );
    let picture = load(&what.out);
    assert_eq!(picture.width, 4 * 32 + 12);
    let region = |x: u32, y: u32| picture.pixel(3 * 36 + x, y);
    assert!((0..8).all(|x| (0..12).all(|y| region(x, y) == region(0, 0))), "one colour for each region");
    let bare = dir.path().join("bare");
    run(&Options { drop_decoder: true, ..options(&frames, bare.clone(), 3) }).unwrap();
    let error = reconstruct(&Reconstruction { model: bare, ..what }).unwrap_err().to_string();
    assert!(error.contains("has no decoder"), "{error}");
}

#[test]
fn rates_are_tried_and_one_is_suggested() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 6);
    let tried = find_rate(&options(&frames, PathBuf::new(), 1), &mut |_| {}).unwrap();
    assert!(tried.losses.len() > 20 && tried.losses.is_sorted_by(|a, b| a.0 < b.0));
    assert!((1e-5..0.1).contains(&tried.suggested), "{tried:?}");
}
