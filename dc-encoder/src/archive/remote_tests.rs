//! The archive over a bucket: in memory, and over a store that fails as real ones do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use shared::image::{Chroma, Rgb, jpeg};
use tempfile::TempDir;

use super::frames::{Bucket, Frames, Place};
use super::intent::Intent;
use super::*;

fn place() -> Place {
    Place::parse("s3://frames/site-1").unwrap()
}

/// What `archive.toml` of such an archive says.
fn settings(endpoint: &str) -> BucketSettings {
    let url = "s3://frames/site-1".to_owned();
    BucketSettings {
        url,
        endpoint: Some(endpoint.to_owned()),
        region: None,
        credentials: Some("keys".into()),
    }
}

fn open(dir: &Path, store: &Arc<dyn ObjectStore>) -> Result<Archive, ArchiveError> {
    let bucket = Bucket::of(Arc::clone(store), place(), "memory".to_owned()).unwrap();
    let bucket_settings = settings("memory");
    Archive::assemble(
        dir,
        Settings { frames: Some(bucket_settings), ..Settings::default() },
        Frames::Bucket(bucket),
    )
}

fn frame(number: u8) -> Incoming {
    Incoming {
        camera: "plaza-1".to_owned(),
        captured_at: Timestamp::from_second(1_780_000_000 + i64::from(number)).unwrap(),
        zone: Zone::utc(),
        uncertainty_ms: 0,
        source: "test".to_owned(),
        jpeg: jpeg::encode(&Rgb::filled(16, 16, [number * 8; 3]), 90, Chroma::C420).into(),
        embedding: None,
    }
}

/// Whether an object is in the bucket.
fn is_there(store: &Arc<dyn ObjectStore>, path: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let at = object_store::path::Path::from(format!("site-1/{path}"));
    runtime.block_on(store.head(&at)).is_ok()
}

#[test]
fn frames_go_to_the_bucket_and_come_back_and_go_for_good() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    let archive = open(dir.path(), &store).unwrap();
    let added = archive.add((0..20).map(frame).collect()).unwrap();
    assert!(added.iter().all(|it| matches!(it, Added::New(_))));
    assert!(!dir.path().join("frames").exists(), "no frame is on this machine");
    let found = archive.find(&Query::default()).unwrap();
    for (number, it) in (0..).zip(&found) {
        assert_eq!(archive.jpeg(&it.record).unwrap(), frame(number).jpeg);
        assert!(is_there(&store, &it.record.path));
    }
    assert_eq!(archive.verify(false).unwrap(), archive.verify(true).unwrap());
    assert_eq!(archive.verify(false).unwrap().faults, []);
    let out = dir.path().join("out");
    let export = Export { query: Query::default(), task: shared::head::Task::TimeOfDay, test: 0.5, gap: 0 };
    assert_eq!(archive.export(&export, &out).unwrap().frames, 20);
    assert_eq!(std::fs::read(out.join(&found[7].record.path)).unwrap(), frame(7).jpeg);

    let records: Vec<Record> = found.into_iter().map(|it| it.record).collect();
    assert_eq!(archive.remove(&records[..18]).unwrap().frames, 18);
    archive.erase_traces().unwrap();
    assert!(!is_there(&store, &records[0].path) && is_there(&store, &records[19].path));
    assert_eq!(archive.verify(false).unwrap().faults, []);
}

#[test]
fn what_is_lost_altered_or_unlinked_in_the_bucket_is_found() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    let archive = open(dir.path(), &store).unwrap();
    let ids: Vec<FrameId> =
        archive.add((0..3).map(frame).collect()).unwrap().into_iter().map(Added::id).collect();
    let path = |i: usize| archive.get(ids[i]).unwrap().record.path;
    let stray = path(2).replace(&ids[2].to_string(), &FrameId([7; 16]).to_string());
    archive.frames.put(&[(path(1), Bytes::from_static(b"other")), (stray.clone(), frame(9).jpeg)]).unwrap();
    archive.frames.delete(&[&path(0), "frames/never/there.jpg"]).unwrap();
    let mut faults = archive.verify(false).unwrap().faults;
    faults.sort_by_key(ToString::to_string);
    let want =
        [Fault::Altered(ids[1], path(1)), Fault::Lost(ids[0], path(0)), Fault::Unlinked(stray.clone())];
    assert_eq!(faults, want);
    let error = archive.jpeg(&archive.get(ids[0]).unwrap().record).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("s3://frames/site-1/{} of frame {} is not there", path(0), ids[0])),
        "{error}"
    );
    assert_eq!(archive.sweep().unwrap(), [stray]);
}

