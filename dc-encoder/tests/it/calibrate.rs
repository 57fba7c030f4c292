//! Addressed latent tokens: fitted from frames, written into a model folder, or refused in words.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use dc_encoder::calibrate::{self, CalibrateError, Config, Summary};
use dc_encoder::model::config::{Origin, Pooling};
use dc_encoder::model::file::{self, Precision};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{self, Model, init};
use shared::image::{Chroma, Rgb, jpeg};
use shared::preprocess::Preprocess;
use shared::uplink::Uplink;
use tempfile::TempDir;

const FRAMES: usize = 40;

/// A bright square that wanders over a gradient, under light that comes and goes.
fn picture(index: usize) -> Rgb {
    let light = 0.7 + 0.3 * (index as f32 * 0.9).sin();
    let (left, top) = ((index * 7) % 48, (index * 5) % 24);
    let mut data = Vec::with_capacity(64 * 32 * 3);
    for (y, x) in (0..32).flat_map(|y| (0..64).map(move |x| (y, x))) {
        let inside = (left..left + 16).contains(&x) && (top..top + 8).contains(&y);
        let colour =
            if inside { [0.9, 0.4, 0.2] } else { [0.2 + x as f32 / 200.0, 0.3, 0.3 + y as f32 / 100.0] };
        data.extend(colour.map(|value: f32| (255.0 * light * value) as u8));
    }
    Rgb::new(64, 32, data).unwrap()
}

struct Place {
    folder: TempDir,
}

impl Place {
    /// Frames, and a small model with random weights and this pooling.
    fn new(pooling: Pooling, embed_dim: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("frames")).unwrap();
        for index in 0..FRAMES {
            let bytes = jpeg::encode(&picture(index), 95, Chroma::C444);
            fs::write(place.path("frames").join(format!("{index:03}.jpg")), bytes).unwrap();
        }
        let config = model::Config {
            height: 32,
            width: 64,
            patch: 8,
            dim: 64,
            depth: 1,
            heads: 1,
            dim_head: 64,
            mlp: 128,
            embed_dim,
            pooling,
            preprocess: Preprocess::imagenet(32, 64),
            decoder: None,
            weights: Some(Origin::Random { seed: 3 }),
            ..Preset::find("demo").unwrap().config()
        };
        config.validate().unwrap();
        let weights = init::random(&config, 3).unwrap();
        file::save(&place.path("model"), &config, &weights, Precision::F32, false).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, out: &str) -> Config {
        Config {
            model: self.path("model"),
            out: self.path(out),
            frames: self.path("frames"),
            max_frames: 500,
            cells: 2,
            uplink: Uplink::default(),
            precision: Precision::F32,
        }
    }

    fn run(&self, out: &str) -> Summary {
        calibrate::run(&self.config(out), &mut |_, _| ()).unwrap()
    }
}

fn load(dir: &Path) -> Model {
    Model::load(dir, &Device::Cpu).unwrap()
}

#[test]
fn a_mean_pooled_model_gets_tokens_that_say_their_cells_colours() {
    let place = Place::new(Pooling::Mean { version: 1 }, 512);
    let mut seen = Vec::new();
    let summary = calibrate::run(&place.config("out"), &mut |done, total| seen.push((done, total))).unwrap();
    assert_eq!((summary.used, summary.held_out), (FRAMES, FRAMES / 5));
    assert_eq!(seen.last(), Some(&(FRAMES, FRAMES)));
    // 1 is all of what changes; the readout sees one small random network's tokens.
    let luma = summary.explained[0].unwrap();
    assert!(luma > 0.8, "{:?}", summary.explained);

    let (before, after) = (load(&place.path("model")), load(&place.path("out")));
    assert_ne!(before.space(), after.space(), "other numbers, another space");
    assert_eq!((after.config().latent_dim(), after.config().embed_dim), (12, 512));
    assert_eq!(after.config().cells(), 2);
    let note = after.config().note();
    assert!(note.contains("random weights (seed 3); readout calibrated on 40 frames, explains"), "{note}");
}

#[test]
fn a_model_with_cells_keeps_its_regions_and_may_be_calibrated_in_place_again() {
    let place = Place::new(Pooling::Cells { version: 1, cells: 4, rows: 2, cols: 4 }, 32);
    place.run("model");
    let once = load(&place.path("model"));
    assert_eq!(once.config().pooling, Pooling::Cells { version: 1, cells: 4, rows: 2, cols: 4 });
    place.run("model");
    assert_eq!(load(&place.path("model")).space(), once.space(), "the same frames give the same readout");
}

#[test]
fn too_few_usable_frames_name_the_first_bad_one_and_write_nothing() {
    let place = Place::new(Pooling::Mean { version: 1 }, 512);
    for index in 5..FRAMES {
        fs::write(place.path("frames").join(format!("{index:03}.jpg")), b"\xff\xd8 no picture").unwrap();
    }
    let error = calibrate::run(&place.config("out"), &mut |_, _| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CalibrateError::TooFew { usable: 5, listed: FRAMES, .. }), "{text}");
    assert!(text.contains("5 of 40 frames") && text.contains("005.jpg"), "{text}");
    assert!(!place.path("out").exists());
}

#[test]
fn cells_that_do_not_divide_the_patch_are_refused_with_the_remedy() {
    let place = Place::new(Pooling::Mean { version: 1 }, 512);
    let config = Config { cells: 3, ..place.config("out") };
    let text = calibrate::run(&config, &mut |_, _| ()).unwrap_err().to_string();
    assert!(text.contains("pooling.cells") && text.contains("is 3") && text.contains("--cells"), "{text}");
}
