//! The archive: what goes in comes out, once, with its links; and goes for good when it is to go.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dc_encoder::annotate::Batch;
use dc_encoder::archive::{
    Added, Answer, Archive, ArchiveError, Embedding, Export, Fault, FrameId, Incoming, Keep, Label, Query,
    Returned,
};
use dc_encoder::evaluate::Folder;
use jiff::Timestamp;
use protocol::SpaceId;
use shared::head::Task;
use shared::image::{Chroma, Rgb, jpeg};
use tempfile::TempDir;

const SPACE: SpaceId = SpaceId([7; 32]);

/// Twelve squares, black or white by the bits of the number: no two are the same bytes.
pub fn picture(number: u32) -> Bytes {
    let square = |x: usize, y: usize| number >> (y / 8 * 4 + x / 8) & 1 == 1;
    let pixels = (0..24).flat_map(|y| (0..32).flat_map(move |x| [if square(x, y) { 230 } else { 20 }; 3]));
    jpeg::encode(&Rgb::new(32, 24, pixels.collect()).unwrap(), 90, Chroma::C420).into()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

pub fn incoming(camera: &str, number: u32) -> Incoming {
    Incoming {
        camera: camera.to_owned(),
        captured_at: at(i64::from(number)),
        zone: "+02:00".parse().unwrap(),
        uncertainty_ms: 500,
        source: "test".to_owned(),
        jpeg: picture(number),
        embedding: Some(Embedding { space: SPACE, values: vec![number as f32, 1.0, -1.0, 0.5] }),
    }
}

/// An archive in `dir` with so many frames, the first `chosen` of them in batch `monday`.
pub fn batch(dir: &Path, task: Task, frames: u32, chosen: usize) -> (Archive, Vec<FrameId>) {
    let archive = Archive::open(&dir.join("archive")).unwrap();
    let added = archive.add((0..frames).map(|number| incoming("plaza-1", number)).collect()).unwrap();
    let ids: Vec<FrameId> = added.iter().map(|it| it.id()).collect();
    Batch::create(&archive, "monday", (task, ids[..chosen].to_vec())).unwrap();
    (archive, ids)
}

pub fn count(id: FrameId, who: &str, value: f64) -> Returned {
    let answer = Answer::Count { value, boxes: Vec::new() };
    let label = Label { answer, who: who.into(), at: at(0), from: "test".into(), earlier: Vec::new() };
    Returned { place: format!("{who}'s list line 1"), id, path: None, label }
}

struct World {
    dir: TempDir,
    archive: Archive,
    ids: Vec<FrameId>,
}

impl World {
    /// `n` frames of plaza-1, a second apart.
    fn new(n: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let archive = Archive::open(&dir.path().join("archive")).unwrap();
        let added = archive.add((0..n).map(|i| incoming("plaza-1", i)).collect()).unwrap();
        assert!(added.iter().all(|it| matches!(it, Added::New(_))));
        Self { dir, ids: added.iter().map(|it| it.id()).collect(), archive }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn faults(&self) -> Vec<Fault> {
        self.archive.verify(false).unwrap().faults
    }
}

#[test]
fn frames_come_out_as_they_went_in() {
    let world = World::new(5);
    let found = world.archive.find(&Query::default()).unwrap();
    assert_eq!(found.iter().map(|it| it.record.id).collect::<Vec<_>>(), world.ids);
    for (i, it) in (0..).zip(&found) {
        let record = &it.record;
        assert_eq!(
            (record.camera.as_str(), record.captured_at, record.zone.as_str()),
            ("plaza-1", at(i.into()), "+02:00")
        );
        assert_eq!((record.width, record.height, record.uncertainty_ms), (32, 24, 500));
        assert_eq!(world.archive.jpeg(record).unwrap(), picture(i));
        assert!(record.is_consistent());
    }
    let embedded = world.archive.embeddings("plaza-1", None).unwrap();
    assert_eq!((embedded.ids.as_slice(), embedded.dim), (world.ids.as_slice(), 4));
    assert_eq!(embedded.row(3), [3.0, 1.0, -1.0, 0.5]);
    assert_eq!(world.faults(), []);
    // Another process, or the same one later, sees the same.
    let again = Archive::open_existing(world.archive.dir()).unwrap();
    assert_eq!(again.find(&Query::default()).unwrap(), found);
}

#[test]
fn the_same_bytes_of_a_camera_are_stored_once() {
    let world = World::new(3);
    let again = world
        .archive
        .add(vec![incoming("plaza-1", 1), incoming("plaza-1", 9), incoming("plaza-1", 9)])
        .unwrap();
    assert_eq!(again[0], Added::Same(world.ids[1]));
    assert_eq!(
        (again[1], again[2]),
        (Added::New(again[1].id()), Added::Same(again[1].id())),
        "twice in one batch"
    );
    let late = Incoming { captured_at: at(500), ..incoming("plaza-1", 2) };
    assert_eq!(
        world.archive.add(vec![late]).unwrap(),
        [Added::Same(world.ids[2])],
        "a stream that stands still"
    );
    let other = world.archive.add(vec![incoming("plaza-2", 1)]).unwrap();
    assert!(matches!(other[0], Added::New(id) if id != world.ids[1]), "another camera is another frame");
    assert_eq!(world.archive.totals().unwrap().iter().map(|it| it.1).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(world.faults(), []);
}

#[test]
fn frames_are_found_by_camera_time_and_labels() {
    let world = World::new(10);
    world.archive.add(vec![incoming("plaza-2", 3)]).unwrap();
    world.archive.put_labels(&[count(world.ids[4], "ann", 2.0), count(world.ids[6], "ann", 3.0)]).unwrap();
    let find = |query: Query| -> Vec<FrameId> {
        let query = Query { camera: Some("plaza-1".into()), ..query };
        world.archive.find(&query).unwrap().iter().map(|it| it.record.id).collect()
    };
    let stretch = Query { since: Some(at(3)), until: Some(at(7)), ..Query::default() };
    assert_eq!(find(stretch.clone()), world.ids[3..7]);
    assert_eq!(find(Query { newest: Some(2), ..stretch.clone() }), world.ids[5..7]);
    assert_eq!(
        find(Query { labelled: Some((Task::Count, true)), ..stretch.clone() }),
        [world.ids[4], world.ids[6]]
    );
    assert_eq!(find(Query { labelled: Some((Task::Count, false)), ..stretch }), [world.ids[3], world.ids[5]]);
    assert_eq!(world.archive.find(&Query::default()).unwrap().len(), 11);
    let error =
        world.archive.find(&Query { camera: Some("plaza-7".into()), ..Query::default() }).unwrap_err();
    assert_eq!(error.to_string(), "camera \"plaza-7\" has no frames in the archive; it has plaza-1, plaza-2");
}

#[test]
fn labels_count_once_and_everyones_stay() {
    let world = World::new(2);
    let put = |labels: &[Returned]| world.archive.put_labels(labels).unwrap();
    let taken = |it: dc_encoder::archive::Taken| (it.new, it.same, it.changed);
    let first = [count(world.ids[0], "ann", 2.0), count(world.ids[1], "ann", 0.0)];
    assert_eq!(taken(put(&first)), (2, 0, 0));
    assert_eq!(taken(put(&first)), (0, 2, 0), "pulled twice");
    assert_eq!(taken(put(&[count(world.ids[0], "ben", 4.0)])), (1, 0, 0), "somebody else");
    assert_eq!(taken(put(&[count(world.ids[0], "ann", 3.0)])), (0, 0, 1), "thought again");
    let labels = world.archive.get(world.ids[0]).unwrap().labels;
    let said: Vec<(&str, f64)> =
        labels.iter().map(|it| (it.who.as_str(), it.answer.value().as_f64().unwrap())).collect();
    assert_eq!(said, [("ann", 3.0), ("ben", 4.0)]);
}

#[test]
fn a_label_that_fits_no_frame_leaves_all_as_it_was() {
    let world = World::new(1);
    let stranger = FrameId([9; 16]);
    for (bad, want) in [
        (count(stranger, "ann", 1.0), format!("ann's list line 1: frame {stranger} is not in the archive")),
        (
            count(world.ids[0], "ann", -1.0),
            "ann's list line 1: `count` is -1, want a number from 0 up".to_owned(),
        ),
        (count(world.ids[0], "", 1.0), "the annotator's name is \"\", want 1 to 200 bytes".to_owned()),
        (
            Returned { path: Some("frames/elsewhere.jpg".into()), ..count(world.ids[0], "ann", 1.0) },
            "comes back as \"frames/elsewhere.jpg\": labels and pictures were mixed up".to_owned(),
        ),
    ] {
        let error =
            world.archive.put_labels(&[count(world.ids[0], "ben", 1.0), bad]).unwrap_err().to_string();
        assert!(error.contains(&want), "{error}\nwant {want}");
    }
    assert_eq!(world.archive.get(world.ids[0]).unwrap().labels, []);
}

#[test]
fn what_is_forgotten_is_gone() {
    let world = World::new(6);
    world.archive.put_labels(&[count(world.ids[2], "ann", 2.0)]).unwrap();
    let query = Query { since: Some(at(1)), until: Some(at(4)), ..Query::default() };
    let records: Vec<_> = world.archive.find(&query).unwrap().into_iter().map(|it| it.record).collect();
    let removed = world.archive.remove(&records).unwrap();
    assert_eq!((removed.frames, removed.bytes), (3, records.iter().map(|it| it.bytes).sum()));
    for record in &records {
        assert!(matches!(world.archive.get(record.id), Err(ArchiveError::UnknownFrame(_))));
        assert!(!world.archive.path_of(record).exists());
    }
    assert_eq!(world.archive.embeddings("plaza-1", None).unwrap().ids.len(), 3);
    assert_eq!(world.archive.labelled(None, Task::Count).unwrap(), []);
    assert_eq!(world.faults(), []);
    assert_eq!(world.archive.remove(&records).unwrap().frames, 0, "again");
    let back = world.archive.add(vec![incoming("plaza-1", 2)]).unwrap();
    assert_eq!(back, [Added::New(world.ids[2])], "the same frame has the same id for ever");
}

#[test]
fn too_old_goes_labelled_or_not_and_too_much_spares_labels() {
    let world = World::new(10);
    world.archive.put_labels(&[count(world.ids[0], "ann", 1.0), count(world.ids[5], "ann", 1.0)]).unwrap();
    let keep = Keep { age: Some(Duration::from_secs(6)), bytes: None };
    assert_eq!(world.archive.retain("plaza-1", keep, at(10)).unwrap().frames, 4, "older than second 4");
    let left: Vec<FrameId> =
        world.archive.find(&Query::default()).unwrap().into_iter().map(|it| it.record.id).collect();
    assert_eq!(left, world.ids[4..]);
    let size = world.archive.totals().unwrap()[0].2 / 6;
    let keep = Keep { age: None, bytes: Some(size * 3) };
    world.archive.retain("plaza-1", keep, at(10)).unwrap();
    let left: Vec<FrameId> =
        world.archive.find(&Query::default()).unwrap().into_iter().map(|it| it.record.id).collect();
    assert!(left.contains(&world.ids[5]) && left.len() <= 3, "the labelled one stays: {left:?}");
    assert!(left.contains(&world.ids[9]), "the newest stays");
    let removed = world.archive.retain("plaza-1", Keep { age: None, bytes: Some(1) }, at(10)).unwrap();
    assert!(removed.beyond > 0, "what carries labels stays, and is said");
    assert_eq!(world.faults(), []);
}

#[test]
fn verify_finds_what_is_lost_altered_or_unlinked() {
    let world = World::new(4);
    let record = |i: usize| world.archive.get(world.ids[i]).unwrap().record;
    let path = |i: usize| world.archive.path_of(&record(i));
    std::fs::remove_file(path(0)).unwrap();
    std::fs::write(path(1), picture(99)).unwrap();
    let stray = path(2).with_file_name(format!("2026-01-01T00_00_00.000000-{}.jpg", FrameId([1; 16])));
    std::fs::write(&stray, picture(7)).unwrap();
    let mut faults = world.faults();
    faults.sort_by_key(ToString::to_string);
    let [Fault::Altered(altered, _), Fault::Lost(lost, _), Fault::Unlinked(unlinked)] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!((*altered, *lost), (world.ids[1], world.ids[0]));
    assert!(stray.ends_with(unlinked));
    assert!(matches!(world.archive.jpeg(&record(1)), Err(ArchiveError::Altered { .. })));
    assert_eq!(world.archive.sweep().unwrap(), std::slice::from_ref(unlinked));
    assert!(!stray.exists());
}

#[test]
fn an_archive_of_a_newer_program_is_left_alone() {
    let world = World::new(1);
    let index = world.archive.dir().join("index.redb");
    drop(world.archive);
    let mut builder = redb::Database::builder();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let database = builder.open(&index).unwrap();
    let write = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
    write.open_table(meta).unwrap().insert("schema", 9).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Archive::open(&world.dir.path().join("archive")).unwrap_err().to_string();
    assert!(error.contains("has schema 9, this program knows up to 2: update dc-encoder"), "{error}");
}

#[test]
fn what_is_no_frame_is_refused_and_nothing_of_its_batch_stays() {
    let world = World::new(1);
    for (bad, want) in [
        (
            Incoming { jpeg: Bytes::from_static(b"<html>"), ..incoming("plaza-1", 7) },
            "no JPEG that can be kept: not a JPEG",
        ),
        (incoming("../plaza", 7), "camera name \"../plaza\": want 1 to 63 of a-z"),
    ] {
        let error = world.archive.add(vec![incoming("plaza-1", 5), bad]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let other = Embedding { space: SPACE, values: vec![1.0; 3] };
    let odd = Incoming { embedding: Some(other), ..incoming("plaza-1", 6) };
    let error = world.archive.add(vec![incoming("plaza-1", 5), odd]).unwrap_err().to_string();
    assert!(error.contains("an embedding of 3 numbers, those of space 070707070707 have 4"), "{error}");
    assert_eq!(world.archive.find(&Query::default()).unwrap().len(), 1);
    assert_eq!(world.faults(), [], "the files of the batch that failed are gone, too");
    let error = Archive::open_existing(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(error.starts_with("there is no archive in /nowhere/at/all"), "{error}");
}

#[test]
fn an_export_is_what_evaluate_reads() {
    let world = World::new(40);
    let labels: Vec<Returned> = (0..40).step_by(2).map(|i| count(world.ids[i], "ann", i as f64)).collect();
    world.archive.put_labels(&labels).unwrap();
    world.archive.put_labels(&[count(world.ids[0], "ben", 4.0)]).unwrap();
    let export = Export { query: Query::default(), task: Task::Count, test: 0.5, gap: 0 };
    let out = world.path("plaza");
    let exported = world.archive.export(&export, &out).unwrap();
    assert_eq!((exported.frames, exported.labelled, exported.disputed), (40, 20, 1));
    assert_eq!(exported.split, Some((10, 10)));
    let folder = Folder::open(&out).unwrap();
    assert_eq!(
        (folder.labels.rows.len(), folder.split.pool.clone(), folder.split.test.clone()),
        (20, 0..10, 10..20)
    );
    assert_eq!(folder.labels.rows[0].value, 2.0, "ann says 0 and ben 4");
    let list = shared::frames::list(&out.join("frames.jsonl")).unwrap();
    assert_eq!(list.len(), 40);
    assert_eq!(list[3].captured_at, Some(at(3)));
    assert_eq!(std::fs::read(&list[3].path).unwrap(), picture(3));
    let error = world.archive.export(&export, &out).unwrap_err().to_string();
    assert!(error.contains("is there already: choose another --out"), "{error}");
}

#[test]
fn the_time_of_day_needs_no_label() {
    let world = World::new(30);
    let export = Export { query: Query::default(), task: Task::TimeOfDay, test: 0.4, gap: 2 };
    let exported = world.archive.export(&export, &world.path("times")).unwrap();
    assert_eq!((exported.labelled, exported.split), (30, Some((16, 12))));
    let folder = Folder::open(&world.path("times")).unwrap();
    let zone: dc_encoder::archive::Zone = "+02:00".parse().unwrap();
    assert_eq!(folder.labels.rows[7].value, zone.minute_of_day(at(7)));
    assert_eq!(folder.split.test, 18..30, "two rows between");
    // Three tenths of thirty would be nine: too few for `evaluate`.
    let export = Export { test: 0.3, gap: 0, ..export };
    let exported = world.archive.export(&export, &world.path("tenths")).unwrap();
    assert_eq!(exported.split, Some((20, 10)));
}

#[test]
fn any_number_of_processes_share_an_archive() {
    let world = World::new(0);
    let dir = world.archive.dir().to_owned();
    std::thread::scope(|scope| {
        for camera in 0..4 {
            let dir = dir.clone();
            scope.spawn(move || {
                let archive = Archive::open(&dir).unwrap();
                for i in 0..10 {
                    archive.add(vec![incoming(&format!("plaza-{camera}"), i)]).unwrap();
                }
            });
        }
    });
    assert_eq!(world.archive.find(&Query::default()).unwrap().len(), 40);
    assert_eq!(world.faults(), []);
}
