//! The uplink transformation: what is sent, to the byte.

use shared::image::{Chroma, JpegError, Limits, jpeg, jpeg_flops};
use shared::uplink::{ParseError, Prepared, Uplink};

use crate::picture::{digest, scene};

const LIMITS: Limits = Limits { max_bytes: 1 << 22, max_pixels: 1 << 22 };

#[test]
fn an_id_says_everything_and_reads_back() {
    assert_eq!(Uplink::default().id(), "v1:960x576:q80:420:pass");
    for id in [
        "v1:960x576:q80:420:pass",
        "v1:1920x1080:q95:444:encode",
        "v1:1x65535:q1:422:pass",
        "v1:960x576:q80:420:pass:patches=changed(8,60)",
        "v1:960x576:q60:444:encode:patches=random(0.3)",
    ] {
        assert_eq!(id.parse::<Uplink>().unwrap().id(), id);
    }
}

#[test]
fn an_id_has_one_spelling() {
    for id in [
        "",
        "v1",
        "960x576",
        "v1:960x576:q80:420",
        "v1:960x576:q80:420:pass:",
        "v1:960x576:80:420:pass",
        "v1:0960x576:q80:420:pass",
        "v1:+960x576:q80:420:pass",
        "v1:960x576:q80:411:pass",
        "v1:960x576:q80:420:maybe",
        "V1:960x576:q80:420:pass",
        "v1:960x576:q80:420:pass:patches=all",
        "v1:960x576:q80:420:pass:patches=changed",
        "v1:960x576:q80:420:pass:patches=random(0.30)",
        "v1:960x576:q80:420:patches=random(0.3)",
    ] {
        assert_eq!(id.parse::<Uplink>(), Err(ParseError::Form(id.into())), "{id}");
    }
    assert!(matches!("v2:960x576:q80:420:pass".parse::<Uplink>(), Err(ParseError::Version { .. })));
    assert_eq!("v1:960x576:q0:420:pass".parse::<Uplink>(), Err(ParseError::Quality(0)));
    assert_eq!("v1:960x576:q101:420:pass".parse::<Uplink>(), Err(ParseError::Quality(101)));
    assert!(matches!("v1:0x576:q80:420:pass".parse::<Uplink>(), Err(ParseError::Size { .. })));
    let some = "v1:960x576:q80:420:pass:patches=some".parse::<Uplink>().unwrap_err().to_string();
    assert!(some.contains("\"some\"") && some.contains("random(0.3)"), "{some}");
}

#[test]
fn a_table_takes_defaults_and_rejects_typos() {
    let read = |json: &str| serde_json::from_str::<Uplink>(json);
    assert_eq!(read("{}").unwrap(), Uplink::default());
    assert_eq!(read(r#"{"quality": 60, "chroma": "444"}"#).unwrap().id(), "v1:960x576:q60:444:pass");
    assert_eq!(
        read(r#"{"patches": "changed"}"#).unwrap().id(),
        "v1:960x576:q80:420:pass:patches=changed(8,60)"
    );
    assert!(read(r#"{"patches": "few"}"#).unwrap_err().to_string().contains("few"));
    assert!(read(r#"{"qualty": 60}"#).unwrap_err().to_string().contains("qualty"));
    assert!(read(r#"{"quality": 0}"#).unwrap_err().to_string().contains("1 to 100"));
    assert!(read(r#"{"max_width": 0}"#).unwrap_err().to_string().contains("65535"));
    let written = serde_json::to_string(&Uplink::default()).unwrap();
    assert_eq!(read(&written).unwrap(), Uplink::default());
}

#[test]
fn a_small_jpeg_is_sent_untouched() {
    let original = jpeg::encode(&scene(640, 480), 95, Chroma::C444);
    let padded = [&original[..], &[0; 16]].concat(); // not even a camera's padding is cut off
    let prepared = Uplink::default().apply_jpeg(padded.clone(), &LIMITS).unwrap();
    assert!(prepared.untouched && prepared.jpeg == padded);
    assert_eq!((prepared.width, prepared.height), (640, 480));
}

#[test]
fn without_passthrough_it_is_encoded_anew() {
    let original = jpeg::encode(&scene(640, 480), 95, Chroma::C444);
    let uplink = Uplink { passthrough: false, ..Uplink::default() };
    let prepared = uplink.apply_jpeg(original.clone(), &LIMITS).unwrap();
    assert!(!prepared.untouched && prepared.jpeg.len() < original.len());
    let header = jpeg::probe(&prepared.jpeg).unwrap();
    assert_eq!((header.width, header.height, header.chroma), (640, 480, Some(Chroma::C420)), "not enlarged");
}

#[test]
fn a_large_frame_is_made_to_fit_and_keeps_its_shape() {
    for (size, expected) in [((1920, 1080), (960, 540)), ((1024, 768), (768, 576)), ((600, 1200), (288, 576))]
    {
        let image = scene(size.0, size.1);
        let from_jpeg =
            Uplink::default().apply_jpeg(jpeg::encode(&image, 90, Chroma::C420), &LIMITS).unwrap();
        for prepared in [from_jpeg, Uplink::default().apply_rgb(&image)] {
            let header = jpeg::probe(&prepared.jpeg).unwrap();
            assert_eq!((header.width, header.height), expected);
            assert_eq!(
                (prepared.width, prepared.height, prepared.untouched),
                (expected.0, expected.1, false)
            );
        }
    }
}

#[test]
fn from_pixels_and_from_jpeg_agree() {
    let original = jpeg::encode(&scene(1200, 700), 90, Chroma::C444);
    let decoded = jpeg::decode(&original, &LIMITS).unwrap();
    let compressed = Uplink::default().apply_jpeg(original, &LIMITS).unwrap();
    let raw = Uplink::default().apply_rgb(&decoded);
    assert_eq!(
        Prepared { flops: raw.flops, ..compressed.clone() },
        raw,
        "a camera that compresses and one that does not meet the same transformation"
    );
    let decoding = jpeg_flops(1200 * 700, Chroma::C444);
    assert_eq!(compressed.flops - raw.flops, decoding, "what it costs the box is not the same");
}

/// A pin that changes is a new version of the id: `v2`.
#[test]
fn version_1_sends_exactly_these_bytes() {
    let image = scene(1280, 720);
    for (id, pin) in [
        ("v1:960x576:q80:420:pass", "d1a85d0858f19872"),
        ("v1:640x640:q60:422:pass", "1b0a3756ff97915c"),
        ("v1:1280x720:q90:444:encode", "19586da9db0064b8"),
    ] {
        let uplink: Uplink = id.parse().unwrap();
        assert_eq!(digest(&uplink.apply_rgb(&image).jpeg), pin, "{id}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_at_the_camera_box() {
    let original = jpeg::encode(&scene(640, 480), 80, Chroma::C420);
    let apply =
        |bytes: &[u8], limits: &Limits| Uplink::default().apply_jpeg(bytes.to_vec(), limits).unwrap_err();
    let cut = &original[..original.len() - 1];
    assert!(matches!(apply(cut, &LIMITS), JpegError::Truncated { .. }), "even where it would pass untouched");
    assert!(matches!(apply(b"hello", &LIMITS), JpegError::NotJpeg { .. }));
    assert!(matches!(apply(&original, &Limits { max_bytes: 9, ..LIMITS }), JpegError::TooLarge { .. }));
    assert!(matches!(apply(&original, &Limits { max_pixels: 9, ..LIMITS }), JpegError::TooManyPixels { .. }));
}
