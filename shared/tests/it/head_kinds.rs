//! The kinds of heads that are no networks: what they compute, by hand, and which files are refused.

use std::collections::BTreeMap;

use shared::head::{
    self, Combine, Grid, Head, Input, InputSpec, IntervalOffsets, Kind, Likeness, Manifest, NO_SECOND,
    Output, OutputKind, SelfTestTolerance, Task, TensorData, Trained, Trees,
};

type Tensors = BTreeMap<String, TensorData>;

/// Two tokens side by side, each one map of 2 × 2 cells: a map of 2 × 4.
const GRID: Grid = Grid { rows: 1, cols: 2, dim: 4, cells: 2 };

fn manifest(kind: Kind, grid: Option<Grid>) -> Manifest {
    Manifest {
        format: head::FORMAT,
        name: "test".into(),
        task: Task::Scalar,
        kind,
        input: InputSpec { space: "ab".repeat(32), dim: 3, grid },
        output: Output { kind: OutputKind::Scalar, unit: "units".into(), min: None },
        interval: None,
        uplink: "v1:960x576:q80:420:pass".into(),
        trained: Trained { frames: 30, labels: None, seed: 7 },
        held_out: None,
        self_test: SelfTestTolerance { tolerance: 1e-3 },
    }
}

fn seal(manifest: &Manifest, tensors: &Tensors, input: &[f32]) -> Result<Head, String> {
    let bytes = head::seal(manifest, tensors.clone(), input).map_err(|error| error.to_string())?;
    let head = Head::from_bytes(&bytes).map_err(|error| error.to_string())?;
    head.self_test().map_err(|error| error.to_string())?;
    Ok(head)
}

/// Seals with one tensor replaced, and expects to be refused with words that begin so.
fn refuse(manifest: &Manifest, tensors: &Tensors, (name, data): (&str, TensorData), want: &str) {
    let mut tensors = tensors.clone();
    tensors.insert(name.into(), data);
    let size = manifest.input.grid.map_or(3, |grid| grid.tokens() * grid.dim as usize);
    let error = seal(manifest, &tensors, &vec![0.5; size]).unwrap_err();
    assert!(error.starts_with(&format!("head test: tensor `{name}` is {want}")), "{error}");
}

