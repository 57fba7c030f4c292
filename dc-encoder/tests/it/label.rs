//! Batches of frames go out to be labelled and come back: with their ids and paths, once, and never mixed up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use dc_encoder::annotate::{self, Batch, Folder, Page};
use dc_encoder::archive::{Answer, Archive, FrameId};
use serde_json::{Value, json};
use shared::head::Task;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::archive::{batch, count};

struct World {
    dir: TempDir,
    archive: Arc<Archive>,
    ids: Vec<FrameId>,
}

impl World {
    /// Four frames, three of them in batch `monday`.
    fn new(task: Task) -> Self {
        let dir = TempDir::new().unwrap();
        let (archive, ids) = batch(dir.path(), task, 4, 3);
        Self { dir, archive: archive.into(), ids }
    }

    fn folder(&self) -> Folder {
        Folder { dir: self.dir.path().join("out"), who: "ann".to_owned() }
    }

    fn table(&self) -> PathBuf {
        self.dir.path().join("out/labels.csv")
    }

    fn path(&self, i: usize) -> String {
        self.archive.get(self.ids[i]).unwrap().record.path
    }

    /// What is refused when the folder holds this table.
    fn refused(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join("out").join(name);
        std::fs::write(&path, text).unwrap();
        annotate::pull(&self.archive, "monday", &mut self.folder()).unwrap_err().to_string()
    }
}

#[test]
fn a_folder_comes_back_once_and_pulled_twice_counts_once() {
    let world = World::new(Task::Count);
    assert_eq!(annotate::push(&world.archive, "monday", &mut world.folder()).unwrap().frames, 3);
    let sent = std::fs::read_to_string(world.table()).unwrap();
    assert!(sent.starts_with("id,file,camera,captured_at,count,who\n"), "{sent}");
    let record = world.archive.get(world.ids[1]).unwrap().record;
    let copy = std::fs::read(world.dir.path().join("out").join(&record.path)).unwrap();
    assert_eq!(copy, world.archive.jpeg(&record).unwrap());
    let again = annotate::push(&world.archive, "monday", &mut world.folder()).unwrap_err().to_string();
    assert!(again.contains("is there already: choose another folder, or `label pull`"), "{again}");

    // Two rows are filled in, one by somebody else.
    let mut lines: Vec<String> = sent.lines().map(str::to_owned).collect();
    lines[1] = lines[1].trim_end_matches(',').to_owned() + ",3,";
    lines[2] = lines[2].trim_end_matches(',').to_owned() + ",0,ben";
    std::fs::write(world.table(), lines.join("\n")).unwrap();
    let pull = || annotate::pull(&world.archive, "monday", &mut world.folder()).unwrap().taken;
    assert_eq!((pull().new, pull().same), (2, 2));
    let labels = world.archive.labelled(None, Task::Count).unwrap();
    let mut who: Vec<&str> = labels.iter().map(|(_, labels)| labels[0].who.as_str()).collect();
    who.sort_unstable();
    assert_eq!((labels.len(), who), (2, vec!["ann", "ben"]));
    let batch = Batch::get(&world.archive, "monday").unwrap();
    assert_eq!(batch.sent.unwrap().to, "folder");
}

