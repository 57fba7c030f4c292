//! Scale, played: a fake that holds every request against the published API reference. Nothing here met the service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dc_encoder::annotate::{self, Batch, Callback, Patience, Reply, Scale, ScaleConfig, Taking};
use dc_encoder::archive::{Answer as Said, Archive, FrameId, Taken};
use serde_json::{Value, json};
use shared::head::Task;
use tempfile::TempDir;

use super::archive::{batch, picture};
use super::fake::{Answer, Fake, Fault, Service as _};
use super::fake_scale::{CALLBACK, CALLBACK_KEY, KEY, Service};

struct World {
    dir: TempDir,
    archive: Arc<Archive>,
    ids: Vec<FrameId>,
    service: Fake<Service>,
    boxes: Option<String>,
}

impl World {
    /// Five frames, all of them in batch `monday`.
    fn new(task: Task, boxes: Option<&str>) -> Self {
        let dir = TempDir::new().unwrap();
        let (archive, ids) = batch(dir.path(), task, 5, 5);
        std::fs::write(dir.path().join("key"), KEY).unwrap();
        std::fs::write(dir.path().join("callback-key"), CALLBACK_KEY).unwrap();
        let service = Fake::serve(Service::default(), Service::answer);
        Self { dir, archive: archive.into(), ids, service, boxes: boxes.map(str::to_owned) }
    }

    fn config(&self) -> ScaleConfig {
        ScaleConfig {
            url: self.service.url.clone(),
            key_file: Some(self.dir.path().join("key")),
            project: "plaza".into(),
            boxes: self.boxes.clone(),
            instruction: Some("Mark every person, also in the back.".into()),
            callback_url: Some(CALLBACK.into()),
            callback_key_file: Some(self.dir.path().join("callback-key")),
            plain_http: false,
        }
    }

    fn scale(&self) -> Scale {
        let moment = Duration::from_millis(1);
        let patience =
            Patience { tries: 3, first: moment, longest: moment, answer: Duration::from_millis(400) };
        Scale::new(self.config(), vec!["clear".into(), "fog".into()], patience).unwrap()
    }

    fn push(&self) -> Result<usize, String> {
        let pushed = annotate::push(&self.archive, "monday", &mut self.scale());
        pushed.map(|it| it.new).map_err(|error| error.to_string())
    }

    fn pull(&self) -> Taking {
        annotate::pull(&self.archive, "monday", &mut self.scale()).unwrap()
    }

    /// Each frame is there once, with its own picture and path, finalized; nothing was done that is not documented.
    fn check(&self) {
        let (service, sent) =
            (self.service.state(), Batch::get(&self.archive, "monday").unwrap().sent.unwrap());
        assert_eq!(service.violations, Vec::<String>::new());
        assert_eq!((service.tasks.len(), sent.tasks.len(), sent.whole), (5, 5, true));
        let [(name, project, status)] = &service.batches[..] else { panic!("{:?}", service.batches) };
        assert!(name.starts_with("monday-") && project == "plaza" && *status == "in_progress");
        for (i, id) in (0..).zip(&self.ids) {
            let task = service.tasks.iter().find(|it| it["metadata"]["frame"] == id.to_string()).unwrap();
            assert_eq!(task["task_id"], sent.tasks[id].as_str());
            let record = self.archive.get(*id).unwrap().record;
            let metadata = json!({
                "frame": id, "path": record.path, "batch": "monday", "camera": "plaza-1", "captured_at": record.captured_at,
                "width": 32, "height": 24, "sha256": record.sha256,
            });
            assert_eq!(task["metadata"], metadata);
            let params = &task["params"];
            let url = params["attachment"].as_str().or(params["attachments"][0]["content"].as_str()).unwrap();
            let file: usize = url.rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(service.files[file][..], picture(i)[..], "its own picture");
            assert_eq!(
                (&params["callback_url"], &params["instruction"]),
                (&json!(CALLBACK), &json!("Mark every person, also in the back."))
            );
        }
    }

    /// The task of frame `i` is done.
    fn complete(&self, i: usize, annotations: &Value) -> Value {
        let mut service = self.service.state();
        let id = self.ids[i].to_string();
        let task = service.tasks.iter_mut().find(|it| it["metadata"]["frame"] == id).unwrap();
        task["status"] = "completed".into();
        task["completed_at"] = format!("2026-06-01T12:00:{i:02}.000Z").into();
        task["response"] = json!({ "annotations": annotations });
        json!({ "task": task, "response": task["response"], "task_id": task["task_id"] })
    }
}

