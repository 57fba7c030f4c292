//! Head files: what is accepted, what is refused and with which words, and what the networks compute.

use std::collections::BTreeMap;

use protocol::SpaceId;
use shared::head::{
    self, Grid, Head, HeadError, HeldOut, Input, InputSpec, IntervalOffsets, Kind, Manifest, Output,
    OutputKind, Response, SelfTestTolerance, Task, TensorData, Tokens, Trained,
};

type Tensors = BTreeMap<String, TensorData>;

fn manifest(kind: Kind) -> Manifest {
    Manifest {
        format: head::FORMAT,
        name: "people-count".into(),
        task: Task::Count,
        kind,
        input: InputSpec { space: "ab".repeat(32), dim: 3, grid: None },
        output: Output { kind: OutputKind::Scalar, unit: "people".into(), min: Some(0.0) },
        interval: Some(IntervalOffsets { level: 0.9, lower: -1.0, upper: 2.0 }),
        uplink: "v1:960x576:q80:420:pass".into(),
        trained: Trained { frames: 30, labels: Some("0f".repeat(32)), seed: 7 },
        held_out: Some(HeldOut {
            metric: "mae".into(),
            value: 0.8,
            ci95: [0.7, 0.9],
            n: 30,
            method: "cross-validation".into(),
            baseline: 1.6,
        }),
        self_test: SelfTestTolerance { tolerance: 1e-3 },
    }
}

fn tensors(list: &[(&str, &[usize], &[f32])]) -> Tensors {
    list.iter().map(|(name, shape, values)| ((*name).to_owned(), TensorData::f32(shape, values))).collect()
}

fn linear() -> Tensors {
    tensors(&[
        ("norm.mean", &[3], &[1.0, 0.0, -1.0]),
        ("norm.std", &[3], &[2.0, 1.0, 0.5]),
        ("weight", &[1, 3], &[4.0, -1.0, 0.25]),
        ("bias", &[1], &[3.0]),
    ])
}

/// A whole file with these tensors, self-test included, not checked.
fn unchecked(manifest: &Manifest, mut tensors: Tensors) -> Vec<u8> {
    tensors.entry("self_test.input".into()).or_insert_with(|| TensorData::f32(&[3], &[0.0; 3]));
    tensors.entry("self_test.output".into()).or_insert_with(|| TensorData::f32(&[1], &[1.5]));
    head::write(manifest, &tensors).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    Head::from_bytes(bytes).unwrap_err().to_string()
}

