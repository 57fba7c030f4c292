//! Label Studio, played: what goes out, what comes back, and what happens when it refuses, fails, or is gone in between.
//! `make test-label-studio` does the same with a real one.

use std::time::Duration;

use dc_encoder::annotate::{
    self, Batch, Guess, Guesses, Lock, Patience, Platform as _, Studio, StudioConfig, Taking, push_with,
};
use dc_encoder::archive::{Archive, FrameId, Taken};
use serde_json::{Value, json};
use shared::head::Task;
use tempfile::TempDir;

use super::archive::{batch, picture};
use super::fake::{Answer, Fake, Fault, Service as _};
use super::fake_studio::{PERSONAL, Server, TOKEN};

struct World {
    dir: TempDir,
    archive: Archive,
    ids: Vec<FrameId>,
    server: Fake<Server>,
}

impl World {
    /// Five frames, all of them in batch `monday`.
    fn new(task: Task) -> Self {
        let dir = TempDir::new().unwrap();
        let (archive, ids) = batch(dir.path(), task, 5, 5);
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        Self { dir, archive, ids, server: Fake::serve(Server::default(), Server::answer) }
    }

    fn config(&self) -> StudioConfig {
        StudioConfig {
            url: self.server.url.clone(),
            token_file: Some(self.dir.path().join("token")),
            project: None,
            title: Some("People on the plaza".into()),
            boxes: None,
            annotators: 2,
            plain_http: false,
        }
    }

    fn studio(&self, config: StudioConfig) -> Studio {
        let moment = Duration::from_millis(1);
        let patience =
            Patience { tries: 3, first: moment, longest: moment, answer: Duration::from_millis(400) };
        Studio::new(config, vec!["clear".into(), "fog".into()], patience).unwrap()
    }

    fn push(&self) -> Result<usize, String> {
        let pushed = annotate::push(&self.archive, "monday", &mut self.studio(self.config()));
        pushed.map(|it| it.new).map_err(|error| error.to_string())
    }

    fn pull(&self) -> Taking {
        annotate::pull(&self.archive, "monday", &mut self.studio(self.config())).unwrap()
    }

    fn fault(&self, method: &'static str, path: &'static str, answer: Answer) {
        self.server.state().faults.push(Fault { method, path, after: 0, done: false, answer });
    }

    /// Every frame is there once, with its own picture and path, and the archive knows its number.
    fn check_link(&self) {
        let (server, sent) =
            (self.server.state(), Batch::get(&self.archive, "monday").unwrap().sent.unwrap());
        assert!(sent.whole);
        assert_eq!((server.projects.len(), server.tasks.len(), sent.tasks.len()), (1, 5, 5));
        for (i, id) in (0..).zip(&self.ids) {
            let of = |it: &&Value| it["data"]["frame"] == id.to_string();
            let task = server.tasks.iter().find(of).unwrap();
            assert_eq!(sent.tasks[id], task["id"].to_string());
            assert_eq!(task["data"]["path"], self.archive.get(*id).unwrap().record.path);
            let file = task["data"]["image"].as_str().unwrap().strip_prefix("/data/").unwrap();
            let (_, bytes) = server.files.iter().find(|(name, _)| name == file).unwrap();
            assert_eq!(bytes[..], picture(i)[..], "its own picture");
        }
        assert_eq!(server.files.len(), 5, "no picture was uploaded twice");
    }

    /// Somebody annotates the task of frame `i`.
    fn annotate(&self, i: usize, (id, by): (u64, u64), second: u32, result: Value) {
        let mut server = self.server.state();
        let task = server.tasks.iter_mut().find(|it| it["data"]["frame"] == self.ids[i].to_string()).unwrap();
        let at = format!("2026-06-01T12:00:{second:02}Z");
        let annotation = json!({ "id": id, "completed_by": by, "updated_at": at, "result": result });
        task["annotations"].as_array_mut().unwrap().push(annotation);
    }
}

fn number(value: impl Into<Value>) -> Value {
    json!([{ "from_name": "count", "to_name": "image", "type": "number", "value": { "number": value.into() } }])
}

