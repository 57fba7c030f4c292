//! What is to go is gone: from the archive, from its files' bytes, and in time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dc_encoder::annotate::Batch;
use dc_encoder::archive::{Archive, Embedding, FrameId, Incoming, Query, Record};
use jiff::Timestamp;
use protocol::SpaceId;
use shared::head::Task;
use tempfile::TempDir;

use crate::archive::{count, incoming, picture};

fn dc_encoder(args: &[&str], archive: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
    command.arg("archive").args(args).arg("--archive").arg(archive).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    std::fs::read_dir(dir).unwrap().flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// Numbers that no other frame's embedding has.
fn embedding(number: u32) -> Vec<f32> {
    (0..64).map(|i| (f64::from(number) * 1.618 + f64::from(i)).sin() as f32).collect()
}

/// Everything that is known of a frame, as bytes that may lie somewhere in a file.
fn marks(number: u32, record: &Record) -> Vec<(&'static str, Vec<u8>)> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let numbers: Vec<u8> = embedding(number).iter().flat_map(|value| value.to_le_bytes()).collect();
    let jpeg = picture(number);
    vec![
        ("id", record.id.to_string().into_bytes()),
        ("id's bytes", record.id.0.to_vec()),
        ("hash", record.sha256.clone().into_bytes()),
        ("hash's bytes", hex(&record.sha256)),
        ("embedding", numbers[64..128].to_vec()),
        ("picture", jpeg.to_vec()),
        ("who labelled it", format!("annotator-of-{number}!").into_bytes()),
    ]
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

#[test]
fn no_byte_of_what_is_forgotten_is_left() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("archive");
    let archive = Archive::open(&at).unwrap();
    let frames = (0..300).map(|number| {
        let embedding = Embedding { space: SpaceId([3; 32]), values: embedding(number) };
        Incoming { embedding: Some(embedding), ..incoming("plaza-1", number) }
    });
    let ids: Vec<FrameId> = archive.add(frames.collect()).unwrap().iter().map(|it| it.id()).collect();
    let labels = (0..).zip(&ids).map(|(i, id)| count(*id, &format!("annotator-of-{i}!"), 1.0));
    archive.put_labels(&labels.collect::<Vec<_>>()).unwrap();
    Batch::create(&archive, "monday", (Task::Count, ids[90..130].to_vec())).unwrap();
    let records: Vec<Record> =
        archive.find(&Query::default()).unwrap().into_iter().map(|it| it.record).collect();
    // A third of them, in a run and alone, so that pages are left that held both kinds.
    let gone: Vec<usize> = (0..300).filter(|i| (100..160).contains(i) || i % 7 == 0).collect();
    let whole = std::fs::read(at.join("index.redb")).unwrap();
    for (what, mark) in marks(100, &records[100]) {
        assert!(what == "picture" || holds(&whole, &mark), "{what} is looked for as it is stored");
    }

    let ids_gone: Vec<String> = gone.iter().flat_map(|i| ["--id".to_owned(), ids[*i].to_string()]).collect();
    let mut args = vec!["forget", "--yes"];
    args.extend(ids_gone.iter().map(String::as_str));
    let text = said(&dc_encoder(&args, &at));
    assert!(text.contains("labels deleted") && text.contains("nothing of them is left in it"), "{text}");

    // The archive that was open all the while goes over to the new file.
    let left: HashSet<FrameId> =
        archive.find(&Query::default()).unwrap().iter().map(|it| it.record.id).collect();
    assert_eq!(left.len(), 300 - gone.len());
    assert!(gone.iter().all(|i| !left.contains(&ids[*i])));
    let back = archive.add(vec![incoming("plaza-2", 4000)]).unwrap()[0].id();
    assert!(Archive::open_existing(&at).unwrap().get(back).is_ok(), "and others see what it adds");
    assert_eq!(Batch::get(&archive, "monday").unwrap().frames.len(), 40 - (30 + 2));
    assert_eq!(archive.verify(false).unwrap().faults, []);
    assert!(!archive.has_traces().unwrap());
    drop(archive);

    for path in files(&at) {
        let bytes = std::fs::read(&path).unwrap();
        for i in &gone {
            for (what, mark) in marks(*i as u32, &records[*i]) {
                assert!(!holds(&bytes, &mark), "{} of frame {i} is in {}", what, path.display());
                assert!(!path.display().to_string().contains(&records[*i].id.to_string()));
            }
        }
    }
}

#[test]
fn whoever_writes_while_the_index_is_written_anew_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("archive");
    drop(Archive::open(&at).unwrap());
    let done = AtomicBool::new(false);
    let ids = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u32)
            .map(|writer| {
                let at = &at;
                scope.spawn(move || {
                    let archive = Archive::open(at).unwrap();
                    let one = |i| archive.add(vec![incoming(&format!("gate-{writer}"), i)]).unwrap()[0].id();
                    (0..25).map(one).collect::<Vec<FrameId>>()
                })
            })
            .collect();
        let rewriter = scope.spawn(|| {
            let archive = Archive::open(&at).unwrap();
            let mut rewrites = 0;
            while !done.load(Ordering::SeqCst) {
                archive.erase_traces().unwrap();
                rewrites += 1;
            }
            rewrites
        });
        let ids: Vec<FrameId> = writers.into_iter().flat_map(|it| it.join().unwrap()).collect();
        done.store(true, Ordering::SeqCst);
        assert!(rewriter.join().unwrap() > 1);
        ids
    });
    let archive = Archive::open(&at).unwrap();
    assert_eq!(ids.len(), 75);
    for id in ids {
        let found = archive.get(id).unwrap();
        archive.jpeg(&found.record).unwrap();
    }
    assert_eq!(archive.verify(false).unwrap().faults, []);
}