/// A file whose manifest is this JSON text.
fn with_manifest_text(json: &str) -> Vec<u8> {
    let header = serde_json::json!({"__metadata__": {"manifest": json}}).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

fn value(head: &Head, embedding: &[f32]) -> f64 {
    head.run(&Input { embedding, tokens: None }).unwrap().value
}

#[test]
fn linear_head_computes_its_formula_and_clamps() {
    let bytes = head::seal(&manifest(Kind::Linear), linear(), &[0.5, 0.5, 0.5]).unwrap();
    let head = Head::from_bytes(&bytes).unwrap();
    // 4·(3−1)/2 − 1·2 + 0.25·(0+1)/0.5 + 3 = 5.5
    let got = head.run(&Input { embedding: &[3.0, 2.0, 0.0], tokens: None }).unwrap();
    assert_eq!((got.value, got.interval), (5.5, Some([4.5, 7.5])));
    // −17 people is no count, and neither end of its interval may be one.
    let got = head.run(&Input { embedding: &[-9.0, 0.0, -1.0], tokens: None }).unwrap();
    assert_eq!((got.value, got.interval), (0.0, Some([0.0, 2.0])));
    head.self_test().unwrap();
    assert_eq!(head.manifest(), &manifest(Kind::Linear));
    assert_eq!(head.parameters(), 10);
    assert!(!head.needs_tokens());
}

#[test]
fn mlp_uses_the_exact_gelu() {
    let list = tensors(&[
        ("norm.mean", &[3], &[0.0; 3]),
        ("norm.std", &[3], &[1.0; 3]),
        ("fc1.weight", &[2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        ("fc1.bias", &[2], &[0.0, 1.0]),
        ("fc2.weight", &[1, 2], &[1.0, 10.0]),
        ("fc2.bias", &[1], &[0.5]),
    ]);
    let head = Head::from_bytes(&head::seal(&manifest(Kind::Mlp), list, &[0.1, 0.2, 0.3]).unwrap()).unwrap();
    // x·Φ(x) at 1 and at −0.5 + 1 (SciPy: norm.cdf); the tanh form differs in the fourth digit.
    let want = 1.0 * 0.841_344_746 + 10.0 * 0.5 * 0.691_462_461 + 0.5;
    assert!((value(&head, &[1.0, -0.5, 9.0]) - want).abs() < 1e-5);
    head.self_test().unwrap();
}

fn token_manifest() -> Manifest {
    let options = Tokens { response: Response::Softplus, background: true, departure: true };
    let mut manifest = manifest(Kind::Tokens(options));
    manifest.input.grid = Some(Grid { rows: 2, cols: 2, dim: 2, cells: 1 });
    manifest
}

fn token_tensors() -> Tensors {
    tensors(&[
        ("token.mean", &[4, 2], &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
        ("token.std", &[4, 2], &[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0]),
        ("token.fc1.weight", &[2, 3], &[1.0, -1.0, 0.5, 0.0, 2.0, 1.0]),
        ("token.fc1.bias", &[2], &[0.1, -0.2]),
        ("token.fc2.weight", &[1, 2], &[1.5, -0.5]),
        ("token.fc2.bias", &[1], &[-1.0]),
        ("token.row_weight", &[2], &[3.0, 0.5]),
        ("token.bias", &[1], &[0.25]),
    ])
}

#[test]
fn token_head_sums_departures_weighted_by_row() {
    let bytes = head::seal(&token_manifest(), token_tensors(), &[0.5; 8]).unwrap();
    let head = Head::from_bytes(&bytes).unwrap();
    let tokens = [0.3, -0.4, 1.0, 1.0, 2.0, 6.0, 2.0, 3.5];
    // numpy, float64: departures d, rms appended, gelu(erf), softplus, row weights, sum, bias.
    // d = [[.3,-.4],[0,0],[0,2],[-1,.5]]; see the formula in `head::Tokens`.
    let mut want = 0.25;
    for (t, weight) in [3.0, 3.0, 0.5, 0.5].into_iter().enumerate() {
        let mean = t as f64;
        let std = if t == 2 { 2.0 } else { 1.0 };
        let d = [(tokens[2 * t] - mean) / std, (tokens[2 * t + 1] - mean) / std];
        let rms = ((d[0] * d[0] + d[1] * d[1]) / 2.0).sqrt();
        let hidden = [gelu(d[0] - d[1] + 0.5 * rms + 0.1), gelu(2.0 * d[1] + rms - 0.2)];
        want += weight * (1.5 * hidden[0] - 0.5 * hidden[1] - 1.0).exp().ln_1p();
    }
    let tokens: Vec<f32> = tokens.iter().map(|x| *x as f32).collect();
    let got = head.run(&Input { embedding: &[], tokens: Some(&tokens) }).unwrap().value;
    assert!((got - want).abs() < 1e-5, "{got} {want}");
    head.self_test().unwrap();
    assert!(head.needs_tokens());

    let error = head.run(&Input { embedding: &[0.0; 3], tokens: None }).unwrap_err();
    assert!(matches!(error, HeadError::NoTokens { .. }), "{error}");
}

/// x·Φ(x) in f64, Φ by numerical integration of the density.
fn gelu(x: f64) -> f64 {
    let steps = 20_000;
    let width = x / f64::from(steps);
    let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let area: f64 = (0..steps).map(|i| density((f64::from(i) + 0.5) * width) * width).sum();
    x * (0.5 + area)
}

#[test]
fn circular_values_wrap_at_midnight() {
    let mut manifest = manifest(Kind::Linear);
    manifest.task = Task::TimeOfDay;
    manifest.output =
        Output { kind: OutputKind::Circular { period: 1440.0 }, unit: "minute".into(), min: None };
    manifest.interval = Some(IntervalOffsets { level: 0.9, lower: -30.0, upper: 20.0 });
    let list = tensors(&[
        ("norm.mean", &[3], &[0.0; 3]),
        ("norm.std", &[3], &[1.0; 3]),
        ("weight", &[2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        ("bias", &[2], &[0.0, 0.0]),
    ]);
    let seal =
        |m: &Manifest| Head::from_bytes(&head::seal(m, list.clone(), &[1.0, 0.0, 0.0]).unwrap()).unwrap();
    let head = seal(&manifest);
    let at = |minute: f64| {
        let angle = minute / 1440.0 * std::f64::consts::TAU;
        head.run(&Input { embedding: &[angle.cos() as f32, angle.sin() as f32, 0.0], tokens: None })
    };
    for (minute, low, high) in [(5.0, 1415.0, 25.0), (1430.0, 1400.0, 10.0), (720.0, 690.0, 740.0)] {
        let got = at(minute).unwrap();
        assert!((got.value - minute).abs() < 1e-3, "{got:?}");
        let [got_low, got_high] = got.interval.unwrap();
        assert!((got_low - low).abs() < 1e-3 && (got_high - high).abs() < 1e-3, "{got:?}");
    }
    // Just before midnight in f32 the angle may round to −0: the value still lies in [0, 1440).
    let before = head.run(&Input { embedding: &[1.0, -1e-30, 0.0], tokens: None }).unwrap();
    assert!((0.0..1440.0).contains(&before.value), "{before:?}");
    // The centre of the circle has no time.
    let error = head.run(&Input { embedding: &[0.0; 3], tokens: None }).unwrap_err();
    assert!(matches!(error, HeadError::NoAnswer { .. }), "{error}");
    // An interval of a whole day is the day.
    manifest.interval = Some(IntervalOffsets { level: 0.9, lower: -800.0, upper: 700.0 });
    let whole = seal(&manifest).run(&Input { embedding: &[0.0, 1.0, 0.0], tokens: None }).unwrap();
    assert_eq!(whole.interval, Some([0.0, 1440.0]));
}

#[test]
fn a_frame_without_an_answer_is_an_error() {
    let mut list = linear();
    list.insert("weight".into(), TensorData::f32(&[1, 3], &[3e38, 3e38, 0.0]));
    let head = Head::from_bytes(&unchecked(&manifest(Kind::Linear), list)).unwrap();
    let run = |embedding: &[f32]| head.run(&Input { embedding, tokens: None }).unwrap_err().to_string();
    assert_eq!(run(&[9.0, 9.0, 0.0]), "head people-count: the network gave [inf], which is no answer");
    assert_eq!(run(&[0.0, f32::NAN, 0.0]), "head people-count: number 1 of the embedding is NaN");
    assert_eq!(run(&[0.0]), "head people-count: the embedding has 1 numbers, want 3");
}

#[test]
fn a_head_of_another_space_says_what_to_do() {
    let head = Head::from_bytes(&unchecked(&manifest(Kind::Linear), linear())).unwrap();
    head.check_space(&SpaceId([0xab; 32])).unwrap();
    let error = head.check_space(&SpaceId([0xcd; 32])).unwrap_err().to_string();
    let want = format!(
        "head people-count (release {}) was trained on embedding space abababababab; this encoder gives \
         cdcdcdcdcdcd: embed and train again, or serve the model with space abababababab",
        head.short_release()
    );
    assert_eq!(error, want);
}

#[test]
fn release_is_the_hash_of_the_whole_file() {
    let bytes = unchecked(&manifest(Kind::Linear), linear());
    let again = unchecked(&manifest(Kind::Linear), linear());
    assert_eq!(bytes, again, "the same head gives the same bytes");
    let release = Head::from_bytes(&bytes).unwrap().release().to_owned();
    assert_eq!(release.len(), 64);
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_ne!(Head::from_bytes(&other).unwrap().release(), release);
}

#[test]
fn a_tampered_weight_fails_the_self_test() {
    let sealed = head::seal(&manifest(Kind::Linear), linear(), &[3.0, 2.0, 0.0]).unwrap();
    let four = 4.0f32.to_le_bytes();
    let at = sealed.windows(4).rposition(|window| window == four).unwrap();
    let mut bytes = sealed;
    bytes[at..at + 4].copy_from_slice(&5.0f32.to_le_bytes());
    let head = Head::from_bytes(&bytes).unwrap();
    let error = head.self_test().unwrap_err().to_string();
    assert!(error.contains("failed its self-test"), "{error}");
    assert!(error.contains("output 0 is 6.5, want 5.5 within 0.001"), "{error}");
}

#[test]
fn every_wrong_tensor_is_named() {
    let with = |name: &str, data: Option<TensorData>| {
        let mut list = linear();
        match data {
            Some(data) => list.insert(name.into(), data),
            None => list.remove(name),
        };
        refusal(&unchecked(&manifest(Kind::Linear), list))
    };
    let f32s = |shape: &[usize], values: &[f32]| Some(TensorData::f32(shape, values));
    assert_eq!(with("bias", None), "head people-count: tensor `bias` is missing, want shape [1]");
    assert_eq!(
        with("weight", f32s(&[3, 1], &[0.0; 3])),
        "head people-count: tensor `weight` is of shape [3, 1], want shape [1, 3]"
    );
    assert_eq!(
        with("weight", f32s(&[1, 3], &[0.0, f32::NAN, 0.0])),
        "head people-count: tensor `weight` is NaN at position 1, want finite numbers"
    );
    assert_eq!(
        with("norm.std", f32s(&[3], &[1.0, 1.0, 0.0])),
        "head people-count: tensor `norm.std` is 0 at position 2, want positive numbers"
    );
    assert_eq!(
        with("fc1.weight", f32s(&[1], &[0.0])),
        "head people-count: tensor `fc1.weight` is unexpected (shape [1]), want no such tensor in a head of this kind"
    );
    assert_eq!(
        with("weight", Some(TensorData::f16(&[1, 3], &[0.0; 3]))),
        "head people-count: tensor `weight` is of type F16, want F32"
    );
    let mlp = refusal(&unchecked(&manifest(Kind::Mlp), {
        let mut list = linear();
        list.insert("fc1.weight".into(), TensorData::f32(&[2, 4], &[0.0; 8]));
        list
    }));
    assert_eq!(mlp, "head people-count: tensor `fc1.weight` is of shape [2, 4], want shape [1..=65536, 3]");
}

#[test]
fn every_wrong_manifest_field_is_named() {
    let with = |change: fn(&mut Manifest)| {
        let mut manifest = manifest(Kind::Linear);
        change(&mut manifest);
        refusal(&unchecked(&manifest, linear()))
    };
    assert_eq!(
        with(|m| m.format = 2),
        "manifest format 2 is not known here (this program reads format 1): update this program, or train the \
         head with a matching one"
    );
    assert!(with(|m| m.name = "a/../b".into()).contains("field `name` is a/../b"));
    assert!(with(|m| m.input.space = "AB".repeat(32)).contains("64 lowercase hex digits"));
    assert!(with(|m| m.input.dim = 1 << 20).contains("field `input.dim` is 1048576, want 1..=65536"));
    assert!(
        with(|m| m.input.grid = Some(Grid { rows: 1, cols: 1, dim: 1, cells: 1 }))
            .contains("none, as this kind of head reads the embedding")
    );
    assert!(with(|m| m.self_test.tolerance = 0.0).contains("self_test.tolerance"));
    assert!(with(|m| m.interval.as_mut().unwrap().lower = 9.0).contains("field `interval` is 9..2"));
    assert!(
        with(|m| m.output.kind = OutputKind::Circular { period: 24.0 })
            .contains("none for a circular output")
    );
    assert!(with(|m| m.output.unit = "\u{1b}[31m".into()).contains("output.unit"));

    let mut tokens = token_manifest();
    tokens.input.grid = Some(Grid { rows: 65_536, cols: 65_536, dim: 1, cells: 1 });
    assert!(refusal(&unchecked(&tokens, Tensors::new())).contains("at most 65536 tokens"));
    for cells in [0, 2, u32::MAX] {
        tokens.input.grid = Some(Grid { rows: 2, cols: 2, dim: 2, cells });
        assert!(refusal(&unchecked(&tokens, Tensors::new())).contains("`input.grid.cells` is"), "{cells}");
    }
}

#[test]
fn an_unknown_key_in_the_manifest_is_refused() {
    let mut json = serde_json::to_value(manifest(Kind::Linear)).unwrap();
    json["output"]["maximum"] = 9.into();
    let error = refusal(&with_manifest_text(&json.to_string()));
    assert!(error.contains("unknown field `maximum`"), "{error}");
    // Of a later format, unknown keys are expected: the version is what is said.
    json["format"] = 3.into();
    let error = refusal(&with_manifest_text(&json.to_string()));
    assert!(error.starts_with("manifest format 3 is not known here"), "{error}");
}

#[test]
fn a_truncated_or_foreign_file_is_refused() {
    let bytes = unchecked(&manifest(Kind::Linear), linear());
    for cut in 0..bytes.len() {
        let error = refusal(&bytes[..cut]);
        assert!(error.starts_with("not a whole safetensors file"), "{cut}: {error}");
    }
    assert!(refusal(&[bytes.as_slice(), &[0]].concat()).starts_with("not a whole safetensors file"));
    let plain = safetensors::serialize([("weight", &TensorView::new())], None).unwrap();
    assert!(refusal(&plain).contains("it is a safetensors file, but not a head"));
}

/// A tensor for a safetensors file that is no head.
struct TensorView([u8; 4]);

impl TensorView {
    fn new() -> Self {
        Self([0; 4])
    }
}

impl safetensors::View for &TensorView {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &[1]
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.0.as_slice().into()
    }
    fn data_len(&self) -> usize {
        4
    }
}

#[test]
fn an_oversized_file_is_refused_by_its_announced_size() {
    // A header that announces 2^62 bytes must not be believed, nor allocated.
    let mut bytes = (1u64 << 62).to_le_bytes().to_vec();
    bytes.extend([b'{'; 100]);
    assert!(refusal(&bytes).contains("the header is 4611686018427387904 bytes, at most"));

    let manifest = with_manifest_text(&" ".repeat(70_000));
    assert_eq!(
        refusal(&manifest),
        "the manifest is 70000 bytes, at most 65536 are accepted: this is not a head file"
    );

    // A sparse file of 1 TiB: refused by name without being read.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.head");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Head::load(&path).unwrap_err().to_string();
    assert!(error.contains("big.head: the file is 1099511627776 bytes, at most 67108864"), "{error}");
    let error = Head::load(&folder.path().join("none.head")).unwrap_err().to_string();
    assert!(error.contains("none.head: No such file"), "{error}");
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = head::seal(&token_manifest(), token_tensors(), &[0.5; 8]).unwrap();
    let tokens = [0.5; 8];
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            if let Ok(head) = Head::from_bytes(&bytes) {
                let _ = head.self_test();
                let _ = head.run(&Input { embedding: &[], tokens: Some(&tokens) });
            }
        }
    }
}