#[test]
fn a_batch_goes_out_with_its_links_and_only_once() {
    let world = World::new(Task::Count);
    assert_eq!(world.push(), Ok(5));
    world.check_link();
    {
        let server = world.server.state();
        let project = &server.projects[0];
        assert_eq!(
            (&project["title"], &project["maximum_annotations"]),
            (&json!("People on the plaza"), &json!(2))
        );
        assert!(project["label_config"].as_str().unwrap().contains("<Number name=\"count\""));
    }
    assert_eq!(world.push(), Ok(0), "again: all were there");
    world.check_link();
    let sent = Batch::get(&world.archive, "monday").unwrap().sent.unwrap();
    assert_eq!((sent.to.as_str(), sent.labels), ("label-studio", 10), "two people label each frame");
    let place = format!("{} \"People on the plaza\"", world.server.url);
    assert_eq!(sent.place, place);
    let mut elsewhere = world.studio(StudioConfig { title: Some("Other".into()), ..world.config() });
    let error = annotate::push(&world.archive, "monday", &mut elsewhere).unwrap_err().to_string();
    assert!(error.contains(&format!("batch \"monday\" was sent to label-studio {place}")), "{error}");
}

#[test]
fn two_people_come_back_once_and_where_they_differ_is_kept() {
    let world = World::new(Task::Count);
    world.push().unwrap();
    world.annotate(0, (1, 1), 1, number(3));
    world.annotate(0, (2, 2), 2, number(5));
    world.annotate(1, (3, 1), 3, number(0));
    let taken = |new, same, changed| Taking { taken: Taken { new, same, changed }, refused: Vec::new() };
    assert_eq!(world.pull(), taken(3, 0, 0));
    assert_eq!(world.pull(), taken(0, 3, 0), "pulled twice counts once");
    let progress = Batch::get(&world.archive, "monday").unwrap().progress(&world.archive).unwrap();
    let [(id, labels, together)] = &progress.disputed[..] else { panic!("{progress:?}") };
    assert_eq!((*id, labels.len(), together.value.clone()), (world.ids[0], 2, Some(json!(4.0))));
    assert_eq!(labels[0].who, "ann@example.com");

    // Ben changes his mind: what he said before is kept, and is no news when it is seen again.
    world.annotate(0, (4, 2), 9, number(3));
    assert_eq!(world.pull(), taken(0, 2, 1));
    let progress = Batch::get(&world.archive, "monday").unwrap().progress(&world.archive).unwrap();
    assert_eq!(progress.disputed, []);
    let [(_, label)] = &progress.changed[..] else { panic!("{progress:?}") };
    assert_eq!((label.answer.value(), label.earlier.len()), (json!(3.0), 1));
    assert_eq!(label.earlier[0].answer.value(), json!(5.0));
    assert_eq!(label.earlier[0].at, "2026-06-01T12:00:02Z".parse().unwrap());
}

#[test]
fn what_comes_back_wrong_is_named_and_the_rest_counts() {
    let world = World::new(Task::Count);
    world.push().unwrap();
    (0..5).for_each(|i| world.annotate(i, (i as u64 + 1, 1), 1, number(i)));
    world.annotate(4, (6, 2), 1, number("many"));
    let (stranger, other) = (FrameId([9; 16]), world.archive.get(world.ids[1]).unwrap().record.path);
    {
        let mut server = world.server.state();
        for key in ["data", "meta"] {
            server.tasks[0][key]["frame"] = stranger.to_string().into();
            server.tasks[1][key]["path"] = "frames/plaza-2/other.jpg".into();
        }
        server.tasks[2]["meta"]["width"] = 640.into();
        // Somebody else's task in the same project, and a frame of another batch.
        server.tasks.push(json!({ "id": 6, "project": "1", "data": { "image": "x" }, "annotations": [] }));
        let mut foreign = server.tasks[3].clone();
        foreign["data"]["batch"] = "tuesday".into();
        server.tasks.push(foreign);
    }
    let Taking { taken, refused } = world.pull();
    assert_eq!(taken, Taken { new: 2, same: 0, changed: 0 });
    let id = &world.ids;
    for want in [
        format!("task 1, annotation 1 of ann@example.com: frame {stranger} is not of batch \"monday\""),
        format!(
            "task 2, annotation 2 of ann@example.com: frame {} was sent as {other:?} and comes back as",
            id[1]
        ),
        format!(
            "task 3, annotation 3 of ann@example.com: frame {} was sent as 32×24 pixels and comes back as 640×24",
            id[2]
        ),
        "task 5, annotation 6 of ben@example.com: `count` is \"many\", want a number from 0 up".to_owned(),
    ] {
        assert!(refused.iter().any(|it| it.starts_with(&want)), "{refused:#?}\nwant {want}");
    }
    assert_eq!(refused.len(), 4);
    let labelled = world.archive.labelled(None, Task::Count).unwrap();
    assert_eq!(
        labelled.iter().map(|(id, _)| *id).collect::<std::collections::BTreeSet<_>>(),
        [id[3], id[4]].into()
    );
}

