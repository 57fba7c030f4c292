//! Embedding many frames: the file, the interrupted run, the bad frame, the full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded};
use dc_encoder::embed::{self, Config, EmbedError, EmbeddingsFile, Event, ReadError, Summary};
use protocol::{GridShape, SpaceId};
use shared::image::{Chroma, Limits, Rgb, jpeg, resize};
use shared::uplink::Uplink;
use tempfile::TempDir;

mod continued;

const FRAMES: usize = 11;
const BATCH: usize = 4;

/// A backend whose numbers depend on the frame, on its place in the batch and on the batch's size: a continued run
/// that forms other batches is found out.
struct Fake {
    info: BackendInfo,
    /// Batches until the device fails.
    fails_after: usize,
    seen: usize,
}

impl Fake {
    fn new() -> Self {
        let info = BackendInfo {
            device: "fake".into(),
            path: "arithmetic".into(),
            reason: String::new(),
            model: "fake model".into(),
            note: "random weights".into(),
            space: SpaceId([7; 32]),
            embed_dim: 5,
            grid: (2, 3, 4),
            cells: 1,
            input: (12, 18),
            patches: None,
            max_batch: BATCH,
            flops: 1000,
        };
        Self { info, fails_after: usize::MAX, seen: 0 }
    }

    fn failing_after(batches: usize) -> Self {
        Self { fails_after: batches, ..Self::new() }
    }
}

impl Backend for Fake {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        if self.fails_after == 0 {
            return Err(BackendError::NotFinite { index: 0 });
        }
        self.fails_after -= 1;
        self.seen += batch.len();
        let encode = |(place, image): (usize, &Arc<Rgb>)| {
            assert_eq!((image.height as usize, image.width as usize), self.info.input);
            let mut embedding = means(image).to_vec();
            embedding.extend([place as f32 + 0.1, batch.len() as f32 + 0.2]);
            let tokens = tokens.then(|| (0..2 * 3 * 4).map(|at| at as f32 / 8.0 - means(image)[0]).collect());
            Encoded { embedding, tokens }
        };
        Ok(batch.iter().enumerate().map(encode).collect())
    }
}

/// Mean of each channel.
fn means(image: &Rgb) -> [f32; 3] {
    let pixels = (image.width * image.height) as f32;
    [0, 1, 2].map(|channel| {
        image.data.iter().skip(channel).step_by(3).map(|value| f32::from(*value)).sum::<f32>() / pixels
    })
}

fn picture(index: usize) -> Rgb {
    let data = (0..40 * 30 * 3).map(|at| ((at * (index + 3)) ^ (at >> 3)) as u8).collect();
    Rgb::new(40, 30, data).unwrap()
}

