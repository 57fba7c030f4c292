//! JPEG in and out: pins, tolerance to Pillow, and everything a camera or an attacker may send.

use proptest::prelude::*;
use shared::image::jpeg::{check, decode, encode, probe};
use shared::image::{Chroma, Header, JpegError, Limits, LoadError, Rgb, load};

use crate::golden::golden;
use crate::picture::{difference, digest, noise, scene};

const ROOMY: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 };

/// A pin that changes is a new version of the uplink id (see `pixels.rs`).
#[test]
fn encode_gives_exactly_these_bytes() {
    let scene = scene(200, 120);
    for (quality, chroma, pin) in [
        (80, Chroma::C420, "38a218b626082c9c"),
        (80, Chroma::C422, "a39deb021aee9aff"),
        (80, Chroma::C444, "6058a4976f0c4ed9"),
        (30, Chroma::C420, "f65b39019f14f73c"),
        (95, Chroma::C420, "1343bc9c3eec7bed"),
        (100, Chroma::C444, "f9ad8ad5286d6408"),
    ] {
        let jpeg = encode(&scene, quality, chroma);
        assert_eq!(digest(&jpeg), pin, "quality {quality}, {chroma:?}, {} bytes", jpeg.len());
        assert_eq!(probe(&jpeg).unwrap().chroma, Some(chroma));
    }
}

#[test]
fn decode_gives_exactly_these_pixels() {
    for (image, quality, chroma, pin) in [
        (scene(200, 120), 80, Chroma::C420, "76226a4badd90a75"),
        (scene(201, 119), 80, Chroma::C422, "2550de693da1d8f1"),
        (noise(77, 53, 9), 60, Chroma::C444, "8e884dd04cf79aa8"),
        (noise(77, 53, 9), 95, Chroma::C420, "0814d1ce073b6397"),
    ] {
        let decoded = decode(&encode(&image, quality, chroma), &ROOMY).unwrap();
        assert_eq!(digest(&decoded.data), pin, "{image:?}, quality {quality}, {chroma:?}");
    }
}

#[test]
fn decode_is_near_pillow() {
    for case in golden().jpeg {
        let ours = decode(&case.jpeg.0, &ROOMY).unwrap();
        assert_eq!((ours.width, ours.height), case.size, "{}", case.name);
        let (largest, mean) = difference(&ours.data, &case.pixels.0);
        // Both are right: the standard leaves open how the transform rounds and how missing chroma is filled in,
        // which shows at the edges of strong colours.
        assert!(largest <= 9 && mean < 0.5, "{}: {largest} levels at most, {mean:.2} on average", case.name);
    }
}

#[test]
fn a_round_trip_keeps_the_picture() {
    let image = scene(200, 120);
    for (chroma, mean_limit) in [(Chroma::C420, 2.5), (Chroma::C422, 2.0), (Chroma::C444, 1.5)] {
        let decoded = decode(&encode(&image, 90, chroma), &ROOMY).unwrap();
        let (_, mean) = difference(&decoded.data, &image.data);
        assert!(mean < mean_limit, "{chroma:?}: {mean:.2} levels on average");
    }
}

#[test]
fn chroma_is_averaged_not_sampled() {
    // Columns of red and blue: their average is purple, either one taken alone is not.
    let columns = (0..32 * 32).flat_map(|at| if at % 2 == 0 { [255, 0, 0] } else { [0, 0, 255] }).collect();
    let decoded = decode(&encode(&Rgb::new(32, 32, columns).unwrap(), 95, Chroma::C420), &ROOMY).unwrap();
    let mean = |channel: usize| {
        let values = decoded.data.iter().skip(channel).step_by(3).map(|value| u64::from(*value));
        values.sum::<u64>() / (32 * 32)
    };
    assert!(
        (100..156).contains(&mean(0)) && (100..156).contains(&mean(2)),
        "red {}, blue {}",
        mean(0),
        mean(2)
    );
}

#[test]
fn probe_reads_the_header_alone() {
    let jpeg = encode(&scene(201, 119), 80, Chroma::C422);
    let expected =
        Header { width: 201, height: 119, components: 3, chroma: Some(Chroma::C422), progressive: false };
    assert_eq!(probe(&jpeg).unwrap(), expected);
    let header_only = &jpeg[..jpeg.len() / 2];
    assert_eq!(probe(header_only).unwrap(), expected);
    for case in golden().jpeg {
        let header = probe(&case.jpeg.0).unwrap();
        assert_eq!(header.progressive, case.name == "progressive");
        assert_eq!(header.components, if case.name == "grey" { 1 } else { 3 });
    }
}

