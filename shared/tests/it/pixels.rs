//! Resize and normalise, defined to the pixel.

use shared::image::{Rgb, resize};
use shared::preprocess::Preprocess;

use crate::golden::golden;
use crate::picture::{difference, digest, named, noise, scene};

#[test]
fn resize_is_within_one_level_of_pillow() {
    for case in golden().resize {
        let source = named(&case.picture, case.source.0, case.source.1);
        let ours = resize(&source, case.target.0, case.target.1);
        assert_eq!((ours.width, ours.height), case.target);
        let (largest, _) = difference(&ours.data, &case.pixels.0);
        assert!(largest <= 1, "{}: {largest} levels from Pillow", case.name);
    }
}

/// A pin that changes means: heads trained before the change see other pixels. That is a new
/// `preprocess::VERSION` and a new version of the uplink id, not a new pin.
#[test]
fn resize_gives_exactly_these_bytes() {
    for (source, width, height, pin) in [
        (scene(320, 240), 96, 48, "83f6bf5a9cb6946d"),
        (noise(193, 131, 7), 61, 40, "6f5a80651f6c695e"),
        (noise(61, 40, 7), 193, 131, "67a10bd976c734c4"),
    ] {
        assert_eq!(digest(&resize(&source, width, height).data), pin, "{source:?} to {width}×{height}");
    }
}

#[test]
fn the_same_size_is_a_copy() {
    let image = noise(33, 21, 3);
    assert_eq!(resize(&image, 33, 21), image);
}

#[test]
fn resizing_is_antialiased() {
    // One-pixel stripes made 8 times smaller: even grey. Taking every eighth pixel would give black or white.
    let stripes = (0..64 * 64).flat_map(|at| [if at % 2 == 0 { 0 } else { 255 }; 3]).collect();
    let small = resize(&Rgb::new(64, 64, stripes).unwrap(), 8, 8);
    assert!(small.data.iter().all(|value| (118..=137).contains(value)), "{:?}", &small.data[..24]);
}

#[test]
fn normalise_is_numpys() {
    let case = golden().normalise;
    let values =
        Preprocess::imagenet(case.height, case.width).normalise(&noise(case.width, case.height, case.seed));
    assert_eq!(values, case.values, "[3, height, width], to the last bit");
}

#[test]
fn preprocessing_stretches_to_the_input() {
    let preprocess = Preprocess::imagenet(48, 96);
    let input = preprocess.resize_to_input(&scene(320, 240));
    assert_eq!((input.width, input.height), (96, 48));
    assert_eq!(preprocess.normalise(&input).len(), 3 * 48 * 96);
}

#[test]
fn unknown_keys_are_rejected() {
    let good = serde_json::to_value(Preprocess::imagenet(48, 96)).unwrap();
    assert_eq!(serde_json::from_value::<Preprocess>(good.clone()).unwrap(), Preprocess::imagenet(48, 96));
    let mut typo = good;
    typo["means"] = 1.into();
    assert!(serde_json::from_value::<Preprocess>(typo).unwrap_err().to_string().contains("means"));
}