#[test]
fn boxes_go_out_as_image_annotation_and_come_back_as_a_count() {
    let world = World::new(Task::Count, Some("person"));
    assert_eq!(world.push(), Ok(5));
    world.check();
    assert_eq!(world.push(), Ok(0));
    world.check();
    {
        let service = world.service.state();
        assert_eq!(service.tasks[0]["type"], "imageannotation");
        assert_eq!(
            service.tasks[0]["params"]["geometries"],
            json!({ "box": { "objects_to_annotate": ["person"] } })
        );
    }
    world.complete(
        0,
        &json!([{ "label": "person", "left": 8, "top": 6, "width": 16, "height": 12, "type": "box" }]),
    );
    world.complete(3, &json!([]));
    let taken = |new, same| Taking { taken: Taken { new, same, changed: 0 }, refused: Vec::new() };
    assert_eq!((world.pull(), world.pull()), (taken(2, 0), taken(0, 2)), "pulled twice counts once");
    let label = world.archive.get(world.ids[0]).unwrap().labels.remove(0);
    assert_eq!(label.answer, Said::Count { value: 1.0, boxes: vec![[0.25, 0.25, 0.5, 0.5]] });
}

#[test]
fn numbers_and_classes_go_out_as_text_collection() {
    for (task, answer, want, field) in [
        (
            Task::Count,
            json!({ "count": "4" }),
            json!(4.0),
            json!({ "type": "number", "field_id": "count", "title": "count", "required": true, "min": 0 }),
        ),
        (
            Task::Class,
            json!({ "class": "fog" }),
            json!("fog"),
            json!({ "type": "category", "field_id": "class", "title": "class", "required": true,
                "choices": [{ "label": "clear", "value": "clear" }, { "label": "fog", "value": "fog" }] }),
        ),
    ] {
        let world = World::new(task, None);
        assert_eq!(world.push(), Ok(5));
        world.check();
        assert_eq!(world.service.state().tasks[0]["params"]["fields"], json!([field]));
        world.complete(1, &answer);
        assert_eq!(world.pull().taken.new, 1);
        assert_eq!(world.archive.get(world.ids[1]).unwrap().labels[0].answer.value(), want);
    }
}

#[test]
fn nothing_is_there_twice_wherever_it_was_cut_off() {
    for (path, after) in [("/v1/batches", 0), ("/v1/files/upload", 2), ("/v1/task/", 3), ("/finalize", 0)] {
        for done in [false, true] {
            for answer in [Answer::Gone, Answer::Json(500, json!({})), Answer::Silence, Answer::Wait("0")] {
                let world = World::new(Task::Count, Some("person"));
                let fault = Fault { method: "", path, after, done, answer: answer.clone() };
                world.service.state().faults.push(fault);
                assert_eq!(world.push(), Ok(5), "{path} {done} {answer:?}");
                assert!(world.service.state().faults.is_empty());
                world.check();
            }
        }
    }
}

#[test]
fn one_that_stays_away_in_the_middle_is_gone_on_with_later() {
    let world = World::new(Task::Count, Some("person"));
    for _ in 0..3 {
        // The third task is made, and its acknowledgement never comes.
        let fault = Fault {
            method: "",
            path: "/v1/task/",
            after: 2,
            done: true,
            answer: Answer::Json(500, json!({ "error": "we had a problem" })),
        };
        world.service.state().faults.push(fault);
    }
    world.service.state().faults.iter_mut().skip(1).for_each(|it| it.after = 0);
    let error = world.push().unwrap_err();
    assert!(error.contains("Scale failed at http") && error.contains("we had a problem"), "{error}");
    let sent = Batch::get(&world.archive, "monday").unwrap().sent.unwrap();
    assert_eq!((sent.tasks.len(), sent.whole), (2, false), "what was acknowledged is known");
    assert_eq!(world.service.state().batches[0].2, "staging", "nobody works on half a batch");
    assert_eq!(world.push(), Ok(3));
    world.check();
}

#[test]
fn a_key_that_is_refused_is_said_without_it_and_an_hour_is_not_waited_for() {
    let world = World::new(Task::Count, None);
    std::fs::write(world.dir.path().join("key"), "test_wrong").unwrap();
    let error = world.push().unwrap_err();
    assert!(
        error.contains("refuses the token (HTTP 401") && error.contains("a test key and a live key"),
        "{error}"
    );
    assert!(!error.contains("test_wrong") && !format!("{:?}", world.scale()).contains("test_wrong"));
    assert_eq!((Batch::get(&world.archive, "monday").unwrap().sent, world.service.state().seen), (None, 1));
    std::fs::write(world.dir.path().join("key"), KEY).unwrap();
    let fault = Fault { method: "", path: "/v1/task/", after: 1, done: false, answer: Answer::Wait("3600") };
    world.service.state().faults.push(fault);
    let error = world.push().unwrap_err();
    assert!(error.contains("(HTTP 429), it wants 1h of rest"), "{error}");
    assert_eq!(world.push(), Ok(4));
    world.check();
}

