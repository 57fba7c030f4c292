//! Heads that answer with a class: what is said of a frame, and which files are refused.

use std::collections::BTreeMap;

use shared::head::{
    self, Head, Input, InputSpec, IntervalOffsets, Kind, Manifest, Output, OutputKind, SelfTestTolerance,
    Task, TensorData, Trained,
};

fn manifest(names: &[&str]) -> Manifest {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Manifest {
        format: head::FORMAT,
        name: "weather".into(),
        task: Task::Class,
        kind: Kind::Linear,
        input: InputSpec { space: "ab".repeat(32), dim: 2, grid: None },
        output: Output { kind: OutputKind::Classes { names }, unit: "probability".into(), min: None },
        interval: None,
        uplink: "v1:960x576:q80:420:pass".into(),
        trained: Trained { frames: 30, labels: None, seed: 7 },
        held_out: None,
        self_test: SelfTestTolerance { tolerance: 1e-3 },
    }
}

/// Three classes: the two numbers of the embedding, and half of nothing.
fn head(manifest: &Manifest) -> Result<Head, String> {
    let width = manifest.output.kind.width();
    let mut weight = vec![0.0; 2 * width];
    // Row by row, [width, 2]; a manifest with fewer classes is refused before its tensors are looked at.
    weight[0] = 1.0;
    if let Some(second) = weight.get_mut(3) {
        *second = 1.0;
    }
    let mut bias = vec![0.0; width];
    bias[width - 1] = 0.5;
    let tensors = BTreeMap::from([
        ("norm.mean".to_owned(), TensorData::f32(&[2], &[0.0; 2])),
        ("norm.std".to_owned(), TensorData::f32(&[2], &[1.0; 2])),
        ("weight".to_owned(), TensorData::f32(&[width, 2], &weight)),
        ("bias".to_owned(), TensorData::f32(&[width], &bias)),
    ]);
    let bytes = head::seal(manifest, tensors, &[0.5, 0.5]).map_err(|error| error.to_string())?;
    let head = Head::from_bytes(&bytes).map_err(|error| error.to_string())?;
    head.self_test().map_err(|error| error.to_string())?;
    Ok(head)
}

#[test]
fn the_largest_number_names_the_class_and_its_share_is_the_probability() {
    let head = head(&manifest(&["clear", "fog", "rain"])).unwrap();
    assert_eq!(head.manifest().output.kind.classes(), ["clear", "fog", "rain"]);
    let answer = |embedding: &[f32]| {
        let got = head.run(&Input { embedding, tokens: None }).unwrap();
        assert_eq!(got.interval, None);
        (got.class.unwrap(), got.value)
    };
    assert_eq!(answer(&[1.5, 0.0]), (0, 0.75));
    assert_eq!(answer(&[0.0, 2.0]), (1, 0.8));
    assert_eq!(answer(&[-7.0, 0.0]), (2, 1.0), "a negative number is no probability");
    assert_eq!(answer(&[0.5, 0.5]), (0, 1.0 / 3.0), "the first among equals");
}

#[test]
fn without_a_positive_number_every_class_is_as_likely() {
    let mut two = manifest(&["day", "night"]);
    two.kind = Kind::Linear;
    let head = head(&two).unwrap();
    // night: x₁ + 0.5
    let got = head.run(&Input { embedding: &[-2.0, -1.0], tokens: None }).unwrap();
    assert_eq!((got.class, got.value), (Some(1), 0.5));
}

#[test]
fn a_manifest_whose_classes_are_wrong_is_refused() {
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest(&["clear", "fog"]);
        change(&mut manifest);
        head(&manifest).unwrap_err()
    };
    let names =
        |names: Vec<String>| refused(&move |m| m.output.kind = OutputKind::Classes { names: names.clone() });
    let field = "head weather: manifest field `classes.names` is ";
    assert_eq!(names(vec!["fog".into()]), format!("{field}1, want 2 to 16 names"));
    let many = (0..17).map(|i| format!("c{i}")).collect();
    assert_eq!(names(many), format!("{field}17, want 2 to 16 names"));
    let want = ", want different names of 1 to 32 printable characters";
    assert_eq!(names(vec!["fog".into(), "fog".into()]), format!("{field}fog{want}"));
    for wrong in ["", "a\nb", " fog", &"x".repeat(33)] {
        assert_eq!(names(vec!["fog".into(), wrong.into()]), format!("{field}{wrong}{want}"));
    }
    let error = refused(&|m| m.task = Task::Count);
    assert!(error.contains("`output.kind`") && error.contains("classes for the task class alone"), "{error}");
    let error = refused(&|m| m.output.kind = OutputKind::Scalar);
    assert!(error.contains("`output.kind` is Scalar"), "{error}");
    let offsets = IntervalOffsets { level: 0.9, lower: -1.0, upper: 1.0 };
    let error = refused(&|m| m.interval = Some(offsets));
    assert!(error.contains("an interval, want neither for classes"), "{error}");
}
