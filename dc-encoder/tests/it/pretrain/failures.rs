//! What goes wrong outside: a frame that goes away, a disk that is full.

use super::*;

#[test]
fn a_frame_that_goes_away_while_training_is_named() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 12);
    // Nothing is kept in memory, so that every batch is decoded again.
    let options =
        Options { cache: ByteSize(0), strict: true, ..options(&frames, dir.path().join("out"), 20) };
    let gone = frames.join("003.jpg");
    let error = pretrain::run(&options, &mut |event| {
        if let Event::Frames { kept, .. } = event {
            assert_eq!(kept, 0);
            fs::remove_file(&gone).unwrap();
        }
    })
    .unwrap_err();
    assert!(matches!(&error, PretrainError::BadFrame { file, .. } if file.ends_with("003.jpg")), "{error}");
    assert!(!options.out.join("config.json").exists(), "a half-trained model is no model");
}

#[test]
fn a_full_disk_names_the_file_and_the_same_command_goes_on() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 8);
    let start = dir.path().join("start");
    file::save(&start, &tiny(), &init::random(&tiny(), 2).unwrap(), Precision::F32, false).unwrap();
    let train = |before: &str| {
        // The limit on file sizes stands in for a full disk: writes fail where the signal is ignored.
        let script = format!("{before}exec \"$0\" pretrain --device cpu --batch 4 --steps 6 \"$@\"");
        let out = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_dc-encoder"), "--frames"])
            .args([frames.as_os_str(), "--model".as_ref(), start.as_os_str(), "--out".as_ref()])
            .arg(dir.path().join("out"))
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8(out.stderr).unwrap())
    };
    let (done, said) = train("trap '' XFSZ; ulimit -f 8; ");
    assert!(!done && said.contains("cannot write ") && said.contains("checkpoint.safetensors"), "{said}");
    assert!(
        said.contains("no checkpoint was written yet: make room and run the same command again"),
        "{said}"
    );
    let left = fs::read_dir(dir.path().join("out/pretrain")).unwrap();
    let left: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("checkpoint")), "a part of a file helps nobody: {left:?}");
    let (done, said) = train("");
    assert!(done && dir.path().join("out/config.json").exists(), "{said}");
}