/// Every byte of a file flipped three ways: refused or answered, but nothing panics or runs on.
fn flip_everything(manifest: &Manifest, tensors: &Tensors, input: &[f32]) {
    let bytes = head::seal(manifest, tensors.clone(), input).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            if let Ok(head) = Head::from_bytes(&bytes) {
                let _ = head.self_test();
                let _ = head.run(&Input { embedding: input, tokens: Some(input) });
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------- trees

/// Of the map's 8 places and the coarse scale's 2: one tree asks whether the map rises from place 0 to 1, and then
/// whether the coarse left place is above 2; the other is a leaf.
fn trees() -> (Manifest, Tensors) {
    let tensors = BTreeMap::from([
        ("tree.root".to_owned(), TensorData::u32(&[2], &[0, 5])),
        (
            "tree.node".to_owned(),
            TensorData::u32(
                &[6, 3],
                &[
                    1, 0, 1, // number[1] − number[0] ≤ 0.25 ?
                    0, NO_SECOND, 0, // leaf 0
                    8, NO_SECOND, 3, // number[8] ≤ 2 ?
                    1, NO_SECOND, 0, // leaf 1
                    2, NO_SECOND, 0, // leaf 2
                    3, NO_SECOND, 0, // leaf 3, the second tree
                ],
            ),
        ),
        ("tree.threshold".to_owned(), TensorData::f32(&[6], &[0.25, 0.0, 2.0, 0.0, 0.0, 0.0])),
        ("tree.leaf".to_owned(), TensorData::f32(&[4, 1], &[10.0, 20.0, 40.0, 1.0])),
    ]);
    (manifest(Kind::Trees(Trees { scales: 2, combine: Combine::Mean }), Some(GRID)), tensors)
}

#[test]
fn trees_lead_to_leaves_and_average_them() {
    let (manifest, tensors) = trees();
    let head = seal(&manifest, &tensors, &[0.5; 8]).unwrap();
    assert!(head.needs_tokens());
    // Token by token, cells row by row: the first row of the map is [a, b, ..].
    let value = |cells: [f32; 4]| {
        let tokens = [cells, [9.0; 4]].concat();
        head.run(&Input { embedding: &[], tokens: Some(&tokens) }).unwrap().value
    };
    assert_eq!(value([1.0, 1.25, 0.0, 0.0]), f64::midpoint(10.0, 1.0), "at the threshold it goes left");
    assert_eq!(value([1.0, 2.0, 3.0, 2.0]), f64::midpoint(20.0, 1.0), "a mean of 2 is not above 2");
    assert_eq!(value([1.0, 2.0, 3.0, 2.5]), f64::midpoint(40.0, 1.0));
}

#[test]
fn operations_of_trees_are_those_of_the_longest_way() {
    let (manifest, tensors) = trees();
    let head = seal(&manifest, &tensors, &[0.5; 8]).unwrap();
    // Two means of four, two questions of two operations, a sum over two trees.
    assert_eq!(head.flops(), 2 * 4 + 2 * 2 + 2);
    let median = Manifest { kind: Kind::Trees(Trees { scales: 2, combine: Combine::Median }), ..manifest };
    assert!(seal(&median, &tensors, &[0.5; 8]).unwrap().flops() > 500, "64 rounds over both trees");
}

#[test]
fn a_tree_that_is_far_off_does_not_move_the_median() {
    let (_, mut tensors) = trees();
    let leaf = |at| [at, NO_SECOND, 0];
    tensors.insert("tree.node".into(), TensorData::u32(&[3, 3], [leaf(0), leaf(1), leaf(3)].as_flattened()));
    tensors.insert("tree.root".into(), TensorData::u32(&[5], &[0, 0, 1, 0, 2]));
    tensors.insert("tree.threshold".into(), TensorData::f32(&[3], &[0.0; 3]));
    tensors.insert("tree.leaf".into(), TensorData::f32(&[4, 1], &[10.0, 11.0, 0.0, 500.0]));
    let value = |combine| {
        let manifest = manifest(Kind::Trees(Trees { scales: 1, combine }), None);
        let head = seal(&manifest, &tensors, &[0.5; 3]).unwrap();
        head.run(&Input { embedding: &[0.5; 3], tokens: None }).unwrap().value
    };
    assert!((value(Combine::Mean) - 108.2).abs() < 1e-3);
    assert!((value(Combine::Median) - 10.0).abs() < 0.5);
    // A manifest from before there was a choice.
    assert_eq!(serde_json::from_str::<Trees>(r#"{"scales":2}"#).unwrap().combine, Combine::Mean);
}

#[test]
fn trees_read_an_embedding_where_there_is_no_grid() {
    let (_, mut tensors) = trees();
    let nodes = [2, NO_SECOND, 1, 0, NO_SECOND, 0, 1, NO_SECOND, 0];
    tensors.insert("tree.node".into(), TensorData::u32(&[3, 3], &nodes));
    tensors.insert("tree.root".into(), TensorData::u32(&[1], &[0]));
    tensors.insert("tree.threshold".into(), TensorData::f32(&[3], &[0.0; 3]));
    let head =
        seal(&manifest(Kind::Trees(Trees { scales: 1, combine: Combine::Mean }), None), &tensors, &[0.5; 3])
            .unwrap();
    assert!(!head.needs_tokens());
    let value = |embedding: &[f32]| head.run(&Input { embedding, tokens: None }).unwrap().value;
    assert_eq!([value(&[9.0, 9.0, -1.0]), value(&[9.0, 9.0, 1.0])], [10.0, 20.0]);
}

#[test]
fn trees_that_lead_astray_are_refused() {
    let (manifest, tensors) = trees();
    let node = |at: usize, triple: [u32; 3]| {
        let mut nodes = [1, 0, 1, 0, 9, 0, 8, 9, 3, 1, 9, 0, 2, 9, 0, 3, 9, 0];
        nodes[3 * at..3 * at + 3].copy_from_slice(&triple);
        ("tree.node", TensorData::u32(&[6, 3], &nodes))
    };
    let refuse = |(name, data), want: &str| refuse(&manifest, &tensors, (name, data), want);
    refuse(
        node(2, [8, NO_SECOND, 2]),
        "[8, 4294967295, 2] at node 2, want a child after node 2, and it and the",
    );
    refuse(node(2, [8, NO_SECOND, 1]), "[8, 4294967295, 1] at node 2, want a child after node 2");
    refuse(
        node(2, [8, NO_SECOND, 5]),
        "[8, 4294967295, 5] at node 2, want a child after node 2, and it and the",
    );
    refuse(node(2, [8, NO_SECOND, u32::MAX]), "[8, 4294967295, 4294967295] at node 2, want a child");
    refuse(node(0, [10, NO_SECOND, 1]), "[10, 4294967295, 1] at node 0, want places below 10");
    refuse(node(0, [1, 10, 1]), "[1, 10, 1] at node 0, want places below 10");
    refuse(node(3, [4, NO_SECOND, 0]), "[4, 4294967295, 0] at node 3, want a leaf below 4");
    refuse(("tree.root", TensorData::u32(&[1], &[6])), "6, want nodes below 6");
    refuse(("tree.root", TensorData::u32(&[0], &[])), "of shape [0], want shape [1..=4096]");
    refuse(("tree.root", TensorData::f32(&[1], &[0.0])), "of type F32, want U32");
    refuse(
        ("tree.leaf", TensorData::f32(&[2, 2], &[0.0; 4])),
        "of shape [2, 2], want shape [1..=4194304, 1]",
    );
    refuse(("tree.leaf", TensorData::f32(&[4, 1], &[f32::INFINITY; 4])), "inf at position 0, want finite");
    refuse(("tree.leaf", TensorData::u32(&[4, 1], &[0; 4])), "of type U32, want F32");
    refuse(
        ("tree.threshold", TensorData::f32(&[6], &[f32::NAN; 6])),
        "NaN at position 0, want finite numbers",
    );
    refuse(("tree.threshold", TensorData::f32(&[5], &[0.0; 5])), "of shape [5], want shape [6]");

    for (scales, grid) in [(0, Some(GRID)), (9, Some(GRID)), (2, None)] {
        let mut manifest = manifest.clone();
        manifest.kind = Kind::Trees(Trees { scales, combine: Combine::Mean });
        manifest.input.grid = grid;
        let error = seal(&manifest, &tensors, &[0.5; 8]).unwrap_err();
        assert!(error.contains(&format!("field `kind.trees.scales` is {scales}, want 1..=")), "{error}");
    }
    flip_everything(&manifest, &tensors, &[0.5; 8]);
}

// -------------------------------------------------------------------------------------------- departures

fn departures() -> (Manifest, Tensors) {
    let grid = Grid { rows: 2, cols: 2, dim: 2, cells: 1 };
    let background = [0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0];
    let tensors = BTreeMap::from([
        ("background".to_owned(), TensorData::f16(&[2, 2, 2], &background)),
        ("scale".to_owned(), TensorData::f32(&[2], &[0.5, 2.0])),
        ("threshold".to_owned(), TensorData::f32(&[2], &[1.0, 3.0])),
        ("row_weight".to_owned(), TensorData::f32(&[2, 2], &[4.0, 1.0, 0.5, 0.25])),
        ("bias".to_owned(), TensorData::f32(&[1], &[0.125])),
    ]);
    (manifest(Kind::Departures, Some(grid)), tensors)
}

#[test]
fn departures_are_counted_by_row() {
    let (manifest, tensors) = departures();
    let head = seal(&manifest, &tensors, &[0.5; 8]).unwrap();
    let value = |tokens: [f32; 8]| head.run(&Input { embedding: &[], tokens: Some(&tokens) }).unwrap().value;
    assert_eq!(value([0.0, 5.0, 0.0, 5.0, 0.0, 5.0, 0.0, 5.0]), 0.125);
    // Top left: 0.5 / 0.5 is at the threshold, not above. Top right: 8 / 2 = 4 passes both thresholds. Bottom left:
    // −1 / 0.5 = 2 in size passes the first.
    assert_eq!(value([0.5, 5.0, 0.0, 13.0, -1.0, 5.0, 0.0, 5.0]), 0.125 + (4.0 + 0.5) + 1.0);
}

#[test]
fn broken_departures_are_refused() {
    let (manifest, tensors) = departures();
    let refuse = |(name, data), want: &str| refuse(&manifest, &tensors, (name, data), want);
    refuse(("background", TensorData::f16(&[2, 4], &[0.0; 8])), "of shape [2, 4], want shape [2, 2, 2]");
    refuse(
        ("background", TensorData::f16(&[2, 2, 2], &[f32::NAN; 8])),
        "NaN at position 0, want finite numbers",
    );
    refuse(("scale", TensorData::f32(&[2], &[1.0, 0.0])), "0 at position 1, want positive numbers");
    refuse(
        ("scale", TensorData::f32(&[2], &[1e-45, 1.0])),
        "0.000000000000000000000000000000000000000000001",
    );
    refuse(("threshold", TensorData::f32(&[0], &[])), "of shape [0], want shape [1..=64]");
    refuse(("row_weight", TensorData::f32(&[2, 3], &[0.0; 6])), "of shape [2, 3], want shape [2, 2]");
    refuse(("bias", TensorData::f16(&[1], &[0.0])), "of type F16, want F32");
    let mut without = manifest.clone();
    without.input.grid = None;
    let error = seal(&without, &tensors, &[0.5; 3]).unwrap_err();
    assert!(error.contains("field `input.grid` is none, want a grid"), "{error}");
    flip_everything(&manifest, &tensors, &[0.5; 8]);
}

// ------------------------------------------------------------------------------------------------ kernel

fn kernel(likeness: Likeness) -> (Manifest, Tensors) {
    let mut manifest = manifest(Kind::Kernel(likeness), None);
    manifest.interval = Some(IntervalOffsets { level: 0.9, lower: -1.0, upper: 2.0 });
    let tensors = BTreeMap::from([
        ("norm.mean".to_owned(), TensorData::f32(&[3], &[1.0, 0.0, 0.0])),
        ("norm.std".to_owned(), TensorData::f32(&[3], &[1.0, 2.0, 1.0])),
        ("support".to_owned(), TensorData::f16(&[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0])),
        ("width".to_owned(), TensorData::f32(&[1], &[2.0])),
        ("weight".to_owned(), TensorData::f32(&[1, 2], &[3.0, -1.0])),
        ("bias".to_owned(), TensorData::f32(&[1], &[5.0])),
        ("precision".to_owned(), TensorData::f32(&[2, 2], &[0.8, 0.0, 0.0, 0.6])),
        ("noise".to_owned(), TensorData::f32(&[1], &[0.25])),
    ]);
    (manifest, tensors)
}

#[test]
fn kernel_heads_answer_by_likeness_and_say_how_sure_they_are() {
    // [1, 0, 0] stands on the first support and √2 (or 2, summed) from the second.
    for (likeness, other) in [(Likeness::Gaussian, (-0.25f64).exp()), (Likeness::Laplace, (-1.0f64).exp())] {
        let (manifest, tensors) = kernel(likeness);
        let head = seal(&manifest, &tensors, &[0.5; 3]).unwrap();
        let got = head.run(&Input { embedding: &[1.0, 0.0, 0.0], tokens: None }).unwrap();
        assert!((got.value - (5.0 + 3.0 - other)).abs() < 1e-6, "{likeness:?} {got:?}");
        let deviation = (1.0 - 0.8 - 0.6 * other * other + 0.25f64).max(0.25).sqrt();
        let [low, high] = got.interval.unwrap();
        assert!(
            (got.value - low - deviation).abs() < 1e-6 && (high - got.value - 2.0 * deviation).abs() < 1e-6
        );
        // Far from everything it answers the mean, as unsure as can be.
        let far = head.run(&Input { embedding: &[1e4, 0.0, 0.0], tokens: None }).unwrap();
        assert_eq!(far.value, 5.0);
        assert!((far.value - far.interval.unwrap()[0] - 1.25f64.sqrt()).abs() < 1e-6, "{far:?}");
    }
}

#[test]
fn broken_kernel_heads_are_refused() {
    let (manifest, tensors) = kernel(Likeness::Gaussian);
    let refuse = |(name, data), want: &str| refuse(&manifest, &tensors, (name, data), want);
    refuse(("support", TensorData::f16(&[2, 2], &[0.0; 4])), "of shape [2, 2], want shape [1..=1024, 3]");
    refuse(("support", TensorData::f16(&[0, 3], &[])), "of shape [0, 3], want shape [1..=1024, 3]");
    refuse(("width", TensorData::f32(&[1], &[0.0])), "0 at position 0, want positive numbers");
    refuse(("noise", TensorData::f32(&[1], &[-1.0])), "-1 at position 0, want positive numbers");
    refuse(("precision", TensorData::f32(&[2, 1], &[0.0; 2])), "of shape [2, 1], want shape [2, 2]");
    refuse(("weight", TensorData::f32(&[1, 2], &[f32::NAN; 2])), "NaN at position 0, want finite numbers");
    flip_everything(&manifest, &tensors, &[0.5; 3]);
}