#[test]
fn a_platform_that_goes_in_the_middle_gets_the_rest_and_nothing_twice() {
    // Each request that changes something: it is not done, or done without an acknowledgement; the connection goes, or the
    // server fails.
    for (path, after) in [("/api/projects/", 0), ("/import", 0), ("/import", 1)] {
        for done in [false, true] {
            for answer in
                [Answer::Gone, Answer::Json(500, json!({})), Answer::Silence, Answer::Json(502, json!("bad"))]
            {
                let world = World::new(Task::Count);
                // The pictures are the first import, the tasks are the second.
                let fault = Fault { method: "POST", path, after, done, answer: answer.clone() };
                world.server.state().faults.push(fault);
                let what = format!("{path} {after} {done} {answer:?}");
                let pushed = world.push();
                let server = world.server.state();
                assert!(server.faults.is_empty(), "{what}: nothing went wrong");
                let frames = server.tasks.iter().map(|it| it["data"]["frame"].clone()).collect::<Vec<_>>();
                let once: std::collections::HashSet<String> = frames.iter().map(Value::to_string).collect();
                assert_eq!(
                    (frames.len(), once.len(), server.projects.len()),
                    (5, 5, 1),
                    "{what}: {pushed:?}"
                );
                drop(server);
                let sent = Batch::get(&world.archive, "monday").unwrap().sent.unwrap();
                assert_eq!((sent.tasks.len(), sent.whole, pushed.is_ok()), (5, true, true), "{what}");
            }
        }
    }
}

#[test]
fn one_that_stays_away_is_gone_on_with_later() {
    let world = World::new(Task::Count);
    for _ in 0..3 {
        world.fault("POST", "/import", Answer::Json(503, json!({ "detail": "maintenance" })));
    }
    let error = world.push().unwrap_err();
    assert!(
        error.contains("Label Studio failed at http")
            && error.contains("(HTTP 503: {\"detail\":\"maintenance\"})"),
        "{error}"
    );
    assert!(error.contains("run the command again later, nothing is sent twice"), "{error}");
    let sent = Batch::get(&world.archive, "monday").unwrap().sent.unwrap();
    assert_eq!(
        (sent.whole, sent.tasks.len(), sent.labels),
        (false, 0, 10),
        "begun: it counts for the budget"
    );
    assert_eq!(world.push(), Ok(5));
    world.check_link();
}

#[test]
fn what_is_asked_too_often_is_waited_for_unless_it_takes_too_long() {
    let world = World::new(Task::Count);
    world.fault("POST", "/api/projects/", Answer::Wait("0"));
    world.fault("GET", "/api/tasks/", Answer::Wait("0"));
    world.fault("POST", "/import", Answer::Wait("0"));
    assert_eq!(world.push(), Ok(5));
    world.check_link();
    world.fault("GET", "/api/tasks/", Answer::Wait("3600"));
    let error = world.push().unwrap_err();
    assert!(error.contains("(HTTP 429), it wants 1h of rest: run the command again later"), "{error}");
}

