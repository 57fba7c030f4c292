//! What a mask hides never leaves the box, however frames travel; what it does not is as it was.

use std::path::PathBuf;

use shared::image::{Chroma, Limits, Rgb, jpeg};

use crate::agent_encoder::{Behaviour, Encoder};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, run};

/// Frames of 96×48 with a square in places 7 and 13 of the encoder's grid, which is `colour` and moves, and a stripe at the
/// right that moves in every one of them. The JPEG's blocks are those of the mask, so that a file holds nothing of the
/// square elsewhere either; its comment holds what a camera might say.
fn frames(pki: &Pki, name: &str, colour: [u8; 3]) -> PathBuf {
    let folder = pki.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    for index in 0..6_usize {
        let mut frame = Rgb::filled(96, 48, [60, 80, 100]);
        let mut fill = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>, colour: [u8; 3]| {
            for (x, y) in xs.flat_map(|x| ys.clone().map(move |y| (x, y))) {
                let at = (y * 96 + x) * 3;
                frame.data[at..at + 3].copy_from_slice(&colour);
            }
        };
        fill(17 + index..25 + index, 17..47, colour);
        fill(70 + index..72 + index, 0..48, [200; 3]);
        let mut file = jpeg::encode(&frame, 95, Chroma::C444);
        let comment = format!("secret {colour:?}").into_bytes();
        let marker = [0xff, 0xfe, 0, comment.len() as u8 + 2];
        drop(file.splice(2..2, marker.into_iter().chain(comment)));
        std::fs::write(folder.join(format!("{index:04}.jpg")), file).unwrap();
    }
    folder
}

/// What reaches the encoder of these frames.
async fn sent(pki: &Pki, frames: &std::path::Path, config: &str) -> Vec<Vec<u8>> {
    let encoder = Encoder::start(pki, Behaviour { patch: Some(16), ..Behaviour::default() });
    let file = pki.path().join("agent.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = run(pki, &[&encoder], frames);
    let finished = Agent::spawn(command.arg("--config").arg(&file)).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [6, 6, 0]);
    encoder.pictures()
}

const WAYS: [&str; 3] =
    ["", "[uplink]\nmax_width = 64\n", "[uplink]\npatches = \"changed(8,4)\"\nreuse_for = \"0s\"\n"];

#[tokio::test]
async fn two_scenes_that_differ_behind_a_mask_alone_are_the_same_bytes_to_the_encoder() {
    let pki = Pki::new();
    let (red, green) = (frames(&pki, "red", [250, 10, 10]), frames(&pki, "green", [10, 250, 10]));
    let mask = "[[mask]]\nrectangle = [0.167, 0.334, 0.334, 1.0]\n";
    for way in WAYS {
        let masked = format!("{way}{mask}");
        let (one, other) = (sent(&pki, &red, &masked).await, sent(&pki, &green, &masked).await);
        assert!(one.len() >= 6, "{way}: {} pictures", one.len());
        assert!(one == other, "{way}: the encoder can tell what is behind the mask");
        let text = |jpeg: &Vec<u8>| jpeg.windows(6).any(|it| it == b"secret");
        assert!(!one.iter().any(text), "{way}: what else the file held");
        assert_ne!(sent(&pki, &red, way).await, sent(&pki, &green, way).await, "{way}: without it, it can");
    }
}

#[tokio::test]
async fn blocks_of_a_jpeg_beside_a_mask_are_the_same_bits() {
    let pki = Pki::new();
    let folder = frames(&pki, "red", [250, 10, 10]);
    let way = "[uplink]\npassthrough = false\nchroma = \"444\"\n";
    let mask = "[[mask]]\npolygon = [[0.18, 0.35], [0.32, 0.35], [0.32, 0.98]]\npixelate = 16\n";
    let (plain, masked) =
        (sent(&pki, &folder, way).await, sent(&pki, &folder, &format!("{way}{mask}")).await);
    for (plain, masked) in plain.iter().zip(&masked) {
        let decode = |jpeg: &[u8]| jpeg::decode(jpeg, &Limits::default()).unwrap();
        let (plain, masked) = (decode(plain), decode(masked));
        assert_ne!(plain, masked);
        for (x, y) in (0..96).flat_map(|x| (0..48).map(move |y| (x, y))) {
            let hidden = (16..32).contains(&x) && (16..48).contains(&y);
            assert!(hidden || plain.pixel(x, y) == masked.pixel(x, y), "{x}, {y}");
        }
    }
}

#[tokio::test]
async fn a_mask_that_is_none_keeps_the_agent_from_starting() {
    let pki = Pki::new();
    let file = pki.path().join("agent.toml");
    std::fs::write(&file, "[[mask]]\npolygon = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]\n").unwrap();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let mut command = run(&pki, &[&encoder], &frames(&pki, "red", [250, 10, 10]));
    let finished = Agent::spawn(command.arg("--config").arg(&file)).finish().await;
    assert!(!finished.status.success());
    let want = "its sides 1 and 3 cross or touch; name the corners in the order of the outline";
    assert!(finished.stderr.contains(want), "{}", finished.stderr);
    assert_eq!(encoder.pictures().len(), 0);
}
