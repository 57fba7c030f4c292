use std::sync::Mutex;

use super::*;

fn frame(seq: u64, id: Option<&str>) -> FrameInfo {
    FrameInfo {
        camera: "plaza-1".into(),
        seq,
        captured_at: "2023-06-13T03:11:46.0409Z".parse().unwrap(),
        id: id.map(Into::into),
    }
}

fn answer(stale: bool) -> Event {
    let ms = Duration::from_millis;
    Event::Answer(Answer {
        frame: frame(7, Some("day/007.jpg")),
        head: Arc::new(HeadInfo {
            name: "people-count".into(),
            release: "0123456789ab".into(),
            unit: "people".into(),
            classes: Vec::new(),
        }),
        value: 4.25,
        class: None,
        interval: Some([3.0, 5.5]),
        stale,
        reused: false,
        age: Duration::from_micros(87_654),
        stages: Stages { capture: ms(1), prepare: Duration::from_nanos(1_234_567), ..Stages::default() },
    })
}

fn dropped(seq: u64) -> Event {
    Event::Dropped { frame: frame(seq, None), reason: "superseded".into() }
}

#[test]
fn json_keys_are_these_in_this_order() {
    assert_eq!(
        json::line(&answer(false)),
        r#"{"camera":"plaza-1","seq":7,"captured_at":"2023-06-13T03:11:46.040Z","frame":"day/007.jpg","#
            .to_owned()
            + r#""head":"people-count","release":"0123456789ab","value":4.25,"unit":"people","interval":[3.0,5.5],"#
            + r#""stale":false,"age_ms":87.654,"ms":{"capture":1.0,"prepare":1.235,"send":0.0,"network":0.0,"#
            + r#""queue":0.0,"decode":0.0,"encode":0.0,"reply":0.0,"heads":0.0}}"#
    );
    assert_eq!(
        json::line(&dropped(8)),
        r#"{"camera":"plaza-1","seq":8,"captured_at":"2023-06-13T03:11:46.040Z","dropped":"superseded"}"#
    );
    let Event::Answer(Answer { frame, head, .. }) = answer(false) else { unreachable!() };
    assert_eq!(
        json::line(&Event::HeadFailed { frame, head, error: "no \"grid\"".into() }),
        r#"{"camera":"plaza-1","seq":7,"captured_at":"2023-06-13T03:11:46.040Z","frame":"day/007.jpg","#
            .to_owned()
            + r#""head":"people-count","release":"0123456789ab","error":"no \"grid\""}"#
    );
}

#[test]
fn a_class_is_named_beside_its_probability() {
    let Event::Answer(plain) = answer(false) else { unreachable!() };
    let head = HeadInfo {
        name: "weather".into(),
        release: "0123456789ab".into(),
        unit: "probability".into(),
        classes: vec!["clear".into(), "fog".into()],
    };
    let fog = Answer { head: Arc::new(head), value: 0.875, class: Some(1), interval: None, ..plain };
    let json: serde_json::Value = serde_json::from_str(&json::line(&Event::Answer(fog.clone()))).unwrap();
    assert_eq!(
        (json["value"].as_f64(), json["class"].as_str(), json["unit"].as_str()),
        (Some(0.875), Some("fog"), Some("probability"))
    );
    assert!(text::line(&Event::Answer(fog)).ends_with("  weather: fog (88 %)  88 ms"));
}

#[test]
fn text_is_for_people() {
    assert_eq!(
        text::line(&answer(false)),
        "2023-06-13 03:11:46  plaza-1  #7 day/007.jpg  people-count: 4.2 people (3.0 to 5.5)  88 ms"
    );
    assert!(text::line(&answer(true)).ends_with("STALE, 0.1 s old"));
    assert_eq!(text::line(&dropped(8)), "2023-06-13 03:11:46  plaza-1  #8  dropped: superseded");
}

/// Lets one write through, then blocks until the gate is dropped.
struct Gate(Arc<Mutex<()>>, Arc<AtomicU64>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.0.lock().unwrap();
        self.1.fetch_add(bytes.iter().filter(|&&byte| byte == b'\n').count() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// The writer's thread is what waits for the lock, not the task that holds it.
#[allow(clippy::await_holding_lock)]
#[tokio::test]
async fn discard_counts_what_a_slow_reader_misses() {
    let (gate, lines) = (Arc::new(Mutex::new(())), Arc::new(AtomicU64::new(0)));
    let shut = gate.lock().unwrap();
    let target = Gate(Arc::clone(&gate), Arc::clone(&lines));
    let (sink, writer) = start_with(target, "test".into(), false, Overflow::Discard);
    let sent = 3 * CAPACITY as u64;
    for seq in 0..sent {
        sink.send(dropped(seq)).await;
    }
    let discarded = sink.discarded.load(Ordering::Relaxed);
    assert!(discarded >= CAPACITY as u64 / 2, "{discarded}");
    drop((shut, sink));
    writer.finish().await.unwrap();
    assert_eq!(lines.load(Ordering::Relaxed) + discarded, sent, "every line is written or counted");
}

#[tokio::test]
async fn wait_loses_nothing() {
    let lines = Arc::new(AtomicU64::new(0));
    let target = Gate(Arc::default(), Arc::clone(&lines));
    let (sink, writer) = start_with(target, "test".into(), false, Overflow::Wait);
    for seq in 0..3 * CAPACITY as u64 {
        sink.send(dropped(seq)).await;
    }
    drop(sink);
    writer.finish().await.unwrap();
    assert_eq!(lines.load(Ordering::Relaxed), 3 * CAPACITY as u64);
}

struct Fails(ErrorKind);

impl Write for Fails {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly_a_full_disk_does_not() {
    let (sink, writer) = start_with(Fails(ErrorKind::BrokenPipe), "test".into(), false, Overflow::Wait);
    sink.send(dropped(0)).await;
    sink.closed().await;
    writer.finish().await.unwrap();

    let (sink, writer) = start_with(Fails(ErrorKind::StorageFull), "/data/out".into(), false, Overflow::Wait);
    sink.send(dropped(0)).await;
    sink.closed().await;
    drop(sink);
    let error = writer.finish().await.unwrap_err().to_string();
    assert!(error.contains("/data/out") && error.contains("free space"), "{error}");
}

#[tokio::test]
async fn files_are_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    for seq in 0..2 {
        let (sink, writer) =
            start(&Output::File(path.clone(), Rotation::NEVER), Format::Auto, Overflow::Wait).unwrap();
        sink.send(dropped(seq)).await;
        drop(sink);
        writer.finish().await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    let missing = Output::File(dir.path().join("no/such/folder.jsonl"), Rotation::NEVER);
    assert!(start(&missing, Format::Json, Overflow::Wait).unwrap_err().to_string().contains("no/such"));
}

#[tokio::test]
async fn written_is_when_the_lines_before_are_with_their_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    let (sink, writer) =
        start(&Output::File(path.clone(), Rotation::NEVER), Format::Json, Overflow::Discard).unwrap();
    let before = Instant::now();
    for seq in 0..3 {
        sink.send(dropped(seq)).await;
    }
    let written = sink.written().await.unwrap();
    assert!(written >= before);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    drop(sink);
    writer.finish().await.unwrap();

    let (sink, _writer) = start_with(Fails(ErrorKind::BrokenPipe), "test".into(), false, Overflow::Wait);
    sink.send(dropped(0)).await;
    assert_eq!(sink.written().await, None, "nobody is there to write");
}