#[test]
fn a_token_that_is_refused_leaves_nothing_begun_and_is_not_repeated() {
    let world = World::new(Task::Count);
    std::fs::write(world.dir.path().join("token"), "f".repeat(40)).unwrap();
    let error = world.push().unwrap_err();
    assert!(error.contains("refuses the token (HTTP 401: {\"detail\":\"Invalid token.\"})"), "{error}");
    assert!(
        error.contains("personal access token under Account & Settings") && !error.contains(&"f".repeat(40)),
        "{error}"
    );
    assert_eq!(Batch::get(&world.archive, "monday").unwrap().sent, None, "it may go elsewhere");
    assert_eq!(world.server.state().seen.len(), 1, "a refusal is not asked again");
    let studio = world.studio(world.config());
    assert!(!format!("{studio:?}").contains(&"f".repeat(40)), "a token is never printed");
    let _ = std::fs::remove_file(world.dir.path().join("token"));
    let config = StudioConfig { token_file: Some(world.dir.path().join("token")), ..world.config() };
    let error = Studio::new(config, Vec::new(), Patience::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the token of Label Studio from "), "{error}");
}

#[test]
fn a_personal_token_is_renewed_when_its_access_ends() {
    let world = World::new(Task::Count);
    std::fs::write(world.dir.path().join("token"), PERSONAL).unwrap();
    assert_eq!(world.push(), Ok(5));
    world.check_link();
    let server = world.server.state();
    assert!(server.access.len() > 2, "three requests each: {:?}", server.access);
}

#[test]
fn nobody_there_and_nonsense_are_said() {
    let world = World::new(Task::Count);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut studio = world.studio(StudioConfig { url: format!("http://{closed}"), ..world.config() });
    let error = annotate::push(&world.archive, "monday", &mut studio).unwrap_err().to_string();
    assert!(error.starts_with("cannot reach Label Studio at http://127.0.0.1"), "{error}");
    assert!(error.contains("is it running, and is `url` right?"), "{error}");
    world.fault("GET", "/api/tasks/", Answer::Json(200, json!({ "tasks": 3 })));
    let error = world.push().unwrap_err();
    assert!(
        error.contains("answers at http") && error.contains("with what it does not document: no `total`"),
        "{error}"
    );
    let config = StudioConfig { title: None, project: Some(77), ..world.config() };
    let error = annotate::pull(&world.archive, "monday", &mut world.studio(config)).unwrap_err().to_string();
    assert!(error.starts_with("there is no project 77 in Label Studio at http"), "{error}");
    let error = Studio::new(
        StudioConfig { url: "http://studio.example".into(), ..world.config() },
        Vec::new(),
        Patience::default(),
    );
    assert!(error.unwrap_err().to_string().contains("want https://HOST, or http:// on this machine"));
}

#[test]
fn classes_are_chosen_by_name_and_heads_say_theirs_first() {
    let world = World::new(Task::Class);
    let guess = |class: &str| Guess { head: "abc".into(), value: 0.9, class: Some(class.into()) };
    let guesses: Guesses = [(world.ids[0], guess("fog"))].into_iter().collect();
    let mut studio = world.studio(world.config());
    push_with(&world.archive, "monday", &mut studio, (&guesses, &annotate::Budget::default())).unwrap();
    {
        let server = world.server.state();
        let config = server.projects[0]["label_config"].as_str().unwrap();
        assert!(config.contains("<Choice value=\"clear\"/><Choice value=\"fog\"/>"), "{config}");
        let guessed: Vec<&Value> = server.tasks.iter().filter(|it| !it["predictions"].is_null()).collect();
        assert_eq!(guessed.len(), 1);
        assert_eq!(guessed[0]["predictions"][0]["result"][0]["value"], json!({ "choices": ["fog"] }));
    }
    let choice = json!([{ "from_name": "class", "to_name": "image", "type": "choices", "value": { "choices": ["clear"] } }]);
    world.annotate(0, (1, 1), 1, choice);
    assert_eq!(world.pull().taken.new, 1);
    assert_eq!(world.archive.get(world.ids[0]).unwrap().labels[0].answer.value(), json!("clear"));
    // The project asks for classes; a batch of counts is another project's.
    Batch::create(&world.archive, "counts", (Task::Count, vec![world.ids[0]])).unwrap();
    let error = annotate::push(&world.archive, "counts", &mut studio).unwrap_err().to_string();
    assert!(
        error.contains("asks something else (name=\"count\" is not in its labeling interface)"),
        "{error}"
    );
    assert!(error.contains("<Number name=\"count\""), "{error}");
}

#[test]
fn two_pushes_do_not_run_at_once() {
    let world = World::new(Task::Count);
    let lock = Lock::take(&world.archive).unwrap();
    assert!(world.push().unwrap_err().starts_with("another `label push` is sending to"));
    drop(lock);
    assert_eq!(world.push(), Ok(5));
    assert_eq!(world.studio(world.config()).name(), "label-studio");
}

#[test]
fn a_frame_that_is_forgotten_meanwhile_is_named_and_the_rest_counts() {
    let world = World::new(Task::Count);
    world.push().unwrap();
    world.annotate(0, (1, 1), 1, number(3));
    world.annotate(1, (2, 1), 1, number(4));
    let record = world.archive.get(world.ids[0]).unwrap().record;
    world.archive.remove(&[record]).unwrap();
    let Taking { taken, refused } = world.pull();
    assert_eq!((taken.new, refused.len()), (1, 1));
    assert!(refused[0].contains("it was forgotten"), "{refused:?}");
}