/// A folder with a minute of frames and a place for the result.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("frames")).unwrap();
        for index in 0..FRAMES {
            fs::write(place.frame(index), jpeg::encode(&picture(index), 80, Chroma::C420)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn frame(&self, index: usize) -> PathBuf {
        self.path("frames").join(format!("2023-06-13T03_11_{index:02}.jpg"))
    }

    fn config(&self, out: &str) -> Config {
        Config { threads: Some(2), ..Config::new(self.path("frames"), self.path(out)) }
    }

    fn run(&self, out: &str) -> Vec<u8> {
        run(&self.config(out), &mut Fake::new()).unwrap();
        fs::read(self.path(out)).unwrap()
    }
}

fn run(config: &Config, backend: &mut Fake) -> Result<Summary, EmbedError> {
    embed::run(config, backend, &mut |_| {})
}

/// The part file of a run that failed after `batches` batches.
fn interrupted(place: &Place, config: &Config, batches: usize) -> PathBuf {
    let error = run(config, &mut Fake::failing_after(batches)).unwrap_err();
    assert!(matches!(error, EmbedError::Backend { .. }), "{error}");
    assert!(!config.out.exists(), "nothing that looks finished");
    place.path("out.part")
}

#[test]
fn a_folder_becomes_one_file() {
    let place = Place::new();
    let mut events = Vec::new();
    let mut backend = Fake::new();
    let summary = embed::run(&place.config("out"), &mut backend, &mut |event| events.push(event)).unwrap();
    assert_eq!((summary.total, summary.embedded, summary.resumed, backend.seen), (FRAMES, FRAMES, 0, FRAMES));
    let done = |done| Event::Done { done, total: FRAMES, skipped: 0 };
    assert_eq!(events, [done(0), done(4), done(8), done(11), Event::Writing(place.path("out"))]);

    let file = EmbeddingsFile::open(&place.path("out")).unwrap();
    assert_eq!((file.space, file.dim, file.len()), (SpaceId([7; 32]), 5, FRAMES));
    assert_eq!((file.model.as_str(), file.uplink.as_str()), ("fake model", "v1:960x576:q80:420:pass"));
    assert_eq!((file.ids[3].as_str(), file.grid, &file.tokens), ("2023-06-13T03_11_03.jpg", None, &None));
    assert_eq!(file.captured_at[3], Some("2023-06-13T03:11:03Z".parse().unwrap()));
    assert_eq!(file.row(5)[3..], [1.1, 4.2], "second of four");
    assert_eq!(file.row(10)[3..], [2.1, 3.2], "last of the three that remain");
    let left: Vec<_> =
        fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the frames and the file remain: {left:?}");
}

#[test]
fn frames_pass_through_the_uplink_transformation() {
    let place = Place::new();
    let uplink: Uplink = "v1:16x16:q30:420:encode".parse().unwrap();
    run(&Config { uplink, ..place.config("out") }, &mut Fake::new()).unwrap();
    let file = EmbeddingsFile::open(&place.path("out")).unwrap();
    assert_eq!(file.uplink, "v1:16x16:q30:420:encode");
    let limits = Limits::default();
    for index in 0..FRAMES {
        let sent = uplink.apply_jpeg(fs::read(place.frame(index)).unwrap(), &limits).unwrap();
        let received = jpeg::decode(&sent.jpeg, &limits).unwrap();
        assert_eq!(
            file.row(index)[..3],
            means(&resize(&received, 18, 12)),
            "what a server would have encoded"
        );
    }
}

#[test]
fn a_png_is_encoded_as_an_uncompressed_camera_would_be() {
    let place = Place::new();
    fs::remove_dir_all(place.path("frames")).unwrap();
    fs::create_dir(place.path("frames")).unwrap();
    let Rgb { width, height, data } = picture(1);
    write_png(&place.path("frames/a.png"), width, height, &data);
    run(&place.config("out"), &mut Fake::new()).unwrap();
    let sent = Uplink::default().apply_rgb(&picture(1));
    let received = jpeg::decode(&sent.jpeg, &Limits::default()).unwrap();
    let file = EmbeddingsFile::open(&place.path("out")).unwrap();
    assert_eq!(file.row(0)[..3], means(&resize(&received, 18, 12)));
}

/// An uncompressed PNG, written by hand: this crate has no encoder.
fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], body: &[u8]| {
        png.extend((body.len() as u32).to_be_bytes());
        let body = [&kind[..], body].concat();
        png.extend(&body);
        png.extend(crc(&body).to_be_bytes());
    };
    let rows: Vec<u8> = rgb.chunks(width as usize * 3).flat_map(|row| [&[0][..], row].concat()).collect();
    let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    let length = rows.len() as u16;
    let stored = [
        &[0x78, 1, 1][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        &rows,
        &((b << 16) | a).to_be_bytes(),
    ];
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &stored.concat());
    chunk(b"IEND", &[]);
    fs::write(path, png).unwrap();
}

#[test]
fn tokens_are_kept_where_asked() {
    let place = Place::new();
    run(&Config { tokens: true, ..place.config("out") }, &mut Fake::new()).unwrap();
    let file = EmbeddingsFile::open(&place.path("out")).unwrap();
    assert_eq!(file.grid, Some(GridShape { rows: 2, cols: 3, dim: 4 }));
    assert_eq!(file.cells, 1);
    assert_eq!(file.tokens.as_ref().unwrap().len(), FRAMES * 24);
    let expected = 9.0 / 8.0 - file.row(7)[0];
    assert!((file.token_row(7).unwrap()[9] - expected).abs() < 0.06, "f16 of {expected}");

    let bytes = fs::read(place.path("out")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("embedding").unwrap().shape(), [FRAMES, 5]);
    assert_eq!(tensors.tensor("tokens").unwrap().shape(), [FRAMES, 6, 4]);
}