#[test]
fn grey_becomes_three_equal_channels() {
    let case = golden().jpeg.into_iter().find(|case| case.name == "grey").unwrap();
    let decoded = decode(&case.jpeg.0, &ROOMY).unwrap();
    assert!(decoded.data.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
}

#[test]
fn cmyk_is_refused_in_words() {
    let error = decode(&golden().cmyk.0, &ROOMY).unwrap_err();
    assert!(matches!(error, JpegError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("CMYK"), "{error}");
}

/// A few hundred bytes that announce 30,000×30,000 pixels: 2.7 GB if anyone believed it.
#[test]
fn a_bomb_is_refused_from_its_header() {
    let mut jpeg = encode(&Rgb::filled(8, 8, [1, 2, 3]), 10, Chroma::C420);
    let frame_header = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    let side = 30_000u16.to_be_bytes();
    jpeg[frame_header + 5..frame_header + 7].copy_from_slice(&side);
    jpeg[frame_header + 7..frame_header + 9].copy_from_slice(&side);
    assert!(jpeg.len() < 1000, "{} bytes", jpeg.len());
    let error = decode(&jpeg, &Limits::default()).unwrap_err();
    assert_eq!(error, JpegError::TooManyPixels { width: 30_000, height: 30_000, max: 40_000_000 });
    assert!(error.to_string().contains("30000×30000 pixels, the limit is 40000000"), "{error}");
}

#[test]
fn too_many_bytes_are_refused_before_they_are_read() {
    let jpeg = encode(&scene(64, 64), 80, Chroma::C420);
    let error = decode(&jpeg, &Limits { max_bytes: 100, ..ROOMY }).unwrap_err();
    assert_eq!(error, JpegError::TooLarge { bytes: jpeg.len(), max: 100 });
}

#[test]
fn a_pixel_limit_is_exact() {
    let jpeg = encode(&scene(64, 32), 80, Chroma::C420);
    assert!(decode(&jpeg, &Limits { max_pixels: 64 * 32, ..ROOMY }).is_ok());
    assert!(decode(&jpeg, &Limits { max_pixels: 64 * 32 - 1, ..ROOMY }).is_err());
}

#[test]
fn what_is_not_a_jpeg_is_called_so() {
    for bytes in [&b"GIF89a"[..], b"<html>", b"\x89PNG\r\n\x1a\n", b"\0\0\0\0\0", b"\xFF\xD9", b"a"] {
        let error = decode(bytes, &ROOMY).unwrap_err();
        assert!(matches!(error, JpegError::NotJpeg { .. }), "{bytes:?}: {error:?}");
    }
    let error = decode(b"<html>", &ROOMY).unwrap_err();
    assert_eq!(error.to_string(), "not a JPEG: it starts with 3c 68 74 6d instead of ff d8");
}

/// Wherever a transfer stops, the frame is an error, never a picture that is grey below.
#[test]
fn truncated_anywhere_is_called_so() {
    let baseline = encode(&noise(48, 40, 4), 80, Chroma::C420);
    let kinds = golden().jpeg.into_iter().map(|case| case.jpeg.0);
    for jpeg in kinds.chain([baseline]) {
        assert!(decode(&jpeg, &ROOMY).is_ok());
        for length in 0..jpeg.len() {
            let error = decode(&jpeg[..length], &ROOMY).unwrap_err();
            assert_eq!(error, JpegError::Truncated { bytes: length }, "cut to {length} of {}", jpeg.len());
        }
    }
}

/// A driver that lost packets may still end the frame properly.
#[test]
fn missing_the_middle_is_an_error_too() {
    for image in [noise(160, 120, 4), scene(160, 120)] {
        let jpeg = encode(&image, 80, Chroma::C420);
        let start = jpeg.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap() + 14;
        let end = jpeg.len() - 2;
        for kept in (start..end - 64).step_by(7) {
            let mut damaged = jpeg[..kept].to_vec();
            damaged.extend([0xFF, 0xD9]);
            let error = decode(&damaged, &ROOMY).unwrap_err();
            assert!(matches!(error, JpegError::Corrupt { .. }), "{kept} of {end}: {error:?}");
        }
    }
}

/// What guards against that must not refuse a whole frame: flat ones have the fewest bytes a row.
#[test]
fn whole_frames_of_every_shape_decode() {
    for width in 1..=40 {
        for height in [1, 2, 7, 8, 9, 15, 16, 17, 33] {
            for chroma in [Chroma::C420, Chroma::C422, Chroma::C444] {
                let flat = Rgb::filled(width, height, [90, 120, 40]);
                let image = decode(&encode(&flat, 80, chroma), &ROOMY);
                assert!(difference(&image.unwrap().data, &flat.data).0 <= 4, "{flat:?} {chroma:?}");
                assert!(decode(&encode(&noise(width, height, 1), 100, chroma), &ROOMY).is_ok());
            }
        }
    }
}

#[test]
fn padding_after_the_end_is_allowed() {
    let jpeg = encode(&scene(64, 48), 80, Chroma::C420);
    let padded = [&jpeg[..], &[0; 100]].concat();
    assert_eq!(decode(&padded, &ROOMY).unwrap(), decode(&jpeg, &ROOMY).unwrap());
}

/// A thumbnail inside the EXIF data has an end marker of its own, which must not count.
#[test]
fn an_embedded_thumbnails_end_does_not_count() {
    let jpeg = encode(&scene(64, 48), 80, Chroma::C420);
    let thumbnail = encode(&scene(8, 8), 80, Chroma::C420);
    let length = (thumbnail.len() as u16 + 2).to_be_bytes();
    let with_exif = [&jpeg[..2], &[0xFF, 0xEF], &length, &thumbnail, &jpeg[2..]].concat();
    assert_eq!(decode(&with_exif, &ROOMY).unwrap(), decode(&jpeg, &ROOMY).unwrap());
    let cut = &with_exif[..with_exif.len() - 2];
    assert_eq!(decode(cut, &ROOMY).unwrap_err(), JpegError::Truncated { bytes: cut.len() });
}

proptest! {
    /// Whatever is done to the bytes: an answer or an error, no panic, and never another size than announced.
    #[test]
    fn perturbed_bytes_never_panic(at in 0usize..600, value: u8, kind in 0usize..6, cut in 0usize..2000) {
        let mut jpeg = golden().jpeg.swap_remove(kind).jpeg.0;
        let length = jpeg.len();
        jpeg[at % length] = value;
        jpeg.truncate(cut.max(2));
        let limits = Limits { max_bytes: 1 << 16, max_pixels: 1 << 14 };
        if let Ok(image) = decode(&jpeg, &limits) {
            let header = check(&jpeg, &limits).unwrap();
            prop_assert_eq!((image.width, image.height), (header.width, header.height));
            prop_assert_eq!(image.data.len() as u32, image.width * image.height * 3);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), start: bool) {
        if start && bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[0xFF, 0xD8]);
        }
        prop_assert!(decode(&bytes, &ROOMY).is_err());
    }
}