#[test]
fn what_comes_back_wrong_is_refused_with_its_line() {
    let world = World::new(Task::Count);
    std::fs::create_dir(world.dir.path().join("out")).unwrap();
    let none = annotate::pull(&world.archive, "monday", &mut world.folder()).unwrap_err().to_string();
    assert!(none.contains("holds no labels.csv or labels.jsonl"), "{none}");
    let (id, path, other) = (world.ids[0], world.path(0), world.path(1));
    for (rows, want) in [
        (
            format!("{id},{path},many\n"),
            "labels.csv line 2: `count` is \"many\", want a number from 0 up".to_owned(),
        ),
        (
            format!("{id},{other},3\n"),
            format!("labels.csv line 2: frame {id} was sent as {path:?} and comes back as"),
        ),
        (format!("row-7,{path},3\n"), "labels.csv line 2: \"row-7\" is no frame id".to_owned()),
        (format!("{id},{path},3\n{},,3\n", FrameId([3; 16])), "labels.csv line 3: frame 03030303".to_owned()),
        (format!("{},{},3\n", world.ids[3], world.path(3)), "is not of batch \"monday\"".to_owned()),
    ] {
        let error = world.refused("labels.csv", &format!("id,file,count\n{rows}"));
        assert!(error.contains(&want), "{error}\nwant {want}");
    }
    let error = world.refused("labels.csv", &format!("id,file,people\n{id},{path},3\n"));
    assert!(error.contains("there is no column `count`, only id, file, people"), "{error}");
    let error = world.refused(
        "labels.jsonl",
        &json!({ "id": id, "count": 2, "boxes": [[0.5, 0.5, 0.7, 0.1]] }).to_string(),
    );
    assert!(error.contains("labels.jsonl line 1: box 0 is [0.5, 0.5, 0.7, 0.1]"), "{error}");
    assert_eq!(world.archive.labelled(None, Task::Count).unwrap(), [], "nothing of it was taken");
    let error = annotate::pull(&world.archive, "tuesday", &mut world.folder()).unwrap_err().to_string();
    assert_eq!(error, "there is no batch \"tuesday\", only monday; `dc-encoder label suggest` makes one");
}

#[test]
fn people_who_differ_are_shown() {
    let world = World::new(Task::Count);
    world.archive.put_labels(&[count(world.ids[0], "ann", 2.0), count(world.ids[0], "ben", 4.0)]).unwrap();
    world.archive.put_labels(&[count(world.ids[1], "ann", 1.0)]).unwrap();
    let progress = Batch::get(&world.archive, "monday").unwrap().progress(&world.archive).unwrap();
    assert_eq!((progress.frames, progress.labelled), (3, 2));
    let [(id, labels, together)] = &progress.disputed[..] else { panic!("{progress:?}") };
    assert_eq!((*id, labels.len(), together.value.clone()), (world.ids[0], 2, Some(json!(3.0))));
}

/// An answer: its status, headers in lower case, and body.
struct Answered(u16, String, Vec<u8>);

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.2).unwrap()
    }
}

struct Client {
    address: SocketAddr,
    token: String,
}

impl Client {
    fn ask(&self, request: &str, headers: &str, body: &str) -> Answered {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        Answered(status, head, answer[end + 4..].to_vec())
    }

    fn host(&self) -> String {
        format!("host: {}\r\n", self.address)
    }

    fn get(&self, path: &str) -> Answered {
        self.ask(&format!("GET {path}?token={}", self.token), &self.host(), "")
    }

    fn post(&self, body: &Value) -> Answered {
        let headers = format!("{}content-type: application/json\r\nx-token: {}\r\n", self.host(), self.token);
        self.ask("POST /api/label", &headers, &body.to_string())
    }
}

/// Serves the page while `with` uses it.
fn page(world: &World, classes: &[&str], with: impl FnOnce(&Client)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let classes = classes.iter().map(|it| (*it).to_owned()).collect();
    let page = Page { batch: "monday".into(), who: "ann".into(), classes, port: 0 };
    let served = runtime.block_on(page.serve(Arc::clone(&world.archive))).unwrap();
    let (address, token) = served.url.strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
    let client = Client { address: address.parse().unwrap(), token: token.to_owned() };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = runtime.spawn(served.run(async move { drop(stopped.await) }));
    with(&client);
    drop(stop);
    runtime.block_on(running).unwrap();
}