#[test]
fn what_a_killed_process_left_in_the_bucket_goes() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    let archive = open(dir.path(), &store).unwrap();
    let kept = archive.add(vec![frame(1)]).unwrap()[0].id();
    let kept = archive.get(kept).unwrap().record.path;
    let lost = kept.replace("-28T", "-29T").replace(&kept[kept.len() - 20..], "00000000000000aa.jpg");
    // It had declared both, and the second object was written: no transaction named it.
    let intent = Intent::declare(dir.path(), [kept.as_str(), lost.as_str()]).unwrap();
    archive.frames.put(&[(lost.clone(), frame(2).jpeg)]).unwrap();
    drop((intent, archive));
    assert!(is_there(&store, &lost));
    let archive = open(dir.path(), &store).unwrap();
    assert!(!is_there(&store, &lost) && is_there(&store, &kept));
    assert_eq!(archive.verify(false).unwrap().faults, []);
    assert_eq!(std::fs::read_dir(dir.path().join("intents")).unwrap().count(), 0);
}

#[test]
fn an_archive_and_its_settings_belong_together() {
    let (dir, store) = (TempDir::new().unwrap(), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    drop(open(dir.path(), &store).unwrap());
    let error = Archive::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("are in a bucket, and archive.toml there does not name it: put it back"),
        "{error}"
    );
    let local = TempDir::new().unwrap();
    drop(Archive::init(local.path(), None).unwrap());
    let error = open(local.path(), &store).unwrap_err().to_string();
    assert!(
        error.contains("lie in that folder, and archive.toml there names a bucket: take [frames] out"),
        "{error}"
    );
    let error = Archive::init(local.path(), None).unwrap_err().to_string();
    assert!(error.contains("there is an archive in "), "{error}");
}

/// A store that answers every request alike, and counts them.
struct Fake {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Fake {
    fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        // Ends with the test's process, as its listener does.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = answer(stream.unwrap(), status, body);
            }
        });
        Self { endpoint, requests }
    }
}

fn answer(stream: TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    std::io::copy(&mut std::io::Read::take(&mut reader, length), &mut std::io::sink())?;
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    reader.get_mut().write_all(head.as_bytes())
}

/// An archive whose index is there, and whose bucket is at `endpoint`.
fn over(dir: &Path, endpoint: &str) -> Archive {
    let store = Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
    drop(open(dir, &store).unwrap());
    std::fs::write(
        dir.join("keys"),
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = hunter2\n",
    )
    .unwrap();
    std::fs::write(dir.join("archive.toml"), super::settings::text(Some(&settings(endpoint)))).unwrap();
    Archive::open(dir).unwrap()
}

#[test]
fn a_store_that_refuses_is_explained_and_nothing_is_half_there() {
    let denied =
        "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
    let missing =
        "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>It does not exist</Message></Error>";
    for (status, body, want) in [
        ("403 Forbidden", denied, "denies it (AccessDenied: Access Denied.): are the keys"),
        ("404 Not Found", missing, "there is no bucket frames at http://127.0.0.1:"),
    ] {
        let dir = TempDir::new().unwrap();
        let fake = Fake::start(status, body);
        let archive = over(dir.path(), &fake.endpoint);
        let error = archive.add(vec![frame(1)]).unwrap_err();
        assert!(matches!(error, ArchiveError::Store { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("cannot write s3://frames/site-1/frames/plaza-1/"), "{text}");
        assert!(text.contains(want), "{text}");
        assert!(!format!("{text} {archive:?} {error:?}").contains("hunter2"));
        assert_eq!(archive.totals().unwrap(), [], "the index names nothing that is not there");
        assert!(fake.requests.load(Ordering::SeqCst) > 0);
        let listed = archive.verify(true).expect_err("nothing is called lost");
        assert!(listed.to_string().contains(want), "{listed}");
    }
}

#[test]
fn an_endpoint_that_is_down_leaves_an_intent_that_is_settled_when_it_is_back() {
    let dir = TempDir::new().unwrap();
    let nobody = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let archive = over(dir.path(), &nobody);
    let text = archive.add(vec![frame(1)]).unwrap_err().to_string();
    assert!(text.contains(&format!("{nobody} does not do it (")) && text.contains("is it up"), "{text}");
    drop(archive);
    let intents = || std::fs::read_dir(dir.path().join("intents")).unwrap().count();
    assert_eq!(intents(), 1, "what became of the request is not known");
    // What needs no frame works meanwhile.
    assert_eq!(Archive::open(dir.path()).unwrap().totals().unwrap(), []);
    assert_eq!(intents(), 1);
    let store = Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
    let archive = open(dir.path(), &store).unwrap();
    assert_eq!(intents(), 0);
    assert!(matches!(archive.add(vec![frame(1)]).unwrap()[0], Added::New(_)));
}

#[test]
fn keys_that_are_nowhere_and_pictures_in_the_clear_are_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("keys"), "[default]\naws_access_key_id = AKID\n").unwrap();
    let open = |endpoint: &str| {
        Frames::open(dir.path(), Some(&settings(endpoint))).map(|_| ()).unwrap_err().to_string()
    };
    let text = open("https://minio.example");
    assert!(
        text.contains("keys has no aws_access_key_id and aws_secret_access_key under [default]"),
        "{text}"
    );
    std::fs::write(dir.path().join("keys"), "[default]\naws_access_key_id = A\naws_secret_access_key = b\n")
        .unwrap();
    let text = open("http://minio.example:9000");
    assert!(text.contains("would carry pictures that everybody on the way can read: use https"), "{text}");
}