#[test]
fn a_frame_that_is_added_while_it_is_removed_has_its_file_or_is_not_there() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("archive");
    let record = {
        let archive = Archive::open(&at).unwrap();
        let id = archive.add(vec![incoming("gate", 1)]).unwrap()[0].id();
        archive.get(id).unwrap().record
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let archive = Archive::open(&at).unwrap();
            for _ in 0..80 {
                archive.add(vec![incoming("gate", 1)]).unwrap();
            }
        });
        scope.spawn(|| {
            let archive = Archive::open(&at).unwrap();
            for _ in 0..80 {
                archive.remove(std::slice::from_ref(&record)).unwrap();
            }
        });
    });
    let archive = Archive::open(&at).unwrap();
    archive.add(vec![incoming("gate", 1)]).unwrap();
    assert_eq!(archive.verify(false).unwrap().faults, []);
    assert_eq!(archive.jpeg(&record).unwrap(), picture(1));
}

#[test]
fn each_camera_keeps_its_frames_as_long_as_its_settings_say() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("archive");
    let archive = Archive::init(&at, None).unwrap();
    let days_ago = |days: i64| Timestamp::now() - Duration::from_secs(days as u64 * 24 * 3600 + 60);
    for camera in ["plaza-1", "changing-room", "gate"] {
        let aged = (0..10).map(|i| Incoming { captured_at: days_ago(i.into()), ..incoming(camera, i) });
        archive.add(aged.collect()).unwrap();
    }
    drop(archive);
    let settings = "keep_for = '5days'\n[cameras.changing-room]\nkeep_for = '1day'\n[cameras.gate]\nkeep_for = '365days'\n";
    std::fs::write(at.join("archive.toml"), settings).unwrap();
    let text = said(&dc_encoder(&["gc"], &at));
    for line in ["changing-room: 9 frames removed", "gate: 0 frames removed", "plaza-1: 5 frames removed"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("nothing of what was removed is left in it"), "{text}");
    // What is asked for is stricter than the settings, or does nothing.
    let text = said(&dc_encoder(&["gc", "--keep-days", "7"], &at));
    assert!(text.contains("gate: 3 frames removed") && text.contains("plaza-1: 0 frames removed"), "{text}");
    assert!(said(&dc_encoder(&["verify"], &at)).contains("13 frames"));
    std::fs::write(at.join("archive.toml"), "[cameras.gate]\nkeep_forever = true\n").unwrap();
    let refused = dc_encoder(&["gc"], &at);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && text.contains("archive.toml:2: cameras.gate.keep_forever: unknown key"),
        "{text}"
    );
}
