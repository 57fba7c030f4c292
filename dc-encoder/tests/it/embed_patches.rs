//! Embedding a camera's frames as patches, with a small model.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dc_encoder::backend::cpu::CpuBackend;
use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded, Memory, Partial, Precision};
use dc_encoder::embed::{self, Config, EmbedError, EmbeddingsFile, Summary};
use dc_encoder::model::init;
use shared::image::{Chroma, Limits, Rgb, jpeg};
use shared::patches::{Chooser, to_jpeg, unpack};
use shared::preprocess::PatchGeometry;
use shared::uplink::Uplink;
use tempfile::TempDir;

use crate::cpu::shapes;

const FRAMES: usize = 11;
const GEOMETRY: PatchGeometry = PatchGeometry { height: 40, width: 72, patch: 8 };

/// A model of the first of the shapes, which fails after so many batches.
struct Failing(CpuBackend, usize);

impl Failing {
    fn new(batches: usize) -> Self {
        let (_, config) = shapes().swap_remove(0);
        let weights = init::random(&config, 3).unwrap();
        Self(CpuBackend::new(&config, weights, Precision::F32, String::new()).unwrap(), batches)
    }
}

impl Backend for Failing {
    fn info(&self) -> BackendInfo {
        self.0.info()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        self.0.encode(batch, tokens)
    }

    fn encode_partial(&mut self, batch: &[Partial]) -> Result<Vec<Vec<f32>>, BackendError> {
        if self.1 == 0 {
            return Err(BackendError::NotFinite { index: 0 });
        }
        self.1 -= 1;
        self.0.encode_partial(batch)
    }
}

/// Someone walks from left to right in front of a wall.
fn picture(index: usize) -> Rgb {
    let mut frame = Rgb::filled(72, 40, [90, 120, 60]);
    for (x, y) in (0..6).flat_map(|x| (10..30).map(move |y| (index * 6 + x, y))) {
        frame.data[(y * 72 + x) * 3..][..3].copy_from_slice(&[230, 40, 40]);
    }
    frame
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("frames")).unwrap();
        for index in 0..FRAMES {
            let name = format!("frames/2023-06-13T03_11_{index:02}.jpg");
            fs::write(folder.path().join(name), jpeg::encode(&picture(index), 90, Chroma::C444)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, out: &str, patches: &str) -> Config {
        let uplink = Uplink { patches: patches.parse().unwrap(), ..Uplink::default() };
        let (tokens, batch) = (true, Some(4));
        Config { uplink, tokens, batch, ..Config::new(self.path("frames"), self.path(out)) }
    }

    fn run(&self, config: &Config) -> (Summary, EmbeddingsFile) {
        let summary = embed::run(config, &mut Failing::new(usize::MAX), &mut |_| {}).unwrap();
        (summary, EmbeddingsFile::open(&config.out).unwrap())
    }
}

#[test]
fn a_frame_is_what_a_camera_box_would_send_and_a_server_remember() {
    let place = Place::new();
    let config = place.config("out", "changed(8,15)");
    let (summary, file) = place.run(&config);
    assert_eq!(file.uplink, "v1:960x576:q80:420:pass:patches=changed(8,15)");
    assert!((0.1..0.5).contains(&summary.kept), "{}", summary.kept);

    let mut backend = Failing::new(usize::MAX);
    let mut memory = Memory::new(&backend.info()).unwrap();
    let mut chooser = Chooser::new(config.uplink.patches, GEOMETRY);
    let mut bytes = 0;
    for index in 0..FRAMES {
        let name = format!("frames/2023-06-13T03_11_{index:02}.jpg");
        let captured = jpeg::decode(&fs::read(place.path(&name)).unwrap(), &Limits::default()).unwrap();
        let selection = chooser.choose(&captured);
        let choice = selection.choice.clone();
        let sent = to_jpeg(&captured, GEOMETRY, &choice, 80).jpeg;
        bytes += sent.len() as u64;
        let mosaic = jpeg::decode(&sent, &Limits::default()).unwrap();
        let frame = Arc::new(unpack(&mosaic, GEOMETRY, &choice).unwrap());
        let tokens = backend.encode_partial(&[Partial { frame, choice: choice.clone() }]).unwrap().remove(0);
        chooser.answered(selection);
        memory.remember(index as u64, &choice, &tokens);
        let error = crate::cpu::error(file.row(index), &memory.embedding());
        assert!(error < 1e-4, "frame {index}: {error}");
        let error = crate::cpu::error(file.token_row(index).unwrap(), memory.tokens());
        assert!(error < 1e-3, "frame {index}, tokens are kept in half precision: {error}");
    }
    assert_eq!(summary.bytes, bytes);
}

#[test]
fn a_continued_run_ends_with_the_same_bytes() {
    let place = Place::new();
    place.run(&place.config("whole", "changed(8,15)"));
    let config = place.config("out", "changed(8,15)");
    let error = embed::run(&config, &mut Failing::new(2), &mut |_| {}).unwrap_err();
    assert!(matches!(error, EmbedError::Backend { first: 8, .. }), "{error}");
    let (summary, _) = place.run(&config);
    assert_eq!(summary.resumed, 8);
    assert!(fs::read(place.path("out")).unwrap() == fs::read(place.path("whole")).unwrap());
}

#[test]
fn frames_that_go_back_in_time_are_named() {
    let place = Place::new();
    let list = place.path("frames/list.txt");
    fs::write(&list, "2023-06-13T03_11_00.jpg\n2023-06-13T03_11_05.jpg\n2023-06-13T03_11_04.jpg\n").unwrap();
    let config = Config { frames: list, ..place.config("out", "random(0.5)") };
    let error = embed::run(&config, &mut Failing::new(usize::MAX), &mut |_| {}).unwrap_err();
    assert!(matches!(&error, EmbedError::Order { file } if file == "2023-06-13T03_11_04.jpg"), "{error}");
}