#[test]
fn files_are_known_by_their_bytes_not_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let image = scene(24, 16);
    ::image::save_buffer_with_format(
        &path,
        &image.data,
        24,
        16,
        ::image::ColorType::Rgb8,
        ::image::ImageFormat::Png,
    )
    .unwrap();
    assert_eq!(load(&path, &ROOMY).unwrap(), image, "a PNG named .jpg");
    let error = load(&path, &Limits { max_pixels: 100, ..ROOMY }).unwrap_err();
    assert!(
        error.to_string().ends_with("picture.jpg: the PNG is 24×16 pixels, the limit is 100 pixels"),
        "{error}"
    );
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(load(&path, &ROOMY).unwrap_err(), LoadError::Png { .. }));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.jpg");
    assert!(matches!(load(&path, &ROOMY).unwrap_err(), LoadError::Io { .. }));
    for (bytes, expected) in [
        (vec![], "frame.jpg is empty"),
        (b"hello".to_vec(), "frame.jpg: not a JPEG: it starts with 68 65 6c 6c"),
        (encode(&scene(64, 48), 80, Chroma::C420)[..500].to_vec(), "frame.jpg: the JPEG is truncated"),
        (vec![0; (1 << 20) + 1], "frame.jpg is 1048577 bytes, the limit is 1048576"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = load(&path, &ROOMY).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