#[test]
fn cells_of_a_token_are_kept_and_checked() {
    let place = Place::new();
    let mut fake = Fake::new();
    fake.info.cells = 2;
    run(&Config { tokens: true, ..place.config("out") }, &mut fake).unwrap();
    assert_eq!(EmbeddingsFile::open(&place.path("out")).unwrap().cells, 2);
    // Four numbers are no map of three times three; the header keeps its length.
    let mut bytes = fs::read(place.path("out")).unwrap();
    let at = bytes.windows(11).position(|window| window == br#"\"cells\":2"#).unwrap();
    bytes[at + 10] = b'3';
    fs::write(place.path("out"), bytes).unwrap();
    let error = EmbeddingsFile::open(&place.path("out")).unwrap_err().to_string();
    assert!(error.contains("4 numbers cannot be 3×3 cells"), "{error}");
}

#[test]
fn a_bad_frame_stops_the_run_and_is_named() {
    let place = Place::new();
    let bytes = fs::read(place.frame(6)).unwrap();
    fs::write(place.frame(6), &bytes[..bytes.len() / 2]).unwrap();
    let error = run(&place.config("out"), &mut Fake::new()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2023-06-13T03_11_06.jpg: the JPEG is truncated: it stops after "), "{text}");
    assert!(text.contains("--skip-bad") && text.contains("(4 of 11 frames are kept in"), "{text}");

    let summary = run(&Config { skip_bad: true, ..place.config("out") }, &mut Fake::new()).unwrap();
    assert_eq!((summary.resumed, summary.embedded, summary.skipped.len()), (4, FRAMES - 1, 1));
    assert_eq!(summary.skipped[0].file, "2023-06-13T03_11_06.jpg");
    assert!(summary.skipped[0].reason.starts_with("the JPEG is truncated"), "{}", summary.skipped[0].reason);
    let file = EmbeddingsFile::open(&place.path("out")).unwrap();
    assert_eq!((file.len(), file.ids.contains(&summary.skipped[0].file)), (FRAMES - 1, false));
    assert_eq!(file.row(6)[3..], [2.1, 3.2], "the seventh row is the eighth frame, in a batch of three");

    let again = run(&Config { skip_bad: true, ..place.config("out") }, &mut Fake::new()).unwrap();
    assert_eq!(again.skipped, summary.skipped, "still listed when nothing is left to do");
}

#[test]
fn frames_left_out_are_not_accepted_silently_later() {
    let place = Place::new();
    fs::write(place.frame(1), "broken").unwrap();
    let skipping = Config { skip_bad: true, ..place.config("out") };
    interrupted(&place, &skipping, 1);
    let error = run(&place.config("out"), &mut Fake::new()).unwrap_err().to_string();
    assert!(error.starts_with("2023-06-13T03_11_01.jpg: not a JPEG"), "{error}");
}

#[test]
fn nothing_usable_is_an_error() {
    let place = Place::new();
    for index in 0..FRAMES {
        fs::write(place.frame(index), "").unwrap();
    }
    let error =
        run(&Config { skip_bad: true, ..place.config("out") }, &mut Fake::new()).unwrap_err().to_string();
    assert_eq!(error, "none of the 11 frames can be used; the first, 2023-06-13T03_11_00.jpg: it is empty");
    assert!(!place.path("out").exists());
}

/// The temporary file leads to a device that is always full.
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    let whole = place.run("whole");
    std::os::unix::fs::symlink("/dev/full", place.path("out.tmp")).unwrap();
    let error = run(&place.config("out"), &mut Fake::new()).unwrap_err();
    assert!(matches!(error, EmbedError::Write { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("out.tmp: No space left on device") && text.contains("11 of 11 frames are kept in"),
        "{text}"
    );
    assert!(text.contains("out.part: make room and run the same command again"), "{text}");
    assert!(!place.path("out").exists());

    let mut backend = Fake::new();
    let summary = run(&place.config("out"), &mut backend).unwrap();
    assert_eq!((summary.resumed, backend.seen), (FRAMES, 0));
    assert!(fs::read(place.path("out")).unwrap() == whole);
}

#[test]
fn a_backend_that_breaks_its_word_is_not_believed() {
    let place = Place::new();
    let mut backend = Fake::new();
    backend.info.embed_dim = 6;
    let error = run(&place.config("out"), &mut backend).unwrap_err();
    assert!(matches!(error, EmbedError::Answer { .. }), "{error}");
}

#[test]
fn what_is_no_file_of_embeddings_is_refused() {
    let place = Place::new();
    let whole = place.run("out");
    let refuse = |bytes: &[u8], expected: &str| {
        fs::write(place.path("bad"), bytes).unwrap();
        let error = EmbeddingsFile::open(&place.path("bad")).unwrap_err();
        assert!(matches!(error, ReadError::Format { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refuse(b"", "only 0 bytes");
    refuse(b"{\"a\": 1} and so on", "does not begin with a safetensors header");
    refuse(&whole[..whole.len() - 1], "cut off");
    refuse(&[&whole[..], &[0]].concat(), "appended");
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + to.len()..]].concat()
    };
    refuse(&changed("fth embeddings 1", "fth embeddings 9"), "its format is \"fth embeddings 9\"");
    refuse(&changed("[11,5]", "[10,5]"), "10 embeddings of 5 numbers, 11 ids");
    refuse(
        &changed("[11,5]", "[11,6]"),
        "`embedding` is F32 [11, 6] at (0, 220) instead of F32 [11, 6] at (0, 264)",
    );
    refuse(&changed("0707", "07zz"), "its metadata `space`");
    refuse(&changed("\"uplink\"", "\"uplonk\""), "no `uplink`");
    let missing = EmbeddingsFile::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(missing.to_string().contains("cannot read /nowhere/at/all"), "{missing}");
}