#[test]
fn what_comes_back_wrong_is_named_and_the_rest_counts() {
    let world = World::new(Task::Count, None);
    world.push().unwrap();
    (0..5).for_each(|i| drop(world.complete(i, &json!({ "count": i }))));
    {
        let mut service = world.service.state();
        service.tasks[0]["metadata"]["frame"] = FrameId([9; 16]).to_string().into();
        service.tasks[1]["metadata"]["path"] = "frames/plaza-2/x.jpg".into();
        service.tasks[2]["response"] = json!({ "annotations": { "count": "many" } });
        service.tasks[3]["metadata"]["height"] = 99.into();
    }
    let Taking { taken, refused } = world.pull();
    assert_eq!((taken.new, refused.len()), (1, 4));
    for want in [
        "is not of batch \"monday\"",
        "and comes back as \"frames/plaza-2/x.jpg\"",
        "`count` is \"many\"",
        "comes back as 32×99",
    ] {
        assert!(refused.iter().any(|it| it.contains(want)), "{refused:#?}\nwant {want}");
    }
}

#[test]
fn callbacks_count_once_and_forged_ones_not_at_all() {
    let world = World::new(Task::Count, None);
    world.push().unwrap();
    let callback = Callback::new(Arc::clone(&world.archive), &world.config()).unwrap();
    let take = |key: Option<&str>, body: &Value| callback.take(key, body.to_string().as_bytes());
    let done = world.complete(0, &json!({ "count": "3" }));
    let status = |reply: Reply| reply.status;
    for key in [None, Some(""), Some("live_auth_fedcba9876543211"), Some(KEY)] {
        assert_eq!(status(take(key, &done)), 401, "{key:?}");
    }
    assert_eq!(world.archive.labelled(None, Task::Count).unwrap(), [], "nothing of it was taken");
    let key = Some(CALLBACK_KEY);
    let counts = |new, same| Reply { status: 200, said: json!({ "new": new, "changed": 0, "same": same }) };
    assert_eq!(
        (take(key, &done), take(key, &done)),
        (counts(1, 0), counts(0, 1)),
        "the same twice counts once"
    );
    assert_eq!(world.pull().taken, Taken { new: 0, same: 1, changed: 0 }, "and so does the pull after it");

    let changed = |change: fn(&mut Value)| {
        let mut body = done.clone();
        change(&mut body);
        take(key, &body)
    };
    let unknown = changed(|it| (it["task_id"], it["task"]["task_id"]) = ("x".into(), "x".into()));
    assert_eq!(unknown, Reply { status: 404, said: "no task of that id was sent from here".into() });
    assert_eq!(status(changed(|it| it["task"]["task_id"] = "5774cc01".into())), 422);
    let mixed = changed(|it| it["task"]["metadata"]["frame"] = FrameId([9; 16]).to_string().into());
    assert!(mixed.status == 422 && mixed.said.as_str().unwrap().contains("comes back with another"));
    let path = changed(|it| it["task"]["metadata"]["path"] = "other.jpg".into());
    assert!(path.said.as_str().unwrap().contains("labels and pictures were mixed up"), "{path:?}");
    let value = changed(|it| it["task"]["response"]["annotations"]["count"] = "many".into());
    assert!(value.status == 422 && value.said.as_str().unwrap().contains("`count` is \"many\""), "{value:?}");
    assert_eq!(changed(|it| it["task"]["status"] = "pending".into()), counts(0, 0), "recalled: nothing yet");
    assert_eq!(status(callback.take(key, b"no json")), 400);
    assert_eq!(world.archive.get(world.ids[0]).unwrap().labels.len(), 1);
    assert!(!format!("{callback:?}").contains(CALLBACK_KEY), "a key is never printed");
    let config = ScaleConfig { callback_key_file: Some(world.dir.path().join("none")), ..world.config() };
    let error = Callback::new(Arc::clone(&world.archive), &config).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the callback key of Scale"), "{error}");
}

#[test]
fn callbacks_arrive_over_http() {
    let world = World::new(Task::Count, None);
    world.push().unwrap();
    let done = world.complete(2, &json!({ "count": 7 })).to_string();
    let callback = Callback::new(Arc::clone(&world.archive), &world.config()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listening = runtime.block_on(callback.listen(0)).unwrap();
    let address = listening.address;
    assert!(address.ip().is_loopback());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(listening.run(async move { drop(stopped.await) }));
    let post = |method: &str, header: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let length = done.len();
        write!(stream, "{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{header}\r\n{done}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_whitespace().nth(1).unwrap().to_owned()
    };
    let key = format!("scale-callback-auth: {CALLBACK_KEY}\r\n");
    assert_eq!(post("POST", ""), "401");
    assert_eq!(post("GET", &key), "405");
    assert_eq!(world.archive.labelled(None, Task::Count).unwrap(), []);
    assert_eq!((post("POST", &key), post("POST", &key)), ("200".to_owned(), "200".to_owned()));
    drop(stop);
    runtime.block_on(running).unwrap();
    let labelled = world.archive.labelled(None, Task::Count).unwrap();
    let frames: BTreeSet<FrameId> = labelled.iter().map(|it| it.0).collect();
    assert_eq!((frames, labelled[0].1.len()), ([world.ids[2]].into(), 1));
}