#[test]
fn the_page_shows_the_batch_and_takes_labels() {
    let world = World::new(Task::Count);
    page(&world, &[], |client| {
        let html = client.get("/");
        assert!(
            html.0 == 200 && html.1.contains("content-security-policy: default-src 'none'"),
            "{}",
            html.1
        );
        for open in ["GET /label.js", "GET /favicon.ico"] {
            assert_eq!(client.ask(open, &client.host(), "").0, 200, "{open}");
        }
        let batch = client.get("/api/batch").json();
        assert_eq!((batch["task"].as_str(), batch["frames"].as_array().unwrap().len()), (Some("count"), 3));
        let first = &batch["frames"][0];
        assert_eq!(first["value"], Value::Null);
        let id = first["id"].as_str().unwrap();
        let record = world.archive.get(id.parse().unwrap()).unwrap().record;
        assert_eq!(client.get(&format!("/frames/{id}")).2, world.archive.jpeg(&record).unwrap());

        let boxes = json!([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.1, 0.1]]);
        let said = client.post(&json!({ "id": id, "path": first["path"], "value": 2, "boxes": boxes }));
        assert_eq!((said.0, said.json()), (200, json!({ "labelled": 1, "frames": 3 })));
        let label = world.archive.get(id.parse().unwrap()).unwrap().labels.remove(0);
        assert_eq!((label.who.as_str(), label.from.as_str()), ("ann", "page monday"));
        let marked = vec![[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.1, 0.1]];
        assert_eq!(label.answer, Answer::Count { value: 2.0, boxes: marked });
        assert_eq!(
            client.get("/api/batch").json()["frames"][0]["boxes"],
            boxes,
            "it is there when the page is opened again"
        );
    });
}

#[test]
fn the_page_refuses_what_is_no_label_in_words() {
    let world = World::new(Task::Class);
    page(&world, &["clear", "fog"], |client| {
        let (id, path) = (world.ids[0], world.path(0));
        let stranger = world.ids[3];
        for (body, status, want) in [
            (json!({ "id": id, "path": path, "value": 3 }), 422, "`class` is 3, want a name"),
            (
                json!({ "id": id, "path": world.path(1), "value": "fog" }),
                422,
                "labels and pictures were mixed up",
            ),
            (
                json!({ "id": stranger, "path": world.path(3), "value": "fog" }),
                422,
                "is not of batch \"monday\"",
            ),
            (json!({ "id": id, "path": path, "value": "fog", "extra": 1 }), 400, "unknown field `extra`"),
        ] {
            let answer = client.post(&body);
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(answer.0 == status && error.contains(want), "{} {error}", answer.0);
        }
        assert_eq!(client.get(&format!("/frames/{stranger}")).0, 404, "only the batch's frames are shown");
        assert_eq!(client.get("/frames/..%2F..%2Findex.redb").0, 404);
    });
    assert_eq!(world.archive.labelled(None, Task::Class).unwrap(), []);
}

#[test]
fn nobody_else_can_look_or_label() {
    let world = World::new(Task::Count);
    page(&world, &[], |client| {
        let (host, token) = (client.host(), &client.token);
        let body = json!({ "id": world.ids[0], "path": world.path(0), "value": 1 }).to_string();
        let json_ = "content-type: application/json\r\n";
        for (what, request, headers, body) in [
            ("no token", "GET /".to_owned(), host.clone(), ""),
            ("another token", format!("GET /?token={}", "0".repeat(32)), host.clone(), ""),
            ("frames without a token", format!("GET /frames/{}", world.ids[0]), host.clone(), ""),
            (
                "a name bent to this machine",
                format!("GET /?token={token}"),
                "host: evil.example\r\n".to_owned(),
                "",
            ),
            // What another page's form or script can send: the address, if it knew it, but no header of its own.
            ("a form", format!("POST /api/label?token={token}"), format!("{host}{json_}"), body.as_str()),
        ] {
            let answer = client.ask(&request, &headers, body);
            assert_eq!(answer.0, 403, "{what}");
        }
        let plain = format!("{host}content-type: text/plain\r\nx-token: {token}\r\n");
        assert_eq!(client.ask("POST /api/label", &plain, &body).0, 415);
    });
    assert_eq!(world.archive.labelled(None, Task::Count).unwrap(), []);
}
